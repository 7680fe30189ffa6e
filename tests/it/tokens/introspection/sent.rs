//! What is sent, and where: the token as it came, to one endpoint, by a client that says who it is.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::egress::private_https;
use super::super::{INSTALLATION, Scene};
use super::{Asking, OPAQUE, SECRET, active, introspection};
use crate::support::introspector::field;
use crate::support::{Client, Gateway, Introspector, Issuer, Upstream};

#[tokio::test]
async fn b06_a_token_is_sent_as_it_came_and_a_near_one_is_another() {
    let asking = Asking::start("").await;
    let token = "Tok~1+2/3.4_5-6==";
    asking.knows(token, json!({}));
    asking.scene.accepts("the token", token).await;
    let others = [
        "Tok~1+2/3.4_5-6=",
        "Tok~1+2/3.4_5-6",
        "Tok~1+2/3.4_5-6===",
        "Tok~1+2/3.4_5-",
        "Tok~1+2/3.4_5-60==",
        "tok~1+2/3.4_5-6==",
        "TOK~1+2/3.4_5-6==",
        "Tok~1-2_3.4_5-6==",
        "Tok~1.2/3.4_5-6==",
        "ok~1+2/3.4_5-6==",
        "Tok~1+2/3.4_5-6.Tok~1+2/3.4_5-6==",
    ];
    for other in others {
        asking.scene.refuses(&format!("{other} (CVE-2026-27840)"), other, &["token-inactive"]).await;
    }
    let sent: Vec<String> = std::iter::once(token).chain(others).map(str::to_owned).collect();
    assert_eq!(asking.endpoint.asked(), sent, "every one of them went out as it came");
    asking.scene.accepts("the token still", token).await;
}

#[tokio::test]
async fn b07_the_question_authenticates_and_the_token_stays_behind() {
    let asking = Asking::start("").await;
    asking.knows(OPAQUE, json!({}));
    asking.scene.accepts("active", OPAQUE).await;
    asking.scene.refuses("a token that is not active", "tok_not_active_5150", &["token-inactive"]).await;

    let questions = asking.endpoint.questions();
    for question in &questions {
        assert_eq!(
            (question.method.as_str(), question.path.as_str()),
            ("POST", "/oauth2/introspect"),
            "no token in a URL"
        );
        assert_eq!(question.header("content-type"), ["application/x-www-form-urlencoded"]);
        assert_eq!(question.header("accept"), ["application/json"]);
        assert_eq!(field(question, "token_type_hint").as_deref(), Some("access_token"));
        // RFC 6749 section 2.3.1: both parts form-encoded, then joined, then base64.
        let [authorization] = question.header("authorization").try_into().expect("one credential");
        let encoded = authorization.strip_prefix("Basic ").expect("basic credentials");
        let pair = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).expect("base64");
        assert_eq!(String::from_utf8_lossy(&pair), "gate+way:s3cr%3Aet%2B%2F%25%26%3D1a2b3c4d5e6f");
        assert!(!String::from_utf8_lossy(&question.body).contains(SECRET));
    }
    asking.scene.call("main", OPAQUE).await;
    for request in asking.scene.upstream.received() {
        let text = format!("{request:?}{}", String::from_utf8_lossy(&request.body));
        assert!(!text.contains(OPAQUE) && !text.contains(SECRET), "the upstream sees no token: {text}");
        assert!(request.header("authorization").is_empty(), "{text}");
    }
    assert_eq!(asking.scene.upstream.received().len(), 1);
    let printed = asking.scene.gateway.printed();
    for secret in [OPAQUE, "tok_not_active_5150", SECRET, "s3cr"] {
        assert!(!printed.contains(secret), "`{secret}` is printed: {printed}");
    }
}

#[tokio::test]
async fn b07_the_endpoint_shows_a_certificate_that_is_trusted() {
    let issuer = Issuer::start().await;
    for named in [false, true] {
        let upstream = Upstream::mcp(&["echo"]).await;
        let text = json!({"active": true, "iss": issuer.url(), "aud": "api://main", "sub": "alice"}).to_string();
        let (url, pem) = private_https(&text).await;
        let installation =
            if named { format!("{INSTALLATION}egress: {{ ca_file: ca.pem }}\n") } else { INSTALLATION.to_owned() };
        let policy = format!(
            "service: main\nroute: {{ path: /main/mcp }}\nupstream: {{ url: \"{}\" }}\nproviders: {{ corp: {} }}\n\
             authentication: {{ providers: [corp], audiences: [\"api://main\"] }}\nrules: [{{ allow: {{ tools: [echo] }} }}]\n",
            upstream.url("/mcp"),
            introspection(&issuer.url(), &url, "gate", "")
        );
        let setup = Gateway::new().installation(&installation).file("ca.pem", &pem);
        let gateway = setup.secret("INTROSPECTION_SECRET", SECRET).policy("main", &policy).start().await;
        let scene = Scene { gateway, upstream, issuer: Issuer::start().await };
        if named {
            scene.accepts("an authority that the configuration names", OPAQUE).await;
        } else {
            let reply = scene.call("main", OPAQUE).await;
            assert_eq!((reply.status, reply.header("www-authenticate")), (503, ""), "{reply:?}");
            scene.upstream.assert_silent();
        }
    }
}

