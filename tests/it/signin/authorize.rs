//! The authorization endpoint and the documents that lead to it.

use serde_json::json;

use super::{CALLBACK, Story, json as read};
use crate::support::{Browser, Client};

#[tokio::test]
async fn e01_the_documents_are_where_clients_look_and_all_the_same() {
    let story = Story::new().await;
    let client = Client::new(&story.gateway.url("/"));
    let first = client.fetch("/.well-known/oauth-authorization-server/mcp").await;
    assert_eq!(first.status, 200);
    let document = first.json();
    assert_eq!(document["issuer"], story.issuer());
    for (name, value) in [
        ("authorization_endpoint", json!(format!("{}/authorize", story.issuer()))),
        ("token_endpoint", json!(format!("{}/token", story.issuer()))),
        ("registration_endpoint", json!(format!("{}/register", story.issuer()))),
        ("jwks_uri", json!(format!("{}/jwks", story.issuer()))),
        ("code_challenge_methods_supported", json!(["S256"])),
        ("response_types_supported", json!(["code"])),
        ("authorization_response_iss_parameter_supported", json!(true)),
        ("client_id_metadata_document_supported", json!(true)),
    ] {
        assert_eq!(document[name], value, "{name}");
    }
    assert_eq!(first.header("access-control-allow-origin"), "*");
    assert_eq!(first.header("cache-control"), "public, max-age=300");
    for place in [
        "/.well-known/openid-configuration/mcp",
        "/mcp/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        assert_eq!(client.fetch(place).await.body, first.body, "{place}");
    }
    let resource = client.fetch("/.well-known/oauth-protected-resource/mcp").await.json();
    assert_eq!(resource["authorization_servers"], json!([story.issuer()]));
    let keys = client.fetch("/mcp/jwks").await;
    assert_eq!(keys.json()["keys"][0]["alg"], "ES256");
    assert!(keys.json()["keys"][0]["d"].is_null(), "no private key");
    let unknown = client.fetch("/.well-known/oauth-authorization-server/other").await;
    assert_eq!((unknown.status, unknown.header("content-type")), (404, "application/json"));
}

#[tokio::test]
async fn e02_a_bad_client_or_redirect_uri_gets_a_page_and_no_redirect() {
    let story = Story::new().await;
    for (what, changes) in [
        ("no client", vec![("client_id", "")]),
        ("an unknown client", vec![("client_id", "nobody")]),
        ("a client of another form", vec![("client_id", "https://127.0.0.1/x")]),
        ("no redirect URI", vec![("redirect_uri", "")]),
        ("another redirect URI", vec![("redirect_uri", "https://evil.example/cb")]),
        ("another path", vec![("redirect_uri", "http://127.0.0.1:7777/other")]),
        ("a query", vec![("redirect_uri", "http://127.0.0.1:7777/callback?x=1")]),
        ("localhost for the address", vec![("redirect_uri", "http://localhost:7777/callback")]),
        ("a suffix", vec![("redirect_uri", "https://app.example.com.evil.example/cb")]),
        ("user info", vec![("redirect_uri", "https://app.example.com@evil.example/cb")]),
        ("a fragment", vec![("redirect_uri", "https://app.example.com/cb#x")]),
        ("a script", vec![("redirect_uri", "javascript:alert(1)")]),
        ("listed by the policy, not by the client", vec![("redirect_uri", "com.example.app:/cb")]),
    ] {
        let page = Browser::new().go(&story.authorize(&changes)).await;
        assert_eq!((page.status, page.location()), (400, ""), "{what}");
        assert!(page.header("content-type").starts_with("text/html"), "{what}: a page for a person");
        assert!(page.body.contains("begin again"), "{what}: it tells what to do");
    }
    for good in [CALLBACK, "http://127.0.0.1:1/callback", "https://app.example.com/cb"] {
        assert_eq!(Browser::new().go(&story.authorize(&[("redirect_uri", good)])).await.status, 200, "{good}");
    }
}

