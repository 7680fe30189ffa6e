//! What goes on without the store, what does not, and how soon it is back.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{SEAL, installation, over};
use crate::own::{self, allow};
use crate::signin::{CALLBACK, Story, policy, prepared};
use crate::support::{Browser, Client, Fault, Page, Provider, Redis, Relay, Upstream};

/// No answer may take longer while the store is lost, on a busy machine either.
const LONGEST: Duration = Duration::from_secs(6);
/// After this everything is as it was: five seconds, and three times that on a busy machine.
const BACK: Duration = Duration::from_secs(15);

/// A gateway whose store is behind a relay: sign-in for `files`, and two services whose limits are counted with others.
struct Scene {
    story: Story,
    relay: Relay,
    redis: Redis,
    own_upstream: Upstream,
    access: String,
    refresh: String,
    admin: SocketAddr,
}

impl Scene {
    async fn new(more: &[&str]) -> Self {
        let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
        let own_upstream = Upstream::mcp(&["a"]).await;
        let redis = Redis::start(more);
        let relay = Relay::to(([127, 0, 0, 1], redis.port()).into()).await;
        let limited = |name: &str, loss: &str| {
            let limits = format!("limits: [{{ rate: 100000/hour, on_store_loss: {loss} }}]");
            own::policy(name, &own_upstream, &format!("{}\n{limits}", allow("'**'")))
        };
        let setup = prepared(&policy(&provider, &upstream)).secret("OWN_SECRET", own::SECRET);
        let setup = setup.policy("free", &limited("free", "local")).policy("strict", &limited("strict", "deny"));
        let admin = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let installation = installation(relay.address().port(), "") + &format!("admin: {{ address: \"{admin}\" }}\n");
        let gateway = setup.installation(&installation).secret("SEAL", SEAL).start().await;
        let story = Story { gateway, provider, upstream };
        let tokens = story.tokens().await;
        let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
        let (access, refresh) = (text("access_token"), text("refresh_token"));
        let scene = Self { story, relay, redis, own_upstream, access, refresh, admin };
        scene.all_is_well().await;
        scene
    }

    async fn call(&self, service: &str) -> (u16, Duration) {
        let url = self.story.gateway.url(&format!("/{service}/mcp"));
        let client = Client::new(&url).token(&own::token(&url, json!({})));
        let began = Instant::now();
        (client.call_tool("a", json!({})).await.status, began.elapsed())
    }

    /// Somebody who is at the provider.
    async fn at_the_provider(&self) -> (Browser, Page) {
        let browser = Browser::new();
        let page = browser.go(&self.story.authorize(&[])).await;
        let leaving = self.story.consent(&browser, &page, "corp").await;
        (browser, leaving)
    }

    /// Signs in, and gives the error that the client is told, if any.
    async fn signs_in(&self) -> Option<String> {
        let (browser, leaving) = self.at_the_provider().await;
        if leaving.location().starts_with(CALLBACK) {
            return leaving.parameter("error");
        }
        let back = self.story.back(&browser, &leaving).await;
        back.parameter("code").is_none().then(|| format!("{} {:?}", back.status, back.parameter("error")))
    }

    async fn all_is_well(&self) {
        assert_eq!(self.call("free").await.0, 200);
        assert_eq!(self.call("strict").await.0, 200);
        assert_eq!(self.story.call("read", &self.access).await, 200);
    }

