//! What a server may ask the client for: sampling, roots and questions to the person, in both eras and every framing.

use std::time::Duration;

use serde_json::{Value, json};

use super::{UPSTREAM_SESSION, alice, request, session, setup};
use crate::support::upstream::Request;
use crate::support::{Answer, Era, Issuer, Upstream};

const RULES: &str = "rules: [{ allow: { tools: [ask], resources: [\"repo://a/**\"] } }]\n";
const CLOSED: &str =
    "server_requests: { sampling: false, roots: false, elicitation: { form: false, url: [accounts.example.com] } }";

/// The wishes, each with whether the closed policy allows it.
fn wishes() -> Vec<(&'static str, Value, bool)> {
    let visit = |url: &str| json!({"mode": "url", "message": "m", "url": url, "elicitationId": "e"});
    vec![
        ("sampling/createMessage", json!({"messages": [], "maxTokens": 1}), false),
        ("roots/list", json!({}), false),
        ("elicitation/create", json!({"message": "m", "requestedSchema": {"type": "object", "properties": {}}}), false),
        ("elicitation/create", visit("https://accounts.example.com/sign-in"), true),
        ("elicitation/create", visit("https://accounts.example.com.evil.example/"), false),
        ("elicitation/create", visit("http://accounts.example.com/"), false),
        ("elicitation/create", visit("https://accounts.example.com@evil.example/"), false),
        ("elicitation/create", visit("https://Accounts.example.com:8443/x?a=b#c"), true),
        ("elicitation/create", visit("https://accounts.example.com\\.evil.example/"), false),
        ("elicitation/create", visit("https:///accounts.example.com/"), false),
        ("elicitation/create", visit("https://accounts.\texample.com/"), false),
        ("elicitation/create", visit("https://accounts%2eexample.com/"), false),
        ("elicitation/create", visit("javascript:alert(1)"), false),
    ]
}

/// A server that asks as the tool's arguments tell it, and then answers.
fn asks(request: &Request) -> Answer {
    let message = request.json();
    let (id, how) = (&message["id"], &message["params"]["arguments"]);
    let wish = json!({"method": how["method"], "params": how["params"]});
    let done = json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete", "content": []}});
    let input = json!({"resultType": "input_required", "inputRequests": {"a": wish}, "requestState": "s"});
    let input = json!({"jsonrpc": "2.0", "id": id, "result": input});
    match (message["method"].as_str(), how["form"].as_str()) {
        (Some("initialize"), _) => {
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
            Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
                .header("mcp-session-id", UPSTREAM_SESSION)
        }
        (_, Some("legacy")) => {
            let asked = json!({"jsonrpc": "2.0", "id": "s-1", "method": wish["method"], "params": wish["params"]});
            Answer::sse(&[asked, done], Duration::ZERO)
        }
        (_, Some("json")) => Answer::json(&input),
        _ => Answer::sse(&[input], Duration::ZERO),
    }
}

#[tokio::test]
async fn k12_a_server_asks_only_for_what_the_policy_lets_it_have() {
    let (upstream, issuer) = (Upstream::start(asks).await, Issuer::start().await);
    let closed = super::policy(&upstream, &issuer, &format!("{RULES}{CLOSED}"));
    let setup =
        setup(&upstream, &issuer, &format!("{RULES}server_requests: {{ elicitation: {{ url: [\"*\"] }} }}")).await;
    let gateway =
        setup.policy("closed", &closed.replace("service: story", "service: closed").replace("/story/", "/closed/"));
    let gateway = gateway.start().await;
    let url = gateway.url("/closed/mcp");
    for (method, params, allowed) in wishes() {
        for form in ["legacy", "json", "sse"] {
            let era = if form == "legacy" { Era::Legacy } else { Era::Modern };
            let arguments = json!({"form": form, "method": method, "params": params});
            let closed = crate::support::Client::new(&url).token(&issuer.token(&url, json!({}))).era(era);
            let reply = closed.call_tool("ask", arguments.clone()).await;
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            let asked = text.contains(&format!("\"{method}\""));
            assert_eq!(asked, allowed, "{method} {params} as {form}: {text}");
            if !allowed {
                assert_eq!(
                    reply.json()["error"]["code"],
                    403,
                    "{method} as {form}: the call ends with an error: {text}"
                );
                assert_eq!(reply.json()["id"], 1, "{text}");
                assert!(!text.contains("\"content\""), "nothing follows: {text}");
                assert_eq!(reply.status, if form == "json" { 403 } else { 200 }, "{form}");
            }
            let open = alice(&gateway, &issuer).era(era).call_tool("ask", arguments).await;
            let expected = !params["url"].as_str().is_some_and(|url| !url.starts_with("https://") || url.contains('@'));
            let text = String::from_utf8_lossy(&open.body).into_owned();
            assert_eq!(text.contains(&format!("\"{method}\"")), expected, "open: {method} {params} as {form}: {text}");
        }
    }
}

