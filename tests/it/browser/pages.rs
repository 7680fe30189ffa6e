//! Every page: axe-core finds nothing, nothing is wider than its place, and a page that somebody got words into can do
//! nothing with them. Pictures are in `pages` below the target directory.

use super::{Scene, YES, sign_in};
use crate::support::Chromium;

const CALLBACK: &str = "http://127.0.0.1:7777/callback";

/// A second way to sign in, which nobody takes here.
fn two_ways(policy: &str) -> String {
    let corp = "  corp: { oidc: { issuer: 'https://login.example.com', sign_in: { client_id: g, client_secret: { env: PATH }, \
                title: Example Corp } } }\nauthorization_server:";
    policy.replace("authorization_server:", corp).replace("sign_in: [people]", "sign_in: [people, corp]")
}

#[tokio::test]
async fn e08_every_page_is_accessible_in_both_sizes_and_colours_and_keeps_its_policy() {
    let scene = Scene::new().await;
    let chromium = Chromium::start().await;
    let tab = chromium.tab().await;
    let desk = scene.authorize("desk", "https://app.example.com/cb", "s");
    assert!(tab.go(&desk).await.heading().starts_with("Allow “Desk”"));
    tab.looks_right("consent-of-the-policy").await;
    tab.stands_tampering().await;

    tab.go(&desk).await;
    tab.choose(YES).await;
    tab.looks_right("sign-in").await;
    let failed = sign_in(&tab, "wrong").await;
    assert!(failed.text().contains("Name or password is not right"), "{failed:#?}");
    tab.looks_right("sign-in-failed").await;
    tab.stands_tampering().await;

    let unknown = tab.go(&scene.authorize("nobody", CALLBACK, "s")).await;
    assert_eq!((unknown.status(), unknown.heading()), (400, "This sign-in cannot go on"));
    let request = unknown.text().lines().last().unwrap_or_default().trim().to_owned();
    assert_eq!(request.len(), 32, "the id of the request, which the log has as well: {unknown:#?}");
    assert!(scene.gateway.printed().contains(&request));
    tab.looks_right("problem").await;
    tab.stands_tampering().await;

    let out = tab.go(&format!("{}/sign-out", scene.issuer())).await;
    assert_eq!(out.heading(), "Sign out of notes?");
    tab.looks_right("sign-out").await;
    tab.stands_tampering().await;
    tab.go(out.url()).await;
    assert_eq!(tab.choose("Sign out").await.heading(), "You are signed out");
    tab.looks_right("signed-out").await;
}

#[tokio::test]
async fn the_pages_of_several_providers_and_of_clients_that_nobody_checked_are_accessible_too() {
    let scene = Scene::with(|policy| two_ways(&policy)).await;
    let chromium = Chromium::start().await;
    let tab = chromium.tab().await;
    for (redirect, picture, words) in [
        (CALLBACK, "consent-of-a-loopback-client", "runs on your own computer"),
        ("https://app.example.com/cb", "consent-of-an-unchecked-client", "Nobody has checked the name"),
    ] {
        let id = super::flow::registered(&scene, redirect).await;
        let asked = tab.go(&scene.authorize(&id, redirect, "s")).await;
        assert!(asked.text().contains(words), "{asked:#?}");
        for words in ["Search and read notes", "Write notes", YES, "Allow and continue with Example Corp", "Refuse"] {
            assert!(asked.text().contains(words), "{words}: {asked:#?}");
        }
        tab.looks_right(picture).await;
    }
    tab.reach("Allow and continue with Example Corp").await;
}
