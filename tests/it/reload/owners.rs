//! Whose a name, a route or an audience is when two files claim it and one of them changes or breaks.

use serde_json::json;

use super::{complaints, refused, soon, status, two_services, wait_for_complaint};
use crate::own::{self, PROVIDER, allow, bare};
use crate::support::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn the_running_owner_of_a_name_route_or_audience_stays() {
    let (upstream, gateway) = two_services("").await;
    let story = own::client(&gateway, "story", json!({}));
    let audience = format!("audiences: [\"{}\"], providers", gateway.url("/story/mcp"));
    let newcomers = [
        ("duplicate-service", bare("story", &upstream, &allow("b")).replace("/story/mcp", "/new/mcp")),
        ("duplicate-route", bare("new", &upstream, &allow("b")).replace("/new/mcp", "/story/mcp")),
        ("shared-audience", bare("new", &upstream, &allow("b")).replace("providers", &audience)),
    ];
    for (code, text) in newcomers {
        let before = complaints(&gateway, code);
        gateway.write_policy("a-newcomer", &text);
        let complaint = wait_for_complaint(&gateway, before, code).await;
        assert!(complaint["fields"]["file"].to_string().contains("a-newcomer"), "the newcomer is broken: {complaint}");
        assert_eq!(status(&story, "a").await, 200, "{code}: the running owner stays");
        refused(&story, &upstream, "b", 403, &format!("{code}: under its own rules")).await;
    }
    gateway.write_policy("story", &bare("story", &upstream, &allow("b")));
    soon(&story, "b", 200, "the owner changed while a newcomer claims its audience").await;
    gateway.remove_policy("story");
    let new = own::client(&gateway, "new", json!({"aud": gateway.url("/story/mcp")}));
    soon(&new, "b", 200, "the owner went, and the newcomer has what it claims").await;
}

/// A policy of two services that may share an audience, or say so.
fn sharing(name: &str, upstream: &Upstream, tool: &str, shared: bool) -> String {
    let shared = if shared { ", shared_audience: true" } else { "" };
    let audience = format!("audiences: [\"api://both\"]{shared}, providers");
    bare(name, upstream, &allow(tool)).replace("providers", &audience)
}

#[tokio::test(flavor = "multi_thread")]
async fn n02_a_broken_owner_of_an_audience_stays_its_owner_and_so_does_the_mended_one() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let gateway = own::setup()
        .installation(PROVIDER)
        .policy("story", &sharing("story", &upstream, "a", false))
        .policy("neighbour", &bare("neighbour", &upstream, &allow("a")))
        .start()
        .await;
    let client = |name: &str| own::client(&gateway, name, json!({"aud": "api://both"}));
    let (story, new) = (client("story"), client("new"));
    assert_eq!(status(&story, "a").await, 200);
    gateway.write_policy("story", "service: story\nrulez: []\n");
    wait_for_complaint(&gateway, 0, "rulez").await;
    let before = complaints(&gateway, "shared-audience");
    gateway.write_policy("new", &sharing("new", &upstream, "a", false));
    let complaint = wait_for_complaint(&gateway, before, "shared-audience").await;
    assert!(complaint["fields"]["file"].to_string().contains("new.yaml"), "the newcomer is broken: {complaint}");
    refused(&new, &upstream, "a", 503, "a token for the broken owner does not open the newcomer").await;
    assert_eq!(status(&story, "a").await, 200, "the last good version of the owner serves on");

    let before = complaints(&gateway, "shared-audience");
    gateway.write_policy("story", &sharing("story", &upstream, "b", false));
    soon(&story, "b", 200, "the owner is mended").await;
    wait_for_complaint(&gateway, before, "shared-audience").await;
    refused(&new, &upstream, "a", 503, "it is still the only owner").await;

    gateway.write_policy("story", &sharing("story", &upstream, "b", true));
    wait_for_complaint(&gateway, before + 1, "shared-audience").await;
    refused(&new, &upstream, "a", 503, "one that shares is not enough").await;
    gateway.write_policy("new", &sharing("new", &upstream, "a", true));
    soon(&new, "a", 200, "both say that they share").await;
    assert_eq!(status(&story, "b").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn n02_who_no_longer_says_that_it_shares_an_audience_is_broken() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let gateway = own::setup()
        .installation(PROVIDER)
        .policy("story", &sharing("story", &upstream, "a", true))
        .policy("new", &sharing("new", &upstream, "a", true))
        .start()
        .await;
    let client = |name: &str| own::client(&gateway, name, json!({"aud": "api://both"}));
    let (story, new) = (client("story"), client("new"));
    assert_eq!((status(&story, "a").await, status(&new, "a").await), (200, 200), "both say that they share");
    gateway.write_policy("story", &sharing("story", &upstream, "b", false));
    let complaint = wait_for_complaint(&gateway, 0, "shared-audience").await;
    assert!(complaint["fields"]["file"].to_string().contains("story.yaml"), "the changed one is broken: {complaint}");
    assert_eq!((status(&story, "a").await, status(&story, "b").await), (200, 403), "its last good version serves on");

    // The other is left alone by it, and goes on to be told as long as it is so.
    let before = complaints(&gateway, "shared-audience");
    gateway.write_policy("new", &sharing("new", &upstream, "a, b", true));
    soon(&new, "b", 200, "the other changed").await;
    assert!(complaints(&gateway, "shared-audience") > before, "it is told again");
    gateway.remove_policy("new");
    soon(&story, "b", 200, "nobody shares it any more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n02_a_last_good_version_that_comes_to_share_an_audience_is_closed() {
    let upstream = Upstream::mcp(&["a"]).await;
    let provider = |name: &str, issuer: &str| {
        format!("{name}: {{ hmac: {{ issuer: \"{issuer}\", secrets: [{{ env: OWN_SECRET }}] }} }}")
    };
    let installation =
        |issuer: &str| format!("providers: {{ {}, {} }}\n", provider("own", own::ISSUER), provider("other", issuer));
    let other = "https://other.example.com";
    let gateway = own::setup()
        .installation(&installation(other))
        .policy("story", &sharing("story", &upstream, "a", false))
        .policy("new", &sharing("new", &upstream, "a", false).replace("[own]", "[other]"))
        .start()
        .await;
    let story = own::client(&gateway, "story", json!({"aud": "api://both"}));
    let new = own::client(&gateway, "new", json!({"aud": "api://both", "iss": other}));
    assert_eq!((status(&story, "a").await, status(&new, "a").await), (200, 200), "two issuers, nothing is shared");
    gateway.write_installation(&installation(own::ISSUER));
    soon(&new, "a", 503, "the provider has the issuer of the other").await;
    assert_eq!(status(&story, "a").await, 200, "whose provider was left alone is served");
    gateway.write_installation(&installation(other));
    soon(&new, "a", 200, "the issuer is another again").await;
}
