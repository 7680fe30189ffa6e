//! Lists in every framing: each is cut to what the caller may use, and nothing else of it changes.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use super::{alice, setup};
use crate::support::upstream::Request;
use crate::support::{Answer, Era, Issuer, Upstream};

const RULES: &str = "rules: [{ allow: { tools: [echo], resources: [\"repo://a/**\"] } }]";
const LIST: &str = r#"{ "jsonrpc":"2.0","id":1, "result":{"resultType":"complete","tools":[{"name":"drop","x":1.0},{"name":"echo","d":"h\u00e9 é","n":9007199254740993}],"nextCursor":"p2","other":[1, 2],"ttlMs":5,"cacheScope":"public"}}"#;
const CUT: &str = r#"{ "jsonrpc":"2.0","id":1, "result":{"resultType":"complete","tools":[{"name":"echo","d":"h\u00e9 é","n":9007199254740993}],"nextCursor":"p2","other":[1, 2],"ttlMs":5,"cacheScope":"private"}}"#;

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

/// An answer in small pieces, so that characters and lines are cut.
fn cut(kind: &str, body: &[u8], size: usize) -> Answer {
    let start = Answer::status(200).header("content-type", kind);
    body.chunks(size).fold(start, |answer, piece| answer.piece(Duration::ZERO, piece.to_vec()))
}

/// The answer that the cursor of the request numbers.
fn pick(answers: &[Answer], request: &Request) -> Answer {
    let number = request.json()["params"]["cursor"].as_str().and_then(|cursor| cursor.parse::<usize>().ok());
    answers[number.expect("a number")].clone()
}

#[tokio::test]
async fn k10_lists_are_cut_in_every_framing() {
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;
    let (first, second) = LIST.split_at(24);
    let sse = [
        format!("data: {LIST}\n\n"),
        format!(": hello\r\n\r\nid: 1\r\ndata: {progress}\r\n\r\nevent: message\r\ndata: {LIST}\r\n\r\n"),
        format!("data:{first}\rdata:{second}\r\r"),
        format!("id: 1\ndata:\n\ndata: {LIST}"),
    ];
    let json = "application/json; charset=utf-8";
    let mut framings = vec![
        cut(json, LIST.as_bytes(), LIST.len()),
        cut(json, LIST.as_bytes(), 7),
        cut(json, &gzipped(LIST.as_bytes()), 5).header("content-encoding", "gzip"),
    ];
    for stream in &sse {
        framings.push(cut("text/event-stream", stream.as_bytes(), stream.len()));
        framings.push(cut("text/event-stream", stream.as_bytes(), 3));
        framings.push(cut("text/event-stream", &gzipped(stream.as_bytes()), 9).header("content-encoding", "gzip"));
    }
    let count = framings.len();
    let (upstream, issuer) = (Upstream::start(move |request| pick(&framings, request)).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    for number in 0..count {
        let reply = client.request("tools/list", json!({"cursor": number.to_string()})).await;
        assert_eq!(reply.status, 200, "framing {number}: {reply:?}");
        let text = String::from_utf8(reply.body.to_vec()).expect("text");
        assert!(!text.contains("\"drop\"") && !text.contains("public"), "framing {number}: {text}");
        let whole: String = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
        let whole = if reply.header("content-type").starts_with("text/") { whole } else { text };
        assert!(whole.replace(progress, "").trim() == CUT, "framing {number}: {whole}");
        assert_eq!(reply.header("content-encoding"), "");
    }
}

#[tokio::test]
async fn k10_what_cannot_be_read_as_a_list_never_arrives() {
    let secret = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"drop"}],"tools":[]}}"#;
    let cases = [
        (Answer::status(200).header("content-type", "application/json").body(secret), 502),
        (Answer::status(200).header("content-type", "application/json").body(&secret[..30]), 502),
        (Answer::status(200).header("content-type", "application/json").body(gzipped(secret.as_bytes())), 502),
        (
            Answer::status(200).header("content-type", "application/json").header("content-encoding", "br").body("x"),
            502,
        ),
        (Answer::status(200).header("content-type", "text/plain").body(LIST), 502),
        (Answer::status(200).header("content-type", "text/event-stream").body(format!("data: {secret}\n\n")), 200),
    ];
    let (answers, statuses): (Vec<Answer>, Vec<u16>) = cases.into_iter().unzip();
    let (upstream, issuer) = (Upstream::start(move |request| pick(&answers, request)).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    for (number, status) in statuses.into_iter().enumerate() {
        let reply = client.request("tools/list", json!({"cursor": number.to_string()})).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(!text.contains("drop"), "{text}");
        assert_eq!(reply.json()["id"], 1, "the client is told which request failed: {text}");
        assert_eq!(reply.json()["error"]["code"], 502, "{text}");
    }
}

#[tokio::test]
async fn k08_a_discovery_offers_what_the_gateway_can_judge() {
    let versions = json!(["2031-01-01", "2026-07-28", "2025-11-25"]);
    let upstream = Upstream::start(move |request| {
        let result = json!({"resultType": "complete", "supportedVersions": versions, "capabilities": {}});
        Answer::json(&json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": result}))
    });
    let (upstream, issuer) = (upstream.await, Issuer::start().await);
    let policy = format!("{RULES}\nrevisions: [\"2026-07-28\"]");
    let gateway = setup(&upstream, &issuer, &policy).await.start().await;
    let client = alice(&gateway, &issuer).era(Era::Modern);
    let reply = client.request("server/discover", json!({})).await;
    assert_eq!(reply.json()["result"]["supportedVersions"], json!(["2026-07-28"]));
}

#[tokio::test]
async fn k11_a_list_is_made_anew_for_every_caller() {
    let rules = "scopes: { more: { describe: More } }\nrules:\n  - allow: { tools: [echo] }\n  - allow: { tools: [drop] }\n    scopes: [more]";
    let (upstream, issuer) = (Upstream::mcp(&["echo", "drop"]).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, rules).await.start().await;
    let (poor, rich) = (alice(&gateway, &issuer), super::with(&gateway, &issuer, json!({"scope": "more"})));
    for _ in 0..3 {
        assert_eq!(poor.list("tools").await.names("tools"), ["echo"]);
        assert_eq!(rich.list("tools").await.names("tools"), ["echo", "drop"]);
    }
    assert_eq!(upstream.received().len(), 6, "no list is kept");
}

#[tokio::test]
async fn k10_a_stream_that_is_resumed_brings_no_list_that_was_not_cut() {
    let replay = |request: &Request| match request.method.as_str() {
        "GET" => {
            let tools = json!({"jsonrpc": "2.0", "id": 4, "result": {"tools": [{"name": "drop"}, {"name": "echo"}]}});
            let both = json!({"jsonrpc": "2.0", "id": 5, "result": {"prompts": [{"name": "hidden"}], "tasks": [{"taskId": "t"}]}});
            Answer::sse(&[tools, both], Duration::ZERO)
        }
        _ => {
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
            Answer::json(&json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": result}))
                .header("mcp-session-id", "s")
        }
    };
    let (upstream, issuer) = (Upstream::start(replay).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let id = super::session(&client, "2025-11-25").await;
    let headers = [("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", &*id), ("last-event-id", "1")];
    let text = client.send("GET", "/story/mcp", &headers, "").await.body;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains(r#""tools":[{"name":"echo"}]"#), "what the caller may use is there: {text}");
    for hidden in ["drop", "hidden", "taskId"] {
        assert!(!text.contains(hidden), "{hidden} was cut when it was first asked for, and still is: {text}");
    }
}
