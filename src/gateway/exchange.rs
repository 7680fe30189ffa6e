//! What is known about one request while it is on its way.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;

use super::relay::Relay;
use crate::engine::decision::{Denial, Reason};
use crate::engine::limits::Ticket;
use crate::engine::service::{Pipeline, Service};
use crate::engine::snapshot::Snapshot;
use crate::engine::stage::Added;
use crate::oauth::identity::Identity;

/// One request, from its head to the end of its answer. It keeps the snapshot that it began with.
#[derive(Debug)]
pub struct Exchange {
    /// The gateway's own id of the request: 16 random bytes in hex.
    pub id: String,
    /// When the head was read.
    pub started: Instant,
    /// The same in milliseconds since the epoch.
    pub time: u64,
    /// The generation that judges the request.
    pub snapshot: Arc<Snapshot>,
    /// The client's address, behind trusted proxies.
    pub address: Option<IpAddr>,
    /// The trace id of a well-formed `traceparent`.
    pub trace: Option<String>,
    /// The service, once routed.
    pub service: Option<Arc<Service>>,
    /// Headers that stages add to the answer.
    pub added: Added,
    /// Who asks, once authenticated.
    pub identity: Option<Arc<Identity>>,
    /// What is asked for, once parsed.
    pub asked: Asked,
    /// The whole body, once read; what is judged is what is forwarded.
    pub body: Bytes,
    /// Whether the body has been handed to the upstream.
    pub body_sent: bool,
    /// The upstream's session id, once opened.
    pub session: Option<Vec<u8>>,
    /// A denial of a phase that cannot write, on its way to the one that can.
    pub denied: Option<Denial>,
    /// What was decided.
    pub outcome: Outcome,
    /// Rules that could not be decided, with the cause.
    pub undecided: Vec<String>,
    /// The index of the rule that decided.
    pub rule: Option<u32>,
    /// Holds the places in concurrency limits until the answer has ended.
    pub ticket: Option<Ticket>,
    /// What happens to the answer's body.
    pub relay: Relay,
    /// The status that the client got.
    pub status: u16,
    in_flight: Arc<AtomicUsize>,
}

/// What the message asks for, as the audit record and refusals need it.
#[derive(Debug, Default)]
pub struct Asked {
    /// The JSON-RPC id as written, when the message is a request.
    pub id: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// The tool, prompt or resource.
    pub target: Option<String>,
    /// Whether `target` is a tool.
    pub kind: Target,
}

/// What `Asked::target` names.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A tool.
    Tool,
    /// Anything else, or nothing.
    #[default]
    Other,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Nothing yet, or answered by the gateway itself.
    Local,
    /// Forwarded.
    Permit,
    /// Refused.
    Deny(Reason, Option<String>),
}

impl Exchange {
    /// Begins a request under `snapshot`.
    pub fn begin(snapshot: Arc<Snapshot>, in_flight: &Arc<AtomicUsize>) -> Self {
        in_flight.fetch_add(1, Ordering::Relaxed);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self {
            id: format!("{:032x}", rand::random::<u128>()),
            started: Instant::now(),
            time: u64::try_from(time).unwrap_or(u64::MAX),
            snapshot,
            address: None,
            trace: None,
            service: None,
            added: Vec::new(),
            identity: None,
            asked: Asked::default(),
            body: Bytes::new(),
            body_sent: false,
            session: None,
            denied: None,
            outcome: Outcome::Local,
            undecided: Vec::new(),
            rule: None,
            ticket: None,
            relay: Relay::Untouched,
            status: StatusCode::OK.as_u16(),
            in_flight: Arc::clone(in_flight),
        }
    }

    /// The pipeline of the routed service.
    pub fn pipeline(&self) -> Result<&Pipeline, Denial> {
        self.service.as_deref().ok_or_else(|| Denial::new(Reason::Internal))?.pipeline()
    }

    /// Requests in flight, this one included.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
