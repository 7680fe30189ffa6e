//! `provider_token`, and `exchange` of people who signed in at the gateway: what is made from the provider's own tokens.

use std::time::Duration;

use serde_json::{Value, json};

use crate::signin::{CI_SECRET, Story, json as read};
use crate::support::{Client, TokenEndpoint};

async fn story(credential: &str) -> Story {
    let written = format!("upstream: {{ credential: {{ {credential} }}, ");
    Story::with(|policy| policy.replace("upstream: { ", &written)).await
}

/// A call; gives its status and what the upstream got as `Authorization`, if anything.
async fn call(story: &Story, token: &str) -> (u16, Option<String>) {
    story.upstream.forget();
    let status = story.call("read", token).await;
    let received = story.upstream.received();
    (status, received.first().map(|request| request.header("authorization").join(", ")))
}

fn shown(text: &str) -> (u16, Option<String>) {
    (200, Some(format!("Bearer {text}")))
}

fn member<'a>(tokens: &'a Value, name: &str) -> &'a str {
    tokens[name].as_str().unwrap_or_else(|| panic!("no {name} in {tokens}"))
}

/// A request was refused for `reason`.
async fn refused_for(story: &Story, reason: &str) {
    story.gateway.wait_for_log(|record| record["decision"] == "deny" && record["reason"] == reason).await;
}

#[tokio::test]
async fn p11_the_upstream_gets_the_persons_own_token_and_the_client_never_does() {
    let story = story("provider_token: true").await;
    let tokens = story.tokens().await;
    let access = member(&tokens, "access_token");
    for _ in 0..3 {
        assert_eq!(call(&story, access).await, shown("provider-access-token-1"));
    }
    assert_eq!(story.provider.asked("/token").len(), 1, "the code was redeemed, and nothing else was asked");
    let other = story.tokens().await;
    assert_eq!(call(&story, member(&other, "access_token")).await, shown("provider-access-token-2"), "another sign-in");
    assert_eq!(call(&story, access).await, shown("provider-access-token-1"));
    let record = story.gateway.wait_for_log(|record| record["decision"] == "permit").await;
    assert_eq!(record["credential"], "provider_token");
    let client = Client::new(&story.issuer()).token(access);
    let reply = client.call_tool("read", json!({})).await;
    assert!(!format!("{reply:?}{tokens}").contains("provider-"), "{reply:?}");
    assert!(!story.gateway.printed().contains("provider-access-token"));
}

#[tokio::test]
async fn p11_the_gateway_renews_it() {
    let story = story("provider_token: true").await;
    story.provider.behave(|manner| manner.tokens = json!({ "expires_in": 32 }));
    let tokens = story.tokens().await;
    let access = member(&tokens, "access_token");
    let (status, first) = call(&story, access).await;
    assert_eq!(status, 200);
    story.provider.behave(|manner| manner.tokens = json!({}));
    // Another access token under the same grant, when the provider's has too little life left to be handed out.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let refreshed = read(&story.refresh(member(&tokens, "refresh_token")).await);
    let (status, renewed) = call(&story, member(&refreshed, "access_token")).await;
    assert_eq!(status, 200);
    assert!(renewed != first && renewed.is_some_and(|shown| shown.starts_with("Bearer provider-access-token-")));
}

#[tokio::test]
async fn p11_a_grant_that_is_over_gives_nothing() {
    let story = story("provider_token: true").await;
    let tokens = story.tokens().await;
    let access = member(&tokens, "access_token");
    assert_eq!(call(&story, access).await, shown("provider-access-token-1"));
    let form = [("token", member(&tokens, "refresh_token")), ("client_id", "desk")];
    let revoked = crate::support::Browser::new().submit_with(&format!("{}/revoke", story.issuer()), &form, &[]).await;
    assert_eq!(revoked.status, 200, "{revoked:#?}");
    assert_eq!(call(&story, access).await, (401, None), "what was kept is not used either");

    // The provider itself ends it while the client's token would live on.
    story.provider.behave(|manner| {
        manner.tokens = json!({ "expires_in": 0 });
        manner.refresh_refused = Some((400, json!({ "error": "invalid_grant" })));
    });
    let tokens = story.tokens().await;
    assert_eq!(call(&story, member(&tokens, "access_token")).await, (401, None), "the client signs in again");
    refused_for(&story, "token-inactive").await;
}

#[tokio::test]
async fn p08_a_provider_that_is_down_and_a_machine_without_one_get_the_upstream_nothing() {
    let story = story("provider_token: true").await;
    story.provider.behave(|manner| {
        manner.tokens = json!({ "expires_in": 0 });
        manner.refresh_refused = Some((503, json!({ "error": "temporarily_unavailable" })));
    });
    let tokens = story.tokens().await;
    assert_eq!(call(&story, member(&tokens, "access_token")).await, (503, None));
    refused_for(&story, "credential-unavailable").await;

    let form = [("grant_type", "client_credentials"), ("client_id", "ci"), ("client_secret", CI_SECRET)];
    let machine = read(&story.token(&form).await);
    assert_eq!(call(&story, member(&machine, "access_token")).await, (502, None));
    refused_for(&story, "credential-refused").await;
    story.provider.behave(|manner| (manner.tokens, manner.refresh_refused) = (json!({}), None));
    assert_eq!(call(&story, member(&story.tokens().await, "access_token")).await.0, 200, "the positive control");
}

#[tokio::test]
async fn p09_of_people_who_signed_in_the_providers_token_is_exchanged() {
    let endpoint = TokenEndpoint::start().await;
    endpoint.changes(json!({"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}));
    let url = endpoint.url();
    let story =
        story(&format!("exchange: {{ token_url: \"{url}\", client_id: gate, client_secret: {{ env: CI_SECRET }} }}"))
            .await;
    let tokens = story.tokens().await;
    let access = member(&tokens, "access_token");
    for _ in 0..2 {
        assert_eq!(call(&story, access).await, shown("given-1"));
    }
    assert_eq!(endpoint.questions().len(), 1);
    let sent = endpoint.form(0);
    assert!(sent.contains(&("subject_token".to_owned(), "provider-access-token-1".to_owned())), "{sent:?}");
    assert!(!sent.iter().any(|(_, value)| value == access), "the gateway's own token means nothing there");
    // What comes back is not the provider's own token.
    endpoint.changes(json!({
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "access_token": "provider-access-token-2"
    }));
    assert_eq!(call(&story, member(&story.tokens().await, "access_token")).await, (502, None));
    let form = [("grant_type", "client_credentials"), ("client_id", "ci"), ("client_secret", CI_SECRET)];
    let machine = read(&story.token(&form).await);
    assert_eq!(call(&story, member(&machine, "access_token")).await, (502, None));
    assert_eq!(endpoint.questions().len(), 2, "nothing is asked for a machine");
}
