//! The request as the upstream sees it: who asks, said by the gateway alone, and no credential of the client.

use serde_json::{Value, json};

use super::{INSTALLATION, Scene, policy};
use crate::support::upstream::Request;
use crate::support::{Client, Gateway, Issuer, Upstream};

const RULES: &str = "rules: [{ allow: { tools: [echo] } }]";
const NAMES: [&str; 4] = ["x-portcullis-issuer", "x-portcullis-subject", "x-portcullis-client", "x-portcullis-scopes"];

/// A gateway whose `upstream:` says more.
async fn scene(more: &str, secrets: &[(&str, &str)]) -> Scene {
    let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
    let text = policy(&upstream, &issuer, RULES).replace("/mcp\" }", &format!("/mcp\"{more} }}"));
    let setup = Gateway::new().policy("wire", &text).installation(INSTALLATION);
    let setup = secrets.iter().fold(setup, |setup, (name, value)| setup.secret(name, value));
    Scene::start(upstream, issuer, setup).await
}

/// What the upstream sees of a call with a token changed by `claims`, by a client that sends these headers.
async fn seen(scene: &Scene, claims: Value, headers: &[(&str, &str)]) -> Request {
    let url = scene.gateway.url("/wire/mcp");
    let client = Client::new(&url).token(&scene.issuer.token(&url, claims.clone()));
    let client = headers.iter().fold(client, |client, (name, value)| client.header(name, value));
    let reply = client.call_tool("echo", json!({})).await;
    assert_eq!(reply.status, 200, "{claims}: {reply:?}");
    let received = scene.upstream.received();
    scene.upstream.forget();
    received.into_iter().next().expect("the call")
}

#[tokio::test]
async fn l06_the_gateway_alone_says_who_asks() {
    let scene = scene("", &[]).await;
    let forged: Vec<(&str, &str)> = [
        "X-Portcullis-Issuer",
        "X-Portcullis-Subject",
        "X-Portcullis-Client",
        "X-Portcullis-Scopes",
        "x_portcullis_issuer",
        "X_Portcullis-Subject",
        "X-PORTCULLIS_CLIENT",
        "x-portcullis_scopes",
    ]
    .map(|name| (name, "admin"))
    .to_vec();
    let request = seen(&scene, json!({"scope": "a:read b"}), &forged).await;
    let said = NAMES.map(|name| request.header(name));
    assert_eq!(said, [vec![scene.issuer.url()], vec!["alice".into()], vec!["claude".into()], vec!["a:read b".into()]]);
    assert!(!request.headers.iter().any(|(_, value)| value == b"admin"), "no copy of the client's: {request:#?}");

    // A fact that is absent is an absent header, also when the client says otherwise, once or twice.
    let twice = [forged.clone(), forged].concat();
    let request = seen(&scene, json!({"client_id": null, "scope": null}), &twice).await;
    assert!(request.header("x-portcullis-client").is_empty(), "{request:#?}");
    assert!(request.header("x-portcullis-scopes").is_empty(), "{request:#?}");
    assert_eq!(request.header("x-portcullis-subject"), ["alice"]);
    assert!(!request.headers.iter().any(|(_, value)| value == b"admin"), "{request:#?}");
}

#[tokio::test]
async fn l06_values_are_percent_encoded() {
    let scene = scene("", &[]).await;
    for (subject, expected) in [
        ("alice@example.com", "alice@example.com"),
        ("\u{e5}lice \u{1f600}", "%C3%A5lice%20%F0%9F%98%80"),
        ("50% off", "50%25%20off"),
        (" alice ", "%20alice%20"),
        ("a%0d%0aX: y", "a%250d%250aX:%20y"),
        ("auth0|1, \"two\"; three", "auth0|1,%20\"two\";%20three"),
    ] {
        let request = seen(&scene, json!({"sub": subject}), &[]).await;
        assert_eq!(request.header("x-portcullis-subject"), [expected], "{subject:?}");
    }
}

#[tokio::test]
async fn l06_renamed_headers_keep_both_names_from_clients() {
    let scene = scene(", identity_headers: { subject: X-User, scopes: X-Groups }", &[]).await;
    let forged = [
        "X-User",
        "x_user",
        "X-Groups",
        "X_Groups",
        "X-Portcullis-Subject",
        "X-Portcullis-Scopes",
        "X-Portcullis_Subject",
    ]
    .map(|name| (name, "admin"));
    let request = seen(&scene, json!({"scope": ""}), &forged).await;
    assert_eq!(request.header("x-user"), ["alice"], "the new name is in use");
    assert_eq!(request.header("x-portcullis-client"), ["claude"], "what is not renamed keeps its name");
    assert!(request.header("x-portcullis-subject").is_empty(), "the old name is not: {request:#?}");
    assert!(request.header("x-groups").is_empty(), "no scopes, no header: {request:#?}");
    assert!(!request.headers.iter().any(|(_, value)| value == b"admin"), "{request:#?}");
}

