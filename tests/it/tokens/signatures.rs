//! Algorithms, signatures, and everything that once passed for one.

use serde_json::{Value, json};

use super::{ALGORITHMS, KEYS, MALFORMED, Scene};
use crate::support::issuer::merged;
use crate::support::keys::{b64, corrupted};
use crate::support::{Answer, Key, Upstream};

/// Half a token of `main`: the text that is signed, for this header.
fn input(scene: &Scene, header: &Value) -> String {
    format!("{}.{}", b64(header.to_string()), b64(scene.claims().to_string()))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

#[tokio::test]
async fn a01_the_algorithm_is_one_of_the_providers_byte_for_byte() {
    let scene = Scene::with(&KEYS, |scenery| {
        let (all, narrow) = (scenery.oidc(""), scenery.oidc("").replace(ALGORITHMS, "[ES256]"));
        scenery.service("main", &all, "", "").service("narrow", &narrow, "", "")
    })
    .await;
    for (kid, key) in KEYS {
        let token = scene.issuer.token_with(key, json!({"kid": kid}), &scene.url("main"), json!({}));
        scene.accepts(kid, &token).await;
        let case = format!("{kid} with one bit of its signature turned over");
        scene.refuses(&case, &corrupted(&token), &["signature-invalid"]).await;
    }
    for alg in ["rs256", "Rs256", "RS256 ", " RS256", "RS-256", "RSA256", "ES256K", "HS256x", "RS256\u{0}", ""] {
        let token =
            scene.issuer.token_with(Key::Rs256, json!({"kid": "rs256", "alg": alg}), &scene.url("main"), json!({}));
        let case = format!("alg {alg:?} (CVE-2026-23993: unknown algorithms must not verify)");
        scene.refuses(&case, &token, &["algorithm-refused"]).await;
    }
    let claims = scene.claims().to_string();
    for alg in ["null", "5", "[\"RS256\"]", "{\"a\":\"RS256\"}", "true"] {
        let token = scene.raw(&format!(r#"{{"alg":{alg},"kid":"rs256","typ":"at+jwt"}}"#), &claims);
        scene.refuses(&format!("alg {alg}"), &token, &["token-malformed"]).await;
    }
    scene.refuses("no alg", &scene.raw(r#"{"kid":"rs256"}"#, &claims), &["token-malformed"]).await;

    let narrow = scene.url("narrow");
    for (kid, key) in KEYS.iter().filter(|(kid, _)| *kid != "es256") {
        let token = scene.issuer.token_with(*key, json!({"kid": kid}), &narrow, json!({}));
        let case =
            format!("{kid} where only ES256 is configured (CVE-2026-22817, CVE-2026-22818: the token must not choose)");
        scene.refuses_at("narrow", &case, &token, &["algorithm-refused"]).await;
    }
    let good = scene.issuer.token_with(Key::Es256, json!({"kid": "es256"}), &narrow, json!({}));
    scene.accepts_at("narrow", "the one configured algorithm", &good).await;
}

#[tokio::test]
async fn a02_a_key_is_good_for_its_own_algorithm_only() {
    let scene = Scene::start().await;
    // The keys of the RSA family are one key: only the names and `alg` of the set keep them apart.
    for (kid, key) in [("rs256", Key::Ps256), ("rs256", Key::Rs512), ("ps256", Key::Rs256), ("ps384", Key::Ps256)] {
        let token = scene.issuer.token_with(key, json!({"kid": kid}), &scene.url("main"), json!({}));
        scene.refuses(&format!("{key:?} under the name {kid}"), &token, &["algorithm-refused"]).await;
    }
    for (kid, key) in [("es256", Key::EdDsa), ("eddsa", Key::Es256), ("es256", Key::Es384), ("rs256", Key::Es256)] {
        let token = scene.issuer.token_with(key, json!({"kid": kid}), &scene.url("main"), json!({}));
        scene.refuses(&format!("{key:?} under the name {kid}"), &token, &["algorithm-refused"]).await;
        let lying =
            json!({"kid": kid, "alg": KEYS.iter().find(|(name, _)| *name == kid).map(|(_, key)| key.algorithm())});
        let token = scene.issuer.token_with(key, lying, &scene.url("main"), json!({}));
        scene.refuses(&format!("{key:?} that lies about it"), &token, &["signature-invalid"]).await;
    }
    scene.accepts("the same key under its own name", &scene.token(json!({}))).await;
}

#[tokio::test]
async fn a03_none_in_every_spelling_and_missing_signatures_are_refused() {
    let scene = Scene::start().await;
    let good = scene.token(json!({}));
    let signature = good.rsplit('.').next().expect("a signature").to_owned();
    for alg in ["none", "None", "NONE", "nOnE", "noNe", "none ", "nonе"] {
        let input = input(&scene, &json!({"alg": alg, "typ": "at+jwt", "kid": "rs256"}));
        for (shape, token) in [
            ("an empty signature", format!("{input}.")),
            ("no third segment", input.clone()),
            ("another token's signature", format!("{input}.{signature}")),
            ("a signature of one byte", format!("{input}.AA")),
        ] {
            let reasons = ["algorithm-refused", "token-malformed", "issuer-unknown"];
            scene.refuses(&format!("alg {alg:?} with {shape} (RFC 8725 section 2.1)"), &token, &reasons).await;
        }
    }
    for (kid, key) in KEYS {
        let input = input(&scene, &json!({"alg": key.algorithm(), "typ": "at+jwt", "kid": kid}));
        scene.refuses(&format!("{kid} without a signature"), &format!("{input}."), MALFORMED).await;
        scene.refuses(&format!("{kid} without a third segment"), &input, MALFORMED).await;
        scene.refuses(&format!("{kid} of one zero byte"), &format!("{input}.AA"), &["signature-invalid"]).await;
    }
    scene.accepts("the token whose signature was lent", &good).await;
}

/// The order of the curve's group, which r and s must be below (FIPS 186-5 section 6.4.2).
const ORDERS: [(&str, Key, &str); 3] = [
    ("es256", Key::Es256, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
    (
        "es384",
        Key::Es384,
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    ),
    (
        "es512",
        Key::Es512,
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
    ),
];

#[tokio::test]
async fn a05_ecdsa_signatures_out_of_range_or_form_are_refused() {
    let scene = Scene::start().await;
    for (kid, key, order) in ORDERS {
        let good = scene.issuer.token_with(key, json!({"kid": kid}), &scene.url("main"), json!({}));
        scene.accepts(kid, &good).await;
        let (input, signature) = good.rsplit_once('.').expect("three segments");
        let signature = decoded(signature);
        let (r, s) = signature.split_at(signature.len() / 2);
        let (zero, order) = (vec![0; r.len()], hex(order));
        assert_eq!(order.len(), r.len(), "{kid}: an order is as long as half a signature");
        let mut above = order.clone();
        *above.last_mut().expect("a last byte") += 1;
        for (case, forged) in [
            ("r and s are zero (CVE-2022-21449)", [&zero[..], &zero].concat()),
            ("r is zero (CVE-2022-21449)", [&zero[..], s].concat()),
            ("s is zero (CVE-2022-21449)", [r, &zero].concat()),
            ("r and s are the order (CVE-2022-21449)", [&order[..], &order].concat()),
            ("r is the order", [&order[..], s].concat()),
            ("s is the order", [r, &order].concat()),
            ("s is above the order", [r, &above].concat()),
            ("all ones", vec![0xff; signature.len()]),
            ("DER instead of raw", der(r, s)),
            ("one byte short", signature[1..].to_vec()),
            ("one byte long", [&[0][..], &signature].concat()),
            ("r and s change places", [s, r].concat()),
            ("only r", r.to_vec()),
            ("twice", [&signature[..], &signature].concat()),
        ] {
            let token = format!("{input}.{}", b64(forged));
            scene.refuses(&format!("{kid}: {case}"), &token, &["signature-invalid"]).await;
        }
    }
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let number: Vec<u8> = [0].iter().chain(number.iter().skip_while(|byte| **byte == 0)).copied().collect();
        [&[2, u8::try_from(number.len()).expect("short")][..], &number].concat()
    };
    let content = [integer(r), integer(s)].concat();
    let length = u8::try_from(content.len()).expect("short");
    let head = if length < 128 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    [head, content].concat()
}

#[tokio::test]
async fn a06_key_material_in_a_token_is_never_used_and_never_fetched() {
    let scene = Scene::start().await;
    let attacker = Key::OtherRs256.jwk("mine");
    let set = json!({"keys": [attacker.clone()]});
    let trap = Upstream::start(move |_| Answer::json(&set)).await;
    let url = trap.url("/keys.json");
    let chain = json!([b64([0x30, 0x03, 0x02, 0x01, 0x01])]);
    for (case, header) in [
        ("jwk (CVE-2026-27962)", json!({"jwk": attacker})),
        ("jku", json!({"jku": url})),
        ("x5u", json!({"x5u": url})),
        ("x5c", json!({"x5c": chain})),
        ("x5t", json!({"x5t": "AA", "x5t#S256": "AA"})),
        ("everything at once", json!({"jwk": attacker, "jku": url, "x5u": url, "x5c": chain})),
        ("a kid that is a URL", json!({"kid": url})),
    ] {
        for kid in [None, Some("rs256"), Some("mine")] {
            let named = merged(json!({"kid": kid}), header.clone());
            let token = scene.issuer.token_with(Key::OtherRs256, named, &scene.url("main"), json!({}));
            let case = format!("the attacker's key by {case}, kid {kid:?}");
            scene.refuses(&case, &token, &["key-unknown", "signature-invalid"]).await;
        }
        let named = merged(json!({"kid": "rs256"}), header.clone());
        if named["kid"] == "rs256" {
            let token = scene.issuer.token_with(Key::Rs256, named, &scene.url("main"), json!({}));
            scene.accepts(&format!("{case} beside a signature of the issuer's own"), &token).await;
        }
    }
    trap.assert_silent();
}

#[tokio::test]
async fn a07_critical_extensions_and_unencoded_payloads_are_refused() {
    let scene = Scene::start().await;
    let claims = scene.claims().to_string();
    for more in [
        r#""crit":["b64"],"b64":false"#,
        r#""crit":["exp"],"exp":1"#,
        r#""crit":[]"#,
        r#""crit":["x","x"],"x":1"#,
        r#""crit":["alg"]"#,
        r#""crit":["http://example.com/UNDEFINED"]"#,
        r#""crit":"b64""#,
        r#""crit":null"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""enc":"A256GCM""#,
    ] {
        let token = scene.raw(&format!(r#"{{"alg":"RS256","kid":"rs256","typ":"at+jwt",{more}}}"#), &claims);
        let case = format!("{more} (CVE-2025-59420, CVE-2026-32597: crit must be understood or refused)");
        scene.refuses(&case, &token, &["token-malformed"]).await;
    }
    let token = scene.raw(r#"{"alg":"RS256","kid":"rs256","typ":"at+jwt","private":[1]}"#, &claims);
    scene.accepts("a member that nobody calls critical", &token).await;
}
