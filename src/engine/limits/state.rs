//! How full each bucket is, in bounded memory, behind many small locks.
//!
//! A bucket is kept as its debt: the time until it is full again. Debt shrinks by itself, a bucket without debt needs no
//! memory, and dropping it forgets nothing. With the debt stands the debt at which the bucket was empty, so that a changed
//! rate scales the fill when a bucket is next touched; the state itself knows no rate and is shared across reloads.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Locks per state.
const SHARDS: usize = 64;
/// Buckets per lock at most: a million per state, some 64 MiB.
const PER_SHARD: usize = 16_384;
/// Buckets looked at to make room at once: no lock is held longer than this takes.
const LOOKED_AT: usize = 64;
/// What a caller waits for when there is no room for its bucket.
const FULL: Duration = Duration::from_secs(1);

/// The buckets of one limit. It outlives reloads: give the same state to the limit that takes the old one's place. Until
/// it is used it needs no memory of its own.
#[derive(Debug)]
pub struct LimitState {
    start: Instant,
    hashers: [RandomState; 2],
    shards: OnceLock<Box<[Shard]>>,
    per_shard: usize,
}

/// What to do with a new key when there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Refuse it: the limit holds, newcomers wait.
    Refuse,
    /// Drop, of a few, the bucket with the least debt: active offenders stay.
    Replace,
}

type Shard = Mutex<HashMap<u128, Bucket>>;

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// When it is full again, in nanoseconds since the start.
    full_at: u64,
    /// The debt of an empty bucket, in nanoseconds, by the rate that was last applied.
    span: u64,
    /// Requests in flight.
    held: u32,
}

/// A rate as a bucket applies it, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Debt per request.
    pub(super) each: u64,
    /// Debt of an empty bucket.
    pub(super) span: u64,
}

impl Pace {
    /// `count` per `period` with at most `burst` at once. Rounded so that it never gives more.
    pub(super) fn new(count: u32, period: Duration, burst: u32) -> Self {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let each = period.div_ceil(u64::from(count.max(1))).max(1);
        Self { each, span: each.saturating_mul(u64::from(burst.max(1))) }
    }
}

impl Bucket {
    /// The debt at `now` in the measure of `span`.
    fn debt(&self, now: u64, span: u64) -> u64 {
        let debt = self.full_at.saturating_sub(now);
        if self.span == span || self.span == 0 || debt == 0 {
            return debt;
        }
        let scaled = u128::from(debt) * u128::from(span) / u128::from(self.span);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    fn is_idle(&self, now: u64) -> bool {
        self.held == 0 && self.full_at <= now
    }
}

impl Default for LimitState {
    fn default() -> Self {
        Self::bounded(PER_SHARD)
    }
}

impl LimitState {
    /// A state with every bucket full.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn bounded(per_shard: usize) -> Self {
        Self {
            start: Instant::now(),
            hashers: [RandomState::new(), RandomState::new()],
            shards: OnceLock::new(),
            per_shard,
        }
    }

    /// How many buckets are kept at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        SHARDS * self.per_shard
    }

    /// How many buckets are kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.shards.get().into_iter().flatten();
        shards.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether no bucket is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of a bucket: keyed hashes, so that nobody can choose a collision and no personal data is kept.
    pub(super) fn key(&self, parts: &impl Hash) -> u128 {
        let [one, two] = &self.hashers;
        (u128::from(one.hash_one(parts)) << 64) | u128::from(two.hash_one(parts))
    }

    fn time(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn shard(&self, key: u128) -> Option<MutexGuard<'_, HashMap<u128, Bucket>>> {
        let shards = self.shards.get_or_init(|| (0..SHARDS).map(|_| Shard::default()).collect());
        let place = usize::try_from(key % SHARDS as u128).ok()?;
        shards.get(place).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `change` on the bucket of `key`; refuses when a new bucket finds no room.
    fn with<T>(
        &self,
        key: u128,
        now: u64,
        no_room: NoRoom,
        change: impl FnOnce(&mut Bucket) -> Result<T, Duration>,
    ) -> Result<T, Duration> {
        let mut shard = self.shard(key).ok_or(FULL)?;
        if shard.len() >= self.per_shard && !shard.contains_key(&key) {
            make_room(&mut shard, now, no_room);
            if shard.len() >= self.per_shard {
                return Err(FULL);
            }
        }
        match shard.entry(key) {
            Entry::Occupied(mut bucket) => change(bucket.get_mut()),
            Entry::Vacant(place) => {
                let mut bucket = Bucket::default();
                let outcome = change(&mut bucket)?;
                place.insert(bucket);
                Ok(outcome)
            }
        }
    }

    /// Takes one request's worth, or tells how long to wait for it.
    pub(super) fn take(&self, key: u128, now: Instant, pace: Pace) -> Result<(), Duration> {
        let now = self.time(now);
        self.with(key, now, NoRoom::Refuse, |bucket| {
            let debt = bucket.debt(now, pace.span).saturating_add(pace.each);
            if debt > pace.span {
                return Err(Duration::from_nanos(debt - pace.span));
            }
            (bucket.full_at, bucket.span) = (now.saturating_add(debt), pace.span);
            Ok(())
        })
    }

    /// Gives back what [`take`](Self::take) took.
    pub(super) fn refund(&self, key: u128, pace: Pace) {
        if let Some(bucket) = self.shard(key).as_mut().and_then(|shard| shard.get_mut(&key)) {
            bucket.full_at = bucket.full_at.saturating_sub(pace.each);
        }
    }

    /// Takes one of `count` places, or tells how long to wait before asking again.
    pub(super) fn hold(&self, key: u128, now: Instant, count: u32) -> Result<(), Duration> {
        self.with(key, self.time(now), NoRoom::Refuse, |bucket| {
            if bucket.held >= count {
                return Err(FULL);
            }
            bucket.held += 1;
            Ok(())
        })
    }

    /// Gives back a place; the bucket goes with its last one.
    pub(super) fn release(&self, key: u128) {
        let Some(mut shard) = self.shard(key) else { return };
        if let Entry::Occupied(mut bucket) = shard.entry(key) {
            let held = bucket.get().held.saturating_sub(1);
            bucket.get_mut().held = held;
            if held == 0 && bucket.get().span == 0 {
                bucket.remove();
            }
        }
    }

    /// How long until the bucket has room for one, without taking it.
    pub(super) fn wait(&self, key: u128, now: Instant, pace: Pace) -> Option<Duration> {
        let now = self.time(now);
        let debt = self.shard(key)?.get(&key)?.debt(now, pace.span).saturating_add(pace.each);
        (debt > pace.span).then(|| Duration::from_nanos(debt - pace.span))
    }

    /// Takes one request's worth after the fact; an empty bucket stays empty and does not sink deeper.
    pub(super) fn charge(&self, key: u128, now: Instant, pace: Pace) {
        let now = self.time(now);
        // With `Replace` there is always room.
        let _ = self.with(key, now, NoRoom::Replace, |bucket| {
            let debt = bucket.debt(now, pace.span).saturating_add(pace.each).min(pace.span);
            (bucket.full_at, bucket.span) = (now.saturating_add(debt), pace.span);
            Ok(())
        });
    }
}

