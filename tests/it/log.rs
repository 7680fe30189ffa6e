//! The audit record: one line per request, every field as documented, and nothing that must not be told.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::own::{self, SECRET, policy};
use crate::support::{Client, Era, Gateway, Upstream, eventually, raw};

const RULES: &str = "rules:\n  - { allow: { tools: [\"*\"] } }\n  - { deny: { tools: [shut] } }\n";

async fn scene(installation: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::mcp(&["a"]).await;
    let story = policy("story", &upstream, RULES);
    let gateway = own::setup().installation(installation).policy("story", &story).start().await;
    (upstream, gateway)
}

fn records(gateway: &Gateway) -> Vec<Value> {
    gateway.log().into_iter().filter(|record| record["schema"] == "portcullis.audit/1").collect()
}

async fn wait_for_records(gateway: &Gateway, count: usize) -> Vec<Value> {
    eventually("the records", || Some(records(gateway)).filter(|records| records.len() >= count)).await
}

/// Replaces what differs from run to run.
fn steadied(mut record: Value, gateway: &Gateway) -> Value {
    let directory = gateway.directory().to_string_lossy().into_owned();
    for (field, is_right, shown) in [
        ("time", record["time"].as_u64().is_some_and(|time| time > 1_700_000_000_000), "MILLISECONDS"),
        ("request", record["request"].as_str().is_some_and(|id| id.len() >= 16), "ID"),
        ("token", record["token"].as_str().is_some_and(|token| token.len() == 16), "HASH"),
        ("duration", record["duration"].as_u64().is_some_and(|duration| duration > 0), "MICROSECONDS"),
    ] {
        assert!(is_right, "`{field}` is as documented: {record}");
        record[field] = json!(shown);
    }
    if let Some(rule) = record["rule"].as_str() {
        record["rule"] = json!(rule.replace(&directory, "DIR"));
    }
    record
}

#[tokio::test]
async fn a_record_says_who_asked_what_and_what_was_decided() {
    let (upstream, gateway) = scene("log: { claims: [team], arguments: [repo] }").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let client = own::client(&gateway, "story", json!({"team": "eng", "email": "alice@example.com"}))
        .header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    let refused = client.call_tool("shut", json!({"repo": "acme", "body": "private"})).await;
    assert_eq!(refused.status, 403);
    upstream.assert_silent();
    let record = wait_for_records(&gateway, 1).await.remove(0);
    assert_eq!(refused.header("x-request-id"), record["request"], "the client is told the id of the record");
    let expected = json!({
        "schema": "portcullis.audit/1", "time": "MILLISECONDS", "request": "ID", "trace": trace, "generation": 1,
        "address": "127.0.0.1", "service": "story", "issuer": "https://own.example.com", "subject": "alice",
        "client": "claude", "token": "HASH", "claims": {"team": "eng"}, "method": "tools/call", "target": "shut",
        "arguments": {"repo": "acme"}, "decision": "deny", "reason": "not-permitted", "detail": "a deny rule fits",
        "rule": "DIR/policies/story.yaml:7", "status": 403, "duration": "MICROSECONDS"
    });
    assert_eq!(steadied(record, &gateway), expected);

    assert_eq!(client.call_tool("a", json!({"repo": "acme", "body": "private"})).await.status, 200);
    let record = steadied(wait_for_records(&gateway, 2).await.remove(1), &gateway);
    assert_eq!((&record["decision"], &record["status"]), (&json!("permit"), &json!(200)));
    assert_eq!((&record["rule"], &record["reason"]), (&json!("DIR/policies/story.yaml:6"), &Value::Null));
}

#[tokio::test]
async fn arguments_are_logged_as_they_were_sent() {
    let (upstream, gateway) = scene("log: { arguments: [repo] }").await;
    let repo = json!({"$serde_json::private::RawValue": "\"acme\""});
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(client.call_tool("shut", json!({ "repo": repo })).await.status, 403);
    upstream.assert_silent();
    wait_for_records(&gateway, 1).await;
    // As text, for the reader of records would take the member for what it holds.
    let logged = format!("\"arguments\":{}", json!({ "repo": repo }));
    assert!(gateway.printed().contains(&logged), "{}", gateway.printed());
}

#[tokio::test]
async fn a_name_is_logged_up_to_a_kilobyte() {
    let (upstream, gateway) = scene("{}").await;
    let client = own::client(&gateway, "story", json!({})).era(Era::Legacy);
    let (longest, longer) = ("é".repeat(512), format!("a{}", "é".repeat(100_000)));
    for name in [&longest, &longer] {
        assert_eq!(client.call_tool(name, json!({})).await.status, 200, "the rule allows whatever is called");
    }
    assert_eq!(upstream.received()[1].json()["params"]["name"], longer, "and the server gets it whole");
    let records = wait_for_records(&gateway, 2).await;
    assert_eq!(records[0]["target"], longest);
    assert_eq!(records[1]["target"], format!("a{}", "é".repeat(511)), "whole characters");
}

