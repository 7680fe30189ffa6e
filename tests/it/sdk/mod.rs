//! Real MCP clients, a real token, real MCP servers: the official SDKs talk through the gateway, and the server's own
//! record is the witness that what the policy denies never reached it.
//!
//! One gateway stands before several servers, and the clients visit them at the same time, each as a person of its own:
//! the identity headers in the server's record tell them apart.

mod basics;
mod interactive;
mod refusals;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

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
    /// Finds out the era of the server by itself, and so does the next.
    TypeScriptAuto,
    PythonAuto,
}

impl Sdk {
    const LEGACY: [Self; 3] = [Self::TypeScript1, Self::TypeScriptLegacy, Self::PythonLegacy];
    const ALL: [Self; 5] =
        [Self::TypeScript1, Self::TypeScriptLegacy, Self::TypeScriptModern, Self::PythonLegacy, Self::PythonModern];

    const AUTO: [Self; 2] = [Self::TypeScriptAuto, Self::PythonAuto];

    fn is_legacy(self) -> bool {
        Self::LEGACY.contains(&self)
    }

    /// The subject of its tokens.
    fn person(self) -> String {
        format!("{self:?}")
    }

    /// Connects to each place, takes the steps one after another and tells what came of each; `connect` comes first.
    async fn walk(self, places: Vec<Place>, wanted: Value) -> Vec<Vec<Value>> {
        let (mut command, era) = match self {
            Self::TypeScript1 => (node("client.mjs"), "v1"),
            Self::TypeScriptLegacy => (node("client.mjs"), "legacy"),
            Self::TypeScriptModern => (node("client.mjs"), "modern"),
            Self::PythonLegacy => (python("client.py"), "legacy"),
            Self::PythonModern => (python("client.py"), "modern"),
            Self::TypeScriptAuto => (node("client.mjs"), "auto"),
            Self::PythonAuto => (python("client.py"), "auto"),
        };
        let visits: Vec<Value> = places.iter().map(|place| json!({"url": place.url, "token": place.token})).collect();
        let visits = json!(visits).to_string();
        command.args(["--visits", &visits, "--era", era, "--steps", &wanted.to_string()]);
        let lines = steps(command).await;
        let of = |visit| lines.iter().filter(|line| line["visit"] == json!(visit)).cloned().collect();
        (0..places.len()).map(of).collect()
    }
}

/// Where a client goes, and with which token; empty for none.
#[derive(Debug, Clone)]
struct Place {
    url: String,
    token: String,
}

/// What one client printed at one place.
struct Walk {
    sdk: Sdk,
    /// The number of the place.
    place: usize,
    lines: Vec<Value>,
}

/// All clients at the same time, each to its own places and with its own steps.
async fn walks(sdks: &[Sdk], places: impl Fn(Sdk) -> Vec<Place>, wanted: impl Fn(Sdk) -> Value) -> Vec<Walk> {
    let mut clients = JoinSet::new();
    for sdk in sdks.iter().copied() {
        let (places, wanted) = (places(sdk), wanted(sdk));
        clients.spawn(async move { (sdk, sdk.walk(places, wanted).await) });
    }
    let all = clients.join_all().await.into_iter();
    all.flat_map(|(sdk, visits)| visits.into_iter().enumerate().map(move |(place, lines)| Walk { sdk, place, lines }))
        .collect()
}

impl Walk {
    /// The line about one step: `connect`, `end`, or the step's number.
    #[track_caller]
    fn step(&self, wanted: impl Into<Value>) -> &Value {
        let wanted = wanted.into();
        let found = self.lines.iter().find(|line| line["step"] == wanted);
        found.unwrap_or_else(|| panic!("{self}: no step {wanted}"))
    }

    #[track_caller]
    fn result(&self, number: usize) -> &Value {
        let line = self.step(number);
        assert_eq!(line["ok"], true, "step {number} must succeed; {self}");
        &line["result"]
    }

    /// The text that a tool answered.
    #[track_caller]
    fn text(&self, number: usize) -> &str {
        self.result(number)["content"][0]["text"].as_str().unwrap_or_default()
    }