/// Drops idle buckets among a few that are looked at, and, if none is and `no_room` says so, the least indebted of them.
fn make_room(shard: &mut HashMap<u128, Bucket>, now: u64, no_room: NoRoom) {
    let looked_at = || shard.iter().take(LOOKED_AT);
    let idle: Vec<u128> = looked_at().filter(|(_, bucket)| bucket.is_idle(now)).map(|(key, _)| *key).collect();
    let least = looked_at().filter(|(_, bucket)| bucket.held == 0).min_by_key(|(_, bucket)| bucket.full_at);
    let least = least.map(|(key, _)| *key).filter(|_| idle.is_empty() && no_room == NoRoom::Replace);
    for key in idle.into_iter().chain(least) {
        shard.remove(&key);
    }
    // The same buckets would be looked at again while they are active: a full sweep, rarely, finds the idle ones behind.
    if shard.len() >= shard.capacity().min(PER_SHARD) {
        shard.retain(|_, bucket| !bucket.is_idle(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn o03_a_flood_of_keys_fills_the_table_and_no_more_and_takes_nothing_from_those_in_it() {
        let state = LimitState::bounded(8);
        let (now, pace) = (Instant::now(), Pace::new(1, HOUR, 1));
        let known = state.key(&"known");
        state.take(known, now, pace).expect("the first of all finds room");
        let refused = (0..20_000).filter(|number| state.take(state.key(number), now, pace).is_err()).count();
        assert!(state.len() <= state.capacity(), "{} buckets where {} fit", state.len(), state.capacity());
        assert!(refused > 19_000, "when every bucket is in use, newcomers wait: {refused}");
        assert!(state.take(known, now, pace).is_err(), "a flood is no way to a new bucket");
        let later = now + 2 * HOUR;
        state.take(state.key(&"late"), later, pace).expect("buckets that are full again make room");
        state.take(known, later, pace).expect("and who waited is served");
    }

    #[test]
    fn o03_a_flood_of_failures_forgets_the_least_and_keeps_the_worst() {
        let state = LimitState::bounded(8);
        let (now, pace) = (Instant::now(), Pace::new(100, HOUR, 100));
        let worst = state.key(&"worst");
        (0..100).for_each(|_| state.charge(worst, now, pace));
        (0..20_000).for_each(|number| state.charge(state.key(&number), now, pace));
        assert!(state.len() <= state.capacity(), "{} buckets where {} fit", state.len(), state.capacity());
        assert!(state.wait(worst, now, pace).is_some(), "an active offender stays known");
    }

    #[test]
    fn places_in_flight_need_no_memory_once_they_are_given_back() {
        let state = LimitState::bounded(8);
        let now = Instant::now();
        for number in 0..10_000 {
            let key = state.key(&number);
            state.hold(key, now, 1).expect("a free place");
            assert_eq!(state.hold(key, now, 1), Err(FULL), "one at once");
            state.release(key);
        }
        assert!(state.is_empty(), "{} buckets are left", state.len());
    }

    #[test]
    fn n11_the_fill_is_scaled_when_the_rate_changes() {
        let state = LimitState::new();
        let now = Instant::now();
        let key = state.key(&"alice");
        let taken = |count, burst| {
            let pace = Pace::new(count, HOUR, burst);
            (0..100).take_while(|_| state.take(key, now, pace).is_ok()).count()
        };
        (0..2).for_each(|_| state.take(key, now, Pace::new(4, HOUR, 4)).expect("two of four"));
        assert_eq!(taken(8, 8), 4, "half full of four is half full of eight");
        assert_eq!(taken(80, 80), 0, "an empty bucket stays empty at a higher rate");
    }
}
