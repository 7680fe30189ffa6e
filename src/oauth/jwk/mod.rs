//! Key sets: the public keys of one issuer, from a JWK Set (RFC 7517 section 5) or PEM.
//!
//! A key that is weak, ambiguous or meant for something else is left out with its reason; a set that could confuse public
//! keys and secrets is refused as a whole. Which key verifies a token is decided here and nowhere else.

mod pem;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::fault::{Fault, FaultKind};
use super::jws::{Algorithm, Header, KID_LIMIT, decode_segment};
use super::key::{Key, KeyError, KeyType};
use super::strict;

/// Keys of a set at most: every one costs work when it is prepared.
const KEY_LIMIT: usize = 256;

/// Why a whole set is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a JWK Set, or one with duplicate members.
    #[error("not a JWK Set")]
    NotAKeySet,
    /// Not PEM, or PEM of something else than public keys and certificates.
    #[error("not PEM of public keys or certificates")]
    NotPem,
    /// A shared secret among public keys (RFC 8725 section 2.1).
    #[error("the key set contains a shared secret")]
    SharedSecret,
    /// Too many keys.
    #[error("the key set has more than 256 keys")]
    TooMany,
}

/// A key that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name, when it has one.
    pub kid: Option<String>,
    /// Why.
    pub error: KeyError,
}

/// The usable keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
    left_out: Vec<LeftOut>,
}

impl KeySet {
    /// Reads a JWK Set. A key without `alg` gets the first of `algorithms` that fits its type.
    ///
    /// # Errors
    /// The set as a whole cannot be used. Single keys that cannot are in [`KeySet::left_out`].
    pub fn from_jwks(document: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        let set = strict::object(document).or(Err(KeySetError::NotAKeySet))?;
        let Some(Value::Array(jwks)) = set.get("keys") else { return Err(KeySetError::NotAKeySet) };
        if jwks.len() > KEY_LIMIT {
            return Err(KeySetError::TooMany);
        }
        let jwks: Vec<&Map<String, Value>> =
            jwks.iter().map(Value::as_object).collect::<Option<_>>().ok_or(KeySetError::NotAKeySet)?;
        if jwks.iter().any(|jwk| text(jwk, "kty") == Some("oct") || jwk.contains_key("k")) {
            return Err(KeySetError::SharedSecret);
        }
        let mut named: HashMap<&str, usize> = HashMap::new();
        for jwk in jwks.iter().filter(|jwk| text(jwk, "use") != Some("enc")) {
            *named.entry(text(jwk, "kid").unwrap_or_default()).or_default() += 1;
        }
        let mut read = Self::default();
        for jwk in jwks {
            let kid = text(jwk, "kid");
            let key = match kid.and_then(|kid| named.get(kid)) {
                Some(count) if *count > 1 => Err(KeyError::Duplicate),
                _ => read_jwk(jwk, algorithms),
            };
            read.push(kid.map(str::to_owned), key);
        }
        Ok(read)
    }

    /// Reads public keys and certificates in PEM. They have no names.
    ///
    /// # Errors
    /// The text is not PEM of such things.
    pub fn from_pem(document: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        let mut read = Self::default();
        for key in pem::read(document, algorithms)? {
            read.push(None, key);
        }
        Ok(read)
    }

    /// Reads PEM or a JWK Set, told apart by the first character.
    ///
    /// # Errors
    /// As of the other two.
    pub fn from_document(document: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        if document.trim_ascii_start().starts_with(b"{") {
            Self::from_jwks(document, algorithms)
        } else {
            Self::from_pem(document, algorithms)
        }
    }

    fn push(&mut self, kid: Option<String>, key: Result<Key, KeyError>) {
        match key {
            Ok(key) => self.keys.push(Arc::new(key.named(kid))),
            Err(error) => self.left_out.push(LeftOut { kid, error }),
        }
    }

