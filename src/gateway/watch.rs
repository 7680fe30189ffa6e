//! Whether a stream may go on: looked at every few seconds, and when the token ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use super::admit::SESSION;
use super::exchange::Exchange;
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::Pipeline;
use crate::mcp::message::Incoming;
use crate::oauth::identity::Identity;

/// Between two looks: a stream ends within five seconds of what ends it.
const LOOK: Duration = Duration::from_secs(4);
/// How long a stream may be silent before a comment is written.
const SILENCE: Duration = Duration::from_secs(15);

/// How long a look waits for a provider.
const PATIENCE: Duration = Duration::from_millis(500);
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
    /// of the newest generation. Returns that generation of the service when it is another one.
    ///
    /// # Errors
    /// Why it must end.
    pub async fn look(&mut self) -> Result<Option<Arc<Pipeline>>, Reason> {
        let now = self.gateway.clock.unix();
        if now >= self.expires {
            return Err(Reason::TokenExpired);
        }
        self.schedule(now);
        let snapshot = self.gateway.current.load_full();
        let before = self.exchange.service.as_ref().ok_or(Reason::Internal)?;
        let service = snapshot.service(&before.name).ok_or(Reason::PathUnknown)?;
        let pipeline = service.pipeline().map_err(|denial| denial.reason)?;
        let identity = self.identified(pipeline).await?;
        if Arc::ptr_eq(before, service) {
            return Ok(None);
        }
        self.permitted(pipeline, &identity).map_err(|denial| denial.reason)?;
        Ok(Some(Arc::clone(pipeline)))
    }

    /// Who the token says that it is, now. Keys that cannot be had at the moment take nothing away from what was verified.
    async fn identified(&self, pipeline: &Pipeline) -> Result<Arc<Identity>, Reason> {
        let known = || self.exchange.identity.clone().ok_or(Reason::Internal);
        let token = self.exchange.token.as_ref().map(|token| &*token.0);
        match tokio::time::timeout(PATIENCE, pipeline.authentication.identify(token)).await {
            Ok(Ok(identity)) => Ok(identity),
            Ok(Err(denial)) if denial.reason != Reason::ProviderUnavailable => Err(denial.reason),
            Ok(Err(_)) | Err(_) => known(),
        }
    }

    fn permitted(&self, pipeline: &Pipeline, identity: &Identity) -> Result<(), Denial> {
        let (access, era) = (&pipeline.access, self.exchange.era);
        if self.exchange.body.is_empty() {
            return access.decide(identity, &SESSION, era, &mut Vec::new()).map(drop);
        }
        let incoming = Incoming::parse(&self.exchange.body).or(Err(Denial::new(Reason::Internal)))?;
        let mut operations = incoming.messages().iter().map(|message| &message.operation);
        operations.try_for_each(|operation| access.decide(identity, operation, era, &mut Vec::new()).map(drop))
    }
}
