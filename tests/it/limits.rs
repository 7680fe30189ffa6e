//! Limits as a client meets them: what counts, by whom, together or not at all, and across a reload.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::own::{self, PROVIDER, bare, policy};
use crate::support::{Answer, Client, Era, Gateway, Upstream, eventually};

const TOOLS: &str = "rules: [{ allow: { tools: ['**'], prompts: ['**'], resources: ['**'], methods: [acme/run] } }]";

fn limited(limits: &str) -> String {
    format!("{}\nlimits: {limits}", TOOLS.replace('\'', "\""))
}

async fn one(limits: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let gateway = own::setup().policy("story", &policy("story", &upstream, &limited(limits))).start().await;
    (upstream, gateway)
}

async fn statuses(client: &Client, tool: &str, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(client.call_tool(tool, json!({})).await.status);
    }
    statuses
}

#[tokio::test]
async fn o06_a_rate_lets_its_count_go_at_once_and_then_says_how_long_to_wait() {
    let (upstream, gateway) = one("[{ rate: 3/hour }]").await;
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(statuses(&client, "a", 3).await, [200; 3], "the burst is the count");
    assert_eq!(upstream.received().len(), 3);
    upstream.forget();
    let refused = client.call_tool("a", json!({})).await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").parse().expect("seconds to wait");
    assert!((1100..=1200).contains(&wait), "a third of an hour refills one of three: {wait}");
    let error = refused.json();
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(429)), "a JSON-RPC error: {error}");
    assert!(error["error"]["message"].is_string() && error["result"].is_null(), "{error}");
    gateway.wait_for_log(|record| record["reason"] == "rate-limited" && record["status"] == 429).await;
    upstream.assert_silent();
}

#[tokio::test]
async fn a_burst_is_what_the_policy_says_and_refills() {
    let (upstream, gateway) = one("[{ rate: 2/second, burst: 1 }]").await;
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(client.call_tool("a", json!({})).await.status, 200);
    let mut refused = 0;
    let again = async {
        while client.call_tool("a", json!({})).await.status == 429 {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), again).await.expect("half a second refills one");
    assert!(refused > 0, "one at once, however high the rate");
    assert_eq!(upstream.received().len(), 2, "no refused call reached the upstream");
}

/// By what a limit counts, and changes of token, tool and address that make another bucket, and that do not.
const COUNTED_BY: [(&str, &[Change], &[Change]); 6] = [
    ("subject", &[Change::Subject, Change::Issuer], &[Change::Client, Change::Tool, Change::Address]),
    ("client", &[Change::Client], &[Change::Subject, Change::Issuer, Change::Tool, Change::Address]),
    ("tool", &[Change::Tool], &[Change::Subject, Change::Issuer, Change::Client, Change::Address]),
    ("address", &[Change::Address, Change::Network], &[Change::Subject, Change::Issuer, Change::Client, Change::Tool]),
    ("service", &[], &[Change::Subject, Change::Issuer, Change::Client, Change::Tool, Change::Address]),
    ("[subject, tool]", &[Change::Subject, Change::Issuer, Change::Tool], &[Change::Client, Change::Address]),
];

#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    Subject,
    Issuer,
    Client,
    Tool,
    Address,
    Network,
}

async fn changed(gateway: &Gateway, name: &str, change: Change) -> u16 {
    let claims = match change {
        Change::Subject => json!({"sub": "bob"}),
        Change::Issuer => json!({"iss": "https://second.example.com"}),
        Change::Client => json!({"client_id": "cursor"}),
        _ => json!({}),
    };
    let address = match change {
        Change::Address => "203.0.113.2",
        Change::Network => "2001:db8:1::1",
        _ => "203.0.113.1",
    };
    let client = own::client(gateway, name, claims).header("x-forwarded-for", address);
    let tool = if matches!(change, Change::Tool) { "b" } else { "a" };
    client.call_tool(tool, json!({})).await.status
}

