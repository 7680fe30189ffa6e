//! The way back: which headers pass, and what happens to the answer's body.
//!
//! A JSON answer is read whole and judged before its head goes out, so that whatever is wrong with it still gets the right
//! status. An event stream passes event by event, each judged before its first byte passes.

mod decode;
mod events;
mod json;
mod judge;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, TRANSFER_ENCODING,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

use super::exchange::{Exchange, Expects};
use super::forward::Stop;
use super::{Gateway, reply};
use crate::engine::decision::{Denial, Reason};
use crate::engine::session::Session;
use crate::mcp::era::Era;
use crate::mcp::message::Message;
use crate::mcp::operation::{ItemKind, Operation};
pub use decode::Coding;
pub use events::events;
pub use json::json;

/// Headers of an upstream's answer that reach the client, besides those that the gateway writes.
const PASSED: [HeaderName; 2] = [RETRY_AFTER, HeaderName::from_static("mcp-protocol-version")];
const SESSION_ID: &str = "mcp-session-id";

/// What the answer to a request will need.
#[derive(Debug, Default)]
pub struct Plan {
    /// The lists that it may hold, which are cut to what the caller may use.
    pub lists: Vec<ItemKind>,
    /// Whether it may answer several requests: then answers are told apart by what they hold.
    pub batch: bool,
    /// What `initialize` asked for.
    pub revision: Option<String>,
    /// Whether the stream is there to wait: it may be silent for as long as it likes.
    pub waits: bool,
    /// Whether it answers `server/discover`.
    pub discovers: bool,
}

impl Plan {
    /// A stream of a session: when it is resumed it brings answers to any request of before.
    pub fn of_session() -> Self {
        Self { lists: ItemKind::ALL.to_vec(), batch: true, waits: true, ..Self::default() }
    }

    /// What the answer to `messages` will need.
    pub fn of(messages: &[Message<'_>], batch: bool) -> Self {
        let mut plan = Self { batch, ..Self::default() };
        for message in messages {
            match &message.operation {
                Operation::List(kind) => plan.lists.push(*kind),
                Operation::Listen { .. } => plan.waits = true,
                Operation::Lifecycle { method } => match method.as_ref() {
                    "tasks/list" => plan.lists.push(ItemKind::Task),
                    "server/discover" => plan.discovers = true,
                    "initialize" => plan.revision = Some(message.initialize.as_deref().unwrap_or_default().to_owned()),
                    _ => {}
                },
                _ => {}
            }
        }
        plan
    }
}

/// How an answer's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// There is none that the client gets.
    Empty,
    /// One JSON text.
    Json(Coding),
    /// An event stream.
    Events(Coding),
}

/// Judges the head of an upstream's answer.
///
/// # Errors
/// Requests for credentials and redirects are the gateway's trouble, not the client's: they become 502. So does what is
/// neither JSON nor an event stream; a refusal without JSON keeps its meaning.
pub fn judge(answer: &ResponseHeader, exchange: &Exchange) -> Result<Form, Denial> {
    let status = answer.status;
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED) || status.is_redirection()
    {
        let location = answer.headers.contains_key(LOCATION);
        let detail = format!("upstream answered {status}, location: {location}");
        return Err(Denial::new(Reason::UpstreamRefused).because(detail));
    }
    // A part of an answer is none, what has no class of its own means nothing, and nobody has asked for another protocol.
    // With 205 there is no body, whatever follows (RFC 9110 section 15.3.6).
    if status.is_informational()
        || matches!(status, StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT)
        || status.as_u16() >= 600
    {
        return Err(Denial::new(Reason::UpstreamInvalid).because(format!("upstream answered {status}")));
    }
    let coding = Coding::of(answer.headers.get(CONTENT_ENCODING))?;
    let essence = essence(&answer.headers).unwrap_or_default();
    let json = essence.eq_ignore_ascii_case("application/json");
    let events = essence.eq_ignore_ascii_case("text/event-stream");
    let empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::ACCEPTED)
        || answer.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    if !status.is_success() {
        return if json && !empty { Ok(Form::Json(coding)) } else { Err(unexplained(status, exchange)) };
    }
    if exchange.asked.expects == Expects::Nothing || empty {
        return Ok(Form::Empty);
    }
    // A GET, which has no body, asks for a stream and for nothing else.
    if events {
        Ok(Form::Events(coding))
    } else if json && !exchange.body.is_empty() {
        Ok(Form::Json(coding))
    } else {
        Err(Denial::new(Reason::UpstreamInvalid).because("the answer is neither JSON nor an event stream"))
    }
}

