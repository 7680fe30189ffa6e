//! The start: all or nothing, unless the operator asks for the rest.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{refused, soon, status};
use crate::own::{self, PROVIDER, allow, bare};
use crate::support::Upstream;
use crate::support::gateway::BINARY;

#[tokio::test]
async fn n03_a_broken_file_is_fatal_at_start_and_at_once() {
    let upstream = Upstream::mcp(&["a"]).await;
    let broken = [
        ("policies/story.yaml", "service: story\nrulez: []\n", "rulez"),
        ("policies/story.yaml", "", "story.yaml"),
        ("portcullis.yaml", "providerz: {}\n", "providerz"),
    ];
    for (path, text, named) in broken {
        let started = Instant::now();
        let setup = own::setup().policy("good", &own::policy("good", &upstream, &allow("a"))).file(path, text);
        let said = setup.refused().await;
        assert!(said.contains(named), "it says why: {said}");
        assert!(started.elapsed() < Duration::from_secs(6), "{path}: a bad start took {:?}", started.elapsed());
    }
    let good = own::setup().policy("good", &own::policy("good", &upstream, &allow("a"))).start().await;
    assert_eq!(status(&own::client(&good, "good", json!({})), "a").await, 200, "without them it starts");
}

#[test]
fn n12_a_check_judges_offline_what_a_start_would() {
    let run = |arguments: &[&str], rules: &str| {
        // Nothing listens at the issuer, and nobody asks it.
        let text = format!(
            "service: story\nroute: {{ path: /story/mcp }}\nupstream: {{ url: \"http://127.0.0.1:9/mcp\" }}\n\
             providers: {{ corp: {{ oidc: {{ issuer: \"https://login.example.com\" }} }} }}\n\
             authentication: {{ providers: [corp] }}\n{rules}\n"
        );
        let setup = own::setup().policy("story", &text);
        let output = Command::new(BINARY).args(arguments).arg(setup.directory()).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("text"))
    };
    for arguments in [&["check"][..], &["serve", "--check"]] {
        let (code, said) = run(arguments, &allow("a"));
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        let (code, said) = run(arguments, "rulez: []");
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains("rulez") && said.contains("story.yaml:6:1"), "{arguments:?}: {said}");
    }
    let (code, said) = run(&["check", "--format", "json"], "rulez: []");
    let found: serde_json::Value = serde_json::from_str(&said).expect("one JSON document");
    assert_eq!((code, &found[0]["code"]), (Some(1), &json!("unknown-key")), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_is_served_when_asked_for_and_the_broken_service_answers_503() {
    let upstream = Upstream::mcp(&["a"]).await;
    let broken = bare("story", &upstream, &allow("a")) + "limitz: []\n";
    let gateway = own::setup()
        .installation(PROVIDER)
        .policy("story", &broken)
        .policy("good", &bare("good", &upstream, &allow("a")))
        .argument("--serve-the-rest")
        .start()
        .await;
    let (story, good) = (own::client(&gateway, "story", json!({})), own::client(&gateway, "good", json!({})));
    refused(&story, &upstream, "a", 503, "there is a service, and it is closed").await;
    gateway.wait_for_log(|record| record["service"] == "story" && record["reason"] == "service-closed").await;
    gateway.wait_for_log(|record| record["fields"]["event"] == "policy-error").await;
    upstream.assert_silent();
    assert_eq!(status(&good, "a").await, 200, "the rest is served");
    gateway.write_policy("story", &bare("story", &upstream, &allow("a")));
    soon(&story, "a", 200, "the policy was mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n03_a_missing_secret_of_a_shared_provider_closes_at_start_only_those_who_name_it() {
    let upstream = Upstream::mcp(&["a"]).await;
    let setup = |installation: &str| {
        own::setup()
            .installation(installation)
            .policy("story", &bare("story", &upstream, &allow("a")))
            .policy("good", &own::policy("good", &upstream, &allow("a")))
    };
    let missing = PROVIDER.replace("env: OWN_SECRET", "file: own-secret");
    let said = setup(&missing).refused().await;
    assert!(said.contains("own-secret"), "without being asked for the rest nothing starts: {said}");
    let wrong = PROVIDER.replace("https://own", "http://own");
    let said = setup(&wrong).argument("--serve-the-rest").refused().await;
    assert!(said.contains("unsafe-url"), "a mistake of the file itself is fatal: {said}");

    let gateway = setup(&missing).argument("--serve-the-rest").start().await;
    let (story, good) = (own::client(&gateway, "story", json!({})), own::client(&gateway, "good", json!({})));
    gateway.wait_for_log(|record| record["fields"]["code"] == "secret-unreadable").await;
    refused(&story, &upstream, "a", 503, "it names the provider").await;
    upstream.assert_silent();
    assert_eq!(status(&good, "a").await, 200, "it has a provider of its own");
    std::fs::write(gateway.directory().join("own-secret"), own::SECRET).expect("written");
    soon(&story, "a", 200, "the secret is there").await;
    assert_eq!(status(&good, "a").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_files_that_claim_one_service_at_start_both_are_refused() {
    let upstream = Upstream::mcp(&["a"]).await;
    let setup = || {
        own::setup()
            .installation(PROVIDER)
            .policy("one", &bare("story", &upstream, &allow("a")))
            .policy("two", &bare("story", &upstream, &allow("a")))
            .policy("good", &bare("good", &upstream, &allow("a")))
    };
    let said = setup().refused().await;
    assert!(said.contains("one.yaml") && said.contains("two.yaml") && said.contains("duplicate-service"), "{said}");
    let gateway = setup().argument("--serve-the-rest").start().await;
    let (story, good) = (own::client(&gateway, "story", json!({})), own::client(&gateway, "good", json!({})));
    refused(&story, &upstream, "a", 503, "neither owns the route").await;
    upstream.assert_silent();
    assert_eq!(status(&good, "a").await, 200);
    gateway.remove_policy("two");
    soon(&story, "a", 200, "one of the two is left").await;
}
