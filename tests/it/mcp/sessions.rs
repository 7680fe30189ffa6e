//! Sessions of legacy revisions: their ids open for their owner only, and end as clients expect.

use std::time::Duration;

use serde_json::{Value, json};

use super::{UPSTREAM_SESSION, alice, initialize, request, session, setup, with};
use crate::support::upstream::Request;
use crate::support::{Answer, Client, Issuer, Upstream};

const RULES: &str = "rules: [{ allow: { tools: [echo] } }]";
const LEGACY: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

/// A server with one session: it answers calls with who it thinks is there.
fn with_session(request: &Request) -> Answer {
    let message = request.json();
    let id = message["id"].clone();
    match (request.method.as_str(), message["method"].as_str()) {
        ("POST", Some("initialize")) => {
            let version = message["params"]["protocolVersion"].clone();
            Answer::json(
                &json!({"jsonrpc": "2.0", "id": id, "result": {"protocolVersion": version, "capabilities": {}}}),
            )
            .header("mcp-session-id", UPSTREAM_SESSION)
        }
        ("POST", Some("tools/call")) => {
            let session = request.header("mcp-session-id").join(",");
            let text = format!("session {session}");
            Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}))
                .header("mcp-session-id", UPSTREAM_SESSION)
        }
        ("GET", _) => {
            let resumed = request.header("last-event-id").join(",");
            let event = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": resumed}});
            Answer::sse(&[event], Duration::ZERO)
        }
        ("DELETE", _) => Answer::status(204),
        _ => Answer::status(202),
    }
}

fn call(name: &str) -> Value {
    request(7, "tools/call", &json!({"name": name, "arguments": {}}))
}

#[tokio::test]
async fn m01_m03_a_session_is_its_owners_by_every_method_and_no_credential() {
    let (upstream, issuer) = (Upstream::start(with_session).await, Issuer::start().await);
    let other = super::policy(&upstream, &issuer, RULES).replace("story", "other");
    let gateway = setup(&upstream, &issuer, RULES).await.policy("other", &other).start().await;
    let owner = alice(&gateway, &issuer);
    let id = session(&owner, "2025-11-25").await;
    let headers = [LEGACY, ("mcp-session-id", id.as_str())];
    upstream.forget();

    let other_url = gateway.url("/other/mcp");
    let elsewhere = Client::new(&other_url).token(&issuer.token(&other_url, json!({})));
    let flipped: String = id.chars().rev().collect();
    let strangers = [
        ("another subject", with(&gateway, &issuer, json!({"sub": "bob"})), id.as_str()),
        ("another client", with(&gateway, &issuer, json!({"client_id": "other"})), &id),
        ("no client", with(&gateway, &issuer, json!({"client_id": null})), &id),
        ("another service", elsewhere, &id),
        ("the upstream's own id", alice(&gateway, &issuer), UPSTREAM_SESSION),
        ("a changed id", alice(&gateway, &issuer), &flipped),
    ];
    for (who, stranger, id) in &strangers {
        let headers = [LEGACY, ("mcp-session-id", *id), ("accept", "text/event-stream"), ("last-event-id", "5")];
        for (method, body) in [("POST", call("echo").to_string()), ("GET", String::new()), ("DELETE", String::new())] {
            let mut headers = headers.to_vec();
            if method == "POST" {
                headers.push(("content-type", "application/json"));
            }
            let path = if *who == "another service" { "/other/mcp" } else { "/story/mcp" };
            let reply = stranger.send(method, path, &headers, body).await;
            assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (404, json!(-32001)), "{who}, {method}");
        }
    }
    let anonymous = Client::new(&gateway.url("/story/mcp")).send("DELETE", "/story/mcp", &headers, "").await;
    assert_eq!(anonymous.status, 401, "a session is no credential");
    upstream.assert_silent();

    let reply = owner.post(&headers, call("echo").to_string()).await;
    assert_eq!(reply.json()["result"]["content"][0]["text"], format!("session {UPSTREAM_SESSION}"));
    assert_eq!(reply.header("mcp-session-id"), id, "the client keeps the id that it has");
    let refreshed = with(&gateway, &issuer, json!({"jti": "another token of hers"}));
    assert_eq!(refreshed.post(&headers, call("echo").to_string()).await.status, 200, "a refresh ends no session");
    let resumed = [headers[0], headers[1], ("last-event-id", "41")];
    let events = owner.send("GET", "/story/mcp", &resumed, "").await;
    assert_eq!((events.status, events.json()["params"]["data"].clone()), (200, json!("41")), "{events:?}");
    assert_eq!(owner.send("DELETE", "/story/mcp", &headers, "").await.status, 204);
    let seen = upstream.received();
    assert!(seen.iter().all(|request| request.header("mcp-session-id") == [UPSTREAM_SESSION]), "{seen:#?}");
    assert_eq!(seen.last().map(|request| request.method.as_str()), Some("DELETE"));
}

