//! Keys and secrets too weak to use, said by `portcullis check` before anything is served, and how secrets are compared.

use std::path::Path;

use serde_json::{Value, json};

use super::confusion::public_forms;
use super::{ALGORITHMS, KEYS, Scene, check};
use crate::support::gateway::Setup;
use crate::support::keys::b64;
use crate::support::{Answer, Gateway, Key, Upstream};

fn policy(provider: &str) -> String {
    format!(
        "service: keys\nroute: {{ path: /keys/mcp }}\nupstream: {{ url: \"http://127.0.0.1:9/mcp\" }}\n\
         providers: {{ own: {provider} }}\nauthentication: {{ providers: [own] }}\nrules: [{{ allow: {{ tools: [echo] }} }}]\n"
    )
}

fn inline(set: &Value) -> Setup {
    let provider =
        format!("{{ jwks: {{ issuer: \"https://own.example.com\", algorithms: {ALGORITHMS}, inline: {set} }} }}");
    Gateway::new().policy("keys", &policy(&provider))
}

fn hmac(algorithms: &str, secret: &[u8]) -> Setup {
    let provider = format!(
        "{{ hmac: {{ issuer: \"https://own.example.com\", algorithms: {algorithms}, secrets: [{{ file: secret }}] }} }}"
    );
    let setup = Gateway::new().policy("keys", &policy(&provider));
    std::fs::write(setup.directory().join("policies/secret"), secret).expect("a secret");
    setup
}

