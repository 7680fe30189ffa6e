//! What a policy keeps clients and servers from: completion, subscription, sampling and elicitation, each beside a
//! request that passes.

use serde_json::{Value, json};

use super::interactive::{POLICY, completion};
use super::{MODES, Scene, Sdk, Walk, call, walks};
use crate::support::client::Reply;
use crate::support::{Client, Era, eventually};

fn subscription(uri: &str) -> Value {
    json!({"do": "subscribe", "uri": uri})
}

#[tokio::test]
async fn an_sdk_client_gets_no_further_than_the_policy_wherever_it_asks() {
    let policy = format!("{POLICY}server_requests: {{ sampling: false, elicitation: {{ form: false }} }}\n");
    let scene = Scene::both_modes(&policy).await;
    let wanted = json!([
        completion("ref/prompt", "review", "subject", "co"),
        completion("ref/prompt", "admin", "subject", "co"),
        completion("ref/resource", "repo://acme/files/{path}", "path", "a"),
        completion("ref/resource", "repo://acme/vault/{path}", "path", "g"),
        subscription("repo://acme/readme"),
        subscription("repo://acme/vault/gold"),
        subscription("repo://acme/secret"),
        call("slow", &json!({"ms": 1})),
        call("sample", &json!({"patience": 500})),
        call("ask", &json!({"patience": 500})),
        call("progress", &json!({"steps": 1})),
    ]);
    for walk in walks(&Sdk::ALL, |sdk| scene.places(sdk, "tools:use"), |_| wanted.clone()).await {
        completion_follows_the_rules(&scene, &walk);
        subscription_follows_the_rules(&scene, &walk);
        the_server_asks_in_vain(&scene, &walk);
        assert_eq!(walk.text(10), "1 steps", "a refused wish ends one call and not the client; {walk}");
        let called = scene.called(&walk);
        assert_eq!(called, ["touch", "sample", "ask", "progress"], "the server saw the permitted calls alone; {walk}");
    }
}

fn completion_follows_the_rules(scene: &Scene, walk: &Walk) {
    assert_eq!(walk.result(0)["completion"]["values"], json!(["code", "contract"]), "{walk}");
    assert_eq!(walk.refusal(1).0, 403, "no rule allows the prompt; {walk}");
    assert_eq!(walk.result(2)["completion"]["values"], json!(["alpha", "amber"]), "{walk}");
    assert_eq!(walk.refusal(3).0, 403, "no rule allows the resources of the template; {walk}");
    let asked: Vec<Value> =
        scene.params(walk, "completion/complete").iter().map(|params| params["ref"].clone()).collect();
    let permitted = [
        json!({"type": "ref/prompt", "name": "review"}),
        json!({"type": "ref/resource", "uri": "repo://acme/files/{path}"}),
    ];
    assert_eq!(asked, permitted, "{walk}");
}

fn subscription_follows_the_rules(scene: &Scene, walk: &Walk) {
    assert_eq!(walk.heard(4), ["repo://acme/readme"], "{walk}");
    assert_eq!(walk.refusal(5).0, 403, "no rule allows the resource; {walk}");
    let (status, challenge) = walk.refusal(6);
    assert_eq!(status, 403, "a scope is missing; {walk}");
    assert!(challenge.contains("insufficient_scope") && challenge.contains("secrets:read"), "{challenge}; {walk}");
    let method = if walk.sdk.is_legacy() { "resources/subscribe" } else { "subscriptions/listen" };
    let said = json!(scene.params(walk, method)).to_string();
    assert!(said.contains("readme") && !said.contains("vault") && !said.contains("secret"), "{said}; {walk}");
}

/// The call reaches the server, its wish does not reach the client, and no answer to it reaches the server.
fn the_server_asks_in_vain(scene: &Scene, walk: &Walk) {
    assert_eq!(walk.refusal(7).0, 403, "no rule allows the tool; {walk}");
    for number in [8, 9] {
        let line = walk.step(number);
        // On the session's own stream no call can be told that it failed: there the server gives up by itself.
        let by_server = walk.sdk.is_legacy() && MODES[walk.place] == "json";
        let failed = if by_server { line["result"]["isError"] == true } else { line["ok"] == false };
        assert!(failed, "step {number} must end with an error; {walk}");
    }
    for line in &walk.lines {
        assert_eq!(line["asked"], json!([]), "the client is never asked; {walk}");
    }
    for request in scene.arrived(walk.place, &walk.sdk.person()) {
        let message = &request["message"];
        let answers = message.get("result").or_else(|| message["params"].get("inputResponses"));
        assert_eq!(answers, None, "nobody answered; {message:#}");
    }
}

