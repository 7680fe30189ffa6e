//! Real MCP clients, a real token, real MCP servers: the official SDKs talk through the gateway, and the server's own
//! record is the witness that what the policy denies never reached it.

use serde_json::{Value, json};

use crate::support::issuer::now;
use crate::support::process::{Server, node, python, steps};
use crate::support::{Gateway, Issuer};

/// The official clients, by SDK and era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sdk {
    /// The 1.x TypeScript SDK.
    TypeScript1,
    TypeScriptLegacy,
    TypeScriptModern,
    PythonLegacy,
    PythonModern,
}

impl Sdk {
    const LEGACY: [Self; 3] = [Self::TypeScript1, Self::TypeScriptLegacy, Self::PythonLegacy];
    const ALL: [Self; 5] =
        [Self::TypeScript1, Self::TypeScriptLegacy, Self::TypeScriptModern, Self::PythonLegacy, Self::PythonModern];

    /// Connects, takes the steps one after another and tells what came of each; `connect` comes first.
    async fn walk(self, url: &str, token: &str, wanted: &Value) -> Vec<Value> {
        let (mut command, era) = match self {
            Self::TypeScript1 => (node("client.mjs"), "v1"),
            Self::TypeScriptLegacy => (node("client.mjs"), "legacy"),
            Self::TypeScriptModern => (node("client.mjs"), "modern"),
            Self::PythonLegacy => (python("client.py"), "legacy"),
            Self::PythonModern => (python("client.py"), "modern"),
        };
        command.args(["--url", url, "--token", token, "--era", era, "--steps", &wanted.to_string()]);
        steps(command).await
    }
}

/// A gateway before one server, trusting one issuer.
struct Scene {
    issuer: Issuer,
    server: Server,
    gateway: Gateway,
}

impl Scene {
    async fn before(server: Server, tools: &str) -> Self {
        let issuer = Issuer::start().await;
        let policy = format!(
            r#"
service: sdk
route: {{ path: /sdk/mcp }}
upstream: {{ url: "{}" }}
providers: {{ corp: {{ oidc: {{ issuer: "{}" }} }} }}
authentication: {{ providers: [corp] }}
scopes:
  "tools:use": {{ describe: Use the tools, default: true }}
  "tools:manage": {{ describe: Delete issues }}
rules:
  - allow: {{ tools: [{tools}], prompts: [review], resources: ["repo://acme/readme"] }}
    scopes: ["tools:use"]
  - allow: {{ tools: [delete_issues, get-env] }}
    scopes: ["tools:manage"]
  - deny: {{ tools: [delete_users, get-tiny-image] }}
"#,
            server.url(),
            issuer.url()
        );
        let gateway = Gateway::new().policy("sdk", &policy).start().await;
        Self { issuer, server, gateway }
    }

    async fn dual_era(mode: &str) -> Self {
        Self::before(Server::dual_era(mode), "echo, add, era, \"search_*\", progress, \"delete_us*\"").await
    }

    async fn everything() -> Self {
        Self::before(Server::everything(), "echo, get-sum, \"get-tiny-*\"").await
    }

    fn url(&self) -> String {
        self.gateway.url("/sdk/mcp")
    }

    fn token(&self) -> String {
        self.issuer.token(&self.url(), json!({"scope": "tools:use"}))
    }

    /// The names of the tools that were really called.
    fn called(&self) -> Vec<String> {
        self.server
            .messages("tools/call")
            .iter()
            .filter_map(|call| call["params"]["name"].as_str().map(str::to_owned))
            .collect()
    }
}

fn call(name: &str, arguments: &Value) -> Value {
    json!({"do": "tools/call", "name": name, "arguments": arguments})
}

/// The line about one step: `connect`, or the step's number.
#[track_caller]
fn step<'a>(lines: &'a [Value], wanted: &Value) -> &'a Value {
    lines.iter().find(|line| line["step"] == *wanted).unwrap_or_else(|| panic!("no step {wanted} in {lines:#?}"))
}

