//! Nothing waits for ever: heads, prefaces and silent connections have one deadline as a whole.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{GOOD, INSTALLATION, Scene, Socket};
use crate::support::Upstream;

/// A head is due after so long; a busy machine may take three times that.
const HEAD: Duration = Duration::from_secs(10);

/// Says `first` and then one more line each second until the connection is closed; what was answered.
async fn drips(address: SocketAddr, first: Vec<u8>, line: &'static [u8]) -> String {
    let shown = String::from_utf8_lossy(&first).into_owned();
    let started = Instant::now();
    let mut socket = Socket::connect(address).await;
    socket.send(&first).await;
    while !line.is_empty() && !socket.stirs_within(Duration::from_secs(1)).await {
        assert!(started.elapsed() < 3 * HEAD, "still open after {:?}: {shown:?}", started.elapsed());
        socket.send(line).await;
    }
    let said = socket.until_closed_within(3 * HEAD, &shown).await;
    assert!(started.elapsed() < 3 * HEAD, "closed only after {:?}: {shown:?}", started.elapsed());
    said.0
}

#[tokio::test]
async fn l10_w13_heads_and_prefaces_have_a_deadline_as_a_whole() {
    let h2c = format!("{INSTALLATION}listeners: [{{ address: \"127.0.0.1:1\", h2c: true }}]\n");
    let rest = "rules: [{ allow: { tools: [echo] } }]";
    let (plain, h2c) = tokio::join!(Scene::open(), Scene::with(Upstream::mcp(&["echo"]).await, rest, &h2c));
    let mut waiting = Vec::new();
    for (scene, name) in [(&plain, "HTTP/1 only"), (&h2c, "with h2c")] {
        let address = scene.gateway.address();
        let head = scene.filled(GOOD);
        let unfinished = head.split("\r\n\r\n").next().unwrap_or_default().as_bytes().to_vec();
        for (first, line, answered) in [
            // A connection without a request, a head that stops, and heads that go on and on.
            (Vec::new(), &b""[..], false),
            (unfinished.clone(), &b""[..], true),
            ([&unfinished[..], b"\r\n"].concat(), &b"X: y\r\n"[..], true),
            (b"P".to_vec(), &b""[..], true),
            (b"POST /wire".to_vec(), &b"/mcp"[..], true),
            (b"PRI * HTTP/2.0\r\n".to_vec(), &b""[..], false),
        ] {
            let shown = String::from_utf8_lossy(&first).into_owned();
            waiting.push(tokio::spawn(async move {
                let said = drips(address, first, line).await;
                if answered && name == "HTTP/1 only" {
                    assert!(said.starts_with("HTTP/1.1 408 "), "{name}: {shown:?} was answered {said:?}");
                }
                assert!(!said.contains(" 200 "), "{name}: {shown:?} was answered {said:?}");
            }));
        }
    }
    for each in waiting {
        each.await.expect("a connection that is closed in time");
    }
    for scene in [&plain, &h2c] {
        scene.upstream.assert_silent();
        assert_eq!(scene.client().call_tool("echo", json!({})).await.status, 200, "others are served meanwhile");
    }
}

#[tokio::test]
async fn l10_a_client_that_hangs_up_in_the_middle_of_a_body_reaches_nobody() {
    let scene = Scene::open().await;
    for request in [super::GOOD, super::CHUNKED] {
        let whole = scene.filled(request);
        let head = whole.find("\r\n\r\n").expect("a head");
        for cut in [head, head + 2, head + 4, head + 5, head + 40, whole.len() - 1] {
            let mut socket = Socket::connect(scene.gateway.address()).await;
            socket.send(&whole.as_bytes()[..cut]).await;
            drop(socket);
        }
    }
    scene.gateway.wait_for_log(|record| record["reason"] == "malformed-request").await;
    scene.upstream.assert_silent();
    scene.serves(scene.filled(GOOD)).await;
}