#[tokio::test]
async fn e04_pkce_is_required_with_s256() {
    let story = Story::new().await;
    for (what, changes) in [
        ("none", vec![("code_challenge", ""), ("code_challenge_method", "")]),
        ("no method", vec![("code_challenge_method", "")]),
        ("plain", vec![("code_challenge_method", "plain")]),
        ("another case", vec![("code_challenge_method", "s256")]),
        ("too short", vec![("code_challenge", "abc")]),
        ("too long", vec![("code_challenge", &*Box::leak("a".repeat(129).into_boxed_str()))]),
        ("another alphabet", vec![("code_challenge", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa+")]),
    ] {
        let page = Browser::new().go(&story.authorize(&changes)).await;
        assert_eq!(page.parameter("error").as_deref(), Some("invalid_request"), "{what}");
    }
}

#[tokio::test]
async fn e05_a_parameter_that_occurs_twice_is_refused() {
    let story = Story::new().await;
    let url = story.authorize(&[]);
    for name in [
        "client_id=desk",
        "redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb",
        "state=y",
        "%73tate=y",
        "scope=files%3Awrite",
    ] {
        let page = Browser::new().go(&format!("{url}&{name}")).await;
        assert_eq!((page.status, page.location()), (400, ""), "{name}");
    }
    assert_eq!(Browser::new().go(&format!("{url}&unknown=1")).await.status, 200, "an unknown one is ignored");
}

#[tokio::test]
async fn e06_e09_e10_errors_go_back_with_state_and_iss() {
    let story = Story::new().await;
    for (what, changes, code) in [
        ("implicit", vec![("response_type", "token")], "unsupported_response_type"),
        ("hybrid", vec![("response_type", "code id_token")], "unsupported_response_type"),
        ("none", vec![("response_type", "")], "invalid_request"),
        ("another resource", vec![("resource", "https://other.example/mcp")], "invalid_target"),
        ("the bare origin", vec![("resource", "http://127.0.0.1")], "invalid_target"),
        ("an unknown scope", vec![("scope", "admin")], "invalid_scope"),
        ("a scope of another case", vec![("scope", "Files:Read")], "invalid_scope"),
        ("a fragment", vec![("response_mode", "fragment")], "invalid_request"),
        ("a form", vec![("response_mode", "form_post")], "invalid_request"),
        ("no prompt", vec![("prompt", "none")], "interaction_required"),
        ("no prompt among others", vec![("prompt", "login none")], "interaction_required"),
        ("a request object", vec![("request", "a.b.c")], "request_not_supported"),
        ("a request by URL", vec![("request_uri", "https://evil.example/r")], "request_uri_not_supported"),
    ] {
        let page = Browser::new().go(&story.authorize(&changes)).await;
        assert_eq!((page.status, page.parameter("error").as_deref()), (303, Some(code)), "{what}");
        assert_eq!(page.parameter("state").as_deref(), Some("client-state"), "{what}");
        assert_eq!(page.parameter("iss").as_deref(), Some(story.issuer().as_str()), "{what}");
        assert!(page.location().starts_with(CALLBACK), "{what}");
        assert_eq!(page.header("cache-control"), "no-store", "{what}");
    }
    for (what, changes) in [
        ("no resource", vec![("resource", "")]),
        ("a trailing slash", vec![("resource", &*Box::leak(format!("{}/", story.issuer()).into_boxed_str()))]),
        ("no scope", vec![("scope", "")]),
        ("scopes by habit", vec![("scope", "openid offline_access")]),
        ("a state of several KiB", vec![("state", &*Box::leak("s".repeat(6000).into_boxed_str()))]),
    ] {
        assert_eq!(Browser::new().go(&story.authorize(&changes)).await.status, 200, "{what}");
    }
}

#[tokio::test]
async fn a_client_that_names_no_resource_gets_the_right_audience() {
    let story = Story::new().await;
    let long = "s".repeat(6000);
    let page = story.sign_in(&Browser::new(), &[("resource", ""), ("scope", ""), ("state", &long)]).await;
    assert_eq!(page.parameter("state").as_deref(), Some(long.as_str()));
    let tokens = read(&story.redeem(&page.parameter("code").expect("a code")).await);
    let claims = super::claims(&tokens["access_token"]);
    assert_eq!(claims["aud"], story.issuer());
    assert_eq!(claims["scope"], "files:read", "the default scope");
}

#[tokio::test]
async fn e08_pages_are_read_by_no_other_origin_and_carry_their_headers() {
    let story = Story::new().await;
    let page = Browser::new().go_with(&story.authorize(&[]), &[("origin", "https://evil.example")]).await;
    assert_eq!(page.header("access-control-allow-origin"), "");
    let broken = Browser::new().go(&story.authorize(&[("client_id", "nobody")])).await;
    let token = story.token(&[("grant_type", "x"), ("client_id", "desk")]).await;
    for (what, page) in [("a page", &page), ("an error page", &broken), ("an OAuth error", &token)] {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(page.header(name), value, "{what}: {name}");
        }
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{what}: {policy}");
        assert_eq!(page.header("strict-transport-security"), "", "{what}: not over plain http");
    }
    assert_eq!(token.header("access-control-allow-origin"), "*");
    assert_eq!(token.header("access-control-allow-credentials"), "");
    assert!(!page.body.contains("<script"), "no script");
}

#[tokio::test]
async fn endpoints_take_their_methods_and_no_others() {
    let story = Story::new().await;
    let client = Client::new(&story.issuer());
    for (path, method, allowed) in [
        ("/mcp/token", "GET", "POST"),
        ("/mcp/register", "PUT", "POST"),
        ("/mcp/authorize", "POST", "GET"),
        ("/mcp/consent", "GET", "POST"),
        ("/mcp/jwks", "POST", "GET, HEAD"),
    ] {
        let reply = client.send(method, path, &[], "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, allowed), "{method} {path}");
    }
    let preflight = client.send("OPTIONS", "/mcp/token", &[], "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "*"));
}
