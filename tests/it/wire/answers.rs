//! What comes back: the upstream's own troubles and headers stay behind the gateway.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{INSTALLATION, Scene};
use crate::support::client::Reply;
use crate::support::upstream::Request;
use crate::support::{Answer, Era, Upstream};

const RULES: &str = "rules: [{ allow: { tools: [echo] } }]";

/// The answer to `request` with whatever `result`.
fn result(request: &Request) -> Answer {
    Answer::json(&json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": {"content": []}}))
}

async fn scene(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Scene {
    Scene::with(Upstream::start(script).await, RULES, INSTALLATION).await
}

/// A JSON-RPC error of the gateway's own, for request 1.
fn is_own_error(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    let body = reply.json();
    assert_eq!((&body["jsonrpc"], &body["id"]), (&json!("2.0"), &json!(1)), "the error names the request: {reply:?}");
    assert_eq!(body["error"]["code"], i64::from(status), "{body}");
    assert!(body["error"]["data"]["requestId"].is_string(), "{body}");
    assert_eq!(reply.header("content-type"), "application/json");
}

#[tokio::test]
async fn l13_an_upstream_that_wants_credentials_or_redirects_is_no_matter_of_the_clients() {
    let scene = scene(|request| {
        let wanted = request.json()["params"]["arguments"]["status"].as_u64().unwrap_or(200);
        let answer = result(request)
            .with_status(u16::try_from(wanted).unwrap_or(500))
            .header("www-authenticate", "Bearer realm=\"internal\"")
            .header("proxy-authenticate", "Basic realm=\"internal\"")
            .header("set-cookie", "session=internal");
        if (300..400).contains(&wanted) { answer.header("location", "http://internal.example/admin") } else { answer }
    })
    .await;
    for era in [Era::Legacy, Era::Modern] {
        // A client each: the connection ends with such an answer.
        let client = || scene.client().era(era);
        for status in [401, 407, 300, 301, 302, 303, 307, 308] {
            let reply = client().call_tool("echo", json!({"status": status})).await;
            is_own_error(&reply, 502);
            assert!(!format!("{reply:?}").contains("internal"), "nothing of it is told: {reply:?}");
            assert_eq!(scene.upstream.received().len(), 1, "a redirect is not followed, and nothing is tried again");
            scene.upstream.forget();
        }
        // Other refusals of the upstream are its own to make.
        for status in [200, 400, 403, 404, 429, 500, 503] {
            let reply = client().call_tool("echo", json!({"status": status})).await;
            assert_eq!(u64::from(reply.status), status, "{reply:?}");
            assert!(!format!("{reply:?}").contains("internal"), "but no challenge and no cookie: {reply:?}");
            scene.upstream.forget();
        }
    }
}

#[tokio::test]
async fn l13_headers_of_the_upstream_stay_there() {
    const WITHHELD: [(&str, &str); 22] = [
        ("set-cookie", "session=internal"),
        ("www-authenticate", "Bearer realm=internal"),
        ("proxy-authenticate", "Basic realm=internal"),
        ("authentication-info", "internal"),
        ("server", "internal/1.0"),
        ("x-powered-by", "internal"),
        ("via", "1.1 internal"),
        ("alt-svc", "h3=\"internal:443\""),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "internal"),
        ("strict-transport-security", "max-age=0"),
        ("content-security-policy", "default-src internal"),
        ("clear-site-data", "\"*\""),
        ("refresh", "0; url=http://internal"),
        ("link", "<http://internal>"),
        ("location", "http://internal"),
        ("keep-alive", "timeout=internal"),
        ("proxy-connection", "internal"),
        ("etag", "\"internal\""),
        ("x-portcullis-subject", "internal"),
        ("x-request-id", "internal"),
    ];
    let decorated = |answer: Answer| WITHHELD.iter().fold(answer, |answer, (name, value)| answer.header(name, value));
    let scene = scene(move |request| {
        let answer = match request.json()["params"]["arguments"]["as"].as_str() {
            Some("events") => Answer::sse(&[json!({"jsonrpc": "2.0", "id": 1, "result": {}})], Duration::ZERO),
            _ => result(request),
        };
        decorated(answer).header("cache-control", "public, max-age=60").header("retry-after", "7")
    })
    .await;
    for kind in ["json", "events"] {
        let reply = scene.client().call_tool("echo", json!({"as": kind})).await;
        assert_eq!(reply.status, 200, "{kind}: {reply:?}");
        assert_eq!(reply.json()["id"], 1, "{kind}: {reply:?}");
        for (name, _) in WITHHELD.iter().filter(|(name, _)| *name != "x-request-id") {
            assert_eq!(reply.header(name), "", "{kind}: {name} stays behind");
        }
        assert!(!format!("{reply:?}").contains("internal"), "{kind}: {reply:?}");
        assert_eq!(reply.header("cache-control"), "no-store", "{kind}: answers depend on the token");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{kind}");
        assert_eq!(reply.header("x-request-id").len(), 32, "{kind}: the gateway's own id");
        assert_eq!(reply.header("retry-after"), "7", "{kind}: what a client needs passes");
    }
}

#[tokio::test]
async fn an_answer_passes_byte_for_byte() {
    const ODD: &str = "{ \"result\" : {\"n\":1e400,\"big\":123456789012345678901,\"\\u0061\":\"\\/\"},\r\n\"id\":1,\"jsonrpc\":\"2.0\" }\n";
    let kind = "application/json; charset=utf-16";
    let scene = scene(move |_| Answer::status(200).header("content-type", kind).body(ODD)).await;
    let reply = scene.client().call_tool("echo", json!({})).await;
    assert_eq!(reply.body, ODD);
    assert_eq!(reply.header("content-type"), "application/json", "it is read as it was judged");
}

#[tokio::test]
async fn garbage_in_the_place_of_http_is_a_502() {
    for garbage in [
        &b""[..],
        b"\0\x01\x02garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\nset-cookie: sid=UPSTREAMS-OWN\r\nmcp-session-id: UPSTREAMS-OWN\r\n\r\nUPSTREAMS-OWN",
        b"HTTP/1.1 200 OK\r\nna\0me: UPSTREAMS-OWN\r\n\r\n{}",
        b"HTTP/1.1 999 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 206 Partial\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ] {
        let scene = Scene::with(Upstream::garbage(garbage).await, RULES, INSTALLATION).await;
        let shown = String::from_utf8_lossy(garbage).into_owned();
        let reply = scene.client().call_tool("echo", json!({})).await;
        assert_eq!(reply.status, 502, "{shown:?}: {reply:?}");
        is_own_error(&reply, 502);
        let record = scene.gateway.wait_for_log(|record| record["decision"] == "deny").await;
        assert_eq!(record["status"], 502, "{shown:?}: {record}");
        assert!(!scene.gateway.printed().contains("UPSTREAMS-OWN"), "what it said is its own: {record}");
    }
}

#[tokio::test]
async fn l02_an_upstream_that_changes_the_protocol_or_ends_the_body_early_is_a_502() {
    for (answer, status) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 36\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"[..],
            200,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\ncontent-type: application/json\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
            502,
        ),
        (
            b"HTTP/1.1 205 Reset\r\ncontent-type: application/json\r\ncontent-length: 36\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
            502,
        ),
    ] {
        let scene = Scene::with(Upstream::garbage(answer).await, RULES, INSTALLATION).await;
        let reply = scene.client().call_tool("echo", json!({})).await;
        assert_eq!(reply.status, status, "{}: {reply:?}", String::from_utf8_lossy(answer));
        if status != 200 {
            is_own_error(&reply, status);
        }
    }
}

