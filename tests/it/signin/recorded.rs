//! Each product with its recorded shapes: sign-in, refresh, and refusals.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Story, claims, error, json as read};
use crate::support::{Browser, PATIENCE, Page, Recorded, Upstream, recording};

const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";

/// A product, how the policy names it, and what then stands in a token.
struct Case {
    product: &'static str,
    /// The path of its issuer.
    issuer: &'static str,
    /// `preset` and what stands under `sign_in`.
    preset: &'static str,
    sign_in: &'static str,
    /// `claims` of the policy.
    claims: &'static str,
    /// `sub` after the provider's name.
    subject: &'static str,
    expected: Value,
    /// Claims of an ID token that must not sign anybody in, each with the error that the client is told.
    strangers: Vec<(&'static str, Value, &'static str)>,
}

fn cases() -> Vec<Case> {
    let other_tenant = json!({ "iss": "https://login.microsoftonline.com/99999999-0000-cccc-1111-dddd2222eeee/v2.0" });
    let overage = || recording("entra", "overage");
    let entra = || {
        vec![
            ("another tenant", other_tenant.clone(), "server_error"),
            ("too many groups", overage()["payload"].clone(), "access_denied"),
            ("too many groups, as the implicit flow says it", overage()["implicit"].clone(), "access_denied"),
        ]
    };
    let groups = json!(["11111111-aaaa-bbbb-cccc-222222222222", "33333333-aaaa-bbbb-cccc-444444444444"]);
    let of_entra = json!({ "groups": groups, "roles": ["Tools.Read"], "tenant": TENANT });
    let entra_claims = "{ groups: groups, roles: roles, tenant: tid }";
    let entra_subject = "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ";
    vec![
        Case {
            product: "okta-org",
            issuer: "",
            preset: "okta",
            sign_in: "scopes: [openid, email, profile, groups, offline_access]",
            claims: "{ groups: groups, email: email, email_verified: email_verified }",
            subject: "00uid4BxXw6I6TV4m0g3",
            expected: json!({ "groups": ["Everyone", "Engineering"], "email": "john.doe@example.com" }),
            strangers: vec![("a person whom userinfo does not know", json!({ "sub": "00uother" }), "server_error")],
        },
        Case {
            product: "okta-custom",
            issuer: "/oauth2/default",
            preset: "okta",
            sign_in: "scopes: [openid, email, profile, offline_access]",
            claims: "{ groups: groups, nickname: nickname }",
            subject: "00uid4BxXw6I6TV4m0g3",
            expected: json!({ "groups": ["Everyone", "Engineering"], "nickname": "Jimmy" }),
            strangers: vec![("of the org's own server", json!({ "iss": "https://example.okta.com" }), "server_error")],
        },
        Case {
            product: "entra",
            issuer: "/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0",
            preset: "entra",
            sign_in: "scopes: [openid, email, profile, offline_access]",
            claims: entra_claims,
            subject: entra_subject,
            expected: of_entra.clone(),
            strangers: entra(),
        },
        Case {
            product: "entra-v1",
            issuer: "/aaaabbbb-0000-cccc-1111-dddd2222eeee/",
            preset: "entra",
            sign_in: "scopes: [openid]",
            claims: "{ upn: upn }",
            subject: entra_subject,
            expected: json!({ "upn": "babs@contoso.com" }),
            strangers: vec![("another tenant", other_tenant.clone(), "server_error")],
        },
        Case {
            product: "entra-organizations",
            issuer: "/organizations/v2.0",
            preset: "entra",
            sign_in: "tenants: [aaaabbbb-0000-cccc-1111-dddd2222eeee]",
            claims: entra_claims,
            subject: entra_subject,
            expected: of_entra,
            strangers: entra().into_iter().skip(1).chain([("another tenant", other_tenant, "access_denied")]).collect(),
        },
        Case {
            product: "google",
            issuer: "",
            preset: "google",
            sign_in: "parameters: { hd: example.com, access_type: offline }",
            claims: "{ domain: hd, email: email, email_verified: email_verified }",
            subject: "10769150350006150715113082367",
            expected: json!({ "domain": "example.com", "email": "jsmith@example.com", "email_verified": true }),
            strangers: vec![
                ("another domain", json!({ "hd": "evil.example" }), "access_denied"),
                ("a private account", json!({ "hd": null }), "access_denied"),
            ],
        },
        Case {
            product: "keycloak",
            issuer: "/realms/example",
            preset: "keycloak",
            sign_in: "scopes: [openid, email, profile]",
            claims: "{ roles: /realm_access/roles, groups: groups }",
            subject: "36fa0f91-f94d-4a0c-afed-6b7d952e47da",
            expected: json!({
                "roles": ["offline_access", "default-roles-example", "tools-admin"], "groups": ["/engineering"],
            }),
            strangers: vec![
                ("another realm", json!({ "iss": "https://keycloak.example.com/realms/other" }), "server_error"),
                ("for another client of the realm", json!({ "aud": "account" }), "server_error"),
            ],
        },
        Case {
            product: "auth0",
            issuer: "/",
            preset: "auth0",
            sign_in: "scopes: [openid, email, profile, offline_access]",
            claims: "{ roles: 'https://example.com/roles' }",
            subject: "auth0|5f7c8ec7c33c6c004bbafe82",
            expected: json!({ "roles": ["editor"] }),
            strangers: vec![("without the slash", json!({ "iss": "https://example.eu.auth0.com" }), "server_error")],
        },
    ]
}

