//! Keys that are fetched: ahead, rarely, from the issuer only, and through an outage.

use std::time::Duration;

use serde_json::json;

use super::{INSTALLATION, KEYS, Scene, check, fetched, until};
use crate::support::{Answer, Client, Gateway, Issuer, Key, Upstream, eventually};

#[tokio::test]
async fn j03_keys_are_fetched_ahead_and_not_by_requests() {
    let scene = Scene::start().await;
    fetched(&scene.issuer, 1).await;
    for n in 0..10 {
        scene.accepts("keys that are there already", &scene.token(json!({"jti": n.to_string()}))).await;
    }
    assert_eq!((scene.issuer.discoveries(), scene.issuer.key_fetches()), (1, 1), "no request costs a fetch");
}

#[tokio::test]
async fn j03_j05_a_flood_of_unknown_kids_costs_one_fetch_and_a_bad_signature_none() {
    let scene = Scene::start().await;
    fetched(&scene.issuer, 1).await;
    let forged = scene.issuer.token_with(Key::OtherRs256, json!({"kid": "rs256"}), &scene.url("main"), json!({}));
    for _ in 0..5 {
        scene.refuses("the key is known and did not sign", &forged, &["signature-invalid"]).await;
    }
    assert_eq!(scene.issuer.key_fetches(), 1, "a signature that fails under a known name fetches nothing");

    let url = scene.url("main");
    let calls = (0..200).map(|n| {
        let header = json!({"kid": format!("random-{n}-{}", n * 7919)});
        let token = scene.issuer.token_with(Key::OtherEs256, header, &url, json!({}));
        let client = Client::new(&url).token(&token);
        tokio::spawn(async move { client.call_tool("echo", json!({})).await.status })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("a call"), 401, "a key that nobody knows opens nothing");
    }
    scene.upstream.assert_silent();
    assert_eq!(scene.issuer.key_fetches(), 2, "200 unknown names within one cool-down are one fetch");
    scene.accepts("a known name, after the flood", &scene.token(json!({}))).await;
}

#[tokio::test]
async fn j03_an_algorithm_that_is_not_the_providers_costs_no_fetch() {
    let scene = Scene::with(&KEYS, |scenery| {
        let by_url =
            format!("{{ jwks: {{ issuer: \"{0}\", algorithms: [RS256], url: \"{0}/jwks\" }} }}", scenery.issuer);
        let discovered = format!("{{ oidc: {{ issuer: \"{}\" }} }}", scenery.issuer);
        scenery.service("url", &by_url, "", "").service("main", &discovered, "", "")
    })
    .await;
    // Both first: each provider fetches for itself, and the second's first fetch is none of a refused token's.
    for service in ["url", "main"] {
        scene.accepts_at(service, "the keys are there", &scene.issuer.token(&scene.url(service), json!({}))).await;
    }
    for service in ["url", "main"] {
        let audience = scene.url(service);
        let before = scene.issuer.key_fetches();
        for (n, key) in [Key::Hs256(b"0123456789abcdef0123456789abcdef"), Key::Es512, Key::Ps512].iter().enumerate() {
            let token = scene.issuer.token_with(*key, json!({"kid": format!("unknown-{n}")}), &audience, json!({}));
            scene.refuses_at(service, key.algorithm(), &token, &["algorithm-refused"]).await;
        }
        assert_eq!(scene.issuer.key_fetches(), before, "{service}: no fetch for what no key could verify");
    }
}

#[tokio::test]
async fn j03_a_new_key_is_found_at_its_first_token_once_per_cool_down() {
    let scene = Scene::with(&[("one", Key::Rs256)], |scenery| {
        let provider = scenery.oidc(", keys: { cool_down: 1s }");
        scenery.service("main", &provider, "", "")
    })
    .await;
    scene.accepts("the first key", &scene.token(json!({}))).await;
    scene.issuer.rotate(&[("two", Key::Es256), ("one", Key::Rs256)]);
    scene.accepts("the new key, which nobody has seen yet", &scene.token(json!({}))).await;
    scene.issuer.rotate(&[("three", Key::EdDsa)]);
    // The look at `two` was just now: until the cool-down ends, `three` is unknown and `one` still serves.
    scene.until("main", &scene.token(json!({})), 200).await;
}

