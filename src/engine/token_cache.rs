//! Facts about tokens, verified once: "this provider, with this configuration and key set, verified this token".
//!
//! Holds no decision and nothing about a service. An entry is found only under the SHA-256 of the whole token and the
//! generation of the provider, so it is gone when a key, a secret or the configuration changes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use tokio::sync::OnceCell;

use super::clock::Clock;
use super::decision::Denial;
use super::provider::Provider;
use crate::oauth::identity::Identity;

/// How long a fact is kept at most.
const LONGEST: Duration = Duration::from_secs(300);
/// Bytes of memory that all facts may take, roughly.
const CAPACITY: u64 = 64 << 20;
/// Bytes that a fact takes besides its claims, roughly.
const OVERHEAD: usize = 512;

type Key = ([u8; 32], u64);
type Verified = Result<Arc<Identity>, Denial>;

/// The facts of all providers.
pub struct TokenCache {
    facts: Cache<Key, Fact>,
    flights: Mutex<HashMap<Key, Arc<OnceCell<Verified>>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Fact {
    identity: Arc<Identity>,
    weight: u32,
    lives: Duration,
}

struct Lifetime;

impl Expiry<Key, Fact> for Lifetime {
    fn expire_after_create(&self, _key: &Key, fact: &Fact, _created: Instant) -> Option<Duration> {
        Some(fact.lives)
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache").field("facts", &self.facts.entry_count()).finish_non_exhaustive()
    }
}

impl TokenCache {
    /// An empty cache.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let facts = Cache::builder()
            .weigher(|_key: &Key, fact: &Fact| fact.weight)
            .max_capacity(CAPACITY)
            .expire_after(Lifetime)
            .build();
        Self { facts, flights: Mutex::default(), clock }
    }

    /// What is known about the token with this hash, as `provider` now verifies.
    #[must_use]
    pub fn peek(&self, provider: &dyn Provider, hash: &[u8; 32]) -> Option<Arc<Identity>> {
        self.facts.get(&(*hash, provider.generation())).map(|fact| fact.identity)
    }

