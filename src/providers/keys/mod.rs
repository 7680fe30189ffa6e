//! Keys of an issuer that are fetched: ahead, in the background, and at most once per cool-down for a key nobody knows.
//!
//! A key goes only by a successful fetch. The last good keys serve through an outage; when they are too old, or when there
//! never were any, the answer is 503 and not 401: the token is not at fault.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Surroundings, next_generation};
use crate::engine::decision::{Denial, Reason};
use crate::oauth::fault::{Fault, FaultKind};
use crate::oauth::jwk::KeySet;
use crate::oauth::jws::Header;
use crate::oauth::key::Key;

/// The first wait after a fetch that failed; it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a fetch that failed.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// When keys are fetched, and how long they serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTimes {
    /// Between two fetches.
    pub refresh: Duration,
    /// Between two fetches for unknown keys.
    pub cool_down: Duration,
    /// How long last good keys serve.
    pub max_stale: Duration,
}

/// Where keys come from.
#[async_trait]
pub trait KeySource: Send + Sync + std::fmt::Debug {
    /// Fetches the whole set.
    ///
    /// # Errors
    /// What went wrong, for the log only.
    async fn fetch(&self) -> Result<KeySet, String>;
}

/// The keys of one issuer.
#[derive(Debug)]
pub struct KeyStore {
    name: String,
    source: Box<dyn KeySource>,
    times: KeyTimes,
    surroundings: Surroundings,
    current: ArcSwap<Current>,
    /// When a fetch for an unknown key last began, or one ahead failed. Held while any is under way, so that there is never
    /// a second.
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Current {
    keys: Option<(KeySet, Instant)>,
    generation: u64,
}

impl KeyStore {
    /// Starts to fetch. Fetching ends when the store is dropped.
    #[must_use]
    pub fn start(name: &str, source: Box<dyn KeySource>, times: KeyTimes, surroundings: &Surroundings) -> Arc<Self> {
        let current = ArcSwap::from_pointee(Current { keys: None, generation: next_generation() });
        let (name, surroundings) = (name.to_owned(), surroundings.clone());
        let store = Arc::new(Self { name, source, times, current, asked: Mutex::new(None), surroundings });
        store.surroundings.runtime.spawn(refresh(Arc::downgrade(&store), times.refresh));
        store
    }

    /// Changes whenever the keys do.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// The key that a token with this header must be signed with; fetches when nobody knows it.
    ///
    /// # Errors
    /// 401 when no key fits, 503 when no keys can be had.
    pub async fn select(self: &Arc<Self>, header: &Header) -> Result<Arc<Key>, Denial> {
        match self.known(header) {
            Ok(Ok(key)) => return Ok(key),
            Ok(Err(fault)) if fault.kind != FaultKind::Key => return Err(fault.into()),
            Ok(Err(_)) | Err(_) => {}
        }
        self.fetch_once(header).await;
        Ok(self.known(header)??)
    }

    /// What the keys at hand say; the outer error means that there are none.
    fn known(&self, header: &Header) -> Result<Result<Arc<Key>, Fault>, Denial> {
        let unavailable =
            |why: &'static str| Denial::new(Reason::ProviderUnavailable).retry_after(self.times.cool_down).because(why);
        let current = self.current.load();
        let (keys, fetched) = current.keys.as_ref().ok_or_else(|| unavailable("no keys were fetched yet"))?;
        let age = self.surroundings.clock.monotonic().saturating_duration_since(*fetched);
        if age > self.times.max_stale {
            return Err(unavailable("the last good keys are too old"));
        }
        Ok(keys.select(header).map(Arc::clone))
    }

    /// Fetches, unless that was tried within the cool-down. All who come meanwhile wait for the one fetch.
    async fn fetch_once(self: &Arc<Self>, header: &Header) {
        let mut asked = self.asked.lock().await;
        if matches!(self.known(header), Ok(Ok(_))) {
            return;
        }
        let now = self.surroundings.clock.monotonic();
        if asked.is_some_and(|before| now.saturating_duration_since(before) < self.times.cool_down) {
            return;
        }
        *asked = Some(now);
        // On the background runtime: a client that goes away does not stop what others wait for.
        let store = Arc::clone(self);
        if let Err(error) = self.surroundings.runtime.spawn(async move { store.fetch().await }).await {
            tracing::error!(provider = %self.name, %error, "fetching keys ended early");
        }
    }

    /// Fetches, and takes over what was fetched.
    async fn fetch(&self) -> bool {
        let fetched = self.source.fetch().await.and_then(|keys| {
            if keys.keys().is_empty() { Err("the set holds no usable key".to_owned()) } else { Ok(keys) }
        });
        match fetched {
            Err(cause) => {
                tracing::warn!(event = "keys-unavailable", provider = %self.name, cause, "keys could not be fetched");
                false
            }
            Ok(keys) => {
                for left_out in keys.left_out() {
                    tracing::warn!(event = "key-left-out", provider = %self.name, kid = left_out.kid, cause = %left_out.error, "a key is not used");
                }
                let now = self.surroundings.clock.monotonic();
                self.current.rcu(|current| {
                    let same =
                        current.keys.as_ref().is_some_and(|(before, _)| before.fingerprint() == keys.fingerprint());
                    let generation = if same { current.generation } else { next_generation() };
                    Current { keys: Some((keys.clone(), now)), generation }
                });
                true
            }
        }
    }
}

/// Fetches ahead for as long as the store lives.
async fn refresh(store: Weak<KeyStore>, every: Duration) {
    let mut retry = FIRST_RETRY;
    loop {
        let Some(held) = store.upgrade() else { return };
        let mut asked = held.asked.lock().await;
        let fetched = held.fetch().await;
        if !fetched {
            *asked = Some(held.surroundings.clock.monotonic());
        }
        drop(asked);
        let wait = if fetched {
            retry = FIRST_RETRY;
            every
        } else {
            let wait = retry.min(every);
            retry = (retry * 2).min(LONGEST_RETRY);
            wait
        };
        drop(held);
        tokio::time::sleep(wait).await;
    }
}