#[tokio::test]
async fn k12_a_wish_beside_an_error_is_withheld_as_one_alone_is() {
    let answer = |request: &Request| {
        let message = request.json();
        let wish = json!({"a": {"method": "roots/list"}});
        let mut answer = json!({"jsonrpc": "2.0", "id": message["id"]});
        let result = json!({"resultType": "input_required", "inputRequests": wish, "requestState": "s"});
        match message["params"]["arguments"]["form"].as_str() {
            Some("result") => answer["result"] = json!({"resultType": "complete", "content": []}),
            Some("null") => (answer["result"], answer["error"]) = (result, Value::Null),
            _ => (answer["result"], answer["error"]) = (result, json!({"code": 1, "message": "m"})),
        }
        Answer::json(&answer)
    };
    let (upstream, issuer) = (Upstream::start(answer).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, &format!("{RULES}{CLOSED}")).await.start().await;
    let client = alice(&gateway, &issuer).era(Era::Modern);
    for (form, status) in [("result", 200), ("null", 502), ("both", 502)] {
        let reply = client.call_tool("ask", json!({"form": form})).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!((reply.status, text.contains("roots/list")), (status, false), "{form}: {text}");
    }
}

#[tokio::test]
async fn k12_a_session_stream_drops_what_the_caller_may_not_have() {
    let events = |request: &Request| match request.method.as_str() {
        "GET" => {
            let updated = |uri: &str| json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
            let asked = json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"});
            let tasks = json!({"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": {"taskId": "t"}});
            let last = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "last"}});
            let all = [updated("repo://a/x"), updated("repo://b/x"), updated("repo://a/../b"), asked, tasks, last];
            Answer::sse(&all, Duration::ZERO)
        }
        _ => asks(request),
    };
    let (upstream, issuer) = (Upstream::start(events).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, &format!("{RULES}{CLOSED}")).await.start().await;
    let client = alice(&gateway, &issuer);
    let id = session(&client, "2025-11-25").await;
    let headers = [("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", id.as_str())];
    let reply = client.send("GET", "/story/mcp", &headers, "").await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("repo://a/x") && text.contains("last"), "{text}");
    for hidden in ["repo://b/x", "..", "roots/list", "tasks/status"] {
        assert!(!text.contains(hidden), "{hidden} is not for this caller: {text}");
    }
}

#[tokio::test]
async fn k12_retries_of_a_call_are_judged_like_the_first() {
    let (upstream, issuer) = (Upstream::start(asks).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let retry = |name: &str| json!({"name": name, "arguments": {"form": "json", "method": "roots/list", "params": {}}, "inputResponses": {"a": {}}, "requestState": "s"});
    assert_eq!(client.request("tools/call", retry("drop")).await.status, 403);
    upstream.assert_silent();
    assert_eq!(client.request("tools/call", retry("ask")).await.status, 200);
    let legacy = request(1, "tools/call", &retry("drop")).to_string();
    assert_eq!(client.post(&[], legacy).await.status, 403);
}