#[tokio::test]
async fn m02_ids_of_a_hostile_upstream_are_checked_for_their_form() {
    for (id, status) in [("a b", 502), (&*"x".repeat(600), 502), ("\u{e9}", 502), ("fine-1", 200)] {
        let id = id.to_owned();
        let upstream = Upstream::start(move |request| {
            let result = json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": {}});
            Answer::json(&result).header("mcp-session-id", &id)
        });
        let (upstream, issuer) = (upstream.await, Issuer::start().await);
        let gateway = setup(&upstream, &issuer, RULES).await.start().await;
        let reply = alice(&gateway, &issuer).post(&[], initialize("2025-11-25")).await;
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.json()["id"], 0, "the error names the request");
    }
}

#[tokio::test]
async fn a_session_that_the_server_lost_leads_to_a_new_one() {
    let lost = |request: &Request| match request.json()["method"].as_str() {
        Some("initialize") => with_session(request),
        _ => Answer::status(404).header("content-type", "text/plain").body("Session not found"),
    };
    let (upstream, issuer) = (Upstream::start(lost).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let id = session(&client, "2025-11-25").await;
    let reply = client.post(&[LEGACY, ("mcp-session-id", &id)], call("echo").to_string()).await;
    assert_eq!((reply.status, reply.json()["id"].clone()), (404, json!(7)), "404 makes clients initialise anew");
    let denied = client.post(&[LEGACY, ("mcp-session-id", &id)], call("drop").to_string()).await;
    assert_eq!(denied.status, 403, "a session opens no rule");
}

#[tokio::test]
async fn streams_without_a_session_and_modern_services_have_no_get() {
    let (upstream, issuer) = (Upstream::start(with_session).await, Issuer::start().await);
    let modern = super::policy(&upstream, &issuer, &format!("{RULES}\nrevisions: [\"2026-07-28\"]"));
    let setup = setup(&upstream, &issuer, RULES).await;
    let gateway = setup.policy("modern", &modern.replace("story", "modern")).start().await;
    let client = alice(&gateway, &issuer);
    let url = gateway.url("/modern/mcp");
    let modern = Client::new(&url).token(&issuer.token(&url, json!({})));
    for method in ["GET", "DELETE", "PUT"] {
        assert_eq!(client.send(method, "/story/mcp", &[LEGACY], "").await.status, 405, "{method} without a session");
        assert_eq!(modern.send(method, "/modern/mcp", &[], "").await.status, 405, "{method} of a modern service");
    }
    let id = session(&client, "2025-11-25").await;
    upstream.forget();
    for version in ["2024-11-05", "2026-07-28", "nonsense"] {
        let headers = [("mcp-protocol-version", version), ("mcp-session-id", &id)];
        let reply = client.send("GET", "/story/mcp", &headers, "").await;
        assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (400, json!(-32022)), "{version}");
    }
    upstream.assert_silent();
    assert_eq!(client.send("GET", "/story/mcp", &[LEGACY, ("mcp-session-id", &id)], "").await.status, 200);
}

#[tokio::test]
async fn k07_a_response_belongs_to_a_session_and_a_dead_revision_is_refused_by_name() {
    let (upstream, issuer) = (Upstream::start(with_session).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {"roots": []}}).to_string();
    assert_eq!(client.post(&[LEGACY], answer.clone()).await.status, 400, "nobody asked");
    let old = client.post(&[], initialize("2024-11-05")).await;
    assert_eq!((old.status, old.json()["error"]["code"].clone()), (400, json!(-32022)));
    let supported = old.json()["error"]["data"]["supported"].clone();
    assert_eq!(supported, json!(["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]));
    upstream.assert_silent();
    let id = session(&client, "2025-11-25").await;
    assert_eq!(client.post(&[LEGACY, ("mcp-session-id", &id)], answer).await.status, 202, "a session asked");
}

#[tokio::test]
async fn m05_equal_request_ids_of_two_clients_never_meet() {
    let slow = |request: &Request| {
        let who = request.header("x-portcullis-subject").join(",");
        let wait = if who == "alice" { Duration::from_millis(200) } else { Duration::ZERO };
        let result = json!({"content": [{"type": "text", "text": who}]});
        Answer::json(&json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": result})).after(wait)
    };
    let (upstream, issuer) = (Upstream::start(slow).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let (one, two) = (alice(&gateway, &issuer), with(&gateway, &issuer, json!({"sub": "bob"})));
    for _ in 0..5 {
        let (first, second) =
            tokio::join!(one.post(&[LEGACY], call("echo").to_string()), two.post(&[LEGACY], call("echo").to_string()));
        assert_eq!(first.json()["result"]["content"][0]["text"], "alice");
        assert_eq!(second.json()["result"]["content"][0]["text"], "bob");
    }
}