#[tokio::test]
async fn nobody_there_is_a_502_and_silence_a_504() {
    let more = |url: &str| format!("{url}\", timeouts: {{ read: 2s }} }}");
    let gone = Upstream::mcp(&[]).await;
    let address = gone.url("/mcp");
    drop(gone);
    let issuer = crate::support::Issuer::start().await;
    let upstream = Upstream::start(|request| {
        let wait = request.json()["params"]["arguments"]["wait"].as_u64().unwrap_or(0);
        result(request).after(Duration::from_secs(wait))
    })
    .await;
    let slow = super::policy(&upstream, &issuer, RULES).replace("/mcp\" }", &more("/mcp"));
    let dead = slow.replace(&upstream.url("/mcp"), &address).replace("service: wire", "service: dead");
    let dead = dead.replace("path: /wire/mcp", "path: /dead/mcp");
    let setup = crate::support::Gateway::new().policy("wire", &slow).policy("dead", &dead);
    let scene = Scene::start(upstream, issuer, setup).await;
    let url = scene.gateway.url("/dead/mcp");
    let to_dead = crate::support::Client::new(&url).token(&scene.issuer.token(&url, json!({})));
    is_own_error(&to_dead.call_tool("echo", json!({})).await, 502);

    let started = Instant::now();
    is_own_error(&scene.client().call_tool("echo", json!({"wait": 15})).await, 504);
    assert!(started.elapsed() < Duration::from_secs(6), "two seconds of silence are allowed: {:?}", started.elapsed());
    assert_eq!(scene.upstream.received().len(), 1, "a call is never made twice");
    assert_eq!(scene.client().call_tool("echo", json!({"wait": 0})).await.status, 200, "the next call is served");
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let scene = scene(|request| {
        let whole: Value = request.json();
        if whole["params"]["arguments"]["breaks"] == true {
            Answer::status(200).header("content-type", "application/json").body("{\"jsonrpc\":\"2.0\",").then_breaks()
        } else {
            result(request)
        }
    })
    .await;
    let body = super::BODY.replace(r#""name":"echo""#, r#""name":"echo","arguments":{"breaks":true}"#);
    let request = super::GOOD
        .replace(super::BODY, &body)
        .replace("Content-Length: 71", &format!("Content-Length: {}", body.len()));
    let mut socket = super::Socket::connect(scene.gateway.address()).await;
    socket.send(scene.filled(&request).as_bytes()).await;
    let said = socket.answer("an answer that breaks off").await;
    assert!(said.is(502), "a body that was cut never looks whole: {said:?}");
    assert_eq!(scene.client().call_tool("echo", json!({})).await.status, 200, "the next call is served");
}

#[tokio::test]
async fn an_answer_above_the_cap_is_cut_or_refused() {
    let rest = RULES;
    let issuer = crate::support::Issuer::start().await;
    let upstream = Upstream::start(|request| {
        let size = request.json()["params"]["arguments"]["size"].as_u64().unwrap_or(0);
        let text = "x".repeat(usize::try_from(size).unwrap_or(0));
        Answer::json(&json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}}))
    })
    .await;
    let text = super::policy(&upstream, &issuer, rest).replace("/mcp\" }", "/mcp\", limits: { response: 64KiB } }");
    let scene = Scene::start(upstream, issuer, crate::support::Gateway::new().policy("wire", &text)).await;
    assert_eq!(scene.client().call_tool("echo", json!({"size": 60_000})).await.status, 200);
    let body = super::BODY.replace(r#""name":"echo""#, r#""name":"echo","arguments":{"size":1000000}"#);
    let request = super::GOOD
        .replace(super::BODY, &body)
        .replace("Content-Length: 71", &format!("Content-Length: {}", body.len()));
    let mut socket = super::Socket::connect(scene.gateway.address()).await;
    socket.send(scene.filled(&request).as_bytes()).await;
    let said = socket.answer("an answer above the cap").await;
    assert!(said.is(502) && !said.0.contains("xxx"), "{said:?}");
    scene.gateway.wait_for_log(|record| record["reason"] == "response-too-large").await;
}
