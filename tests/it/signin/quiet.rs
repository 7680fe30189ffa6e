//! Nothing secret is in the log, whatever level is asked for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{CI_SECRET, Story, VERIFIER, json as read, local, policy, prepared};
use crate::support::{Browser, Client, Provider, Upstream};

/// Secrets with what they are, and what each looks like where it is encoded.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: &str) {
        assert!(secret.len() >= 8, "{what}: {secret}");
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        self.0.extend([(what, secret.to_owned()), (what, encoded)]);
    }

    fn are_not_in(&self, printed: &str) {
        for (what, secret) in &self.0 {
            let line = printed.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{what} is logged: {}", line.unwrap_or_default());
        }
    }
}

#[tokio::test]
async fn no_token_code_secret_or_state_is_logged_at_any_level() {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
    let listeners = "store: memory\nlisteners: [{ address: \"127.0.0.1:1\", h2c: true }]\n";
    let setup = prepared(&policy(&provider, &upstream)).installation(listeners).secret("RUST_LOG", "trace");
    let story = Story { gateway: setup.start().await, provider, upstream };
    let mut secrets = Secrets::default();
    for (what, secret) in [
        ("the gateway's secret at the provider", "corp-secret-0123456789-0123456789-01234"),
        ("a client's secret", CI_SECRET),
        ("a verifier", VERIFIER),
        ("the client's state", "client-state"),
        ("a provider's code", "provider-code-"),
        ("a provider's access token", "provider-access-token-"),
        ("a provider's refresh token", "provider-refresh-token-"),
    ] {
        secrets.add(what, secret);
    }
    secrets.0.push(("Basic of the gateway", STANDARD.encode("gateway:corp-secret-0123456789-0123456789-01234")));
    secrets.0.push(("Basic of a client", STANDARD.encode(format!("ci:{CI_SECRET}"))));

    story.provider.behave(|manner| manner.tokens = serde_json::json!({ "expires_in": 0 }));
    let browser = Browser::new();
    let asked = browser.go(&story.authorize(&[])).await;
    let leaving = story.consent(&browser, &asked, "corp").await;
    secrets.add("a sealed request", &asked.field("request"));
    secrets.add("a sealed state", &leaving.parameter("state").expect("a state"));
    for cookie in browser.cookies().values() {
        secrets.add("a cookie", cookie);
    }
    let code = story.back(&browser, &leaving).await.parameter("code").expect("a code");
    secrets.add("a code", &code);
    let tokens = read(&story.redeem(&code).await);
    let next = read(&story.refresh(tokens["refresh_token"].as_str().expect("a token")).await);
    for tokens in [&tokens, &next] {
        secrets.add("an access token", tokens["access_token"].as_str().expect("a token"));
        secrets.add("a refresh token", tokens["refresh_token"].as_str().expect("a token"));
    }
    let access = next["access_token"].as_str().expect("a token");
    assert_eq!(story.call("read", access).await, 200);
    let basic = STANDARD.encode(format!("ci:{CI_SECRET}"));
    let own = [("grant_type", "client_credentials")];
    let url = format!("{}/token", story.issuer());
    let headers = [("authorization", format!("Basic {basic}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let service = read(&Browser::new().submit_with(&url, &own, &headers).await);
    secrets.add("a service's token", service["access_token"].as_str().expect("a token"));
    let revoke = [("token", access), ("client_id", "desk")];
    assert_eq!(Browser::new().submit(&format!("{}/revoke", story.issuer()), &revoke).await.status, 200);
    // What is refused is told of in more words, and over HTTP/2 other code reads it.
    assert_eq!(story.redeem(&code).await.status, 400);
    assert_eq!(story.call("read", access).await, 401);
    let http2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client");
    let sent = http2.post(story.issuer()).bearer_auth(access).header("cookie", format!("x={access}"));
    let sent = sent.header("content-type", "application/json").header("accept", "application/json, text/event-stream");
    let sent = sent.body("{}");
    assert_eq!(sent.send().await.expect("an answer").status().as_u16(), 401);
    let sent = http2.get(story.authorize(&[("client_id", "nobody")])).send().await.expect("an answer");
    assert_eq!(sent.status().as_u16(), 400);
    let client = Client::new(&story.issuer()).header("authorization", &format!("Bearer {access}x"));
    assert_eq!(client.call_tool("read", serde_json::json!({})).await.status, 401);
    // What it says comes through a pipe.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let printed = story.gateway.printed();
    assert!(
        printed.contains("\"level\":\"DEBUG\"") || printed.contains("\"level\":\"TRACE\""),
        "the level is in force"
    );
    secrets.are_not_in(&printed);
}

#[tokio::test]
async fn no_password_is_logged_at_any_level() {
    let story = local::Story::talkative().await;
    story.tokens(&Browser::new(), "alice", local::PASSWORD).await;
    let page = story.page(&Browser::new()).await;
    assert_eq!(page.status, 200);
    let mut secrets = Secrets::default();
    secrets.add("a password", local::PASSWORD);
    secrets.0.push(("its hash", "$argon2id$".to_owned()));
    secrets.are_not_in(&story.gateway.printed());
}