    /// Verifies the token, once for all who ask at the same time. Refusals are not kept.
    ///
    /// # Errors
    /// What the provider says.
    pub async fn identity(&self, provider: &Arc<dyn Provider>, token: &str, hash: &[u8; 32]) -> Verified {
        let generation = provider.generation();
        let key = (*hash, generation);
        let flight = Flight { cache: self, key, cell: Arc::clone(self.flights().entry(key).or_default()) };
        let verified = flight.cell.get_or_init(|| provider.verify(token)).await.clone()?;
        // Keys that changed meanwhile may not be the ones that verified.
        if provider.generation() == generation {
            let left = u64::try_from(verified.expires.saturating_sub(self.clock.unix())).unwrap_or_default();
            let lives = LONGEST.min(provider.keeps_facts()).min(Duration::from_secs(left));
            // The claims of a JWT are in it; those of an opaque token came from elsewhere.
            let claims = serde_json::to_vec(&verified.claims).map_or(0, |text| text.len());
            let weight = u32::try_from(OVERHEAD + 3 * token.len().max(claims)).unwrap_or(u32::MAX);
            if !lives.is_zero() {
                self.facts.insert(key, Fact { identity: Arc::clone(&verified), weight, lives });
            }
        }
        Ok(verified)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, Arc<OnceCell<Verified>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One verification under way. Whoever leaves last takes it away, also when its request is cut off.
struct Flight<'a> {
    cache: &'a TokenCache,
    key: Key,
    cell: Arc<OnceCell<Verified>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.cache.flights().entry(self.key)
            && (self.cell.initialized() || Arc::strong_count(entry.get()) <= 2)
            && Arc::ptr_eq(entry.get(), &self.cell)
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

    use super::*;
    use crate::engine::clock::SetClock;
    use crate::engine::decision::Reason;

    #[derive(Debug, Default)]
    struct Counting {
        calls: AtomicUsize,
        generation: AtomicU64,
        refuses: bool,
        expires: i64,
        /// Bytes of claims that are not in the token.
        claims: usize,
        keeps: Option<Duration>,
    }

    #[async_trait::async_trait]
    impl Provider for Counting {
        fn name(&self) -> &str {
            "counting"
        }

        fn generation(&self) -> u64 {
            self.generation.load(Ordering::SeqCst)
        }

        fn answers_for(&self, _: Option<&str>) -> bool {
            true
        }

        fn keeps_facts(&self) -> Duration {
            self.keeps.unwrap_or(Duration::MAX)
        }

        async fn verify(&self, _: &str) -> Verified {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if self.claims == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if self.refuses {
                return Err(Denial::new(Reason::SignatureInvalid));
            }
            Ok(Arc::new(Identity {
                holder: crate::oauth::identity::Holder::default(),
                issuer: "i".into(),
                subject: None,
                client: None,
                scopes: Default::default(),
                audiences: Vec::new(),
                expires: self.expires,
                not_before: None,
                token_type: None,
                claims: [("c".to_owned(), "x".repeat(self.claims).into())].into_iter().collect(),
                token_name: String::new(),
                twin_name: None,
            }))
        }
    }

    fn cache() -> TokenCache {
        TokenCache::new(Arc::new(SetClock(AtomicI64::new(1000))))
    }

    fn calls(counting: &Counting) -> usize {
        counting.calls.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn a19_fifty_at_once_cost_one_verification() {
        let (cache, counting) = (Arc::new(cache()), Arc::new(Counting { expires: 5000, ..Counting::default() }));
        let provider: Arc<dyn Provider> = counting.clone();
        let all = (0..50).map(|_| {
            let (cache, provider) = (Arc::clone(&cache), Arc::clone(&provider));
            tokio::spawn(async move { cache.identity(&provider, "t", &[1; 32]).await.is_ok() })
        });
        for one in all.collect::<Vec<_>>() {
            assert!(one.await.unwrap());
        }
        assert_eq!(calls(&counting), 1);
        assert!(cache.peek(provider.as_ref(), &[1; 32]).is_some());
        assert!(cache.peek(provider.as_ref(), &[2; 32]).is_none(), "another token");
        assert!(cache.flights().is_empty());
    }

    #[tokio::test]
    async fn a19_a_fact_is_gone_with_the_key_and_never_outlives_the_token() {
        let (cache, counting) = (cache(), Arc::new(Counting { expires: 1001, ..Counting::default() }));
        let provider: Arc<dyn Provider> = counting.clone();
        cache.identity(&provider, "t", &[1; 32]).await.unwrap();
        assert!(cache.peek(provider.as_ref(), &[1; 32]).is_some());
        counting.generation.store(7, Ordering::SeqCst);
        assert!(cache.peek(provider.as_ref(), &[1; 32]).is_none(), "another generation");
        counting.generation.store(0, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert!(cache.peek(provider.as_ref(), &[1; 32]).is_none(), "past `exp`");
    }

    #[tokio::test]
    async fn b03_a_fact_is_kept_for_as_long_as_its_provider_says_and_counts_with_all_its_claims() {
        let brief = Counting { expires: 5000, keeps: Some(Duration::from_millis(500)), ..Counting::default() };
        let (cache, provider): (_, Arc<dyn Provider>) = (cache(), Arc::new(brief));
        cache.identity(&provider, "t", &[1; 32]).await.unwrap();
        assert!(cache.peek(provider.as_ref(), &[1; 32]).is_some());
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(cache.peek(provider.as_ref(), &[1; 32]).is_none(), "the token would live on");

        let large: Arc<dyn Provider> = Arc::new(Counting { expires: 5000, claims: 60 << 10, ..Counting::default() });
        for n in 0..1000_u16 {
            let mut hash = [0; 32];
            hash[..2].copy_from_slice(&n.to_be_bytes());
            cache.identity(&large, "t", &hash).await.unwrap();
        }
        cache.facts.run_pending_tasks();
        assert!((300..400).contains(&cache.facts.entry_count()), "{}", cache.facts.entry_count());
    }

    #[tokio::test]
    async fn a19_refusals_and_cut_off_requests_leave_nothing_behind() {
        let (cache, counting) = (cache(), Arc::new(Counting { refuses: true, ..Counting::default() }));
        let provider: Arc<dyn Provider> = counting.clone();
        for _ in 0..2 {
            assert!(cache.identity(&provider, "t", &[1; 32]).await.is_err());
        }
        assert_eq!(calls(&counting), 2);
        let cut = tokio::time::timeout(Duration::from_millis(1), cache.identity(&provider, "t", &[1; 32])).await;
        assert!(cut.is_err());
        assert!(cache.flights().is_empty());
    }
}
