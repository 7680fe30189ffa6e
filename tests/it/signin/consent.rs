//! The page that asks, and what may answer it.

use super::{CALLBACK, Story};
use crate::support::Browser;

#[tokio::test]
async fn f01_f02_the_page_says_who_asks_for_what_and_where_it_goes() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[("scope", "files:read files:write")])).await;
    for words in ["Desk", "127.0.0.1", "Read your files", "Change your files", "Corp", &story.issuer()] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert!(!page.body.contains("files:write"), "words of the policy, not names");
    assert!(story.provider.asked("/authorize").is_empty() && story.provider.asked("/token").is_empty());
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains(&format!("form-action 'self' https: http://127.0.0.1:7777 {}", story.provider.url())),
        "{policy}"
    );
}

#[tokio::test]
async fn f03_an_answer_that_comes_from_elsewhere_is_refused() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    let (url, request) = (format!("{}/consent", story.issuer()), page.field("request"));
    let form = [("request", request.as_str()), ("provider", "corp")];
    let own = [("sec-fetch-site", "same-origin")];
    let other = Browser::new();
    other.go(&story.authorize(&[])).await;
    for (what, answer) in [
        ("no cookie", Browser::new().submit_with(&url, &form, &own).await),
        ("another browser's cookie", other.submit_with(&url, &form, &own).await),
        ("another site", browser.submit_with(&url, &form, &[("sec-fetch-site", "cross-site")]).await),
        ("another host of the site", browser.submit_with(&url, &form, &[("sec-fetch-site", "same-site")]).await),
        ("another origin", browser.submit_with(&url, &form, &[("origin", "https://evil.example")]).await),
    ] {
        assert_eq!((answer.status, answer.location()), (403, ""), "{what}");
        assert!(answer.all("set-cookie").is_empty(), "{what}: nothing of a flow");
    }
    let flipped = format!("{}{}", if request.starts_with('A') { 'B' } else { 'A' }, &request[1..]);
    for (what, request) in [("a changed request", flipped.as_str()), ("none", ""), ("rubbish", "x")] {
        let answer = browser.submit(&url, &[("request", request), ("provider", "corp")]).await;
        assert_eq!((answer.status, answer.location()), (400, ""), "{what}");
    }
    assert_eq!(browser.submit(&url, &form).await.status, 303, "the positive control");
}

#[tokio::test]
async fn f06_two_tabs_do_not_take_each_others_request() {
    let story = Story::new().await;
    let browser = Browser::new();
    let first = browser.go(&story.authorize(&[("state", "one")])).await;
    let second = browser.go(&story.authorize(&[("state", "two")])).await;
    let leaving = [story.consent(&browser, &first, "corp").await, story.consent(&browser, &second, "corp").await];
    for (leaving, state) in leaving.iter().zip(["one", "two"]) {
        let back = story.back(&browser, leaving).await;
        assert_eq!(back.parameter("state").as_deref(), Some(state));
        assert!(back.parameter("code").is_some(), "{back:#?}");
    }
}

#[tokio::test]
async fn a_person_who_refuses_sends_the_client_its_answer() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    let refused = story.consent(&browser, &page, "").await;
    assert_eq!(refused.parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(refused.parameter("state").as_deref(), Some("client-state"));
    assert_eq!(refused.parameter("iss").as_deref(), Some(story.issuer().as_str()));
    assert!(refused.location().starts_with(CALLBACK));
}

#[tokio::test]
async fn f04_a_consent_is_remembered_only_if_the_policy_says_so_and_only_for_own_navigations() {
    let story = Story::new().await;
    let browser = Browser::new();
    story.sign_in(&browser, &[]).await;
    assert_eq!(browser.go(&story.authorize(&[])).await.status, 200, "asked again");

    let remembering = |policy: String| policy.replace("  redirects: {", "  remember_consent: 30d\n  redirects: {");
    let story = Story::with(remembering).await;
    let browser = Browser::new();
    story.sign_in(&browser, &[]).await;
    assert_eq!(browser.go(&story.authorize(&[])).await.status, 303, "remembered");
    for (what, headers) in [("another site", vec![("sec-fetch-site", "cross-site")]), ("no word", Vec::new())] {
        assert_eq!(browser.go_with(&story.authorize(&[]), &headers).await.status, 200, "{what}");
    }
    for (what, changes) in [
        ("more scopes", ("scope", "files:read files:write")),
        ("another redirect URI", ("redirect_uri", "http://127.0.0.1:1/callback")),
        ("another client", ("client_id", "ci")),
    ] {
        let mut changes = vec![changes];
        if changes[0].1 == "ci" {
            changes.push(("redirect_uri", "https://app.example.com/cb"));
        }
        assert_eq!(browser.go(&story.authorize(&changes)).await.status, 200, "{what}");
    }
    assert_eq!(Browser::new().go(&story.authorize(&[])).await.status, 200, "another browser");

    let lured = browser.go_with(&story.authorize(&[]), &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(story.consent(&browser, &lured, "").await.parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(browser.go(&story.authorize(&[])).await.status, 200, "whoever refuses is asked the next time");
}

#[tokio::test]
async fn cookies_lose_their_prefix_and_secure_on_plain_loopback_and_nothing_else() {
    let story = Story::new().await;
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    let leaving = story.consent(&browser, &page, "corp").await;
    let cookies: Vec<&str> = page.all("set-cookie").into_iter().chain(leaving.all("set-cookie")).collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    for cookie in cookies {
        assert!(cookie.starts_with("portcullis-") && cookie.contains("; Path=/;"), "{cookie}");
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains("Secure"),
            "{cookie}"
        );
    }
}
