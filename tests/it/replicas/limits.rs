//! One policy text, counted in one place.

use std::time::Duration;

use serde_json::json;

use super::{Watching, client, over, upstream_address};
use crate::own::{self, allow, policy};
use crate::support::{Answer, Gateway, Redis, Relay, Upstream};

/// Two gateways with one service, each at an address of its own behind one public URL.
async fn two(upstream: &Upstream, limits: &str) -> (Redis, Relay, [Gateway; 2]) {
    let (redis, front) = (Redis::start(&[]), Relay::to(upstream_address(upstream)).await);
    let text = policy("story", upstream, &format!("{}\nlimits: {limits}", allow("'**'")));
    let start = async || over(own::setup(), redis.port()).policy("story", &text).behind(front.address()).start().await;
    let gateways = [start().await, start().await];
    (redis, front, gateways)
}

#[tokio::test(flavor = "multi_thread")]
async fn o05_a_rate_is_exact_whichever_replicas_the_calls_go_to() {
    let upstream = Upstream::mcp(&["a"]).await;
    let (redis, front, gateways) = two(&upstream, "[{ rate: 20/hour, on_store_loss: deny }]").await;
    let mut calls = tokio::task::JoinSet::new();
    for call in 0..60 {
        let client = client(&gateways[call % 2], &front, "alice");
        calls.spawn(async move { client.call_tool("a", json!({})).await });
    }
    let replies = calls.join_all().await;
    let with = |status| replies.iter().filter(move |reply| reply.status == status);
    // On a machine that is too busy to answer within a quarter of a second, a call may be counted and refused.
    let (passed, lost) = (with(200).count(), with(503).count());
    assert!(passed <= 20 && passed + lost >= 20, "{passed} passed, {lost} were not counted in time");
    let refused: Vec<_> = with(429).collect();
    assert_eq!(passed + lost + refused.len(), 60);
    assert_eq!(upstream.received().len(), passed, "what is refused reaches nobody");
    let wait: u64 = refused[0].header("retry-after").parse().expect("seconds");
    assert!((1..=180).contains(&wait), "{wait}");
    assert_eq!(client(&gateways[0], &front, "bob").call_tool("a", json!({})).await.status, 200, "another subject");
    let keys = redis.ask("KEYS *");
    assert!(keys.contains("{portcullis:limits:story}:") && !keys.contains("alice"), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_are_counted_over_replicas_until_they_end() {
    let upstream = Upstream::start(|request| {
        let id = request.json()["id"].clone();
        let answer = Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}));
        if request.json()["params"]["name"] == "slow" { answer.after(Duration::from_secs(4)) } else { answer }
    })
    .await;
    let (_redis, front, gateways) = two(&upstream, "[{ concurrent: 2 }]").await;
    let clients = [client(&gateways[0], &front, "alice"), client(&gateways[1], &front, "alice")];
    let mut slow = tokio::task::JoinSet::new();
    for gateway in &gateways {
        let client = client(gateway, &front, "alice");
        slow.spawn(async move { client.call_tool("slow", json!({})).await.status });
    }
    crate::support::eventually("both calls", || (upstream.received().len() == 2).then_some(())).await;
    for client in &clients {
        assert_eq!(client.call_tool("fast", json!({})).await.status, 429);
    }
    assert_eq!(upstream.received().len(), 2, "what is refused reaches nobody");
    assert_eq!(slow.join_all().await, [200, 200]);
    let began = std::time::Instant::now();
    while clients[0].call_tool("fast", json!({})).await.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(15), "the places are free again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_limit_counts_asks_the_store_for_nothing() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let (redis, front, gateways) = two(&upstream, "[{ rate: 20/hour, tools: [b] }]").await;
    let client = client(&gateways[0], &front, "alice");
    let mut watching = Watching::of(&redis);
    let mut scripts = || watching.scripts(&redis, ":limits:");
    for _ in 0..5 {
        assert_eq!(client.call_tool("a", json!({})).await.status, 200);
        assert_eq!(client.list("tools").await.status, 200);
    }
    assert_eq!(scripts(), 0);
    assert_eq!(client.call_tool("b", json!({})).await.status, 200);
    let first = scripts();
    assert!(first > 0, "the positive control");
    for _ in 0..5 {
        assert_eq!(client.call_tool("b", json!({})).await.status, 200);
    }
    assert_eq!(scripts() - first, 5, "one round trip each");
}
