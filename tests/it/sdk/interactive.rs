//! What takes more than one message: completion, sampling, elicitation, progress, broken streams, cancellation and
//! subscriptions, in both eras.

use serde_json::{Value, json};

use super::{MODES, Scene, Sdk, Walk, call, walks};
use crate::support::Client;

pub const POLICY: &str = r#"
scopes:
  "tools:use": { describe: Use the tools, default: true }
  "secrets:read": { describe: Read the secret }
rules:
  - allow:
      tools: [sample, ask, progress, broken_off, hang, begun, cancelled, touch]
      prompts: [review]
      resources: ["repo://acme/readme", "repo://acme/files/*"]
    scopes: ["tools:use"]
  - allow: { resources: ["repo://acme/secret"] }
    scopes: ["secrets:read"]
"#;

const README: &str = "repo://acme/readme";
const SECRET: &str = "repo://acme/secret";

pub fn completion(kind: &str, what: &str, argument: &str, value: &str) -> Value {
    let named = if kind == "ref/prompt" { "name" } else { "uri" };
    json!({"do": "completion/complete", "ref": {"type": kind, named: what}, "argument": {"name": argument, "value": value}})
}

/// The steps of a client that uses everything it may.
fn everything(sdk: Sdk) -> Value {
    let mut steps = vec![
        completion("ref/prompt", "review", "subject", "co"),
        completion("ref/resource", "repo://acme/files/{path}", "path", "a"),
        call("sample", &json!({})),
        call("ask", &json!({})),
        call("progress", &json!({"steps": 3})),
        call("broken_off", &json!({})),
        json!({"do": "cancel", "name": "hang", "arguments": {"label": sdk.person()}}),
        json!({"do": "subscribe", "uri": README, "touch": [{"uri": SECRET, "careless": true}]}),
    ];
    // The Python SDK ends its session by itself.
    if matches!(sdk, Sdk::TypeScript1 | Sdk::TypeScriptLegacy) {
        steps.push(json!({"do": "terminate"}));
    }
    Value::Array(steps)
}

#[tokio::test]
async fn each_sdk_client_completes_answers_resumes_cancels_and_subscribes() {
    let scene = Scene::both_modes(POLICY).await;
    for walk in walks(&Sdk::ALL, |sdk| scene.places(sdk, "tools:use"), everything).await {
        assert_eq!(walk.step("connect")["ok"], true, "{walk}");
        completes(&scene, &walk);
        answers_the_server(&scene, &walk);
        hears_of_progress_and_resumes(&scene, &walk);
        cancels(&scene, &walk);
        subscribes(&scene, &walk);
        ends_its_session(&scene, &walk);
    }
}

fn completes(scene: &Scene, walk: &Walk) {
    assert_eq!(walk.result(0)["completion"]["values"], json!(["code", "contract"]), "{walk}");
    assert_eq!(walk.result(1)["completion"]["values"], json!(["alpha", "amber"]), "{walk}");
    assert_eq!(scene.params(walk, "completion/complete").len(), 2, "{walk}");
}

/// Sampling and elicitation: requests of the server in the legacy era, `input_required` in the modern one.
fn answers_the_server(scene: &Scene, walk: &Walk) {
    assert_eq!(walk.text(2), "parrot: something (asked)", "{walk}");
    assert_eq!(walk.text(3), "accept: Ada (asked)", "{walk}");
    let asked: Vec<&Value> =
        walk.lines.iter().flat_map(|line| line["asked"].as_array().into_iter().flatten()).collect();
    let questions = [
        json!({"method": "sampling/createMessage", "text": "Say something"}),
        json!({"method": "elicitation/create", "text": "Who are you?"}),
    ];
    assert_eq!(asked, questions.each_ref(), "the client was asked twice; {walk}");

    let (mut answers, mut again) = (0, 0);
    for request in scene.arrived(walk.place, &walk.sdk.person()) {
        let message = &request["message"];
        answers += usize::from(message.get("result").is_some());
        let params = &message["params"];
        if params.get("inputResponses").is_some() {
            assert_eq!(params["requestState"], "asked", "the state comes back as it was; {message:#}");
            again += 1;
        }
    }
    let expected = if walk.sdk.is_legacy() { (2, 0) } else { (0, 2) };
    assert_eq!((answers, again), expected, "how the answers came to the server; {walk}");
}

/// Where answers are JSON there is nothing that could carry progress or break off, and the modern era resumes nothing.
fn hears_of_progress_and_resumes(scene: &Scene, walk: &Walk) {
    let progress = |number: usize| -> Vec<f64> {
        serde_json::from_value(walk.result(number)["progress"].clone()).expect("numbers")
    };
    assert_eq!(walk.text(4), "3 steps", "{walk}");
    let streams = MODES[walk.place] == "sse";
    assert_eq!(progress(4), if streams { vec![1., 2., 3.] } else { Vec::new() }, "{walk}");
    let resumptions =
        |line: &Value| line["http"].as_array().into_iter().flatten().filter(|answer| answer["resumed"] == true).count();
    if !(streams && walk.sdk.is_legacy()) {
        assert_eq!(walk.text(5), "nothing to break off", "{walk}");
        return;
    }
    assert_eq!(walk.text(5), "resumed", "{walk}");
    assert_eq!(progress(5), [1., 2., 3.], "what the client missed came after all, and nothing twice; {walk}");
    assert!(resumptions(walk.step(5)) >= 1, "it asked from its last event on; {walk}");
    let arrived = scene.arrived(walk.place, &walk.sdk.person());
    let resumed = arrived.iter().filter(|request| {
        let headers = request["headers"].as_array().into_iter().flatten();
        request["method"] == "GET" && headers.clone().any(|header| header[0].as_str().is_some_and(is_last_event_id))
    });
    assert!(resumed.count() >= 1, "the server was asked for what was missed; {walk}");
}