    /// What a lost store changes, and what it does not.
    async fn is_lost(&self, (browser, leaving): &(Browser, Page)) {
        // One call may be the one that notices.
        let began = Instant::now();
        while self.call("strict").await.0 != 503 {
            assert!(began.elapsed() < LONGEST, "a limit that refuses without the store refuses");
        }
        for _ in 0..20 {
            let (status, took) = self.call("free").await;
            assert_eq!(status, 200, "traffic whose limits are counted here goes on");
            assert!(took < Duration::from_secs(1), "and does not wait: {took:?}");
            assert_eq!(self.story.call("read", &self.access).await, 200, "so do tokens that are known");
        }
        self.own_upstream.forget();
        let (status, took) = self.call("strict").await;
        assert_eq!(status, 503);
        assert!(took < LONGEST, "{took:?}");
        self.own_upstream.assert_silent();
        self.story.gateway.wait_for_log(|record| record["reason"] == "store-unavailable").await;
        let began = Instant::now();
        // The client is told so by the redirect, which has no status of its own (RFC 6749 section 4.1.2.1).
        assert_eq!(self.signs_in().await.as_deref(), Some("temporarily_unavailable"), "nobody signs in");
        assert!(began.elapsed() < LONGEST, "and is told so soon: {:?}", began.elapsed());
        let (asked, began) = (self.story.provider.asked("/token").len(), Instant::now());
        assert_eq!(self.story.back(browser, leaving).await.status, 503, "nor does who was under way");
        assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
        assert_eq!(self.story.provider.asked("/token").len(), asked, "a state that cannot be checked asks for nothing");
        let began = Instant::now();
        assert_eq!(self.story.refresh(&self.refresh).await.status, 503, "what is used once is used by nobody");
        assert!(began.elapsed() < LONGEST);
    }

    /// From now on everything must come back by itself.
    async fn comes_back(&self) {
        self.comes_back_with(200).await;
    }

