//! The straight path of a request, from its head to the permit. The order of the calls is the order of the checks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pingora::proxy::Session;

use super::exchange::{Asked, Exchange, Outcome, Target};
use super::relay::Relay;
use super::{Gateway, MOST_IN_FLIGHT, body, front, local};
use crate::engine::decision::{Denial, Reason};
use crate::engine::limits::Ticket;
use crate::engine::routes::Route;
use crate::engine::service::{Pipeline, Service, UriForm};
use crate::engine::snapshot::Snapshot;
use crate::engine::stage::{Head, Step};
use crate::mcp::era::{Era, Mirrored, classify};
use crate::mcp::message::{Kind, Message, MessageError};
use crate::mcp::operation::{ItemKind, Operation};
use crate::mcp::uri;
use crate::oauth::bearer;

/// Bytes of a bearer token that are looked at.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Where an admitted request goes.
pub enum Admitted {
    /// To the upstream.
    Forward,
    /// Nowhere: the gateway answers.
    Answer(local::Answer),
}

impl Gateway {
    /// Judges one request. Whatever is not `Forward` never reaches the upstream.
    pub async fn admit(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Admitted, Denial> {
        let snapshot = Arc::clone(&exchange.snapshot);
        let front = front::check(session.req_header())?;
        exchange.trace = trace(&session.req_header().headers);
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(SocketAddr::ip);
        let address = address(peer, &session.req_header().headers, &snapshot)?;
        exchange.address = Some(address);
        snapshot.address_limit.allowed(address, self.clock.monotonic())?;
        if exchange.in_flight() > MOST_IN_FLIGHT {
            return Err(Denial::new(Reason::Shed).retry_after(Duration::from_secs(1)));
        }
        if front.path == "/healthz" {
            return local::health(session.req_header(), &snapshot).map(Admitted::Answer);
        }
        let service = match snapshot.routes.find(&front.host, &front.path) {
            Route::Service(service) => Arc::clone(service),
            Route::Metadata(service) => return local::metadata(session.req_header(), service).map(Admitted::Answer),
            Route::Unknown => return Err(Denial::new(Reason::PathUnknown)),
            Route::UnknownHost => return Err(Denial::new(Reason::HostUnknown)),
        };
        exchange.service = Some(Arc::clone(&service));
        let pipeline = service.pipeline()?;
        if let Some(status) = enter_stages(pipeline, session, exchange)? {
            return Ok(Admitted::Answer(local::Answer::empty(status)));
        }
        let identity = {
            let tokens = session.req_header().headers.get_all(AUTHORIZATION);
            let token = bearer::extract(tokens.iter().map(http::HeaderValue::as_bytes), LONGEST_TOKEN)?;
            pipeline.authentication.authenticate(token).await?
        };
        exchange.identity = Some(Arc::clone(&identity));
        exchange.session = self.open_session(session, &service, exchange)?;
        exchange.body = body::read(session, pipeline.body_limit).await?;
        let bytes = exchange.body.clone();
        let message = Message::parse(&bytes).map_err(|error| refused(error, exchange))?;
        exchange.asked = asked(&message);
        let era = classify(&message, &mirrored(&session.req_header().headers), &pipeline.revisions)
            .map_err(|error| refused(error, exchange))?;
        check_uris(pipeline, &message.operation)?;
        let decided = pipeline.access.decide(&identity, &message.operation, era, &mut exchange.undecided);
        let permit = decided.inspect_err(|denial| exchange.rule = denial.rule)?;
        exchange.rule = permit.rule();
        exchange.ticket = Some(self.take_limits(pipeline, exchange, &message.operation)?);
        exchange.relay = Relay::plan(&message, era);
        exchange.outcome = Outcome::Permit;
        Ok(Admitted::Forward)
    }

    fn open_session(
        &self,
        session: &Session,
        service: &Service,
        exchange: &Exchange,
    ) -> Result<Option<Vec<u8>>, Denial> {
        let (Some(id), Some(identity)) = (session.req_header().headers.get("mcp-session-id"), &exchange.identity)
        else {
            return Ok(None);
        };
        self.sealer.open(id.as_bytes(), &service.name, identity).map(Some)
    }

    fn take_limits(
        &self,
        pipeline: &Pipeline,
        exchange: &Exchange,
        operation: &Operation<'_>,
    ) -> Result<Ticket, Denial> {
        let (Some(identity), Some(address)) = (&exchange.identity, exchange.address) else {
            return Err(Denial::new(Reason::Internal));
        };
        pipeline.limits.take(identity, address, operation, self.clock.monotonic())
    }

    /// Seals the session id of an upstream's answer for the caller.
    pub fn seal_session(&self, id: &[u8], exchange: &Exchange) -> Result<String, Denial> {
        let (Some(service), Some(identity)) = (&exchange.service, &exchange.identity) else {
            return Err(Denial::new(Reason::Internal));
        };
        self.sealer.seal(id, &service.name, identity)
    }
}

fn enter_stages(
    pipeline: &Pipeline,
    session: &Session,
    exchange: &mut Exchange,
) -> Result<Option<http::StatusCode>, Denial> {
    let request = session.req_header();
    let head = Head { method: &request.method, headers: &request.headers };
    for stage in &pipeline.stages {
        if let Step::Answer(status) = stage.enter(head, &mut exchange.added)? {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

/// The peer, or, when the peer is a trusted proxy, the right-most address of `X-Forwarded-For` that is not.
fn address(peer: Option<IpAddr>, headers: &HeaderMap, snapshot: &Snapshot) -> Result<IpAddr, Denial> {
    let peer =
        peer.ok_or_else(|| Denial::new(Reason::Internal).because("connection without a peer address"))?.to_canonical();
    let trusted = |address: &IpAddr| snapshot.trusted_proxies.iter().any(|net| net.contains(address));
    if !trusted(&peer) {
        return Ok(peer);
    }
    let malformed = || Denial::new(Reason::MalformedRequest).because("x-forwarded-for of a trusted proxy is malformed");
    let mut client = peer;
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in line.to_str().map_err(|_| malformed())?.rsplit(',') {
            client = hop.trim().parse::<IpAddr>().map_err(|_| malformed())?.to_canonical();
            if !trusted(&client) {
                return Ok(client);
            }
        }
    }
    Ok(client)
}

/// The trace id of a `traceparent` of version 00 (W3C Trace Context section 3.2.2).
fn trace(headers: &HeaderMap) -> Option<String> {
    let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let formed = version == "00" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && parts.next().is_none();
    (formed && trace.bytes().any(|byte| byte != b'0')).then(|| trace.to_owned())
}

fn mirrored(headers: &HeaderMap) -> Mirrored<'_> {
    let value = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    Mirrored { protocol_version: value("mcp-protocol-version"), method: value("mcp-method"), name: value("mcp-name") }
}

fn asked(message: &Message<'_>) -> Asked {
    let id = if let Kind::Request { id } = &message.kind { Some((*id).to_owned()) } else { None };
    let (target, kind) = match &message.operation {
        Operation::CallTool { name, .. } => (Some(name.as_ref()), Target::Tool),
        Operation::GetPrompt { name, .. } | Operation::CompletePrompt { name } => (Some(name.as_ref()), Target::Other),
        Operation::ReadResource { uri }
        | Operation::SubscribeResource { uri }
        | Operation::CompleteResource { uri } => (Some(uri.as_ref()), Target::Other),
        Operation::Listen { .. } | Operation::List(_) | Operation::Lifecycle { .. } | Operation::Method { .. } => {
            (None, Target::Other)
        }
    };
    Asked { id, method: message.method.as_deref().map(str::to_owned), target: target.map(str::to_owned), kind }
}

/// A message that breaks a rule of MCP becomes a denial; its id is kept when it could be read, so that the refusal names it.
fn refused(error: MessageError, exchange: &mut Exchange) -> Denial {
    use crate::mcp::message::ErrorKind;
    let reason = match error.kind {
        ErrorKind::Parse => Reason::ParseError,
        ErrorKind::InvalidRequest => Reason::InvalidRequest,
        ErrorKind::InvalidParams => Reason::InvalidParams,
        ErrorKind::Batch => Reason::BatchRefused,
        ErrorKind::HeaderMismatch => Reason::HeaderMismatch,
        ErrorKind::Version => Reason::VersionUnsupported,
    };
    if error.id.is_some() {
        exchange.asked.id = error.id;
    }
    let mut denial = Denial::new(reason).saying(error.public);
    denial.data = error.data;
    denial
}

/// Refuses resource URIs whose spelling could mean something else upstream, before they are matched.
fn check_uris(pipeline: &Pipeline, operation: &Operation<'_>) -> Result<(), Denial> {
    if pipeline.uri_form == UriForm::Opaque {
        return Ok(());
    }
    let judge =
        |text: &str| uri::strict(text).map_err(|error| Denial::new(Reason::UriRefused).because(error.to_string()));
    match operation {
        Operation::ReadResource { uri }
        | Operation::SubscribeResource { uri }
        | Operation::CompleteResource { uri } => judge(uri),
        Operation::Listen { uris } => uris.iter().try_for_each(|uri| judge(uri)),
        _ => Ok(()),
    }
}

/// Which list a message asks for.
pub fn list_of(operation: &Operation<'_>) -> Option<ItemKind> {
    if let Operation::List(kind) = operation { Some(*kind) } else { None }
}

/// The era decides how a list's `cacheScope` is written.
pub type ListPlan = (ItemKind, Era);
