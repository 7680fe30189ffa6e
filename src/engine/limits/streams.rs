//! Streams that wait for events: how many one caller, and all of them, may have open at once.
//!
//! Such a stream is no use of a tool, so no limit of a policy counts it; without a bound one caller could take every place
//! of the process.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::address;
use super::state::LimitState;
use crate::engine::decision::{Denial, Reason};
use crate::oauth::identity::Identity;

/// Of one caller.
const OWN: u32 = 128;
/// Of all callers: half of the requests that may be in flight.
const ALL: usize = 10_000;

/// The streams of the process.
#[derive(Debug, Default)]
pub struct StreamLimit {
    state: Arc<LimitState>,
    open: Arc<AtomicUsize>,
}

/// The place of one stream, given back when it is dropped.
#[derive(Debug)]
pub struct StreamPlace {
    state: Arc<LimitState>,
    open: Arc<AtomicUsize>,
    key: u128,
}

impl StreamLimit {
    /// Streams that are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a place for a stream of `identity`; callers without one count by address.
    ///
    /// # Errors
    /// [`Reason::ConcurrencyLimited`] for the caller's own bound, [`Reason::Shed`] for that of all.
    pub fn open(&self, identity: &Identity, address: Option<IpAddr>) -> Result<StreamPlace, Denial> {
        let by_address = address.filter(|_| identity.is_anonymous()).map(address::network);
        let (subject, client) = (identity.subject.as_deref(), identity.client.as_deref());
        let key = self.state.key(&(&*identity.issuer, subject, client, by_address));
        if let Err(wait) = self.state.hold(key, Instant::now(), OWN) {
            return Err(Denial::new(Reason::ConcurrencyLimited)
                .retry_after(wait)
                .because("the caller has many streams"));
        }
        let place = StreamPlace { state: Arc::clone(&self.state), open: Arc::clone(&self.open), key };
        if self.open.fetch_add(1, Ordering::Relaxed) >= ALL {
            return Err(Denial::new(Reason::Shed).because("there are many streams"));
        }
        Ok(place)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.state.release(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_takes_no_more_than_its_own_places_and_gets_them_back() {
        let limit = StreamLimit::default();
        let named =
            |subject: &str| Identity { issuer: "i".into(), subject: Some(subject.into()), ..Identity::anonymous() };
        let places: Vec<_> = (0..OWN).map(|_| limit.open(&named("alice"), None).expect("a place")).collect();
        assert_eq!(limit.open(&named("alice"), None).unwrap_err().reason, Reason::ConcurrencyLimited);
        drop(limit.open(&named("bob"), None).expect("another caller has its own"));
        drop(places);
        drop(limit.open(&named("alice"), None).expect("free again"));
        assert_eq!(limit.open.load(Ordering::Relaxed), 0);
    }
}