/// The policy of a product, with `provider` as it is written.
fn policy(provider: &str, claims: &str, upstream: &Upstream) -> String {
    format!(
        "
service: files
route: {{ path: /mcp }}
upstream: {{ url: {} }}
providers:
  corp: {provider}
authorization_server:
  sign_in: [corp]
  redirects: {{ loopback: true }}
  claims: {claims}
  clients: [{{ id: desk, redirects: ['http://127.0.0.1/callback'] }}]
scopes:
  files:read: {{ default: true }}
rules:
  - allow: {{ tools: [read] }}
    scopes: [files:read]
",
        upstream.url("/mcp")
    )
}

/// The policy of a case.
fn written(product: &Recorded, case: &Case, upstream: &Upstream) -> String {
    let provider = format!(
        "{{ oidc: {{ issuer: '{}{}', preset: {}, sign_in: {{ client_id: gateway, \
         client_secret: {{ env: CORP_SECRET }}, {} }} }} }}",
        product.url(),
        case.issuer,
        case.preset,
        case.sign_in
    );
    policy(&provider, case.claims, upstream)
}

async fn story(product: &Recorded, case: &Case) -> Story {
    Story::around(|upstream| written(product, case, upstream)).await
}

fn holds(token: &Value, expected: &Value, what: &str) {
    for (name, value) in expected.as_object().expect("claims") {
        assert_eq!(&token[name], value, "{what}: {name} of {token:#}");
    }
}

/// Signs in, and says what the client was told instead of a code.
async fn told(story: &Story) -> (Page, Option<String>) {
    let page = story.sign_in(&Browser::new(), &[]).await;
    assert_eq!(page.status, 303, "{page:#?}");
    let error = page.parameter("error");
    (page, error)
}

#[tokio::test]
async fn every_product_signs_in_refreshes_and_refuses() {
    for case in cases() {
        let what = case.product;
        let product = Recorded::oidc(what).await;
        // Its word is good for no time, so that every refresh asks.
        let ends = if what == "entra-v1" { json!({ "expires_in": "0" }) } else { json!({ "expires_in": 0 }) };
        product.twist(|twist| twist.tokens = ends);
        let story = story(&product, &case).await;

        let page = story.sign_in(&Browser::new(), &[]).await;
        let code = page.parameter("code").unwrap_or_else(|| panic!("{what}: {page:#?}\n{}", story.gateway.printed()));
        let tokens = read(&story.redeem(&code).await);
        let token = claims(&tokens["access_token"]);
        assert_eq!(token["sub"], format!("corp:{}", case.subject), "{what}");
        holds(&token, &case.expected, what);
        let authorize = product.received();
        let authorize = authorize.iter().find(|request| request.path.contains("code_challenge")).expect("a request");
        assert!(!authorize.path.contains("resource="), "{what}: `resource` would be refused there");

        let refresh = tokens["refresh_token"].as_str().expect("a refresh token");
        let page = story.refresh(refresh).await;
        assert_eq!((page.status, product.renewals()), (200, 1), "{what}: {page:#?}");
        let tokens = read(&page);
        holds(&claims(&tokens["access_token"]), &case.expected, what);

        for refusal in ["authorize", "code"] {
            product.twist(|twist| twist.refuses = refusal);
            let (page, error) = told(&story).await;
            let expected = if refusal == "authorize" { "access_denied" } else { "server_error" };
            assert_eq!(error.as_deref(), Some(expected), "{what}: {refusal}");
            assert!(page.parameter("code").is_none(), "{what}");
        }
        product.twist(|twist| twist.refuses = "");
        for (why, changes, expected) in &case.strangers {
            product.twist(|twist| twist.claims = changes.clone());
            let (page, error) = told(&story).await;
            assert_eq!(error.as_deref(), Some(*expected), "{what}: {why}");
            assert!(page.parameter("code").is_none(), "{what}: {why}");
        }
        product.twist(|twist| twist.claims = json!({}));

        let refresh = tokens["refresh_token"].as_str().expect("a refresh token");
        product.twist(|twist| twist.refuses = "refresh");
        let page = story.refresh(refresh).await;
        assert_eq!((page.status, error(&page).as_str()), (400, "invalid_grant"), "{what}: gone there, gone here");
        let access = tokens["access_token"].as_str().expect("a token");
        story.upstream.forget();
        assert_eq!(story.call("read", access).await, 401, "{what}: and its access token too");
        story.upstream.assert_silent();
    }
}

