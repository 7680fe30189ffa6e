//! What a verified token must say, and what it must not be.

use serde_json::{Value, json};

use super::{KEYS, Scene, with_raw};
use crate::support::Key;
use crate::support::issuer::now;

const HEADER: &str = r#"{"alg":"RS256","kid":"rs256","typ":"at+jwt"}"#;

#[tokio::test]
async fn a11_registered_claims_of_another_type_are_errors_and_never_absent() {
    let scene = Scene::start().await;
    let dates = [
        r#""9999999999""#,
        r#""x""#,
        "null",
        "true",
        "[9999999999]",
        "{}",
        "1e400",
        "-1e400",
        "1e30",
        "-1",
        "-0.5",
        "253402300800",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "NaN",
        "Infinity",
        "0x7fffffff",
    ];
    let texts = ["null", "5", "true", "[]", "{}", r#"["alice"]"#, r#""""#];
    let lists = ["null", "5", "true", "{}", "[5]", "[null]", r#"[["a"]]"#];
    let scopes = ["5", "true", "{}", "[5]", "[null]", r#"[["a"]]"#, r#"["a b"]"#, "null"];
    let table: [(&str, &[&str]); 12] = [
        ("exp", &dates),
        ("nbf", &dates),
        ("iat", &dates),
        ("auth_time", &dates),
        ("sub", &texts),
        ("jti", &texts),
        ("client_id", &texts),
        ("azp", &texts),
        ("iss", &texts),
        ("aud", &lists),
        ("scope", &scopes),
        ("scp", &scopes),
    ];
    for (claim, values) in table {
        for value in values {
            let token = scene.raw(HEADER, &with_raw(&scene.claims(), claim, value));
            let case = format!("{claim}: {value} (CVE-2026-25537: a wrong type is no absence)");
            scene.refuses(&case, &token, &["claim-invalid", "issuer-unknown"]).await;
        }
    }
    for (claim, value) in [
        ("exp", "253402300799"),
        ("exp", "9999999999.5"),
        ("nbf", "1e9"),
        ("iat", "0"),
        ("auth_time", "1.5"),
        ("azp", "\"claude\""),
        ("scp", "[]"),
        ("scope", "\"\""),
    ] {
        let token = scene.raw(HEADER, &with_raw(&scene.claims(), claim, value));
        scene.accepts(&format!("{claim}: {value}"), &token).await;
    }
}

#[tokio::test]
async fn a12_times_are_checked_with_the_providers_leeway() {
    let scene = Scene::with(&KEYS, |scenery| {
        let (usual, tight) = (scenery.oidc(""), scenery.oidc(", leeway: 1s"));
        scenery.service("main", &usual, "", "").service("tight", &tight, "", "")
    })
    .await;
    let now = now();
    let at = |service: &str, changes: Value| scene.issuer.token(&scene.url(service), changes);
    let (expired, early) = (&["token-expired"][..], &["token-not-yet-valid"][..]);
    scene
        .refuses(
            "no exp (GO-2026-5732: a token without an end has none)",
            &at("main", json!({"exp": null})),
            &["claim-invalid"],
        )
        .await;
    scene.refuses("exp of 1970", &at("main", json!({"exp": 0})), expired).await;
    scene.refuses("exp two minutes ago", &at("main", json!({"exp": now - 120})), expired).await;
    scene.refuses("nbf in two minutes", &at("main", json!({"nbf": now + 120})), early).await;
    scene.refuses("nbf in the year 9999", &at("main", json!({"nbf": 253_402_300_799_i64})), early).await;
    scene.refuses("iat in two minutes", &at("main", json!({"iat": now + 120})), early).await;
    scene.refuses("iat in the year 9999", &at("main", json!({"iat": 253_402_300_799_i64})), early).await;
    for (case, changes) in [
        ("exp 20 seconds ago", json!({"exp": now - 20})),
        ("nbf in 20 seconds", json!({"nbf": now + 20})),
        ("iat in 20 seconds", json!({"iat": now + 20})),
    ] {
        scene.accepts(&format!("{case}, within the leeway of a minute"), &at("main", changes.clone())).await;
        let reasons = [expired, early].concat();
        let case = format!("{case}, and a leeway of one second");
        scene.refuses_at("tight", &case, &at("tight", changes), &reasons).await;
    }
    scene.accepts("no iat and no nbf", &at("main", json!({"iat": null, "nbf": null}))).await;
    scene.accepts_at("tight", "a token of now", &at("tight", json!({}))).await;
}

#[tokio::test]
async fn a14_the_audience_is_the_resource_exactly() {
    let scene = Scene::with(&KEYS, |scenery| {
        let provider = scenery.oidc("");
        scenery.service("main", &provider, "", "").service("other", &provider, "", "")
    })
    .await;
    let url = scene.url("main");
    let other = [
        json!(&url[..url.len() - 1]),
        json!(format!("{url}x")),
        json!(format!("{url}/")),
        json!(format!("{url}?")),
        json!(format!("{url}#")),
        json!(format!("{url}/more")),
        json!(url.replace("/main/mcp", "/main")),
        json!(url.replace("/main/mcp", "/")),
        json!(url.replace("/main/mcp", "")),
        json!(url.replace("/main/mcp", "/MAIN/mcp")),
        json!(url.replace("/main/mcp", "/main%2Fmcp")),
        json!(url.replace("/main/mcp", "//main/mcp")),
        json!(url.replace("127.0.0.1", "localhost")),
        json!(url.replace("http:", "https:")),
        json!(url.replace("http:", "HTTP:")),
        json!(format!(" {url}")),
        json!(format!("{url} ")),
        json!(format!("{url} https://elsewhere.example.com")),
        json!(scene.url("other")),
        json!([]),
        json!(["https://elsewhere.example.com", format!("{url}/")]),
        json!("main"),
        json!("*"),
        json!(""),
    ];
    for audience in other {
        let token = scene.token(json!({"aud": audience}));
        let case = format!("aud {audience} (CVE-2026-55669: an audience is compared whole)");
        scene.refuses(&case, &token, &["audience-mismatch"]).await;
    }
    scene.refuses("no aud", &scene.token(json!({"aud": null})), &["audience-mismatch"]).await;
    for audience in [json!({"aud": url}), json!({&url: true}), json!([[url]]), json!([url, 5]), json!(5)] {
        scene.refuses(&format!("aud {audience}"), &scene.token(json!({"aud": audience})), &["claim-invalid"]).await;
    }
    for audience in [json!(url), json!([url]), json!(["https://elsewhere.example.com", url, "api://x"])] {
        scene.accepts(&format!("aud {audience}"), &scene.token(json!({"aud": audience}))).await;
    }
    scene.accepts_at("other", "the other service's own", &scene.issuer.token(&scene.url("other"), json!({}))).await;
}

#[tokio::test]
async fn a15_other_tokens_of_the_same_issuer_are_no_access_tokens() {
    let scene = Scene::with(&KEYS, |scenery| {
        let usual = scenery.oidc(", sign_in_clients: [desk]");
        let strict = scenery.oidc(", token_type: at+jwt");
        scenery.service("main", &usual, "", "").service("strict", &strict, "", "")
    })
    .await;
    let refused = &["token-type-refused"];
    let typed = |service: &str, typ: Option<&str>, changes: Value| {
        scene.issuer.token_with(Key::Rs256, json!({"kid": "rs256", "typ": typ}), &scene.url(service), changes)
    };
    for typ in [
        "oauth-id-jag+jwt",
        "application/oauth-id-jag+jwt",
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "id+jwt",
        "at+jwt2",
        "at+jwt ",
        "application/application/at+jwt",
        "application/x/at+jwt",
        "text/at+jwt",
        "JOSE",
        "ID",
        "Refresh",
        "",
    ] {
        let case = format!("typ {typ:?} (RFC 8725 section 3.11)");
        scene.refuses(&case, &typed("main", Some(typ), json!({})), refused).await;
        scene.refuses_at("strict", &case, &typed("strict", Some(typ), json!({})), refused).await;
    }
    for (case, changes) in [
        ("an ID token with at_hash", json!({"at_hash": "x", "nonce": "n"})),
        ("an ID token with c_hash", json!({"c_hash": "x"})),
        ("an ID token with s_hash", json!({"s_hash": "x"})),
        ("a logout token", json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sid": "1"})),
        ("a DPoP proof", json!({"htm": "POST", "htu": "https://mcp.example.com/"})),
        ("a proof of half", json!({"htu": "https://mcp.example.com/"})),
        ("Keycloak's ID token", json!({"typ": "ID"})),
        ("Keycloak's logout token", json!({"typ": "Logout"})),
        ("Keycloak's refresh token", json!({"typ": "Refresh"})),
        ("Keycloak's offline token", json!({"typ": "Offline"})),
        ("a sign-in client among the audiences", json!({"aud": [scene.url("main"), "desk"]})),
    ] {
        for typ in [None, Some("JWT"), Some("at+jwt")] {
            scene.refuses(&format!("{case}, typ {typ:?}"), &typed("main", typ, changes.clone()), refused).await;
        }
    }
    let desk = scene.token(json!({"aud": "desk"}));
    scene.refuses("the sign-in client alone", &desk, refused).await;
    for typ in [None, Some("JWT"), Some("jwt")] {
        let case = format!("typ {typ:?} where at+jwt is demanded (RFC 9068 section 4)");
        scene.refuses_at("strict", &case, &typed("strict", typ, json!({})), refused).await;
        scene.accepts(&format!("typ {typ:?}"), &typed("main", typ, json!({"typ": "Bearer"}))).await;
    }
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        scene.accepts_at("strict", typ, &typed("strict", Some(typ), json!({}))).await;
        scene.accepts(typ, &typed("main", Some(typ), json!({}))).await;
    }
    for typ in ["null", "5", "[\"at+jwt\"]"] {
        let token = scene.raw(&format!(r#"{{"alg":"RS256","kid":"rs256","typ":{typ}}}"#), &scene.claims().to_string());
        scene.refuses(&format!("typ {typ}"), &token, &["token-malformed"]).await;
    }
}
