//! The official clients, from a URL to a wider scope.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::json;

use super::{Scene, Sdk, call, policy, setup};
use crate::signin::error;
use crate::support::process::Server;
use crate::support::{Browser, Provider};

/// A scene whose provider signs anybody in.
pub async fn scene() -> (Scene, Provider) {
    let (server, provider) = (Server::dual_era("json"), Provider::start().await);
    let gateway = setup().policy("desk", &policy(&server, &provider.url(), "")).start().await;
    (Scene { gateway, server }, provider)
}

/// Says yes, signs in, and goes wherever the browser is sent, back to the client in the end. Returns the consent page.
pub async fn let_in(scene: &Scene, browser: &Browser, url: &str) -> String {
    let (page, leaving) = scene.consent(browser, url, "corp").await;
    let answered = Browser::new().go(leaving.location()).await;
    let back = browser.go_with(answered.location(), &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(back.status, 303, "{back:#?}");
    assert_eq!(Browser::new().go(back.location()).await.status, 200, "the client waits at {}", back.location());
    page.body
}

fn issued(grants: &[&str]) -> Vec<(String, String)> {
    grants.iter().map(|grant| ((*grant).to_owned(), "issued".to_owned())).collect()
}

#[tokio::test]
async fn the_typescript_sdk_gets_from_a_url_to_a_wider_scope_in_the_legacy_era() {
    steps_up(Sdk::TypeScriptLegacy).await;
}

#[tokio::test]
async fn the_typescript_sdk_gets_from_a_url_to_a_wider_scope_in_the_modern_era() {
    steps_up(Sdk::TypeScriptModern).await;
}

#[tokio::test]
async fn the_typescript_sdk_gets_from_a_url_to_a_wider_scope_and_finds_out_the_era() {
    steps_up(Sdk::TypeScriptAuto).await;
}

#[tokio::test]
async fn the_python_sdk_gets_from_a_url_to_a_wider_scope_in_the_legacy_era() {
    steps_up(Sdk::PythonLegacy).await;
}

#[tokio::test]
async fn the_python_sdk_gets_from_a_url_to_a_wider_scope_in_the_modern_era() {
    steps_up(Sdk::PythonModern).await;
}

#[tokio::test]
async fn the_python_sdk_gets_from_a_url_to_a_wider_scope_and_finds_out_the_era() {
    steps_up(Sdk::PythonAuto).await;
}

async fn steps_up(sdk: Sdk) {
    let (scene, _provider) = scene().await;
    let steps = json!([
        {"do": "tools/list"},
        call("echo", &json!({"message": "hi"})),
        {"do": "expire"},
        call("echo", &json!({"message": "again"})),
        call("delete_users", &json!({"id": "1"})),
        call("delete_issues", &json!({"id": "1"})),
        call("echo", &json!({"message": "still"})),
    ]);
    let (browser, pages) = (Browser::new(), Mutex::new(Vec::new()));
    let run = sdk.run(&scene, &steps, async |url| {
        let before = scene.called();
        let page = let_in(&scene, &browser, url).await;
        pages.lock().expect("the pages").push((page, before));
    });
    let run = run.await;

    assert_eq!(run.asked("/mcp")[0], 401, "{sdk:?} comes without a token");
    let listed = run.result(1)["tools"].as_array().expect("tools").iter();
    assert_eq!(listed.map(|tool| &tool["name"]).collect::<Vec<_>>(), ["echo"], "{sdk:?}: what its scope allows");
    assert_eq!((run.text(2), run.text(4)), ("hi", "again"), "{sdk:?}");
    assert_eq!(run.text(5), "deleted 1", "{sdk:?}: the call succeeds with a wider scope");
    // The Python SDK then asks for the list, to check the result by the tool's schema.
    assert_eq!(run.statuses(5)[..2], [403, 200], "{sdk:?}: denied first");
    assert_eq!(run.lines[6]["ok"], false, "{sdk:?}: no scope helps against a deny rule");
    assert_eq!(run.statuses(6), [403], "{sdk:?}: and none is asked for");
    assert_eq!(run.text(7), "still", "{sdk:?}: the wider scope holds what was granted before");

    let pages = pages.into_inner().expect("the pages");
    assert_eq!(pages.len(), 2, "{sdk:?}: a person was asked twice");
    assert!(pages.iter().all(|(page, _)| page.contains(&sdk.title()) && page.contains("Use the tools")), "{sdk:?}");
    assert!(!pages[0].0.contains("Delete what is there"), "{sdk:?}: no more than needed at first");
    assert!(pages[1].0.contains("Delete what is there"), "{sdk:?}");
    assert!(pages[0].1.is_empty(), "{sdk:?}: nothing reached the server before anybody signed in");
    assert_eq!(pages[1].1, ["echo", "echo"], "{sdk:?}: nor did the denied call, when the person was asked again");
    assert_eq!(scene.called(), ["echo", "echo", "delete_users", "echo"], "{sdk:?}");

    assert_eq!(scene.grants(), issued(&["authorization_code", "refresh_token", "authorization_code"]), "{sdk:?}");
    assert_eq!(scene.registrations(), 1, "{sdk:?}");
    assert_eq!(run.kept["tokens"]["scope"], "tools:manage tools:use", "{sdk:?}");
    let client = run.kept["client"]["client_id"].as_str().expect("a client id");
    assert!(scene.headers("x-portcullis-client").iter().all(|found| found == client), "{sdk:?}");
    assert!(scene.headers("x-portcullis-subject").iter().all(|found| found == "corp:alice"), "{sdk:?}");
    assert_eq!(scene.headers("x-portcullis-client").len(), scene.server.received().len(), "{sdk:?}");
    assert!(scene.headers("authorization").is_empty(), "{sdk:?}: tokens stay at the gateway");
    let printed = scene.gateway.printed();
    for secret in ["access_token", "refresh_token"] {
        assert!(
            !printed.contains(run.kept["tokens"][secret].as_str().expect("a token")),
            "{sdk:?}: {secret} is logged"
        );
    }
}

#[tokio::test]
async fn the_1_x_sdk_widens_its_scope_once_it_has_nothing_to_refresh_with() {
    let (scene, _provider) = scene().await;
    let steps = json!([
        {"do": "tools/list"},
        call("echo", &json!({"message": "hi"})),
        {"do": "expire"},
        call("echo", &json!({"message": "again"})),
        call("delete_users", &json!({"id": "1"})),
        {"do": "forget-refresh"},
        call("echo", &json!({"message": "still"})),
        call("delete_users", &json!({"id": "2"})),
    ]);
    let browser = Browser::new();
    let run = Sdk::TypeScript1.run(&scene, &steps, async |url| drop(let_in(&scene, &browser, url).await)).await;
    assert_eq!((run.text(2), run.text(4), run.text(7)), ("hi", "again", "still"));
    assert_eq!(run.statuses(5), [403, 403], "it refreshes, which widens nothing");
    assert_eq!(run.lines[5]["ok"], false, "{run:#?}");
    assert_eq!((run.statuses(8), run.text(8)), (vec![403, 200], "deleted 2"));
    assert_eq!(scene.called(), ["echo", "echo", "echo", "delete_users"], "the denied calls reached nothing");
    let turns = ["authorization_code", "refresh_token", "refresh_token", "authorization_code"];
    assert_eq!(scene.grants(), issued(&turns));
    assert_eq!(scene.registrations(), 1);
}

#[tokio::test]
async fn sdk_clients_that_register_for_a_secret_sign_in_and_refresh_with_it() {
    let (scene, _provider) = scene().await;
    let steps =
        json!([call("echo", &json!({"message": "hi"})), {"do": "expire"}, call("echo", &json!({"message": "again"}))]);
    let mut ids = BTreeSet::new();
    for sdk in [Sdk::TypeScript1, Sdk::TypeScriptModern, Sdk::PythonModern] {
        for method in ["client_secret_basic", "client_secret_post"] {
            let (browser, before) = (Browser::new(), scene.grants().len());
            let person = async |url: &str| drop(let_in(&scene, &browser, url).await);
            let run = sdk.run_as(&["--method", method], &scene, &steps, person).await;
            assert_eq!((run.text(1), run.text(3)), ("hi", "again"), "{sdk:?}, {method}");
            assert_eq!(scene.grants()[before..], issued(&["authorization_code", "refresh_token"]), "{sdk:?}, {method}");
            let client = &run.kept["client"];
            assert_eq!(client["token_endpoint_auth_method"], method, "{sdk:?}");
            let id = client["client_id"].as_str().expect("a client id").to_owned();
            let secret = client["client_secret"].as_str().expect("a secret");
            assert!(!scene.gateway.printed().contains(secret), "{sdk:?}, {method}");

            // Whoever has the refresh token and not the secret gets nothing.
            let refresh = run.kept["tokens"]["refresh_token"].as_str().expect("a refresh token");
            let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", &id)];
            let token = format!("{}/token", scene.issuer());
            let stolen = Browser::new().submit(&token, &form).await;
            assert_eq!((stolen.status, error(&stolen).as_str()), (401, "invalid_client"), "{sdk:?}, {method}");
            if method == "client_secret_post" {
                form.push(("client_secret", secret));
                assert_eq!(Browser::new().submit(&token, &form).await.status, 200, "{sdk:?}: the positive control");
            }
            assert!(ids.insert(id), "{sdk:?}, {method}: every secret is of a client of its own");
        }
    }
}

#[tokio::test]
async fn an_sdk_client_that_a_person_or_the_provider_refuses_gets_nothing() {
    let (scene, provider) = scene().await;
    for sdk in [Sdk::TypeScript1, Sdk::TypeScriptModern, Sdk::PythonModern] {
        let steps = json!([{"do": "tools/list"}]);
        let by_person = sdk.run(&scene, &steps, async |url| {
            let (_, refused) = scene.consent(&Browser::new(), url, "").await;
            Browser::new().go(refused.location()).await;
        });
        let by_person = by_person.await;
        provider.behave(|manner| manner.refuses = Some("access_denied".into()));
        let browser = Browser::new();
        let by_provider = sdk.run(&scene, &steps, async |url| drop(let_in(&scene, &browser, url).await));
        let by_provider = by_provider.await;
        provider.behave(|manner| manner.refuses = None);
        for run in [by_person, by_provider] {
            assert_eq!(run.error(), "not authorized: access_denied", "{sdk:?}");
            assert_eq!(run.kept["tokens"], json!(null), "{sdk:?}");
        }
        assert!(scene.grants().is_empty() && scene.server.received().is_empty(), "{sdk:?}");
    }
    let browser = Browser::new();
    let steps = json!([call("echo", &json!({"message": "hi"}))]);
    let run = Sdk::TypeScriptModern.run(&scene, &steps, async |url| drop(let_in(&scene, &browser, url).await));
    assert_eq!(run.await.text(1), "hi", "the positive control");
    assert_eq!(scene.called(), ["echo"]);
}
