//! The provider is asked again when a client refreshes: whoever is gone there is gone here.

use std::time::Duration;

use serde_json::json;

use super::{Story, claims, error, json as read};
use crate::support::Browser;

/// A story whose provider gives tokens that last no time, so that every refresh asks it.
async fn story() -> Story {
    let story = Story::new().await;
    story.provider.behave(|manner| manner.tokens = json!({ "expires_in": 0 }));
    story
}

/// How often the provider was asked for new tokens.
fn renewals(story: &Story) -> usize {
    let asked = story.provider.asked("/token");
    asked.iter().filter(|request| String::from_utf8_lossy(&request.body).contains("grant_type=refresh_token")).count()
}

async fn refresh_token(story: &Story) -> String {
    story.tokens().await["refresh_token"].as_str().expect("a refresh token").to_owned()
}

#[tokio::test]
async fn a_refresh_asks_the_provider_and_reads_claims_anew() {
    let story = story().await;
    let first = story.tokens().await;
    assert_eq!(claims(&first["access_token"])["groups"], json!(["eng"]));
    story.provider.behave(|manner| manner.claims = json!({ "groups": ["sales"] }));
    let mut token = first["refresh_token"].as_str().expect("a refresh token").to_owned();
    for turn in 1..=3 {
        let page = story.refresh(&token).await;
        assert_eq!(page.status, 200, "{page:#?}");
        let answer = read(&page);
        assert_eq!(claims(&answer["access_token"])["groups"], json!(["sales"]), "as the provider says now");
        assert_eq!(claims(&answer["access_token"])["sub"], "corp:alice");
        assert_eq!(renewals(&story), turn, "with the successor of the provider's own refresh token, each good once");
        assert!(!page.body.contains("provider-"), "H07: the provider's tokens stay inside");
        token = answer["refresh_token"].as_str().expect("a refresh token").to_owned();
    }
    assert!(!story.gateway.printed().contains("provider-refresh-token"), "nor are they logged");
}

#[tokio::test]
async fn a_word_of_the_provider_is_good_for_a_while() {
    let story = Story::new().await;
    let token = refresh_token(&story).await;
    let answer = read(&story.refresh(&token).await);
    assert!(answer["access_token"].is_string(), "{answer}");
    assert_eq!(renewals(&story), 0, "it was asked a moment ago");
}

