//! The same strictness over HTTP/2, in frames written by hand.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::frames::{Connection, DATA, END_HEADERS, END_STREAM, End, HEADERS, RST_STREAM, block, frame};
use super::{BODY, INSTALLATION, Scene};
use crate::support::{Answer, PATIENCE, Upstream};

type Fields = Vec<(String, Vec<u8>)>;

async fn scene() -> Scene {
    let installation = format!("{INSTALLATION}listeners: [{{ address: \"127.0.0.1:1\", h2c: true }}]\n");
    let rest = "rules: [{ allow: { tools: [echo] } }]\norigins: [\"https://ok.example\"]";
    Scene::with(Upstream::mcp(&["echo", "drop"]).await, rest, &installation).await
}

/// The fields of a request that passes.
fn good(scene: &Scene) -> Fields {
    let (host, token) = (scene.gateway.address().to_string(), format!("Bearer {}", scene.token));
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", &host),
        (":path", "/wire/mcp"),
        ("authorization", &token),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2025-11-25"),
    ]
    .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
    .to_vec()
}

/// Replaces a field, or adds it at the end.
fn with(mut fields: Fields, name: &str, value: &str) -> Fields {
    match fields.iter_mut().find(|(found, _)| found == name) {
        Some((_, found)) => value.as_bytes().clone_into(found),
        None => fields.push((name.to_owned(), value.as_bytes().to_vec())),
    }
    fields
}

fn and(mut fields: Fields, name: &str, value: &[u8]) -> Fields {
    fields.push((name.to_owned(), value.to_vec()));
    fields
}

fn without(mut fields: Fields, name: &str) -> Fields {
    fields.retain(|(found, _)| found != name);
    fields
}

async fn send(scene: &Scene, fields: &Fields, body: Option<&[u8]>) -> End {
    let mut connection = Connection::open(scene.gateway.address()).await;
    let fields: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    connection.request(1, &fields, body).await;
    connection.end(1).await
}

async fn serves(scene: &Scene, fields: Fields) {
    let end = send(scene, &fields, Some(BODY.as_bytes())).await;
    let End::Answered(200, body) = &end else { panic!("the positive control must pass: {end:?} for {fields:?}") };
    let answer: Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(answer["id"], 1, "{answer}");
    let received = scene.upstream.received();
    assert_eq!(received.len(), 1, "the upstream sees the positive control once");
    assert_eq!(received[0].body, BODY.as_bytes(), "the bytes judged are the bytes forwarded");
    scene.upstream.forget();
}

/// Malformed requests: 400, or the end of stream or connection.
async fn refuses(scene: &Scene, what: &str, fields: Fields) {
    let end = send(scene, &fields, Some(BODY.as_bytes())).await;
    assert!(end.is_refused(), "{what}: {end:?}");
    scene.upstream.assert_silent();
}

