//! A task of one replica is its maker's at all of them, and nobody else's at any.

use std::time::Instant;

use serde_json::json;

use super::{Watching, client, over, upstream_address};
use crate::mcp::tasks::{answers, ask, listed, make};
use crate::own::{self, allow, policy};
use crate::support::{Client, Era, Fault, Gateway, PATIENCE, Redis, Relay, Upstream};

/// Two gateways whose store is behind a relay, before a server that makes a task of every call.
struct Scene {
    upstream: Upstream,
    redis: Redis,
    relay: Relay,
    front: Relay,
    gateways: [Gateway; 2],
}

impl Scene {
    async fn new() -> Self {
        let (upstream, redis) = (Upstream::start(answers).await, Redis::start(&[]));
        let relay = Relay::to(([127, 0, 0, 1], redis.port()).into()).await;
        let front = Relay::to(upstream_address(&upstream)).await;
        let text = policy("story", &upstream, &allow("slow"));
        let port = relay.address().port();
        let start = async || over(own::setup(), port).policy("story", &text).behind(front.address()).start().await;
        let gateways = [start().await, start().await];
        Self { upstream, redis, relay, front, gateways }
    }

    /// Clients of both replicas.
    fn clients(&self, subject: &str) -> [Client; 2] {
        [0, 1].map(|replica| client(&self.gateways[replica], &self.front, subject))
    }

