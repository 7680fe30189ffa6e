//! Whom the policy no longer knows: what was issued to them before is worth nothing within seconds, and open streams end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::local::{self, PASSWORD, user};
use super::{CALLBACK, CI_SECRET, Story, error, json as read, redemption};
use crate::support::client::End;
use crate::support::upstream::Request;
use crate::support::{Answer, Browser, Client, Upstream};

/// What is promised.
const PROMISED: Duration = Duration::from_secs(5);
/// What a busy machine may need besides.
const SLACK: Duration = Duration::from_secs(15);

/// Answers `read`, and streams for ever whatever else is asked.
fn streams(request: &Request) -> Answer {
    if request.json()["params"]["name"] == "read" {
        return Answer::json(&json!({ "jsonrpc": "2.0", "id": request.json()["id"], "result": { "content": [] } }));
    }
    let event = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "data": "first" } });
    Answer::sse(&[event], Duration::ZERO).then_waits()
}

fn bearer(url: &str, tokens: &Value) -> Client {
    Client::new(url).token(tokens["access_token"].as_str().expect("a token"))
}

async fn status(client: &Client) -> u16 {
    client.call_tool("read", json!({})).await.status
}

/// Waits until the policy refuses a token.
async fn refused(client: &Client) {
    let began = Instant::now();
    while status(client).await != 401 {
        assert!(began.elapsed() < PROMISED + SLACK, "a token that was issued before is still good");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The tokens of a person who let a client in that registered by itself.
async fn registered(story: &Story) -> Value {
    let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    let client = reqwest::Client::new().post(format!("{}/register", story.issuer())).json(&metadata);
    let answer: Value = client.send().await.expect("an answer").json().await.expect("JSON");
    let id = answer["client_id"].as_str().expect("an id");
    let page = story.sign_in(&Browser::new(), &[("client_id", id)]).await;
    let code = page.parameter("code").unwrap_or_else(|| panic!("a code: {page:#?}"));
    let mut form = redemption(&code).to_vec();
    form.retain(|(name, _)| *name != "client_id");
    form.push(("client_id", id));
    read(&story.token(&form).await)
}

#[tokio::test]
async fn h10_m04_whoever_is_taken_out_of_the_file_of_users_is_out_within_seconds() {
    let watch =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "watch", "arguments": {} } });
    let legacy = [("mcp-protocol-version", "2025-11-25")];
    let removed = |users: &PathBuf| user(&["remove", "alice"], users, "");
    let another =
        |users: &PathBuf| user(&["add", "alice", "--replace", "--password-stdin"], users, "quite another one");
    let added_again = |users: &PathBuf| {
        user(&["remove", "alice"], users, "");
        user(&["add", "alice", "--claim", "groups=[\"eng\"]", "--password-stdin"], users, PASSWORD);
    };
    type Change<'a> = &'a dyn Fn(&PathBuf);
    let cases: [(&str, Change<'_>, Option<&str>); 3] = [
        ("taken out", &removed, None),
        ("another password", &another, Some("quite another one")),
        ("taken out and added again", &added_again, Some(PASSWORD)),
    ];
    for (what, change, password) in cases {
        let story = local::Story::before(Upstream::start(streams).await, "groups=[\"eng\"]").await;
        let (url, users) = (story.gateway.url("/mcp"), story.gateway.directory().join("users.yaml"));
        let browser = Browser::new();
        let tokens = story.tokens(&browser, "alice", PASSWORD).await;
        let alice = bearer(&url, &tokens);
        let bob = bearer(&url, &story.tokens(&Browser::new(), "bob", PASSWORD).await);
        assert_eq!((status(&alice).await, status(&bob).await), (200, 200), "{what}: before");
        let (mut ending, mut lasting) = (alice.open_call(&legacy, &watch).await, bob.open_call(&legacy, &watch).await);
        ending.until("first").await;
        lasting.until("first").await;

        change(&users);
        let changed = Instant::now();
        refused(&alice).await;
        story.upstream.forget();
        assert_eq!(status(&alice).await, 401, "{what}");
        story.upstream.assert_silent();
        assert_eq!(status(&bob).await, 200, "{what}: and nobody else");
        assert_eq!(ending.end().await, End::Orderly, "{what}: its stream ends");
        assert!(changed.elapsed() < PROMISED + SLACK, "{what}: {:?}", changed.elapsed());
        lasting.text.clear();
        let lasts = tokio::time::timeout(Duration::from_millis(200), lasting.end()).await;
        assert!(lasts.is_err(), "{what}: bob's stream lasts");

        let refresh = tokens["refresh_token"].as_str().expect("a refresh token");
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", "desk")];
        assert_eq!(error(&Browser::new().submit(&format!("{url}/token"), &form).await), "invalid_grant", "{what}");
        assert_eq!(story.page(&browser).await.status, 200, "{what}: nor does the browser know anybody");
        let Some(password) = password else { continue };
        let anew = bearer(&url, &story.tokens(&Browser::new(), "alice", password).await);
        assert_eq!(
            (status(&anew).await, status(&alice).await),
            (200, 401),
            "{what}: new tokens are good, old ones not"
        );
    }
}

#[tokio::test]
async fn h10_a_client_that_the_policy_no_longer_names_is_nobody() {
    let story = Story::new().await;
    let url = story.issuer();
    let form = [("grant_type", "client_credentials"), ("client_id", "ci"), ("client_secret", CI_SECRET)];
    let machine = bearer(&url, &read(&story.token(&form).await));
    let person = bearer(&url, &story.tokens().await);
    assert_eq!((status(&machine).await, status(&person).await), (200, 200));
    let policy = story.policy();
    let from = policy.find("    - { id: ci,").expect("the client");
    let to = policy.find("    - { id: desk,").expect("another client");
    story.gateway.write_policy("files", &format!("{}{}", &policy[..from], &policy[to..]));
    refused(&machine).await;
    story.upstream.forget();
    assert_eq!(status(&machine).await, 401);
    story.upstream.assert_silent();
    assert_eq!(status(&person).await, 200, "of another client");

    // Nor has a machine what it may no longer have.
    let fewer = policy.replace("client_credentials], scopes: [files:read] }", "client_credentials] }");
    assert_ne!(fewer, policy);
    story.gateway.write_policy("files", &policy);
    let began = Instant::now();
    while status(&machine).await != 200 {
        assert!(began.elapsed() < PROMISED + SLACK, "named again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    story.gateway.write_policy("files", &fewer);
    refused(&machine).await;

    // A person's token is one of the client that got it, too: that clients may register makes nobody known who did not.
    let registered = bearer(&url, &registered(&story).await);
    let without = policy.replace("id: desk, name", "id: table, name");
    story.gateway.write_policy("files", &without);
    refused(&person).await;
    story.upstream.forget();
    assert_eq!(status(&person).await, 401);
    story.upstream.assert_silent();
    assert_eq!(status(&registered).await, 200, "one that did");
    story.gateway.write_policy("files", &policy.replace("  redirects: {", "  registration: false\n  redirects: {"));
    refused(&registered).await;
    story.gateway.write_policy("files", &policy);
    let began = Instant::now();
    while (status(&machine).await, status(&person).await) != (200, 200) {
        assert!(began.elapsed() < PROMISED + SLACK, "the positive control: known again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