#[track_caller]
fn result(lines: &[Value], number: usize) -> &Value {
    let line = step(lines, &json!(number));
    assert_eq!(line["ok"], true, "step {number} must succeed: {lines:#?}");
    &line["result"]
}

/// What HTTP answered to the POST of a step that the SDK reports as failed.
#[track_caller]
fn refusal(lines: &[Value], number: usize) -> (u64, String) {
    let line = step(lines, &json!(number));
    assert_eq!(line["ok"], false, "step {number} must fail: {lines:#?}");
    let answers = line["http"].as_array().expect("HTTP answers");
    let answer =
        answers.iter().find(|answer| answer["method"] == "POST").unwrap_or_else(|| panic!("no POST: {line:#}"));
    (answer["status"].as_u64().expect("a status"), answer["challenge"].as_str().unwrap_or_default().to_owned())
}

fn names(result: &Value, list: &str) -> Vec<String> {
    let mut names: Vec<String> = result[list]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

async fn each_client_does_what_its_token_allows_and_no_more(mode: &str) {
    for sdk in Sdk::ALL {
        let scene = Scene::dual_era(mode).await;
        let wanted = json!([
            {"do": "tools/list"},
            call("echo", &json!({"message": "hi"})),
            call("progress", &json!({"steps": 3})),
            call("delete_users", &json!({"id": "1"})),
            call("delete_issues", &json!({"id": "1"})),
            {"do": "resources/read", "uri": "repo://acme/readme"},
            {"do": "resources/read", "uri": "repo://acme/secret"},
            {"do": "prompts/get", "name": "review", "arguments": {"subject": "x"}},
            {"do": "prompts/list"},
            call("era", &json!({})),
        ]);
        let lines = sdk.walk(&scene.url(), &scene.token(), &wanted).await;

        assert_eq!(step(&lines, &json!("connect"))["ok"], true, "{sdk:?} connects: {lines:#?}");
        let tools = names(result(&lines, 0), "tools");
        assert_eq!(tools, ["add", "echo", "era", "progress", "search_issues", "search_users"], "{sdk:?}");
        assert_eq!(result(&lines, 1)["content"][0]["text"], "hi", "{sdk:?}");
        assert_eq!(result(&lines, 2)["content"][0]["text"], "3 steps", "{sdk:?}");
        if mode == "sse" && !matches!(sdk, Sdk::PythonLegacy | Sdk::PythonModern) {
            assert_eq!(result(&lines, 2)["progress"], json!([1, 2, 3]), "{sdk:?} sees the events of the stream");
        }
        assert_eq!(refusal(&lines, 3).0, 403, "{sdk:?}: a deny rule wins");
        let (status, challenge) = refusal(&lines, 4);
        assert_eq!(status, 403, "{sdk:?}: a scope is missing");
        assert!(challenge.contains("insufficient_scope") && challenge.contains("tools:manage"), "{sdk:?}: {challenge}");
        assert_eq!(result(&lines, 5)["contents"][0]["text"], "readme", "{sdk:?}");
        assert_eq!(refusal(&lines, 6).0, 403, "{sdk:?}: no rule allows the resource");
        assert_eq!(result(&lines, 7)["messages"][0]["content"]["text"], "review x", "{sdk:?}");
        assert_eq!(names(result(&lines, 8), "prompts"), ["review"], "{sdk:?}");
        let era = if Sdk::LEGACY.contains(&sdk) { "legacy" } else { "modern" };
        assert_eq!(result(&lines, 9)["content"][0]["text"], era, "{sdk:?} speaks its own era to the server");

        assert_eq!(scene.called(), ["echo", "progress", "era"], "{sdk:?}: the server saw the permitted calls alone");
        assert_eq!(
            scene.server.messages("resources/read").len(),
            1,
            "{sdk:?}: the server was asked for the readme alone"
        );
        let authorization =
            |header: &Value| header[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case("authorization"));
        for request in scene.server.received() {
            let headers = request["headers"].as_array().expect("headers");
            assert!(!headers.iter().any(authorization), "{sdk:?}: the token stays at the gateway: {request:#}");
        }
    }
}

#[tokio::test]
async fn sdk_clients_through_the_gateway_with_json_answers() {
    each_client_does_what_its_token_allows_and_no_more("json").await;
}

#[tokio::test]
async fn sdk_clients_through_the_gateway_with_event_streams() {
    each_client_does_what_its_token_allows_and_no_more("sse").await;
}

#[tokio::test]
async fn sdk_clients_use_server_everything_through_the_gateway() {
    let scene = Scene::everything().await;
    let wanted = json!([
        {"do": "tools/list"},
        call("echo", &json!({"message": "hi"})),
        call("get-sum", &json!({"a": 1, "b": 2})),
        call("get-tiny-image", &json!({})),
        call("get-env", &json!({})),
    ]);
    for (index, sdk) in Sdk::LEGACY.into_iter().enumerate() {
        let lines = sdk.walk(&scene.url(), &scene.token(), &wanted).await;
        assert_eq!(names(result(&lines, 0), "tools"), ["echo", "get-sum"], "{sdk:?}");
        assert_eq!(result(&lines, 1)["content"][0]["text"], "Echo: hi", "{sdk:?}");
        assert_eq!(result(&lines, 2)["content"][0]["text"], "The sum of 1 and 2 is 3.", "{sdk:?}");
        assert_eq!(refusal(&lines, 3).0, 403, "{sdk:?}: a deny rule wins");
        let (status, challenge) = refusal(&lines, 4);
        assert_eq!(status, 403, "{sdk:?}: a scope is missing");
        assert!(challenge.contains("insufficient_scope") && challenge.contains("tools:manage"), "{sdk:?}: {challenge}");
        assert_eq!(
            scene.called(),
            ["echo", "get-sum"].repeat(index + 1),
            "{sdk:?}: the server saw the permitted calls alone"
        );
    }
}

#[tokio::test]
async fn no_sdk_client_reaches_a_server_with_a_token_that_is_not_good_here() {
    for server in [Server::dual_era("json"), Server::dual_era("sse"), Server::everything()] {
        let scene = Scene::before(server, "echo").await;
        let good = scene.issuer.token(&scene.url(), json!({"scope": "tools:use"}));
        let bad = [
            ("wrong audience", scene.issuer.token("http://127.0.0.1:1/other", json!({"scope": "tools:use"}))),
            ("expired", scene.issuer.token(&scene.url(), json!({"scope": "tools:use", "exp": now() - 600}))),
            ("absent", String::new()),
        ];
        let wanted = json!([call("echo", &json!({"message": "hi"}))]);
        for (what, token) in &bad {
            for sdk in
                [Sdk::TypeScript1, Sdk::TypeScriptLegacy, Sdk::TypeScriptModern, Sdk::PythonLegacy, Sdk::PythonModern]
            {
                let lines = sdk.walk(&scene.url(), token, &wanted).await;
                let answers: Vec<&Value> =
                    lines.iter().flat_map(|line| line["http"].as_array().into_iter().flatten()).collect();
                assert!(!answers.is_empty(), "{sdk:?}, {what}: the client asked: {lines:#?}");
                for answer in answers {
                    let challenge = answer["challenge"].as_str().unwrap_or_default();
                    assert_eq!(answer["status"], 401, "{sdk:?}, {what}: {lines:#?}");
                    assert!(challenge.contains("resource_metadata="), "{sdk:?}, {what}: {challenge}");
                }
                assert!(
                    lines.iter().any(|line| line["ok"] == false),
                    "{sdk:?}, {what}: the client is told: {lines:#?}"
                );
            }
            assert_eq!(scene.server.received(), [] as [Value; 0], "{what}: nothing reached the server");
        }
        // The same clients and steps with a good token: the silence above was the gateway's doing.
        for sdk in Sdk::LEGACY {
            let lines = sdk.walk(&scene.url(), &good, &wanted).await;
            assert!(
                result(&lines, 0)["content"][0]["text"].as_str().is_some_and(|said| said.contains("hi")),
                "{sdk:?}"
            );
        }
        assert_eq!(scene.called(), ["echo", "echo", "echo"]);
    }
}
