//! What is known about one request while it is on its way.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::budget::Held;
use super::relay::Plan;
use crate::engine::credential::Kind;
use crate::engine::decision::{Denial, Reason};
use crate::engine::limits::{StreamPlace, Ticket};
use crate::engine::service::{Pipeline, Service};
use crate::engine::session::Session;
use crate::engine::snapshot::Snapshot;
use crate::engine::stage::Added;
use crate::mcp::era::Era;
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
    /// How a refusal is written.
    pub form: Form,
    /// Headers that stages add to the answer.
    pub added: Added,
    /// Who asks, once authenticated.
    pub identity: Option<Arc<Identity>>,
    /// What is asked for, once parsed.
    pub asked: Asked,
    /// The token that was presented, to look at it again while a stream is open. Never written anywhere.
    pub token: Option<Token>,
    /// The whole body, once read; what is judged is what is forwarded.
    pub body: Bytes,
    /// The caller's session, once opened.
    pub session: Option<Session>,
    /// The era of the message.
    pub era: Era,
    /// The kind of credential that the upstream gets from the gateway.
    pub credential: Option<Kind>,
    /// What was decided.
    pub outcome: Outcome,
    /// Rules that could not be decided, with the cause.
    pub undecided: Vec<String>,
    /// The index of the rule that decided.
    pub rule: Option<u32>,
    /// Hold the places in concurrency limits until the answer has ended.
    pub tickets: Vec<Ticket>,
    /// The place of a stream that waits.
    pub place: Option<StreamPlace>,
    /// Large things that are held in memory, as the budget of the process counts them.
    pub held: Vec<Held>,
    /// What the answer will need.
    pub plan: Plan,
    /// The status that the client got.
    pub status: u16,
    in_flight: Arc<AtomicUsize>,
}

/// A token as it was presented.
pub struct Token(pub Box<str>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// What the message asks for, as the audit record and refusals need it.
#[derive(Debug, Default)]
pub struct Asked {
    /// The JSON-RPC id as written, when the message is a request.
    pub id: Option<String>,
    /// The method; of a batch the first one's. `GET` and `DELETE` of a session stand for themselves.
    pub method: Option<String>,
    /// Whether an answer is awaited.
    pub expects: Expects,
    /// The tool, prompt or resource.
    pub target: Option<String>,
    /// Whether `target` is a tool.
    pub kind: Target,
}

/// Whether a request of the client awaits an answer of the server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// It does.
    Answer,
    /// A notification or a response: it is only taken note of.
    #[default]
    Nothing,
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

/// How a refusal is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a JSON-RPC error.
    #[default]
    Message,
    /// As an error of OAuth (RFC 6749 section 5.2).
    Oauth,
    /// As a page for a person.
    Page,
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
            form: Form::default(),
            added: Vec::new(),
            identity: None,
            asked: Asked::default(),
            token: None,
            body: Bytes::new(),
            session: None,
            era: Era::Legacy,
            credential: None,
            outcome: Outcome::Local,
            undecided: Vec::new(),
            rule: None,
            tickets: Vec::new(),
            place: None,
            held: Vec::new(),
            plan: Plan::default(),
            status: 0,
            in_flight: Arc::clone(in_flight),
        }
    }

    /// The pipeline of the routed service.
    pub fn pipeline(&self) -> Result<&Pipeline, Denial> {
        self.service.as_deref().ok_or_else(|| Denial::new(Reason::Internal))?.pipeline().map(AsRef::as_ref)
    }

    /// Whether clients reach the routed service over https; where none is, or it is closed, whether they reach all of them so.
    pub fn is_public_https(&self) -> bool {
        match self.pipeline() {
            Ok(pipeline) => pipeline.metadata_url.starts_with("https:"),
            Err(_) => self.snapshot.public_https,
        }
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
