//! What a change means: broken files, providers and secrets that go, what needs a restart.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{complaints, refused, soon, status, two_services, wait_for_complaint};
use crate::own::{self, OTHER_SECRET, PROVIDER, SECRET, allow, bare};
use crate::support::{Client, Gateway, Issuer, Key, Upstream};

/// The reason in the newest audit record of a service.
async fn refused_for(gateway: &Gateway, service: &str, status: u16) -> String {
    let fits = |record: &serde_json::Value| record["service"] == service && record["status"] == status;
    gateway.wait_for_log(fits).await;
    let record = gateway.log().into_iter().rev().find(fits).expect("the record that was waited for");
    record["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn n02_a_broken_policy_keeps_its_last_good_version_and_holds_up_no_other() {
    let (upstream, gateway) = two_services("").await;
    let (story, neighbour) = (own::client(&gateway, "story", json!({})), own::client(&gateway, "neighbour", json!({})));
    gateway.write_policy("story", &(bare("story", &upstream, &allow("a, b")) + "limitz: []\n"));
    let complaint = wait_for_complaint(&gateway, 0, "limitz").await;
    let fields = &complaint["fields"];
    assert_eq!(complaint["level"], "ERROR");
    assert!(fields["file"].to_string().contains("story.yaml"), "the file is named: {complaint}");
    assert_eq!((&fields["code"], &fields["line"], &fields["column"]), (&json!("unknown-key"), &json!(6), &json!(1)));
    assert!(fields["help"].to_string().contains("limits"), "and what was probably meant: {complaint}");

    gateway.write_policy("neighbour", &bare("neighbour", &upstream, &allow("b")));
    soon(&neighbour, "b", 200, "another policy changed beside a broken one").await;
    assert_eq!(status(&story, "a").await, 200, "the last good version serves on");
    refused(&story, &upstream, "b", 403, "nothing of the broken text counts").await;

    gateway.write_policy("story", &bare("story", &upstream, &allow("b")));
    soon(&story, "b", 200, "the policy is mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n02_a_broken_installation_changes_nothing() {
    let (upstream, gateway) = two_services("").await;
    let client = own::client(&gateway, "story", json!({}));
    let broken = [
        ("portcullis.yaml", "providers: {}\nproviders: {}\n"),
        ("secretz", "providers: { own: { hmac: { issuer: \"https://own.example.com\", secretz: [] } } }\n"),
        ("has become empty", ""),
    ];
    for (complaint, text) in broken {
        let before = complaints(&gateway, complaint);
        gateway.write_installation(text);
        wait_for_complaint(&gateway, before, complaint).await;
        assert_eq!(status(&client, "a").await, 200, "{text:?}: the installation before serves on");
        refused(&client, &upstream, "b", 403, &format!("{text:?}")).await;
    }
    gateway.write_policy("story", &bare("story", &upstream, &allow("b")));
    soon(&client, "b", 200, "a policy changed beside a broken installation").await;
    fs::remove_file(gateway.directory().join("portcullis.yaml")).expect("removed");
    wait_for_complaint(&gateway, 0, "cannot be read").await;
    assert_eq!(status(&client, "b").await, 200, "an installation that is gone is broken too");
}

#[tokio::test(flavor = "multi_thread")]
async fn n02_a_provider_that_is_removed_closes_its_services_until_it_returns() {
    let upstream = Upstream::mcp(&["a"]).await;
    let spare = r#"spare: { hmac: { issuer: "https://spare.example.com", secrets: [{ env: OWN_SECRET }] } }"#;
    let both = PROVIDER.replace("providers: { ", &format!("providers: {{ {spare}, "));
    let other = bare("other", &upstream, &allow("a")).replace("[own]", "[spare]");
    let gateway = own::setup()
        .installation(&both)
        .policy("story", &bare("story", &upstream, &allow("a")))
        .policy("other", &other)
        .start()
        .await;
    let story = own::client(&gateway, "story", json!({}));
    let other = own::client(&gateway, "other", json!({"iss": "https://spare.example.com"}));
    assert_eq!((status(&story, "a").await, status(&other, "a").await), (200, 200));

    gateway.write_installation(&format!("providers: {{ {spare} }}\n"));
    soon(&story, "a", 503, "the provider was removed").await;
    upstream.forget();
    let refused = story.call_tool("a", json!({})).await;
    assert_eq!(refused.status, 503, "a token of a provider that was removed opens nothing");
    assert!(!refused.header("retry-after").is_empty(), "the client is told when to come again: {refused:?}");
    assert_eq!(refused_for(&gateway, "story", 503).await, "provider-removed");
    upstream.assert_silent();
    assert_eq!(status(&other, "a").await, 200, "the service of the other provider serves on");

    // Nothing else that happens brings it back.
    let neighbour = |tool: &str| bare("other", &upstream, &allow(tool)).replace("[own]", "[spare]");
    gateway.write_policy("other", &neighbour("b"));
    soon(&other, "a", 403, "another policy has changed").await;
    upstream.forget();
    assert_eq!(status(&story, "a").await, 503, "after a change of another policy");
    gateway.write_policy("other", &(neighbour("a") + "rulez: []\n"));
    wait_for_complaint(&gateway, 0, "rulez").await;
    assert_eq!(status(&story, "a").await, 503, "after a mistake in another policy");
    gateway.write_installation(&format!("providers: {{ {spare} }}\nadmn: {{}}\n"));
    wait_for_complaint(&gateway, 0, "admn").await;
    assert_eq!(status(&story, "a").await, 503, "after a mistake in the installation");
    let before = complaints(&gateway, "admn");
    gateway.signal("HUP");
    wait_for_complaint(&gateway, before, "admn").await;
    assert_eq!(status(&story, "a").await, 503, "after a hangup");
    upstream.assert_silent();
    gateway.write_policy("other", &neighbour("a"));
    gateway.write_installation(&format!("providers: {{ {spare} }}\n# a word\n"));
    soon(&other, "a", 200, "all is mended but the provider").await;
    assert_eq!(status(&story, "a").await, 503, "after a comment");

    gateway.write_installation(&both);
    soon(&story, "a", 200, "the provider returned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n10_a_secret_file_is_followed_and_without_it_the_service_is_closed() {
    let upstream = Upstream::mcp(&["a"]).await;
    let installation = PROVIDER.replace("env: OWN_SECRET", "file: secrets/own");
    let gateway = own::setup()
        .file("secrets/own", SECRET)
        .installation(&installation)
        .policy("story", &bare("story", &upstream, &allow("a")))
        .start()
        .await;
    let url = gateway.url("/story/mcp");
    let old = Client::new(&url).token(&own::signed(SECRET, &url, json!({})));
    let new = Client::new(&url).token(&own::signed(OTHER_SECRET, &url, json!({})));
    assert_eq!((status(&old, "a").await, status(&new, "a").await), (200, 401), "one secret is known");

    let file = gateway.directory().join("secrets/own");
    fs::write(&file, OTHER_SECRET).expect("written");
    soon(&new, "a", 200, "the secret was changed").await;
    upstream.forget();
    refused(&old, &upstream, "a", 401, "a token of the old secret was verified before, and is refused now").await;
    upstream.assert_silent();

    fs::remove_file(&file).expect("removed");
    soon(&new, "a", 503, "the secret was removed").await;
    assert_eq!(refused_for(&gateway, "story", 503).await, "provider-removed");
    upstream.forget();
    gateway.write_policy("neighbour", &bare("neighbour", &upstream, &allow("a")).replace("mcp }", "other/mcp }"));
    gateway.wait_for_log(|record| record["fields"]["services"] == 2).await;
    assert_eq!(status(&new, "a").await, 503, "another policy has come, and the secret has not");
    upstream.assert_silent();
    fs::write(&file, OTHER_SECRET).expect("written");
    soon(&new, "a", 200, "the secret returned").await;
    let printed = gateway.printed();
    assert!(!printed.contains(SECRET) && !printed.contains(OTHER_SECRET), "no secret is ever printed");
}

#[tokio::test(flavor = "multi_thread")]
async fn n10_a_pipe_or_device_in_the_place_of_a_secret_closes_its_service_and_stops_nothing() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let provider = PROVIDER.replace("env: OWN_SECRET", "file: ../secrets/own") + "\n";
    let gateway = own::setup()
        .file("secrets/own", SECRET)
        .installation(PROVIDER)
        .policy("story", &(bare("story", &upstream, &allow("a")) + &provider))
        .policy("neighbour", &bare("neighbour", &upstream, &allow("a")))
        .start()
        .await;
    let (story, neighbour) = (own::client(&gateway, "story", json!({})), own::client(&gateway, "neighbour", json!({})));
    let file = gateway.directory().join("secrets/own");
    for (place, allowed) in [("a pipe", "b"), ("endless zeros", "a")] {
        assert_eq!(status(&story, "a").await, 200);
        let before = complaints(&gateway, "it is not a regular file");
        fs::remove_file(&file).expect("removed");
        if place == "a pipe" {
            assert!(std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo runs").success());
        } else {
            std::os::unix::fs::symlink("/dev/zero", &file).expect("a link");
        }
        wait_for_complaint(&gateway, before, "it is not a regular file").await;
        soon(&story, "a", 503, place).await;
        gateway.write_policy("neighbour", &bare("neighbour", &upstream, &allow(allowed)));
        soon(&neighbour, allowed, 200, &format!("{place} beside it")).await;
        fs::remove_file(&file).expect("removed");
        fs::write(&file, SECRET).expect("written");
        soon(&story, "a", 200, &format!("{place} gave way to a secret")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n10_a_key_file_is_followed_like_a_policy() {
    let (upstream, issuer) = (Upstream::mcp(&["a"]).await, Issuer::start().await);
    let keys = |key: Key| json!({"keys": [key.jwk("k1")]}).to_string();
    let provider = format!(
        "providers: {{ own: {{ jwks: {{ issuer: \"{}\", algorithms: [ES256], file: ../keys.json }} }} }}\n",
        issuer.url()
    );
    let gateway = Gateway::new()
        .file("keys.json", &keys(Key::Es256))
        .policy("story", &(bare("story", &upstream, &allow("a")) + &provider))
        .start()
        .await;
    let url = gateway.url("/story/mcp");
    let signed = |key| Client::new(&url).token(&issuer.token_with(key, json!({"kid": "k1"}), &url, json!({})));
    let (old, new) = (signed(Key::Es256), signed(Key::OtherEs256));
    assert_eq!((status(&old, "a").await, status(&new, "a").await), (200, 401));
    let file = gateway.directory().join("keys.json");
    fs::write(&file, keys(Key::OtherEs256)).expect("written");
    soon(&new, "a", 200, "the key was changed").await;
    upstream.forget();
    refused(&old, &upstream, "a", 401, "the old key verifies nothing any more").await;
    upstream.assert_silent();
    fs::remove_file(&file).expect("removed");
    soon(&new, "a", 503, "the key file was removed").await;
    assert_eq!(refused_for(&gateway, "story", 503).await, "provider-removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_policy_can_close_its_service_at_once() {
    let (upstream, gateway) = two_services("reload: { on_invalid: close }").await;
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(status(&client, "a").await, 200);
    gateway.write_policy("story", "service: story\nrulez: []\n");
    soon(&client, "a", 503, "the policy was broken").await;
    upstream.forget();
    refused(&client, &upstream, "a", 503, "closed").await;
    assert_eq!(refused_for(&gateway, "story", 503).await, "service-closed");
    upstream.assert_silent();
    let neighbour = own::client(&gateway, "neighbour", json!({}));
    assert_eq!(status(&neighbour, "a").await, 200, "no other service is closed");
    gateway.write_policy("story", &bare("story", &upstream, &allow("a")));
    soon(&client, "a", 200, "the policy was mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_good_version_serves_no_longer_than_max_stale() {
    let (upstream, gateway) = two_services("reload: { max_stale: 2s }").await;
    let client = own::client(&gateway, "story", json!({}));
    gateway.write_policy("story", "service: story\nrulez: []\n");
    wait_for_complaint(&gateway, 0, "rulez").await;
    assert_eq!(status(&client, "a").await, 200, "at first the last good version serves on");
    let broken = Instant::now();
    while status(&client, "a").await != 503 {
        assert!(broken.elapsed() < Duration::from_secs(12), "a version that is too old must not serve");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(broken.elapsed() > Duration::from_secs(1), "it was not closed before its time");
    gateway.write_policy("story", &bare("story", &upstream, &allow("a")));
    soon(&client, "a", 200, "the policy was mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_is_told_when_it_comes_and_not_at_every_change() {
    let (upstream, gateway) = two_services("default_service: nobody").await;
    let neighbour = own::client(&gateway, "neighbour", json!({}));
    let told = |code: &str, file: &str| {
        let is = |record: &&serde_json::Value| {
            let fields = &record["fields"];
            fields["event"] == "policy-warning" && fields["code"] == code && fields["file"].to_string().contains(file)
        };
        gateway.log().iter().filter(is).count()
    };
    let counts = || [told("no-authorization-server", "story"), told("unknown-service", "portcullis.yaml")];
    gateway.wait_for_log(|_| counts() == [1, 1]).await;
    // A reference from one file to another is looked at at every change, and a file that is broken is read again.
    for tool in ["b", "a"] {
        gateway.write_policy("neighbour", &bare("neighbour", &upstream, &allow(tool)));
        soon(&neighbour, tool, 200, "a neighbour's change").await;
    }
    let reloads = || gateway.log().iter().filter(|record| record["fields"]["event"] == "reloaded").count();
    gateway.write_installation(&format!("{PROVIDER}\ndefault_service: nobody\ntrusted_proxies: [192.0.2.7]\n"));
    gateway.wait_for_log(|_| reloads() == 3).await;
    assert_eq!(counts(), [1, 1], "and not again");
    let contradicting = bare("neighbour", &upstream, &allow("a"));
    gateway.write_policy("story", &contradicting);
    wait_for_complaint(&gateway, 0, "duplicate-service").await;
    let change = async |tool: &str| {
        gateway.write_policy("neighbour", &bare("neighbour", &upstream, &allow(tool)));
        soon(&neighbour, tool, 200, "a change beside a broken policy").await;
    };
    // What the reload of the complaint has to say is said before the next reload begins, and not before the complaint.
    change("b").await;
    let before = counts();
    for tool in ["a", "b"] {
        change(tool).await;
    }
    assert_eq!(counts(), before, "nor those of a broken file");
    gateway.write_policy("story", &bare("story", &upstream, &allow("b")));
    soon(&own::client(&gateway, "story", json!({})), "b", 200, "the policy was mended").await;

    gateway.write_installation(&format!("{PROVIDER}\ndefault_service: nobody-else\n"));
    gateway.wait_for_log(|record| record["fields"]["message"].to_string().contains("nobody-else")).await;
    assert!(counts()[1] > before[1], "another warning is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_refused_by_name_and_nothing_of_that_file_counts() {
    let (_upstream, gateway) = two_services("").await;
    let client = own::client(&gateway, "story", json!({}));
    gateway.write_installation("log: { file: other.jsonl }\n");
    let complaint = wait_for_complaint(&gateway, 0, "needs-restart").await;
    assert!(complaint["fields"]["message"].to_string().contains("`log.file`"), "it is named: {complaint}");
    assert_eq!(complaint["fields"]["line"], 1, "with its place: {complaint}");
    assert_eq!(status(&client, "a").await, 200, "the provider that the same text removes is still there");
    assert!(!gateway.directory().join("other.jsonl").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_looks_even_when_nothing_seems_to_have_changed() {
    let (_upstream, gateway) = two_services("").await;
    gateway.write_policy("story", "service: story\nrulez: []\n");
    wait_for_complaint(&gateway, 0, "rulez").await;
    let before = complaints(&gateway, "rulez");
    gateway.signal("HUP");
    wait_for_complaint(&gateway, before, "rulez").await;
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(status(&client, "a").await, 200, "a hangup ends nothing");
}