    /// The resources of whose change the client was told, each once: the other clients change them too.
    #[track_caller]
    fn heard(&self, number: usize) -> Vec<&str> {
        let updates = self.result(number)["updates"].as_array().into_iter().flatten();
        updates.filter_map(Value::as_str).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What HTTP answered to the POST of a step that the SDK reports as failed.
    #[track_caller]
    fn refusal(&self, number: usize) -> (u64, String) {
        let line = self.step(number);
        assert_eq!(line["ok"], false, "step {number} must fail; {self}");
        let answers = line["http"].as_array().expect("HTTP answers");
        let answer = answers.iter().find(|answer| answer["method"] == "POST" && answer["status"] != 202);
        let answer = answer.unwrap_or_else(|| panic!("step {number} has no POST; {self}"));
        (answer["status"].as_u64().expect("a status"), answer["challenge"].as_str().unwrap_or_default().to_owned())
    }
}

impl std::fmt::Display for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:?} at place {}:", self.sdk, self.place)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A gateway before several servers, trusting one issuer; each server is a service of its own name.
struct Scene {
    issuer: Issuer,
    servers: Vec<(&'static str, Server)>,
    gateway: Gateway,
}

impl Scene {
    /// Starts the servers behind policies that share `policy`, which may say for itself how callers authenticate.
    async fn before(servers: Vec<(&'static str, Server)>, policy: &str) -> Self {
        let issuer = Issuer::start().await;
        let mut setup = Gateway::new();
        let usual = "authentication: { providers: [corp] }\n";
        let authentication = if policy.contains("authentication:") { "" } else { usual };
        for (name, server) in &servers {
            let head = format!(
                "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"{}\" }}\n\
                 providers: {{ corp: {{ oidc: {{ issuer: \"{}\" }} }} }}\n",
                server.url(),
                issuer.url()
            );
            setup = setup.policy(name, &format!("{head}{authentication}{policy}"));
        }
        let gateway = setup.start().await;
        Self { issuer, servers, gateway }
    }

    /// The dual-era server twice: it answers in JSON here and in event streams there.
    async fn both_modes(policy: &str) -> Self {
        Self::before(MODES.map(|mode| (mode, Server::dual_era(mode))).into(), policy).await
    }

    fn url(&self, service: &str) -> String {
        self.gateway.url(&format!("/{service}/mcp"))
    }

    fn token(&self, service: &str, person: &str, scope: &str) -> String {
        self.issuer.token(&self.url(service), json!({"scope": scope, "sub": person}))
    }

    /// Every service, in the order of the servers, with tokens of this scope.
    fn places(&self, sdk: Sdk, scope: &str) -> Vec<Place> {
        let place = |name: &&'static str| Place { url: self.url(name), token: self.token(name, &sdk.person(), scope) };
        self.servers.iter().map(|(name, _)| *name).collect::<Vec<_>>().iter().map(place).collect()
    }

    fn server(&self, place: usize) -> &Server {
        &self.servers[place].1
    }

    /// What this person sent and the server got, each with the message in `message`.
    fn arrived(&self, place: usize, person: &str) -> Vec<Value> {
        let person = json!(person);
        let is_theirs = |header: &Value| {
            header[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case("x-portcullis-subject"))
                && header[1] == person
        };
        let mut requests = self.server(place).received();
        requests.retain(|request| request["headers"].as_array().is_some_and(|headers| headers.iter().any(is_theirs)));
        for request in &mut requests {
            let body = request["body"].as_str().unwrap_or_default();
            request["message"] = serde_json::from_str(body).unwrap_or(Value::Null);
        }
        requests
    }

    /// The `params` of the messages with this method that this client got through.
    fn params(&self, walk: &Walk, method: &str) -> Vec<Value> {
        let arrived = self.arrived(walk.place, &walk.sdk.person());
        let messages = arrived.iter().map(|request| &request["message"]).filter(|message| message["method"] == method);
        messages.map(|message| message["params"].clone()).collect()
    }

    /// The names of the tools that this client really called.
    fn called(&self, walk: &Walk) -> Vec<String> {
        let calls = self.params(walk, "tools/call");
        calls.iter().filter_map(|call| call["name"].as_str().map(str::to_owned)).collect()
    }
}

/// How the dual-era server answers, in the order in which the clients visit.
const MODES: [&str; 2] = ["json", "sse"];

fn call(name: &str, arguments: &Value) -> Value {
    json!({"do": "tools/call", "name": name, "arguments": arguments})
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