#[tokio::test]
async fn h10_a_tenant_that_the_policy_no_longer_names_is_out_within_seconds() {
    let of = |tenants: &'static str| {
        let case = cases().into_iter().find(|case| case.product == "entra-organizations").expect("the case");
        Case { sign_in: tenants, ..case }
    };
    let both = of("tenants: [99999999-0000-cccc-1111-dddd2222eeee, aaaabbbb-0000-cccc-1111-dddd2222eeee]");
    let other = of("tenants: [99999999-0000-cccc-1111-dddd2222eeee]");
    let product = Recorded::oidc(both.product).await;
    // Without a refresh token of the provider's there is nobody to ask again.
    product.twist(|twist| twist.tokens = json!({ "refresh_token": null }));
    let story = story(&product, &both).await;
    let tokens = story.tokens().await;
    let access = tokens["access_token"].as_str().expect("a token");
    let refresh = tokens["refresh_token"].as_str().expect("a refresh token");
    assert_eq!(story.call("read", access).await, 200);

    story.gateway.write_policy("files", &written(&product, &other, &story.upstream));
    let began = Instant::now();
    while story.call("read", access).await != 401 {
        assert!(began.elapsed() < PATIENCE, "a token of a person of the tenant is still good");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    story.upstream.forget();
    assert_eq!(story.call("read", access).await, 401);
    story.upstream.assert_silent();
    let page = story.refresh(refresh).await;
    assert_eq!((page.status, error(&page).as_str()), (400, "invalid_grant"));
    assert_eq!(product.renewals(), 0);

    story.gateway.write_policy("files", &written(&product, &both, &story.upstream));
    let began = Instant::now();
    while story.refresh(refresh).await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "the positive control: it is named again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(story.call("read", access).await, 200);
}

#[tokio::test]
async fn a_secret_that_a_product_refuses_signs_nobody_out() {
    for case in cases() {
        let what = case.product;
        let product = Recorded::oidc(what).await;
        let ends = if what == "entra-v1" { json!({ "expires_in": "0" }) } else { json!({ "expires_in": 0 }) };
        product.twist(|twist| twist.tokens = ends);
        let story = story(&product, &case).await;
        let tokens = story.tokens().await;
        product.twist(|twist| twist.refuses = "client");
        let page = story.refresh(tokens["refresh_token"].as_str().expect("a refresh token")).await;
        assert_eq!((page.status, error(&page).as_str()), (503, "temporarily_unavailable"), "{what}");
        assert_eq!(story.call("read", tokens["access_token"].as_str().expect("a token")).await, 200, "{what}");
    }
}

/// A story with GitHub behind its sign-in.
async fn github(product: &Recorded, more: &str) -> Story {
    let provider = format!(
        "{{ github: {{ url: '{}', client_id: Iv1.gateway, client_secret: {{ env: CORP_SECRET }}{more} }} }}",
        product.url()
    );
    product.twist(|twist| twist.tokens = json!({ "expires_in": 0 }));
    let claims = "{ groups: groups, email: email, email_verified: email_verified, login: preferred_username }";
    Story::around(|upstream| policy(&provider, claims, upstream)).await
}

