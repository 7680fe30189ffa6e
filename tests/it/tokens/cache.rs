//! What is known about a token says nothing about a service, and ends with the token and with the key.

use std::time::Duration;

use serde_json::{Value, json};

use super::{INSTALLATION, KEYS, Scene, fetched};
use crate::support::issuer::{merged, now};
use crate::support::keys::corrupted;
use crate::support::{Client, Issuer, Key};

const AUDIENCE: &str = "api://shared";

/// A service that differs from `plain` in one thing, and the token that `plain` accepts and it refuses.
struct Strict {
    name: &'static str,
    /// Keys of its provider besides `plain`'s.
    provider: &'static str,
    /// What it says under `authentication` besides the provider.
    authentication: &'static str,
    /// Its rules.
    rules: &'static str,
    header: Value,
    claims: Value,
    status: u16,
    reason: &'static str,
}

fn strict() -> Vec<Strict> {
    let now = now();
    let usual = "[{ allow: { tools: [echo] } }]";
    let shared = "audiences: [\"api://shared\"]";
    let one = |name, provider, authentication, rules, claims, status, reason| {
        let header = json!({"kid": "rs256", "typ": "JWT"});
        Strict { name, provider, authentication, rules, header, claims, status, reason }
    };
    let narrow = "[{ allow: { tools: [echo] }, scopes: [read] }]\nscopes: { read: {} }";
    let other_rule = "[{ allow: { tools: [drop] } }]";
    let department = "[{ allow: { tools: [echo] }, when: 'claims.department == \"eng\"' }]";
    vec![
        one("audience", "", "audiences: [\"api://elsewhere\"]", usual, json!({}), 401, "audience-mismatch"),
        one("type", ", token_type: at+jwt", shared, usual, json!({}), 401, "token-type-refused"),
        one("algorithms", ", algorithms: [ES256]", shared, usual, json!({}), 401, "algorithm-refused"),
        one(
            "claim",
            "",
            "audiences: [\"api://shared\"], required_claims: { tenant: acme }",
            usual,
            json!({"tenant": "other"}),
            401,
            "claim-missing",
        ),
        one("client", "", "audiences: [\"api://shared\"], clients: [robot]", usual, json!({}), 401, "client-refused"),
        one("exp", ", leeway: 1s", shared, usual, json!({"exp": now - 20}), 401, "token-expired"),
        one("nbf", ", leeway: 1s", shared, usual, json!({"nbf": now + 30}), 401, "token-not-yet-valid"),
        one("iat", ", leeway: 1s", shared, usual, json!({"iat": now + 30}), 401, "token-not-yet-valid"),
        one(
            "desk",
            ", sign_in_clients: [desk]",
            shared,
            usual,
            json!({"aud": [AUDIENCE, "desk"]}),
            401,
            "token-type-refused",
        ),
        one("scope", ", scope_claim: scp", shared, narrow, json!({"scope": "read"}), 403, "scope-missing"),
        one("rule", "", shared, other_rule, json!({}), 403, "not-permitted"),
        one("condition", "", shared, department, json!({"department": "law"}), 403, "not-permitted"),
    ]
}

fn installation(issuer: &Issuer, other: &Issuer) -> String {
    let mut text = format!("{INSTALLATION}providers:\n  plain: {{ oidc: {{ issuer: \"{}\" }} }}\n", issuer.url());
    for service in strict() {
        let oidc = format!("issuer: \"{}\"{}", issuer.url(), service.provider);
        text.push_str(&format!("  {}: {{ oidc: {{ {oidc} }} }}\n", service.name));
    }
    text.push_str(&format!("  foreign: {{ oidc: {{ issuer: \"{}\" }} }}\n", other.url()));
    text
}

fn policy(name: &str, authentication: &str, rules: &str) -> String {
    format!(
        "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"UPSTREAM\" }}\n\
         authentication: {{ providers: [{name}], shared_audience: true, {authentication} }}\nrules: {rules}\n"
    )
}

async fn scene(other: &Issuer) -> Scene {
    let issuer = Issuer::publishing(&KEYS).await;
    let upstream = crate::support::Upstream::mcp(&["echo", "drop"]).await;
    let usual = "[{ allow: { tools: [echo] } }]";
    let shared = "audiences: [\"api://shared\"]";
    let mut setup = crate::support::Gateway::new().installation(&installation(&issuer, other));
    let mut services = vec![("plain", shared, usual), ("foreign", shared, usual)];
    let strict = strict();
    services.extend(strict.iter().map(|service| (service.name, service.authentication, service.rules)));
    for (name, authentication, rules) in services {
        let text = policy(name, authentication, rules).replace("UPSTREAM", &upstream.url("/mcp"));
        setup = setup.policy(name, &text);
    }
    Scene { upstream, issuer, gateway: setup.start().await }
}