    /// What `client` is told about a task, without a word of it to the server.
    async fn refused(&self, client: &Client, era: Era, method: &str, task: &str) -> (u16, String) {
        self.upstream.forget();
        let reply = ask(client, era, method, json!({"taskId": task})).await;
        self.upstream.assert_silent();
        (reply.status, reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
    }
}

/// What a session's stream reports.
async fn reports(client: &Client) -> String {
    let who = json!({"name": "t", "version": "1"});
    let initialize = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": who});
    let session = ask(client, Era::Legacy, "initialize", initialize).await.header("mcp-session-id").to_owned();
    let headers = [("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", session.as_str())];
    let stream = client.send("GET", "/story/mcp", &headers, "").await;
    assert_eq!(stream.status, 200, "{stream:?}");
    String::from_utf8_lossy(&stream.body).into_owned()
}

fn methods(era: Era) -> &'static [&'static str] {
    match era {
        Era::Legacy => &["tasks/get", "tasks/result", "tasks/cancel"],
        Era::Modern => &["tasks/get", "tasks/update", "tasks/cancel"],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_task_made_at_one_replica_is_its_makers_at_the_other_and_nobody_elses() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.clients("alice"), scene.clients("bob"));
    for era in [Era::Legacy, Era::Modern] {
        for stream in [false, true] {
            let id = format!("{era:?}-{stream}");
            make(&alice[0], era, json!({"id": id, "stream": stream})).await;
            let unknown = (400, "task not found".to_owned());
            for method in methods(era) {
                for replica in [1, 0] {
                    assert_eq!(scene.refused(&bob[replica], era, method, &id).await, unknown, "{method} {id}");
                    let strange = scene.refused(&alice[replica], era, method, "strange").await;
                    assert_eq!(strange, unknown, "{method}: foreign and unknown are one");
                }
                for client in [&alice[1], &alice[0]] {
                    let reply = ask(client, era, method, json!({"taskId": id})).await;
                    assert_eq!(reply.status, 200, "{method} {id}: {reply:?}");
                }
                assert_eq!(scene.upstream.received().len(), 2, "and the server was asked");
            }
        }
    }
    let keys = scene.redis.ask("KEYS *");
    assert!(keys.contains("{portcullis:tasks}:rows"), "{keys}");
    let rows = scene.redis.ask("HGETALL {portcullis:tasks}:rows");
    assert!(!rows.contains("alice") && !rows.contains("Legacy"), "whose a task is cannot be read there");
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_lists_and_streams_of_the_other_replica_show_a_callers_own_tasks() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.clients("alice"), scene.clients("bob"));
    for (client, stream) in [(&alice[0], false), (&bob[0], true)] {
        make(client, Era::Legacy, json!({"stream": stream})).await;
    }
    for (clients, own, foreign) in [(&alice, "task-of-alice", "task-of-bob"), (&bob, "task-of-bob", "task-of-alice")] {
        for client in clients.iter().rev() {
            let list = ask(client, Era::Legacy, "tasks/list", json!({})).await;
            assert_eq!(listed(&list), [own], "{list:?}");
        }
        let told = reports(&clients[1]).await;
        assert!(told.contains(own) && !told.contains(foreign) && !told.contains("nobody"), "{told}");

        let listen = async |task: &str| {
            let params = json!({"notifications": {"taskIds": [task]}});
            ask(&clients[1], Era::Modern, "subscriptions/listen", params).await.status
        };
        assert_eq!(listen(own).await, 200);
        scene.upstream.forget();
        assert_eq!(listen(foreign).await, 400);
        scene.upstream.assert_silent();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_about_tasks_asks_the_store_nothing_about_them() {
    let scene = Scene::new().await;
    let alice = scene.clients("alice");
    let mut watching = Watching::of(&scene.redis);
    let mut scripts = || watching.scripts(&scene.redis, ":tasks}");
    for client in &alice {
        for method in ["ping", "tools/list"] {
            assert_eq!(ask(client, Era::Legacy, method, json!({})).await.status, 200, "{method}");
        }
        let refused = ask(client, Era::Legacy, "tools/call", json!({"name": "forbidden", "arguments": {}})).await;
        assert_eq!(refused.status, 403);
    }
    assert_eq!(scripts(), 0);
    make(&alice[0], Era::Legacy, json!({"id": "first"})).await;
    let kept = scripts();
    assert!(kept > 0, "the positive control");
    let get = async |replica: usize, task: &str| {
        ask(&alice[replica], Era::Legacy, "tasks/get", json!({"taskId": task})).await.status
    };
    assert_eq!(get(0, "first").await, 200);
    assert_eq!(scripts(), kept, "what is known here is not asked for");
    assert_eq!(get(1, "first").await, 200);
    let found = scripts();
    assert!(found > kept, "what is not is");
    assert_eq!(get(1, "first").await, 200);
    assert_eq!(scripts(), found, "once");
    assert_eq!(get(1, "unknown").await, 400);
    assert_eq!(scripts(), found + 1, "in one round trip");
}

async fn lost(fault: Fault) {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.clients("alice"), scene.clients("bob"));
    let era = Era::Legacy;
    for client in [&alice[0], &bob[0]] {
        make(client, era, json!({})).await;
    }
    scene.relay.fault(fault);
    let again = (503, "try again later".to_owned());
    for method in methods(era) {
        for client in [&alice[1], &bob[1]] {
            let began = Instant::now();
            assert_eq!(scene.refused(client, era, method, "task-of-alice").await, again, "{method}: nobody knows");
            assert!(began.elapsed() < PATIENCE, "and nobody waits for long");
        }
        let reply = ask(&alice[0], era, method, json!({"taskId": "task-of-alice"})).await;
        assert_eq!(reply.status, 200, "{method}: what is known here is known");
        assert_eq!(scene.refused(&bob[0], era, method, "task-of-alice").await.0, 400, "{method}");
    }
    let list = ask(&alice[1], era, "tasks/list", json!({})).await;
    assert_eq!((list.status, listed(&list).len()), (503, 0), "a list that may lack something is none: {list:?}");
    let told = reports(&alice[1]).await;
    assert!(!told.contains("task-of"), "nor is anything reported: {told}");
    let told = reports(&bob[0]).await;
    assert!(told.contains("task-of-bob") && !told.contains("alice"), "but where it is known: {told}");
    assert_eq!(ask(&alice[1], era, "ping", json!({})).await.status, 200, "whatever else goes on");

    make(&alice[0], era, json!({"id": "meanwhile"})).await;
    scene.gateways[0].wait_for_log(|record| record["fields"]["event"] == "task-unkept").await;
    assert_eq!(ask(&alice[0], era, "tasks/get", json!({"taskId": "meanwhile"})).await.status, 200);
    assert_eq!(scene.refused(&bob[0], era, "tasks/get", "meanwhile").await.0, 400);

    scene.relay.fault(Fault::None);
    let began = Instant::now();
    while ask(&alice[1], era, "tasks/get", json!({"taskId": "task-of-alice"})).await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "it is asked again when it is back");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(scene.refused(&bob[1], era, "tasks/get", "task-of-alice").await.0, 400);
    assert_eq!(scene.refused(&bob[1], era, "tasks/get", "meanwhile").await.0, 400);
    // What was said to a server that is silent may reach it late.
    if fault == Fault::Refused {
        assert_eq!(scene.refused(&alice[1], era, "tasks/get", "meanwhile").await.0, 400, "it was not kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_without_the_store_a_replica_knows_its_own_tasks_and_says_nothing_about_others() {
    lost(Fault::Refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_store_that_says_nothing_is_one_that_is_lost() {
    lost(Fault::Paused).await;
}
