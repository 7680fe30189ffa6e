//! Named keys for machines: known by their hash, good until their end, and only where their provider is listed.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{INSTALLATION, MALFORMED, Scene};
use crate::support::{Gateway, Issuer, Upstream};

const GOOD: &str = "pk_4f1c9be2d07a4c6f8e35aa90d1b7c2e6";
const OTHER: &str = "pk_0a9b8c7d6e5f40312233445566778899";
const ENDED: &str = "pk_ffeeddccbbaa99887766554433221100";

fn hash(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn scene() -> Scene {
    let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
    let installation = format!(
        r#"{INSTALLATION}providers:
  machines:
    api_key:
      keys:
        - {{ name: robot, sha256: "{}", expires: "2099-01-01T00:00:00Z", scopes: [read], client: ci }}
        - {{ name: retired, sha256: "{}", expires: "2020-01-01T00:00:00Z", scopes: [read] }}
  others:
    api_key:
      keys:
        - {{ name: robot, sha256: "{}", expires: "2099-01-01T00:00:00Z", scopes: [read] }}
  people: {{ oidc: {{ issuer: "{}" }} }}
"#,
        hash(GOOD),
        hash(ENDED),
        hash(OTHER),
        issuer.url()
    );
    let mut setup = Gateway::new().installation(&installation);
    for (name, authentication, rules) in [
        (
            "main",
            "providers: [machines, people]",
            "[{ allow: { tools: [echo] }, scopes: [read] }]\nscopes: { read: {} }",
        ),
        ("writes", "providers: [machines]", "[{ allow: { tools: [echo] }, scopes: [write] }]\nscopes: { write: {} }"),
        ("other", "providers: [others]", "[{ allow: { tools: [echo] } }]"),
        ("people", "providers: [people]", "[{ allow: { tools: [echo] } }]"),
    ] {
        let policy = format!(
            "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"{}\" }}\n\
             authentication: {{ {authentication} }}\nrules: {rules}\n",
            upstream.url("/mcp")
        );
        setup = setup.policy(name, &policy);
    }
    Scene { gateway: setup.start().await, upstream, issuer }
}

#[tokio::test]
async fn a23_a_key_opens_only_what_lists_its_provider_and_its_hash_opens_nothing() {
    let scene = scene().await;
    // Twice, so that what is known of the key is asked as well.
    for _ in 0..2 {
        scene.accepts("the key, without any audience", GOOD).await;
        scene.accepts_at("other", "the other provider's key", OTHER).await;
        scene.refuses_at("other", "a key of a provider that is not listed", GOOD, &["signature-invalid"]).await;
        scene.refuses_at("people", "a key where only people come in", GOOD, MALFORMED).await;
        scene.refuses("the other provider's key of the same name", OTHER, &["signature-invalid"]).await;
    }
    let reply = scene.call("writes", GOOD).await;
    assert_eq!(reply.status, 403, "a key holds the scopes that it was given: {reply:?}");
    scene.upstream.assert_silent();
    scene.refuses("a key past its end", ENDED, &["token-expired"]).await;
    for (case, key) in [
        ("the hash in the place of the key", hash(GOOD)),
        ("a prefix", GOOD[..GOOD.len() - 1].to_owned()),
        ("one character more", format!("{GOOD}0")),
        ("another case", GOOD.to_uppercase()),
        ("padding", format!("{GOOD}=")),
        ("the name", "robot".to_owned()),
    ] {
        scene.refuses(case, &key, &["signature-invalid"]).await;
    }
    let person = scene.issuer.token(&scene.url("main"), json!({"scope": "read"}));
    scene.accepts("a person beside the machines", &person).await;
    let printed = scene.gateway.printed();
    for key in [GOOD, OTHER, ENDED] {
        assert!(!printed.contains(key) && !printed.contains(&hash(key)), "neither key nor hash is printed");
    }
}
