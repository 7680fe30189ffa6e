//! The way back: which headers pass, and what happens to the answer's body.
//!
//! Lists are cut to what the caller may use, whole JSON answers at their end and events one by one. Everything else is
//! passed on as it comes, without waiting for more.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;

use super::admit::{ListPlan, list_of};
use super::exchange::Exchange;
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::Pipeline;
use crate::mcp::era::Era;
use crate::mcp::error::error_body;
use crate::mcp::list;
use crate::mcp::message::Message;
use crate::mcp::sse::{EventFilter, Verdict};

/// Headers of an upstream's answer that reach the client.
const PASSED: [&str; 9] = [
    "content-type",
    "content-length",
    "transfer-encoding",
    "date",
    "mcp-protocol-version",
    "retry-after",
    "x-accel-buffering",
    "content-encoding",
    "mcp-session-id",
];

/// What happens to the answer's body.
#[derive(Debug)]
pub enum Relay {
    /// Bytes pass as they are, however they are framed.
    Untouched,
    /// The answer holds a list; its framing is not known yet.
    List(ListPlan),
    /// A JSON answer that holds a list, collected until its end.
    Json(ListPlan, BytesMut),
    /// Events, of which the answer holds a list.
    Events(ListPlan, Box<EventFilter>),
    /// A JSON answer that is counted against its cap.
    Counted(usize),
}

impl Relay {
    /// What the answer to `message` will need.
    pub fn plan(message: &Message<'_>, era: Era) -> Self {
        list_of(&message.operation).map_or(Self::Untouched, |kind| Self::List((kind, era)))
    }
}

/// Judges the head of an upstream's answer and leaves in it only what the client may see.
///
/// Requests for credentials and redirects are the gateway's trouble, not the client's: they become 502.
pub fn head(answer: &mut ResponseHeader, exchange: &mut Exchange, pipeline: &Pipeline) -> Result<(), Denial> {
    let status = answer.status;
    if status.is_informational() {
        return Ok(());
    }
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED) || status.is_redirection()
    {
        let location = answer.headers.contains_key(LOCATION);
        return Err(
            Denial::new(Reason::UpstreamRefused).because(format!("upstream answered {status}, location: {location}"))
        );
    }
    let events = essence(&answer.headers).is_some_and(|essence| essence.eq_ignore_ascii_case("text/event-stream"));
    exchange.relay = match std::mem::replace(&mut exchange.relay, Relay::Untouched) {
        Relay::List(plan) if status.is_success() => {
            if answer.headers.contains_key(CONTENT_ENCODING) {
                return Err(Denial::new(Reason::UpstreamInvalid).because("list answer with a content coding"));
            }
            rewritten(answer);
            match events {
                true => Relay::Events(plan, Box::new(EventFilter::new(pipeline.upstream.list_limit))),
                false => Relay::Json(plan, BytesMut::new()),
            }
        }
        _ if events => Relay::Untouched,
        _ => Relay::Counted(0),
    };
    let dropped: Vec<_> = answer.headers.keys().filter(|name| !PASSED.contains(&name.as_str())).cloned().collect();
    for name in dropped {
        answer.remove_header(&name);
    }
    if events {
        let _ = answer.insert_header("x-accel-buffering", "no");
    }
    let _ = answer.insert_header("cache-control", "no-store");
    let _ = answer.insert_header("x-content-type-options", "nosniff");
    let _ = answer.insert_header("x-request-id", &exchange.id);
    for (name, value) in &exchange.added {
        let _ = answer.insert_header(name, value);
    }
    exchange.status = status.as_u16();
    Ok(())
}

/// The length of a rewritten body is not known ahead.
fn rewritten(answer: &mut ResponseHeader) {
    answer.remove_header(&CONTENT_LENGTH);
    let _ = answer.insert_header(TRANSFER_ENCODING, "chunked");
}

fn essence(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

/// Passes on, collects or filters a piece of the answer's body.
pub fn body(piece: &mut Option<Bytes>, end: End, exchange: &mut Exchange, pipeline: &Pipeline) -> Result<(), Denial> {
    let bytes = piece.take().unwrap_or_default();
    let limits = &pipeline.upstream;
    match &mut exchange.relay {
        Relay::Untouched | Relay::List(_) => *piece = Some(bytes),
        Relay::Counted(seen) => {
            *seen += bytes.len();
            if *seen > limits.response_limit {
                return Err(Denial::new(Reason::ResponseTooLarge));
            }
            *piece = Some(bytes);
        }
        Relay::Json(plan, collected) => {
            if collected.len() + bytes.len() > limits.list_limit {
                return Err(Denial::new(Reason::ResponseTooLarge));
            }
            collected.extend_from_slice(&bytes);
            if end == End::Reached {
                let (plan, collected) = (*plan, std::mem::take(collected));
                *piece = Some(
                    filtered(&collected, plan, exchange, pipeline).map_or_else(|| collected.freeze(), Bytes::from),
                );
            }
        }
        Relay::Events(plan, _) => {
            let plan = *plan;
            let Relay::Events(_, mut filter) = std::mem::replace(&mut exchange.relay, Relay::Untouched) else {
                return Err(Denial::new(Reason::Internal));
            };
            let mut out = Vec::with_capacity(bytes.len());
            let judged = filter.push(&bytes, end == End::Reached, &mut out, &mut |data| {
                filtered(data, plan, exchange, pipeline).map_or(Verdict::Keep, Verdict::Replace)
            });
            judged.map_err(|error| Denial::new(Reason::UpstreamInvalid).because(error.to_string()))?;
            exchange.relay = Relay::Events(plan, filter);
            *piece = Some(Bytes::from(out));
        }
    }
    Ok(())
}

/// Whether a piece is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More follows.
    Ahead,
    /// Nothing follows.
    Reached,
}

/// The message with only the items that the caller may use; `None` leaves it as it is. What cannot be read as a list is
/// replaced by an error: the status has gone out already, and a list that nobody judged must not follow it.
fn filtered(message: &[u8], (kind, era): ListPlan, exchange: &Exchange, pipeline: &Pipeline) -> Option<Vec<u8>> {
    if message.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    let Some(identity) = &exchange.identity else { return Some(unreadable(exchange)) };
    let lister = pipeline.access.lister(identity, kind);
    match list::filter(message, kind, era, &mut |name| lister.shows(name)) {
        Ok(filtered) => filtered,
        Err(error) => {
            tracing::warn!(event = "list-unreadable", request = %exchange.id, %error, "list answer of the upstream withheld");
            Some(unreadable(exchange))
        }
    }
}

fn unreadable(exchange: &Exchange) -> Vec<u8> {
    let reason = Reason::UpstreamInvalid;
    error_body(exchange.asked.id.as_deref(), reason.code(), reason.public(), None, &exchange.id)
}
