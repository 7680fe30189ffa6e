//! Whoever issues or vouches for tokens. THE list of kinds is [`Settings`].
//!
//! A new kind is one file, one line in each of the two lists here and one test; see `docs/extending.md`. A provider
//! verifies facts; whether a service accepts them is not its business.

pub mod api_key;
pub mod hmac;
pub mod introspection;
pub mod jwks;
pub mod keys;
pub mod oidc;
pub mod own;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::engine::authentication::AudienceCheck;
use crate::engine::clock::Clock;
use crate::engine::decision::Denial;
use crate::engine::fetch::Fetch;
use crate::engine::provider::Provider;
use crate::oauth::claims::Profile;
use crate::oauth::fault::Fault;
use crate::oauth::identity::Identity;
use crate::oauth::jws;

/// A provider as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The name; of a policy's own provider `service/name`.
    pub name: String,
    /// By how many seconds its clock may be off.
    pub leeway: i64,
    /// The kind and what it needs.
    pub settings: Settings,
}

/// The kinds of provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// By discovery.
    Oidc(oidc::OidcSettings),
    /// By a key set.
    Jwks(jwks::JwksSettings),
    /// By shared secrets.
    Hmac(hmac::HmacSettings),
    /// By asking.
    Introspection(introspection::IntrospectionSettings),
    /// By hash.
    ApiKey(Vec<api_key::ApiKey>),
}

/// What providers need of the process.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Gets documents.
    pub fetch: Arc<dyn Fetch>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where background work runs.
    pub runtime: Handle,
}

impl Definition {
    /// Starts the provider. What it does in the background ends when it is dropped.
    ///
    /// # Errors
    /// Keys in the configuration that cannot be used.
    pub fn start(&self, surroundings: &Surroundings) -> Result<Arc<dyn Provider>, Denial> {
        Ok(match &self.settings {
            Settings::Oidc(settings) => Arc::new(oidc::Oidc::start(&self.name, settings, surroundings)),
            Settings::Jwks(settings) => Arc::new(jwks::Jwks::start(&self.name, settings, surroundings)),
            Settings::Hmac(settings) => Arc::new(hmac::Hmac::new(&self.name, settings)?),
            Settings::Introspection(settings) => {
                Arc::new(introspection::Introspection::new(&self.name, settings, surroundings)?)
            }
            Settings::ApiKey(keys) => Arc::new(api_key::ApiKeys::new(&self.name, keys, &surroundings.clock)),
        })
    }

    /// The issuer of its tokens; API keys have none.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        match &self.settings {
            Settings::Oidc(oidc) => Some(&oidc.profile.issuer),
            Settings::Jwks(jwks) => Some(&jwks.profile.issuer),
            Settings::Hmac(hmac) => Some(&hmac.profile.issuer),
            Settings::Introspection(introspection) => Some(&introspection.profile.issuer),
            Settings::ApiKey(_) => None,
        }
    }

    /// The same provider, which refuses ID tokens for these clients too.
    #[must_use]
    pub fn refusing(&self, clients: &BTreeSet<String>) -> Self {
        let mut refusing = self.clone();
        let profile = match &mut refusing.settings {
            Settings::Oidc(oidc) => &mut oidc.profile,
            Settings::Jwks(jwks) => &mut jwks.profile,
            Settings::Hmac(hmac) => &mut hmac.profile,
            Settings::Introspection(introspection) => &mut introspection.profile,
            Settings::ApiKey(_) => return refusing,
        };
        let new: Vec<String> =
            clients.iter().filter(|client| !profile.sign_in_clients.contains(client)).cloned().collect();
        profile.sign_in_clients.extend(new);
        refusing
    }

    /// Whether MCP clients can get tokens from it by themselves.
    #[must_use]
    pub fn issues_to_clients(&self) -> bool {
        match &self.settings {
            Settings::Oidc(_) | Settings::Introspection(_) => true,
            Settings::Jwks(jwks) => matches!(jwks.source, jwks::KeySource::Url(..)),
            Settings::Hmac(_) | Settings::ApiKey(_) => false,
        }
    }

    /// Whether its tokens are a closed list that is known before anybody is asked.
    #[must_use]
    pub fn is_closed_list(&self) -> bool {
        matches!(self.settings, Settings::ApiKey(_))
    }

    /// Whether one token could belong to both. A closed list beside others can be told apart: what is on it is on it.
    #[must_use]
    pub fn shares_tokens_with(&self, other: &Self) -> bool {
        let opaque = self.is_closed_list() == other.is_closed_list() && self.takes_opaque() && other.takes_opaque();
        let jwt = self.takes_jwts() && other.takes_jwts() && self.issuer() == other.issuer();
        opaque || jwt
    }

    fn takes_opaque(&self) -> bool {
        match &self.settings {
            Settings::Introspection(introspection) => introspection.tokens != introspection::Tokens::Jwt,
            Settings::ApiKey(_) => true,
            Settings::Oidc(_) | Settings::Jwks(_) | Settings::Hmac(_) => false,
        }
    }

    fn takes_jwts(&self) -> bool {
        match &self.settings {
            Settings::Introspection(introspection) => introspection.tokens != introspection::Tokens::Opaque,
            Settings::ApiKey(_) => false,
            Settings::Oidc(_) | Settings::Jwks(_) | Settings::Hmac(_) => true,
        }
    }

    /// Whether its tokens name an audience.
    #[must_use]
    pub fn audience_check(&self) -> AudienceCheck {
        if matches!(self.settings, Settings::ApiKey(_)) { AudienceCheck::ByListing } else { AudienceCheck::Required }
    }
}

/// A number that no other provider or key set of this process ever has.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The start of the SHA-256 of a token: how logs name it.
#[must_use]
pub fn token_name(token: &str) -> String {
    Sha256::digest(token).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the claims of a verified token.
fn read(
    profile: &Profile,
    token: &str,
    token_type: Option<&str>,
    claims: Map<String, Value>,
) -> Result<Arc<Identity>, Fault> {
    let mut identity = profile.read(token_type, token_name(token), claims)?;
    identity.twin_name = jws::twin(token).as_deref().map(token_name);
    Ok(Arc::new(identity))
}
