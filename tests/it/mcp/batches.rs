//! Batches, which only sessions of 2025-03-26 have.

use std::time::Duration;

use serde_json::{Value, json};

use super::{UPSTREAM_SESSION, alice, request, session, setup};
use crate::support::upstream::Request;
use crate::support::{Answer, Issuer, Upstream};

const OLD: &str = "2025-03-26";
const RULES: &str = "rules: [{ allow: { tools: [echo] } }]\nlimits: [{ rate: 5/hour, per: subject }]";

fn answer_to(message: &Value) -> Value {
    let result = match message["method"].as_str() {
        Some("initialize") => json!({"protocolVersion": message["params"]["protocolVersion"], "capabilities": {}}),
        Some("tools/list") => json!({"tools": [{"name": "echo"}, {"name": "drop"}]}),
        Some("prompts/list") => json!({"prompts": [{"name": "hidden"}]}),
        _ => json!({"content": [{"type": "text", "text": message["params"]["name"]}]}),
    };
    json!({"jsonrpc": "2.0", "id": message["id"], "result": result})
}

/// Answers a batch with a batch: its calls by their names, its lists by two tools.
fn answers(request: &Request) -> Answer {
    let body = match request.json() {
        Value::Array(messages) => messages.iter().map(answer_to).collect(),
        message => answer_to(&message),
    };
    Answer::json(&body).header("mcp-session-id", UPSTREAM_SESSION)
}

fn call(id: u64, name: &str) -> Value {
    request(id, "tools/call", &json!({"name": name, "arguments": {}}))
}

#[tokio::test]
async fn k06_batches_belong_to_sessions_that_negotiated_them() {
    let (upstream, issuer) = (Upstream::start(answers).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let (old, new) = (session(&client, OLD).await, session(&client, "2025-11-25").await);
    upstream.forget();
    let batch = json!([call(1, "echo"), request(2, "tools/list", &json!({})), request(3, "prompts/list", &json!({}))]);
    let modern = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    for (why, headers, body) in [
        ("no session", vec![], batch.clone()),
        ("a newer session", vec![("mcp-session-id", new.as_str())], batch.clone()),
        (
            "a newer session that says otherwise",
            vec![("mcp-session-id", &new), ("mcp-protocol-version", OLD)],
            batch.clone(),
        ),
        ("a newer header", vec![("mcp-session-id", &old), ("mcp-protocol-version", "2025-06-18")], batch.clone()),
        ("a modern element", vec![("mcp-session-id", &old)], json!([request(1, "ping", &json!({"_meta": modern}))])),
        ("no element", vec![("mcp-session-id", &old)], json!([])),
        ("51 elements", vec![("mcp-session-id", &old)], (0..51).map(|id| request(id, "ping", &json!({}))).collect()),
        ("no message", vec![("mcp-session-id", &old)], json!([1])),
        ("a batch in a batch", vec![("mcp-session-id", &old)], json!([[call(1, "echo")]])),
    ] {
        let reply = client.post(&headers, body.to_string()).await;
        assert_eq!(reply.status, 400, "{why}: {reply:?}");
    }
    let refused = client.post(&[("mcp-session-id", &old)], json!([call(1, "echo"), call(2, "drop")]).to_string()).await;
    assert_eq!((refused.status, refused.json()["id"].clone()), (403, json!(2)), "one refused refuses all");
    upstream.assert_silent();

    let reply = client.post(&[("mcp-session-id", &old)], batch.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answers = reply.json();
    assert_eq!(answers[0]["result"]["content"][0]["text"], "echo");
    assert_eq!(answers[1]["result"]["tools"], json!([{"name": "echo"}]), "lists within a batch are cut too");
    assert_eq!(answers[2]["result"]["prompts"], json!([]));
    assert_eq!(upstream.received().len(), 1, "a batch goes on as one");
    assert_eq!(upstream.received()[0].body, batch.to_string().into_bytes(), "byte for byte");
}

#[tokio::test]
async fn k06_k12_several_messages_in_one_event_are_judged_one_by_one() {
    let events = |request: &Request| {
        let Value::Array(messages) = request.json() else { return answers(request) };
        let updated =
            json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "repo://b/x"}});
        let asked = json!({"jsonrpc": "2.0", "id": 9, "method": "roots/list"});
        let asked = if messages.len() > 2 { vec![asked] } else { vec![] };
        let all: Vec<Value> = asked.into_iter().chain(messages.iter().map(answer_to)).collect();
        Answer::sse(&[json!([updated]), Value::Array(all)], Duration::ZERO)
    };
    let upstream = Upstream::start(events).await;
    let issuer = Issuer::start().await;
    let rules = "rules: [{ allow: { tools: [echo] } }]\nserver_requests: { roots: false }";
    let gateway = setup(&upstream, &issuer, rules).await.start().await;
    let client = alice(&gateway, &issuer);
    let id = session(&client, OLD).await;
    let headers = [("mcp-session-id", id.as_str())];
    let batch = json!([call(1, "echo"), request(2, "tools/list", &json!({}))]);
    let reply = client.post(&headers, batch.to_string()).await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("\"text\":\"echo\"") && text.contains("[{\"name\":\"echo\"}]"), "{text}");
    assert!(!text.contains("drop") && !text.contains("repo://b/x"), "what the caller may not have is cut: {text}");

    let batch = json!([call(1, "echo"), request(2, "tools/list", &json!({})), call(3, "echo")]);
    let reply = client.post(&headers, batch.to_string()).await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("\"error\":{\"code\":403") && !text.contains("roots/list"), "{text}");
}

#[tokio::test]
async fn k06_every_call_of_a_batch_counts_and_a_refused_batch_costs_nothing() {
    let (upstream, issuer) = (Upstream::start(answers).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let id = session(&client, OLD).await;
    upstream.forget();
    let batch = |size: u64| Value::Array((0..size).map(|id| call(id, "echo")).collect()).to_string();
    let headers = [("mcp-session-id", id.as_str())];
    let send = |size| client.post(&headers, batch(size));
    assert_eq!(send(6).await.status, 429, "six are more than five");
    upstream.assert_silent();
    assert_eq!(send(4).await.status, 200, "what was refused was not counted");
    assert_eq!(send(2).await.status, 429, "one is left");
    assert_eq!(send(1).await.status, 200);
    assert_eq!(send(1).await.status, 429);
    assert_eq!(upstream.received().len(), 2);
}