#[tokio::test]
async fn every_request_has_one_record_and_what_is_none_has_an_event() {
    let (upstream, gateway) = scene("{}").await;
    let url = gateway.url("/story/mcp");
    let anonymous = Client::new(&url);
    let metadata = "/.well-known/oauth-protected-resource/story/mcp";
    assert_eq!(anonymous.call_tool("a", json!({})).await.status, 401);
    assert_eq!(anonymous.fetch(metadata).await.status, 200);
    assert_eq!(anonymous.fetch("/nowhere").await.status, 404);
    assert_eq!(Client::new(&url).host("elsewhere.example.com").call_tool("a", json!({})).await.status, 421);
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(client.post(&[], "not json").await.status, 400);
    let smuggled = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(raw(gateway.address(), smuggled).await.starts_with(b"HTTP/1.1 400"));
    upstream.assert_silent();
    assert_eq!(client.call_tool("a", json!({})).await.status, 200);

    let records = wait_for_records(&gateway, 6).await;
    let told: Vec<String> = records
        .iter()
        .map(|record| format!("{} {} {}", record["decision"], record["reason"], record["status"]).replace('"', ""))
        .collect();
    let expected = [
        "deny token-missing 401",
        "local null 200",
        "deny path-unknown 404",
        "deny host-unknown 421",
        "deny parse-error 400",
        "permit null 200",
    ];
    assert_eq!(told, expected, "one record for each, in their order");
    let event = gateway.wait_for_log(|record| record["fields"]["event"] == "malformed-request").await;
    assert_eq!((&event["level"], &event["fields"]["peer"]), (&json!("WARN"), &json!("127.0.0.1")), "{event}");
    let ids: BTreeSet<String> = records.iter().map(|record| record["request"].to_string()).collect();
    assert_eq!(ids.len(), records.len(), "every request has an id of its own");
}

#[tokio::test]
async fn no_token_secret_claim_or_argument_is_told_that_is_not_listed() {
    let (upstream, gateway) = scene("{}").await;
    let url = gateway.url("/story/mcp");
    let good = own::token(&url, json!({"email": "alice@example.com"}));
    let forged = own::signed(own::OTHER_SECRET, &url, json!({"email": "mallory@example.com"}));
    let malformed = "eyJ.not.a-token";
    for (token, status) in [(good.as_str(), 200), (&forged, 401), (malformed, 401)] {
        let reply = Client::new(&url).token(token).call_tool("a", json!({"password": "hunter2"})).await;
        assert_eq!(reply.status, status);
        let said = format!("{:?}{}", reply.headers, String::from_utf8_lossy(&reply.body));
        assert!(!said.contains(token), "no answer repeats a token: {said}");
    }
    let in_the_query = format!("/story/mcp?access_token={good}");
    assert_eq!(Client::new(&url).send("POST", &in_the_query, &[], "{}").await.status, 400);
    assert_eq!(upstream.received().len(), 1, "only the good one passed");
    wait_for_records(&gateway, 4).await;
    let printed = gateway.printed();
    for secret in [&good, &forged, malformed, SECRET, "hunter2", "alice@example.com", "mallory@example.com"] {
        assert!(!printed.contains(secret), "`{secret}` is in the log: {printed}");
    }
    let signature = good.rsplit('.').next().expect("a signature");
    assert!(!printed.contains(signature), "nor any part of a token that could be used");
}

#[tokio::test]
async fn what_a_client_names_cannot_break_a_line() {
    let (upstream, gateway) = scene("{}").await;
    let evil = "x\n{\"schema\":\"portcullis.audit/1\",\"decision\":\"permit\"}\u{1b}[31m\r\u{2028}";
    let client = own::client(&gateway, "story", json!({"sub": evil})).era(crate::support::Era::Legacy);
    assert_eq!(client.call_tool("shut", json!({})).await.status, 403, "the subject is odd, and known");
    upstream.assert_silent();
    assert_eq!(client.call_tool(evil, json!({})).await.status, 200, "so is the name of the tool");
    let records = wait_for_records(&gateway, 2).await;
    assert_eq!(records.len(), 2, "two requests, two lines: {records:?}");
    assert_eq!((&records[0]["subject"], &records[1]["target"]), (&json!(evil), &json!(evil)), "kept as they are");
    let printed = gateway.printed();
    assert!(!printed.contains('\u{1b}') && !printed.contains('\r'), "no control character reaches a terminal");
}

#[test]
fn every_field_of_the_record_is_documented() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("the README");
    let section = readme.split("## The audit record").nth(1).and_then(|rest| rest.split("\n## ").next());
    let section = section.expect("the section about the record");
    let fields = [
        "schema",
        "time",
        "request",
        "trace",
        "generation",
        "address",
        "service",
        "issuer",
        "subject",
        "client",
        "token",
        "claims",
        "method",
        "target",
        "arguments",
        "decision",
        "reason",
        "detail",
        "rule",
        "undecided",
        "status",
        "duration",
    ];
    for field in fields {
        let named = section.contains(&format!("`{field}`")) || section.contains(&format!("\"{field}\":"));
        assert!(named, "README says what `{field}` is");
    }
}
