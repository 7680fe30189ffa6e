//! Taking: of all limits that fit, or of none.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::{Held, Taken, Want};
use super::state::{LimitState, Pace};
use super::{Counted, Limit, LimitKind, Limits, OnLoss, Shared};
use crate::engine::decision::{Denial, Reason};
use crate::mcp::operation::Operation;
use crate::oauth::identity::Identity;

/// What a refused caller waits for while nobody can count.
const LOST: Duration = Duration::from_secs(1);

impl Limits {
    /// Takes for every operation of one request, from every limit that fits, or nothing at all. The tickets hold the places
    /// in flight until they are dropped.
    ///
    /// # Errors
    /// [`Reason::RateLimited`] or [`Reason::ConcurrencyLimited`], whichever means the longest wait, which is named;
    /// [`Reason::StoreUnavailable`] when whoever counts cannot be asked and a limit refuses then.
    pub async fn take_all<'m>(
        &self,
        identity: &Identity,
        address: IpAddr,
        operations: impl Iterator<Item = &'m Operation<'m>> + Clone + Send,
        now: Instant,
    ) -> Result<Vec<Ticket>, Denial> {
        if let Some(shared) = &self.shared {
            let (wants, limits) = self.wanted(shared, identity, address, operations.clone());
            if wants.is_empty() {
                return Ok(Vec::new());
            }
            let error = match shared.take(&wants).await {
                Ok((Taken::All, held)) => {
                    return Ok(vec![Ticket { held: Vec::new(), taken: Vec::new(), shared: Some(held) }]);
                }
                Ok((Taken::None(at, wait), _)) => {
                    let limit = limits.get(at).and_then(|place| Some((*place, self.limits.get(*place)?)));
                    let (place, limit) = limit.ok_or_else(|| Denial::new(Reason::Internal))?;
                    return Err(exhausted(limit.reason(), wait, place));
                }
                Err(error) => error,
            };
            let denies = |place: &usize| self.limits.get(*place).is_none_or(|limit| limit.on_loss == OnLoss::Deny);
            if limits.iter().any(denies) {
                return Err(Denial::new(Reason::StoreUnavailable).retry_after(LOST).because(error.to_string()));
            }
        }
        let mut tickets = Vec::new();
        for operation in operations {
            match self.take(identity, address, operation, now) {
                Ok(ticket) => tickets.push(ticket),
                Err(denial) => {
                    tickets.into_iter().for_each(Ticket::give_back);
                    return Err(denial);
                }
            }
        }
        Ok(tickets)
    }

    /// What is wanted of whoever counts for all replicas, and by which limit.
    fn wanted<'m>(
        &self,
        shared: &Shared,
        identity: &Identity,
        address: IpAddr,
        operations: impl Iterator<Item = &'m Operation<'m>>,
    ) -> (Vec<Want>, Vec<usize>) {
        let (mut wants, mut limits) = (Vec::new(), Vec::new());
        for counted in operations.filter_map(Counted::of) {
            for (place, limit) in self.limits.iter().enumerate().filter(|(_, limit)| limit.fits(counted)) {
                wants.push(shared.want(limit, &limit.counted_by(identity, address, counted)));
                limits.push(place);
            }
        }
        (wants, limits)
    }

    /// Takes from every limit that fits, or from none, as they are counted here.
    ///
    /// # Errors
    /// [`Reason::RateLimited`] or [`Reason::ConcurrencyLimited`], whichever means the longest wait, which is named.
    pub fn take(
        &self,
        identity: &Identity,
        address: IpAddr,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Result<Ticket, Denial> {
        let mut ticket = Ticket::default();
        let Some(counted) = Counted::of(operation) else { return Ok(ticket) };
        let mut taken: Vec<(&Limit, u128)> = Vec::with_capacity(self.limits.len());
        let mut longest: Option<(Duration, usize, Reason)> = None;
        for (place, limit) in self.limits.iter().enumerate().filter(|(_, limit)| limit.fits(counted)) {
            let key = limit.key(identity, address, counted);
            match limit.take(key, now) {
                Ok(()) => taken.push((limit, key)),
                Err(wait) if longest.is_none_or(|(known, _, _)| wait > known) => {
                    longest = Some((wait, place, limit.reason()));
                }
                Err(_) => {}
            }
        }
        if let Some((wait, place, reason)) = longest {
            taken.iter().for_each(|(limit, key)| limit.give_back(*key));
            return Err(exhausted(reason, wait, place));
        }
        for (limit, key) in taken {
            match limit.kind {
                LimitKind::Concurrent { .. } => ticket.held.push((Arc::clone(&limit.state), key)),
                LimitKind::Rate { .. } => ticket.taken.push((Arc::clone(&limit.state), key, limit.pace)),
            }
        }
        Ok(ticket)
    }
}

fn exhausted(reason: Reason, wait: Duration, place: usize) -> Denial {
    Denial::new(reason).retry_after(wait).because(format!("limit {place} is exhausted"))
}

/// The places in flight of one request, given back when it is dropped.
#[derive(Debug, Default)]
#[must_use = "a ticket that is dropped holds nothing"]
pub struct Ticket {
    held: Vec<(Arc<LimitState>, u128)>,
    taken: Vec<(Arc<LimitState>, u128, Pace)>,
    /// Gives back by itself.
    #[expect(dead_code, reason = "it is kept to be dropped")]
    shared: Option<Held>,
}

impl Ticket {
    /// Gives back everything that is counted here: what it was for does not happen.
    fn give_back(self) {
        for (state, key, pace) in &self.taken {
            state.refund(*key, *pace);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        for (state, key) in self.held.drain(..) {
            state.release(key);
        }
    }
}
