//! The whole flow, and what the provider, the state and the browser can do wrong.

use std::time::Duration;

use serde_json::json;

use super::{CALLBACK, Story, claims, error, json as read, redemption};
use crate::support::{Browser, Key, PATIENCE};

#[tokio::test]
async fn h07_a_person_signs_in_and_the_client_calls_a_tool_without_the_providers_tokens() {
    let story = Story::new().await;
    let page = story.sign_in(&Browser::new(), &[]).await;
    assert_eq!(page.status, 303);
    assert!(page.location().starts_with(&format!("{CALLBACK}?")), "{}", page.location());
    assert_eq!(page.parameter("state").as_deref(), Some("client-state"));
    assert_eq!(page.parameter("iss").as_deref(), Some(story.issuer().as_str()));

    let answer = story.redeem(&page.parameter("code").expect("a code")).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens = read(&answer);
    let token = claims(&tokens["access_token"]);
    assert_eq!(token["iss"], story.issuer());
    assert_eq!(token["aud"], story.issuer());
    assert_eq!(token["sub"], "corp:alice");
    assert_eq!(token["client_id"], "desk");
    assert_eq!(token["scope"], "files:read");
    assert_eq!(token["groups"], json!(["eng"]));
    assert_eq!(tokens["expires_in"], 3600);
    assert!(!answer.body.contains("provider-"), "H07: the provider's tokens stay inside");

    let access = tokens["access_token"].as_str().expect("a token");
    story.upstream.forget();
    assert_eq!(story.call("write", access).await, 403, "a scope that was not granted");
    story.upstream.assert_silent();
    assert_eq!(story.call("read", access).await, 200);
    let forwarded = &story.upstream.received()[0];
    assert!(forwarded.header("authorization").is_empty());
    assert_eq!(forwarded.header("x-portcullis-subject"), ["corp:alice"]);
    assert!(!story.gateway.printed().contains(access), "no token is logged");
}

#[tokio::test]
async fn e07_redirects_are_303_and_tell_nobody_where_from() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    let leaving = story.consent(&browser, &page, "corp").await;
    let back = story.back(&browser, &leaving).await;
    let refused = browser.go(&story.authorize(&[("response_type", "token")])).await;
    for page in [leaving, back, refused] {
        assert_eq!(page.status, 303);
        assert_eq!((page.header("referrer-policy"), page.header("cache-control")), ("no-referrer", "no-store"));
        assert!(page.body.is_empty());
    }
}

#[tokio::test]
async fn g01_a_callback_belongs_to_the_browser_that_consented() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    assert!(page.all("set-cookie").iter().all(|cookie| !cookie.contains("flow-")), "nothing of a flow before consent");
    let leaving = story.consent(&browser, &page, "corp").await;
    assert!(leaving.all("set-cookie").iter().any(|cookie| cookie.contains("flow-")));
    let answered = Browser::new().go(leaving.location()).await;

    let elsewhere = Browser::new().go(answered.location()).await;
    assert_eq!((elsewhere.status, elsewhere.location()), (400, ""), "another browser gets nothing");
    assert!(story.provider.asked("/token").is_empty(), "and costs the provider nothing");

    let good = browser.go(answered.location()).await;
    assert!(good.parameter("code").is_some(), "the positive control: {good:#?}");
    assert_eq!(story.provider.asked("/token").len(), 1);
}

#[tokio::test]
async fn g02_a_state_is_used_once() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    let leaving = story.consent(&browser, &page, "corp").await;
    let answered = Browser::new().go(leaving.location()).await;
    let cookies = browser.cookies();
    assert!(browser.go(answered.location()).await.parameter("code").is_some());
    // Even with the cookies of before.
    let jar: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let replayed = Browser::new().go_with(answered.location(), &[("cookie", &jar.join("; "))]).await;
    assert_eq!((replayed.status, replayed.location()), (400, ""));
    assert_eq!(story.provider.asked("/token").len(), 1, "a replay causes no token request");
}

