//! Which bodies are read at all: their type, their coding and their size.

use super::{BODY, CHUNKED, GOOD, INSTALLATION, Scene, Socket};
use crate::support::Upstream;

const TYPE: &str = "Content-Type: application/json\r\n";

/// A body of exactly so many bytes that passes.
fn padded(length: usize) -> String {
    let rest = r#","arguments":{"a":""}}}"#;
    let start = BODY.trim_end_matches('}');
    let room = length - start.len() - rest.len();
    format!("{start}{}", rest.replace("\"\"", &format!("\"{}\"", "x".repeat(room))))
}

/// The request with a length, and in chunks of `chunk` bytes.
fn sized(body: &str) -> String {
    GOOD.replace("Content-Length: 71", &format!("Content-Length: {}", body.len())).replace(BODY, body)
}

fn chunked(body: &str, chunk: usize) -> String {
    let pieces = body.as_bytes().chunks(chunk);
    let pieces = pieces.map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)));
    let (head, _) = CHUNKED.split_once("\r\n\r\n").unwrap_or_default();
    format!("{head}\r\n\r\n{}0\r\n\r\n", pieces.collect::<String>())
}

async fn serves(scene: &Scene, request: String, body: &str) {
    let mut socket = Socket::connect(scene.gateway.address()).await;
    socket.send(scene.filled(&request).as_bytes()).await;
    let said = socket.answer("a large body").await;
    assert!(said.is(200), "{} bytes must pass: {}", body.len(), said.head());
    let received = scene.upstream.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].body == body.as_bytes(), "{} bytes arrive as they were sent", body.len());
    scene.upstream.forget();
}

#[tokio::test]
async fn k13_only_json_is_read() {
    let scene = Scene::open().await;
    scene.refuses_each(400, GOOD, &[(TYPE, "Content-Type: application/json\r\nContent-Type: text/plain\r\n")]).await;
    scene
        .refuses_each(
            415,
            GOOD,
            &[
                (TYPE, ""),
                (TYPE, "Content-Type:\r\n"),
                (TYPE, "Content-Type: text/plain\r\n"),
                (TYPE, "Content-Type: text/plain; application/json\r\n"),
                (TYPE, "Content-Type: application/x-www-form-urlencoded\r\n"),
                (TYPE, "Content-Type: multipart/form-data; boundary=x\r\n"),
                (TYPE, "Content-Type: application/jsonp\r\n"),
                (TYPE, "Content-Type: application/json-rpc\r\n"),
                (TYPE, "Content-Type: application/json, text/plain\r\n"),
                (TYPE, "Content-Type: application/json; charset=utf-16\r\n"),
                (TYPE, "Content-Type: application/json; charset=utf-8; charset=utf-16\r\n"),
                (TYPE, "Content-Type: application/json; boundary=x\r\n"),
                (TYPE, "Content-Type: \"application/json\"\r\n"),
                (TYPE, "Content-Type: */*\r\n"),
            ],
        )
        .await;
    scene.serves(scene.filled(GOOD)).await;
    scene.serves(scene.spoilt(GOOD, TYPE, "Content-Type: Application/JSON ; charset=\"UTF-8\"\r\n")).await;
}

#[tokio::test]
async fn k14_a_coded_body_is_refused() {
    let scene = Scene::open().await;
    for coding in ["gzip", "deflate", "br", "zstd", "compress", "x", "gzip, identity", "identity, gzip", "GZIP"] {
        let line = format!("Content-Encoding: {coding}\r\nAccept:");
        scene.refuses(415, scene.spoilt(GOOD, "Accept:", &line)).await;
    }
    scene.serves(scene.spoilt(GOOD, "Accept:", "Content-Encoding: identity\r\nAccept:")).await;
}

