//! Sign-in by name and password.

use super::{CALLBACK, json as read};
use crate::support::gateway::Setup;
use crate::support::{Browser, Gateway, Page, Upstream};

/// `correct horse battery` under argon2id with the least memory that is accepted.
const POLICY: &str = "
service: files
route: { path: /mcp }
upstream: { url: UPSTREAM }
providers:
  people: { local: { users: ../users.yaml } }
authorization_server:
  sign_in: [people]
  redirects: { loopback: true }
  claims: { groups: groups }
  clients:
    - { id: desk, name: Desk, redirects: ['http://127.0.0.1/callback'] }
scopes:
  files:read: { describe: Read your files, default: true }
rules:
  - allow: { tools: [read, watch] }
    scopes: [files:read]
    when: '\"eng\" in claims.groups'
";
pub const PASSWORD: &str = "correct horse battery";

pub struct Story {
    pub gateway: Gateway,
    pub upstream: Upstream,
}

/// Runs `portcullis user`, which must succeed.
pub fn user(arguments: &[&str], users: &std::path::Path, password: &str) {
    let mut command = std::process::Command::new(crate::support::gateway::BINARY);
    command.args(["user", arguments[0]]).arg(users).args(&arguments[1..]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().expect("the command runs");
    let input = child.stdin.take().expect("its input");
    // One that asks for no password may have ended already.
    drop(std::io::Write::write_all(&mut { input }, password.as_bytes()));
    assert!(child.wait().expect("its end").success());
}

impl Story {
    async fn new() -> Self {
        Self::before(Upstream::mcp(&["read"]).await, "groups=[]").await
    }

    /// One that logs everything.
    pub async fn talkative() -> Self {
        Self::prepared(Upstream::mcp(&["read"]).await, "groups=[]", |setup| setup.secret("RUST_LOG", "trace")).await
    }

    /// Alice and bob, in front of a server; bob's claim is the one that is written.
    pub async fn before(upstream: Upstream, bob: &str) -> Self {
        Self::prepared(upstream, bob, |setup| setup).await
    }

    async fn prepared(upstream: Upstream, bob: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let policy = POLICY.replace("UPSTREAM", &upstream.url("/mcp"));
        let setup = change(Gateway::new().installation("store: memory\n").policy("files", &policy));
        let users = setup.directory().join("users.yaml");
        for (name, claim) in [("Alice", "groups=[\"eng\"]"), ("bob", bob)] {
            user(&["add", name, "--claim", claim, "--password-stdin"], &users, PASSWORD);
        }
        Self { gateway: setup.start().await, upstream }
    }

    /// The tokens of somebody who signs in with this password.
    pub async fn tokens(&self, browser: &Browser, name: &str, password: &str) -> serde_json::Value {
        let page = self.page(browser).await;
        let entered = self.enter(browser, &page, name, password).await;
        let code = entered.parameter("code").unwrap_or_else(|| panic!("a code: {entered:#?}"));
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
            ("client_id", "desk"),
            ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ];
        let tokens = read(&Browser::new().submit(&self.gateway.url("/mcp/token"), &form).await);
        assert!(tokens["access_token"].is_string(), "{tokens}");
        tokens
    }

    fn authorize(&self) -> String {
        let query = "response_type=code&client_id=desk&redirect_uri=http%3A%2F%2F127.0.0.1%3A7777%2Fcallback&state=s\
                     &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
        format!("{}/authorize?{query}", self.gateway.url("/mcp"))
    }

    /// From the authorization request to the sign-in page, or to what comes in its place.
    pub async fn page(&self, browser: &Browser) -> Page {
        self.page_of(browser, &self.authorize()).await
    }

    async fn page_of(&self, browser: &Browser, authorize: &str) -> Page {
        let page = browser.go(authorize).await;
        let form = [("request", page.field("request")), ("provider", "people".to_owned())];
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let leaving = browser.submit(&action(&page), &form).await;
        assert_eq!(leaving.status, 303, "{leaving:#?}");
        browser.go_with(leaving.location(), &[("sec-fetch-site", "same-origin")]).await
    }

    pub async fn enter(&self, browser: &Browser, page: &Page, name: &str, password: &str) -> Page {
        let state = page.field("state");
        let form = [("state", state.as_str()), ("name", name), ("password", password)];
        browser.submit(&action(page), &form).await
    }
}

/// Where the form of a page goes.
fn action(page: &Page) -> String {
    let form = page.body.split_once("action=\"").and_then(|(_, rest)| rest.split_once('"'));
    form.unwrap_or_else(|| panic!("a form: {page:#?}")).0.to_owned()
}

#[tokio::test]
async fn a_person_signs_in_by_name_and_password() {
    let story = Story::new().await;
    let browser = Browser::new();
    assert_eq!(story.page(&browser).await.status, 200);
    let tokens = story.tokens(&browser, " ALICE ", PASSWORD).await;
    assert_eq!(super::claims(&tokens["access_token"])["sub"], "people:alice");
    assert_eq!(super::claims(&tokens["access_token"])["groups"], serde_json::json!(["eng"]));

    let known = story.page(&browser).await;
    assert!(known.parameter("code").is_some(), "known in this browser: {known:#?}");
    let cookie = known.all("set-cookie").into_iter().find(|cookie| cookie.starts_with("portcullis-login-"));
    assert!(cookie.is_some_and(|cookie| cookie.contains("Max-Age=28800")), "and for eight hours more: {known:#?}");
    let anew = story.page_of(&browser, &format!("{}&prompt=login", story.authorize())).await;
    assert_eq!((anew.status, anew.location()), (200, ""), "but for a client that wants to know for sure");
    let out = browser.submit(&story.gateway.url("/mcp/sign-out"), &[]).await;
    assert!(out.body.contains("signed out"), "{out:#?}");
    assert_eq!(story.page(&browser).await.status, 200, "asked again after signing out");
    assert!(!story.gateway.printed().contains(PASSWORD));
}