fn hash(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One service with everything: JWTs verified here, opaque tokens asked about, keys known by hash.
async fn mixed() -> (Scene, Introspector, Introspector, Issuer) {
    let (upstream, issuer, other) = (Upstream::mcp(&["echo"]).await, Issuer::start().await, Issuer::start().await);
    let (opaque, revocable) = (Introspector::start().await, Introspector::start().await);
    let policy = format!(
        "service: main\nroute: {{ path: /main/mcp }}\nupstream: {{ url: \"{}\" }}\nproviders:\n  \
         machines: {{ api_key: {{ keys: [{{ name: robot, sha256: \"{}\", expires: \"2099-01-01T00:00:00Z\" }}] }} }}\n  \
         people: {{ oidc: {{ issuer: \"{issuer}\" }} }}\n  opaque: {}\n  revocable: {}\n\
         authentication: {{ providers: [machines, people, opaque, revocable] }}\nrules: [{{ allow: {{ tools: [echo] }} }}]\n",
        upstream.url("/mcp"),
        hash("pk_4f1c9be2d07a4c6f8e35aa90d1b7c2e6"),
        introspection(&issuer.url(), &opaque.url(), "gate", ", tokens: opaque"),
        introspection(&other.url(), &revocable.url(), "gate", ", tokens: jwt"),
        issuer = issuer.url(),
    );
    let setup = Gateway::new().installation(INSTALLATION).secret("INTROSPECTION_SECRET", SECRET);
    (Scene { gateway: setup.policy("main", &policy).start().await, upstream, issuer }, opaque, revocable, other)
}

#[tokio::test]
async fn b07_providers_are_told_apart_before_anything_is_sent() {
    let (scene, opaque, revocable, other) = mixed().await;
    let url = scene.url("main");
    let silent = || opaque.asked().is_empty() && revocable.asked().is_empty();
    scene.accepts("an API key", "pk_4f1c9be2d07a4c6f8e35aa90d1b7c2e6").await;
    scene.accepts("a JWT whose issuer's keys are known", &scene.token(json!({}))).await;
    let stranger = Issuer::start().await;
    scene.refuses("a JWT of nobody's", &stranger.token(&url, json!({})), &["issuer-unknown"]).await;
    let forged = crate::support::keys::corrupted(&scene.token(json!({"jti": "forged"})));
    scene.refuses("a forged JWT of the issuer whose keys are known", &forged, &["signature-invalid"]).await;
    assert!(silent(), "nobody is asked about them: {:?} {:?}", opaque.asked(), revocable.asked());

    opaque.knows(OPAQUE, active(&scene.issuer.url(), &url));
    scene.accepts("an opaque token", OPAQUE).await;
    scene.refuses("a key that is on no list", "pk_0000000000000000", &["token-inactive"]).await;
    assert!(revocable.asked().is_empty(), "and only its provider is asked");

    let jwt = other.token(&url, json!({}));
    revocable.knows(&jwt, active(&other.url(), &url));
    scene.accepts("a JWT that is asked about", &jwt).await;
    scene.refuses("one that was revoked", &other.token(&url, json!({"jti": "gone"})), &["token-inactive"]).await;
    assert_eq!(opaque.asked(), [OPAQUE, "pk_0000000000000000"], "and JWTs go elsewhere");
    assert_eq!(revocable.asked().len(), 2);
    let metadata = Client::new(&url).fetch("/.well-known/oauth-protected-resource/main/mcp").await.json();
    assert_eq!(metadata["authorization_servers"], json!([scene.issuer.url(), other.url()]), "each issuer once");
    let lies: Value = active(&scene.issuer.url(), &url);
    let jwt = other.token(&url, json!({"jti": "lies"}));
    revocable.knows(&jwt, lies);
    scene.refuses("an answer in another issuer's name", &jwt, &["issuer-unknown"]).await;
}
