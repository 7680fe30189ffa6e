//! Lists over the wire: cut to what the caller may use, otherwise left as they were.

use std::time::Duration;

use serde_json::{Value, json};

use super::{INSTALLATION, Scene, policy};
use crate::support::{Answer, Client, Era, Gateway, Issuer, Upstream};

const RULES: &str = "scopes: { more: {} }\nrules:\n  - allow: { tools: [get_*], resources: [\"repo://**\"], prompts: [review] }\n\
\x20 - allow: { tools: [create_issue] }\n    scopes: [more]\n  - deny: { tools: [get_secret] }\n";
/// A page of tools with members that no gateway knows, and an odd way of writing them.
const TOOLS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{ "tools" : [{"name":"get_a","x-new":{"deep":[1.10]}},{"name":"delete_a"},
{"name":"get_secret"},{"title":"\u00e9","name":"get\u005fb"},{"name":"create_issue"}],"nextCursor":"c\/2","ttlMs":60000,"cacheScope":"public","x-unknown":9007199254740993}}"#;

/// Answers lists in the framing that the cursor asks for.
async fn scene() -> Scene {
    let upstream = Upstream::start(|request| {
        let message = request.json();
        let text = match message["method"].as_str() {
            Some("tools/list") => TOOLS.to_owned(),
            Some("prompts/list") => json!({"jsonrpc": "2.0", "id": 1, "result": {"prompts": [{"name": "other"}, {"name": "review"}]}}).to_string(),
            Some("resources/list") => json!({"jsonrpc": "2.0", "id": 1, "result": {"resources": [
                {"name": "a", "uri": "repo://a/b"}, {"name": "b", "uri": "file:///b"}, {"name": "c", "uri": "repo://c"}]}})
            .to_string(),
            _ => json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string(),
        };
        let json = || Answer::status(200).header("content-type", "application/json");
        let events = || Answer::status(200).header("content-type", "text/event-stream");
        let line = text.replace('\n', "");
        let event = format!(": hello\nid: 7\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{}}}}\n\nevent: message\nid: 8\ndata: {line}\n\n");
        match message["params"]["cursor"].as_str() {
            Some("events") => events().body(event),
            Some("lines") => events().body(event.replace('\n', "\r\n").replace("data: {\"jsonrpc\":\"2.0\",\"id\"", "data: {\r\ndata: \"jsonrpc\":\"2.0\",\"id\"")),
            Some("bytes") => event.bytes().fold(events(), |answer, byte| answer.piece(Duration::ZERO, vec![byte])),
            Some("pieces") => text.as_bytes().chunks(3).fold(json(), |answer, piece| answer.piece(Duration::ZERO, piece.to_vec())),
            Some("gzip") => json().header("content-encoding", "gzip").body(text),
            Some("broken") => json().body("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[{\"name\":\"delete_a\"}"),
            Some("twice") => json().body(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"delete_a"}]}}"#),
            Some("alike") => json().body(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"Tools":[{"name":"delete_a"}]}}"#),
            Some("nameless") => json().body(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"title":"delete_a"}]}}"#),
            Some("html") => Answer::status(200).header("content-type", "text/html").body("<p>delete_a</p>"),
            Some("huge") => json().body(text.replace("delete_a", &"delete_a".repeat(20_000))),
            Some("hugeevent") => events().body(event.replace("delete_a", &"delete_a".repeat(20_000))),
            Some("error") => json().body(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"delete_a"}}"#),
            _ => json().body(text),
        }
    })
    .await;
    let issuer = Issuer::start().await;
    let text = policy(&upstream, &issuer, RULES).replace("/mcp\" }", "/mcp\", limits: { list: 64KiB } }");
    let setup = Gateway::new().policy("wire", &text).installation(INSTALLATION);
    Scene::start(upstream, issuer, setup).await
}

