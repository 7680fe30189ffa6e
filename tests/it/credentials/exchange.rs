//! `exchange`: the caller's token for one that the upstream takes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Scene, policy, setup};
use crate::own;
use crate::support::issuer::now;
use crate::support::upstream::Answer;
use crate::support::{Client, TokenEndpoint, Upstream};

const WRITTEN: &str = "exchange: { token_url: \"TOKEN_URL\", client_id: gate, client_secret: { env: GATE_SECRET } }";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

async fn scene(upstream: Upstream, services: &[(&str, &str)]) -> Scene {
    let scene = Scene::with(upstream, services).await;
    scene.endpoint.changes(json!({"issued_token_type": ACCESS_TOKEN}));
    scene
}

async fn usual() -> Scene {
    scene(Upstream::mcp(&["echo"]).await, &[("main", WRITTEN), ("other", WRITTEN)]).await
}

/// A token for `service` that says `changes`, and a client with it.
fn caller(scene: &Scene, service: &str, changes: Value) -> (String, Client) {
    let url = scene.gateway.url(&format!("/{service}/mcp"));
    let token = own::token(&url, changes);
    (token.clone(), Client::new(&url).token(&token))
}

#[tokio::test]
async fn p09_the_callers_token_is_exchanged_and_stays_behind() {
    let written = WRITTEN.replace("} }", "}, scopes: [notes:use], audience: notes }");
    let scene = scene(Upstream::mcp(&["echo"]).await, &[("main", &written)]).await;
    let (token, client) = caller(&scene, "main", json!({}));
    assert_eq!(scene.shown(&client).await, "Bearer given-1");
    let expected = [
        ("audience", "notes"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("requested_token_type", ACCESS_TOKEN),
        ("scope", "notes:use"),
        ("subject_token", &token),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    assert_eq!(scene.endpoint.form(0), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let seen = format!("{:?}", scene.upstream.received()[0].headers);
    assert!(!seen.contains(&token) && !String::from_utf8_lossy(&scene.upstream.received()[0].body).contains(&token));

    let reply = client.call_tool("echo", json!({})).await;
    assert_eq!(scene.record(&reply).await["credential"], "exchange");
    assert!(!format!("{reply:?}").contains("given-"), "nor does the client see what came of it");
    scene.keeps_quiet_about(&["given-1", &token]);
}

#[tokio::test]
async fn p05_what_was_exchanged_belongs_to_one_caller_and_one_service() {
    let scene = usual().await;
    let people = [("main", "alice"), ("main", "bob"), ("other", "alice"), ("other", "bob")];
    let callers = people.map(|(service, subject)| caller(&scene, service, json!({"sub": subject})));
    for _ in 0..3 {
        for (number, (_, client)) in callers.iter().enumerate() {
            assert_eq!(scene.shown(client).await, format!("Bearer given-{}", number + 1), "{:?}", people[number]);
        }
    }
    assert_eq!(scene.endpoint.questions().len(), 4, "what is there is used");
    for (number, (token, _)) in callers.iter().enumerate() {
        let form = scene.endpoint.form(number);
        assert!(form.contains(&("subject_token".to_owned(), token.clone())), "{:?}", people[number]);
    }
    // The same person with another token, which may be worth more or less.
    let (_, again) = caller(&scene, "main", json!({"sub": "alice", "scope": "more"}));
    assert_eq!(scene.shown(&again).await, "Bearer given-5");
}

#[tokio::test]
async fn p05_nothing_is_used_past_the_end_of_the_token_that_it_was_made_from() {
    let scene = usual().await;
    let (_, client) = caller(&scene, "main", json!({"exp": now() + 3}));
    assert_eq!(scene.shown(&client).await, "Bearer given-1");
    tokio::time::sleep(Duration::from_millis(3200)).await;
    // Within what clocks may be off by the token still opens the gateway, and no more than that.
    scene.upstream.forget();
    let reply = client.call_tool("echo", json!({})).await;
    assert_eq!(reply.status, 401, "{reply:?}");
    scene.upstream.assert_silent();
    assert_eq!(scene.record(&reply).await["reason"], "token-expired");
    assert!(reply.header("www-authenticate").contains("invalid_token"), "the client gets a new one");
    assert_eq!(scene.endpoint.questions().len(), 1);
    let (_, renewed) = caller(&scene, "main", json!({"exp": now() + 600}));
    assert_eq!(scene.shown(&renewed).await, "Bearer given-2");
}

#[tokio::test]
async fn p08_p09_what_is_no_access_token_or_the_callers_own_is_not_shown() {
    let scene = usual().await;
    let (token, _) = caller(&scene, "main", json!({"sub": "eve"}));
    for (subject, changes) in [
        ("a", json!({"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"})),
        ("b", json!({"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"})),
        ("c", json!({})),
        ("d", json!({"issued_token_type": ACCESS_TOKEN, "token_type": "N_A"})),
        ("eve", json!({"issued_token_type": ACCESS_TOKEN, "access_token": token})),
    ] {
        scene.endpoint.changes(changes);
        let client = if subject == "eve" {
            Client::new(&scene.gateway.url("/main/mcp")).token(&token)
        } else {
            caller(&scene, "main", json!({"sub": subject})).1
        };
        scene.refused(&client, 502, "credential-refused").await;
    }
    scene.endpoint.changes(json!({"issued_token_type": "urn:ietf:params:oauth:token-type:jwt"}));
    let (_, good) = caller(&scene, "main", json!({"sub": "f"}));
    assert!(scene.shown(&good).await.starts_with("Bearer given-"));
    scene.endpoint.fails_with(Some(Answer::json(&json!({"error": "invalid_target"})).with_status(400)));
    let (_, refused) = caller(&scene, "main", json!({"sub": "g"}));
    let reply = scene.refused(&refused, 502, "credential-refused").await;
    assert_eq!(scene.record(&reply).await["detail"], "token endpoint: status 400, invalid_target");
    assert!(scene.shown(&good).await.starts_with("Bearer given-"), "one caller's trouble is not another's");
}

#[tokio::test]
async fn p06_a_refused_exchange_is_one_callers_matter() {
    let upstream = Upstream::start(|request| {
        if request.header("authorization") == ["Bearer given-1"] {
            return Answer::status(401);
        }
        let id = request.json()["id"].clone();
        Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}))
    })
    .await;
    let scene = scene(upstream, &[("main", WRITTEN)]).await;
    let ((_, alice), (_, bob)) = (caller(&scene, "main", json!({})), caller(&scene, "main", json!({"sub": "bob"})));
    assert_eq!(alice.call_tool("echo", json!({})).await.status, 502);
    assert_eq!(scene.shown(&bob).await, "Bearer given-2");
    assert_eq!(scene.shown(&alice).await, "Bearer given-3");
    assert_eq!(scene.shown(&bob).await, "Bearer given-2");
}

#[tokio::test]
async fn p09_no_api_key_goes_to_a_token_endpoint() {
    let (upstream, endpoint) = (Upstream::mcp(&["echo"]).await, TokenEndpoint::start().await);
    let keys = "api_key: { keys: [{ name: ci, sha256: 4f6a1f5d6c0e3a8f1f9b2c7d5e8a0b3c6d9e2f5a8b1c4d7e0f3a6b9c2d5e8f1a, expires: \"2099-01-01T00:00:00Z\" }] }";
    let text = policy("main", &upstream, &endpoint, WRITTEN);
    let (before, _) = text.split_once("providers: { own:").expect("its provider");
    let text = format!("{before}providers: {{ own: {{ {keys} }} }}\n");
    let said = setup().policy("main", &text).refused().await;
    assert!(said.contains("no-credential"), "{said}");
}
