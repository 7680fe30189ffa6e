//! Limits: how often and how many at once. Taken after authorization, all that fit or none.
//!
//! What counts: `tools/call`, `prompts/get`, `resources/read`, `completion/complete` and methods that rules name. Lists,
//! subscriptions and lifecycle never do, so `initialize` and `server/discover` are never answered with 429. Memory is
//! bounded: a limit keeps a million buckets at most; when all of them are in use, a caller without one is refused for a
//! second. Keys come from the verified identity, never from what a client may choose freely.
//!
//! Where the replicas of an installation have a place to count together, all limits of a request are taken there, in one
//! round trip; while it is lost, each says by itself whether it is counted here or refuses.

mod address;
mod shared;
mod state;
mod streams;
mod ticket;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use address::{AddressLimit, network};
pub use shared::{Counts, Measure, Place, Shared, Taken, Want};
pub use state::LimitState;
use state::Pace;
pub use streams::{StreamLimit, StreamPlace};
pub use ticket::Ticket;

use super::access::pattern::NamePattern;
use super::decision::Reason;
use crate::mcp::operation::Operation;
use crate::oauth::identity::Identity;

/// The longest period of a rate.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Methods that the specification names and limits count.
const COUNTED: [&str; 5] = ["tools/call", "prompts/get", "resources/read", "completion/complete", "logging/setLevel"];
/// Methods that no limit counts.
const UNCOUNTED: [&str; 14] = [
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "subscriptions/listen",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/cancel",
];

/// What a limit bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// A token bucket.
    Rate {
        /// Requests per period.
        count: u32,
        /// The period, up to a year.
        period: Duration,
        /// Requests at once; by default the count.
        burst: u32,
    },
    /// Requests in flight.
    Concurrent {
        /// How many.
        count: u32,
    },
}

/// What a limit is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Issuer and subject; a token without a subject counts by issuer and client.
    Subject,
    /// The client; tokens that name none count together.
    Client,
    /// The tool: such a limit is for tool calls only.
    Tool,
    /// The address, IPv6 by /64.
    Address,
    /// The service as a whole.
    Service,
}

/// What a shared limit does while whoever counts it cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLoss {
    /// Every replica counts by itself: together they let through no more than the limit times their number.
    #[default]
    Local,
    /// What it counts is refused.
    Deny,
}

/// Why a limit is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Zero requests: a deny rule says that.
    #[error("a limit of zero permits nothing; write a deny rule instead")]
    Zero,
    /// No period, or longer than a year.
    #[error("the period of a rate must be more than nothing and at most a year")]
    Period,
    /// Nothing to count by.
    #[error("the limit does not say what it is counted by")]
    NoKey,
    /// A key is written twice, or `service` beside another.
    #[error("the keys of the limit repeat each other")]
    KeyTwice,
    /// The pattern names a method that is never counted.
    #[error("the limit can never apply: `{0}` is not counted")]
    NeverCounted(String),
    /// Counted by tool, yet for other methods only.
    #[error("the limit can never apply: it is counted by tool but is not for tool calls")]
    NoTool,
}

/// One limit of a service.
#[derive(Debug)]
pub struct Limit {
    kind: LimitKind,
    pace: Pace,
    per: Vec<Key>,
    tools: Vec<NamePattern>,
    methods: Vec<NamePattern>,
    state: Arc<LimitState>,
    on_loss: OnLoss,
    /// What it is across replicas and reloads: all but how much it permits.
    id: String,
}

/// Narrows a limit; what any of the two names is counted, everything when both are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitSelector {
    /// Calls of these tools.
    pub tools: Vec<NamePattern>,
    /// These methods.
    pub methods: Vec<NamePattern>,
}

