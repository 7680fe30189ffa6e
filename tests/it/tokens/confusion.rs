//! Public keys in the place of secrets, and tokens of one issuer in the place of another's.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{KEYS, Scene};
use crate::support::issuer::merged;
use crate::support::{Issuer, Key};

const SECRET: &[u8] = b"shared-secret-of-the-own-issuer-0123456789-abcdefghijklmnopqrstuvwxyz";

fn decoded(jwk: &Value, member: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwk[member].as_str().expect("a member")).expect("base64url")
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match u8::try_from(length) {
        Ok(short @ ..128) => vec![tag, short],
        Ok(short) => vec![tag, 0x81, short],
        Err(_) => vec![tag, 0x82, u8::try_from(length >> 8).expect("under 64 KiB"), (length & 0xff) as u8],
    };
    [head, content.to_vec()].concat()
}

/// `RSAPublicKey` and `SubjectPublicKeyInfo` of an RSA key.
fn rsa_der(jwk: &Value) -> [Vec<u8>; 2] {
    let integer = |member: &str| tagged(2, &[&[0], &decoded(jwk, member)[..]].concat());
    let exponent = tagged(2, &decoded(jwk, "e"));
    let pkcs1 = tagged(0x30, &[integer("n"), exponent].concat());
    let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let spki = tagged(0x30, &[&algorithm[..], &tagged(3, &[&[0], &pkcs1[..]].concat())].concat());
    [pkcs1, spki]
}

