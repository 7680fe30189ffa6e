//! Tasks belong to the identity that made them.

use serde_json::{Value, json};

use super::{alice, request, setup, with};
use crate::support::upstream::Request;
use crate::support::{Answer, Issuer, Upstream};

const RULES: &str = "rules: [{ allow: { tools: [slow] } }]";
const LEGACY: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

/// Every call makes a task that is named after its caller; the list shows all of them to everybody.
fn answers(request: &Request) -> Answer {
    let message = request.json();
    let who = request.header("x-portcullis-subject").join(",");
    let task = |id: &str| json!({"taskId": id, "status": "working"});
    let result = match message["method"].as_str() {
        Some("tools/call") => json!({"task": task(&format!("task-of-{who}"))}),
        Some("tasks/list") => json!({"tasks": [task("task-of-alice"), task("task-of-bob"), task("task-of-nobody")]}),
        _ => task("task"),
    };
    Answer::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
}

#[tokio::test]
async fn a_task_is_seen_and_cancelled_by_its_maker_only() {
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
    let listed = alice.post(&[LEGACY], request(3, "tasks/list", &json!({})).to_string()).await.json();
    let ids: Vec<&Value> =
        listed["result"]["tasks"].as_array().into_iter().flatten().map(|task| &task["taskId"]).collect();
    assert_eq!(ids, ["task-of-alice"], "a server that shows all tasks to everybody is made good");
}