#[tokio::test]
async fn a_login_is_its_services_own_and_signing_out_ends_it() {
    let upstream = Upstream::mcp(&["read"]).await;
    let policy = POLICY.replace("UPSTREAM", &upstream.url("/mcp"));
    let others = policy.replace("service: files", "service: others").replace("path: /mcp", "path: /others");
    let story = Story::prepared(upstream, "groups=[]", |setup| setup.policy("others", &others)).await;
    let at = |path: &str| story.authorize().replace("/mcp/authorize", &format!("{path}/authorize"));
    let browser = Browser::new();
    for path in ["/mcp", "/others"] {
        let page = story.page_of(&browser, &at(path)).await;
        assert_eq!(page.status, 200, "{path}: nobody is known there yet");
        let entered = story.enter(&browser, &page, "alice", PASSWORD).await;
        assert!(entered.parameter("code").is_some(), "{path}: {entered:#?}");
    }
    for path in ["/mcp", "/others"] {
        let known = story.page_of(&browser, &at(path)).await;
        assert!(
            known.parameter("code").is_some(),
            "{path}: signing in at another service signs nobody out: {known:#?}"
        );
    }
    let held = browser.cookies();
    browser.submit(&story.gateway.url("/mcp/sign-out"), &[]).await;
    assert!(story.page_of(&browser, &at("/others")).await.parameter("code").is_some(), "signed out of one service");
    // Not only in the browser: whoever has a copy of its cookies is nobody.
    let copy = Browser::new();
    let page = copy.go(&at("/mcp")).await;
    let form = [("request", page.field("request")), ("provider", "people".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let leaving = copy.submit(&action(&page), &form).await;
    let logins = held.iter().filter(|(name, _)| name.contains("-login-"));
    let jar: Vec<String> = copy.cookies().iter().chain(logins).map(|(name, value)| format!("{name}={value}")).collect();
    let headers = [("sec-fetch-site", "same-origin"), ("cookie", &*jar.join("; "))];
    assert_eq!(copy.go_with(leaving.location(), &headers).await.status, 200, "asked for the password");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_look_the_same() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = story.page(&browser).await;
    let wrong = story.enter(&browser, &page, "alice", "wrong").await;
    let unknown = story.enter(&browser, &page, "nobody", "wrong").await;
    assert_eq!((wrong.status, unknown.status), (401, 401));
    assert_eq!(wrong.body, unknown.body);
    let strange = browser.cookies();
    assert!(strange.keys().all(|name| !name.contains("login")), "{strange:?}");
    assert!(story.enter(&browser, &page, "alice", PASSWORD).await.parameter("code").is_some(), "the positive control");
}

#[tokio::test]
async fn o02_passwords_cannot_be_tried_for_ever() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = story.page(&browser).await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(story.enter(&browser, &page, "alice", "wrong").await.status);
    }
    assert_eq!(statuses[0], 401);
    assert_eq!(statuses[11], 429, "{statuses:?}");
    let refused = story.enter(&browser, &page, "alice", "wrong").await;
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0), "O06: {refused:#?}");
}

#[tokio::test]
async fn a_form_of_another_site_signs_nobody_in_or_out() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = story.page(&browser).await;
    let state = page.field("state");
    let form = [("state", state.as_str()), ("name", "alice"), ("password", PASSWORD)];
    let url = story.gateway.url("/mcp/sign-in");
    let forged = browser.submit_with(&url, &form, &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!((forged.status, forged.location()), (400, ""));
    let elsewhere = Browser::new().submit(&url, &form).await;
    assert_eq!((elsewhere.status, elsewhere.location()), (400, ""), "another browser");
    assert!(story.enter(&browser, &page, "alice", PASSWORD).await.parameter("code").is_some());
    let out = story.gateway.url("/mcp/sign-out");
    assert_eq!(browser.submit_with(&out, &[], &[("sec-fetch-site", "cross-site")]).await.status, 403);
    assert!(story.page(&browser).await.parameter("code").is_some(), "still signed in");
}

#[tokio::test]
async fn a_session_is_renewed_at_sign_in() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = story.page(&browser).await;
    story.enter(&browser, &page, "alice", PASSWORD).await;
    let login = |browser: &Browser| {
        let found = browser.cookies().into_iter().find(|(name, _)| name.starts_with("portcullis-login-"));
        found.expect("a login")
    };
    let (name, before) = login(&browser);
    let other = Browser::new();
    let page = story.page(&other).await;
    // Whoever was given another person's cookie does not keep it.
    let state = page.field("state");
    let form = [("state", state.as_str()), ("name", "bob"), ("password", PASSWORD)];
    let mut jar: Vec<String> = other.cookies().iter().map(|(name, value)| format!("{name}={value}")).collect();
    jar.push(format!("{name}={before}"));
    other.forget();
    let headers = [("sec-fetch-site", "same-origin"), ("cookie", &*jar.join("; "))];
    let entered = other.submit_with(&story.gateway.url("/mcp/sign-in"), &form, &headers).await;
    assert!(entered.parameter("code").is_some(), "{entered:#?}");
    assert_ne!(before, login(&other).1);
    assert_eq!(story.page(&browser).await.status, 200, "and the old one is worth nothing");
}
