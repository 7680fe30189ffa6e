//! JWTs signed with shared secrets, several at once so that they can be rotated.

use std::sync::Arc;

use async_trait::async_trait;

use super::{next_generation, read};
use crate::engine::decision::{Denial, Reason};
use crate::engine::provider::Provider;
use crate::oauth::claims::Profile;
use crate::oauth::fault::{Fault, FaultKind};
use crate::oauth::identity::Identity;
use crate::oauth::jws::{Algorithm, Unverified};
use crate::oauth::key::Key;
use crate::secret::Held;

/// What the kind needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacSettings {
    /// How claims are read.
    pub profile: Profile,
    /// Algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The secrets.
    pub secrets: Vec<Held>,
}

/// A provider of this kind.
#[derive(Debug)]
pub struct Hmac {
    name: String,
    generation: u64,
    profile: Profile,
    keys: Vec<Key>,
}

impl Hmac {
    /// Prepares the keys: one for every secret and algorithm.
    ///
    /// # Errors
    /// A secret is too weak.
    pub fn new(name: &str, settings: &HmacSettings) -> Result<Self, Denial> {
        let pairs = settings
            .secrets
            .iter()
            .flat_map(|held| settings.algorithms.iter().map(move |algorithm| (held, *algorithm)));
        let keys: Result<Vec<Key>, _> =
            pairs.map(|(held, algorithm)| Key::secret(algorithm, held.secret.expose())).collect();
        let keys = keys.map_err(|error| Denial::new(Reason::ProviderRemoved).because(error.to_string()))?;
        Ok(Self { name: name.to_owned(), generation: next_generation(), profile: settings.profile.clone(), keys })
    }

    fn identity(&self, token: &str) -> Result<Arc<Identity>, Fault> {
        let unverified = Unverified::parse(token)?;
        let mut outcome = Err(Fault::new(FaultKind::Algorithm, "the algorithm is not the provider's"));
        for key in self.keys.iter().filter(|key| key.algorithm() == unverified.header.algorithm) {
            outcome = unverified.verify(key);
            // Only a signature that does not fit is a reason to try another secret.
            if !matches!(&outcome, Err(fault) if fault.kind == FaultKind::Signature) {
                break;
            }
        }
        read(&self.profile, token, unverified.header.token_type.as_deref(), outcome?)
    }
}

#[async_trait]
impl Provider for Hmac {
    fn name(&self) -> &str {
        &self.name
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn answers_for(&self, issuer: Option<&str>) -> bool {
        issuer == Some(&*self.profile.issuer)
    }

    async fn verify(&self, token: &str) -> Result<Arc<Identity>, Denial> {
        Ok(self.identity(token)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::claims::{ScopeClaim, TokenType};
    use crate::oauth::jws::sign_with_secret;
    use crate::secret::SecretRef;

    const OLD: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz-old";
    const NEW: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz-new";

    fn held(bytes: &[u8]) -> Held {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        std::fs::write(&path, bytes).unwrap();
        let from = SecretRef::File(path);
        Held { secret: from.read().unwrap(), from }
    }

    fn provider(secrets: &[&[u8]]) -> Result<Hmac, Denial> {
        let profile = Profile {
            issuer: "https://own.example".into(),
            token_type: TokenType::Jwt,
            scope_claim: ScopeClaim::Both,
            sign_in_clients: Vec::new(),
            machines: false,
        };
        let secrets = secrets.iter().map(|bytes| held(bytes)).collect();
        Hmac::new("own", &HmacSettings { profile, algorithms: vec![Algorithm::Hs256], secrets })
    }

    fn token(algorithm: Algorithm, secret: &[u8]) -> String {
        let claims = json!({ "iss": "https://own.example", "sub": "a", "aud": "x", "exp": 9_999_999_999_i64 });
        sign_with_secret(algorithm, secret, claims.as_object().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn each_of_several_secrets_verifies_and_no_other_does() {
        let both = provider(&[OLD, NEW]).unwrap();
        assert!(both.verify(&token(Algorithm::Hs256, OLD)).await.is_ok());
        assert!(both.verify(&token(Algorithm::Hs256, NEW)).await.is_ok());
        let reason = |result: Result<Arc<Identity>, Denial>| result.unwrap_err().reason;
        let forged = token(Algorithm::Hs256, b"0123456789abcdefghijklmnopqrstuvwxyz-bad");
        assert_eq!(reason(both.verify(&forged).await), Reason::SignatureInvalid);
        let rotated = provider(&[NEW]).unwrap();
        assert_eq!(reason(rotated.verify(&token(Algorithm::Hs256, OLD)).await), Reason::SignatureInvalid);
        assert_eq!(reason(both.verify(&token(Algorithm::Hs512, NEW)).await), Reason::AlgorithmRefused);
        assert_ne!(both.generation(), rotated.generation());
        assert!(provider(&[b"short"]).is_err());
    }
}