/// Bytes of a JSON answer or of one event: lists are taken apart and have a cap of their own.
fn cap(exchange: &Exchange) -> Result<usize, Denial> {
    let (upstream, plan) = (&exchange.pipeline()?.upstream, &exchange.plan);
    Ok(if plan.lists.is_empty() || plan.waits { upstream.response_limit } else { upstream.list_limit })
}

/// A refusal of the upstream that says nothing a client could read, with the meaning that its status has in MCP.
fn unexplained(status: StatusCode, exchange: &Exchange) -> Denial {
    let reason = match status {
        StatusCode::NOT_FOUND if exchange.session.is_some() => Reason::SessionUnknown,
        StatusCode::NOT_FOUND => Reason::MethodUnknown,
        StatusCode::METHOD_NOT_ALLOWED => Reason::MethodRefused,
        StatusCode::BAD_REQUEST => Reason::InvalidRequest,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Reason::Shed,
        status if status.is_server_error() => Reason::UpstreamInvalid,
        _ => Reason::UpstreamRefused,
    };
    Denial::new(reason).because(format!("upstream answered {status} without JSON"))
}

fn essence(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

/// The head that the client gets: what may pass of the upstream's, and what the gateway says. `length` is that of a body
/// that is there already; without one the body follows in pieces.
pub fn client_head(
    gateway: &Gateway,
    session: &ServerSession,
    answer: &ResponseHeader,
    exchange: &Exchange,
    length: Option<usize>,
) -> Result<ResponseHeader, Denial> {
    let internal = |error: Box<pingora::Error>| Denial::new(Reason::Internal).because(error.to_string());
    let mut head = ResponseHeader::build_no_case(answer.status, Some(12 + exchange.added.len())).map_err(internal)?;
    for name in PASSED {
        if let Some(value) = answer.headers.get(&name) {
            head.insert_header(name, value).map_err(internal)?;
        }
    }
    let mut insert = |name: HeaderName, value: HeaderValue| head.insert_header(name, value).map_err(internal);
    // What was judged was read as UTF-8, and nobody shall read it as something else.
    match length {
        Some(0) => {}
        Some(_) => insert(CONTENT_TYPE, HeaderValue::from_static("application/json"))?,
        None => insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))?,
    }
    insert(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))?;
    insert(HeaderName::from_static("x-request-id"), reply::id(exchange))?;
    match length {
        Some(length) if answer.status != StatusCode::NO_CONTENT => insert(CONTENT_LENGTH, length.into())?,
        Some(_) => {}
        None => {
            insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))?;
            // HTTP/2 frames bodies by itself, and HTTP/1.0 ends them with the connection.
            if session.req_header().version == http::Version::HTTP_11 {
                insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
            }
        }
    }
    if let Some(id) = session_id(gateway, session, answer, exchange)? {
        insert(HeaderName::from_static(SESSION_ID), id)?;
    }
    for (name, value) in &exchange.added {
        insert(name.clone(), value.clone())?;
    }
    Ok(head)
}

/// The session id that the client gets: its own when nothing changed, otherwise the upstream's, sealed.
fn session_id(
    gateway: &Gateway,
    session: &ServerSession,
    answer: &ResponseHeader,
    exchange: &Exchange,
) -> Result<Option<HeaderValue>, Denial> {
    let Some(id) = answer.headers.get(SESSION_ID).filter(|_| exchange.era == Era::Legacy) else { return Ok(None) };
    let known = exchange.session.as_ref().filter(|known| known.upstream_id == id.as_bytes());
    if known.is_some() {
        return Ok(session.req_header().headers.get(SESSION_ID).cloned());
    }
    let (Some(service), Some(identity)) = (&exchange.service, &exchange.identity) else {
        return Err(Denial::new(Reason::Internal));
    };
    let revision = exchange.plan.revision.clone().or_else(|| Some(exchange.session.as_ref()?.revision.clone()));
    let new = Session { upstream_id: id.as_bytes().to_vec(), revision: revision.unwrap_or_default() };
    let sealed = gateway.sealer(&exchange.snapshot).seal(&new, &service.name, identity, gateway.clock.unix())?;
    HeaderValue::from_str(&sealed).map(Some).map_err(|error| Denial::new(Reason::Internal).because(error.to_string()))
}

/// Writes a head, and a body that is there already.
pub async fn write_whole(
    session: &mut ServerSession,
    head: ResponseHeader,
    body: Bytes,
    exchange: &mut Exchange,
) -> Result<(), Stop> {
    exchange.status = head.status.as_u16();
    let patience = super::patience(body.len());
    let written = async {
        session.write_response_header(Box::new(head)).await?;
        session.write_response_body(body, true).await
    };
    match tokio::time::timeout(patience, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Stop::Gone),
    }
}