    /// The usable keys.
    #[must_use]
    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// The keys that cannot be used, with the reasons.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// A hash over names, algorithms and material of the usable keys, whatever their order.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut keys: Vec<[u8; 32]> = self
            .keys
            .iter()
            .map(|key| {
                let name = Sha256::digest(key.kid().unwrap_or_default());
                Sha256::new()
                    .chain_update([u8::from(key.kid().is_some())])
                    .chain_update(name)
                    .chain_update(key.fingerprint())
                    .finalize()
                    .into()
            })
            .collect();
        keys.sort_unstable();
        keys.iter().fold(Sha256::new(), Digest::chain_update).finalize().into()
    }

    /// The key that a token with this header must be signed with.
    ///
    /// A token with `kid` names its key. A token without one, or a set in which no key has a name, needs exactly one key of
    /// the token's algorithm: keys are never tried in turn.
    ///
    /// # Errors
    /// [`FaultKind::Key`] when no key fits, [`FaultKind::Algorithm`] when the named key is for another algorithm.
    pub fn select(&self, header: &Header) -> Result<&Arc<Key>, Fault> {
        let unnamed_set = self.keys.iter().all(|key| key.kid().is_none());
        if let Some(kid) = header.kid.as_deref().filter(|_| !unnamed_set) {
            let key = self.keys.iter().find(|key| key.kid() == Some(kid));
            let key = key.ok_or(Fault::new(FaultKind::Key, "no key has the token's `kid`"))?;
            return if key.algorithm() == header.algorithm {
                Ok(key)
            } else {
                Err(Fault::new(FaultKind::Algorithm, "the named key is for another algorithm"))
            };
        }
        let mut fitting = self.keys.iter().filter(|key| key.algorithm() == header.algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(Fault::new(FaultKind::Key, "no key is for the token's algorithm")),
            (Some(_), Some(_)) => Err(Fault::new(FaultKind::Key, "the token names no key and several would fit")),
        }
    }
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

/// Members that only a private key has (RFC 7518 sections 6.2.2 and 6.3.2).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

fn read_jwk(jwk: &Map<String, Value>, algorithms: &[Algorithm]) -> Result<Key, KeyError> {
    check_purpose(jwk)?;
    let bytes = |name: &str| {
        let encoded = text(jwk, name).ok_or(KeyError::Malformed)?;
        decode_segment(encoded).or(Err(KeyError::Malformed))
    };
    let key_type = match (text(jwk, "kty").ok_or(KeyError::Malformed)?, text(jwk, "crv")) {
        ("RSA", None) => KeyType::Rsa,
        ("EC", Some("P-256")) => KeyType::P256,
        ("EC", Some("P-384")) => KeyType::P384,
        ("EC", Some("P-521")) => KeyType::P521,
        ("OKP", Some("Ed25519")) => KeyType::Ed25519,
        _ => return Err(KeyError::Type),
    };
    let algorithm = the_algorithm(jwk, key_type, algorithms)?;
    match key_type {
        KeyType::Rsa => Key::rsa(algorithm, &bytes("n")?, &bytes("e")?),
        KeyType::Ed25519 => Key::ed25519(algorithm, &bytes("x")?),
        KeyType::P256 | KeyType::P384 | KeyType::P521 => Key::ec(algorithm, key_type, &bytes("x")?, &bytes("y")?),
        KeyType::Secret => Err(KeyError::Type),
    }
}

/// `use`, `key_ops`, `kid` and private members (RFC 7517 section 4).
fn check_purpose(jwk: &Map<String, Value>) -> Result<(), KeyError> {
    if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)) {
        return Err(KeyError::Private);
    }
    match jwk.get("use") {
        None => {}
        Some(Value::String(purpose)) if purpose == "sig" => {}
        Some(_) => return Err(KeyError::Use),
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
        Some(_) => return Err(KeyError::Use),
    }
    match jwk.get("kid") {
        None => Ok(()),
        Some(Value::String(kid)) if kid.len() <= KID_LIMIT => Ok(()),
        Some(_) => Err(KeyError::Malformed),
    }
}

/// The one algorithm of a key: its own if it is configured, else the first configured that fits its type.
fn the_algorithm(jwk: &Map<String, Value>, key_type: KeyType, algorithms: &[Algorithm]) -> Result<Algorithm, KeyError> {
    let own = match jwk.get("alg") {
        None => None,
        Some(Value::String(name)) => Some(Algorithm::parse(name).ok_or(KeyError::Algorithm)?),
        Some(_) => return Err(KeyError::Malformed),
    };
    let fits = |algorithm: &&Algorithm| algorithm.key_type() == key_type && own.is_none_or(|own| own == **algorithm);
    algorithms.iter().find(fits).copied().ok_or(KeyError::Algorithm)
}

#[cfg(test)]
mod tests;