#[tokio::test]
async fn g01_a_state_that_is_forged_leads_nowhere() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    let leaving = story.consent(&browser, &page, "corp").await;
    let state = leaving.parameter("state").expect("a state");
    assert!(!state.contains("client-state") && !state.contains("alice"), "G06: a state tells nothing");
    let flipped = format!("{}{}", if state.starts_with('A') { 'B' } else { 'A' }, &state[1..]);
    let cut = &state[..state.len() - 4];
    for forged in ["", "x", "client-state", cut, flipped.as_str()] {
        let callback = format!("{}/callback/corp?code=c&state={forged}", story.issuer());
        let page = browser.go(&callback).await;
        assert_eq!((page.status, page.location()), (400, ""), "{forged}");
    }
    let twice = format!("{}/callback/corp?code=c&state={state}&state={state}", story.issuer());
    assert_eq!(browser.go(&twice).await.status, 400);
    assert!(story.provider.asked("/token").is_empty());
    assert!(story.back(&browser, &leaving).await.parameter("code").is_some(), "the good one still does");
}

#[tokio::test]
async fn g03_an_answer_of_another_issuer_is_not_acted_on() {
    let story = Story::new().await;
    story.provider.behave(|manner| manner.iss = Some("https://evil.example".into()));
    let page = story.sign_in(&Browser::new(), &[]).await;
    assert_eq!((page.status, page.location()), (400, ""));
    assert!(!page.body.contains("evil"), "nor shown");
    assert!(story.provider.asked("/token").is_empty());

    let own = story.provider.url();
    story.provider.behave(|manner| manner.iss = Some(own));
    assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some());
}

#[tokio::test]
async fn g03_an_issuer_that_promises_iss_must_send_it() {
    let story = Story::with(|policy| policy).await;
    story
        .provider
        .behave(|manner| manner.discovery = json!({ "authorization_response_iss_parameter_supported": true }));
    let page = story.sign_in(&Browser::new(), &[]).await;
    assert_eq!((page.status, page.location()), (400, ""));
    assert!(story.provider.asked("/token").is_empty());
    let own = story.provider.url();
    story.provider.behave(|manner| manner.iss = Some(own));
    assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some());
}

#[tokio::test]
async fn g04_an_id_token_that_is_not_of_this_flow_signs_nobody_in() {
    let story = Story::new().await;
    let other = json!(["gateway", "other"]);
    for (what, changes) in [
        ("another nonce", json!({ "nonce": "other" })),
        ("no nonce", json!({ "nonce": null })),
        ("another issuer", json!({ "iss": "https://evil.example" })),
        ("another audience", json!({ "aud": "other" })),
        ("many audiences", json!({ "aud": other })),
        ("issued to another client", json!({ "azp": "other" })),
        ("issued to nobody that has a name", json!({ "azp": 1 })),
        ("an expired one", json!({ "exp": 1_000 })),
        ("one that does not count yet", json!({ "nbf": 9_000_000_000_u64 })),
        ("one that counts from a word on", json!({ "nbf": "now" })),
        ("no subject", json!({ "sub": null })),
        ("an empty subject", json!({ "sub": "" })),
        ("a subject that is too long", json!({ "sub": "s".repeat(256) })),
        ("another access token's", json!({ "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" })),
    ] {
        story.provider.behave(|manner| manner.claims = changes.clone());
        let page = story.sign_in(&Browser::new(), &[]).await;
        assert_eq!(page.parameter("error").as_deref(), Some("server_error"), "{what}: {page:#?}");
        assert_eq!(page.parameter("code"), None, "{what}");
        assert_eq!(page.parameter("state").as_deref(), Some("client-state"));
        assert_eq!(page.parameter("iss").as_deref(), Some(story.issuer().as_str()));
    }
    story.provider.behave(|manner| manner.claims = json!({}));
    for (what, key) in [
        ("an unpublished key", ("k2", Key::OtherRs256)),
        ("a shared secret", ("k1", Key::Hs256(b"a secret of at least thirty-two bytes"))),
    ] {
        story.provider.behave(|manner| manner.key = (key.0.into(), key.1));
        assert!(story.sign_in(&Browser::new(), &[]).await.parameter("error").is_some(), "{what}");
    }
    story.provider.behave(|manner| {
        manner.key = ("k1".into(), Key::Rs256);
        manner.claims = json!({ "azp": "gateway", "nbf": 1_000 });
    });
    assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some(), "the positive control");
}

