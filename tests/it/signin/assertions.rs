//! Clients that prove who they are by a signed assertion, which counts once (RFC 7523, `private_key_jwt`).

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{CI_SECRET, Story, error, policy, prepared};
use crate::support::gateway::Setup;
use crate::support::issuer::{merged, now};
use crate::support::{Browser, Key, Page, Provider, Upstream};

const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// In the place of the client that has a secret.
const SECRET: &str = "secret: { env: CI_SECRET }";

/// The policy of the stories, whose client `ci` has a key.
pub fn with_a_key(policy: &str) -> String {
    assert!(policy.contains(SECRET));
    policy.replace(SECRET, "keys: { file: ../ci.json }")
}

/// The file with the client's keys.
pub fn keys(setup: Setup) -> Setup {
    setup.file("ci.json", &json!({ "keys": [Key::Es256.jwk("ci-1")] }).to_string())
}

/// What a good assertion of `ci` says.
pub fn claims(issuer: &str, jti: &str) -> Value {
    json!({ "iss": "ci", "sub": "ci", "aud": issuer, "iat": now(), "exp": now() + 300, "jti": jti })
}

pub fn signed(key: Key, header: Value, claims: &Value) -> String {
    let header = merged(json!({ "alg": key.algorithm(), "kid": "ci-1", "typ": "JWT" }), header);
    key.sign(header.to_string().as_bytes(), claims.to_string().as_bytes())
}

/// Asks for a token of the client's own.
pub async fn ask(story: &Story, assertion: &str, more: &[(&str, &str)]) -> Page {
    let own = [("grant_type", "client_credentials"), ("client_assertion_type", KIND), ("client_assertion", assertion)];
    Browser::new().submit_with(&format!("{}/token", story.issuer()), &[more, &own].concat(), &[]).await
}

async fn story() -> Story {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
    let setup = keys(prepared(&with_a_key(&policy(&provider, &upstream))));
    Story { gateway: setup.start().await, provider, upstream }
}

#[tokio::test]
async fn c05_h08_what_is_no_good_assertion_is_refused_and_uses_nothing_up() {
    let story = story().await;
    let issuer = story.issuer();
    let good = claims(&issuer, "once");
    let with = |changes: Value| signed(Key::Es256, json!({}), &merged(good.clone(), changes));
    let headed = |header: Value| signed(Key::Es256, header, &good);
    let whole = signed(Key::Es256, json!({}), &good);
    let public: &'static str = Box::leak(Key::Es256.jwk("ci-1").to_string().into_boxed_str());
    let bad = [
        ("another key", signed(Key::OtherEs256, json!({}), &good)),
        ("no signature", signed(Key::Unsigned, json!({}), &good)),
        ("a secret of the public key", signed(Key::Hs256(public.as_bytes()), json!({}), &good)),
        ("another algorithm", signed(Key::Rs256, json!({}), &good)),
        ("a bit turned over", crate::support::keys::corrupted(&whole)),
        ("an unknown key", headed(json!({ "kid": "other" }))),
        ("a critical extension", headed(json!({ "crit": ["x"], "x": 1 }))),
        ("a key of its own", signed(Key::OtherEs256, json!({ "jwk": Key::OtherEs256.jwk("ci-1") }), &good)),
        ("another issuer", with(json!({ "iss": "desk" }))),
        ("another subject", with(json!({ "sub": "desk" }))),
        ("no issuer", with(json!({ "iss": null }))),
        ("another audience", with(json!({ "aud": "https://elsewhere.example.com" }))),
        ("no audience", with(json!({ "aud": null }))),
        ("an audience that only begins so", with(json!({ "aud": format!("{issuer}/") }))),
        ("over", with(json!({ "exp": now() - 120 }))),
        ("good for a day", with(json!({ "exp": now() + 86_400 }))),
        ("without an end", with(json!({ "exp": null }))),
        ("an end in words", with(json!({ "exp": "tomorrow" }))),
        ("not yet", with(json!({ "nbf": now() + 300 }))),
        ("of tomorrow", with(json!({ "iat": now() + 86_400 }))),
        ("without a name", with(json!({ "jti": null }))),
        ("a number for a name", with(json!({ "jti": 7 }))),
        ("a long name", with(json!({ "jti": "x".repeat(257) }))),
        ("no token", "once".to_owned()),
    ];
    for (what, assertion) in &bad {
        let page = ask(&story, assertion, &[]).await;
        assert_eq!((page.status, error(&page).as_str()), (401, "invalid_client"), "{what}: {page:#?}");
    }
    for (what, more) in
        [("a secret besides", &[("client_secret", CI_SECRET)]), ("another client", &[("client_id", "desk")])]
    {
        let page = ask(&story, &whole, more).await;
        assert_eq!((page.status, error(&page).as_str()), (401, "invalid_client"), "{what}: {page:#?}");
    }
    let form = [("grant_type", "client_credentials"), ("client_id", "ci"), ("client_secret", CI_SECRET)];
    assert_eq!(error(&story.token(&form).await), "invalid_client", "a client has one method");

    let page = ask(&story, &whole, &[("client_id", "ci")]).await;
    assert_eq!(page.status, 200, "nothing was used up by what was refused: {page:#?}");
    let token = super::json(&page)["access_token"].as_str().expect("a token").to_owned();
    assert_eq!(story.call("read", &token).await, 200);
    assert!(!story.gateway.printed().contains(&whole), "no assertion in any log");
}

#[tokio::test]
async fn c02_c03_an_assertion_counts_once_whoever_shows_it_again() {
    let story = story().await;
    let issuer = story.issuer();
    let once = signed(Key::Es256, json!({}), &claims(&issuer, "a"));
    assert_eq!(ask(&story, &once, &[]).await.status, 200);
    assert_eq!(error(&ask(&story, &once, &[]).await), "invalid_client", "as it came");
    let again =
        signed(Key::Es256, json!({ "typ": "other" }), &merged(claims(&issuer, "a"), json!({ "exp": now() + 500 })));
    assert_eq!(error(&ask(&story, &again, &[]).await), "invalid_client", "nor another one of the same name");
    let endpoint = merged(claims(&issuer, "b"), json!({ "aud": [format!("{issuer}/token")] }));
    assert_eq!(ask(&story, &signed(Key::Es256, json!({}), &endpoint), &[]).await.status, 200, "another name");

    let raced = signed(Key::Es256, json!({}), &claims(&issuer, "c"));
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (url, raced) = (format!("{issuer}/token"), raced.clone());
        callers.spawn(async move {
            let form = [
                ("grant_type", "client_credentials"),
                ("client_assertion_type", KIND),
                ("client_assertion", raced.as_str()),
            ];
            Browser::new().submit_with(&url, &form, &[]).await.status
        });
    }
    let statuses = callers.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 49, "{statuses:?}");
}
