//! Keys and tokens for tests: signs whatever text a test wants, well-formed or not.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::jws::Algorithm;

/// Encodes bytes as a segment.
pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair.
pub(crate) enum TestKey {
    Rsa(RsaKeyPair),
    Ec(&'static str, EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

fn ec(curve: &'static str, algorithm: &'static EcdsaSigningAlgorithm) -> TestKey {
    TestKey::Ec(curve, EcdsaKeyPair::generate(algorithm).unwrap())
}

pub(crate) static RSA: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
pub(crate) static RSA_OTHER: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
pub(crate) static P256: LazyLock<TestKey> = LazyLock::new(|| ec("P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING));
pub(crate) static P384: LazyLock<TestKey> = LazyLock::new(|| ec("P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING));
pub(crate) static P521: LazyLock<TestKey> = LazyLock::new(|| ec("P-521", &signature::ECDSA_P521_SHA512_FIXED_SIGNING));
pub(crate) static ED: LazyLock<TestKey> = LazyLock::new(|| TestKey::Ed(Ed25519KeyPair::generate().unwrap()));
pub(crate) static SECRET: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::Secret(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-".to_vec()));

impl TestKey {
    /// The key that an algorithm needs.
    pub(crate) fn of(algorithm: Algorithm) -> &'static Self {
        use super::key::KeyType;
        match algorithm.key_type() {
            KeyType::Secret => &SECRET,
            KeyType::Rsa => &RSA,
            KeyType::P256 => &P256,
            KeyType::P384 => &P384,
            KeyType::P521 => &P521,
            KeyType::Ed25519 => &ED,
        }
    }

    /// The raw signature of `message`.
    pub(crate) fn sign_bytes(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn signature::RsaEncoding = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ec(_, pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Secret(secret) => {
                let algorithm = match algorithm {
                    Algorithm::Hs256 => aws_lc_rs::hmac::HMAC_SHA256,
                    Algorithm::Hs384 => aws_lc_rs::hmac::HMAC_SHA384,
                    _ => aws_lc_rs::hmac::HMAC_SHA512,
                };
                aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
            }
        }
    }

    /// A token over exactly these texts.
    pub(crate) fn token(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(claims));
        format!("{input}.{}", b64(self.sign_bytes(algorithm, input.as_bytes())))
    }

    /// The public JWK without `alg`.
    pub(crate) fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": b64(public.modulus().big_endian_without_leading_zero()),
                    "e": b64(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Self::Ec(curve, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": b64(x), "y": b64(y) })
            }
            Self::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key()) }),
            Self::Secret(secret) => json!({ "kty": "oct", "k": b64(secret) }),
        };
        if let Some(kid) = kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// The `SubjectPublicKeyInfo`.
    pub(crate) fn spki_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap().as_ref().to_vec(),
            Self::Ec(_, pair) => AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap().as_ref().to_vec(),
            Self::Secret(_) => Vec::new(),
        }
    }

    /// The `SubjectPublicKeyInfo` as PEM.
    pub(crate) fn spki_pem(&self) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(self.spki_der());
        let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}