#[tokio::test]
async fn github_signs_in_and_refreshes_with_what_its_api_says() {
    let product = Recorded::github().await;
    let story = github(&product, ", organizations: [acme], groups: true").await;
    let tokens = story.tokens().await;
    let token = claims(&tokens["access_token"]);
    assert_eq!(token["sub"], "corp:583231", "the number of the account, and never its name");
    let expected = json!({
        "groups": ["acme", "acme/justice-league"], "email": "octocat@github.com", "email_verified": true,
        "login": "octocat",
    });
    holds(&token, &expected, "github");
    let authorize = &product.received()[0];
    for part in ["scope=read%3Auser+user%3Aemail+read%3Aorg", "code_challenge_method=S256", "client_id=Iv1.gateway"] {
        assert!(authorize.path.contains(part), "{}", authorize.path);
    }
    assert!(!story.gateway.printed().contains("ghu_"), "no token is logged");

    let moved = json!([{ "slug": "avengers", "organization": { "login": "acme" } }]);
    product.twist(|twist| drop(twist.api.insert("/api/v3/user/teams".into(), (200, json!({}), moved))));
    let page = story.refresh(tokens["refresh_token"].as_str().expect("a refresh token")).await;
    assert_eq!((page.status, product.renewals()), (200, 1), "{page:#?}");
    let tokens = read(&page);
    assert_eq!(claims(&tokens["access_token"])["groups"], json!(["acme", "acme/avengers"]), "as it is now");

    let refresh = tokens["refresh_token"].as_str().expect("a refresh token");
    product.twist(|twist| twist.refuses = "refresh");
    let page = story.refresh(refresh).await;
    assert_eq!((page.status, error(&page).as_str()), (400, "invalid_grant"), "status 200 with an error is an error");
    story.upstream.forget();
    assert_eq!(story.call("read", tokens["access_token"].as_str().expect("a token")).await, 401);
    story.upstream.assert_silent();
}

#[tokio::test]
async fn github_answers_in_a_form_as_well() {
    let product = Recorded::github().await;
    let story = github(&product, "").await;
    product.twist(|twist| twist.tokens = json!({ "form": "yes", "expires_in": 28800 }));
    let token = claims(&story.tokens().await["access_token"]);
    assert_eq!(token["sub"], "corp:583231");
    assert!(token.get("groups").is_none(), "nobody asked for them");
    assert!(product.received().iter().all(|request| !request.path.contains("orgs")));
}

#[tokio::test]
async fn github_refuses_in_many_ways_and_none_signs_anybody_in() {
    let errors = recording("github", "errors");
    let (limited, suspended) = (&errors["limited"], &errors["suspended"]);
    let page = |entries: usize| json!(vec![json!({ "slug": "t", "organization": { "login": "acme" } }); entries]);
    let pending = json!({ "state": "pending" });
    for (what, refuses, path, answer, told_to_client) in [
        ("the person", "authorize", "", None, "access_denied"),
        ("the code", "code", "", None, "server_error"),
        ("the gateway's secret", "client", "", None, "temporarily_unavailable"),
        ("the token", "", "/api/v3/user", Some((401, json!({}), errors["api"]["body"].clone())), "access_denied"),
        ("the account", "", "/api/v3/user", Some((403, json!({}), suspended["body"].clone())), "access_denied"),
        (
            "too many requests",
            "",
            "/api/v3/user",
            Some((403, limited["headers"].clone(), limited["body"].clone())),
            "temporarily_unavailable",
        ),
        ("a fault", "", "/api/v3/user", Some((502, json!({}), json!({}))), "temporarily_unavailable"),
        ("a user without a number", "", "/api/v3/user", Some((200, json!({}), json!({ "id": "1" }))), "server_error"),
        (
            "an invitation only",
            "",
            "/api/v3/user/memberships/orgs/acme",
            Some((200, json!({}), pending)),
            "access_denied",
        ),
        (
            "an organization that keeps apps out",
            "",
            "/api/v3/user/memberships/orgs/acme",
            Some((403, json!({}), json!({}))),
            "access_denied",
        ),
        ("teams without an end", "", "/api/v3/user/teams", Some((200, json!({}), page(100))), "server_error"),
    ] {
        let product = Recorded::github().await;
        let story = github(&product, ", organizations: [acme], groups: true").await;
        product.twist(|twist| {
            twist.refuses = refuses;
            twist.api.extend(answer.map(|answer| (path.to_owned(), answer)));
        });
        let (page, error) = told(&story).await;
        assert_eq!(error.as_deref(), Some(told_to_client), "{what}: {page:#?}\n{}", story.gateway.printed());
        assert!(page.parameter("code").is_none(), "{what}");
        product.twist(|twist| {
            twist.refuses = "";
            twist.api.clear();
        });
        assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some(), "{what}: the positive control");
    }
}

#[tokio::test]
async fn github_lets_only_members_of_the_organizations_in() {
    let product = Recorded::github().await;
    let story = github(&product, ", organizations: [initech, globex]").await;
    assert_eq!(told(&story).await.1.as_deref(), Some("access_denied"), "invited to one, unknown to the other");
}
