//! What an answer must say before one byte reaches the upstream.

use serde_json::{Value, json};

use super::super::check;
use super::{Asking, OPAQUE, introspection};
use crate::support::issuer::now;
use crate::support::{Gateway, Upstream};

#[tokio::test]
async fn b01_active_is_the_boolean_true() {
    let asking = Asking::start("").await;
    let others = [
        json!(false),
        json!("true"),
        json!("True"),
        json!(1),
        json!(1.0),
        json!("active"),
        json!([true]),
        json!({"active": true}),
        Value::Null,
    ];
    for (n, active) in others.into_iter().enumerate() {
        let token = format!("{OPAQUE}-{n}");
        // `merged` takes a null for "absent", so the null itself is written by hand.
        let mut answer = asking.answer("main", json!({"active": active}));
        if n % 2 == 0 && active.is_null() {
            answer["active"] = Value::Null;
        }
        asking.endpoint.knows(&token, answer);
        asking.scene.refuses(&format!("active: {active}"), &token, &["token-inactive"]).await;
    }
    let mut without = asking.answer("main", json!({}));
    without.as_object_mut().expect("an object").remove("active");
    asking.endpoint.knows("absent", without);
    asking.scene.refuses("no `active` (RFC 7662 section 2.2)", "absent", &["token-inactive"]).await;
    asking.scene.refuses("a token that it does not know", "never-issued", &["token-inactive"]).await;

    asking.knows(OPAQUE, json!({}));
    asking.scene.accepts("active: true", OPAQUE).await;
}

#[tokio::test]
async fn b02_what_an_answer_says_is_enforced_as_for_a_jwt() {
    let asking = Asking::with(|setting| {
        vec![("main".to_owned(), setting.provider(", sign_in_clients: [desk]"), ", clients: [claude]".to_owned())]
    })
    .await;
    let (now, url) = (now(), asking.scene.url("main"));
    for (n, (changes, reason)) in [
        (json!({"iss": "https://elsewhere.example.com"}), "issuer-unknown"),
        (json!({"iss": format!("{}/", asking.scene.issuer.url())}), "issuer-unknown"),
        (json!({"iss": 5}), "claim-invalid"),
        (json!({"aud": format!("{url}/")}), "audience-mismatch"),
        (json!({"aud": ["https://elsewhere.example.com"]}), "audience-mismatch"),
        (json!({"aud": null}), "audience-mismatch"),
        (json!({"aud": {"url": url}}), "claim-invalid"),
        (json!({"exp": now - 100}), "token-expired"),
        (json!({"exp": "9999999999"}), "claim-invalid"),
        (json!({"exp": true}), "claim-invalid"),
        (json!({"exp": -1}), "claim-invalid"),
        (json!({"nbf": now + 200}), "token-not-yet-valid"),
        (json!({"nbf": "x"}), "claim-invalid"),
        (json!({"iat": now + 200}), "token-not-yet-valid"),
        (json!({"token_type": "DPoP"}), "token-type-refused"),
        (json!({"token_type": "N_A"}), "token-type-refused"),
        (json!({"token_type": "refresh_token"}), "token-type-refused"),
        (json!({"token_type": 1}), "token-type-refused"),
        (json!({"token_use": "refresh_token"}), "token-type-refused"),
        (json!({"typ": "Refresh"}), "token-type-refused"),
        (json!({"at_hash": "x"}), "token-type-refused"),
        (json!({"aud": [url, "desk"]}), "token-type-refused"),
        (json!({"client_id": "robot"}), "client-refused"),
        (json!({"client_id": null}), "client-refused"),
        (json!({"client_id": ["claude"]}), "claim-invalid"),
        (json!({"scope": 5}), "claim-invalid"),
        (json!({"sub": ""}), "claim-invalid"),
        (json!({"cnf": {"jkt": "x"}}), "binding-unproven"),
        (json!({"cnf": {}}), "binding-unproven"),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("{OPAQUE}-{n}");
        asking.knows(&token, changes.clone());
        // Twice: what was found out is found out once, and counts each time.
        for _ in 0..2 {
            asking.scene.refuses(&changes.to_string(), &token, &[reason]).await;
        }
    }
    let mut ends_with_null = asking.answer("main", json!({}));
    ends_with_null["exp"] = Value::Null;
    asking.endpoint.knows("null-exp", ends_with_null);
    asking.scene.refuses("exp: null", "null-exp", &["claim-invalid"]).await;

    for (n, changes) in [
        json!({}),
        json!({"iss": null}),
        json!({"exp": null}),
        json!({"exp": now - 30}),
        json!({"token_type": null}),
        json!({"token_type": "bearer"}),
        json!({"token_use": "access_token"}),
        json!({"aud": ["https://elsewhere.example.com", url]}),
        json!({"client_id": null, "azp": "claude"}),
        json!({"scope": null, "sub": null}),
        json!({"username": "alice@example.com", "custom": {"nested": [1]}}),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("{OPAQUE}-good-{n}");
        asking.knows(&token, changes.clone());
        for _ in 0..2 {
            asking.scene.accepts(&changes.to_string(), &token).await;
        }
    }
}

#[tokio::test]
async fn b02_what_is_wrong_with_the_settings_does_not_load() {
    let upstream = Upstream::mcp(&["echo"]).await;
    let said = |provider: &str| {
        let policy = format!(
            "service: main\nroute: {{ path: /main/mcp }}\nupstream: {{ url: \"{}\" }}\n\
             providers: {{ corp: {provider} }}\nauthentication: {{ providers: [corp] }}\n\
             rules: [{{ allow: {{ tools: [echo] }} }}]\n",
            upstream.url("/mcp")
        );
        check(&Gateway::new().file("secret", "s").policy("main", &policy))
    };
    let provider = |issuer: &str, url: &str, more: &str| {
        introspection(issuer, url, "c", more).replace("{ env: INTROSPECTION_SECRET }", "{ file: ../secret }")
    };
    let (issuer, url) = ("https://id.example.com", "https://id.example.com/introspect");
    let (good, report) = said(&provider(issuer, url, ""));
    assert!(good, "{report}");
    for (case, provider, code) in [
        ("plain http", provider(issuer, "http://id.example.com/introspect", ""), "unsafe-url"),
        ("an address", provider(issuer, "https://10.0.0.1/introspect", ""), "unsafe-url"),
        ("an issuer that is none", provider("id.example.com", url, ""), "unsafe-url"),
        ("kept too long", provider(issuer, url, ", cache: 6m"), "invalid-value"),
        ("a clock that is off by too much", provider(issuer, url, ", leeway: 6m"), "invalid-value"),
        ("no such tokens", provider(issuer, url, ", tokens: jwts"), "invalid-value"),
        ("a secret that is not there", introspection(issuer, url, "c", ""), "secret-unreadable"),
        ("a secret in the file", provider(issuer, url, "").replace("{ file: ../secret }", "hunter2"), "literal-secret"),
    ] {
        let (content, report) = said(&provider);
        assert!(!content && report.contains(&format!("error[{code}]")), "{case}: {report}");
    }
    upstream.assert_silent();
}