#[tokio::test]
async fn k10_a_list_is_cut_per_token_in_every_framing() {
    let scene = scene().await;
    let url = scene.gateway.url("/wire/mcp");
    let more = scene.issuer.token(&url, json!({"scope": "more"}));
    for era in [Era::Legacy, Era::Modern] {
        for framing in ["json", "pieces", "events", "lines", "bytes"] {
            for (token, expected) in
                [(&scene.token, vec!["get_a", "get_b"]), (&more, vec!["get_a", "get_b", "create_issue"])]
            {
                let client = Client::new(&url).token(token).era(era);
                let reply = client.request("tools/list", json!({"cursor": framing})).await;
                assert_eq!(reply.status, 200, "{era:?} {framing}: {reply:?}");
                let text = String::from_utf8_lossy(&reply.body).into_owned();
                let message: Value = if reply.header("content-type") == "application/json" {
                    reply.json()
                } else {
                    let last = text.split("event: message").last().unwrap_or_default();
                    let data: Vec<&str> = last.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
                    assert!(text.contains("notifications/progress"), "other events pass: {text}");
                    serde_json::from_str(&data.join("\n")).expect("an event with one message")
                };
                let names: Vec<_> =
                    message["result"]["tools"].as_array().into_iter().flatten().map(|tool| &tool["name"]).collect();
                assert_eq!(names, expected, "{era:?} {framing}: in their order");
                for hidden in ["delete_a", "get_secret"] {
                    assert!(!text.contains(hidden), "{era:?} {framing}: no trace of {hidden}: {text}");
                }
                for kept in [
                    r#""x-new":{"deep":[1.10]}"#,
                    r#""nextCursor":"c\/2""#,
                    r#""x-unknown":9007199254740993"#,
                    r#""title":"\u00e9""#,
                ] {
                    assert!(text.contains(kept), "{era:?} {framing}: {kept} is left as it was: {text}");
                }
                let scope = if era == Era::Modern { "private" } else { "public" };
                assert_eq!(message["result"]["cacheScope"], scope, "{era:?} {framing}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn k10_every_kind_of_list_is_cut_and_marked_private() {
    let scene = scene().await;
    let client = scene.client();
    let prompts = client.list("prompts").await;
    assert_eq!(prompts.names("prompts"), ["review"], "{prompts:?}");
    assert_eq!(prompts.json()["result"]["cacheScope"], "private", "also where the upstream says nothing");
    assert_eq!(client.list("resources").await.names("resources"), ["a", "c"], "resources are judged by their URI");
}

#[tokio::test]
async fn k10_what_is_listed_is_what_may_be_called() {
    let scene = scene().await;
    let listed = scene.client().list("tools").await.names("tools");
    for tool in ["get_a", "delete_a", "get_secret", "get_b", "create_issue"] {
        scene.upstream.forget();
        let reply = scene.client().call_tool(tool, json!({})).await;
        assert_eq!(reply.status == 200, listed.contains(&tool.to_owned()), "{tool}: {reply:?}");
        assert_eq!(scene.upstream.received().len(), usize::from(reply.status == 200), "{tool}");
    }
}

#[tokio::test]
async fn k10_a_list_that_cannot_be_read_is_withheld() {
    let scene = scene().await;
    for framing in ["broken", "twice", "alike", "nameless", "html", "gzip", "huge", "hugeevent"] {
        let mut socket = super::Socket::connect(scene.gateway.address()).await;
        let body = super::BODY
            .replace("tools/call", "tools/list")
            .replace("\"name\":\"echo\"", &format!("\"cursor\":\"{framing}\""));
        let request =
            super::GOOD.replace("Content-Length: 71", &format!("Connection: close\r\nContent-Length: {}", body.len()));
        socket.send(scene.filled(&request.replace(super::BODY, &body)).as_bytes()).await;
        let said = socket.until_closed(framing).await;
        assert!(!said.0.contains("delete_a"), "{framing}: a list that nobody judged must not pass: {said:?}");
        let whole_success = said.is(200) && said.0.contains("\"result\"");
        assert!(!whole_success, "{framing}: it must not look like a good list: {said:?}");
    }
    let coded = scene.client().request("tools/list", json!({"cursor": "gzip"})).await;
    assert_eq!((coded.status, coded.json()["id"].clone()), (502, json!(1)), "{coded:?}");
    // An error of the upstream holds no list: it passes.
    let error = scene.client().request("tools/list", json!({"cursor": "error"})).await;
    assert_eq!((error.status, error.json()["error"]["code"].clone()), (200, json!(-32000)), "{error:?}");
    assert_eq!(scene.client().list("tools").await.names("tools"), ["get_a", "get_b"], "a good list passes");
}
