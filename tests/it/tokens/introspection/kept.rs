//! How long an answer counts, and for what it counts.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::{INSTALLATION, Scene};
use super::{Asking, OPAQUE, SECRET, active, introspection};
use crate::support::client::End;
use crate::support::introspector::field;
use crate::support::issuer::{merged, now};
use crate::support::{Answer, Client, Gateway, Introspector, Issuer, PATIENCE, Upstream};

/// An installation whose shared providers are these, and services that each name one of them, all with one audience.
async fn shared(providers: &str, services: &[(&str, &str, &str)], issuer: Issuer) -> Scene {
    let upstream = Upstream::mcp(&["echo", "drop"]).await;
    let installation = format!("{INSTALLATION}providers:\n{providers}");
    let mut setup = Gateway::new().installation(&installation).secret("INTROSPECTION_SECRET", SECRET);
    for (name, provider, authentication) in services {
        let policy = format!(
            "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"{}\" }}\n\
             authentication: {{ providers: [{provider}], audiences: [\"api://shared\"], shared_audience: true{authentication} }}\n\
             scopes: {{ read: {{}}, write: {{}} }}\n\
             rules: [{{ allow: {{ tools: [echo] }}, scopes: [{}] }}]\n",
            upstream.url("/mcp"),
            if *name == "writes" { "write" } else { "read" }
        );
        setup = setup.policy(name, &policy);
    }
    Scene { gateway: setup.start().await, upstream, issuer }
}

#[tokio::test]
async fn b02_claims_and_scopes_of_a_service_are_judged_on_every_hit() {
    let (issuer, endpoint) = (Issuer::start().await, Introspector::start().await);
    let provider = introspection(&issuer.url(), &endpoint.url(), "gate", "");
    let services =
        [("plain", "corp", ""), ("strict", "corp", ", required_claims: { tenant: acme }"), ("writes", "corp", "")];
    let scene = shared(&format!("  corp: {provider}\n"), &services, issuer).await;
    for order in ["refused first", "accepted first"] {
        let token = format!("{OPAQUE}-{}", order.replace(' ', "-"));
        endpoint.knows(&token, merged(active(&scene.issuer.url(), "api://shared"), json!({"tenant": "other"})));
        if order == "accepted first" {
            scene.accepts_at("plain", order, &token).await;
        }
        for _ in 0..2 {
            scene
                .refuses_at(
                    "strict",
                    "a claim that only one service wants (heimdall #3452)",
                    &token,
                    &["claim-missing"],
                )
                .await;
            let reply = scene.call("writes", &token).await;
            assert_eq!(
                (reply.status, scene.reason(&reply).await.as_str()),
                (403, "scope-missing"),
                "{order}: {reply:?}"
            );
            scene.upstream.assert_silent();
            scene.accepts_at("plain", order, &token).await;
        }
        assert_eq!(endpoint.asked(), [token], "one question for all services, and each judged by itself");
        endpoint.forget();
    }
}

#[tokio::test]
async fn b03_an_answer_belongs_to_the_endpoint_and_to_the_client_that_asked() {
    let issuer = Issuer::start().await;
    let answer = active(&issuer.url(), "api://shared");
    // Tells apart who asks: only the second client may know that the token is good.
    let choosy = Upstream::start(move |request| {
        let second = request.header("authorization") == [basic("second")];
        Answer::json(&if second { answer.clone() } else { json!({"active": false}) })
    })
    .await;
    let other = Introspector::start().await;
    let provider = |url: &str, client: &str| introspection(&issuer.url(), url, client, "");
    let url = choosy.url("/introspect");
    let providers = format!(
        "  one: {}\n  two: {}\n  three: {}\n",
        provider(&url, "first"),
        provider(&url, "second"),
        provider(&other.url(), "second")
    );
    let services = [("first", "one", ""), ("second", "two", ""), ("third", "three", "")];
    let scene = shared(&providers, &services, issuer).await;
    for (n, accepted_first) in [false, true].into_iter().enumerate() {
        let token = format!("{OPAQUE}-{n}");
        if accepted_first {
            scene.accepts_at("second", "the client that may know", &token).await;
        }
        for _ in 0..2 {
            let case = "another client or endpoint (CVE-2026-33496)";
            scene.refuses_at("first", case, &token, &["token-inactive"]).await;
            scene.refuses_at("third", case, &token, &["token-inactive"]).await;
            scene.accepts_at("second", "the client that may know", &token).await;
        }
    }
}

fn basic(client: &str) -> String {
    use base64::Engine as _;
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{client}:{encoded}")))
}

