//! More requests at once than the gateway takes.

use std::time::{Duration, Instant};

use super::{GOOD, Scene, Socket};
use crate::support::Upstream;

/// How many the installation takes.
const MOST: usize = 4;

#[tokio::test]
async fn o07_above_the_bound_requests_are_shed_at_once_and_health_still_answers() {
    let installation = format!("limits: {{ requests_in_flight: {MOST} }}\n");
    let scene =
        Scene::with(Upstream::mcp(&["echo"]).await, "rules: [{ allow: { tools: [echo] } }]", &installation).await;
    let client = scene.client();
    let call = async || client.call_tool("echo", serde_json::json!({})).await;
    assert_eq!(call().await.status, 200, "the positive control");
    // Requests whose bodies do not come, until there are as many as there may be.
    let head = scene.filled(GOOD).split_once("\r\n\r\n").map(|(head, _)| format!("{head}\r\n\r\n")).expect("a head");
    let (mut waiting, began) = (Vec::new(), Instant::now());
    while call().await.status != 503 {
        assert!(began.elapsed() < Duration::from_secs(10), "the gateway takes {} at once", waiting.len());
        let mut socket = Socket::connect(scene.gateway.address()).await;
        socket.send(head.as_bytes()).await;
        waiting.push(socket);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(waiting.len() >= MOST);
    scene.upstream.forget();
    let asked = Instant::now();
    let shed = call().await;
    assert_eq!((shed.status, shed.header("retry-after")), (503, "1"));
    assert_eq!(shed.json()["error"]["code"], 503, "a JSON-RPC error: {shed:?}");
    assert!(asked.elapsed() < Duration::from_secs(5), "nobody waits: {:?}", asked.elapsed());
    scene.upstream.assert_silent();
    assert_eq!(client.send("GET", "/healthz", &[], "").await.status, 200, "whoever asks how it is is told");
    scene.gateway.wait_for_log(|record| record["reason"] == "shed" && record["status"] == 503).await;

    drop(waiting);
    let began = Instant::now();
    while call().await.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(10), "and who comes when others have gone is served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
