//! What an operator does to the state that replicas share.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Replicas, before};
use crate::signin::{CI_SECRET, Story, claims, error, json as read};
use crate::state::{command, said};
use crate::support::client::End;
use crate::support::upstream::Request;
use crate::support::{Answer, Client, Gateway, Upstream};

/// What is promised.
const PROMISED: Duration = Duration::from_secs(5);
/// What a busy machine may need besides.
const SLACK: Duration = Duration::from_secs(10);

/// Runs a command in the directory of a replica; the running gateways learn of it by the store alone.
fn operate(gateway: &Gateway, words: &[&str]) -> Output {
    command(gateway.directory(), &[words, &["."]].concat(), "")
}

fn done(gateway: &Gateway, words: &[&str]) -> String {
    let output = operate(gateway, words);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    said(&output)
}

/// Answers `read`, and streams for ever whatever else is called.
fn streams(request: &Request) -> Answer {
    if request.json()["params"]["name"] == "read" {
        return Answer::json(&json!({ "jsonrpc": "2.0", "id": request.json()["id"], "result": { "content": [] } }));
    }
    let event = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "data": "first" } });
    Answer::sse(&[event], Duration::ZERO).then_waits()
}

#[tokio::test(flavor = "multi_thread")]
async fn h10_m04_what_an_operator_revokes_ends_at_every_replica() {
    let upstream = Upstream::start(streams).await;
    let replicas =
        Replicas::new(|policy| before(&upstream, &policy).replace("tools: [read]", "tools: [read, watch]")).await;
    let story = &replicas.story;
    let tokens = story.tokens().await;
    let access = tokens["access_token"].as_str().expect("a token");
    let subject = claims(&tokens["access_token"])["sub"].as_str().expect("a subject").to_owned();
    let machine = [("grant_type", "client_credentials"), ("client_id", "ci"), ("client_secret", CI_SECRET)];
    let machine = read(&story.token(&machine).await)["access_token"].as_str().expect("a token").to_owned();
    let issuer = story.issuer();
    let about = ["subject", &subject, "--issuer", &issuer];

    replicas.to(1).await;
    let watch =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "watch", "arguments": {} } });
    let client = Client::new(&issuer).token(access);
    let mut stream = client.open_call(&[("mcp-protocol-version", "2025-11-25")], &watch).await;
    stream.until("first").await;
    let said = done(&story.gateway, &[&["revoke"], about.as_slice()].concat());
    assert!(said.contains("revoked "), "{said}");
    let revoked = Instant::now();
    assert_eq!(stream.end().await, End::Orderly, "an open stream of another replica ends");
    assert!(revoked.elapsed() < PROMISED + SLACK, "{:?}", revoked.elapsed());
    for replica in [0, 1] {
        replicas.to(replica).await;
        while story.call("read", access).await != 401 {
            assert!(revoked.elapsed() < PROMISED + SLACK, "replica {replica}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        upstream.forget();
        assert_eq!(story.call("read", access).await, 401);
        upstream.assert_silent();
        assert_eq!(story.call("read", &machine).await, 200, "nobody else is meant");
    }
    let refresh = tokens["refresh_token"].as_str().expect("a token");
    assert_eq!(error(&story.refresh(refresh).await), "invalid_grant");
    assert_eq!(done(&replicas.second, &["revoke", "list"]).lines().count(), 1);

    done(&replicas.second, &[&["unrevoke"], about.as_slice()].concat());
    let lifted = Instant::now();
    for replica in [0, 1] {
        replicas.to(replica).await;
        while story.call("read", access).await != 200 {
            assert!(lifted.elapsed() < PROMISED + SLACK, "replica {replica}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_into_and_copies_the_store_that_replicas_share() {
    let replicas = Replicas::new(|policy| policy).await;
    let story = &replicas.story;
    let tokens = story.tokens().await;
    let (access, refresh) =
        (tokens["access_token"].as_str().expect("one"), tokens["refresh_token"].as_str().expect("one"));
    let at = &story.gateway;
    assert!(done(at, &["store", "check"]).ends_with("good\n"));
    done(at, &["store", "export", "--to", "copy.jsonl"]);
    let full = operate(at, &["store", "import", "--from", "copy.jsonl"]);
    assert!(!full.status.success() && said(&full).contains("move it away first"), "{}", said(&full));

    // Another server, which knows nothing, and before it no gateway.
    let Replicas { story, second, front, redis } = replicas;
    drop(second);
    let Story { gateway, provider, upstream } = story;
    let gateway = gateway
        .crash_with(|setup| {
            redis.ask("FLUSHALL");
            let words = ["store", "import", "--from", "copy.jsonl", "."];
            let imported = command(setup.directory(), &words, "");
            assert!(
                imported.status.success() && said(&imported).contains("rows are in the store"),
                "{}",
                said(&imported)
            );
            setup
        })
        .await;
    front.send_to(&[gateway.address()]);
    let story = Story { gateway, provider, upstream };
    assert_eq!(story.call("read", access).await, 200, "the keys that sign are the same");
    let refreshed = story.refresh(refresh).await;
    assert_eq!(refreshed.status, 200, "{refreshed:#?}");
    let rotated = done(&story.gateway, &["store", "rotate-key"]);
    assert!(rotated.starts_with("0 rows were sealed anew"), "all of it is sealed with the first key: {rotated}");
}
