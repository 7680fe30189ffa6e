//! A key pair that signs the gateway's own tokens, with one algorithm (RFC 7515, RFC 7517).

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;

use super::jws::Algorithm;
use super::key::{Key, KeyType};

/// Why a key pair cannot be made or cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Neither ES256 nor EdDSA.
    #[error("own tokens are signed with ES256 or EdDSA")]
    Algorithm,
    /// The library refuses: no random bytes, or bytes that are no key.
    #[error("the signing key cannot be used")]
    Unusable,
}

/// A private key with its name and its public half.
pub struct Signer {
    algorithm: Algorithm,
    kid: String,
    jwk: Value,
    pkcs8: Vec<u8>,
    key: EncodingKey,
    verifier: Arc<Key>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Signer {
    /// A fresh key pair for ES256 or EdDSA.
    ///
    /// # Errors
    /// Another algorithm, or the system's random source fails.
    pub fn generate(algorithm: Algorithm) -> Result<Self, SignerError> {
        let pkcs8 = match algorithm.key_type() {
            KeyType::P256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .and_then(|pair| pair.to_pkcs8v1().map(|document| document.as_ref().to_vec())),
            KeyType::Ed25519 => {
                Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()))
            }
            _ => return Err(SignerError::Algorithm),
        };
        Self::from_pkcs8(algorithm, &pkcs8.or(Err(SignerError::Unusable))?)
    }

    /// The key pair that these bytes hold (RFC 5958).
    ///
    /// # Errors
    /// Another algorithm, or no such key.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, SignerError> {
        let unusable = SignerError::Unusable;
        let (key, jwk, verifier) = match algorithm.key_type() {
            KeyType::P256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).or(Err(unusable))?;
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..).and_then(|point| point.split_at_checked(32)).ok_or(unusable)?;
                let jwk = json!({ "crv": "P-256", "kty": "EC", "x": encoded(x), "y": encoded(y) });
                (EncodingKey::from_ec_der(pkcs8), jwk, Key::ec(algorithm, KeyType::P256, x, y))
            }
            KeyType::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).or(Err(unusable))?;
                let x = pair.public_key().as_ref();
                let jwk = json!({ "crv": "Ed25519", "kty": "OKP", "x": encoded(x) });
                (EncodingKey::from_ed_der(pkcs8), jwk, Key::ed25519(algorithm, x))
            }
            _ => return Err(SignerError::Algorithm),
        };
        // The members in their alphabetical order and no others are what a thumbprint is made of (RFC 7638 section 3).
        let kid = encoded(&Sha256::digest(jwk.to_string()));
        let mut jwk = jwk;
        for (name, value) in [("alg", algorithm.as_str()), ("use", "sig"), ("kid", &kid)] {
            jwk[name] = value.into();
        }
        let verifier = Arc::new(verifier.or(Err(unusable))?.named(Some(kid.clone())));
        Ok(Self { algorithm, kid, jwk, pkcs8: pkcs8.to_vec(), key, verifier })
    }

    /// The key pair in the one block `PRIVATE KEY` of a PEM text (RFC 7468 section 10): P-256 or Ed25519.
    ///
    /// # Errors
    /// The text holds another kind of key, or none.
    pub fn from_pem(text: &[u8]) -> Result<Self, SignerError> {
        let mut blocks = Pem::iter_from_buffer(text);
        let (Some(Ok(block)), None) = (blocks.next(), blocks.next()) else { return Err(SignerError::Unusable) };
        if block.label != "PRIVATE KEY" {
            return Err(SignerError::Unusable);
        }
        let of = |algorithm| Self::from_pkcs8(algorithm, &block.contents);
        of(Algorithm::Es256).or_else(|_| of(Algorithm::EdDsa))
    }

    /// The name: the RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half as a member of a JWK Set.
    #[must_use]
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// The private key, to be kept sealed.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half, to verify with.
    #[must_use]
    pub fn verifier(&self) -> &Arc<Key> {
        &self.verifier
    }

    /// A compact JWS over `claims` whose `typ` is `token_type`, such as `at+jwt` (RFC 9068 section 2.1).
    ///
    /// # Errors
    /// The library refuses.
    pub fn sign(&self, token_type: &str, claims: &Map<String, Value>) -> Result<String, SignerError> {
        let header = json!({ "alg": self.algorithm.as_str(), "typ": token_type, "kid": self.kid }).to_string();
        let claims = serde_json::to_string(claims).or(Err(SignerError::Unusable))?;
        let input = format!("{}.{}", encoded(header.as_bytes()), encoded(claims.as_bytes()));
        let algorithm = self.algorithm.as_jsonwebtoken().ok_or(SignerError::Algorithm)?;
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &self.key, algorithm);
        Ok(format!("{input}.{}", signature.or(Err(SignerError::Unusable))?))
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::jwk::KeySet;
    use crate::oauth::jws::Unverified;

    #[test]
    fn what_is_signed_verifies_by_the_published_key_and_by_no_other() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            let (signer, other) = (Signer::generate(algorithm).unwrap(), Signer::generate(algorithm).unwrap());
            let again = Signer::from_pkcs8(algorithm, signer.pkcs8()).unwrap();
            assert_eq!(again.kid(), signer.kid());
            let claims = json!({ "sub": "a" });
            let token = again.sign("at+jwt", claims.as_object().unwrap()).unwrap();
            let set = json!({ "keys": [signer.jwk(), other.jwk()] }).to_string();
            let keys = KeySet::from_jwks(set.as_bytes(), &[algorithm]).unwrap();
            assert!(keys.left_out().is_empty());
            let token = Unverified::parse(&token).unwrap();
            assert_eq!(token.header.token_type.as_deref(), Some("at+jwt"));
            let verified: Vec<&str> =
                keys.keys().iter().filter(|key| token.verify(key).is_ok()).filter_map(|key| key.kid()).collect();
            assert_eq!(verified, [signer.kid()]);
            assert!(token.verify(signer.verifier()).is_ok());
            assert!(!signer.jwk().to_string().contains("\"d\""), "the private half is not published");
        }
        assert_eq!(Signer::generate(Algorithm::Rs256).unwrap_err(), SignerError::Algorithm);
    }

    #[test]
    fn a_name_is_the_thumbprint_of_the_key() {
        // RFC 8037 appendix A.3.
        let jwk = json!({ "crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        assert_eq!(encoded(&Sha256::digest(jwk.to_string())), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_is_read_from_pem_and_nothing_else_is() {
        let pem = |label: &str, bytes: &[u8]| {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            let signer = Signer::generate(algorithm).unwrap();
            let text = pem("PRIVATE KEY", signer.pkcs8());
            let read = Signer::from_pem(text.as_bytes()).unwrap();
            assert_eq!((read.kid(), read.algorithm()), (signer.kid(), algorithm));
            for wrong in [text.repeat(2), pem("PUBLIC KEY", signer.pkcs8()), pem("PRIVATE KEY", b"none"), String::new()]
            {
                assert!(Signer::from_pem(wrong.as_bytes()).is_err(), "{wrong}");
            }
        }
    }
}