    /// The same, and `refreshed` answers the refresh token of before.
    async fn comes_back_with(&self, refreshed: u16) {
        let began = Instant::now();
        loop {
            if self.call("strict").await.0 == 200 && self.signs_in().await.is_none() {
                break;
            }
            assert!(began.elapsed() < BACK, "it took longer than {BACK:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let tokens = self.story.tokens().await;
        assert_eq!(self.story.call("read", tokens["access_token"].as_str().expect("a token")).await, 200);
        assert_eq!(self.story.refresh(&self.refresh).await.status, refreshed);
    }

    /// The log says that the store was lost, and that it is back.
    async fn was_told(&self) {
        let told = |event: &'static str| move |record: &serde_json::Value| record["fields"]["event"] == event;
        self.story.gateway.wait_for_log(told("store-lost")).await;
        let log = self.story.gateway.log();
        let lost = log.iter().filter(|record| told("store-lost")(record)).count();
        let reached = log.iter().filter(|record| told("store-reached")(record)).count();
        assert!(reached >= 1, "it is told when it is back");
        assert!(lost <= 20, "and not for every request: {lost}");
        let said = self.story.gateway.printed();
        assert!(!said.contains(SEAL) && !said.contains("redis-secret"), "no secret is told");
    }

    async fn without(fault: Fault) {
        let scene = Self::new(&[]).await;
        let begun = scene.at_the_provider().await;
        scene.relay.fault(fault);
        scene.is_lost(&begun).await;
        let status = crate::admin::status(scene.admin).await;
        assert_eq!(status["store"]["reached"], false, "{status}");
        assert!(status["store"]["trouble"].is_string(), "{status}");
        scene.relay.fault(Fault::None);
        scene.comes_back().await;
        scene.was_told().await;
        let (_, metrics) = crate::admin::ask(scene.admin, "/metrics", &[]).await;
        assert!(metrics.contains("portcullis_store_reached 1\n"), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_a_store_that_refuses_connections() {
    Scene::without(Fault::Refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_a_store_that_says_nothing() {
    Scene::without(Fault::Paused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_a_store_that_is_slow_by_five_seconds() {
    Scene::without(Fault::Slow(Duration::from_secs(5))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_a_store_that_hangs_up_is_not_stormed() {
    let scene = Scene::new(&[]).await;
    let begun = scene.at_the_provider().await;
    let before = scene.relay.accepted().len();
    scene.relay.fault(Fault::Closed);
    scene.is_lost(&begun).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let attempts = scene.relay.accepted().split_off(before);
    let spent = attempts.last().zip(attempts.first()).map(|(last, first)| last.duration_since(*first));
    let most = 6 + spent.unwrap_or_default().as_secs() as usize;
    assert!((3..=most).contains(&attempts.len()), "{} attempts in {spent:?}", attempts.len());
    scene.relay.fault(Fault::None);
    scene.comes_back().await;
    scene.was_told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_a_store_whose_password_is_another_one() {
    let scene = Scene::new(&[]).await;
    let begun = scene.at_the_provider().await;
    scene.redis.ask("CONFIG SET requirepass redis-secret\nCLIENT KILL TYPE normal SKIPME yes");
    scene.is_lost(&begun).await;
    scene.redis.ask("AUTH redis-secret\nCONFIG SET requirepass \"\"");
    scene.comes_back().await;
    scene.was_told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_a_store_that_is_full() {
    let scene = Scene::new(&["--maxmemory-policy", "noeviction"]).await;
    scene.redis.ask("CONFIG SET maxmemory 1");
    assert_eq!(scene.signs_in().await.as_deref(), Some("temporarily_unavailable"));
    assert_eq!(scene.call("strict").await.0, 503);
    assert_eq!(scene.call("free").await.0, 200, "what is counted here goes on");
    assert_eq!(scene.story.call("read", &scene.access).await, 200);
    assert_eq!(scene.story.refresh(&scene.refresh).await.status, 200, "what takes the place of a row finds room");
    assert_eq!(scene.story.redeem("a-code-that-nobody-gave").await.status, 400, "what can be read is read");
    scene.redis.ask("CONFIG SET maxmemory 0");
    scene.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_a_store_that_was_emptied() {
    let mut scene = Scene::new(&[]).await;
    let code = scene.story.code().await;
    assert_eq!(scene.story.redeem(&code).await.status, 200);
    let begun = scene.at_the_provider().await;
    scene.redis.stop();
    scene.is_lost(&begun).await;
    scene.redis.start_again();
    scene.comes_back_with(400).await;
    assert_eq!(scene.story.redeem(&code).await.status, 400, "a code that was used stays useless");
    scene.was_told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h10_a_replica_that_starts_without_the_store_lets_in_nobody_who_may_be_revoked() {
    let upstream = Upstream::mcp(&["a"]).await;
    let redis = Redis::start(&[]);
    let relay = Relay::to(([127, 0, 0, 1], redis.port()).into()).await;
    let setup = over(own::setup(), relay.address().port());
    let gateway = setup.policy("story", &own::policy("story", &upstream, &allow("'**'"))).start().await;
    let client = |subject: &str| own::client(&gateway, "story", json!({"sub": subject}));
    let (alice, bob) = (client("alice"), client("bob"));
    let status = async |client: &Client| client.call_tool("a", json!({})).await.status;
    assert_eq!((status(&alice).await, status(&bob).await), (200, 200));
    let words = ["revoke", "subject", "alice", "--issuer", own::ISSUER, "."];
    let done = crate::state::command(gateway.directory(), &words, "");
    assert!(done.status.success(), "{}", crate::state::said(&done));

    let gateway = gateway.crash().await;
    assert_eq!((status(&alice).await, status(&bob).await), (401, 200), "from the first request on");
    relay.fault(Fault::Refused);
    let gateway = gateway.crash().await;
    upstream.forget();
    for client in [&alice, &bob] {
        let reply = client.call_tool("a", json!({})).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "nobody knows: {reply:?}");
    }
    upstream.assert_silent();
    gateway.wait_for_log(|record| record["reason"] == "store-unavailable").await;
    relay.fault(Fault::None);
    let began = Instant::now();
    while status(&bob).await != 200 {
        assert!(began.elapsed() < BACK, "it is read as soon as it can be");
        assert_ne!(status(&alice).await, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    upstream.forget();
    assert_eq!(status(&alice).await, 401);
    upstream.assert_silent();

    // What it knows stays known, however long the store is away, and when it was emptied too.
    relay.fault(Fault::Refused);
    redis.ask("FLUSHALL");
    assert_eq!((status(&alice).await, status(&bob).await), (401, 200));
    relay.fault(Fault::None);
    gateway.wait_for_log(|record| record["fields"]["event"] == "store-emptied").await;
    assert_eq!((status(&alice).await, status(&bob).await), (401, 200));
    let listed = || crate::state::said(&crate::state::command(gateway.directory(), &["revoke", "list", "."], ""));
    crate::support::eventually("the revocation to be saved again", || listed().contains("alice").then_some(())).await;
}
