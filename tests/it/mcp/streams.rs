//! Event streams: nothing is held back, and none lasts longer than it may.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{UPSTREAM_SESSION, alice, request, session, setup, with};
use crate::support::client::{End, Stream};
use crate::support::issuer::now;
use crate::support::upstream::Request;
use crate::support::{Answer, Client, Issuer, Upstream, eventually};

const RULES: &str = "rules: [{ allow: { tools: [watch] } }]";
const LEGACY: (&str, &str) = ("mcp-protocol-version", "2025-11-25");
/// A stream ends within five seconds of what ends it; a busy machine gets three times that.
const PROMISED: Duration = Duration::from_secs(15);

fn note(text: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": text}})
}

/// Two events, two seconds apart, and then silence for ever.
fn waits(request: &Request) -> Answer {
    if request.json()["method"] == "initialize" {
        let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
        let answer = json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": result});
        return Answer::json(&answer).header("mcp-session-id", UPSTREAM_SESSION);
    }
    Answer::sse(&[note("first")], Duration::ZERO)
        .piece(Duration::from_secs(2), format!("data: {}\n\n", note("second")))
        .then_waits()
}

fn call() -> Value {
    request(1, "tools/call", &json!({"name": "watch", "arguments": {}}))
}

async fn modern_call(client: &Client) -> Stream {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}
    });
    let message = request(1, "tools/call", &json!({"name": "watch", "arguments": {}, "_meta": meta}));
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "watch")];
    client.open_call(&headers, &message).await
}

#[tokio::test]
async fn m06_an_event_passes_when_it_comes_and_a_client_that_leaves_ends_the_upstreams_work() {
    let (upstream, issuer) = (Upstream::start(waits).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let id = session(&client, "2025-11-25").await;
    for (cut, what) in ["legacy POST", "modern POST", "legacy GET"].into_iter().enumerate() {
        let started = Instant::now();
        let mut stream = match what {
            "legacy POST" => client.open_call(&[LEGACY], &call()).await,
            "modern POST" => modern_call(&client).await,
            _ => client.open("GET", &[LEGACY, ("mcp-session-id", &id)], "").await,
        };
        assert_eq!(stream.status, 200, "{what}");
        assert_eq!(stream.header("x-accel-buffering"), "no", "{what}");
        stream.until("first").await;
        assert!(!stream.text.contains("second"), "{what}: the second event was not there yet");
        assert!(started.elapsed() < Duration::from_secs(2), "{what}: the first event did not wait for the second");
        stream.until("second").await;
        assert_eq!(upstream.cut_off(), cut, "{what}: the upstream still works for the client");
        drop(stream);
        eventually("the upstream to be told", || (upstream.cut_off() == cut + 1).then_some(())).await;
    }
}

#[tokio::test]
async fn m07_a_silent_head_and_a_silent_stream_reach_the_client() {
    let silent = |_: &Request| Answer::status(200).header("content-type", "text/event-stream").then_waits();
    let (upstream, issuer) = (Upstream::start(silent).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let started = Instant::now();
    let mut stream = alice(&gateway, &issuer).open_call(&[LEGACY], &call()).await;
    assert!(started.elapsed() < Duration::from_secs(5), "the head does not wait for an event");
    stream.until(":").await;
    stream.text.clear();
    stream.until(":\n\n").await;
    assert!(started.elapsed() < Duration::from_secs(60), "m07: silence is filled with comments");
}

#[tokio::test]
async fn m04_a_stream_ends_with_its_token() {
    let (upstream, issuer) = (Upstream::start(waits).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let (lasting, brief) = (alice(&gateway, &issuer), with(&gateway, &issuer, json!({"exp": now() + 4})));
    let started = Instant::now();
    let (mut one, mut other) = (lasting.open_call(&[LEGACY], &call()).await, brief.open_call(&[LEGACY], &call()).await);
    let mut modern = modern_call(&brief).await;
    assert_eq!(other.end().await, End::Orderly, "the client sees the end of a stream and asks anew");
    assert_eq!(modern.end().await, End::Orderly);
    let took = started.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(4) + PROMISED, "{took:?}");
    assert!(other.text.contains("second"), "until then nothing was lost");
    eventually("the upstream to be told", || (upstream.cut_off() == 2).then_some(())).await;
    one.until("second").await;
    gateway.wait_for_log(|record| record["reason"] == "token-expired" && record["status"] == 200).await;
}

#[tokio::test]
async fn m04_a_stream_ends_when_no_policy_permits_it_and_only_then() {
    let (upstream, issuer) = (Upstream::start(waits).await, Issuer::start().await);
    let policy = |rest: &str| super::policy(&upstream, &issuer, rest);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let id = session(&client, "2025-11-25").await;
    let mut posted = client.open_call(&[LEGACY], &call()).await;
    let mut waiting = client.open("GET", &[LEGACY, ("mcp-session-id", &id)], "").await;
    posted.until("second").await;
    waiting.until("second").await;

    gateway.write_policy("story", &policy("rules: [{ allow: { tools: [watch, other] } }]"));
    gateway.wait_for_log(|record| record["fields"]["event"] == "reloaded").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(upstream.cut_off(), 0, "a policy that still permits it ends nothing");

    let changed = Instant::now();
    gateway.write_policy("story", &policy("rules: [{ allow: { tools: [other] } }]"));
    assert_eq!(posted.end().await, End::Orderly);
    assert!(changed.elapsed() < PROMISED, "{:?}", changed.elapsed());
    eventually("the upstream to be told", || (upstream.cut_off() == 1).then_some(())).await;
    assert_eq!(client.open_call(&[LEGACY], &call()).await.status, 403, "and none is opened any more");

    gateway.write_policy("story", &policy("rules: []"));
    assert_eq!(waiting.end().await, End::Orderly, "a service that allows nothing has no session streams");
}

#[tokio::test]
async fn o08_a_client_that_does_not_read_costs_no_memory() {
    let flood = |_: &Request| {
        let event = format!("data: {}\n\n", note(&"x".repeat(60_000)));
        let start = Answer::status(200).header("content-type", "text/event-stream");
        (0..2000).fold(start, |answer, _| answer.piece(Duration::ZERO, event.clone()))
    };
    let (upstream, issuer) = (Upstream::start(flood).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let mut warm = client.open_call(&[LEGACY], &call()).await;
    assert_eq!(warm.end().await, End::Orderly);
    let resident = || {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", gateway.pid())).expect("a running process");
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
    };
    let before = resident();
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = client.open_call(&[LEGACY], &call()).await;
        stream.until("xxx").await;
        streams.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "1.2 GB wait for clients that do not read, and {grown} bytes of it in the gateway");
}

#[tokio::test]
async fn m06_a_stream_that_breaks_off_upstream_does_not_end_in_good_order() {
    let breaks = |_: &Request| Answer::sse(&[note("first")], Duration::ZERO).then_breaks();
    let (upstream, issuer) = (Upstream::start(breaks).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let mut stream = alice(&gateway, &issuer).open_call(&[LEGACY], &call()).await;
    assert_eq!(stream.end().await, End::Broken);
    assert!(stream.text.contains("first") && !stream.text.contains("error"), "nothing is invented: {}", stream.text);
    assert_eq!(upstream.received().len(), 1, "and nothing is tried again");
}