#[tokio::test]
async fn h10_whoever_is_gone_at_the_provider_is_gone_at_the_next_refresh() {
    for code in ["invalid_grant", "interaction_required", "login_required", "access_denied"] {
        let story = story().await;
        let tokens = story.tokens().await;
        let (access, refresh) = (tokens["access_token"].as_str().expect("one"), tokens["refresh_token"].as_str());
        assert_eq!(story.call("read", access).await, 200, "the positive control");
        story.provider.behave(|manner| {
            let said = json!({ "error": code, "error_description": "AADSTS50057: alice is disabled" });
            manner.refresh_refused = Some((400, said));
        });
        let page = story.refresh(refresh.expect("one")).await;
        assert_eq!((page.status, error(&page).as_str()), (400, "invalid_grant"), "{code}: {page:#?}");
        assert!(!page.body.contains("AADSTS"), "the provider's words stay inside");
        story.upstream.forget();
        assert_eq!(story.call("read", access).await, 401, "{code}: and the access token that is out ends");
        story.upstream.assert_silent();
        story.provider.behave(|manner| manner.refresh_refused = None);
        assert_eq!(story.refresh(refresh.expect("one")).await.status, 400, "for good");
        assert_eq!(renewals(&story), 1, "and the provider is not asked about a grant that is over");
        story.gateway.wait_for_log(|line| line["fields"]["event"] == "provider-ended").await;
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_holds_a_refresh_up_and_uses_nothing_up() {
    for (what, status, said) in [
        ("the gateway's own secret is refused", 401, json!({ "error": "invalid_client" })),
        ("no OAuth error at all", 500, json!("no")),
        ("down", 503, json!({ "error": "temporarily_unavailable" })),
    ] {
        let story = story().await;
        let token = refresh_token(&story).await;
        story.provider.behave(|manner| manner.refresh_refused = Some((status, said)));
        let page = story.refresh(&token).await;
        assert_eq!((page.status, error(&page).as_str()), (503, "temporarily_unavailable"), "{what}: {page:#?}");
        assert!(!page.header("retry-after").is_empty());
        assert_eq!(story.refresh(&token).await.status, 503);
        assert_eq!(renewals(&story), 1, "{what}: it is left alone for some seconds");
        story.gateway.wait_for_log(|line| line["fields"]["event"] == "provider-unavailable").await;
        if what == "down" {
            story.provider.behave(|manner| manner.refresh_refused = None);
            let started = std::time::Instant::now();
            while story.refresh(&token).await.status != 200 {
                assert!(started.elapsed() < Duration::from_secs(20), "it goes on when the provider is back");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_policy_may_have_patience_with_a_silent_provider() {
    let with = "  redirects: { exact";
    let patient = |policy: String| policy.replace(with, &format!("  tokens: {{ provider_outage: 1h }}\n{with}"));
    let story = Story::with(patient).await;
    story.provider.behave(|manner| {
        manner.tokens = json!({ "expires_in": 0 });
        manner.refresh_refused = Some((503, json!({ "error": "temporarily_unavailable" })));
    });
    let page = story.refresh(&refresh_token(&story).await).await;
    assert_eq!(page.status, 200, "{page:#?}");
    story.gateway.wait_for_log(|line| line["fields"]["event"] == "provider-outage").await;
    let token = read(&page)["refresh_token"].as_str().expect("a refresh token").to_owned();
    story.provider.behave(|manner| manner.refresh_refused = Some((400, json!({ "error": "invalid_grant" }))));
    let started = std::time::Instant::now();
    let mut page = story.refresh(&token).await;
    while page.status == 200 {
        assert!(started.elapsed() < Duration::from_secs(20), "a word is a word, whatever the patience with silence");
        tokio::time::sleep(Duration::from_millis(300)).await;
        page = story.refresh(read(&page)["refresh_token"].as_str().expect("a refresh token")).await;
    }
    assert_eq!((page.status, error(&page).as_str()), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_refresh_that_speaks_of_somebody_else_gives_nothing() {
    for (what, said, status, told) in [
        ("another person", json!({ "sub": "mallory" }), 400, "invalid_grant"),
        ("another issuer", json!({ "iss": "https://evil.example" }), 500, "server_error"),
        ("another client", json!({ "aud": "somebody" }), 500, "server_error"),
    ] {
        let story = story().await;
        let token = refresh_token(&story).await;
        story.provider.behave(|manner| manner.claims = said);
        let page = story.refresh(&token).await;
        assert_eq!((page.status, error(&page).as_str()), (status, told), "{what}: {page:#?}");
        assert!(!page.body.contains("access_token"), "{what}");
        assert_eq!(renewals(&story), 1);
    }
}

#[tokio::test]
async fn many_refreshes_at_once_ask_the_provider_once() {
    let story = story().await;
    let token = refresh_token(&story).await;
    story.provider.behave(|manner| manner.stall = Duration::from_millis(300));
    let ask = || story.refresh(&token);
    let (one, two, three, four) = tokio::join!(ask(), ask(), ask(), ask());
    let pages = [one, two, three, four];
    assert!(pages.iter().all(|page| page.status == 200), "{pages:#?}");
    let successors: std::collections::BTreeSet<String> =
        pages.iter().map(|page| read(page)["refresh_token"].to_string()).collect();
    assert_eq!(successors.len(), 1, "all of them get the same successor");
    assert_eq!(renewals(&story), 1, "or the provider would see its refresh token come twice");
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_loses_nothing() {
    let story = story().await;
    let token = refresh_token(&story).await;
    story.provider.behave(|manner| manner.stall = Duration::from_millis(400));
    let given_up = tokio::time::timeout(Duration::from_millis(150), story.refresh(&token)).await;
    assert!(given_up.is_err(), "the client has not waited");
    story.provider.behave(|manner| manner.stall = Duration::ZERO);
    let page = story.refresh(&token).await;
    assert_eq!(page.status, 200, "the provider's new refresh token was kept: {page:#?}");
}

#[tokio::test]
async fn a_provider_that_is_another_one_now_is_not_shown_the_tokens_of_before() {
    let (story, other) = (story().await, crate::support::Provider::start().await);
    let tokens = story.tokens().await;
    let (access, token) = (tokens["access_token"].as_str().expect("one"), tokens["refresh_token"].as_str());
    let token = token.expect("a refresh token").to_owned();
    assert_eq!(story.call("read", access).await, 200, "the positive control");
    story.gateway.write_policy("files", &story.policy().replace(&story.provider.url(), &other.url()));
    let started = std::time::Instant::now();
    loop {
        let browser = Browser::new();
        let page = browser.go(&story.authorize(&[])).await;
        let leaving = story.consent(&browser, &page, "corp").await;
        if leaving.location().starts_with(&other.url()) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the policy is in force: {leaving:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let page = story.refresh(&token).await;
    assert_eq!((page.status, error(&page).as_str()), (400, "invalid_grant"));
    assert!(other.asked("/token").is_empty() && renewals(&story) == 0);
    story.upstream.forget();
    assert_eq!(story.call("read", access).await, 401, "`corp:alice` is somebody else now");
    story.upstream.assert_silent();
}

#[tokio::test]
async fn a_refresh_without_an_id_token_reads_the_userinfo_endpoint_anew() {
    let asking = |policy: String| policy.replace("title: Corp }", "title: Corp, userinfo: true }");
    let story = Story::with(asking).await;
    story.provider.behave(|manner| {
        manner.tokens = json!({ "expires_in": 0 });
        manner.claims = json!({ "groups": null });
        manner.userinfo = json!({ "groups": ["admins"] });
    });
    let mut tokens = story.tokens().await;
    assert_eq!(claims(&tokens["access_token"])["groups"], json!(["admins"]));
    for groups in [json!(["readers"]), json!(null)] {
        story.provider.behave(|manner| {
            manner.tokens = json!({ "expires_in": 0, "id_token": null });
            manner.userinfo = json!({ "groups": groups });
        });
        let page = story.refresh(tokens["refresh_token"].as_str().expect("a refresh token")).await;
        assert_eq!(page.status, 200, "{page:#?}");
        tokens = read(&page);
        let token = claims(&tokens["access_token"]);
        assert_eq!(token["groups"], groups, "as the endpoint says now, also when that is nothing");
        assert_eq!(token["email"], "alice@example.com", "as the last ID token said");
    }
    story.provider.behave(|manner| manner.userinfo = json!({ "sub": "mallory" }));
    let page = story.refresh(tokens["refresh_token"].as_str().expect("a refresh token")).await;
    assert_eq!((page.status, error(&page).as_str()), (500, "server_error"), "{page:#?}");
    assert!(!page.body.contains("access_token"));
}
