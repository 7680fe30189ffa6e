//! Any request may go to any replica.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Replicas, before};
use crate::signin::{assertions, json as read, policy, prepared, redemption};
use crate::support::{Answer, Browser, Client, Key, Provider, Upstream, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn g02_every_step_of_a_sign_in_may_meet_another_replica() {
    let replicas = Replicas::new(|policy| policy).await;
    let story = &replicas.story;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    replicas.to(1).await;
    let leaving = story.consent(&browser, &page, "corp").await;
    replicas.to(0).await;
    let back = story.back(&browser, &leaving).await;
    let code = back.parameter("code").unwrap_or_else(|| panic!("a code: {back:#?}"));
    replicas.to(1).await;
    let answer = story.redeem(&code).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    let tokens = read(&answer);
    let access = tokens["access_token"].as_str().expect("a token");
    for replica in [0, 1] {
        replicas.to(replica).await;
        assert_eq!(story.call("read", access).await, 200, "signed by one, accepted by both");
    }
    story.upstream.forget();
    assert_eq!(story.call("write", access).await, 403, "and by the rules of both");
    story.upstream.assert_silent();

    replicas.to(0).await;
    let refreshed = story.refresh(tokens["refresh_token"].as_str().expect("a token")).await;
    assert_eq!(refreshed.status, 200, "{refreshed:#?}");
    let refreshed = read(&refreshed);
    // A second use of the code on the other replica ends the grant everywhere.
    replicas.to(1).await;
    assert_eq!(story.redeem(&code).await.status, 400);
    for replica in [0, 1] {
        replicas.to(replica).await;
        let access = refreshed["access_token"].as_str().expect("a token");
        let began = std::time::Instant::now();
        while story.call("read", access).await != 401 {
            assert!(
                began.elapsed() < 3 * Duration::from_secs(5),
                "H10: in force within five seconds, on a busy machine later"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        story.upstream.forget();
        assert_eq!(story.call("read", access).await, 401);
        story.upstream.assert_silent();
    }
    assert!(!replicas.redis.ask("KEYS *").contains("alice"), "no name of a person is a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn c03_h02_of_200_redemptions_of_a_code_over_two_replicas_one_succeeds() {
    let replicas = Replicas::new(|policy| policy).await;
    let code = replicas.story.code().await;
    replicas.to_both();
    let url = format!("{}/token", replicas.story.issuer());
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (url, code) = (url.clone(), code.clone());
        callers.spawn(async move { Browser::new().submit_with(&url, &redemption(&code), &[]).await.status });
    }
    let statuses = callers.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 199, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c02_an_assertion_counts_once_at_all_replicas_and_without_the_store_never() {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read"]).await);
    let policy = assertions::with_a_key(&policy(&provider, &upstream));
    let mut replicas = Replicas::of(|| assertions::keys(prepared(&policy)), provider, upstream).await;
    let issuer = replicas.story.issuer();
    let assertion = |jti: &str| assertions::signed(Key::Es256, json!({}), &assertions::claims(&issuer, jti));
    let ask =
        async |replicas: &Replicas, jti: &str| assertions::ask(&replicas.story, &assertion(jti), &[]).await.status;
    assert_eq!(ask(&replicas, "a").await, 200);
    replicas.to(1).await;
    assert_eq!(ask(&replicas, "a").await, 401, "used at the other replica");
    assert_eq!(ask(&replicas, "b").await, 200);
    replicas.redis.stop();
    assert_eq!(ask(&replicas, "c").await, 503, "nobody knows whether it was used");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_publish_and_use_the_same_keys() {
    let replicas = Replicas::new(|policy| policy).await;
    let jwks = format!("{}/jwks", replicas.story.issuer());
    let mut published: Vec<Value> = Vec::new();
    for replica in [0, 1] {
        replicas.to(replica).await;
        let page = Browser::new().go(&jwks).await;
        assert_eq!(page.status, 200, "{page:#?}");
        published.push(read(&page));
    }
    assert_eq!(published[0], published[1]);
    assert_eq!(published[0]["keys"].as_array().map(Vec::len), Some(1), "{published:?}");
}

/// A server with one session.
fn with_session(request: &crate::support::upstream::Request) -> Answer {
    let message = request.json();
    let id = message["id"].clone();
    match (request.method.as_str(), message["method"].as_str()) {
        ("POST", Some("initialize")) => {
            let version = message["params"]["protocolVersion"].clone();
            let result = json!({"protocolVersion": version, "capabilities": {}});
            Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": result})).header("mcp-session-id", "upstream-1")
        }
        ("POST", _) => Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}})),
        _ => Answer::status(204),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m01_a_session_of_one_replica_is_used_and_ended_at_the_other() {
    let upstream = Upstream::start(with_session).await;
    let replicas = Replicas::new(|policy| before(&upstream, &policy)).await;
    let tokens = replicas.story.tokens().await;
    let access = tokens["access_token"].as_str().expect("a token");
    let client = || Client::new(&replicas.story.issuer()).token(access);
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let begun = client().post(&[], initialize.to_string()).await;
    let id = begun.header("mcp-session-id").to_owned();
    assert!(begun.status == 200 && !id.is_empty() && !id.contains("upstream-1"), "{begun:?}");
    let headers = [("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", id.as_str())];
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "read", "arguments": {}}});

    replicas.to(1).await;
    upstream.forget();
    assert_eq!(client().post(&headers, call.to_string()).await.status, 200);
    assert_eq!(upstream.received()[0].header("mcp-session-id"), ["upstream-1"]);
    upstream.forget();
    let forged = [("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", "upstream-1")];
    assert_eq!(client().post(&forged, call.to_string()).await.status, 404);
    upstream.assert_silent();
    assert_eq!(client().send("DELETE", "/mcp", &headers, "").await.status, 204);
    let ended = || upstream.received().into_iter().find(|seen| seen.method == "DELETE");
    let ended = eventually("the session's end", ended).await;
    assert_eq!(ended.header("mcp-session-id"), ["upstream-1"]);
}