#[tokio::test]
async fn j04_the_last_good_keys_serve_through_an_outage_until_they_are_too_old() {
    let scene = Scene::with(&KEYS, |scenery| {
        let brief = scenery.oidc(", keys: { refresh: 1s, max_stale: 2s, cool_down: 1s }");
        let patient = scenery.oidc(", keys: { refresh: 1s }");
        scenery.service("main", &brief, "", "").service("patient", &patient, "", "")
    })
    .await;
    let token = scene.token(json!({}));
    scene.accepts("before the outage", &token).await;
    scene.issuer.fail_with(Some(500));
    let fetches = scene.issuer.discoveries();
    eventually("a fetch that fails", || (scene.issuer.discoveries() > fetches + 1).then_some(())).await;
    let at_patient = |jti: &str| scene.issuer.token(&scene.url("patient"), json!({"jti": jti}));
    scene.accepts_at("patient", "the last good keys", &at_patient("during")).await;

    // A token that is known already needs no key: only one that must be verified meets the missing keys.
    let started = std::time::Instant::now();
    let reply = loop {
        let fresh = scene.token(json!({"jti": format!("{:?}", started.elapsed())}));
        let reply = scene.call("main", &fresh).await;
        if reply.status != 200 {
            break reply;
        }
        assert!(started.elapsed() < crate::support::PATIENCE, "keys of two seconds at most serve too long");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(reply.status, 503, "the token is not at fault, so it is not told to go: {reply:?}");
    assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{reply:?}");
    assert_eq!(reply.header("www-authenticate"), "", "a challenge would make clients throw the token away");
    assert_eq!(scene.reason(&reply).await, "provider-unavailable");
    scene.upstream.forget();
    scene.accepts_at("patient", "the last good keys, long after", &at_patient("long after")).await;

    scene.issuer.fail_with(None);
    scene.until("main", &scene.token(json!({"jti": "healed"})), 200).await;
}

#[tokio::test]
async fn j04_without_the_provider_it_starts_answers_503_and_heals() {
    let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
    issuer.fail_with(Some(503));
    let policy = format!(
        "service: main\nroute: {{ path: /main/mcp }}\nupstream: {{ url: \"{}\" }}\n\
         providers: {{ corp: {{ oidc: {{ issuer: \"{}\", keys: {{ cool_down: 1s }} }} }} }}\n\
         authentication: {{ providers: [corp] }}\nrules: [{{ allow: {{ tools: [echo] }} }}]\n",
        upstream.url("/mcp"),
        issuer.url()
    );
    let gateway = Gateway::new().installation(INSTALLATION).policy("main", &policy).start().await;
    let url = gateway.url("/main/mcp");
    let token = issuer.token(&url, json!({}));
    let reply = Client::new(&url).token(&token).call_tool("echo", json!({})).await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (503, ""), "{reply:?}");
    assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{reply:?}");
    let anonymous = Client::new(&url).call_tool("echo", json!({})).await;
    assert_eq!(anonymous.status, 401, "without a token there is nothing that a key could help");
    upstream.assert_silent();
    issuer.fail_with(None);
    until(&url, &token, 200).await;
    assert_eq!(upstream.received().len(), 1, "and the call that passes arrives");
}

/// Answers with a key set at `/keys`, a redirect to it at `/moved`, and all that a key set must not be.
async fn elsewhere() -> Upstream {
    let set = json!({"keys": [Key::Rs256.jwk("rs256")]});
    Upstream::start(move |request| match request.path.as_str() {
        "/keys" => Answer::json(&set),
        "/moved" => Answer::status(302).header("location", "/keys"),
        "/moved-for-good" => Answer::status(308).header("location", "/keys"),
        "/large" => Answer::json(&json!({"keys": set["keys"], "pad": "x".repeat(600 * 1024)})),
        "/slow" => Answer::json(&set).after(Duration::from_secs(30)),
        "/page" => Answer::status(200).header("content-type", "text/html").body("<html>"),
        "/twice" => Answer::status(200).body(format!("{{\"keys\":[],{}", &set.to_string()[1..])),
        "/empty" => Answer::json(&json!({"keys": []})),
        "/created" => Answer::json(&set).with_status(201),
        _ => Answer::status(404),
    })
    .await
}

#[tokio::test]
async fn j02_a_key_set_is_fetched_without_redirects_bounded_in_size_and_time() {
    let keys = elsewhere().await;
    let paths = ["moved", "moved-for-good", "large", "slow", "page", "twice", "empty", "created", "missing", "keys"];
    let scene = Scene::with(&KEYS, |mut scenery| {
        for path in paths {
            let provider = format!(
                "{{ jwks: {{ issuer: \"{}\", algorithms: [RS256], url: \"{}\" }} }}",
                scenery.issuer,
                keys.url(&format!("/{path}"))
            );
            scenery = scenery.service(path, &provider, "", "");
        }
        scenery
    })
    .await;
    // All at once: the slow one takes its five seconds.
    let calls = paths[..9].iter().map(|path| {
        let client = Client::new(&scene.url(path)).token(&scene.issuer.token(&scene.url(path), json!({})));
        tokio::spawn(async move { client.call_tool("echo", json!({})).await })
    });
    for (path, call) in paths.iter().zip(calls.collect::<Vec<_>>()) {
        let reply = call.await.expect("a call");
        assert_eq!(reply.status, 503, "no keys come from /{path}: {reply:?}");
        assert!(!reply.header("retry-after").is_empty(), "{path}");
    }
    scene.upstream.assert_silent();
    scene.accepts_at("keys", "the same keys, given plainly", &scene.issuer.token(&scene.url("keys"), json!({}))).await;
    for (path, cause) in
        [("moved", "status 302"), ("large", "512 KiB"), ("slow", "5 seconds"), ("created", "status 201")]
    {
        let provider = format!("{path}/corp");
        let told = |record: &serde_json::Value| {
            let text = record.to_string();
            text.contains("keys-unavailable") && text.contains(&provider) && text.contains(cause)
        };
        scene.gateway.wait_for_log(told).await;
    }
}

