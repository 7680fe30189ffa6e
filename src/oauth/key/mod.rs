//! A key that verifies signatures with exactly one algorithm (RFC 8725 section 3.1), prepared once.
//!
//! Weak keys cannot be built: short RSA moduli, bad exponents, ROCA primes, points off the curve and secrets shorter
//! than the hash are errors of the constructors (RFC 7518 sections 3.2 and 3.3). A key never says what it is made of.

mod strength;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use jsonwebtoken::DecodingKey;
use sha2::{Digest, Sha256};

use super::jws::Algorithm;
pub use strength::looks_like_public_key;

/// What a key is made of, as far as algorithms care (RFC 7518 section 6.1, RFC 8037 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// A shared secret.
    Secret,
    /// RSA.
    Rsa,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

/// Why a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No configured algorithm fits the type of the key.
    #[error("no configured algorithm fits the key")]
    Algorithm,
    /// A type or curve that no algorithm here uses.
    #[error("the type of the key is not supported")]
    Type,
    /// Under 2048 or over 8192 bits.
    #[error("the RSA modulus is not between 2048 and 8192 bits long")]
    RsaLength,
    /// Even, 1, or too large.
    #[error("the RSA exponent is not an odd number from 3 to 2^32")]
    RsaExponent,
    /// The modulus has the fingerprint of CVE-2017-15361.
    #[error("the RSA key was made by a generator with the ROCA weakness")]
    Roca,
    /// Not a point of the curve, or a coordinate of the wrong length.
    #[error("the public key is not a valid point of its curve")]
    Point,
    /// A secret shorter than the hash.
    #[error("the secret is shorter than the hash of the algorithm")]
    SecretLength,
    /// Few different bytes.
    #[error("the secret is too regular to be random")]
    SecretRegular,
    /// A public key, a certificate or a JWK in the place of a secret.
    #[error("the secret is a key that others may know")]
    SecretPublic,
    /// Meant for something else than verifying signatures.
    #[error("the key is not meant for verifying signatures")]
    Use,
    /// Private members in a set that is public.
    #[error("the key contains private members")]
    Private,
    /// A member is missing, of the wrong type, not base64url, or `kid` is too long.
    #[error("the key is malformed")]
    Malformed,
    /// Another key of the set has the same `kid`.
    #[error("another key has the same `kid`")]
    Duplicate,
}

/// A prepared key.
pub struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    verifier: Verifier,
    fingerprint: [u8; 32],
}

enum Verifier {
    Jsonwebtoken(DecodingKey, jsonwebtoken::Algorithm),
    /// ES512, which jsonwebtoken lacks.
    P521(ParsedPublicKey),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// An RSA key from big-endian modulus and exponent.
    ///
    /// # Errors
    /// The algorithm does not fit, or the key is weak.
    pub fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        fits(algorithm, KeyType::Rsa)?;
        let (n, e) = (strength::strip_zeros(n), strength::strip_zeros(e));
        strength::check_rsa(n, e)?;
        let der = strength::pkcs1_der(n, e);
        // Parsing proves that the library will take the key before the first token comes.
        ParsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &der).or(Err(KeyError::Malformed))?;
        Self::with_jsonwebtoken(algorithm, DecodingKey::from_rsa_der(&der), &der)
    }

    /// An elliptic-curve key from its coordinates, each of the curve's full length (RFC 7518 section 6.2.1).
    ///
    /// # Errors
    /// The algorithm does not fit, or the point is not on the curve.
    pub fn ec(algorithm: Algorithm, curve: KeyType, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        fits(algorithm, curve)?;
        let (length, verification): (usize, &'static dyn VerificationAlgorithm) = match curve {
            KeyType::P256 => (32, &signature::ECDSA_P256_SHA256_FIXED),
            KeyType::P384 => (48, &signature::ECDSA_P384_SHA384_FIXED),
            KeyType::P521 => (66, &signature::ECDSA_P521_SHA512_FIXED),
            KeyType::Secret | KeyType::Rsa | KeyType::Ed25519 => return Err(KeyError::Type),
        };
        if x.len() != length || y.len() != length {
            return Err(KeyError::Point);
        }
        let point = [&[4], x, y].concat();
        let parsed = ParsedPublicKey::new(verification, &point).or(Err(KeyError::Point))?;
        if curve == KeyType::P521 {
            let fingerprint = fingerprint(algorithm, &point);
            return Ok(Self { kid: None, algorithm, verifier: Verifier::P521(parsed), fingerprint });
        }
        Self::with_jsonwebtoken(algorithm, DecodingKey::from_ec_der(&point), &point)
    }

    /// An Ed25519 key from its 32 bytes (RFC 8037 section 2).
    ///
    /// # Errors
    /// The algorithm does not fit, or the bytes are no such key.
    pub fn ed25519(algorithm: Algorithm, x: &[u8]) -> Result<Self, KeyError> {
        fits(algorithm, KeyType::Ed25519)?;
        ParsedPublicKey::new(&signature::ED25519, x).or(Err(KeyError::Point))?;
        Self::with_jsonwebtoken(algorithm, DecodingKey::from_ed_der(x), x)
    }

    /// A shared secret, at least as long as the hash of its algorithm and not something that others know.
    ///
    /// # Errors
    /// The algorithm does not fit, or the secret is weak.
    pub fn secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        fits(algorithm, KeyType::Secret)?;
        strength::check_secret(secret, algorithm.hash_length())?;
        Self::with_jsonwebtoken(algorithm, DecodingKey::from_secret(secret), secret)
    }

    fn with_jsonwebtoken(algorithm: Algorithm, key: DecodingKey, material: &[u8]) -> Result<Self, KeyError> {
        let verified_as = algorithm.as_jsonwebtoken().ok_or(KeyError::Algorithm)?;
        let verifier = Verifier::Jsonwebtoken(key, verified_as);
        Ok(Self { kid: None, algorithm, verifier, fingerprint: fingerprint(algorithm, material) })
    }

    /// Names the key.
    #[must_use]
    pub fn named(self, kid: Option<String>) -> Self {
        Self { kid, ..self }
    }

    /// The name, opaque (RFC 7517 section 4.5).
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm that the key is used with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A hash of algorithm and material, to tell key sets apart.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Whether `signature`, in canonical base64url, is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        match &self.verifier {
            Verifier::Jsonwebtoken(key, algorithm) => {
                jsonwebtoken::crypto::verify(signature, message, key, *algorithm).unwrap_or(false)
            }
            Verifier::P521(key) => {
                super::jws::decode_segment(signature).is_ok_and(|signature| key.verify_sig(message, &signature).is_ok())
            }
        }
    }
}

fn fits(algorithm: Algorithm, key_type: KeyType) -> Result<(), KeyError> {
    if algorithm.key_type() == key_type { Ok(()) } else { Err(KeyError::Algorithm) }
}

fn fingerprint(algorithm: Algorithm, material: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(algorithm.as_str()).chain_update([0]).chain_update(material).finalize().into()
}