impl Limit {
    /// A limit. After a reload give it the `state` of the old one with the same service, keys and selector: the fill is
    /// kept, scaled to the new rate.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn new(
        kind: LimitKind,
        per: Vec<Key>,
        selector: LimitSelector,
        state: Arc<LimitState>,
    ) -> Result<Self, LimitError> {
        let pace = match kind {
            LimitKind::Rate { count: 0, .. }
            | LimitKind::Rate { burst: 0, .. }
            | LimitKind::Concurrent { count: 0 } => {
                return Err(LimitError::Zero);
            }
            LimitKind::Rate { period, .. } if period.is_zero() || period > LONGEST => return Err(LimitError::Period),
            LimitKind::Rate { count, period, burst } => Pace::new(count, period, burst),
            LimitKind::Concurrent { .. } => Pace::new(1, Duration::from_secs(1), 1),
        };
        let distinct: BTreeSet<_> = per.iter().collect();
        if per.is_empty() {
            return Err(LimitError::NoKey);
        }
        if distinct.len() < per.len() || (per.len() > 1 && per.contains(&Key::Service)) {
            return Err(LimitError::KeyTwice);
        }
        let LimitSelector { tools, methods } = selector;
        let uncounted = |method: &&NamePattern| {
            UNCOUNTED.iter().any(|name| method.matches(name)) && !COUNTED.iter().any(|name| method.matches(name))
        };
        if let Some(method) = methods.iter().find(uncounted) {
            return Err(LimitError::NeverCounted(method.text().to_owned()));
        }
        let calls =
            tools.is_empty() && !methods.is_empty() && !methods.iter().any(|method| method.matches("tools/call"));
        if per.contains(&Key::Tool) && calls {
            return Err(LimitError::NoTool);
        }
        let id = shared::id(kind, &per, &tools, &methods);
        Ok(Self { kind, pace, per, tools, methods, state, on_loss: OnLoss::default(), id })
    }

    /// The same limit, which does this while whoever counts it cannot be asked.
    #[must_use]
    pub fn on_loss(self, on_loss: OnLoss) -> Self {
        Self { on_loss, ..self }
    }

    /// The buckets, to be given to the limit that takes this one's place.
    #[must_use]
    pub fn state(&self) -> &Arc<LimitState> {
        &self.state
    }

    fn fits(&self, counted: Counted<'_>) -> bool {
        let tool = if let Counted::Tool(name) = counted { Some(name) } else { None };
        if tool.is_none() && self.per.contains(&Key::Tool) {
            return false;
        }
        (self.tools.is_empty() && self.methods.is_empty())
            || tool.is_some_and(|name| self.tools.iter().any(|pattern| pattern.matches(name)))
            || self.methods.iter().any(|pattern| pattern.matches(counted.method()))
    }

    /// Whom and what a request is counted by.
    fn counted_by<'a>(&self, identity: &'a Identity, address: IpAddr, counted: Counted<'a>) -> CountedBy<'a> {
        let by = |key| self.per.contains(&key);
        let subject = by(Key::Subject).then(|| {
            // Without a subject the client stands in: a bare issuer would throw all of its machines together.
            let client = identity.client.as_deref().filter(|_| identity.subject.is_none());
            (&*identity.issuer, identity.subject.as_deref(), client)
        });
        let client = by(Key::Client).then_some(identity.client.as_deref());
        let tool = if let (true, Counted::Tool(name)) = (by(Key::Tool), counted) { Some(name) } else { None };
        // Callers without an identity have nothing else to be told apart by.
        let by_address = by(Key::Address) || (identity.is_anonymous() && (by(Key::Subject) || by(Key::Client)));
        CountedBy { subject, client, tool, address: by_address.then(|| address::network(address)) }
    }

    fn key(&self, identity: &Identity, address: IpAddr, counted: Counted<'_>) -> u128 {
        self.state.key(&self.counted_by(identity, address, counted))
    }

    fn take(&self, key: u128, now: Instant) -> Result<(), Duration> {
        match self.kind {
            LimitKind::Rate { .. } => self.state.take(key, now, self.pace),
            LimitKind::Concurrent { count } => self.state.hold(key, now, count),
        }
    }

    fn give_back(&self, key: u128) {
        match self.kind {
            LimitKind::Rate { .. } => self.state.refund(key, self.pace),
            LimitKind::Concurrent { .. } => self.state.release(key),
        }
    }

    fn reason(&self) -> Reason {
        match self.kind {
            LimitKind::Rate { .. } => Reason::RateLimited,
            LimitKind::Concurrent { .. } => Reason::ConcurrencyLimited,
        }
    }
}

/// Whom and what a request is counted by.
#[derive(Debug, Hash)]
struct CountedBy<'a> {
    subject: Option<(&'a str, Option<&'a str>, Option<&'a str>)>,
    client: Option<Option<&'a str>>,
    tool: Option<&'a str>,
    address: Option<IpAddr>,
}

/// An operation that limits count.
#[derive(Debug, Clone, Copy)]
enum Counted<'a> {
    Tool(&'a str),
    Method(&'a str),
}

impl<'a> Counted<'a> {
    fn of(operation: &'a Operation<'_>) -> Option<Self> {
        match operation {
            Operation::CallTool { name, .. } => Some(Self::Tool(name)),
            Operation::GetPrompt { .. } => Some(Self::Method("prompts/get")),
            Operation::ReadResource { .. } => Some(Self::Method("resources/read")),
            Operation::CompletePrompt { .. } | Operation::CompleteResource { .. } => {
                Some(Self::Method("completion/complete"))
            }
            Operation::Method { method, .. } => Some(Self::Method(method)),
            Operation::SubscribeResource { .. }
            | Operation::Listen { .. }
            | Operation::List(_)
            | Operation::Lifecycle { .. } => None,
        }
    }

    fn method(self) -> &'a str {
        match self {
            Self::Tool(_) => "tools/call",
            Self::Method(method) => method,
        }
    }
}

/// All limits of a service.
#[derive(Debug, Default)]
pub struct Limits {
    limits: Vec<Limit>,
    shared: Option<Shared>,
}

impl Limits {
    /// These limits, counted here.
    #[must_use]
    pub fn new(limits: Vec<Limit>) -> Self {
        Self { limits, shared: None }
    }

    /// The same limits, counted with all replicas.
    #[must_use]
    pub fn shared_by(self, shared: Shared) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// The limits, in the order of the policy.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }
}
