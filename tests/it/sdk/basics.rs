//! Connecting, listing, calling, reading: what every client does first, and what a bad token keeps it from.

use serde_json::{Value, json};

use super::{MODES, Place, Scene, Sdk, call, names, walks};
use crate::support::issuer::now;
use crate::support::process::Server;

fn policy(tools: &str) -> String {
    format!(
        r#"
scopes:
  "tools:use": {{ describe: Use the tools, default: true }}
  "tools:manage": {{ describe: Delete issues }}
rules:
  - allow: {{ tools: [{tools}], prompts: [review], resources: ["repo://acme/readme"] }}
    scopes: ["tools:use"]
  - allow: {{ tools: [delete_issues, get-env] }}
    scopes: ["tools:manage"]
  - deny: {{ tools: [delete_users, get-tiny-image] }}
"#
    )
}

#[tokio::test]
async fn each_sdk_client_does_what_its_token_allows_and_no_more() {
    let scene = Scene::both_modes(&policy("echo, add, era, \"search_*\", progress, \"delete_us*\"")).await;
    let wanted = json!([
        {"do": "tools/list"},
        call("echo", &json!({"message": "hi"})),
        call("progress", &json!({"steps": 3})),
        call("delete_users", &json!({"id": "1"})),
        call("delete_issues", &json!({"id": "1"})),
        {"do": "resources/read", "uri": "repo://acme/readme"},
        {"do": "resources/read", "uri": "repo://acme/secret"},
        {"do": "prompts/get", "name": "review", "arguments": {"subject": "x"}},
        {"do": "prompts/get", "name": "admin", "arguments": {"subject": "x"}},
        {"do": "prompts/list"},
        {"do": "resources/list"},
        call("era", &json!({})),
    ]);
    for walk in walks(&Sdk::ALL, |sdk| scene.places(sdk, "tools:use"), |_| wanted.clone()).await {
        let (sdk, mode) = (walk.sdk, MODES[walk.place]);
        assert_eq!(walk.step("connect")["ok"], true, "{walk}");
        let tools = names(walk.result(0), "tools");
        assert_eq!(tools, ["add", "echo", "era", "progress", "search_issues", "search_users"], "{sdk:?}, {mode}");
        assert_eq!(walk.text(1), "hi", "{walk}");
        assert_eq!(walk.text(2), "3 steps", "{walk}");
        // Where answers are JSON there is nothing that could carry progress.
        let reported: Vec<f64> = serde_json::from_value(walk.result(2)["progress"].clone()).expect("numbers");
        assert_eq!(reported, if mode == "sse" { vec![1., 2., 3.] } else { Vec::new() }, "{sdk:?}, {mode}: {walk}");
        assert_eq!(walk.refusal(3).0, 403, "{sdk:?}: a deny rule wins");
        let (status, challenge) = walk.refusal(4);
        assert_eq!(status, 403, "{sdk:?}: a scope is missing");
        assert!(challenge.contains("insufficient_scope") && challenge.contains("tools:manage"), "{sdk:?}: {challenge}");
        assert_eq!(walk.result(5)["contents"][0]["text"], "readme", "{sdk:?}");
        assert_eq!(walk.refusal(6).0, 403, "{sdk:?}: no rule allows the resource");
        assert_eq!(walk.result(7)["messages"][0]["content"]["text"], "review x", "{sdk:?}");
        assert_eq!(walk.refusal(8).0, 403, "{sdk:?}: no rule allows the prompt");
        assert_eq!(names(walk.result(9), "prompts"), ["review"], "{sdk:?}");
        assert_eq!(names(walk.result(10), "resources"), ["readme"], "{sdk:?}");
        let era = if sdk.is_legacy() { "legacy" } else { "modern" };
        assert_eq!(walk.text(11), era, "{sdk:?} speaks its own era to the server");

        assert_eq!(
            scene.called(&walk),
            ["echo", "progress", "era"],
            "{sdk:?}: the server saw the permitted calls alone"
        );
        let read = scene.params(&walk, "resources/read");
        assert!(read.iter().all(|params| params["uri"] == "repo://acme/readme"), "{sdk:?}: the readme alone: {read:?}");
        let got = scene.params(&walk, "prompts/get");
        assert!(got.iter().all(|params| params["name"] == "review"), "{sdk:?}: the review alone: {got:?}");
        assert_eq!((read.len(), got.len()), (1, 1), "{sdk:?}");
    }
    let is_credential =
        |header: &Value| header[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case("authorization"));
    for request in MODES.iter().enumerate().flat_map(|(place, _)| scene.server(place).received()) {
        let headers = request["headers"].as_array().expect("headers");
        assert!(!headers.iter().any(is_credential), "the token stays at the gateway: {request:#}");
    }
}

