//! The Pingora adapter: it reads requests, asks the engine, and carries bytes. It decides nothing.
//!
//! [`app`] is what Pingora runs; `admit` is the straight path of a request, `forward` sends what was permitted, `relay` is
//! the way back, and `reply` is the one place that writes refusals.

mod admit;
pub mod app;
mod audit;
mod body;
mod budget;
mod credential;
pub mod edge;
mod exchange;
mod forward;
pub mod front;
mod local;
mod parameters;
mod pool;
mod relay;
mod reply;
mod signin;
mod tasks;
mod upstream;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use budget::Budget;
use exchange::{Exchange, Outcome};

use crate::engine::clock::Clock;
use crate::engine::counters::{Counters, Ended};
use crate::engine::decision::Denial;
use crate::engine::limits::StreamLimit;
use crate::engine::session::Sealer;
use crate::engine::snapshot::Snapshot;
use crate::engine::tasks::TaskOwners;
use crate::telemetry::sink::Sink;

/// For a body or an answer, besides the time that its size takes at [`SLOWEST`].
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes per second below which a client is given up.
const SLOWEST: u64 = 16 * 1024;

/// How long a client may take to send or to read so many bytes.
fn patience(size: usize) -> Duration {
    PATIENCE + Duration::from_secs(u64::try_from(size).unwrap_or(u64::MAX) / SLOWEST)
}

/// What every request of the process shares.
#[derive(Debug, Clone)]
pub struct Gateway {
    current: Arc<ArcSwap<Snapshot>>,
    /// For installations without secrets of their own: ids end with the process.
    own_sealer: Arc<Sealer>,
    tasks: Arc<TaskOwners>,
    streams: Arc<StreamLimit>,
    budget: Budget,
    sink: Sink,
    clock: Arc<dyn Clock>,
    in_flight: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

impl Gateway {
    /// A gateway that serves whatever snapshot is current when a request begins.
    ///
    /// # Errors
    /// When the system's random source fails.
    pub fn new(current: Arc<ArcSwap<Snapshot>>, sink: Sink, clock: Arc<dyn Clock>) -> Result<Self, Denial> {
        let own_sealer = Arc::new(Sealer::random()?);
        Ok(Self {
            current,
            own_sealer,
            tasks: Arc::default(),
            streams: Arc::default(),
            budget: Budget::default(),
            sink,
            clock,
            in_flight: Arc::default(),
            counters: Arc::default(),
        })
    }

    /// What became of all requests.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Requests in flight, and streams that wait among them.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        (self.in_flight.load(Ordering::Relaxed), self.streams.count())
    }

    /// Counts a request whose answer has ended, and writes its audit record.
    fn ended(&self, exchange: &Exchange) {
        let ended = match exchange.outcome {
            Outcome::Local => Ended::Answered,
            Outcome::Permit => Ended::Permitted,
            Outcome::Deny(reason, _) => Ended::Denied(reason),
        };
        let service = exchange.service.as_ref().map(|service| &*service.counts);
        self.counters.count(service, ended, exchange.started.elapsed());
        self.sink.line(audit::line(exchange));
    }

    fn sealer<'a>(&'a self, snapshot: &'a Snapshot) -> &'a Sealer {
        snapshot.sealer.as_ref().unwrap_or(&self.own_sealer)
    }
}

/// Counts and tells what the edge refuses before a request exists.
#[derive(Debug)]
pub struct EdgeLog {
    current: Arc<ArcSwap<Snapshot>>,
    counters: Arc<Counters>,
}

impl EdgeLog {
    /// An observer that also counts refusals as failures of the peer's address.
    #[must_use]
    pub fn new(current: Arc<ArcSwap<Snapshot>>, counters: Arc<Counters>) -> Self {
        Self { current, counters }
    }
}

impl edge::Observer for EdgeLog {
    fn refused(&self, peer: Option<IpAddr>, cause: &'static str, status: u16) {
        tracing::warn!(
            event = "malformed-request",
            cause,
            status,
            peer = peer.map(tracing::field::display),
            "refused at the edge"
        );
        self.counters.malformed();
        if let Some(peer) = peer {
            self.current.load().address_limit.failed(peer, std::time::Instant::now());
        }
    }
}