/// 65537 to the power of 128: 2049 bits, and modulo every prime a power of 65537, as ROCA's moduli are.
fn roca() -> Vec<u8> {
    let mut number = vec![1_u8];
    for _ in 0..128 {
        // Times 65537 is: two bytes further, plus itself.
        let mut product = number.clone();
        product.extend([0, 0]);
        let mut carry = 0_u16;
        for index in (0..product.len()).rev() {
            let from_end = product.len() - 1 - index;
            let own = number.len().checked_sub(from_end + 1).map_or(0, |at| number[at]);
            let sum = u16::from(product[index]) + u16::from(own) + carry;
            product[index] = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        if carry > 0 {
            product.insert(0, u8::try_from(carry).expect("one byte"));
        }
        number = product;
    }
    number
}

#[test]
fn a20_weak_keys_do_not_load() {
    let rsa = Key::Rs256.jwk("k");
    let with = |name: &str, value: Value| {
        let mut jwk = rsa.clone();
        jwk[name] = value;
        json!({"keys": [jwk]})
    };
    let mut ec = Key::Es256.jwk("k");
    ec["y"] = json!(b64([1; 32]));
    for (case, set, says) in [
        ("RSA of 1024 bits", with("n", json!(b64([0xf1; 128]))), "modulus"),
        ("RSA of 2047 bits", with("n", json!(b64([&[0x7f][..], &[0xf1; 255]].concat()))), "modulus"),
        ("RSA of 16384 bits", with("n", json!(b64([0xf1; 2048]))), "modulus"),
        ("an even modulus", with("n", json!(b64([0xf0; 256]))), "modulus"),
        ("the exponent 1", with("e", json!(b64([1]))), "exponent"),
        ("an even exponent", with("e", json!(b64([1, 0, 0]))), "exponent"),
        ("no exponent", with("e", json!("")), "exponent"),
        ("ROCA (CVE-2017-15361)", with("n", json!(b64(roca()))), "ROCA"),
        ("a point off the curve", json!({"keys": [ec]}), "curve"),
        ("a private key", with("d", json!("AQAB")), "private"),
        ("a key for encryption", with("use", json!("enc")), "verifying"),
        ("a key for signing only", with("key_ops", json!(["sign"])), "verifying"),
        ("an algorithm of another type of key", with("alg", json!("ES256")), "algorithm"),
        ("alg none", with("alg", json!("none")), "algorithm"),
        ("alg HS256", with("alg", json!("HS256")), "algorithm"),
        ("a name of 257 bytes", with("kid", json!("k".repeat(257))), "malformed"),
        ("one name twice", json!({"keys": [rsa.clone(), Key::Es256.jwk("k")]}), "same `kid`"),
        ("a secret among them", json!({"keys": [rsa.clone(), Key::Hs256(b"x").jwk("s")]}), "secret"),
        ("no key", json!({"keys": []}), "no key"),
        ("no set", json!({"key": [rsa.clone()]}), "JWK Set"),
    ] {
        let (content, said) = check(&inline(&set));
        assert!(!content, "{case} must not load (RFC 7518 section 3): {said}");
        assert!(said.contains("invalid-key") && said.contains(says), "{case}: {said}");
    }
    let good = json!({"keys": KEYS.iter().map(|(kid, key)| key.jwk(kid)).collect::<Vec<_>>()});
    let (content, said) = check(&inline(&good));
    assert!(content, "every kind of good key loads: {said}");
}

#[test]
fn a20_secrets_shorter_than_the_hash_do_not_load() {
    let random: Vec<u8> = (0..64_u8).map(|index| index.wrapping_mul(37).wrapping_add(11)).collect();
    let text = b64(&random).into_bytes();
    for (algorithms, least) in [("[HS256]", 32), ("[HS384]", 48), ("[HS512]", 64), ("[HS256, HS512]", 64)] {
        let (content, said) = check(&hmac(algorithms, &text[..least - 1]));
        assert!(!content && said.contains("weak-secret"), "{algorithms} with {} bytes: {said}", least - 1);
        assert!(said.contains(&format!("{least} bytes")), "how long it must be: {said}");
        assert!(!said.contains(std::str::from_utf8(&text[..least - 1]).expect("text")), "a secret is never printed");
        let (content, said) = check(&hmac(algorithms, &text[..least]));
        assert!(content, "{algorithms} with {least} bytes: {said}");
    }
    let regular = [b"a".repeat(64), b"ab".repeat(32), vec![0; 64]];
    for secret in regular {
        let (content, said) = check(&hmac("[HS256]", &secret));
        assert!(!content && said.contains("weak-secret"), "{secret:?} is no random secret: {said}");
    }
    for (case, secret) in public_forms() {
        // Bare binary and bare numbers are told from secrets by nobody; what is spelt as a key is.
        if case.contains("PEM") || case.contains("JWK") {
            let (content, said) = check(&hmac("[HS256]", secret));
            assert!(!content && said.contains("weak-secret"), "{case} as a secret (CVE-2026-34950): {said}");
        }
    }
}

#[test]
fn a12_a_leeway_above_five_minutes_does_not_load() {
    let provider = |leeway: &str| format!("{{ oidc: {{ issuer: \"https://own.example.com\", leeway: {leeway} }} }}");
    let (content, said) = check(&Gateway::new().policy("keys", &policy(&provider("301s"))));
    assert!(!content && said.contains("leeway"), "{said}");
    let (content, said) = check(&Gateway::new().policy("keys", &policy(&provider("5m"))));
    assert!(content, "{said}");
}

#[tokio::test]
async fn a21_ambiguous_keys_of_a_fetched_set_serve_nobody() {
    let keys = [("twice", Key::Rs256), ("twice", Key::Es256), ("once", Key::EdDsa)];
    let scene = Scene::with(&keys, |scenery| {
        let provider = scenery.oidc("");
        scenery.service("main", &provider, "", "")
    })
    .await;
    let sign = |kid: &str, key: Key| scene.issuer.token_with(key, json!({"kid": kid}), &scene.url("main"), json!({}));
    scene.accepts("a name that occurs once", &sign("once", Key::EdDsa)).await;
    scene.refuses("the first of two of one name", &sign("twice", Key::Rs256), &["key-unknown"]).await;
    scene.refuses("the second of two of one name", &sign("twice", Key::Es256), &["key-unknown"]).await;
    for key in [Key::Rs256, Key::Es256] {
        let unnamed = scene.issuer.token_with(key, json!({}), &scene.url("main"), json!({}));
        scene.refuses("no name at all", &unnamed, &["key-unknown"]).await;
    }
}

#[tokio::test]
async fn a20_a_weak_key_of_a_fetched_set_serves_nobody_and_harms_no_other() {
    let mut weak = Key::Rs256.jwk("weak");
    weak["n"] = json!(b64([0xf1; 128]));
    let set = json!({"keys": [weak, Key::Rs256.jwk("rs256")]});
    let keys = Upstream::start(move |_| Answer::json(&set)).await;
    let scene = Scene::with(&KEYS, |scenery| {
        let provider = format!(
            "{{ jwks: {{ issuer: \"{}\", algorithms: [RS256], url: \"{}\" }} }}",
            scenery.issuer,
            keys.url("/keys")
        );
        scenery.service("main", &provider, "", "")
    })
    .await;
    let named = |kid: &str| scene.issuer.token_with(Key::Rs256, json!({"kid": kid}), &scene.url("main"), json!({}));
    scene.accepts("the strong key", &named("rs256")).await;
    scene.refuses("the weak key, as if it were not there", &named("weak"), &["key-unknown"]).await;
    let said = scene.gateway.wait_for_log(|record| record.to_string().contains("key-left-out")).await;
    assert!(said.to_string().contains("modulus"), "the log says why: {said}");
}

#[tokio::test]
async fn a21_a_set_with_a_secret_in_it_is_refused_whole() {
    const SECRET: &[u8] = b"a-secret-that-was-published-by-mistake-0123456789";
    let set = json!({"keys": [Key::Rs256.jwk("rs256"), Key::Hs256(SECRET).jwk("hs256")]});
    let keys = Upstream::start(move |_| Answer::json(&set)).await;
    let scene = Scene::with(&KEYS, |scenery| {
        let mixed = format!(
            "{{ jwks: {{ issuer: \"{}\", algorithms: [RS256], url: \"{}\" }} }}",
            scenery.issuer,
            keys.url("/keys")
        );
        let good = scenery.oidc("");
        scenery.service("mixed", &mixed, "", "").service("main", &good, "", "")
    })
    .await;
    let sign = |key: Key, kid: &str| scene.issuer.token_with(key, json!({"kid": kid}), &scene.url("mixed"), json!({}));
    let reply = scene.call("mixed", &sign(Key::Rs256, "rs256")).await;
    assert_eq!(reply.status, 503, "no key of such a set is used: {reply:?}");
    scene.upstream.assert_silent();
    let published = sign(Key::Hs256(SECRET), "hs256");
    scene.refuses_at("mixed", "the published secret as a secret", &published, &["algorithm-refused"]).await;
    scene.gateway.wait_for_log(|record| record.to_string().contains("keys-unavailable")).await;
    assert!(!scene.gateway.printed().contains(&b64(SECRET)), "and its secret is not printed");
    scene.accepts("the set without the secret", &scene.token(json!({}))).await;
}

/// The words by which secrets, and what is made of them, are called in the sources.
const SECRET_WORDS: [&str; 7] = ["secret", "sha256", "signature", "mac", "digest", "tag", "expected"];

#[test]
fn a23_secrets_are_compared_in_constant_time_and_nowhere_by_operator() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: &Path| std::fs::read_to_string(path).expect("a source file");
    let mut waiting: Vec<_> = ["providers", "oauth/jws", "oauth/key", "engine"].map(|folder| src.join(folder)).into();
    let mut files = Vec::new();
    while let Some(folder) = waiting.pop() {
        for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                waiting.push(path);
            } else if !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20, "the walk finds the sources: {files:?}");
    for path in files {
        let text = read(&path);
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in product.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            assert!(
                !compares_a_secret(line),
                "{}: compare with `subtle` (CVE-2026-32595, CVE-2026-41263): {line}",
                path.display()
            );
        }
    }
    let keys = read(&src.join("providers/api_key.rs"));
    assert!(keys.contains("ct_eq"), "the hashes of API keys are compared by `subtle`");
    for planted in ["if key.sha256 == hash {", "secret != other", "if digest.eq(&wanted)", "self.mac == mac"] {
        assert!(compares_a_secret(planted), "a comparison is noticed: {planted}");
    }
    assert!(!compares_a_secret("if self.signature.is_empty() {"), "and what is none is not");
}

fn compares_a_secret(line: &str) -> bool {
    let word =
        |text: &str| text.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
    [" == ", " != ", ".eq("].iter().any(|operator| {
        line.match_indices(operator).any(|(at, _)| {
            let before = word(line[..at].trim_end_matches([')', ']', '(']));
            let after = line[at + operator.len()..].trim_start_matches(['&', '*', '(']);
            let after = after.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').next().unwrap_or_default();
            let after = word(after);
            SECRET_WORDS.iter().any(|secret| before == *secret || after == *secret)
        })
    })
}
