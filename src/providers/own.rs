//! The gateway's own tokens: issued by the authorization server of one service, for that service alone.

use std::sync::Arc;

use async_trait::async_trait;

use super::{next_generation, read};
use crate::engine::decision::{Denial, Reason};
use crate::engine::issuing::Works;
use crate::engine::keyring::Keyring;
use crate::engine::provider::Provider;
use crate::engine::revocations::Revocations;
use crate::engine::standing::Standing;
use crate::engine::vault::Vault;
use crate::oauth::claims::{Profile, ScopeClaim, TokenType};
use crate::oauth::fault::{Fault, FaultKind};
use crate::oauth::identity::Identity;
use crate::oauth::jws::Unverified;

/// Vouches for what the authorization server of one service issued.
#[derive(Debug)]
pub struct Own {
    name: String,
    generation: u64,
    profile: Profile,
    vault: Arc<Vault>,
    keyring: Arc<Keyring>,
    revocations: Arc<Revocations>,
    standing: Arc<Standing>,
}

impl Own {
    /// The provider of the tokens that `issuer` issues, to those whom `standing` knows.
    #[must_use]
    pub fn new(service: &str, issuer: Arc<str>, works: &Works, standing: Arc<Standing>) -> Self {
        let profile = Profile {
            issuer,
            token_type: TokenType::AccessToken,
            scope_claim: ScopeClaim::Scope,
            sign_in_clients: Vec::new(),
            machines: false,
        };
        Self {
            name: format!("{service}/own"),
            generation: next_generation(),
            profile,
            vault: Arc::clone(&works.vault),
            keyring: Arc::clone(&works.keyring),
            revocations: Arc::clone(&works.revocations),
            standing,
        }
    }
}

#[async_trait]
impl Provider for Own {
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
        let unverified = Unverified::parse(token)?;
        let unknown = || Fault::new(FaultKind::Key, "the key is not one of the gateway's");
        let kid = unverified.header.kid.as_deref().ok_or_else(unknown)?;
        let key = self.keyring.key(&self.vault, kid).await;
        let key = key.map_err(|error| Denial::new(Reason::ProviderUnavailable).because(error.to_string()))?;
        let key = key.ok_or_else(unknown)?;
        let claims = unverified.verify(&key)?;
        if !self.standing.covers(&self.keyring, kid, &claims) {
            return Err(Denial::new(Reason::Revoked).because("the policy no longer knows whom the token speaks for"));
        }
        Ok(read(&self.profile, token, unverified.header.token_type.as_deref(), claims)?)
    }

    /// Not when its grant, or the token itself, is revoked.
    fn still_vouches(&self, identity: &Identity) -> bool {
        let ids = ["sid", "jti"].map(|claim| identity.claims.get(claim).and_then(serde_json::Value::as_str));
        !ids.into_iter().flatten().any(|id| self.revocations.contains(id))
    }
}