#[tokio::test]
async fn k15_bodies_with_a_length_may_have_4_mib() {
    let scene = Scene::open().await;
    let cap = 4 * 1024 * 1024;
    for length in [71 + 30, 65_535, 65_536, 65_537, 131_072, cap] {
        let body = padded(length);
        assert_eq!(body.len(), length);
        serves(&scene, sized(&body), &body).await;
    }
    // Refused by its length alone: nothing of it needs to come.
    for length in ["4194305", "99999999999", "999999999999999"] {
        let head = GOOD.replace("Content-Length: 71", &format!("Content-Length: {length}")).replace(BODY, "");
        let mut socket = Socket::connect(scene.gateway.address()).await;
        socket.send(scene.filled(&head).as_bytes()).await;
        let said = socket.until_closed(length).await;
        assert!(said.is(413), "{length}: {said:?}");
        scene.upstream.assert_silent();
    }
    let over = padded(cap + 1);
    let mut socket = Socket::connect(scene.gateway.address()).await;
    socket.send(scene.filled(&sized(&over)).as_bytes()).await;
    let said = socket.until_closed("a body above the cap").await;
    assert_eq!(said.0.matches(" 200 ").count(), 0, "{said:?}");
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn k15_a_body_may_hold_a_hundred_thousand_values() {
    let scene = Scene::open().await;
    // Besides the items: the message, its version, id, method, params, name, arguments and the list.
    let holding = |values: usize| {
        let items = vec!["0"; values - 8].join(",");
        format!("{},\"arguments\":{{\"a\":[{items}]}}}}}}", BODY.trim_end_matches('}'))
    };
    let fits = holding(100_000);
    serves(&scene, sized(&fits), &fits).await;
    let mut socket = Socket::connect(scene.gateway.address()).await;
    socket.send(scene.filled(&sized(&holding(100_001))).as_bytes()).await;
    let said = socket.answer("one value too many").await;
    assert!(said.is(400), "{}", said.head());
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn k15_bodies_without_a_length_may_have_64_kib() {
    let scene = Scene::open().await;
    for length in [71 + 30, 4096, 65_535, 65_536] {
        for chunk in [777, 16_384, 100_000] {
            let body = padded(length);
            serves(&scene, chunked(&body, chunk), &body).await;
        }
    }
    for length in [65_537, 65_536 + 20_000, 1_000_000] {
        for chunk in [777, 100_000] {
            let body = padded(length);
            let mut socket = Socket::connect(scene.gateway.address()).await;
            socket.send(scene.filled(&chunked(&body, chunk)).as_bytes()).await;
            let said = socket.until_closed("a chunked body above the bound").await;
            assert!(said.is(411), "{length} in chunks of {chunk}: {said:?}");
            assert_eq!(said.answers(), 1, "{said:?}");
            scene.upstream.assert_silent();
        }
    }
}

#[tokio::test]
async fn k15_a_policy_sets_its_own_bound() {
    let rest = "rules: [{ allow: { tools: [echo] } }]\nbody_limit: 1KiB";
    let scene = Scene::with(Upstream::mcp(&["echo"]).await, rest, INSTALLATION).await;
    let (fits, over) = (padded(1024), padded(1025));
    serves(&scene, sized(&fits), &fits).await;
    serves(&scene, chunked(&fits, 100), &fits).await;
    scene.refuses(413, scene.filled(&sized(&over))).await;
    scene.refuses(411, scene.filled(&chunked(&over, 100))).await;
}

#[tokio::test]
async fn k15_an_expectation_is_answered_before_the_body_comes_and_only_with_a_good_head() {
    let scene = Scene::open().await;
    let expecting = scene.spoilt(GOOD, "Accept:", "Expect: 100-continue\r\nAccept:");
    let (head, body) = expecting.split_once("\r\n\r\n").expect("a head");
    let mut socket = Socket::connect(scene.gateway.address()).await;
    socket.send(format!("{head}\r\n\r\n").as_bytes()).await;
    socket.hears("HTTP/1.1 100 Continue\r\n\r\n").await;
    scene.upstream.assert_silent();
    socket.send(body.as_bytes()).await;
    socket.hears("HTTP/1.1 200 ").await;
    assert_eq!(scene.upstream.received()[0].body, BODY.as_bytes());
    assert!(scene.upstream.received()[0].header("expect").is_empty(), "the upstream has the whole body already");
    scene.upstream.forget();

    let old = expecting.replace("HTTP/1.1", "HTTP/1.0");
    let mut socket = Socket::connect(scene.gateway.address()).await;
    socket.send(old.as_bytes()).await;
    let said = socket.until_closed("an expectation of HTTP/1.0").await;
    assert!(said.0.contains(" 200 ") && !said.0.contains(" 100 "), "HTTP/1.0 knows one answer only: {said:?}");
    scene.upstream.forget();

    let denied = format!("{head}\r\n\r\n").replace("Bearer ", "Basic ");
    let mut socket = Socket::connect(scene.gateway.address()).await;
    socket.send(denied.as_bytes()).await;
    let said = socket.until_closed("a refused expectation").await;
    assert!(said.is(401) && !said.0.contains("HTTP/1.1 100"), "nobody is asked for a body without a token: {said:?}");
    scene.upstream.assert_silent();
}