#[tokio::test]
async fn l06_switched_off_nothing_is_said_and_nothing_of_the_clients_passes() {
    let scene = scene(", identity_headers: \"off\"", &[]).await;
    let forged = NAMES.map(|name| (name, "admin"));
    let request = seen(&scene, json!({"scope": "a"}), &forged).await;
    for name in NAMES {
        assert!(request.header(name).is_empty(), "{name}: {request:#?}");
    }
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn p01_no_credential_of_the_client_reaches_the_upstream() {
    let scene = scene("", &[]).await;
    let withheld = [
        ("proxy-authorization", "Basic YTpi"),
        ("cookie", "session=1"),
        ("dpop", "eyJ0eXAiOiJkcG9wK2p3dCJ9.e30.AA"),
        ("x-api-key", "k"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "192.0.2.1"),
        ("referer", "https://evil.example/"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("x-forwarded-user", "admin"),
        ("x-unlisted", "yes"),
    ];
    let request =
        seen(&scene, json!({}), &[&withheld[..], &[("accept-language", "de"), ("traceparent", TRACE)]].concat()).await;
    for (name, _) in withheld.iter().chain(&[("authorization", "")]) {
        assert!(request.header(name).is_empty(), "{name} goes no further: {request:#?}");
    }
    let all: Vec<u8> = request.headers.iter().flat_map(|(_, value)| value.clone()).collect();
    let token = scene.issuer.token(&scene.gateway.url("/wire/mcp"), json!({}));
    let payload = token.split('.').nth(1).expect("claims").get(..16).expect("some of them");
    assert!(!String::from_utf8_lossy(&all).contains(payload), "no part of the token is anywhere: {request:#?}");
    assert!(!request.path.contains("token"), "{}", request.path);
    assert_eq!(request.header("accept-language"), ["de"], "what says nothing of the caller passes");
    assert_eq!(request.header("traceparent"), [TRACE]);
    for malformed in ["00-1-2-3", &TRACE.replace("00-", "ff-"), &TRACE.to_uppercase(), &format!("{TRACE}-x")] {
        let request = seen(&scene, json!({}), &[("traceparent", malformed), ("tracestate", "a=1")]).await;
        assert!(request.header("traceparent").is_empty() && request.header("tracestate").is_empty(), "{malformed}");
    }
    let twice = seen(&scene, json!({}), &[("traceparent", TRACE), ("traceparent", "00-1-2-3")]).await;
    assert!(twice.header("traceparent").is_empty(), "of two nobody knows which counts: {twice:#?}");
    assert_eq!(request.header("host"), [scene.upstream.url("").replace("http://", "")], "the upstream's own name");
    assert_eq!(request.header("accept-encoding"), ["identity"], "answers are judged as they are");
}

#[tokio::test]
async fn p01_further_headers_go_on_where_the_policy_names_them() {
    let scene = scene(", forward_headers: [X-Tenant]", &[]).await;
    let request = seen(&scene, json!({}), &[("x-tenant", "acme"), ("x-other", "no")]).await;
    assert_eq!(
        (request.header("x-tenant"), request.header("x-other")),
        (vec!["acme".to_owned()], vec![]),
        "{request:#?}"
    );
}

#[tokio::test]
async fn p01_the_gateway_brings_a_credential_of_its_own() {
    let secret = "the-upstream-secret-0123456789";
    let own = scene(", credential: { secret: { env: WIRE_SECRET } }", &[("WIRE_SECRET", secret)]).await;
    let request = seen(&own, json!({}), &[]).await;
    assert_eq!(request.header("authorization"), [format!("Bearer {secret}")], "in the place of the client's token");
    own.gateway.wait_for_log(|record| record["decision"] == "permit").await;
    assert!(!own.gateway.printed().contains(secret), "and it is never printed");

    let named = ", credential: { header: X-Upstream-Key, prefix: \"key \", secret: { env: WIRE_SECRET } }";
    let named = scene(named, &[("WIRE_SECRET", secret)]).await;
    let request = seen(&named, json!({}), &[("X-Upstream-Key", "admin"), ("X_Upstream_Key", "admin")]).await;
    assert_eq!(request.header("x-upstream-key"), [format!("key {secret}")], "the client's copy is replaced");
    assert!(request.header("authorization").is_empty(), "{request:#?}");
}

#[tokio::test]
async fn d04_p01_the_upstream_is_asked_where_the_policy_says() {
    let scene = scene("", &[]).await;
    let client = scene.client();
    let headers = [("content-type", "application/json"), ("mcp-protocol-version", "2025-11-25")];
    let reply = client.send("POST", "/wire/mcp/?tenant=evil&url=http://evil.example/", &headers, super::BODY).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let received = scene.upstream.received();
    assert_eq!(
        (received[0].method.as_str(), received[0].path.as_str()),
        ("POST", "/mcp"),
        "nothing of the client's target"
    );
}
