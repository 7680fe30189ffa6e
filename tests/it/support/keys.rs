//! Signing keys of every algorithm, made once per run, and tokens signed with them byte by byte.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// An algorithm together with one of the keys made for it. `Other` keys are valid keys that nobody published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    OtherRs256,
    Es256,
    Es384,
    Es512,
    OtherEs256,
    EdDsa,
    Hs256(&'static [u8]),
    Hs384(&'static [u8]),
    Hs512(&'static [u8]),
    /// No signature at all (`alg: none`).
    Unsigned,
}

struct Made {
    rsa: RsaKeyPair,
    other_rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    other_p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    p521: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

static MADE: LazyLock<Made> = LazyLock::new(|| Made {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key"),
    other_rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key"),
    p256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key"),
    other_p256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key"),
    p384: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).expect("a P-384 key"),
    p521: EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).expect("a P-521 key"),
    ed25519: Ed25519KeyPair::generate().expect("an Ed25519 key"),
});

/// Base64url without padding.
pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    /// The `alg` of the header.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Rs256 | Self::OtherRs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 | Self::OtherEs256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Hs256(_) => "HS256",
            Self::Hs384(_) => "HS384",
            Self::Hs512(_) => "HS512",
            Self::Unsigned => "none",
        }
    }

    /// The public half as a JWK under `kid`.
    pub fn jwk(self, kid: &str) -> Value {
        let mut jwk = match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => rsa_jwk(&MADE.rsa),
            Self::OtherRs256 => rsa_jwk(&MADE.other_rsa),
            Self::Es256 => ec_jwk(&MADE.p256, "P-256"),
            Self::OtherEs256 => ec_jwk(&MADE.other_p256, "P-256"),
            Self::Es384 => ec_jwk(&MADE.p384, "P-384"),
            Self::Es512 => ec_jwk(&MADE.p521, "P-521"),
            Self::EdDsa => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(MADE.ed25519.public_key())}),
            Self::Hs256(secret) | Self::Hs384(secret) | Self::Hs512(secret) => json!({"kty": "oct", "k": b64(secret)}),
            Self::Unsigned => panic!("no key publishes nothing"),
        };
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm());
        jwk
    }

    /// The private half of a P-256 key as PKCS #8 in PEM, for clients that sign by themselves.
    pub fn pem(self) -> String {
        let pair = match self {
            Self::Es256 => &MADE.p256,
            Self::OtherEs256 => &MADE.other_p256,
            _ => panic!("only P-256 keys leave"),
        };
        let document = pair.to_pkcs8v1().expect("PKCS #8");
        let text = base64::engine::general_purpose::STANDARD.encode(document.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    /// `header.claims.signature` over exactly these bytes, whatever they are.
    pub fn sign(self, header: &[u8], claims: &[u8]) -> String {
        let input = format!("{}.{}", b64(header), b64(claims));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", b64(signature))
    }

    fn signature(self, input: &[u8]) -> Vec<u8> {
        use aws_lc_rs::hmac;
        match self {
            Self::Rs256 => rsa_sign(&MADE.rsa, &signature::RSA_PKCS1_SHA256, input),
            Self::OtherRs256 => rsa_sign(&MADE.other_rsa, &signature::RSA_PKCS1_SHA256, input),
            Self::Rs384 => rsa_sign(&MADE.rsa, &signature::RSA_PKCS1_SHA384, input),
            Self::Rs512 => rsa_sign(&MADE.rsa, &signature::RSA_PKCS1_SHA512, input),
            Self::Ps256 => rsa_sign(&MADE.rsa, &signature::RSA_PSS_SHA256, input),
            Self::Ps384 => rsa_sign(&MADE.rsa, &signature::RSA_PSS_SHA384, input),
            Self::Ps512 => rsa_sign(&MADE.rsa, &signature::RSA_PSS_SHA512, input),
            Self::Es256 => ec_sign(&MADE.p256, input),
            Self::OtherEs256 => ec_sign(&MADE.other_p256, input),
            Self::Es384 => ec_sign(&MADE.p384, input),
            Self::Es512 => ec_sign(&MADE.p521, input),
            Self::EdDsa => MADE.ed25519.sign(input).as_ref().to_vec(),
            Self::Hs256(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input).as_ref().to_vec(),
            Self::Hs384(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, secret), input).as_ref().to_vec(),
            Self::Hs512(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret), input).as_ref().to_vec(),
            Self::Unsigned => Vec::new(),
        }
    }
}

/// The same token with one bit of its signature turned over.
pub fn corrupted(token: &str) -> String {
    let (input, signature) = token.rsplit_once('.').expect("three parts");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("a base64url signature");
    let last = bytes.last_mut().expect("a signature");
    *last ^= 1;
    format!("{input}.{}", b64(bytes))
}

fn rsa_jwk(pair: &RsaKeyPair) -> Value {
    let public = pair.public_key();
    let (modulus, exponent) = (public.modulus(), public.exponent());
    json!({"kty": "RSA", "n": b64(modulus.big_endian_without_leading_zero()), "e": b64(exponent.big_endian_without_leading_zero())})
}

fn ec_jwk(pair: &EcdsaKeyPair, curve: &str) -> Value {
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
}

fn rsa_sign(pair: &RsaKeyPair, scheme: &'static dyn signature::RsaEncoding, input: &[u8]) -> Vec<u8> {
    let mut out = vec![0; pair.public_modulus_len()];
    pair.sign(scheme, &SystemRandom::new(), input, &mut out).expect("an RSA signature");
    out
}

fn ec_sign(pair: &EcdsaKeyPair, input: &[u8]) -> Vec<u8> {
    pair.sign(&SystemRandom::new(), input).expect("an ECDSA signature").as_ref().to_vec()
}