#[tokio::test]
async fn a_key_that_the_provider_has_only_just_published_is_fetched() {
    let story = Story::new().await;
    assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some());
    story.provider.behave(|manner| {
        manner.key = ("k2".into(), Key::OtherRs256);
        manner.published = vec![("k2".into(), Key::OtherRs256)];
    });
    assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some());
    assert_eq!(story.provider.asked("/jwks").len(), 2, "once before, once for the new key");
    assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some());
    assert_eq!(story.provider.asked("/jwks").len(), 2, "and it is kept");
}

#[tokio::test]
async fn g05_of_a_providers_error_only_the_code_goes_on() {
    let story = Story::new().await;
    for (said, told) in [
        ("access_denied", "access_denied"),
        ("login_required", "access_denied"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("<script>", "server_error"),
    ] {
        story.provider.behave(|manner| manner.refuses = Some(said.into()));
        let page = story.sign_in(&Browser::new(), &[]).await;
        assert_eq!(page.parameter("error").as_deref(), Some(told), "{said}");
        assert!(!page.location().contains("%3C"), "{}", page.location());
    }
    assert!(story.provider.asked("/token").is_empty());
}

#[tokio::test]
async fn a_provider_that_is_down_or_errs_is_told_to_the_client() {
    let story = Story::new().await;
    story.provider.behave(|manner| manner.token_status = Some(500));
    let page = story.sign_in(&Browser::new(), &[]).await;
    assert!(page.parameter("error").is_some() && page.parameter("code").is_none(), "{page:#?}");
    story.provider.behave(|manner| {
        manner.token_status = None;
        manner.stall = Duration::from_secs(30);
    });
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    // The discovery document is kept already; only the token request waits.
    let leaving = story.consent(&browser, &page, "corp").await;
    assert_eq!(leaving.status, 303, "{leaving:#?}");
}

#[tokio::test]
async fn j01_a_discovery_document_of_another_issuer_or_host_sends_nobody_anywhere() {
    for (what, changes) in [
        ("another issuer", json!({ "issuer": "https://evil.example" })),
        ("a token endpoint elsewhere", json!({ "token_endpoint": "https://evil.example/token" })),
        ("an authorization endpoint elsewhere", json!({ "authorization_endpoint": "https://evil.example/a" })),
        ("an authorization endpoint that runs", json!({ "authorization_endpoint": "javascript:alert(1)" })),
    ] {
        let story = Story::new().await;
        story.provider.behave(|manner| manner.discovery = changes.clone());
        let browser = Browser::new();
        let page = browser.go(&story.authorize(&[])).await;
        let refused = story.consent(&browser, &page, "corp").await;
        assert_eq!(refused.parameter("error").as_deref(), Some("temporarily_unavailable"), "{what}: {refused:#?}");
        assert!(refused.location().starts_with(CALLBACK));
        story.provider.behave(|manner| manner.discovery = json!({}));
        assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some(), "{what}: it is not kept");
    }
}

#[tokio::test]
async fn j01_what_stands_in_the_place_of_a_document_for_a_moment_keeps_nobody_out_for_longer() {
    for path in ["/.well-known/openid-configuration", "/jwks"] {
        let story = Story::new().await;
        story.provider.behave(|manner| manner.page_at = Some(path));
        let browser = Browser::new();
        let leaving = story.consent(&browser, &browser.go(&story.authorize(&[])).await, "corp").await;
        let refused =
            if leaving.location().starts_with(CALLBACK) { leaving } else { story.back(&browser, &leaving).await };
        assert_eq!(refused.parameter("error").as_deref(), Some("temporarily_unavailable"), "{path}: {refused:#?}");
        assert!(!story.provider.asked(path).is_empty(), "{path}: it was asked for");
        story.provider.behave(|manner| manner.page_at = None);
        assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some(), "{path}: it is asked for again");
    }
}