#[tokio::test]
async fn sdk_clients_use_server_everything_through_the_gateway() {
    let scene =
        Scene::before(vec![("everything", Server::everything())], &policy("echo, get-sum, \"get-tiny-*\"")).await;
    let wanted = json!([
        {"do": "tools/list"},
        call("echo", &json!({"message": "hi"})),
        call("get-sum", &json!({"a": 1, "b": 2})),
        call("get-tiny-image", &json!({})),
        call("get-env", &json!({})),
    ]);
    for walk in walks(&Sdk::LEGACY, |sdk| scene.places(sdk, "tools:use"), |_| wanted.clone()).await {
        assert_eq!(names(walk.result(0), "tools"), ["echo", "get-sum"], "{walk}");
        assert_eq!(walk.text(1), "Echo: hi", "{walk}");
        assert_eq!(walk.text(2), "The sum of 1 and 2 is 3.", "{walk}");
        assert_eq!(walk.refusal(3).0, 403, "a deny rule wins; {walk}");
        let (status, challenge) = walk.refusal(4);
        assert_eq!(status, 403, "a scope is missing; {walk}");
        assert!(challenge.contains("insufficient_scope") && challenge.contains("tools:manage"), "{challenge}; {walk}");
        assert_eq!(scene.called(&walk), ["echo", "get-sum"], "the server saw the permitted calls alone; {walk}");
    }
}

/// A client that does not know the server's era asks for the modern one first, and learns through the gateway which it is.
#[tokio::test]
async fn sdk_clients_agree_with_the_server_on_an_era_through_the_gateway() {
    let servers = vec![("json", Server::dual_era("json")), ("everything", Server::everything())];
    let scene = Scene::before(servers, &policy("echo, era, \"get-tiny-*\"")).await;
    let wanted = json!([
        call("echo", &json!({"message": "hi"})),
        call("era", &json!({})),
        call("get-env", &json!({})),
        call("get-tiny-image", &json!({})),
    ]);
    for walk in walks(&Sdk::AUTO, |sdk| scene.places(sdk, "tools:use"), |_| wanted.clone()).await {
        assert_eq!(walk.step("connect")["ok"], true, "{walk}");
        assert!(walk.text(0).ends_with("hi"), "{walk}");
        let opened = scene.params(&walk, "initialize").len();
        if walk.place == 0 {
            assert_eq!((walk.text(1), opened), ("modern", 0), "this server speaks the modern era; {walk}");
        } else {
            assert_eq!(opened, 1, "this server speaks the legacy era alone; {walk}");
        }
        assert_eq!((walk.refusal(2).0, walk.refusal(3).0), (403, 403), "either era has the same rules; {walk}");
        assert_eq!(scene.called(&walk), ["echo", "era"], "the server saw the permitted calls alone; {walk}");
    }
}

