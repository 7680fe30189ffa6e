//! The cast itself, without a gateway: a witness that forgets or a token that verifies for no key would prove nothing.

use std::time::Duration;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::issuer::now;
use crate::support::keys::corrupted;
use crate::support::{Answer, Client, Era, Issuer, Key, Upstream, raw};

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a part of the token");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// Checks a signature with the public half that the key publishes.
fn verifies(token: &str, algorithm: &'static dyn VerificationAlgorithm, public: &[u8]) -> bool {
    let (input, signature) = token.rsplit_once('.').expect("three parts");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    UnparsedPublicKey::new(algorithm, public).verify(input.as_bytes(), &signature).is_ok()
}

fn point(jwk: &Value) -> Vec<u8> {
    let decode = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().expect("a coordinate")).expect("base64url");
    [vec![4], decode("x"), decode("y")].concat()
}

#[tokio::test]
async fn an_upstream_remembers_each_request_as_it_came() {
    let upstream = Upstream::mcp(&["echo"]).await;
    upstream.assert_silent();
    let client = Client::new(&upstream.url("/mcp?x=1")).header("x-twice", "a").header("x-twice", "b");
    let reply = client.call_tool("echo", json!({"text": "hi"})).await;
    assert_eq!(reply.json()["result"]["content"][0]["text"], r#"{"text":"hi"}"#);
    assert_eq!(client.list("tools").await.names("tools"), ["echo"]);

    let received = upstream.received();
    assert_eq!(received.len(), 2, "{received:#?}");
    assert_eq!((received[0].method.as_str(), received[0].path.as_str()), ("POST", "/mcp?x=1"));
    assert_eq!(received[0].header("x-twice"), ["a", "b"]);
    assert_eq!(received[0].header("mcp-name"), ["echo"]);
    assert_eq!(received[0].json()["params"]["name"], "echo");
    upstream.forget();
    upstream.assert_silent();
}

#[tokio::test]
async fn an_upstream_answers_as_scripted() {
    let upstream = Upstream::start(|request| match request.path.as_str() {
        "/sse" => Answer::sse(&[json!({"n": 1}), json!({"n": 2})], Duration::from_millis(5)),
        "/broken" => Answer::status(200).body("half").then_breaks(),
        _ => Answer::json(&json!({})).with_status(418).header("x-tea", "pot").after(Duration::from_millis(1)),
    })
    .await;
    let client = Client::new(&upstream.url("/sse")).era(Era::Legacy);
    assert_eq!(client.list("tools").await.json()["n"], 2, "the last event is the answer");
    let teapot = client.fetch("/tea").await;
    assert_eq!((teapot.status, teapot.header("x-tea")), (418, "pot"));
    let address = upstream.url("").trim_start_matches("http://").parse().expect("an address");
    let broken = raw(address, b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(broken.ends_with(b"half\r\n"), "the body never ends: {}", String::from_utf8_lossy(&broken));

    let garbage = Upstream::garbage(b"not http\n").await;
    let address = garbage.url("").trim_start_matches("http://").parse().expect("an address");
    assert_eq!(raw(address, b"anything").await, b"not http\n");
}

#[tokio::test]
async fn an_issuer_signs_what_it_publishes_and_counts_who_asks() {
    let issuer = Issuer::start().await;
    let client = Client::new(&issuer.url());
    let discovered = client.fetch("/.well-known/openid-configuration").await.json();
    assert_eq!(discovered["issuer"], issuer.url());
    assert_eq!(client.fetch("/jwks").await.json()["keys"][0]["kid"], "rs256");
    assert_eq!((issuer.discoveries(), issuer.key_fetches()), (1, 1));

    let token = issuer.token("api://x", json!({"scope": "a b", "jti": null}));
    assert_eq!((&part(&token, 0)["kid"], &part(&token, 0)["alg"]), (&json!("rs256"), &json!("RS256")));
    let claims = part(&token, 1);
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!("api://x"), &json!("a b")));
    assert!(claims["exp"].as_u64().expect("exp") > now() && claims.get("jti").is_none());

    issuer.rotate(&[("next", Key::Es256)]);
    assert_eq!(part(&issuer.token("x", json!({})), 0)["kid"], "next");
    issuer.fail_with(Some(503));
    assert_eq!(client.fetch("/jwks").await.status, 503);
    issuer.fail_with(None);
    issuer.stall(Duration::from_millis(1));
    assert_eq!(client.fetch("/jwks").await.json()["keys"][0]["kid"], "next");
}

#[test]
fn signatures_verify_with_the_published_key_and_no_other() {
    let sign = |key: Key| key.sign(b"{}", b"{}");
    for (key, algorithm) in [
        (Key::Es256, &signature::ECDSA_P256_SHA256_FIXED),
        (Key::OtherEs256, &signature::ECDSA_P256_SHA256_FIXED),
        (Key::Es384, &signature::ECDSA_P384_SHA384_FIXED),
        (Key::Es512, &signature::ECDSA_P521_SHA512_FIXED),
    ] {
        let public = point(&key.jwk("k"));
        assert!(verifies(&sign(key), algorithm, &public), "{key:?}");
        assert!(!verifies(&corrupted(&sign(key)), algorithm, &public), "{key:?} corrupted");
    }
    assert!(!verifies(&sign(Key::OtherEs256), &signature::ECDSA_P256_SHA256_FIXED, &point(&Key::Es256.jwk("k"))));
    let ed25519 = URL_SAFE_NO_PAD.decode(Key::EdDsa.jwk("k")["x"].as_str().expect("x")).expect("base64url");
    assert!(verifies(&sign(Key::EdDsa), &signature::ED25519, &ed25519));
    assert_ne!(Key::Rs256.jwk("k")["n"], Key::OtherRs256.jwk("k")["n"]);
    let keys = [Key::Rs256, Key::Rs384, Key::Rs512, Key::Ps256, Key::Ps384, Key::Ps512, Key::OtherRs256];
    for key in keys {
        let jwk = key.jwk("k");
        let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().expect("a member")).expect("base64url");
        let public = signature::RsaPublicKeyComponents { n: member("n"), e: member("e") };
        let token = sign(key);
        let (input, signed) = token.rsplit_once('.').expect("three parts");
        let signed = URL_SAFE_NO_PAD.decode(signed).expect("base64url");
        assert!(public.verify(rsa_parameters(key), input.as_bytes(), &signed).is_ok(), "{key:?}");
    }
    let secret = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    for (key, length) in [(Key::Hs256(secret), 43), (Key::Hs384(secret), 64), (Key::Hs512(secret), 86)] {
        assert_eq!(sign(key).rsplit('.').next().map(str::len), Some(length), "{key:?}");
    }
    assert!(sign(Key::Unsigned).ends_with('.'));
}

fn rsa_parameters(key: Key) -> &'static signature::RsaParameters {
    match key.algorithm() {
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}