#[tokio::test]
async fn j01_discovery_is_believed_about_its_own_issuer_and_listed_hosts_only() {
    let other = Issuer::start().await;
    let on_other_host = |issuer: &Issuer| issuer.jwks_url().replace("127.0.0.1", "localhost");
    let issuers = [Issuer::start().await, Issuer::start().await, Issuer::start().await, Issuer::start().await];
    let [foreign, slash, stray, listed] = &issuers;
    foreign.discovers(json!({"issuer": other.url(), "jwks_uri": foreign.jwks_url()}));
    slash.discovers(json!({"issuer": format!("{}/", slash.url()), "jwks_uri": slash.jwks_url()}));
    stray.discovers(json!({"issuer": stray.url(), "jwks_uri": on_other_host(stray)}));
    listed.discovers(json!({"issuer": listed.url(), "jwks_uri": on_other_host(listed)}));
    let scene = Scene::with(&KEYS, |scenery| {
        let provider = |issuer: &Issuer, more: &str| format!("{{ oidc: {{ issuer: \"{}\"{more} }} }}", issuer.url());
        scenery
            .service("foreign", &provider(foreign, ""), "", "")
            .service("slash", &provider(slash, ""), "", "")
            .service("stray", &provider(stray, ""), "", "")
            .service("listed", &provider(listed, ", allowed_hosts: [localhost]"), "", "")
    })
    .await;
    for (name, issuer, case) in [
        ("foreign", foreign, "the document of another issuer"),
        ("slash", slash, "an issuer with a slash more"),
        ("stray", stray, "keys on a host that nobody listed"),
    ] {
        let reply = scene.call(name, &issuer.token(&scene.url(name), json!({}))).await;
        assert_eq!(reply.status, 503, "{case} is not believed (OpenID Connect Discovery section 4.3): {reply:?}");
        assert_eq!(issuer.key_fetches(), 0, "{case}: no key is fetched");
        assert!(issuer.discoveries() > 0, "{case}: discovery was asked");
    }
    scene.upstream.assert_silent();
    scene.accepts_at("listed", "the same host, listed", &listed.token(&scene.url("listed"), json!({}))).await;
    assert_eq!(other.discoveries() + other.key_fetches(), 0, "the issuer that was only named is never asked");
}

#[tokio::test]
async fn q03_what_a_fetched_url_says_never_reaches_a_caller() {
    const SAID: &str = "internal-page-that-nobody-may-see";
    let page = Upstream::start(|_| Answer::status(500).header("x-internal", SAID).body(SAID)).await;
    let scene = Scene::with(&KEYS, |scenery| {
        let provider = format!(
            "{{ jwks: {{ issuer: \"{}\", algorithms: [RS256], url: \"{}\" }} }}",
            scenery.issuer,
            page.url("/secret-path")
        );
        let good = scenery.oidc("");
        scenery.service("blind", &provider, "", "").service("main", &good, "", "")
    })
    .await;
    let reply = scene.call("blind", &scene.issuer.token(&scene.url("blind"), json!({}))).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    let shown = format!("{:?} {}", reply.headers, String::from_utf8_lossy(&reply.body));
    for word in [SAID, "secret-path", "500", &page.url("")] {
        assert!(!shown.contains(word), "the caller learns `{word}` (GHSA-fmfg-9g7c-3vq7): {shown}");
    }
    scene.upstream.assert_silent();
    assert!(!page.received().is_empty(), "the page was asked");
    assert!(!scene.gateway.printed().contains(SAID), "and the log tells its status only");
    scene.accepts("a provider that answers", &scene.token(json!({}))).await;
}

#[test]
fn j03_times_that_would_ask_without_a_pause_or_never_in_time_do_not_load() {
    let said = |keys: &str| {
        check(&Gateway::new().policy(
            "main",
            &format!(
                "service: main\nroute: {{ path: /main/mcp }}\nupstream: {{ url: \"http://127.0.0.1:9/mcp\" }}\n\
                 providers: {{ corp: {{ oidc: {{ issuer: \"https://id.example.com\", keys: {{ {keys} }} }} }} }}\n\
                 authentication: {{ providers: [corp] }}\nrules: [{{ allow: {{ tools: [echo] }} }}]\n"
            ),
        ))
    };
    for keys in ["refresh: 999ms", "cool_down: 1ms", "max_stale: 5m", "refresh: 2d", "refresh: 10s, max_stale: 9s"] {
        let (content, report) = said(keys);
        assert!(!content && report.contains("invalid-value"), "{keys}: {report}");
    }
    for keys in ["refresh: 1s, cool_down: 1s, max_stale: 1s", "refresh: 1d", "max_stale: 10m"] {
        let (content, report) = said(keys);
        assert!(content, "{keys}: {report}");
    }
}