#[tokio::test]
async fn sdk_clients_without_a_token_do_what_is_open_to_everybody_and_no_more() {
    let policy = r#"
authentication: { providers: [corp], optional: true }
scopes:
  "tools:use": { describe: Use the tools, default: true }
rules:
  - allow: { tools: [echo], resources: ["repo://acme/readme"] }
    identity: none
  - allow: { tools: [add], prompts: [review], resources: ["repo://acme/*"] }
    scopes: ["tools:use"]
"#;
    let scene = Scene::before(vec![("sse", Server::dual_era("sse"))], policy).await;
    let wanted = json!([
        {"do": "tools/list"},
        call("echo", &json!({"message": "hi"})),
        {"do": "resources/read", "uri": "repo://acme/readme"},
        call("add", &json!({"a": 1, "b": 2})),
        {"do": "resources/read", "uri": "repo://acme/secret"},
        {"do": "prompts/get", "name": "review", "arguments": {"subject": "x"}},
        {"do": "prompts/list"},
    ]);
    let nobody = |_| vec![Place { url: scene.url("sse"), token: String::new() }];
    let sdks = [Sdk::TypeScript1, Sdk::TypeScriptModern, Sdk::PythonLegacy];
    for walk in walks(&sdks, nobody, |_| wanted.clone()).await {
        assert_eq!(names(walk.result(0), "tools"), ["echo"], "{walk}");
        assert_eq!(walk.text(1), "hi", "{walk}");
        assert_eq!(walk.result(2)["contents"][0]["text"], "readme", "{walk}");
        for number in [3, 4, 5] {
            let (status, challenge) = walk.refusal(number);
            assert_eq!(status, 401, "step {number}: whoever has not said who they are is asked to; {walk}");
            assert!(challenge.contains("resource_metadata="), "{challenge}; {walk}");
        }
        assert_eq!(names(walk.result(6), "prompts"), [] as [&str; 0], "{walk}");
    }
    let arrived = |method: &str, member: &str| -> Vec<Value> {
        scene.server(0).messages(method).iter().map(|message| message["params"][member].clone()).collect()
    };
    assert_eq!(arrived("tools/call", "name"), vec![json!("echo"); sdks.len()], "nothing else reached the server");
    assert_eq!(arrived("resources/read", "uri"), vec![json!("repo://acme/readme"); sdks.len()]);
    assert_eq!(arrived("prompts/get", "name"), [] as [Value; 0]);
    // The same steps with a token.
    for walk in walks(&[Sdk::TypeScriptModern], |sdk| scene.places(sdk, "tools:use"), |_| wanted.clone()).await {
        assert_eq!((walk.text(3), names(walk.result(6), "prompts")), ("3", vec!["review".to_owned()]), "{walk}");
        assert_eq!(walk.result(4)["contents"][0]["text"], "secret", "{walk}");
    }
}

#[tokio::test]
async fn no_sdk_client_reaches_a_server_with_a_token_that_is_not_good_here() {
    let mut servers: Vec<_> = MODES.map(|mode| (mode, Server::dual_era(mode))).into();
    servers.push(("everything", Server::everything()));
    let scene = Scene::before(servers, &policy("echo")).await;
    let bad = |service: &str, sdk: Sdk| {
        let url = scene.url(service);
        let changed = |audience: &str, mut changes: Value| {
            changes["sub"] = json!(sdk.person());
            Place { url: url.clone(), token: scene.issuer.token(audience, changes) }
        };
        [
            changed("http://127.0.0.1:1/other", json!({"scope": "tools:use"})),
            changed(&url, json!({"scope": "tools:use", "exp": now() - 600})),
            Place { url: url.clone(), token: String::new() },
        ]
    };
    let kinds = ["wrong audience", "expired", "absent"];
    let services: Vec<&str> = scene.servers.iter().map(|(name, _)| *name).collect();
    let wanted = json!([call("echo", &json!({"message": "hi"}))]);
    let everywhere = |sdk: Sdk| services.iter().flat_map(|service| bad(service, sdk)).collect();
    let refused = walks(&Sdk::ALL, everywhere, |_| wanted.clone()).await;
    assert_eq!(refused.len(), Sdk::ALL.len() * kinds.len() * services.len(), "every client was everywhere");
    for walk in refused {
        let what = kinds[walk.place % kinds.len()];
        let answers: Vec<&Value> =
            walk.lines.iter().flat_map(|line| line["http"].as_array().into_iter().flatten()).collect();
        assert!(!answers.is_empty(), "{what}: the client asked; {walk}");
        for answer in answers {
            let challenge = answer["challenge"].as_str().unwrap_or_default();
            assert_eq!(answer["status"], 401, "{what}; {walk}");
            assert!(challenge.contains("resource_metadata="), "{what}: {challenge}; {walk}");
        }
        assert!(walk.lines.iter().any(|line| line["ok"] == false), "{what}: the client is told; {walk}");
    }
    for (name, server) in &scene.servers {
        assert_eq!(server.received(), [] as [Value; 0], "{name}: nothing reached the server");
    }
    // The same clients and steps with a good token: the silence above was the gateway's doing.
    for walk in walks(&Sdk::LEGACY, |sdk| scene.places(sdk, "tools:use"), |_| wanted.clone()).await {
        assert!(walk.text(0).contains("hi"), "{walk}");
        assert_eq!(scene.called(&walk), ["echo"], "{walk}");
    }
    for (name, server) in &scene.servers {
        assert_eq!(server.messages("tools/call").len(), Sdk::LEGACY.len(), "{name}: and nobody else's call arrived");
    }
}
