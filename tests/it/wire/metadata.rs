//! Where a client without a token is sent, and what it reads there.

use serde_json::json;

use super::{INSTALLATION, Scene, policy};
use crate::support::client::Reply;
use crate::support::{Client, Era, Gateway, Issuer, Upstream};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const SCOPED: &str = "scopes:\n  \"a:read\": { default: true }\n  \"a:write\": { implies: [\"a:read\"] }\n  \"a:admin\": {}\n\
rules:\n  - { allow: { tools: [echo] }, scopes: [\"a:read\"] }\n  - { allow: { tools: [drop] }, scopes: [\"a:write\", \"a:admin\"] }\n";

async fn scene(rest: &str, installation: &str) -> Scene {
    Scene::with(Upstream::mcp(&["echo", "drop"]).await, rest, installation).await
}

fn challenge(reply: &Reply) -> String {
    let all: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "www-authenticate").collect();
    assert_eq!(all.len(), 1, "one challenge: {reply:?}");
    reply.header("www-authenticate").to_owned()
}

#[tokio::test]
async fn d01_a_401_names_the_metadata_and_the_default_scopes() {
    let scene = scene(SCOPED, INSTALLATION).await;
    let metadata = format!("resource_metadata=\"{}\"", scene.gateway.url(&format!("{WELL_KNOWN}/wire/mcp")));
    let client = || Client::new(&scene.gateway.url("/wire/mcp"));

    let anonymous = client().call_tool("echo", json!({})).await;
    assert_eq!(anonymous.status, 401);
    assert_eq!(challenge(&anonymous), format!("Bearer scope=\"a:read\", {metadata}"), "no error without a token");

    let bad = client().token("not.a.token").call_tool("echo", json!({})).await;
    assert_eq!(bad.status, 401);
    let said = challenge(&bad);
    assert!(said.starts_with("Bearer error=\"invalid_token\""), "{said}");
    assert!(said.contains("scope=\"a:read\"") && said.ends_with(&metadata), "{said}");
    scene.upstream.assert_silent();

    let good = scene.issuer.token(&scene.gateway.url("/wire/mcp"), json!({"scope": "a:read"}));
    let permitted = client().token(&good).call_tool("echo", json!({})).await;
    assert_eq!((permitted.status, permitted.header("www-authenticate")), (200, ""), "an answer has no challenge");
}

#[tokio::test]
async fn d01_a_403_for_missing_scopes_names_all_of_one_rule() {
    let scene = scene(SCOPED, INSTALLATION).await;
    let url = scene.gateway.url("/wire/mcp");
    let client = Client::new(&url).token(&scene.issuer.token(&url, json!({"scope": "a:write"})));
    let lacking = client.call_tool("drop", json!({})).await;
    assert_eq!(lacking.status, 403);
    let said = challenge(&lacking);
    assert!(said.starts_with("Bearer error=\"insufficient_scope\""), "{said}");
    assert!(said.contains("scope=\"a:admin a:write\"") || said.contains("scope=\"a:write a:admin\""), "{said}");
    assert!(said.contains(&format!("resource_metadata=\"{}\"", scene.gateway.url(&format!("{WELL_KNOWN}/wire/mcp")))));
    scene.upstream.assert_silent();

    // What no scope would permit has no challenge: asking for more would not help.
    let final_denial = client.call_tool("unknown", json!({})).await;
    assert_eq!((final_denial.status, final_denial.header("www-authenticate")), (403, ""));
    scene.upstream.assert_silent();

    let token = scene.issuer.token(&url, json!({"scope": "a:write a:admin"}));
    assert_eq!(Client::new(&url).token(&token).call_tool("drop", json!({})).await.status, 200);
    let implied = scene.issuer.token(&url, json!({"scope": "a:write"}));
    assert_eq!(
        Client::new(&url).token(&implied).call_tool("echo", json!({})).await.status,
        200,
        "`a:write` implies it"
    );
}

