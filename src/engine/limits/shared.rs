//! Limits that are counted across replicas, in a place that all of them ask: one round trip for all limits of a request.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{CountedBy, Key, Limit, LimitKind, NamePattern};
use crate::engine::store::{Name, StoreError};
use crate::engine::vault::{RandomFailed, Vault, random};

/// The largest debt, in microseconds: with a moment of this age it is still a whole number where doubles are counted with.
const DEEPEST: u64 = 1 << 52;

/// What names a request's places while it holds them.
pub type Place = [u8; 16];

/// What one request takes from one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The bucket: a keyed hash of whom and what it is about.
    pub bucket: Name,
    /// How it is counted.
    pub measure: Measure,
}

/// How a bucket is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// By rate, as debt in microseconds.
    Rate {
        /// Of one request.
        each: u64,
        /// Of an empty bucket.
        span: u64,
    },
    /// By requests in flight.
    Places {
        /// How many there are.
        count: u32,
    },
}

/// What became of the wants of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// All of them are met.
    All,
    /// None is: this one, by its index, means the longest wait.
    None(usize, Duration),
}

/// Counts for all replicas, by one clock.
#[async_trait]
pub trait Counts: Send + Sync + std::fmt::Debug {
    /// Takes everything that is wanted of the limits of `service`, or nothing. Places are held until they are released, or
    /// for half a minute after the process that took them was last heard of.
    ///
    /// # Errors
    /// It cannot be asked, or does not answer soon; then nothing is known, and the caller releases.
    async fn take(&self, service: &Arc<str>, place: &Place, wants: &[Want]) -> Result<Taken, StoreError>;

    /// Gives the places back that were taken, or may have been, in the background.
    fn release(&self, service: &Arc<str>, place: Place, buckets: Vec<Name>);
}

/// The shared count of one service.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Who counts.
    pub counts: Arc<dyn Counts>,
    /// What names buckets, the same in every replica.
    pub vault: Arc<Vault>,
    /// The service.
    pub service: Arc<str>,
}

impl Shared {
    /// Takes `wants` or nothing. What it holds it gives back when it is dropped, also when nobody waited for the answer.
    ///
    /// # Errors
    /// It is not known whether anything was taken.
    pub(super) async fn take(&self, wants: &[Want]) -> Result<(Taken, Held), TakeError> {
        let places = wants.iter().filter(|want| matches!(want.measure, Measure::Places { .. }));
        let mut held =
            Held { shared: self.clone(), place: random()?, buckets: places.map(|want| want.bucket).collect() };
        let taken = self.counts.take(&self.service, &held.place, wants).await?;
        if taken != Taken::All {
            held.buckets.clear();
        }
        Ok((taken, held))
    }

    /// What `limit` wants for a request that is counted so.
    pub(super) fn want(&self, limit: &Limit, by: &CountedBy<'_>) -> Want {
        let measure = match limit.kind {
            LimitKind::Concurrent { count } => Measure::Places { count },
            LimitKind::Rate { count, period, burst } => {
                let period = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
                let each = period.div_ceil(u64::from(count.max(1))).clamp(1, DEEPEST);
                Measure::Rate { each, span: each.saturating_mul(u64::from(burst.max(1))).min(DEEPEST) }
            }
        };
        let address = by.address.map(|address| address.to_string());
        let (issuer, subject, stand_in) = by.subject.map_or((None, None, None), |(i, s, c)| (Some(i), s, c));
        let client = by.client.map(Option::unwrap_or_default);
        let named = [issuer, subject, stand_in, client, by.client.flatten(), by.tool, address.as_deref()];
        // What is absent is told from what is empty.
        let named = named.iter().flat_map(|part| [if part.is_some() { "+" } else { "-" }, part.unwrap_or_default()]);
        let parts: Vec<&str> = [&*self.service, limit.id.as_str()].into_iter().chain(named).collect();
        Want { bucket: self.vault.mac("limit", &parts), measure }
    }
}

/// What a limit is across replicas and reloads: all but how much it permits.
pub(super) fn id(kind: LimitKind, per: &[Key], tools: &[NamePattern], methods: &[NamePattern]) -> String {
    let kind = if matches!(kind, LimitKind::Rate { .. }) { "rate" } else { "places" };
    let texts = |patterns: &[NamePattern]| -> Vec<(bool, String)> {
        // A glob and a regular expression of the same text are two patterns.
        let is_glob = |pattern: &NamePattern| NamePattern::glob(pattern.text()).is_ok_and(|glob| glob == *pattern);
        patterns.iter().map(|pattern| (is_glob(pattern), pattern.text().to_owned())).collect()
    };
    format!("{kind} {per:?} {:?} {:?}", texts(tools), texts(methods))
}

/// Why shared limits could not be taken.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum TakeError {
    /// Whoever counts cannot be asked.
    #[error(transparent)]
    Lost(#[from] StoreError),
    /// No name for the request.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

/// Places that one request holds across replicas.
#[derive(Debug)]
pub(super) struct Held {
    shared: Shared,
    place: Place,
    buckets: Vec<Name>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.buckets.is_empty() {
            self.shared.counts.release(&self.shared.service, self.place, std::mem::take(&mut self.buckets));
        }
    }
}
