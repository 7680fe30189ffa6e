//! Credentials that were obtained: bounded, one at a time for all who wait, renewed ahead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use moka::Expiry;
use moka::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{Caller, Obtain, Obtained};
use crate::engine::clock::Clock;
use crate::engine::decision::{Denial, Reason};
use crate::engine::revocations::Revocations;

/// Bytes of memory that all credentials may take, roughly.
const CAPACITY: u64 = 64 << 20;
/// Bytes that one takes besides its text, roughly.
const OVERHEAD: usize = 256;
/// Failures that are remembered.
const FAILURES: u64 = 10_000;
/// How long nobody asks again for what was not had.
const REST: Duration = Duration::from_secs(2);
/// How long a credential stays that took the place of a refused one, whatever the upstream says.
const ANEW: Duration = Duration::from_secs(5);

/// The SHA-256 of the caller's token, and the service with its settings.
pub(super) type Key = ([u8; 32], u64);
type Outcome = Result<Arc<Kept>, Denial>;
type Waiting = watch::Receiver<Option<Outcome>>;

/// Credentials of all services.
pub struct CredentialCache {
    kept: Cache<Key, Arc<Kept>>,
    failed: Cache<Key, Denial>,
    replaced: Cache<Key, ()>,
    flights: Mutex<HashMap<Key, Waiting>>,
    generations: AtomicU64,
    clock: Arc<dyn Clock>,
}

pub(super) struct Kept {
    value: HeaderValue,
    until: i64,
    renew: i64,
    renewing: AtomicBool,
    lives: Duration,
    /// The grant that it was made under.
    grant: Option<Box<str>>,
}

/// What a credential is obtained with.
pub(super) struct Flight {
    pub(super) obtain: Arc<dyn Obtain>,
    pub(super) caller: Option<Caller>,
    pub(super) prefix: String,
    pub(super) runtime: Handle,
}

struct Lifetime;

impl Expiry<Key, Arc<Kept>> for Lifetime {
    fn expire_after_create(&self, _key: &Key, kept: &Arc<Kept>, _created: Instant) -> Option<Duration> {
        Some(kept.lives)
    }

    fn expire_after_update(
        &self,
        _key: &Key,
        kept: &Arc<Kept>,
        _updated: Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.lives)
    }
}

impl std::fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialCache").field("kept", &self.kept.entry_count()).finish_non_exhaustive()
    }
}

impl CredentialCache {
    /// An empty cache.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let weigher = |_key: &Key, kept: &Arc<Kept>| u32::try_from(OVERHEAD + kept.value.len()).unwrap_or(u32::MAX);
        Self {
            kept: Cache::builder().weigher(weigher).max_capacity(CAPACITY).expire_after(Lifetime).build(),
            failed: Cache::builder().max_capacity(FAILURES).time_to_live(REST).build(),
            replaced: Cache::builder().max_capacity(FAILURES).time_to_live(ANEW).build(),
            flights: Mutex::default(),
            generations: AtomicU64::new(0),
            clock,
        }
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// The credential that is there. One whose time nears its end is renewed in the background.
    pub(super) fn held(self: &Arc<Self>, key: &Key, flight: impl FnOnce() -> Flight) -> Option<HeaderValue> {
        let now = self.clock.unix();
        let kept = self.kept.get(key).filter(|kept| now < kept.until)?;
        let due = now >= kept.renew && !self.failed.contains_key(key);
        if due && !kept.renewing.swap(true, Ordering::Relaxed) {
            drop(self.waiting(key, flight, |_| false));
        }
        Some(kept.value.clone())
    }

    /// The credential that is obtained now, or that another obtains already.
    pub(super) async fn obtained(
        self: &Arc<Self>,
        key: &Key,
        flight: impl FnOnce() -> Flight,
    ) -> Result<HeaderValue, Denial> {
        if let Some(denial) = self.failed.get(key) {
            return Err(denial);
        }
        let now = self.clock.unix();
        let mut waiting = match self.waiting(key, flight, |kept| now < kept.until) {
            Ok(waiting) => waiting,
            Err(kept) => return Ok(kept.value.clone()),
        };
        let outcome = waiting.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        // Whoever obtained it has ended without a word, which only a defect explains.
        let lost = || Denial::new(Reason::Internal).because("a credential was lost on its way");
        outcome.ok().flatten().ok_or_else(lost)?.map(|kept| kept.value.clone())
    }

