//! Limits: how often and how many at once. Taken after authorization, all that fit or none.
//!
//! What counts: `tools/call`, `prompts/get`, `resources/read`, `completion/complete` and methods that rules name. Lists,
//! subscriptions and lifecycle never do, so `initialize` and `server/discover` are never answered with 429. Memory is
//! bounded: a limit keeps a million buckets at most; when all of them are in use, a caller without one is refused for a
//! second. Keys come from the verified identity, never from what a client may choose freely.

mod address;
mod state;
mod streams;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use address::{AddressLimit, network};
pub use state::LimitState;
use state::Pace;
pub use streams::{StreamLimit, StreamPlace};

use super::access::pattern::NamePattern;
use super::decision::{Denial, Reason};
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
        Ok(Self { kind, pace, per, tools, methods, state })
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

    fn key(&self, identity: &Identity, address: IpAddr, counted: Counted<'_>) -> u128 {
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
        let address = by_address.then(|| address::network(address));
        self.state.key(&(subject, client, tool, address))
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
pub struct Limits(Vec<Limit>);

impl Limits {
    /// These limits.
    #[must_use]
    pub fn new(limits: Vec<Limit>) -> Self {
        Self(limits)
    }

    /// The limits, in the order of the policy.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.0
    }

    /// Takes from every limit that fits, or from none. The ticket holds the places in flight until it is dropped.
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
        let mut taken: Vec<(&Limit, u128)> = Vec::with_capacity(self.0.len());
        let mut longest: Option<(Duration, usize, Reason)> = None;
        for (place, limit) in self.0.iter().enumerate().filter(|(_, limit)| limit.fits(counted)) {
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
            return Err(Denial::new(reason).retry_after(wait).because(format!("limit {place} is exhausted")));
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

/// The places in flight of one request, given back when it is dropped.
#[derive(Debug, Default)]
#[must_use = "a ticket that is dropped holds nothing"]
pub struct Ticket {
    held: Vec<(Arc<LimitState>, u128)>,
    taken: Vec<(Arc<LimitState>, u128, Pace)>,
}

impl Ticket {
    /// Gives back everything: what it was for does not happen.
    pub fn give_back(self) {
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
