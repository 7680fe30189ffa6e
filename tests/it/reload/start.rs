//! The start: all or nothing, unless the operator asks for the rest.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{soon, status};
use crate::own::{self, PROVIDER, allow, bare};
use crate::support::Upstream;

#[tokio::test]
async fn a_broken_file_is_fatal_at_start_and_at_once() {
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
    assert_eq!(status(&story, "a").await, 503, "there is a service, and it is closed");
    gateway.wait_for_log(|record| record["service"] == "story" && record["reason"] == "service-closed").await;
    gateway.wait_for_log(|record| record["fields"]["event"] == "policy-error").await;
    upstream.assert_silent();
    assert_eq!(status(&good, "a").await, 200, "the rest is served");
    gateway.write_policy("story", &bare("story", &upstream, &allow("a")));
    soon(&story, "a", 200, "the policy was mended").await;
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
    assert_eq!(status(&story, "a").await, 503, "neither owns the route");
    upstream.assert_silent();
    assert_eq!(status(&good, "a").await, 200);
    gateway.remove_policy("two");
    soon(&story, "a", 200, "one of the two is left").await;
}
