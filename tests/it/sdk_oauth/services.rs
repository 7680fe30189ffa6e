//! Official clients that act for themselves: registered in the policy, with a secret or with a key.

use serde_json::json;

use super::{Scene, Sdk, call, policy, setup};
use crate::support::process::Server;
use crate::support::{Key, Provider};

const SECRET: &str = "ci-secret-0123456789-0123456789-0123456789";

/// What the policy says about two services.
const CLIENTS: &str = r#"
  clients:
    - { id: ci, secret: { env: CI_SECRET }, grants: [client_credentials], scopes: ["tools:use"] }
    - { id: robot, keys: { file: robot.json }, grants: [client_credentials], scopes: ["tools:use"] }
scopes:"#;

async fn scene() -> Scene {
    let (server, provider) = (Server::dual_era("json"), Provider::start().await);
    let policy = policy(&server, &provider.url(), "").replace("\nscopes:", CLIENTS);
    let keys = json!({ "keys": [Key::Es256.jwk("robot-1")] }).to_string();
    let setup = setup().policy("desk", &policy).file("policies/robot.json", &keys).secret("CI_SECRET", SECRET);
    let setup = setup.file("right.pem", &Key::Es256.pem()).file("wrong.pem", &Key::OtherEs256.pem());
    Scene { gateway: setup.start().await, server }
}

async fn nobody(url: &str) {
    panic!("a service opens no browser: {url}");
}

#[tokio::test]
async fn sdk_services_call_with_a_secret_or_a_key_and_get_no_more_than_their_scopes() {
    let scene = scene().await;
    let file = |name: &str| scene.gateway.directory().join(name).display().to_string();
    let (key, other) = (file("right.pem"), file("wrong.pem"));
    let steps = json!([
        {"do": "tools/list"},
        call("echo", &json!({"message": "hi"})),
        call("delete_users", &json!({"id": "1"})),
    ]);
    let mut calls = 0;
    for sdk in [Sdk::TypeScript1, Sdk::TypeScriptModern, Sdk::PythonLegacy, Sdk::PythonModern] {
        for (service, proof, right, wrong) in
            [("ci", "--secret", SECRET, "not the secret of this service"), ("robot", "--key", &key, &other)]
        {
            let (before, grants) = (scene.server.received().len(), scene.grants().len());
            let refused = sdk.run_as(&["--service", service, proof, wrong], &scene, &steps, nobody).await;
            assert_eq!(refused.asked("/mcp/token")[0], 401, "{sdk:?}, {service}: {refused:#?}");
            assert_eq!(refused.kept["tokens"], json!(null), "{sdk:?}, {service}");
            assert_eq!(scene.server.received().len(), before, "{sdk:?}, {service}: nothing reached the server");
            assert!(scene.grants()[grants..].iter().all(|(_, outcome)| outcome != "issued"), "{sdk:?}, {service}");

            let run = sdk.run_as(&["--service", service, proof, right], &scene, &steps, nobody).await;
            assert_eq!(run.lines.len(), 4, "{sdk:?}, {service}: {run:#?}");
            let listed = run.result(1)["tools"].as_array().expect("tools").iter();
            assert_eq!(listed.map(|tool| &tool["name"]).collect::<Vec<_>>(), ["echo"], "{sdk:?}, {service}");
            assert_eq!(run.text(2), "hi", "{sdk:?}, {service}");
            assert_eq!(run.lines[3]["ok"], false, "{sdk:?}, {service}: not its scope");
            assert!(run.statuses(3).iter().all(|status| *status == 403), "{sdk:?}, {service}: {run:#?}");
            calls += 1;
            assert_eq!(scene.called(), vec!["echo"; calls], "{sdk:?}, {service}: the permitted call alone");
            assert_eq!(scene.headers("x-portcullis-subject").pop().as_deref(), Some(service), "{sdk:?}");
        }
    }
    assert!(scene.grants().iter().all(|(grant, _)| grant == "client_credentials"), "{:?}", scene.grants());
    let printed = scene.gateway.printed();
    assert!(!printed.contains(SECRET), "the secret is not logged");
}