fn p256_der(jwk: &Value) -> Vec<u8> {
    let algorithm = [0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let point = [&[0, 4], &decoded(jwk, "x")[..], &decoded(jwk, "y")].concat();
    tagged(0x30, &[&algorithm[..], &tagged(3, &point)].concat())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// What somebody who knows only the published set could use as a secret.
pub fn public_forms() -> Vec<(String, &'static [u8])> {
    let (rsa, p256) = (Key::Rs256.jwk("rs256"), Key::Es256.jwk("es256"));
    let [pkcs1, spki] = rsa_der(&rsa);
    let ec = p256_der(&p256);
    let texts = [
        ("SPKI PEM (CVE-2023-48223)", pem("PUBLIC KEY", &spki)),
        ("PKCS#1 PEM", pem("RSA PUBLIC KEY", &pkcs1)),
        ("EC PEM", pem("PUBLIC KEY", &ec)),
        ("JWK text", rsa.to_string()),
        ("JWK set text", json!({"keys": [rsa]}).to_string()),
        ("modulus text", rsa["n"].as_str().expect("n").to_owned()),
    ];
    let mut forms: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, text) in texts {
        let trimmed = text.trim().to_owned();
        for (shape, text) in [
            ("as it is", text.clone()),
            ("trimmed", trimmed.clone()),
            ("after a blank (CVE-2026-34950)", format!(" {text}")),
            ("after a line end (CVE-2026-34950)", format!("\n{text}")),
            ("with CRLF", trimmed.replace('\n', "\r\n")),
            ("with more line ends", format!("{trimmed}\n\n")),
        ] {
            forms.push((format!("{name} {shape}"), text.into_bytes()));
        }
    }
    forms.push(("SPKI DER".to_owned(), spki));
    forms.push(("PKCS#1 DER".to_owned(), pkcs1));
    forms.push(("EC DER".to_owned(), ec));
    forms.push(("the modulus".to_owned(), decoded(&rsa, "n")));
    // Keys of this cast live as long as the test does.
    forms.into_iter().map(|(name, bytes)| (name, &*bytes.leak())).collect()
}

#[tokio::test]
async fn a04_no_form_of_a_public_key_is_a_secret() {
    // One service accepts both kinds, which is where confusion would start.
    let scene = Scene::with(&KEYS, |scenery| {
        let asymmetric = scenery.oidc("");
        let scenery = scenery.policy(
            "main",
            &format!(
                r#"
service: main
route: {{ path: /main/mcp }}
upstream: {{ url: "UPSTREAM" }}
providers:
  corp: {asymmetric}
  own: {{ hmac: {{ issuer: "https://own.example.com", algorithms: [HS256], secrets: [{{ env: OWN_SECRET }}] }} }}
authentication: {{ providers: [corp, own] }}
rules: [{{ allow: {{ tools: [echo] }} }}]
"#
            ),
        );
        let secret = std::str::from_utf8(SECRET).expect("text");
        super::Scenery { setup: scenery.setup.secret("OWN_SECRET", secret), ..scenery }
    })
    .await;
    let main = scene.url("main");
    let own = json!({"iss": "https://own.example.com"});
    for (case, secret) in public_forms() {
        for key in [Key::Hs256(secret), Key::Hs384(secret), Key::Hs512(secret)] {
            let case = format!("{} with {case}", key.algorithm());
            for header in [json!({"kid": "rs256"}), json!({})] {
                let token = scene.issuer.token_with(key, header, &main, json!({}));
                scene.refuses(&case, &token, &["algorithm-refused"]).await;
            }
        }
        let token = scene.issuer.token_with(Key::Hs256(secret), json!({}), &main, own.clone());
        scene.refuses(&format!("{case} as the own issuer's secret"), &token, &["signature-invalid"]).await;
    }
    let crossed = scene.issuer.token_with(Key::Rs256, json!({"kid": "rs256"}), &main, own.clone());
    scene.refuses("a public key's signature for the secret's issuer", &crossed, &["algorithm-refused"]).await;
    let crossed = scene.issuer.token_with(Key::Hs256(SECRET), json!({}), &main, json!({}));
    scene.refuses("the secret's signature for the public key's issuer", &crossed, &["algorithm-refused"]).await;

    scene.accepts("the issuer's own signature", &scene.token(json!({}))).await;
    let good = scene.issuer.token_with(Key::Hs256(SECRET), json!({}), &main, own);
    scene.accepts("the secret's own signature", &good).await;
}

#[tokio::test]
async fn a13_equal_kids_of_two_issuers_never_meet() {
    let other = Issuer::publishing(&[("k", Key::OtherEs256)]).await;
    let scene = Scene::with(&[("k", Key::Es256)], |scenery| {
        scenery.policy(
            "main",
            &format!(
                r#"
service: main
route: {{ path: /main/mcp }}
upstream: {{ url: "UPSTREAM" }}
providers:
  one: {{ oidc: {{ issuer: "ISSUER" }} }}
  two: {{ oidc: {{ issuer: "{}" }} }}
authentication: {{ providers: [one, two] }}
rules: [{{ allow: {{ tools: [echo] }} }}]
"#,
                other.url()
            ),
        )
    })
    .await;
    let sign = |key: Key, issuer: &str| {
        let claims = merged(scene.claims(), json!({"iss": issuer}));
        key.sign(br#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#, claims.to_string().as_bytes())
    };
    let (one, two) = (scene.issuer.url(), other.url());
    for _ in 0..2 {
        // In the second round every good token is known already: what is known may not help the crossed ones.
        scene.refuses("the key of two for one", &sign(Key::OtherEs256, &one), &["signature-invalid"]).await;
        scene.refuses("the key of one for two", &sign(Key::Es256, &two), &["signature-invalid"]).await;
        scene.accepts("one's own", &sign(Key::Es256, &one)).await;
        scene.accepts("two's own", &sign(Key::OtherEs256, &two)).await;
    }
}

#[tokio::test]
async fn a13_the_issuer_is_spelt_exactly() {
    let scene = Scene::start().await;
    let issuer = scene.issuer.url();
    let upper = issuer.replace("http:", "HTTP:");
    for spelt in [
        json!(format!("{issuer}/")),
        json!(upper),
        json!(issuer.replace("127.0.0.1", "localhost")),
        json!(format!("{issuer}.evil.test")),
        json!(format!("{issuer}@evil.test")),
        json!(format!(" {issuer}")),
        json!(format!("{issuer} ")),
        json!(format!("{issuer}#")),
        json!(&issuer[..issuer.len() - 1]),
        json!(""),
        json!([issuer]),
        json!({"iss": issuer}),
        json!(5),
    ] {
        let token = scene.token(json!({"iss": spelt}));
        scene.refuses(&format!("iss {spelt}"), &token, &["issuer-unknown"]).await;
    }
    scene.refuses("no iss", &scene.token(json!({"iss": null})), &["issuer-unknown"]).await;
    scene.accepts("the issuer itself", &scene.token(json!({}))).await;
}