#[tokio::test]
async fn b03_an_answer_is_kept_for_the_time_that_is_set_and_never_past_exp() {
    let asking = Asking::start(", cache: 1s").await;
    asking.knows(OPAQUE, json!({}));
    asking.scene.accepts("active", OPAQUE).await;
    asking.endpoint.revokes(OPAQUE);
    let revoked = Instant::now();
    asking.scene.until("main", OPAQUE, 401).await;
    assert!(revoked.elapsed() < PATIENCE, "a revocation counts when the answer is too old");
    asking.scene.upstream.forget();
    asking.scene.refuses("revoked", OPAQUE, &["token-inactive"]).await;

    let brief = Asking::start(", cache: 5m, leeway: 1s").await;
    let end = now() + 5;
    brief.knows("brief", json!({"exp": end}));
    brief.knows("lasting", json!({}));
    for _ in 0..3 {
        brief.scene.accepts("before its end", "brief").await;
        brief.scene.accepts("it lasts", "lasting").await;
    }
    assert_eq!(brief.endpoint.asked(), ["brief", "lasting"], "one question each, for five minutes");
    while now() <= end + 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    brief.scene.refuses("an answer that is kept for longer than its token lives", "brief", &["token-expired"]).await;
    brief.scene.accepts("and the other one is kept still", "lasting").await;
    assert_eq!(brief.endpoint.asked().iter().filter(|token| *token == "lasting").count(), 1);
}

#[tokio::test]
async fn b03_a_refusal_is_remembered_by_itself_and_not_for_longer_than_an_answer() {
    let asking = Asking::start(", cache: 2s").await;
    asking.knows("good", json!({}));
    for _ in 0..5 {
        asking.scene.refuses("not active", OPAQUE, &["token-inactive"]).await;
        asking.scene.accepts("a good one beside it", "good").await;
    }
    let asked = asking.endpoint.asked();
    assert!(asked.iter().filter(|token| *token == OPAQUE).count() < 5, "a refusal is remembered: {asked:?}");
    asking.knows(OPAQUE, json!({}));
    asking.scene.until("main", OPAQUE, 200).await;
}

#[tokio::test]
async fn b05_questions_about_one_token_are_one_and_of_two_tokens_never_meet() {
    let asking = Asking::start("").await;
    asking.endpoint.stall(Duration::from_millis(300));
    let prefix = "p".repeat(64);
    let tokens: Vec<String> = (0..12).map(|n| format!("{prefix}{n:02}")).collect();
    for (n, token) in tokens.iter().enumerate() {
        // One person and one client with many tokens, of which every third is not active.
        asking.knows(token, json!({"jti": format!("t-{n}"), "active": n % 3 != 0}));
    }
    let url = asking.scene.url("main");
    let calls = (0..48).map(|n| {
        let client = Client::new(&url).token(&tokens[n % 12]);
        tokio::spawn(async move { (n % 12, client.call_tool("echo", json!({})).await.status) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (n, status) = call.await.expect("a call");
        assert_eq!(status, if n % 3 == 0 { 401 } else { 200 }, "token {n} (CVE-2026-71326)");
    }
    let mut asked = asking.endpoint.asked();
    asked.sort();
    assert_eq!(asked, tokens, "one question for each token, however many ask");
    assert_eq!(asking.scene.upstream.received().len(), 32, "and only calls with an active token arrive");
}

#[tokio::test]
async fn b03_m04_a_stream_ends_when_its_token_is_revoked_and_lasts_without_exp() {
    let waits = |_: &crate::support::upstream::Request| {
        let first = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "first"}});
        Answer::sse(&[first], Duration::ZERO).then_waits()
    };
    let (upstream, issuer, endpoint) =
        (Upstream::start(waits).await, Issuer::start().await, Introspector::start().await);
    let policy = format!(
        "service: main\nroute: {{ path: /main/mcp }}\nupstream: {{ url: \"{}\" }}\n\
         providers: {{ corp: {} }}\nauthentication: {{ providers: [corp] }}\nrules: [{{ allow: {{ tools: [watch] }} }}]\n",
        upstream.url("/mcp"),
        introspection(&issuer.url(), &endpoint.url(), "gate", ", cache: 1s")
    );
    let setup = Gateway::new().installation(INSTALLATION).secret("INTROSPECTION_SECRET", SECRET);
    let gateway = setup.policy("main", &policy).start().await;
    let url = gateway.url("/main/mcp");
    let (mut streams, headers) = (Vec::new(), [("mcp-protocol-version", "2025-11-25")]);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "watch", "arguments": {}}});
    for token in ["revoked", "lasting"] {
        endpoint.knows(token, merged(active(&issuer.url(), &url), json!({"exp": null})));
        let mut stream = Client::new(&url).token(token).open_call(&headers, &call).await;
        stream.until("first").await;
        streams.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(upstream.cut_off(), 0, "a token without an end is good for as long as the endpoint says so");
    assert!(endpoint.asked().len() > 2, "and the endpoint is asked again: {:?}", endpoint.asked());
    endpoint.revokes("revoked");
    let revoked = Instant::now();
    assert_eq!(streams[0].end().await, End::Orderly);
    assert!(revoked.elapsed() < Duration::from_secs(15), "{:?}", revoked.elapsed());
    crate::support::eventually("the upstream to be told", || (upstream.cut_off() == 1).then_some(())).await;
    assert!(endpoint.questions().iter().all(|question| field(question, "token_type_hint").is_some()));
}