#[tokio::test]
async fn d01_without_default_scopes_none_is_named() {
    let scene = Scene::open().await;
    let anonymous = Client::new(&scene.gateway.url("/wire/mcp")).call_tool("echo", json!({})).await;
    assert!(!challenge(&anonymous).contains("scope="), "{anonymous:?}");
    let document = scene.client().fetch(&format!("{WELL_KNOWN}/wire/mcp")).await.json();
    assert_eq!(document.get("scopes_supported"), None, "{document}");
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn d02_the_document_is_at_both_places_and_the_same() {
    let scene = scene(SCOPED, INSTALLATION).await;
    let client = Client::new(&scene.gateway.url("/wire/mcp"));
    let expected = json!({
        "resource": scene.gateway.url("/wire/mcp"),
        "authorization_servers": [scene.issuer.url()],
        "scopes_supported": ["a:read"],
        "bearer_methods_supported": ["header"],
    });
    let inserted = client.fetch(&format!("{WELL_KNOWN}/wire/mcp")).await;
    let root = client.fetch(WELL_KNOWN).await;
    assert_eq!(inserted.body, root.body, "the root document of the only service is the same, byte by byte");
    for (path, reply) in [("inserted", &inserted), ("root", &root)] {
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "*", "any page may read it: {path}");
        assert!(reply.header("access-control-allow-credentials").is_empty(), "but not with credentials: {path}");
        let mut document = reply.json();
        document.as_object_mut().expect("an object").remove("resource_name");
        assert_eq!(document, expected, "{path}");
    }
    let preflight = client.send(
        "OPTIONS",
        WELL_KNOWN,
        &[("origin", "https://any.example"), ("access-control-request-method", "GET")],
        "",
    );
    let preflight = preflight.await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "*"));
    let head = client.send("HEAD", WELL_KNOWN, &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn d02_of_two_services_neither_has_the_root_unless_one_is_named() {
    let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
    let wire = policy(&upstream, &issuer, "rules: [{ allow: { tools: [echo] } }]");
    let other = wire.replace("service: wire", "service: other").replace("/wire/mcp", "/other/mcp");
    for (installation, status) in [(String::new(), 404), ("default_service: other\n".to_owned(), 200)] {
        let gateway = Gateway::new().policy("wire", &wire).policy("other", &other).installation(&installation);
        let gateway = gateway.start().await;
        let client = Client::new(&gateway.url("/"));
        let root = client.fetch(WELL_KNOWN).await;
        assert_eq!(root.status, status, "{installation:?}");
        for path in ["/wire/mcp", "/other/mcp"] {
            let document = client.fetch(&format!("{WELL_KNOWN}{path}")).await;
            assert_eq!(document.json()["resource"], gateway.url(path), "each service has its own");
            assert!(status == 404 || path == "/wire/mcp" || document.body == root.body, "the root is that of `other`");
        }
    }
    upstream.assert_silent();
}

#[tokio::test]
async fn d03_a_refusal_does_not_tell_whether_a_tool_exists() {
    let scene = Scene::open().await;
    for era in [Era::Legacy, Era::Modern] {
        let client = scene.client().era(era);
        let told = |reply: Reply| {
            let mut body = reply.json();
            body["error"]["data"]["requestId"] = json!("");
            let told = |(name, _): &(String, String)| name != "x-request-id" && name != "date";
            let headers: Vec<_> = reply.headers.into_iter().filter(told).collect();
            (reply.status, headers, body)
        };
        let existing = told(client.call_tool("drop", json!({})).await);
        let invented = told(client.call_tool("none", json!({})).await);
        assert_eq!(existing, invented, "{era:?}");
        assert_eq!(existing.0, 403);
    }
    scene.upstream.assert_silent();
    assert_eq!(scene.client().call_tool("echo", json!({})).await.status, 200);
}

#[tokio::test]
async fn d04_every_url_comes_from_the_configuration() {
    let scene = scene(SCOPED, &format!("{INSTALLATION}public_url: https://mcp.example.com\n")).await;
    let hostile = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/evil"),
        ("x-original-host", "evil.example"),
        ("forwarded", "host=evil.example;proto=http"),
    ];
    let client = Client::new(&scene.gateway.url("/wire/mcp")).host("mcp.example.com");
    let client = hostile.iter().fold(client, |client, (name, value)| client.header(name, value));
    let anonymous = client.call_tool("echo", json!({})).await;
    assert_eq!(anonymous.status, 401);
    let said = challenge(&anonymous);
    assert!(
        said.contains("resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/wire/mcp\"")
    );
    let document = client.fetch(&format!("{WELL_KNOWN}/wire/mcp")).await;
    assert_eq!(document.json()["resource"], "https://mcp.example.com/wire/mcp");
    for text in [said, format!("{document:?}"), format!("{anonymous:?}")] {
        assert!(!text.contains("evil") && !text.contains(&scene.gateway.url("")), "{text}");
    }
    let other = Client::new(&scene.gateway.url("/wire/mcp")).host("evil.example").fetch(WELL_KNOWN).await;
    assert_eq!(other.status, 421, "another host gets no document at all");
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn d05_nothing_that_a_client_sends_comes_back_in_a_challenge() {
    let scene = scene(SCOPED, INSTALLATION).await;
    let url = scene.gateway.url("/wire/mcp");
    let evil = "x\", realm=\"y\\";
    let token = scene.issuer.token(&url, json!({"scope": "a:write", "sub": evil}));
    let named = Client::new(&url).token(&token).era(Era::Legacy).call_tool(evil, json!({})).await;
    assert_eq!(named.status, 403);
    assert!(!format!("{named:?}").contains("realm"), "{named:?}");
    let client = Client::new(&url).token(&token).era(Era::Legacy).header("x-evil", evil);
    let said = challenge(&client.call_tool("drop", json!({})).await);
    assert_eq!(said.matches('"').count() % 2, 0, "{said}");
    assert!(!said.contains("realm") && !said.contains('\\'), "{said}");
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn l03_with_and_without_a_trailing_slash_is_one_route_and_no_redirect() {
    let scene = Scene::open().await;
    for path in ["/wire/mcp", "/wire/mcp/"] {
        let client = Client::new(&scene.gateway.url(path));
        let anonymous = client.call_tool("echo", json!({})).await;
        assert_eq!((anonymous.status, anonymous.header("location")), (401, ""), "{path}");
        let document = client.fetch(&format!("{WELL_KNOWN}{path}")).await;
        assert_eq!(document.json()["resource"], scene.gateway.url("/wire/mcp"), "one resource: {path}");
        scene.upstream.assert_silent();
        let reply = client.token(&scene.token).call_tool("echo", json!({})).await;
        assert_eq!((reply.status, reply.header("location")), (200, ""), "{path}");
        scene.upstream.forget();
    }
}