#[tokio::test]
async fn a17_o01_a_limit_counts_by_what_it_says_and_subjects_are_pairs() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let second = r#"second: { hmac: { issuer: "https://second.example.com", secrets: [{ env: OWN_SECRET }] } }"#;
    let providers = PROVIDER.replace("providers: { ", &format!("providers: {{ {second}, "));
    let mut setup = own::setup().installation(&format!("{providers}\ntrusted_proxies: [127.0.0.1]\n"));
    for (number, (per, _, _)) in COUNTED_BY.iter().enumerate() {
        let text = bare(&format!("s{number}"), &upstream, &limited(&format!("[{{ rate: 1/hour, per: {per} }}]")));
        setup = setup.policy(&format!("s{number}"), &text.replace("[own]", "[own, second]"));
    }
    let gateway = setup.start().await;
    for (number, (per, others, same)) in COUNTED_BY.into_iter().enumerate() {
        let name = format!("s{number}");
        assert_eq!(changed(&gateway, &name, Change::Nothing).await, 200, "per {per}: the first call");
        upstream.forget();
        assert_eq!(changed(&gateway, &name, Change::Nothing).await, 429, "per {per}: the second call");
        for change in same {
            assert_eq!(changed(&gateway, &name, *change).await, 429, "per {per}: {change:?} is no other bucket");
        }
        upstream.assert_silent();
        for change in others {
            assert_eq!(changed(&gateway, &name, *change).await, 200, "per {per}: {change:?} is another bucket");
        }
    }
}

#[tokio::test]
async fn o01_ipv6_addresses_count_by_their_network() {
    let upstream = Upstream::mcp(&["a"]).await;
    let text = bare("story", &upstream, &limited("[{ rate: 1/hour, per: address }]"));
    let installation = format!("{PROVIDER}\ntrusted_proxies: [127.0.0.1]\n");
    let gateway = own::setup().installation(&installation).policy("story", &text).start().await;
    let from = |address: &str| own::client(&gateway, "story", json!({})).header("x-forwarded-for", address);
    assert_eq!(from("2001:db8:0:1::1").call_tool("a", json!({})).await.status, 200);
    upstream.forget();
    assert_eq!(from("2001:db8:0:1:ffff::2").call_tool("a", json!({})).await.status, 429, "one /64 is one address");
    upstream.assert_silent();
    assert_eq!(from("2001:db8:0:2::1").call_tool("a", json!({})).await.status, 200, "the next /64 is another");
}

#[tokio::test]
async fn all_limits_that_fit_are_taken_or_none_and_the_longest_wait_is_named() {
    let (upstream, gateway) = one("[{ rate: 3/hour }, { rate: 1/day, per: [subject, tool], tools: [a] }]").await;
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(statuses(&client, "a", 1).await, [200]);
    upstream.forget();
    assert_eq!(statuses(&client, "a", 10).await, [429; 10], "the second limit is used up");
    upstream.assert_silent();
    assert_eq!(statuses(&client, "b", 3).await, [200, 200, 429], "the refused calls took nothing from the first");
    let wait = |reply: crate::support::client::Reply| reply.header("retry-after").parse::<u64>().expect("seconds");
    let (both, first) = (wait(client.call_tool("a", json!({})).await), wait(client.call_tool("b", json!({})).await));
    assert!((80_000..=86_400).contains(&both), "of both waits the longest is named: {both}");
    assert!((1000..=1200).contains(&first), "of one its own: {first}");
}

