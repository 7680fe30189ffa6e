//! `client_credentials`: a token of the gateway's own, for all callers of a service.

use std::time::Duration;

use serde_json::json;

use super::{SECRET, Scene, policy};
use crate::support::upstream::Answer;
use crate::support::{Upstream, eventually};

const WRITTEN: &str =
    "client_credentials: { token_url: \"TOKEN_URL\", client_id: gate, client_secret: { env: GATE_SECRET } }";

#[tokio::test]
async fn p05_p07_one_token_serves_all_callers_and_the_endpoint_is_asked_once() {
    let written = WRITTEN.replace(
        "} }",
        "}, scopes: [notes:read, notes:write], audience: api://notes, resource: \"https://notes.internal/mcp\" }",
    );
    let scene = Scene::start(&written).await;
    for subject in ["alice", "bob", "alice"] {
        assert_eq!(scene.shown(&scene.client("main", json!({"sub": subject}))).await, "Bearer given-1", "{subject}");
    }
    let questions = scene.endpoint.questions();
    assert_eq!(questions.len(), 1, "what is there is used");
    assert_eq!((questions[0].method.as_str(), questions[0].path.as_str()), ("POST", "/oauth2/token"));
    let expected = [
        ("audience", "api://notes"),
        ("grant_type", "client_credentials"),
        ("resource", "https://notes.internal/mcp"),
        ("scope", "notes:read notes:write"),
    ];
    assert_eq!(scene.endpoint.form(0), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(questions[0].header("authorization"), ["Basic Z2F0ZTp0aGUtZ2F0ZXdheXMtc2VjcmV0LTAxMjM0NTY3ODk="]);

    let client = scene.client("main", json!({}));
    let reply = client.call_tool("echo", json!({})).await;
    assert_eq!(scene.record(&reply).await["credential"], "client_credentials", "the record tells the kind");
    scene.keeps_quiet_about(&["given-1", SECRET, "Z2F0ZTp0"]);
}

#[tokio::test]
async fn p07_a_secret_goes_into_the_form_where_the_policy_says() {
    let scene = Scene::start(&WRITTEN.replace("} }", "}, client_auth: post }")).await;
    assert_eq!(scene.shown(&scene.client("main", json!({}))).await, "Bearer given-1");
    let expected = [("client_id", "gate"), ("client_secret", SECRET), ("grant_type", "client_credentials")];
    assert_eq!(scene.endpoint.form(0), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(scene.endpoint.questions()[0].header("authorization").is_empty());
}

#[tokio::test]
async fn p01_the_token_goes_into_the_header_of_choice() {
    let scene = Scene::start(&format!("header: X-Upstream-Token, prefix: \"tok \", {WRITTEN}")).await;
    let forged = scene.client("main", json!({})).header("x-upstream-token", "admin");
    assert_eq!(scene.shown(&forged).await, "");
    assert_eq!(scene.upstream.received()[0].header("x-upstream-token"), ["tok given-1"]);
}

#[tokio::test]
async fn p05_services_share_no_token() {
    let upstream = Upstream::mcp(&["echo"]).await;
    let scene = Scene::with(upstream, &[("main", WRITTEN), ("other", WRITTEN)]).await;
    assert_eq!(scene.shown(&scene.client("main", json!({}))).await, "Bearer given-1");
    assert_eq!(scene.shown(&scene.client("other", json!({}))).await, "Bearer given-2");
    assert_eq!(scene.shown(&scene.client("main", json!({}))).await, "Bearer given-1");
}

#[tokio::test]
async fn p08_without_a_token_that_can_be_used_the_upstream_hears_nothing() {
    let scene = Scene::start(WRITTEN).await;
    let client = scene.client("main", json!({}));
    let json = |text: &str| Answer::status(200).header("content-type", "application/json").body(text.to_owned());
    for (case, answer, status, reason) in [
        ("no token", json("{}"), 502, "credential-refused"),
        ("another kind", json(r#"{"access_token":"t","token_type":"DPoP"}"#), 502, "credential-refused"),
        ("huge", json(&format!("{{\"x\":\"{}\"}}", "x".repeat(600 * 1024))), 503, "credential-unavailable"),
        (
            "error",
            json(r#"{"error":"invalid_client","error_description":"s3cret"}"#).with_status(401),
            502,
            "credential-refused",
        ),
        ("redirect", Answer::status(302).header("location", &scene.endpoint.url()), 502, "credential-refused"),
        ("down", Answer::status(503), 503, "credential-unavailable"),
        ("slow", Answer::status(200).after(Duration::from_secs(30)), 503, "credential-unavailable"),
    ] {
        scene.endpoint.fails_with(Some(answer));
        // What was just refused is remembered for a moment.
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let reply = scene.refused(&client, status, reason).await;
        assert_eq!(reply.header("retry-after").is_empty(), status == 502, "{case}: {reply:?}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("s3cret"), "{case}: {reply:?}");
    }
    scene.keeps_quiet_about(&["s3cret", SECRET]);
    scene.endpoint.fails_with(None);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(scene.shown(&client).await, "Bearer given-1", "and it heals by itself");
}

#[tokio::test]
async fn p05_a_token_is_replaced_before_it_ends_and_none_is_used_after() {
    let scene = Scene::start(WRITTEN).await;
    scene.endpoint.changes(json!({"expires_in": 2}));
    let client = scene.client("main", json!({}));
    assert_eq!(scene.shown(&client).await, "Bearer given-1");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(scene.shown(&client).await, "Bearer given-2");
}

#[tokio::test]
async fn p06_a_token_that_the_upstream_refuses_is_replaced_for_the_next_call_and_no_call_is_repeated() {
    let upstream = Upstream::start(|request| {
        if request.header("authorization") == ["Bearer given-1"] {
            return Answer::status(401).header("www-authenticate", "Bearer error=\"invalid_token\", realm=\"inner\"");
        }
        let id = request.json()["id"].clone();
        Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}))
    })
    .await;
    let scene = Scene::with(upstream, &[("main", WRITTEN)]).await;
    let client = scene.client("main", json!({}));
    let reply = client.call_tool("echo", json!({})).await;
    assert_eq!(reply.status, 502, "{reply:?}");
    assert_eq!(reply.header("www-authenticate"), "", "the upstream's challenge is the gateway's matter");
    assert!(!String::from_utf8_lossy(&reply.body).contains("inner"), "{reply:?}");
    assert_eq!(scene.upstream.received().len(), 1, "a call is sent once, for it may have had an effect");
    assert_eq!(scene.shown(&client).await, "Bearer given-2");
    assert_eq!(scene.endpoint.questions().len(), 2);
}

#[tokio::test]
async fn p05_a_reload_that_changes_nothing_about_the_credential_keeps_it() {
    let scene = Scene::start(WRITTEN).await;
    let client = scene.client("main", json!({}));
    assert_eq!(scene.shown(&client).await, "Bearer given-1");
    let text = policy("main", &scene.upstream, &scene.endpoint, WRITTEN);
    let reloaded = async |text: &str| {
        let before = scene.gateway.log().iter().filter(|record| record["fields"]["event"] == "reloaded").count();
        scene.gateway.write_policy("main", text);
        let after = || scene.gateway.log().iter().filter(|record| record["fields"]["event"] == "reloaded").count();
        eventually("the reload", || (after() > before).then_some(())).await;
    };
    reloaded(&text.replace("tools: [echo]", "tools: [echo, more]")).await;
    assert_eq!(scene.shown(&client).await, "Bearer given-1");
    reloaded(&text.replace("client_id: gate,", "client_id: gate, scopes: [a],")).await;
    assert_eq!(scene.shown(&client).await, "Bearer given-2", "other scopes are another token");
}