#[tokio::test]
async fn e03_a_redirect_uri_that_is_removed_in_the_middle_of_a_flow_gets_nothing() {
    let story = Story::new().await;
    let removed = story.policy().replace(", loopback: true", "").replace("'http://127.0.0.1/callback', ", "");
    // A code is out, a refresh token is out, a flow is at the provider, and a consent page is open.
    let refresh = story.tokens().await["refresh_token"].as_str().expect("a refresh token").to_owned();
    let code = story.code().await;
    let (away, asked) = (Browser::new(), Browser::new());
    let page = away.go(&story.authorize(&[])).await;
    let leaving = story.consent(&away, &page, "corp").await;
    let open = asked.go(&story.authorize(&[])).await;
    story.gateway.write_policy("files", &removed);
    let started = std::time::Instant::now();
    while Browser::new().go(&story.authorize(&[])).await.status != 400 {
        assert!(started.elapsed() < PATIENCE, "in force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let consented = story.consent(&asked, &open, "corp").await;
    assert_eq!((consented.status, consented.location()), (400, ""), "consent");
    let back = story.back(&away, &leaving).await;
    assert_eq!((back.status, back.location()), (400, ""), "callback: {back:#?}");
    let redeemed = story.token(&redemption(&code)).await;
    assert_eq!((redeemed.status, error(&redeemed).as_str()), (400, "invalid_grant"), "code");
    let refreshed = story.refresh(&refresh).await;
    assert_eq!((refreshed.status, error(&refreshed).as_str()), (400, "invalid_grant"), "refresh");
    let other = [("redirect_uri", "https://app.example.com/cb")];
    assert!(story.sign_in(&Browser::new(), &other).await.parameter("code").is_some(), "the other URI still does");
}

#[tokio::test]
async fn e03_a_removed_redirect_uri_is_removed_for_clients_that_registered_with_it() {
    let story = Story::new().await;
    let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    let register = async || {
        let client = reqwest::Client::new().post(format!("{}/register", story.issuer())).json(&metadata);
        let answer = client.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.expect("JSON"))
    };
    let id = register().await.1["client_id"].as_str().expect("an id").to_owned();
    let asking = story.authorize(&[("client_id", &id)]);
    let redeem = async |code: &str| {
        let mut form = redemption(code).to_vec();
        form.retain(|(name, _)| *name != "client_id");
        form.push(("client_id", &id));
        story.token(&form).await
    };
    let code = async || story.sign_in(&Browser::new(), &[("client_id", &id)]).await.parameter("code").expect("a code");
    let refresh = read(&redeem(&code().await).await)["refresh_token"].as_str().expect("a refresh token").to_owned();
    let unused = code().await;
    let (away, asked) = (Browser::new(), Browser::new());
    let leaving = story.consent(&away, &away.go(&asking).await, "corp").await;
    let open = asked.go(&asking).await;

    // The client still has the URI; the policy's list does not.
    let policy = story.policy();
    let removed = policy.replace(", loopback: true", "").replace("'http://127.0.0.1/callback', ", "");
    story.gateway.write_policy("files", &removed);
    let started = std::time::Instant::now();
    while Browser::new().go(&asking).await.status != 400 {
        assert!(started.elapsed() < PATIENCE, "in force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, refused) = register().await;
    assert_eq!((status, &refused["error"]), (400, &json!("invalid_redirect_uri")), "registration");
    let consented = story.consent(&asked, &open, "corp").await;
    assert_eq!((consented.status, consented.location()), (400, ""), "consent");
    let back = story.back(&away, &leaving).await;
    assert_eq!((back.status, back.location()), (400, ""), "callback: {back:#?}");
    assert_eq!(error(&redeem(&unused).await), "invalid_grant", "code");
    let refreshing = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("client_id", id.as_str())];
    assert_eq!(error(&story.token(&refreshing).await), "invalid_grant", "refresh");

    // Nothing of it was used up: the person did nothing wrong.
    story.gateway.write_policy("files", &policy);
    let started = std::time::Instant::now();
    while story.token(&refreshing).await.status != 200 {
        assert!(started.elapsed() < PATIENCE, "the positive control");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_error_of_the_provider_goes_nowhere_once_the_redirect_uri_is_removed() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    let leaving = story.consent(&browser, &page, "corp").await;
    story.provider.behave(|manner| manner.refuses = Some("access_denied".into()));
    let removed = story.policy().replace(", loopback: true", "").replace("'http://127.0.0.1/callback', ", "");
    story.gateway.write_policy("files", &removed);
    let started = std::time::Instant::now();
    while Browser::new().go(&story.authorize(&[])).await.status != 400 {
        assert!(started.elapsed() < PATIENCE, "in force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let back = story.back(&browser, &leaving).await;
    assert!(back.location().is_empty() && back.status >= 400, "{back:#?}");
    assert!(back.header("content-type").starts_with("text/html"), "the person is told: {back:#?}");
}
