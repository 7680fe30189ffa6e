//! Tasks belong to the identity that made them.

use serde_json::{Value, json};

use std::time::Duration;

use super::{alice, request, setup, with};
use crate::support::client::Reply;
use crate::support::upstream::Request;
use crate::support::{Answer, Client, Era, Issuer, Upstream};

const RULES: &str = "rules: [{ allow: { tools: [slow] } }]";
const LEGACY: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

/// Every call makes a task that is named as its arguments say, or after its caller; lists and streams show all of them to
/// everybody.
pub fn answers(request: &Request) -> Answer {
    let message = request.json();
    let who = request.header("x-portcullis-subject").join(",");
    let arguments = &message["params"]["arguments"];
    let made = arguments["id"].as_str().map_or_else(|| format!("task-of-{who}"), str::to_owned);
    let task = |id: &str| json!({"taskId": id, "status": "working", "ttl": 60_000});
    let all = ["task-of-alice", "task-of-bob", "task-of-nobody"].map(task);
    let result = match message["method"].as_str() {
        Some("initialize") => json!({"protocolVersion": message["params"]["protocolVersion"], "capabilities": {}}),
        Some("tools/call") if request.header("mcp-protocol-version") == ["2026-07-28"] => {
            json!({"resultType": "task", "taskId": made, "status": "working", "ttlMs": 60_000})
        }
        Some("tools/call") => json!({"task": task(&made)}),
        Some("tasks/list") => json!({"tasks": all}),
        None => {
            let told =
                all.map(|task| json!({"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": task}));
            return Answer::sse(&told, Duration::ZERO);
        }
        Some("tools/list") => json!({"tools": []}),
        _ => message["params"]["taskId"].as_str().map_or_else(|| json!({}), task),
    };
    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    let answer =
        if arguments["stream"] == true { Answer::sse(&[answer], Duration::ZERO) } else { Answer::json(&answer) };
    if message["method"] == "initialize" { answer.header("mcp-session-id", "upstream-1") } else { answer }
}

/// A request of a client that knows tasks.
pub async fn ask(client: &Client, era: Era, method: &str, mut params: Value) -> Reply {
    if era == Era::Legacy {
        return client.post(&[LEGACY], request(1, method, &params).to_string()).await;
    }
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    });
    let name =
        params.get("name").or_else(|| params.get("taskId")).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    if !name.is_empty() {
        headers.push(("mcp-name", &name));
    }
    client.post(&headers, request(1, method, &params).to_string()).await
}

/// Has a task made, and gives the answer.
pub async fn make(client: &Client, era: Era, arguments: Value) -> Reply {
    let reply = ask(client, era, "tools/call", json!({"name": "slow", "arguments": arguments})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(String::from_utf8_lossy(&reply.body).contains("\"taskId\""), "{reply:?}");
    reply
}

/// The ids that a list shows.
pub fn listed(reply: &Reply) -> Vec<String> {
    let tasks = reply.json()["result"]["tasks"].as_array().cloned().unwrap_or_default();
    tasks.iter().filter_map(|task| task["taskId"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn m08_a_task_is_seen_and_cancelled_by_its_maker_only() {
    let (upstream, issuer) = (Upstream::start(answers).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let (alice, bob) = (alice(&gateway, &issuer), with(&gateway, &issuer, json!({"sub": "bob"})));
    let call = request(1, "tools/call", &json!({"name": "slow", "arguments": {}, "task": {"ttl": 60000}}));
    for client in [&alice, &bob] {
        assert_eq!(client.post(&[LEGACY], call.to_string()).await.status, 200);
    }
    upstream.forget();
    let ask = |method: &str, task: &str| request(2, method, &json!({"taskId": task})).to_string();
    for method in ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"] {
        for task in ["task-of-bob", "task-of-nobody", "unknown"] {
            let reply = alice.post(&[LEGACY], ask(method, task)).await;
            let told = (reply.status, reply.json()["error"]["message"].clone());
            assert_eq!(told, (400, json!("task not found")), "{method} {task}: foreign and unknown are one");
        }
        assert_eq!(alice.post(&[LEGACY], request(2, method, &json!({})).to_string()).await.status, 400);
    }
    upstream.assert_silent();
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        assert_eq!(alice.post(&[LEGACY], ask(method, "task-of-alice")).await.status, 200, "{method}");
        assert_eq!(bob.post(&[LEGACY], ask(method, "task-of-bob")).await.status, 200, "{method}");
    }
    let list = alice.post(&[LEGACY], request(3, "tasks/list", &json!({})).to_string()).await;
    assert_eq!(listed(&list), ["task-of-alice"], "a server that shows all tasks to everybody is made good");
}
