//! From a bearer token to an [`Identity`] that one service accepts.
//!
//! What a provider verified about a token is cached and does not depend on a service. Whether *this* service accepts it
//! (audience, client, required claims, times) is decided here on every request, on a hit as on a miss.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::clock::Clock;
use super::decision::{Denial, Reason};
use super::provider::Provider;
use super::revocations::Revocations;
use super::token_cache::TokenCache;
use crate::oauth::claims::check_times;
use crate::oauth::identity::Identity;
use crate::oauth::jws;

/// When a caller may come again while it is not known what is revoked.
const UNREAD: Duration = Duration::from_secs(1);

/// What one service accepts.
#[derive(Debug)]
pub struct Authentication {
    /// The providers, told apart by issuer before any key is tried.
    pub providers: Vec<Accepted>,
    /// Audiences of which a token must carry at least one, byte for byte (RFC 8707 section 2).
    pub audiences: Vec<String>,
    /// Clients accepted, by `client_id` or `azp`; `None` accepts any.
    pub clients: Option<Vec<String>>,
    /// Whether callers without a token are let in, to what rules for everyone allow. A token that is not good is refused
    /// all the same.
    pub admission: Admission,
    /// Claims that a token must carry.
    pub required_claims: Vec<RequiredClaim>,
    /// What is revoked, shared by all services.
    pub revocations: Arc<Revocations>,
    /// Verified facts, shared by all services.
    pub cache: Arc<TokenCache>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Who is let in to be judged by rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Admission {
    /// Callers with a token.
    #[default]
    Identified,
    /// Callers without a token too.
    Everyone,
}

/// A provider as one service accepts it.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The provider, shared by all services that name it.
    pub provider: Arc<dyn Provider>,
    /// Seconds by which `exp`, `nbf` and `iat` may be off.
    pub leeway: i64,
    /// Whether tokens carry an audience. An API key belongs to the services that list its provider.
    pub audience: AudienceCheck,
}

/// Whether the audience of a provider's tokens is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudienceCheck {
    /// A token must name the service.
    Required,
    /// The credential has no audience: it is listed for the service by name.
    ByListing,
}

/// A claim that must equal, or contain, one of some values.
#[derive(Debug, Clone)]
pub struct RequiredClaim {
    /// The name of a top-level claim.
    pub name: String,
    /// One of these must be the claim, or an element of it.
    pub any_of: Vec<Value>,
}

impl Authentication {
    /// Who asks: by the token, or nobody in particular where callers without one are let in.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate), and 401 without a token where one is needed.
    pub async fn identify(&self, token: Option<&str>) -> Result<Arc<Identity>, Denial> {
        match (token, self.admission) {
            (Some(token), _) => self.authenticate(token).await,
            (None, Admission::Everyone) => Ok(Arc::new(Identity::anonymous())),
            (None, Admission::Identified) => Err(Denial::new(Reason::TokenMissing)),
        }
    }

    /// Verifies `token` and judges it for this service.
    ///
    /// # Errors
    /// 401 with the reason, or 503 when a provider's keys, or what is revoked, cannot be had.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Identity>, Denial> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        for accepted in &self.providers {
            if let Some(identity) = self.cache.peek(accepted.provider.as_ref(), &hash) {
                return self.accept(accepted, identity);
            }
        }
        let accepted = self.vouching(token, &hash).ok_or_else(|| Denial::new(Reason::IssuerUnknown))?;
        let identity = self.cache.identity(&accepted.provider, token, &hash).await?;
        self.accept(accepted, identity)
    }

    /// The one provider that is asked about the token. Nothing was sent anywhere yet.
    fn vouching(&self, token: &str, hash: &[u8; 32]) -> Option<&Accepted> {
        if let Some(holder) = self.providers.iter().find(|accepted| accepted.provider.holds(hash)) {
            return Some(holder);
        }
        let issuer = jws::unverified_issuer(token);
        self.providers.iter().find(|accepted| accepted.provider.answers_for(issuer.as_deref()))
    }

    /// What differs between services and with time.
    fn accept(&self, accepted: &Accepted, identity: Arc<Identity>) -> Result<Arc<Identity>, Denial> {
        if !accepted.provider.still_vouches(&identity) {
            return Err(Denial::new(Reason::TokenExpired));
        }
        let now = self.clock.unix();
        if !self.revocations.are_known() {
            let why = "the store has not been read since the start, and nobody knows what is revoked";
            return Err(Denial::new(Reason::StoreUnavailable).retry_after(UNREAD).because(why));
        }
        if self.revocations.covers_identity(&identity, now) {
            return Err(Denial::new(Reason::Revoked));
        }
        check_times(&identity, now, accepted.leeway)?;
        let named = || identity.audiences.iter().any(|audience| self.audiences.contains(audience));
        if accepted.audience == AudienceCheck::Required && !named() {
            return Err(Denial::new(Reason::AudienceMismatch));
        }
        if let Some(clients) = &self.clients
            && !identity.client.as_deref().is_some_and(|client| clients.iter().any(|listed| listed == client))
        {
            return Err(Denial::new(Reason::ClientRefused));
        }
        match self.required_claims.iter().find(|required| !required.held_by(&identity)) {
            Some(missing) => {
                Err(Denial::new(Reason::ClaimMissing)
                    .because(format!("claim `{}` is absent or different", missing.name)))
            }
            None => Ok(identity),
        }
    }
}

impl RequiredClaim {
    /// An absent or null claim holds nothing.
    fn held_by(&self, identity: &Identity) -> bool {
        match identity.claims.get(&self.name) {
            Some(Value::Array(values)) => values.iter().any(|value| self.any_of.contains(value)),
            Some(Value::Null) | None => false,
            Some(value) => self.any_of.contains(value),
        }
    }
}
