//! What the engine asks of an identity provider.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::decision::Denial;
use crate::oauth::identity::Identity;

/// Whoever issues or vouches for tokens.
///
/// A provider verifies facts about a token; whether a service accepts them is decided per service, on every request.
#[async_trait]
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// The name in the installation or policy, for logs.
    fn name(&self) -> &str;

    /// Names this provider *in this configuration and key set*: part of the key under which facts are cached. It changes
    /// when the configuration, a key or a secret changes, so that facts verified by a removed key are gone with it.
    fn generation(&self) -> u64;

    /// Whether this provider, and no other, answers for tokens that claim `issuer`. `None` is a token that is no JWT.
    fn answers_for(&self, issuer: Option<&str>) -> bool;

    /// Whether the token with this SHA-256 is on a closed list of this provider: no other is asked about it then.
    fn holds(&self, _hash: &[u8; 32]) -> bool {
        false
    }

    /// How long what was verified may be kept at most, however long the token lives.
    fn keeps_facts(&self) -> Duration {
        Duration::MAX
    }

    /// Verifies one token. Called only when no cached fact exists.
    ///
    /// # Errors
    /// A denial: 401 when the token is at fault, 503 when the provider's keys cannot be had.
    async fn verify(&self, token: &str) -> Result<Arc<Identity>, Denial>;

    /// Whether `identity`, verified earlier by this provider, is still vouched for (an API key can expire or be removed).
    fn still_vouches(&self, _identity: &Identity) -> bool {
        true
    }
}