async fn answers(scene: &Scene, status: u16, what: &str, fields: Fields) {
    let end = send(scene, &fields, Some(BODY.as_bytes())).await;
    assert!(matches!(end, End::Answered(found, _) if found == status), "{what}: {status} was wanted: {end:?}");
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn l01_w01_w02_the_authority_is_one_well_formed_host() {
    let scene = scene().await;
    let host = scene.gateway.address().to_string();
    let good = || good(&scene);
    refuses(&scene, "no authority", without(good(), ":authority")).await;
    for authority in
        ["", "a, b", "HOST, HOST", "HOST/path", "alice@HOST", "HOST:", "HOST:0", "[::1", "a b", "a\\b", "HOST#x"]
    {
        refuses(&scene, authority, with(good(), ":authority", &authority.replace("HOST", &host))).await;
    }
    refuses(&scene, "two authorities", and(good(), ":authority", host.as_bytes())).await;
    refuses(
        &scene,
        "an authority behind the headers",
        and(without(good(), ":authority"), ":authority", host.as_bytes()),
    )
    .await;
    refuses(&scene, "another host", with(good(), "host", "evil.example")).await;
    refuses(&scene, "two hosts", and(with(good(), "host", &host), "host", host.as_bytes())).await;
    answers(&scene, 421, "an unknown host", with(good(), ":authority", "evil.example")).await;
    serves(&scene, good()).await;
    serves(&scene, with(good(), "host", &host)).await;
}

#[tokio::test]
async fn l02_l07_headers_of_a_connection_have_no_place_in_http2() {
    let scene = scene().await;
    let good = || good(&scene);
    for (name, value) in [
        ("connection", "keep-alive"),
        ("connection", "x-portcullis-subject"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ] {
        refuses(&scene, &format!("{name}: {value}"), with(good(), name, value)).await;
    }
    let connect = without(without(with(good(), ":method", "CONNECT"), ":path"), ":scheme");
    for fields in [connect.clone(), with(good(), ":method", "CONNECT"), and(connect, ":protocol", b"websocket")] {
        let end = send(&scene, &fields, Some(BODY.as_bytes())).await;
        assert!(end.is_refused() || matches!(end, End::Answered(405, _)), "CONNECT: {end:?}");
        scene.upstream.assert_silent();
    }
    answers(&scene, 405, "TRACE", with(good(), ":method", "TRACE")).await;
    for method in ["post", "Post", "PRI", "QUERY", "", "PO ST"] {
        refuses(&scene, method, with(good(), ":method", method)).await;
    }
    serves(&scene, with(good(), "te", "trailers")).await;
}

#[tokio::test]
async fn l03_w06_w07_w08_a_path_has_one_spelling() {
    let scene = scene().await;
    let good = || good(&scene);
    for path in [
        "",
        "*",
        "wire/mcp",
        "/wire/../wire/mcp",
        "/wire/./mcp",
        "/wire/%2e%2e/wire/mcp",
        "//wire/mcp",
        "/wire//mcp",
        "/wire%2fmcp",
        "/wire%5cmcp",
        "/wire\\mcp",
        "/wire/mcp;x",
        "/wire/mcp%00",
        "/wire/mcp\0",
        "/wire/mcp\n",
        "/wire/mcp HTTP/1.1",
        "/wire/mcp\u{e9}",
        "http://evil.example/wire/mcp",
        "/wire/mcp?access_token=x",
    ] {
        refuses(&scene, path, with(good(), ":path", path)).await;
    }
    refuses(&scene, "no path", without(good(), ":path")).await;
    refuses(&scene, "two paths", and(good(), ":path", b"/wire/mcp")).await;
    answers(&scene, 404, "another path", with(good(), ":path", "/wire/mcp/x")).await;
    serves(&scene, good()).await;
    serves(&scene, with(good(), ":path", "/wire/mcp/")).await;
}

#[tokio::test]
async fn l01_l12_fields_have_one_reading() {
    let scene = scene().await;
    let good = || good(&scene);
    let token = format!("Bearer {}", scene.token);
    refuses(&scene, "two credentials", and(good(), "authorization", token.as_bytes())).await;
    refuses(&scene, "two types", and(good(), "content-type", b"application/json")).await;
    refuses(&scene, "two versions", and(good(), "mcp-protocol-version", b"2025-11-25")).await;
    for (name, value) in [
        ("X-Upper", &b"y"[..]),
        ("AUTHORIZATION", b"y"),
        ("x y", b"z"),
        ("x:y", b"z"),
        ("", b"z"),
        ("x\0", b"z"),
        ("x\r\nhost", b"z"),
        ("x", b"y\r\nhost: evil"),
        ("x", b"y\nz"),
        ("x", b"y\0z"),
        (":unknown", b"y"),
        (":status", b"200"),
        ("expect", b"200-ok"),
    ] {
        refuses(&scene, &format!("{name:?}: {value:?}"), and(good(), name, value)).await;
    }
    refuses(&scene, "no method", without(good(), ":method")).await;
    refuses(&scene, "no scheme", without(good(), ":scheme")).await;
    answers(&scene, 401, "no token", without(good(), "authorization")).await;
    answers(&scene, 403, "another origin", with(good(), "origin", "https://evil.example")).await;
    let many = (0..130).fold(good(), |fields, at| and(fields, &format!("x-{at}"), b"y"));
    refuses(&scene, "130 headers", many).await;
    let wide = with(good(), "x-wide", &"y".repeat(100_000));
    let end = send(&scene, &wide, Some(BODY.as_bytes())).await;
    assert!(end.is_refused() || matches!(end, End::Answered(431, _)), "a head above the bound: {end:?}");
    scene.upstream.assert_silent();
    serves(&scene, with(good(), "origin", "https://ok.example")).await;
}

#[tokio::test]
async fn l01_the_length_is_the_length_of_the_data() {
    let scene = scene().await;
    let good = || good(&scene);
    for length in ["70", "72", "0", "+71", "-71", "71, 71", "0x47", "", "99999999999999999999"] {
        refuses(&scene, length, with(good(), "content-length", length)).await;
    }
    refuses(&scene, "two lengths", and(with(good(), "content-length", "71"), "content-length", b"71")).await;
    serves(&scene, with(good(), "content-length", "71")).await;
    serves(&scene, good()).await;
}

#[tokio::test]
async fn l06_w10_names_with_an_underscore_stay_outside() {
    let scene = scene().await;
    let fields = and(and(good(&scene), "x_portcullis_subject", b"admin"), "x-portcullis-subject", b"admin");
    let end = send(&scene, &and(fields, "accept-language", b"de"), Some(BODY.as_bytes())).await;
    assert!(matches!(end, End::Answered(200, _)), "{end:?}");
    let received = scene.upstream.received();
    assert_eq!(received[0].header("x-portcullis-subject"), ["alice"], "the gateway's own value alone");
    assert!(received[0].header("x_portcullis_subject").is_empty(), "{received:#?}");
    assert_eq!(received[0].header("accept-language"), ["de"]);
}

#[tokio::test]
async fn a_stream_that_is_refused_harms_no_other_of_its_connection() {
    let scene = scene().await;
    let (good, bad) = (good(&scene), with(good(&scene), ":path", "/wire/../mcp"));
    let mut connection = Connection::open(scene.gateway.address()).await;
    for (stream, fields) in [(1, &bad), (3, &good)] {
        let fields: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        connection.request(stream, &fields, Some(BODY.as_bytes())).await;
    }
    let end = connection.end(3).await;
    assert!(matches!(end, End::Answered(200, _)), "{end:?}");
    assert_eq!(scene.upstream.received().len(), 1, "only the good one reaches the upstream");
}

#[tokio::test]
async fn l11_floods_of_resets_cost_no_memory_and_stop_nobody() {
    let scene = scene().await;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", scene.gateway.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned));
        line.and_then(|line| line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()))
            .expect("its memory in KiB")
    };
    serves(&scene, good(&scene)).await;
    let before = resident();
    let fields = good(&scene);
    let fields = block(fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
    for _ in 0..4 {
        let mut connection = Connection::open(scene.gateway.address()).await;
        let mut flood = Vec::new();
        for at in 0..5000_u32 {
            let stream = 2 * at + 1;
            flood.extend(frame(HEADERS, END_HEADERS, stream, &fields));
            flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        connection.send(&flood).await;
        // Empty pieces of a body, and a head that never ends.
        let empty: Vec<u8> = (0..5000).flat_map(|_| frame(DATA, 0, 10_001, &[])).collect();
        connection.send(&[frame(HEADERS, END_HEADERS, 10_001, &fields), empty].concat()).await;
        let endless: Vec<u8> =
            (0..500).flat_map(|_| frame(super::frames::CONTINUATION, 0, 10_003, &[0; 1000])).collect();
        connection.send(&[frame(HEADERS, END_STREAM, 10_003, &[]), endless].concat()).await;
    }
    scene.upstream.assert_silent();
    serves(&scene, good(&scene)).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * 1024, "the floods left {grown} KiB behind");
}

#[tokio::test]
async fn o07_streams_that_are_reset_give_their_places_back() {
    let listeners = "listeners: [{ address: \"127.0.0.1:1\", h2c: true }]";
    let installation = format!("limits: {{ address_failures: 1000000/minute, requests_in_flight: 4 }}\n{listeners}\n");
    let slow = Upstream::start(|request| {
        let id = request.json()["id"].clone();
        let answer = Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}));
        answer.after(Duration::from_millis(300))
    })
    .await;
    let scene = Scene::with(slow, "rules: [{ allow: { tools: [echo] } }]", &installation).await;
    let good = good(&scene);
    let fields = block(good.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
    let body = BODY.as_bytes();
    for _ in 0..10 {
        let mut connection = Connection::open(scene.gateway.address()).await;
        // Before the body, in the middle of it, and while the server takes its time.
        for (stream, sent) in [(1_u32, &body[..0]), (3, &body[..20]), (5, body)] {
            let last = if sent.len() == body.len() { END_STREAM } else { 0 };
            connection
                .send(&[frame(HEADERS, END_HEADERS, stream, &fields), frame(DATA, last, stream, sent)].concat())
                .await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            connection.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
        }
    }
    assert!(!scene.upstream.received().is_empty(), "some were under way");
    let began = Instant::now();
    while !matches!(send(&scene, &good, Some(body)).await, End::Answered(200, _)) {
        assert!(began.elapsed() < PATIENCE, "thirty came and went, and four have room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
