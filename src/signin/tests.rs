//! The endpoints against a network that a test scripts and a clock that it sets, with every object but the store made anew
//! for each step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Response};

use super::*;
use crate::engine::clock::Clock;
use crate::engine::documents::Documents;
use crate::engine::fetch::{Fetch, FetchError, Target};
use crate::engine::issuing::{Lifetimes, ScopeWords, SignIn, SignInKind, Throttle, User, Works};
use crate::engine::keyring::Keyring;
use crate::engine::store::Store;
use crate::engine::vault::Vault;
use crate::oauth::jws::Algorithm;
use crate::oauth::redirect::{AllowedRedirect, RedirectUri};
use crate::stores::memory::Memory;

const ISSUER: &str = "https://mcp.example/files";
const CLIENT: &str = "https://client.example/oauth/client.json";
const CALLBACK: &str = "https://client.example/cb";
const PASSWORD: &str = "correct horse battery";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn unix(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// Answers by URL: status, content type, cache control and body. Counts what it is asked for.
#[derive(Debug, Default)]
struct Network {
    answers: Mutex<HashMap<String, (u16, String, String, String)>>,
    asked: Mutex<Vec<(Target, String)>>,
}

impl Network {
    fn says(&self, url: &str, status: u16, kind: &str, control: &str, body: &str) {
        let answer = (status, kind.to_owned(), control.to_owned(), body.to_owned());
        self.answers.lock().unwrap().insert(url.to_owned(), answer);
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Fetch for Network {
    async fn get(&self, url: &url::Url) -> Result<Bytes, FetchError> {
        Err(FetchError { url: url.to_string(), cause: "nothing is there".into() })
    }

    async fn send(&self, target: Target, request: http::Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let url = request.uri().to_string();
        self.asked.lock().unwrap().push((target, url.clone()));
        let answers = self.answers.lock().unwrap();
        let Some((status, kind, control, body)) = answers.get(&url) else {
            return Err(FetchError { url, cause: "nothing is there".into() });
        };
        let answer = Response::builder().status(*status).header("content-type", kind).header("cache-control", control);
        Ok(answer.body(Bytes::from(body.clone())).unwrap())
    }
}

/// What outlives every step: the store, the network and the clock.
struct World {
    store: Arc<dyn Store>,
    network: Arc<Network>,
    clock: Arc<SetClock>,
    keys: Vec<&'static [u8]>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(SetClock(AtomicI64::new(1_800_000_000)));
        let world = Self {
            store: Arc::new(Memory::new(Arc::clone(&clock) as Arc<dyn Clock>)),
            network: Arc::default(),
            clock,
            keys: vec![b"a key of the installation, 32 bytes"],
        };
        world.publishes(&document(CALLBACK));
        world
    }

    fn publishes(&self, document: &str) {
        self.network.says(CLIENT, 200, "application/json", "max-age=60", document);
    }

    fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// An authorization server that knows nothing but the store.
    fn issuing(&self) -> Issuing {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let vault = Arc::new(Vault::new(Arc::clone(&self.store), Arc::clone(&clock), &self.keys).unwrap());
        let users = Arc::from([User { name: "alice".into(), password: hashed(), claims: serde_json::Map::new() }]);
        Issuing {
            service: "files".into(),
            issuer: ISSUER.into(),
            metadata: Bytes::new(),
            title: "files".into(),
            redirects: vec![AllowedRedirect::Exact(RedirectUri::parse(CALLBACK).unwrap())],
            clients: Vec::new(),
            registration: true,
            client_documents: true,
            remember: Some(std::time::Duration::from_secs(3600)),
            claims: Vec::new(),
            scopes: vec![ScopeWords { name: "read".into(), describe: None, default: true }],
            lifetimes: Lifetimes { access: 3600, service: 3600, code: 60, refresh_idle: 86_400, refresh: 200_000 },
            sign_in: vec![SignIn { name: "people".into(), title: "People".into(), kind: SignInKind::Local(users) }],
            works: Works {
                vault,
                keyring: Arc::new(Keyring::new(Algorithm::Es256)),
                revocations: Arc::default(),
                fetch: Arc::clone(&self.network) as Arc<dyn Fetch>,
                clock,
                documents: Arc::<Documents>::default(),
                throttle: Arc::<Throttle>::default(),
            },
        }
    }

    /// One request, answered by an authorization server of its own.
    async fn ask(&self, method: Method, endpoint: Endpoint<'_>, query: &str, body: &str, jar: &mut Jar) -> Answer {
        self.ask_of(&self.issuing(), method, endpoint, query, body, jar).await
    }

    async fn ask_of(
        &self,
        issuing: &Issuing,
        method: Method,
        endpoint: Endpoint<'_>,
        query: &str,
        body: &str,
        jar: &mut Jar,
    ) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
        let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        headers.insert("cookie", HeaderValue::from_str(&cookies.join("; ")).unwrap());
        let body = Bytes::from(body.to_owned());
        let address = "192.0.2.1".parse().unwrap();
        let request =
            Request { endpoint, method: &method, headers: &headers, query, body: &body, address, id: "request-id" };
        let answer = answer(issuing, request).await;
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| *name == SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with("__Host-portcullis-") && cookie.contains("; Secure"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    async fn authorize(&self, jar: &mut Jar) -> Answer {
        self.ask(Method::GET, Endpoint::Authorize, &authorization(), "", jar).await
    }

    async fn consent(&self, page: &Answer, jar: &mut Jar) -> Answer {
        let body = format!("request={}&provider=people", field(page, "request"));
        self.ask(Method::POST, Endpoint::Consent, "", &body, jar).await
    }

    async fn token(&self, body: &str) -> Answer {
        self.ask(Method::POST, Endpoint::Token, "", body, &mut Jar::new()).await
    }
}

type Jar = HashMap<String, String>;

fn hashed() -> String {
    use argon2::password_hash::{PasswordHasher as _, SaltString};
    static HASH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let hash = || {
        let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
        argon2::Argon2::default().hash_password(PASSWORD.as_bytes(), &salt).unwrap().to_string()
    };
    HASH.get_or_init(hash).clone()
}

fn document(redirect: &str) -> String {
    serde_json::json!({ "client_id": CLIENT, "client_name": "A client", "redirect_uris": [redirect] }).to_string()
}

fn authorization() -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", CALLBACK),
            ("state", "s"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ])
        .finish()
}

fn redemption(code: &str) -> String {
    let client = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect::<String>();
    let redirect = url::form_urlencoded::byte_serialize(CALLBACK.as_bytes()).collect::<String>();
    format!(
        "grant_type=authorization_code&code={code}&redirect_uri={redirect}&client_id={client}&code_verifier={VERIFIER}"
    )
}

fn field(page: &Answer, name: &str) -> String {
    let body = String::from_utf8(page.body.to_vec()).unwrap();
    let start = format!("name=\"{name}\" value=\"");
    let rest = body.split_once(&start).unwrap_or_else(|| panic!("a page with `{name}`: {body}")).1;
    rest.split('"').next().unwrap().to_owned()
}

fn location(answer: &Answer) -> url::Url {
    let found = answer.headers.iter().find(|(name, _)| name == "location");
    let found = found.unwrap_or_else(|| panic!("a redirect: {answer:?}"));
    url::Url::parse(found.1.to_str().unwrap()).unwrap()
}

fn parameter(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

fn read(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// From the authorization request to a code.
async fn code(world: &World, jar: &mut Jar) -> String {
    let page = world.authorize(jar).await;
    let leaving = world.consent(&page, jar).await;
    let state = parameter(&location(&leaving), "state").unwrap();
    let query = format!("state={state}");
    let page = world.ask(Method::GET, Endpoint::SignIn, &query, "", jar).await;
    let body = format!("state={}&name=alice&password={}", field(&page, "state"), PASSWORD.replace(' ', "+"));
    let entered = world.ask(Method::POST, Endpoint::SignIn, "", &body, jar).await;
    parameter(&location(&entered), "code").unwrap()
}

#[tokio::test]
async fn nothing_but_the_store_holds_a_flow() {
    // Every step above is answered by an authorization server that was made for it.
    let world = World::new();
    let code = code(&world, &mut Jar::new()).await;
    let tokens = read(&world.token(&redemption(&code)).await);
    let refresh = tokens["refresh_token"].as_str().expect("a refresh token");
    let client = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect::<String>();
    let form = format!("grant_type=refresh_token&client_id={client}&refresh_token=");
    let next = read(&world.token(&format!("{form}{refresh}")).await);
    assert!(next["access_token"].is_string(), "{next}");
    let again = read(&world.token(&format!("{form}{refresh}")).await);
    assert_eq!(again["refresh_token"], next["refresh_token"]);
    // Its keys are the store's too: one signs what the other publishes.
    let kid = crate::oauth::jws::show_unverified(next["access_token"].as_str().unwrap()).unwrap().header;
    let keys = read(&world.ask(Method::GET, Endpoint::Jwks, "", "", &mut Jar::new()).await);
    assert_eq!(keys["keys"][0]["kid"], kid["kid"]);
    assert_eq!(read(&world.token(&redemption(&code)).await)["error"], "invalid_grant", "H03: used once");
}

#[tokio::test]
async fn g06_states_are_good_for_ten_minutes_and_keys_may_rotate_meanwhile() {
    let mut world = World::new();
    let mut jar = Jar::new();
    let page = world.authorize(&mut jar).await;
    let leaving = world.consent(&page, &mut jar).await;
    let query = location(&leaving).query().unwrap().to_owned();
    world.later(590);
    world.keys.insert(0, b"a newer key of the installation, too");
    let mut other = jar.clone();
    assert_eq!(world.ask(Method::GET, Endpoint::SignIn, &query, "", &mut other).await.status, 200, "the old key opens");
    world.later(10);
    let late = world.ask(Method::GET, Endpoint::SignIn, &query, "", &mut jar.clone()).await;
    assert_eq!(late.status, 400, "ten minutes and no longer");
    world.later(-10);
    world.keys.pop();
    let foreign = world.ask(Method::GET, Endpoint::SignIn, &query, "", &mut jar).await;
    assert_eq!(foreign.status, 400, "a key that is gone opens nothing");
}

#[tokio::test]
async fn h02_a_code_is_good_for_a_minute() {
    let world = World::new();
    let code = code(&world, &mut Jar::new()).await;
    world.later(59);
    let other = self::code(&world, &mut Jar::new()).await;
    world.later(1);
    assert_eq!(read(&world.token(&redemption(&code)).await)["error"], "invalid_grant");
    assert!(read(&world.token(&redemption(&other)).await)["access_token"].is_string(), "the positive control");
}

#[tokio::test]
async fn h05_a_grant_ends_when_it_is_idle_and_altogether() {
    let world = World::new();
    let code = code(&world, &mut Jar::new()).await;
    let client = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect::<String>();
    let mut token = read(&world.token(&redemption(&code)).await)["refresh_token"].as_str().unwrap().to_owned();
    let refresh = |token: String| {
        let (world, client) = (&world, &client);
        async move {
            read(&world.token(&format!("grant_type=refresh_token&client_id={client}&refresh_token={token}")).await)
        }
    };
    for _ in 0..2 {
        world.later(86_000);
        token = refresh(token).await["refresh_token"].as_str().expect("still good").to_owned();
    }
    world.later(28_001);
    assert_eq!(refresh(token).await["error"], "invalid_grant", "altogether");
    let code = self::code(&world, &mut Jar::new()).await;
    let idle = read(&world.token(&redemption(&code)).await)["refresh_token"].as_str().unwrap().to_owned();
    world.later(86_400);
    assert_eq!(refresh(idle).await["error"], "invalid_grant", "idle");
}

#[tokio::test]
async fn i03_i04_a_document_is_fetched_as_a_strangers_and_only_a_good_one_is_kept() {
    let world = World::new();
    let issuing = world.issuing();
    let authorize = || async {
        world.ask_of(&issuing, Method::GET, Endpoint::Authorize, &authorization(), "", &mut Jar::new()).await.status
    };
    let large = document(CALLBACK).replace("A client", &"a".repeat(5 * 1024));
    for (what, status, kind, body) in [
        ("a redirect", 302, "application/json", document(CALLBACK)),
        ("an error", 404, "application/json", document(CALLBACK)),
        ("another status of success", 201, "application/json", document(CALLBACK)),
        ("a page", 200, "text/html", document(CALLBACK)),
        ("no JSON", 200, "application/json", "x".to_owned()),
        ("too much", 200, "application/json", large),
        ("another client's", 200, "application/json", document(CALLBACK).replace("client.json", "other.json")),
        ("a secret", 200, "application/json", document(CALLBACK).replace("{", "{\"client_secret\":\"x\",")),
        ("no name", 200, "application/json", document(CALLBACK).replace("client_name", "name")),
        ("another redirect URI", 200, "application/json", document("https://client.example/other")),
    ] {
        world.network.says(CLIENT, status, kind, "no-store", &body);
        world.later(100);
        assert_eq!(authorize().await, 400, "{what}");
    }
    world.later(100);
    world.publishes(&document(CALLBACK));
    assert_eq!(authorize().await, 200, "the positive control");
    let asked = world.network.asked();
    assert_eq!(authorize().await, 200);
    assert_eq!(world.network.asked(), asked, "a good one is kept for its time");
    world.later(61);
    assert_eq!(authorize().await, 200);
    assert_eq!(world.network.asked(), asked + 1, "and no longer");
    assert!(world.network.asked.lock().unwrap().iter().all(|(target, _)| *target == Target::Stranger));
}

#[tokio::test]
async fn i06_a_change_of_the_document_ends_a_remembered_consent() {
    let world = World::new();
    let mut jar = Jar::new();
    code(&world, &mut jar).await;
    assert_eq!(world.authorize(&mut jar.clone()).await.status, 303, "remembered");
    world.publishes(&document(CALLBACK).replace("A client", "Another client"));
    assert_eq!(world.authorize(&mut jar.clone()).await.status, 200, "asked again");
    // And one that changes while the page is open is asked about as it is now.
    let mut jar = Jar::new();
    let page = world.authorize(&mut jar).await;
    world.publishes(&document(CALLBACK));
    assert_eq!(world.consent(&page, &mut jar).await.status, 200);
}

#[tokio::test]
async fn i02_a_flood_of_registrations_is_bounded_and_leaves_room_for_others() {
    let world = World::new();
    let issuing = world.issuing();
    let register = |address: &'static str, number: usize| {
        let issuing = &issuing;
        async move {
            let body = serde_json::json!({
                "redirect_uris": [CALLBACK], "client_name": number.to_string(), "token_endpoint_auth_method": "none",
            });
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            let body = Bytes::from(body.to_string());
            let (endpoint, method) = (Endpoint::Register, Method::POST);
            let address = address.parse().unwrap();
            let request =
                Request { endpoint, method: &method, headers: &headers, query: "", body: &body, address, id: "r" };
            register::answer(issuing, request).await.map_or_else(|error| error.status, |answer| answer.status)
        }
    };
    let mut full = 0;
    for number in 0..1_100 {
        if register("192.0.2.1", number).await == StatusCode::SERVICE_UNAVAILABLE {
            full += 1;
        }
    }
    assert_eq!(full, 100, "one address has its share");
    assert_eq!(register("192.0.2.2", 5_000).await, StatusCode::CREATED);
    world.later(24 * 3600);
    assert_eq!(register("192.0.2.1", 2_000).await, StatusCode::CREATED, "clients that sign nobody in are forgotten");
}
