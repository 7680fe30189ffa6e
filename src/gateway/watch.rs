//! Whether a stream may go on: looked at every few seconds, and when the token ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use super::exchange::Exchange;
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::{Pipeline, Service};
use crate::mcp::message::Incoming;
use crate::oauth::identity::Identity;

/// Between two looks: a stream ends within five seconds of what ends it.
const LOOK: Duration = Duration::from_secs(4);
/// How long a stream may be silent before a comment is written.
const SILENCE: Duration = Duration::from_secs(15);

/// What a token has left that was accepted a little late.
const LEEWAY: i64 = 60;

/// Watches one stream.
pub struct Watch<'a> {
    gateway: &'a Gateway,
    exchange: &'a Exchange,
    /// Seconds since the epoch.
    expires: i64,
    next: Instant,
    spoke: Instant,
}

impl<'a> Watch<'a> {
    /// Begins to watch.
    pub fn new(gateway: &'a Gateway, exchange: &'a Exchange) -> Self {
        let now = gateway.clock.unix();
        let exp = exchange.identity.as_ref().map_or(now, |identity| identity.expires);
        // A token that was accepted within the leeway is not told off at once.
        let expires = if exp > now { exp } else { exp.saturating_add(LEEWAY) };
        let mut watch = Self { gateway, exchange, expires, next: Instant::now(), spoke: Instant::now() };
        watch.schedule(now);
        watch
    }

    fn schedule(&mut self, now: i64) {
        let left = u64::try_from(self.expires.saturating_sub(now)).unwrap_or_default();
        self.next = Instant::now() + LOOK.min(Duration::from_secs(left));
    }

    /// Resolves when it is time to look.
    pub async fn due(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    /// Something was written.
    pub fn spoke(&mut self) {
        self.spoke = Instant::now();
    }

    /// Whether nothing was written for so long that a comment is due.
    pub fn is_quiet(&self) -> bool {
        self.spoke.elapsed() >= SILENCE
    }

    /// Looks whether the caller may still have the stream: by the token, by the keys that vouch for it, and by the rules
    /// of the newest generation.
    ///
    /// # Errors
    /// Why it must end.
    pub async fn look(&mut self) -> Result<(), Reason> {
        let now = self.gateway.clock.unix();
        if now >= self.expires {
            return Err(Reason::TokenExpired);
        }
        self.schedule(now);
        match self.judged().await {
            // Keys that cannot be had at the moment take nothing away from a token that was good.
            Err(denial) if denial.reason != Reason::ProviderUnavailable => Err(denial.reason),
            _ => Ok(()),
        }
    }

    async fn judged(&self) -> Result<(), Denial> {
        let snapshot = self.gateway.current.load_full();
        let before = self.exchange.service.as_ref().ok_or_else(|| Denial::new(Reason::Internal))?;
        let service = snapshot.service(&before.name).ok_or_else(|| Denial::new(Reason::PathUnknown))?;
        let pipeline = service.pipeline()?;
        let identity = pipeline.authentication.identify(self.exchange.token.as_ref().map(|token| &*token.0)).await?;
        if is_same(before, service) { Ok(()) } else { self.permitted(pipeline, &identity) }
    }

    fn permitted(&self, pipeline: &Pipeline, identity: &Arc<Identity>) -> Result<(), Denial> {
        let access = &pipeline.access;
        if self.exchange.body.is_empty() {
            return access.decide(identity, &super::admit::SESSION, self.exchange.era, &mut Vec::new()).map(drop);
        }
        let incoming = Incoming::parse(&self.exchange.body).or(Err(Denial::new(Reason::Internal)))?;
        for message in incoming.messages() {
            access.decide(identity, &message.operation, self.exchange.era, &mut Vec::new())?;
        }
        Ok(())
    }
}

fn is_same(one: &Arc<Service>, other: &Arc<Service>) -> bool {
    Arc::ptr_eq(one, other)
}
