//! `assertion`: the gateway's signed word about who calls, verified as a server would with a library of its own.

use serde_json::{Value, json};

use super::Scene;
use crate::signin::Story;
use crate::support::process::{python, steps};
use crate::support::{Client, Upstream};

/// What PyJWT reads from an assertion with the keys at `issuer` and `/jwks`.
async fn verified(token: &str, issuer: &str, audience: &str) -> Value {
    let mut command = python("assertion.py");
    command.args(["--jwks", &format!("{issuer}/jwks"), "--issuer", issuer, "--audience", audience, "--token", token]);
    steps(command).await.remove(0)
}

/// The assertion that the upstream got.
fn bearer(shown: &str) -> &str {
    shown.strip_prefix("Bearer ").expect("a bearer token")
}

#[tokio::test]
async fn p02_p10_the_upstream_verifies_who_calls_with_the_services_published_keys() {
    let upstream = Upstream::mcp(&["echo"]).await;
    let other = "assertion: { audience: \"https://notes.internal\", claims: [team, absent] }";
    let scene = Scene::with(upstream, &[("main", "assertion: {}"), ("other", other)]).await;
    let claims = json!({"scope": "a b", "team": "eng"});
    let client = scene.client("main", claims.clone());
    let shown = scene.shown(&client).await;
    let issuer = scene.gateway.url("/main/mcp");
    let read = verified(bearer(&shown), &issuer, &scene.upstream.url("/mcp")).await;
    assert_eq!(read["header"]["typ"], "portcullis-assertion+jwt");
    let said = &read["claims"];
    assert_eq!((&said["sub"], &said["client_id"], &said["scope"]), (&json!("alice"), &json!("claude"), &json!("a b")));
    let own = json!({"format": "iss_sub", "iss": "https://own.example.com", "sub": "alice"});
    assert_eq!(said["sub_id"], own, "a subject is the pair of issuer and name");
    let lives = said["exp"].as_i64().expect("exp") - said["iat"].as_i64().expect("iat");
    assert!((1..=60).contains(&lives), "{lives}");
    assert!(said["team"].is_null(), "no claim goes along that the policy does not name");

    let reply = client.call_tool("echo", json!({})).await;
    assert_eq!(scene.record(&reply).await["credential"], "assertion");
    assert_eq!(scene.shown(&client).await, shown, "one serves for part of its life");
    let bob = scene.shown(&scene.client("main", json!({"sub": "bob"}))).await;
    let of_bob = verified(bearer(&bob), &issuer, &scene.upstream.url("/mcp")).await;
    assert_eq!(of_bob["claims"]["sub"], "bob");
    assert!(of_bob["claims"]["jti"] != said["jti"]);

    let shown = scene.shown(&scene.client("other", claims)).await;
    let of_other = verified(bearer(&shown), &scene.gateway.url("/other/mcp"), "https://notes.internal").await;
    assert_eq!((&of_other["claims"]["team"], &of_other["claims"]["absent"]), (&json!("eng"), &Value::Null));
    scene.keeps_quiet_about(&[bearer(&shown)]);
}

#[tokio::test]
async fn p10_an_assertion_opens_nothing_at_the_gateway_and_no_key_is_published_without_need() {
    let secret = "secret: { env: GATE_SECRET }";
    let scene = Scene::with(Upstream::mcp(&["echo"]).await, &[("main", "assertion: {}"), ("plain", secret)]).await;
    let shown = scene.shown(&scene.client("main", json!({}))).await;
    let thief = Client::new(&scene.gateway.url("/main/mcp")).token(bearer(&shown));
    scene.upstream.forget();
    assert_eq!(thief.call_tool("echo", json!({})).await.status, 401);
    scene.upstream.assert_silent();
    let keys = thief.fetch("/main/mcp/jwks").await;
    assert_eq!((keys.status, keys.header("cache-control")), (200, "public, max-age=300"));
    assert!(keys.json()["keys"][0]["kid"].is_string() && keys.json()["keys"][0]["d"].is_null(), "{keys:?}");
    for path in ["/plain/mcp/jwks", "/main/mcp/token", "/main/mcp/.well-known/openid-configuration"] {
        assert_eq!(thief.fetch(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn p10_own_tokens_and_assertions_are_told_apart_by_what_they_are() {
    let story = Story::with(|policy| {
        let policy = policy.replace("upstream: { ", "upstream: { credential: { assertion: { claims: [email] } }, ");
        policy.replace("  sign_in: [corp]\n", "  sign_in: [corp]\n  tokens: { algorithm: EdDSA }\n")
    })
    .await;
    let tokens = story.tokens().await;
    let access = tokens["access_token"].as_str().expect("a token");
    assert_eq!(story.call("read", access).await, 200);
    let received = story.upstream.received();
    let shown = received[0].header("authorization").remove(0);
    assert_ne!(bearer(&shown), access, "the client's token stays behind");
    let read = verified(bearer(&shown), &story.issuer(), &story.upstream.url("/mcp")).await;
    assert_eq!((&read["header"]["alg"], &read["claims"]["sub"]), (&json!("EdDSA"), &json!("corp:alice")));
    assert_eq!(read["claims"]["email"], "alice@example.com");
    // Same issuer, same keys: only its type and audience keep it from being an access token.
    story.upstream.forget();
    assert_eq!(story.call("read", bearer(&shown)).await, 401);
    story.upstream.assert_silent();
}