    /// Drops a credential that the upstream refused.
    pub(super) fn refused(&self, key: &Key, value: &HeaderValue) {
        let same = self.kept.get(key).is_some_and(|kept| kept.value == *value);
        if same && !self.replaced.contains_key(key) {
            self.replaced.insert(*key, ());
            self.kept.invalidate(key);
        }
    }

    /// Drops what was made under grants that are revoked. Their tokens open nothing any more; this is so that nothing of
    /// them stays.
    pub fn drop_revoked(&self, revocations: &Revocations) {
        for (key, kept) in &self.kept {
            if kept.grant.as_deref().is_some_and(|grant| revocations.contains(grant)) {
                self.kept.invalidate(&*key);
            }
        }
    }

    /// Waits for the flight of `key`, which begins unless it has begun; `Err` is what is there already and will do.
    fn waiting(
        self: &Arc<Self>,
        key: &Key,
        flight: impl FnOnce() -> Flight,
        will_do: impl Fn(&Kept) -> bool,
    ) -> Result<Waiting, Arc<Kept>> {
        let mut flights = self.flights();
        if let Some(waiting) = flights.get(key) {
            return Ok(waiting.clone());
        }
        // One that has landed since the caller looked.
        if let Some(kept) = self.kept.get(key).filter(|kept| will_do(kept)) {
            return Err(kept);
        }
        let (landed, waiting) = watch::channel(None);
        flights.insert(*key, waiting.clone());
        drop(flights);
        let Flight { obtain, caller, prefix, runtime } = flight();
        let landing = Landing { cache: Arc::clone(self), key: *key };
        runtime.spawn(async move {
            let obtained = obtain.obtain(caller.as_ref()).await;
            let grant = caller.as_ref().and_then(Caller::grant).map(|(_, grant)| grant.into());
            let outcome = landing.cache.keep(&landing.key, &prefix, obtained, grant);
            drop(landing);
            // Nobody may be waiting any more.
            let _ = landed.send(Some(outcome));
        });
        Ok(waiting)
    }

    pub(super) fn keep(
        &self,
        key: &Key,
        prefix: &str,
        obtained: Result<Obtained, Denial>,
        grant: Option<Box<str>>,
    ) -> Outcome {
        match obtained.and_then(|obtained| Kept::new(&obtained, prefix, self.clock.unix())) {
            Ok(kept) => {
                let kept = Arc::new(Kept { grant, ..kept });
                self.kept.insert(*key, Arc::clone(&kept));
                Ok(kept)
            }
            Err(denial) => {
                self.failed.insert(*key, denial.clone());
                if let Some(kept) = self.kept.get(key) {
                    kept.renewing.store(false, Ordering::Relaxed);
                }
                Err(denial)
            }
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, Waiting>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries, after what is due has been done.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (u64, usize) {
        self.kept.run_pending_tasks();
        (self.kept.entry_count(), self.flights().len())
    }
}

impl Kept {
    fn new(obtained: &Obtained, prefix: &str, now: i64) -> Result<Self, Denial> {
        let refused = |cause: &'static str| Denial::new(Reason::CredentialRefused).because(cause);
        let lives = u64::try_from(obtained.until.saturating_sub(now)).unwrap_or_default();
        if lives == 0 {
            return Err(refused("the credential that came has ended"));
        }
        let value = HeaderValue::try_from(format!("{prefix}{}", obtained.text));
        let mut value = value.or(Err(refused("the credential that came fits no header")))?;
        value.set_sensitive(true);
        let (until, renew) = (obtained.until, obtained.renew);
        let lives = Duration::from_secs(lives);
        Ok(Self { value, until, renew, renewing: AtomicBool::new(false), lives, grant: None })
    }
}

/// A flight under way; however it ends, the next one can begin.
struct Landing {
    cache: Arc<CredentialCache>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.cache.flights().remove(&self.key);
    }
}