/// Calls a tool as the modern era does, of a client that lets the server ask for sampling.
async fn call_again(client: &Client, tool: &str, answers: &Value) -> Reply {
    let version = "2026-07-28";
    let mut params = json!({"name": tool, "arguments": {}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
        "io.modelcontextprotocol/clientInfo": {"name": "portcullis-tests", "version": "1.0.0"}
    }});
    for (name, value) in answers.as_object().into_iter().flatten() {
        params[name] = value.clone();
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let headers = [("mcp-protocol-version", version), ("mcp-method", "tools/call"), ("mcp-name", tool)];
    client.post(&headers, message.to_string()).await
}

/// What a server asked for opens nothing: whoever comes back with the answers must be allowed the call.
#[tokio::test]
async fn k12_a_call_that_brings_answers_is_judged_like_the_first() {
    let scene = Scene::both_modes(POLICY).await;
    let answers = json!({
        "inputResponses": {"said": {
            "model": "parrot", "role": "assistant", "content": {"type": "text", "text": "something"}
        }},
        "requestState": "asked"
    });
    for (place, mode) in MODES.iter().enumerate() {
        let as_person = |person: &str, scope: &str| {
            Client::new(&scene.url(mode)).token(&scene.token(mode, person, scope)).era(Era::Modern)
        };
        let (alice, mallory) = (as_person("alice", "tools:use"), as_person("mallory", "secrets:read"));
        let asked = call_again(&alice, "sample", &json!({})).await.json();
        assert_eq!(asked["result"]["resultType"], "input_required", "{mode}: {asked:#}");

        let reply = call_again(&mallory, "sample", &answers).await;
        assert_eq!(reply.status, 403, "{mode}: {reply:?}");
        assert!(reply.header("www-authenticate").contains("insufficient_scope"), "{mode}: {reply:?}");
        assert_eq!(call_again(&mallory, "slow", &answers).await.status, 403, "{mode}: no rule allows it");
        assert_eq!(scene.arrived(place, "mallory"), [] as [Value; 0], "{mode}: nothing of hers reached the server");
        assert_eq!(call_again(&alice, "slow", &answers).await.status, 403, "{mode}: her state opens no other tool");
        assert_eq!(scene.arrived(place, "alice").len(), 1, "{mode}: her first call alone");

        let done = call_again(&alice, "sample", &answers).await.json();
        assert_eq!(done["result"]["content"][0]["text"], "parrot: something (asked)", "{mode}: {done:#}");
        assert_eq!(scene.arrived(place, "alice").len(), 2, "{mode}");
    }
}

/// A policy that no longer permits a subscription ends its stream; the client notices, goes on, and gets it no more.
#[tokio::test]
async fn an_sdk_client_loses_the_subscription_that_an_edited_policy_no_longer_permits() {
    let scene = Scene::both_modes(POLICY).await;
    let listen = json!({"do": "listen", "uri": "repo://acme/readme"});
    let wanted = json!([listen, call("progress", &json!({"steps": 1})), listen]);
    let sdks = [Sdk::TypeScriptModern, Sdk::PythonModern];
    let sse = |sdk| vec![scene.places(sdk, "tools:use").remove(1)];
    let arrived = |sdk: Sdk, method: &str| {
        let requests = scene.arrived(1, &sdk.person());
        requests.iter().filter(|request| request["message"]["method"] == method).count()
    };
    let edit = async {
        // The clients touch the resource once they listen to it.
        eventually("both clients to listen", || sdks.iter().all(|sdk| arrived(*sdk, "tools/call") > 0).then_some(()))
            .await;
        let policy = std::fs::read_to_string(scene.gateway.policy_path("sse")).expect("the policy");
        let edited = policy.replace("\"repo://acme/readme\", ", "");
        assert_ne!(edited, policy, "the edit takes the resource away");
        scene.gateway.write_policy("sse", &edited);
    };
    let (walks, ()) = tokio::join!(walks(&sdks, sse, |_| wanted.clone()), edit);
    for walk in walks {
        assert_eq!(walk.result(0)["closed"], "remote", "{walk}");
        assert_eq!(walk.text(1), "1 steps", "what is still permitted goes on; {walk}");
        assert_eq!(walk.refusal(2).0, 403, "{walk}");
        assert_eq!(arrived(walk.sdk, "subscriptions/listen"), 1, "the second did not reach the server; {walk}");
    }
}