#[tokio::test]
async fn what_counts_is_use_and_not_looking_around() {
    let upstream = Upstream::start(|request| {
        let result = json!({"tools": [], "prompts": [], "resources": [], "resourceTemplates": []});
        Answer::json(&json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": result}))
    })
    .await;
    let text = policy("story", &upstream, &limited("[{ rate: 1/hour, per: [subject] }]"));
    let gateway = own::setup().policy("story", &text).start().await;
    let params = |method: &str| match method {
        "tools/call" | "prompts/get" => json!({"name": "a"}),
        "resources/read" | "resources/subscribe" => json!({"uri": "repo://x/y"}),
        "completion/complete" => {
            json!({"ref": {"type": "ref/prompt", "name": "a"}, "argument": {"name": "x", "value": "y"}})
        }
        "initialize" => {
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}})
        }
        _ => json!({}),
    };
    let counted = ["tools/call", "prompts/get", "resources/read", "completion/complete", "acme/run"];
    let free = ["initialize", "ping", "tools/list", "prompts/list", "resources/list", "resources/templates/list"];
    for (number, method) in counted.into_iter().enumerate() {
        let client = own::client(&gateway, "story", json!({"sub": format!("user-{number}")})).era(Era::Legacy);
        assert_eq!(client.request(method, params(method)).await.status, 200, "{method}: the first");
        upstream.forget();
        assert_eq!(client.request(method, params(method)).await.status, 429, "{method} counts");
        upstream.assert_silent();
        for free in free.into_iter().chain(["resources/subscribe"]) {
            let reply = client.request(free, params(free)).await;
            assert_eq!(reply.status, 200, "{free} never counts, also when everything is used up: {reply:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_permitted_takes_nothing() {
    let upstream = Upstream::mcp(&["a"]).await;
    let rest = "rules: [{ allow: { tools: [a] } }]\nlimits: [{ rate: 1/hour }]";
    let gateway = own::setup().policy("story", &policy("story", &upstream, rest)).start().await;
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(statuses(&client, "x", 5).await, [403; 5]);
    upstream.assert_silent();
    assert_eq!(statuses(&client, "a", 2).await, [200, 429], "refused calls were not counted");
}

/// An upstream whose tool `slow` takes its time.
async fn slow_upstream(wait: Duration) -> Upstream {
    Upstream::start(move |request| {
        let message = request.json();
        let slow = message["params"]["name"] == "slow";
        let answer = Answer::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}));
        answer.after(if slow { wait } else { Duration::ZERO })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_flight_is_held_until_the_answer_ends() {
    let upstream = slow_upstream(Duration::from_millis(1500)).await;
    let text = policy("story", &upstream, &limited("[{ concurrent: 2, per: subject }]"));
    let gateway = own::setup().policy("story", &text).start().await;
    let slow: Vec<_> = (0..2)
        .map(|_| own::client(&gateway, "story", json!({})))
        .map(|client| tokio::spawn(async move { client.call_tool("slow", json!({})).await.status }))
        .collect();
    eventually("both calls at the upstream", || (upstream.received().len() == 2).then_some(())).await;
    upstream.forget();
    let client = own::client(&gateway, "story", json!({}));
    let refused = client.call_tool("a", json!({})).await;
    assert_eq!((refused.status, refused.header("retry-after").is_empty()), (429, false), "two are under way");
    gateway.wait_for_log(|record| record["reason"] == "concurrency-limited").await;
    upstream.assert_silent();
    let other = own::client(&gateway, "story", json!({"sub": "bob"}));
    assert_eq!(other.call_tool("a", json!({})).await.status, 200, "others have their own places");
    for call in slow {
        assert_eq!(call.await.expect("ended"), 200);
    }
    assert_eq!(statuses(&client, "a", 5).await, [200; 5], "the places were given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_gives_its_place_back() {
    let upstream = slow_upstream(Duration::from_secs(60)).await;
    let text = policy("story", &upstream, &limited("[{ concurrent: 1, per: subject }]"));
    let gateway = own::setup().policy("story", &text).start().await;
    let url = gateway.url("/story/mcp");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow"}}).to_string();
    let request = format!(
        "POST /story/mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2025-11-25\r\n\
         authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.address(),
        own::token(&url, json!({})),
        body.len()
    );
    let mut socket = TcpStream::connect(gateway.address()).await.expect("a listening gateway");
    socket.write_all(request.as_bytes()).await.expect("sent");
    eventually("the call at the upstream", || (upstream.received().len() == 1).then_some(())).await;
    let client = own::client(&gateway, "story", json!({}));
    upstream.forget();
    assert_eq!(client.call_tool("a", json!({})).await.status, 429, "the place is taken");
    upstream.assert_silent();
    drop(socket);
    let freed = async {
        while client.call_tool("a", json!({})).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(6), freed).await.expect("the place is free once the client is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn n11_the_fill_outlives_a_reload_scaled_to_the_new_rate() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let text = |limits: &str| policy("story", &upstream, &limited(limits));
    let gateway = own::setup().policy("story", &text("[{ rate: 4/hour }]")).start().await;
    let client = own::client(&gateway, "story", json!({}));
    let change = async |limits: &str, generation: u64| {
        gateway.write_policy("story", &text(limits));
        gateway
            .wait_for_log(|record| {
                record["fields"]["event"] == "reloaded" && record["fields"]["generation"].as_u64() >= Some(generation)
            })
            .await;
    };
    assert_eq!(statuses(&client, "a", 2).await, [200; 2], "half of four");
    change("[{ rate: 8/hour }]", 2).await;
    assert_eq!(statuses(&client, "a", 5).await, [200, 200, 200, 200, 429], "half of eight were left");
    change("[{ rate: 8/hour }, { concurrent: 9 }]", 3).await;
    assert_eq!(statuses(&client, "a", 1).await, [429], "another limit beside it changes nothing");
    change("[{ rate: 8/hour, per: [subject, tool] }]", 4).await;
    assert_eq!(statuses(&client, "a", 1).await, [200], "counted by something else it is another limit");
    let reached: Vec<Value> = upstream.received().iter().map(|request| request.json()["method"].clone()).collect();
    assert_eq!(reached, vec![json!("tools/call"); 7], "no refused call reached the upstream");
}
