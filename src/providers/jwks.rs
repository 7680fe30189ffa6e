//! An issuer of JWTs whose keys are at a URL, in a file or in the policy.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use url::Url;

use super::keys::{self, KeyStore, KeyTimes};
use super::{Surroundings, next_generation, read};
use crate::engine::decision::{Denial, Reason};
use crate::engine::fetch::Fetch;
use crate::engine::provider::Provider;
use crate::oauth::claims::Profile;
use crate::oauth::identity::Identity;
use crate::oauth::jwk::{KeySet, KeySetError};
use crate::oauth::jws::{Algorithm, Header, Unverified};
use crate::oauth::key::Key;
use crate::oauth::url::EndpointUrl;
use crate::shared::Shared;

/// What the kind needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksSettings {
    /// How claims are read.
    pub profile: Profile,
    /// Algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys are.
    pub source: KeySource,
}

/// Where a key set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// At a URL.
    Url(EndpointUrl, KeyTimes),
    /// In a file or in the policy.
    Fixed(Arc<FixedKeys>),
}

/// Keys that are not fetched, prepared; by default none. Equal texts are read and held once, whatever the number of
/// policies.
#[derive(Debug, Default)]
pub struct FixedKeys {
    set: KeySet,
    /// SHA-256 of the algorithms and the text.
    hash: [u8; 32],
}

impl FixedKeys {
    /// Reads PEM or a JWK Set.
    ///
    /// # Errors
    /// The set as a whole cannot be used.
    pub fn read(text: &[u8], algorithms: &[Algorithm]) -> Result<Arc<Self>, KeySetError> {
        static HELD: Shared<[u8; 32], FixedKeys> = Shared::new();
        let names = algorithms.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>().join(" ");
        let hash = Sha256::new().chain_update(names).chain_update([0]).chain_update(text).finalize().into();
        HELD.get_or_make(&hash, || Ok(Self { set: KeySet::from_document(text, algorithms)?, hash }))
    }

    /// The keys.
    #[must_use]
    pub fn set(&self) -> &KeySet {
        &self.set
    }
}

impl PartialEq for FixedKeys {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for FixedKeys {}

/// A provider of this kind.
#[derive(Debug)]
pub struct Jwks {
    name: String,
    profile: Profile,
    algorithms: Vec<Algorithm>,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Fetched(Arc<KeyStore>),
    Fixed(Arc<FixedKeys>, u64),
}

impl Jwks {
    /// Starts to fetch the keys, unless they are at hand.
    #[must_use]
    pub fn start(name: &str, settings: &JwksSettings, surroundings: &Surroundings) -> Self {
        let keys = match &settings.source {
            KeySource::Fixed(keys) => Keys::Fixed(Arc::clone(keys), next_generation()),
            KeySource::Url(url, times) => {
                let source = AtUrl {
                    url: url.url().clone(),
                    algorithms: settings.algorithms.clone(),
                    fetch: Arc::clone(&surroundings.fetch),
                };
                Keys::Fetched(KeyStore::start(name, Box::new(source), *times, surroundings))
            }
        };
        let algorithms = settings.algorithms.clone();
        Self { name: name.to_owned(), profile: settings.profile.clone(), algorithms, keys }
    }

    async fn select(&self, header: &Header) -> Result<Arc<Key>, Denial> {
        match &self.keys {
            Keys::Fetched(store) => store.select(header).await,
            Keys::Fixed(keys, _) => Ok(keys.set().select(header).map(Arc::clone)?),
        }
    }
}

#[async_trait]
impl Provider for Jwks {
    fn name(&self) -> &str {
        &self.name
    }

    fn generation(&self) -> u64 {
        match &self.keys {
            Keys::Fetched(store) => store.generation(),
            Keys::Fixed(_, generation) => *generation,
        }
    }

    fn answers_for(&self, issuer: Option<&str>) -> bool {
        issuer == Some(&*self.profile.issuer)
    }

    async fn verify(&self, token: &str) -> Result<Arc<Identity>, Denial> {
        let unverified = Unverified::parse(token)?;
        // Before any key is looked for: an algorithm that is not the provider's buys no fetch.
        if !self.algorithms.contains(&unverified.header.algorithm) {
            return Err(Denial::new(Reason::AlgorithmRefused));
        }
        let key = self.select(&unverified.header).await?;
        let claims = unverified.verify(&key)?;
        Ok(read(&self.profile, token, unverified.header.token_type.as_deref(), claims)?)
    }
}

/// A key set at a URL that the operator named.
#[derive(Debug)]
pub(super) struct AtUrl {
    pub(super) url: Url,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) fetch: Arc<dyn Fetch>,
}

#[async_trait]
impl keys::KeySource for AtUrl {
    async fn fetch(&self) -> Result<KeySet, String> {
        let document = self.fetch.get(&self.url).await.map_err(|error| error.to_string())?;
        KeySet::from_jwks(&document, &self.algorithms).map_err(|error| format!("{}: {error}", self.url))
    }
}
