//! Named keys for machines, known by their SHA-256 only.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Map;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{next_generation, token_name};
use crate::engine::clock::Clock;
use crate::engine::decision::{Denial, Reason};
use crate::engine::provider::Provider;
use crate::oauth::identity::{Holder, Identity};

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The subject.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// When it ends, seconds since the epoch.
    pub expires: i64,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Its client.
    pub client: Option<String>,
}

/// A provider of this kind.
#[derive(Debug)]
pub struct ApiKeys {
    name: String,
    issuer: Arc<str>,
    generation: u64,
    keys: Vec<ApiKey>,
    clock: Arc<dyn Clock>,
}

impl ApiKeys {
    /// A provider of these keys.
    #[must_use]
    pub fn new(name: &str, keys: &[ApiKey], clock: &Arc<dyn Clock>) -> Self {
        let issuer = format!("urn:portcullis:api-key:{name}").into();
        Self {
            name: name.to_owned(),
            issuer,
            generation: next_generation(),
            keys: keys.to_vec(),
            clock: Arc::clone(clock),
        }
    }

    /// The key with this hash. All are compared, so that time tells nothing about which came near.
    fn key(&self, hash: &[u8; 32]) -> Option<&ApiKey> {
        let matching = self.keys.iter().filter(|key| bool::from(key.sha256.ct_eq(hash))).collect::<Vec<_>>();
        if let [key] = matching.as_slice() { Some(key) } else { None }
    }
}

#[async_trait]
impl Provider for ApiKeys {
    fn name(&self) -> &str {
        &self.name
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn answers_for(&self, issuer: Option<&str>) -> bool {
        issuer.is_none()
    }

    fn holds(&self, hash: &[u8; 32]) -> bool {
        self.key(hash).is_some()
    }

    async fn verify(&self, token: &str) -> Result<Arc<Identity>, Denial> {
        let key = self.key(&Sha256::digest(token).into()).ok_or(Denial::new(Reason::SignatureInvalid))?;
        if key.expires <= self.clock.unix() {
            return Err(Denial::new(Reason::TokenExpired));
        }
        Ok(Arc::new(Identity {
            issuer: Arc::clone(&self.issuer),
            subject: Some(key.name.as_str().into()),
            client: key.client.as_deref().map(Arc::from),
            holder: Holder::Machine,
            scopes: key.scopes.iter().map(String::as_str).collect(),
            audiences: Vec::new(),
            expires: key.expires,
            not_before: None,
            token_type: None,
            claims: Map::new(),
            token_name: token_name(token),
            twin_name: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::SystemClock;

    #[tokio::test]
    async fn a23_a_key_is_known_by_its_hash_until_it_ends() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let now = clock.unix();
        let key = |name: &str, text: &str, expires| ApiKey {
            name: name.into(),
            sha256: Sha256::digest(text).into(),
            expires,
            scopes: vec!["b".into(), "a".into()],
            client: Some("ci".into()),
        };
        let keys =
            ApiKeys::new("machines", &[key("one", "first-key", now + 100), key("two", "second-key", now - 1)], &clock);
        let identity = keys.verify("first-key").await.unwrap();
        assert_eq!((identity.subject.as_deref(), identity.client.as_deref()), (Some("one"), Some("ci")));
        assert_eq!(identity.issuer.as_ref(), "urn:portcullis:api-key:machines");
        assert!(identity.scopes.contains("a"));
        assert_eq!(keys.verify("second-key").await.unwrap_err().reason, Reason::TokenExpired);
        for wrong in ["", "first-key ", "First-key", "third"] {
            assert_eq!(keys.verify(wrong).await.unwrap_err().reason, Reason::SignatureInvalid, "{wrong}");
        }
        assert!(keys.answers_for(None) && !keys.answers_for(Some("urn:portcullis:api-key:machines")));
    }
}
