//! Authorization-server mode with nothing scripted but the person: official SDK clients that know a URL and no more, and
//! a certified OpenID provider behind the gateway.

mod clients;
mod documents;
mod inspector;
mod provider;
mod services;

use std::process::Command;

use serde_json::{Value, json};

use crate::support::gateway::Setup;
use crate::support::process::{Server, browsing, node, python};
use crate::support::{Browser, Gateway, Page};

/// The official clients that authorize by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    TypeScript1,
    TypeScriptLegacy,
    TypeScriptModern,
    TypeScriptAuto,
    PythonLegacy,
    PythonModern,
    PythonAuto,
}

impl Sdk {
    /// What the client calls itself when it registers.
    pub fn title(self) -> String {
        let (script, era) = self.program();
        format!("{} {era}", if script == "oauth.py" { "Python" } else { "Desk" })
    }

    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::TypeScript1 => ("oauth.mjs", "v1"),
            Self::TypeScriptLegacy => ("oauth.mjs", "legacy"),
            Self::TypeScriptModern => ("oauth.mjs", "modern"),
            Self::TypeScriptAuto => ("oauth.mjs", "auto"),
            Self::PythonLegacy => ("oauth.py", "legacy"),
            Self::PythonModern => ("oauth.py", "modern"),
            Self::PythonAuto => ("oauth.py", "auto"),
        }
    }

    /// Runs the client, which gets the URL of the service; `browse` is the person in front of the browser that it opens.
    async fn run(self, scene: &Scene, steps: &Value, browse: impl AsyncFn(&str)) -> Run {
        self.run_as(&[], scene, steps, browse).await
    }

    /// The same with options that say who the client is.
    async fn run_as(self, who: &[&str], scene: &Scene, steps: &Value, browse: impl AsyncFn(&str)) -> Run {
        let mut command = self.command(&scene.issuer(), steps);
        command.args(who);
        Run::of(command, browse).await
    }

    /// The program, which gets a URL and what it is to do there.
    pub fn command(self, url: &str, steps: &Value) -> Command {
        let (script, era) = self.program();
        let mut command = if script == "oauth.py" { python(script) } else { node(script) };
        command.args(["--url", url, "--era", era, "--steps", &steps.to_string()]);
        command
    }
}

/// What one client printed: a line for connecting and one for each step.
#[derive(Debug)]
pub struct Run {
    pub lines: Vec<Value>,
    /// The tokens and the registration that it has in the end.
    pub kept: Value,
}

impl Run {
    /// Runs a client to its end.
    pub async fn of(command: Command, browse: impl AsyncFn(&str)) -> Self {
        let mut lines = browsing(command, browse).await;
        let kept = lines.pop().unwrap_or_default();
        Self { lines, kept }
    }

    #[track_caller]
    pub fn result(&self, step: usize) -> &Value {
        let line = &self.lines[step];
        assert_eq!(line["ok"], true, "step {step} must succeed: {self:#?}");
        &line["result"]
    }

    #[track_caller]
    pub fn text(&self, step: usize) -> &str {
        self.result(step)["content"][0]["text"].as_str().unwrap_or_default()
    }

    /// What went wrong first.
    pub fn error(&self) -> &str {
        let failed = self.lines.iter().find(|line| line["ok"] == false);
        failed.and_then(|line| line["error"]["message"].as_str()).unwrap_or_default()
    }

    /// The status of each POST to the service itself in a step.
    fn statuses(&self, step: usize) -> Vec<u64> {
        posts(&self.lines[step], "/mcp")
    }

    /// The status of each POST to a path.
    fn asked(&self, path: &str) -> Vec<u64> {
        self.lines.iter().flat_map(|line| posts(line, path)).collect()
    }
}

fn posts(line: &Value, path: &str) -> Vec<u64> {
    let asked = line["http"].as_array().into_iter().flatten();
    let posts = asked.filter(|asked| asked["method"] == "POST" && asked["path"] == path);
    posts.filter_map(|asked| asked["status"].as_u64()).collect()
}

/// A gateway in front of a real MCP server, with a provider behind its sign-in.
struct Scene {
    gateway: Gateway,
    server: Server,
}

/// What the gateway does for people of the provider `issuer`, with more words about how it signs them in.
fn policy(server: &Server, issuer: &str, sign_in: &str) -> String {
    format!(
        r#"
service: desk
route: {{ path: /mcp }}
upstream: {{ url: "{}" }}
providers:
  corp:
    oidc:
      issuer: "{issuer}"
      sign_in: {{ client_id: gateway, client_secret: {{ env: CORP_SECRET }}, title: Corp{sign_in} }}
authorization_server:
  sign_in: [corp]
  redirects: {{ loopback: true }}
  claims: {{ email: email, groups: groups }}
scopes:
  "tools:use": {{ describe: Use the tools, default: true }}
  "tools:manage": {{ describe: Delete what is there }}
rules:
  - allow: {{ tools: [echo] }}
    scopes: ["tools:use"]
  - allow: {{ tools: [delete_users] }}
    scopes: ["tools:manage"]
  - deny: {{ tools: [delete_issues] }}
"#,
        server.url()
    )
}

/// The secret of the gateway at its provider.
const SECRET: &str = "corp-secret-0123456789-0123456789-01234";

fn setup() -> Setup {
    Gateway::new().installation("store: memory\n").secret("CORP_SECRET", SECRET)
}

impl Scene {
    fn issuer(&self) -> String {
        self.gateway.url("/mcp")
    }

    /// A person's answer to the consent page at the end of `url`: the page and what came of it.
    async fn consent(&self, browser: &Browser, url: &str, provider: &str) -> (Page, Page) {
        let page = browser.go(url).await;
        assert_eq!(page.status, 200, "a consent page: {page:#?}");
        let request = page.field("request");
        let form = [("request", request.as_str()), ("provider", provider)];
        let answer = browser.submit(&format!("{}/consent", self.issuer()), &form).await;
        (page, answer)
    }

    /// What the token endpoint did, in order: grant type and outcome.
    fn grants(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.events("token").iter().map(|fields| (text(&fields["grant"]), text(&fields["outcome"]))).collect()
    }

    /// How many clients registered.
    fn registrations(&self) -> usize {
        self.events("client-registered").len()
    }

    /// The fields of the log records about one event.
    fn events(&self, event: &str) -> Vec<Value> {
        let fields = self.gateway.log().into_iter().map(|mut record| record["fields"].take());
        fields.filter(|fields| fields["event"] == event).collect()
    }

    /// The tools that were really called.
    fn called(&self) -> Vec<String> {
        let calls = self.server.messages("tools/call").into_iter();
        calls.filter_map(|call| call["params"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// Every value of a header that reached the server.
    fn headers(&self, name: &str) -> Vec<String> {
        let is_it = |header: &&Value| header[0].as_str().is_some_and(|found| found.eq_ignore_ascii_case(name));
        let requests = self.server.received();
        let headers = requests.iter().flat_map(|request| request["headers"].as_array().into_iter().flatten());
        headers.filter(is_it).filter_map(|header| header[1].as_str().map(str::to_owned)).collect()
    }
}

pub fn call(name: &str, arguments: &Value) -> Value {
    json!({"do": "tools/call", "name": name, "arguments": arguments})
}