#[tokio::test]
async fn a19_one_token_at_two_services_is_judged_by_each_in_both_orders() {
    let other = Issuer::publishing(&[("k", Key::Es256)]).await;
    let scene = scene(&other).await;
    for strict in strict() {
        for order in ["refused first", "accepted first"] {
            let claims = merged(strict.claims.clone(), json!({"jti": format!("{}-{order}", strict.name)}));
            let token = scene.issuer.token_with(Key::Rs256, strict.header.clone(), AUDIENCE, claims);
            let case = format!("{} (CVE-2026-33496, CVE-2026-35039), {order}", strict.name);
            if order == "accepted first" {
                scene.accepts_at("plain", &case, &token).await;
            }
            // Every second look finds what the first one left behind.
            for _ in 0..2 {
                let reply = scene.call(strict.name, &token).await;
                assert_eq!(reply.status, strict.status, "{case}: {reply:?}");
                assert_eq!(scene.reason(&reply).await, strict.reason, "{case}");
                scene.upstream.assert_silent();
                scene.accepts_at("plain", &case, &token).await;
            }
        }
    }
    let (own, foreign) = (scene.issuer.token(AUDIENCE, json!({})), other.token(AUDIENCE, json!({})));
    for _ in 0..2 {
        scene.accepts_at("plain", "the provider's own token", &own).await;
        scene.refuses_at("foreign", "a token of a provider that is not listed", &own, &["issuer-unknown"]).await;
        scene.accepts_at("foreign", "the other provider's own", &foreign).await;
        scene.refuses_at("plain", "and the other way round", &foreign, &["issuer-unknown"]).await;
    }
}

#[tokio::test]
async fn a19_one_token_at_all_services_at_the_same_time_is_judged_by_each() {
    let other = Issuer::publishing(&[("k", Key::Es256)]).await;
    let scene = scene(&other).await;
    for strict in strict() {
        let claims = merged(strict.claims.clone(), json!({"jti": format!("{} at once", strict.name)}));
        let token = scene.issuer.token_with(Key::Rs256, strict.header.clone(), AUDIENCE, claims);
        let calls = (0..12).map(|n| {
            let (name, wanted) = if n % 2 == 0 { (strict.name, strict.status) } else { ("plain", 200) };
            let client = Client::new(&scene.url(name)).token(&token);
            tokio::spawn(async move { (name, wanted, client.call_tool("echo", json!({})).await.status) })
        });
        for call in calls.collect::<Vec<_>>() {
            let (name, wanted, status) = call.await.expect("a call");
            assert_eq!(status, wanted, "{name}, while others ask about the same token");
        }
        assert_eq!(scene.upstream.received().len(), 6, "{}: only what is permitted arrives", strict.name);
        scene.upstream.forget();
    }
}

#[tokio::test]
async fn a19_a_known_token_helps_no_other_token_and_rules_are_judged_anew() {
    let scene = Scene::start().await;
    let token = scene.token(json!({}));
    scene.accepts("seen for the first time", &token).await;
    let client = Client::new(&scene.url("main")).token(&token);
    for _ in 0..2 {
        assert_eq!(
            client.call_tool("drop", json!({})).await.status,
            403,
            "a known token, and a rule that says no (CVE-2021-32701)"
        );
        scene.upstream.assert_silent();
        scene.accepts("a known token, and a rule that says yes", &token).await;
    }
    let invalid = &["signature-invalid"];
    scene.refuses("one bit of the known token's signature turned over", &corrupted(&token), invalid).await;
    let parts: Vec<&str> = token.split('.').collect();
    let claims = crate::support::keys::b64(merged(scene.claims(), json!({"sub": "admin"})).to_string());
    let grafted = format!("{}.{claims}.{}", parts[0], parts[2]);
    scene.refuses("other claims under the known signature", &grafted, invalid).await;

    let policy = std::fs::read_to_string(scene.gateway.policy_path("main")).expect("the policy");
    scene.gateway.write_policy("main", &policy.replace("tools: [echo]", "tools: [drop]"));
    scene.until("main", &token, 403).await;
    scene.upstream.forget();
    assert_eq!(client.call_tool("drop", json!({})).await.status, 200, "the new rule judges the known token");
}

#[tokio::test]
async fn a19_what_is_known_ends_with_the_token() {
    let scene = Scene::with(&KEYS, |scenery| {
        let provider = scenery.oidc(", leeway: 1s");
        scenery.service("main", &provider, "", "")
    })
    .await;
    let end = now() + 2;
    let token = scene.token(json!({"exp": end}));
    scene.accepts("before its end", &token).await;
    loop {
        let asked = now();
        if scene.call("main", &token).await.status == 401 {
            break;
        }
        assert!(asked <= end + 1, "a known token outlives its end and the leeway of a second");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.upstream.forget();
    scene.refuses("after its end and the leeway", &token, &["token-expired"]).await;
}

#[tokio::test]
async fn a19_what_is_known_ends_with_the_key() {
    let scene = Scene::with(&[("old", Key::Rs256), ("stays", Key::Es256)], |scenery| {
        let provider = scenery.oidc(", keys: { refresh: 1s }");
        scenery.service("main", &provider, "", "")
    })
    .await;
    let old = scene.token(json!({}));
    let stays = scene.issuer.token_with(Key::Es256, json!({"kid": "stays"}), &scene.url("main"), json!({}));
    scene.accepts("the key is published", &old).await;
    scene.accepts("the other key too", &stays).await;

    scene.issuer.rotate(&[("stays", Key::Es256)]);
    scene.until("main", &old, 401).await;
    scene.upstream.forget();
    scene.refuses("the key is gone", &old, &["key-unknown"]).await;
    scene.accepts("the other key stays", &stays).await;

    // The same name for another key: what the old one verified is as gone as with another name.
    scene.issuer.rotate(&[("stays", Key::OtherEs256)]);
    scene.until("main", &stays, 401).await;
    scene.upstream.forget();
    scene.refuses("the key behind the name is another", &stays, &["signature-invalid"]).await;
    fetched(&scene.issuer, 3).await;
    let new = scene.issuer.token_with(Key::OtherEs256, json!({"kid": "stays"}), &scene.url("main"), json!({}));
    scene.accepts("the new key", &new).await;
}
