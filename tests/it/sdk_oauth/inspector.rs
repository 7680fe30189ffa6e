//! The command line of MCP Inspector: with a token that it is given, and signing in by itself.

use std::process::Command;

use serde_json::{Value, json};

use super::clients::{let_in, scene};
use crate::support::process::{Server, navigating, scripts};
use crate::support::{Browser, Gateway, Issuer};

/// Where its program is, below `node_modules`.
const PROGRAM: &str = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js";

/// The Inspector, with a home of its own, asking a service for `words`.
fn inspector(home: &std::path::Path, url: &str, words: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.arg(scripts().join(PROGRAM)).args(["--cli", url, "--transport", "http", "--format", "json"]).args(words);
    // It opens a browser by itself; the person of the test reads the address instead.
    command.env("HOME", home).env("MCP_AUTO_OPEN_ENABLED", "true").env("BROWSER", "true");
    command.env("MCP_INSPECTOR_SECRET_STORE", "memory");
    command
}

const LIST: [&str; 2] = ["--method", "tools/list"];
const CALL: [&str; 6] = ["--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=hi"];
const DENIED: [&str; 4] = ["--method", "tools/call", "--tool-name", "delete_issues"];

fn names(listed: &Value) -> Vec<&str> {
    let tools = listed["result"]["tools"].as_array().unwrap_or_else(|| panic!("tools: {listed}"));
    tools.iter().filter_map(|tool| tool["name"].as_str()).collect()
}

async fn nobody(url: &str) {
    panic!("a client with a token opens no browser: {url}");
}

#[tokio::test]
async fn inspector_lists_and_calls_with_a_token_of_the_company() {
    let (issuer, server) = (Issuer::start().await, Server::dual_era("json"));
    let policy = format!(
        "service: desk\nroute: {{ path: /mcp }}\nupstream: {{ url: \"{}\" }}\nproviders: {{ corp: {{ oidc: {{ issuer: \"{}\" }} }} }}\n\
         authentication: {{ providers: [corp] }}\nrules: [{{ allow: {{ tools: [echo] }} }}]\n",
        server.url(),
        issuer.url()
    );
    let gateway = Gateway::new().policy("desk", &policy).start().await;
    let (url, home) = (gateway.url("/mcp"), tempfile::tempdir().expect("a home"));
    let header = format!("Authorization: Bearer {}", issuer.token(&url, json!({})));
    for era in ["legacy", "modern"] {
        let run = async |words: &[&str]| {
            let words = [words, &["--protocol-era", era, "--header", &header]].concat();
            navigating(inspector(home.path(), &url, &words), nobody).await
        };
        let listed = run(&LIST).await;
        assert_eq!((listed.0, names(&listed.1)), (Some(0), vec!["echo"]), "{era}: {listed:?}");
        let (code, called) = run(&CALL).await;
        assert_eq!((code, &called["result"]["content"][0]["text"]), (Some(0), &json!("hi")), "{era}: {called}");
        let (code, denied) = run(&DENIED).await;
        assert!(code != Some(0) && denied["result"].is_null(), "{era}: {denied}");
    }
    let calls = server.messages("tools/call");
    assert_eq!(calls.iter().map(|call| &call["params"]["name"]).collect::<Vec<_>>(), ["echo", "echo"]);
}

#[tokio::test]
async fn inspector_signs_in_by_itself_and_calls_what_its_scope_allows() {
    let (scene, _provider) = scene().await;
    let browser = Browser::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let callback = format!("http://{free}/oauth/callback");
    for (era, words) in [("legacy", &LIST[..]), ("modern", &CALL), ("legacy", &DENIED)] {
        let (before, home) = (scene.called().len(), tempfile::tempdir().expect("a home"));
        let words = [words, &["--protocol-era", era, "--callback-url", &callback]].concat();
        let asked = std::sync::Mutex::new(Vec::new());
        let (code, said) = navigating(inspector(home.path(), &scene.issuer(), &words), async |url| {
            let page = let_in(&scene, &browser, url).await;
            asked.lock().expect("the pages").push(page);
        })
        .await;
        let asked = asked.into_inner().expect("the pages");
        assert_eq!(asked.len(), 1, "{era}: a person is asked once: {said}");
        match words[1] {
            "tools/list" => assert_eq!((code, names(&said)), (Some(0), vec!["echo"]), "{said}"),
            _ if words.contains(&"echo") => {
                assert_eq!((code, &said["result"]["content"][0]["text"]), (Some(0), &json!("hi")), "{said}");
                assert_eq!(scene.called()[before..], ["echo"]);
            }
            _ => {
                assert!(code != Some(0) && said["result"].is_null(), "{said}");
                assert_eq!(scene.called().len(), before, "the denied call reached nothing");
            }
        }
    }
    assert!(scene.grants().iter().all(|(grant, outcome)| grant == "authorization_code" && outcome == "issued"));
}