fn is_last_event_id(name: &str) -> bool {
    name.eq_ignore_ascii_case("last-event-id")
}

/// A legacy client says so, a modern one closes its stream; either way the server stops.
fn cancels(scene: &Scene, walk: &Walk) {
    assert_eq!(walk.result(6)["noticed"], "cancelled", "{walk}");
    assert_ne!(walk.result(6)["outcome"], "answered", "{walk}");
    let noted: Vec<Value> = scene.server(walk.place).received();
    let noted = noted.iter().filter(|line| line["cancelled"] == json!(walk.sdk.person())).count();
    assert_eq!(noted, 1, "the server saw this call given up, once; {walk}");
    let said = scene.params(walk, "notifications/cancelled").len();
    if walk.sdk.is_legacy() {
        assert_eq!(said, 1, "{walk}");
    }
}

/// A careless server tells every session of every change; the gateway passes on what the caller may read.
fn subscribes(scene: &Scene, walk: &Walk) {
    assert_eq!(walk.heard(7), [README], "{walk}");
    let method = if walk.sdk.is_legacy() { "resources/subscribe" } else { "subscriptions/listen" };
    assert_eq!(scene.params(walk, method).len(), 1, "{walk}");
}

/// Only the legacy era has sessions, and each client has one.
fn ends_its_session(scene: &Scene, walk: &Walk) {
    let arrived = scene.arrived(walk.place, &walk.sdk.person());
    let ended = arrived.iter().filter(|request| request["method"] == "DELETE").count();
    assert_eq!(ended, usize::from(walk.sdk.is_legacy()), "{walk}");
}

/// The control of the silence above: whoever may read the secret hears of it.
#[tokio::test]
async fn an_sdk_client_hears_of_every_resource_that_it_may_read() {
    let scene = Scene::both_modes(POLICY).await;
    let wanted = json!([{"do": "subscribe", "uri": README, "touch": [{"uri": SECRET, "careless": true}]}]);
    let sdks = [Sdk::TypeScriptLegacy];
    for walk in walks(&sdks, |sdk| scene.places(sdk, "tools:use secrets:read"), |_| wanted.clone()).await {
        assert_eq!(walk.heard(0), [README, SECRET], "{walk}");
    }
}

/// What one person's session missed, runs and awaits is nobody else's.
#[tokio::test]
async fn a_stranger_neither_resumes_nor_cancels_nor_answers_in_the_session_of_an_sdk_client() {
    let scene = Scene::both_modes(POLICY).await;
    let sse = |sdk| vec![scene.places(sdk, "tools:use").remove(1)];
    let walks = walks(&[Sdk::TypeScriptLegacy], sse, |_| json!([call("broken_off", &json!({}))])).await;
    let end = walks[0].step("end");
    let (session, event) = (end["session"].as_str().expect("a session"), end["event"].as_str().expect("an event"));
    let as_person = |person: &str| Client::new(&scene.url("sse")).token(&scene.token("sse", person, "tools:use"));

    let of_session = [("mcp-session-id", session), ("mcp-protocol-version", "2025-11-25")];
    let usual = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let posted: Vec<_> = of_session.into_iter().chain(usual).collect();
    let resumed = [of_session[0], of_session[1], ("accept", "text/event-stream"), ("last-event-id", event)];
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    let answer = json!({"jsonrpc": "2.0", "id": 0, "result": {"action": "decline"}});
    let subscribe = json!({"jsonrpc": "2.0", "id": 9, "method": "resources/subscribe", "params": {"uri": README}});
    let tries = [
        ("POST", &posted[..], cancel.to_string(), 202),
        ("POST", &posted, answer.to_string(), 202),
        ("POST", &posted, subscribe.to_string(), 200),
        ("GET", &resumed, String::new(), 200),
    ];
    for (method, headers, body, _) in &tries {
        let reply = as_person("mallory").send(method, "/sse/mcp", headers, body.clone()).await;
        assert_eq!(reply.status, 404, "{method} {body}: {reply:?}");
    }
    assert_eq!(scene.arrived(1, "mallory"), [] as [Value; 0], "nothing of hers reached the server");

    let before = scene.arrived(1, "TypeScriptLegacy").len();
    for (method, headers, body, status) in &tries {
        let reply = as_person("TypeScriptLegacy").send(method, "/sse/mcp", headers, body.clone()).await;
        assert_eq!(reply.status, *status, "{method} {body}: {reply:?}");
        if *method == "GET" {
            let said = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(
                said.contains("\"progress\":3") && said.contains("resumed"),
                "the owner gets what came after: {said}"
            );
        }
    }
    assert_eq!(scene.arrived(1, "TypeScriptLegacy").len(), before + tries.len(), "hers all did");
}
