//! The straight path of a request, from its head to the permit. The order of the calls is the order of the checks.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use super::exchange::{Asked, Exchange, Expects, Form, Outcome, Target, Token};
use super::relay::Plan;
use super::{Gateway, body, front, local, parameters, signin};
use crate::engine::decision::{Denial, Permit, Reason};
use crate::engine::limits::Ticket;
use crate::engine::routes::Route;
use crate::engine::service::{Pipeline, Service, UriForm};
use crate::engine::session::Session;
use crate::engine::snapshot::Snapshot;
use crate::engine::stage::{Head, Step};
use crate::mcp::era::{self, Era, Mirrored, classify};
use crate::mcp::message::{Incoming, Kind, Message, MessageError, TASKS_EXTENSION};
use crate::mcp::operation::Operation;
use crate::mcp::uri;
use crate::oauth::bearer;
use crate::oauth::identity::Identity;
use crate::signin::is_for_scripts;

/// Where an admitted request goes.
pub enum Admitted {
    /// To the upstream, by this leave.
    Forward(Permit),
    /// Nowhere: the gateway answers.
    Answer(local::Answer),
}

/// A body that comes within this time comes at once, as far as tokens are concerned.
const BRIEF: Duration = Duration::from_secs(1);

/// What GET and DELETE of a session ask for: like other matters of a session they need no rule, but one that allows
/// anything at all.
pub const SESSION: Operation<'static> = Operation::Lifecycle { method: Cow::Borrowed("session") };

impl Gateway {
    /// Judges one request. Whatever is not `Forward` never reaches the upstream.
    pub async fn admit(&self, session: &mut ServerSession, exchange: &mut Exchange) -> Result<Admitted, Denial> {
        let snapshot = Arc::clone(&exchange.snapshot);
        let front = front::check(session.req_header())?;
        if front.path == "/healthz" {
            // Before every limit: what a stranger does must not have the process restarted.
            return Ok(Admitted::Answer(local::health(session.req_header(), &snapshot)));
        }
        exchange.trace = trace(&session.req_header().headers);
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(SocketAddr::ip);
        let address = address(peer, &session.req_header().headers, &snapshot)?;
        exchange.address = Some(address);
        snapshot.address_limit.allowed(address, self.clock.monotonic())?;
        if exchange.in_flight() > snapshot.requests_in_flight {
            return Err(Denial::new(Reason::Shed).retry_after(Duration::from_secs(1)));
        }
        let service = match snapshot.routes.find(&front.host, &front.path) {
            Route::Service(service) => Arc::clone(service),
            Route::Metadata(service) => return local::metadata(session.req_header(), service).map(Admitted::Answer),
            Route::Issuer(service, endpoint) => {
                exchange.service = Some(Arc::clone(service));
                exchange.form = if is_for_scripts(endpoint) { Form::Oauth } else { Form::Page };
                // In a box: every connection would have to hold the room that signing in takes.
                let answer = Box::pin(signin::answer(session, exchange, &self.budget, address, endpoint));
                return answer.await.map(Admitted::Answer);
            }
            Route::Unknown => return Err(Denial::new(Reason::PathUnknown)),
            Route::UnknownHost => return Err(Denial::new(Reason::HostUnknown)),
        };
        exchange.service = Some(Arc::clone(&service));
        let pipeline = service.pipeline()?;
        if let Some(status) = enter_stages(pipeline, session, exchange)? {
            return Ok(Admitted::Answer(local::Answer::empty(status)));
        }
        exchange.token = token(&session.req_header().headers)?;
        exchange.identity = Some(identified(pipeline, exchange).await?);
        let permit = if session.req_header().method == Method::POST {
            let begun = Instant::now();
            exchange.body = body::read(session, pipeline.body_limit, &self.budget, exchange).await?;
            // A body may take minutes, in which a token ends or is revoked.
            if begun.elapsed() > BRIEF {
                exchange.identity = Some(identified(pipeline, exchange).await?);
            }
            self.admit_messages(session.req_header(), exchange, &service, pipeline).await?
        } else {
            if !session.is_body_empty() {
                return Err(Denial::new(Reason::MalformedRequest).because("only POST carries a body"));
            }
            self.admit_session(session.req_header(), exchange, &service, pipeline)?
        };
        exchange.outcome = Outcome::Permit;
        Ok(Admitted::Forward(permit))
    }

    /// A POST: every message of it is judged, and one that is refused refuses all.
    async fn admit_messages(
        &self,
        head: &RequestHeader,
        exchange: &mut Exchange,
        service: &Service,
        pipeline: &Pipeline,
    ) -> Result<Permit, Denial> {
        let identity = exchange.identity.clone().ok_or_else(|| Denial::new(Reason::Internal))?;
        let bytes = exchange.body.clone();
        let incoming = Incoming::parse(&bytes).map_err(|error| refused(error, exchange))?;
        let messages = incoming.messages();
        let batch = matches!(incoming, Incoming::Batch(_));
        for message in messages.iter().rev() {
            exchange.asked = asked(message);
            exchange.era = classify(message, &mirrored(&head.headers), &pipeline.revisions)
                .map_err(|error| refused(error, exchange))?;
            if batch && exchange.era == Era::Modern {
                return Err(Denial::new(Reason::BatchRefused));
            }
        }
        exchange.plan = Plan::of(messages, batch);
        if exchange.era == Era::Legacy && exchange.plan.revision.is_none() {
            exchange.session = self.open_session(head, exchange, service, &identity)?;
        }
        if batch && !may_batch(exchange.session.as_ref(), &head.headers) {
            return Err(Denial::new(Reason::BatchRefused));
        }
        let mut permit = None;
        for message in messages {
            if batch {
                exchange.asked = asked(message);
            }
            self.check(message, &head.headers, exchange, pipeline)?;
            if !message.tasks.is_empty() && !Box::pin(self.owns(&service.name, &message.tasks, &identity)).await? {
                return Err(unknown_task(message, exchange.era));
            }
            let decided = pipeline.access.decide(&identity, &message.operation, exchange.era, &mut exchange.undecided);
            let decided = decided.inspect_err(|denial| exchange.rule = denial.rule)?;
            exchange.rule = decided.rule().or(exchange.rule);
            permit = Some(decided);
        }
        let operations = messages.iter().map(|message| &message.operation);
        exchange.tickets = self.take_limits(pipeline, exchange, operations).await?;
        // A batch goes by its first request: whatever must be told is told to the one who awaits it.
        let request = messages.iter().find(|message| matches!(message.kind, Kind::Request { .. }));
        if let Some(message) = request.or(messages.first()).filter(|_| batch) {
            exchange.asked = asked(message);
        }
        exchange.asked.expects = if request.is_some() { Expects::Answer } else { Expects::Nothing };
        if exchange.plan.waits {
            exchange.place = Some(self.streams.open(&identity, exchange.address)?);
        }
        permit.ok_or_else(|| Denial::new(Reason::Internal))
    }

    /// What must hold of a message besides the rules.
    fn check(
        &self,
        message: &Message<'_>,
        headers: &HeaderMap,
        exchange: &Exchange,
        pipeline: &Pipeline,
    ) -> Result<(), Denial> {
        if message.kind == Kind::Response && exchange.session.is_none() {
            return Err(Denial::new(Reason::InvalidRequest).saying("a response belongs to a session"));
        }
        if exchange.era == Era::Modern {
            parameters::check(&message.operation, headers, &pipeline.access)?;
        }
        check_uris(pipeline, &message.operation)
    }

    /// GET opens a stream of the caller's own session, DELETE ends it.
    fn admit_session(
        &self,
        head: &RequestHeader,
        exchange: &mut Exchange,
        service: &Service,
        pipeline: &Pipeline,
    ) -> Result<Permit, Denial> {
        exchange.asked.method = Some(head.method.as_str().to_owned());
        let version = head.headers.get("mcp-protocol-version").map(http::HeaderValue::as_bytes);
        era::check_session_version(version, &pipeline.revisions).map_err(|error| refused(error, exchange))?;
        let identity = exchange.identity.clone().ok_or_else(|| Denial::new(Reason::Internal))?;
        let permit = pipeline.access.decide(&identity, &SESSION, Era::Legacy, &mut exchange.undecided)?;
        exchange.session = self.open_session(head, exchange, service, &identity)?;
        if exchange.session.is_none() {
            // A stream without a session would be nobody's: clients take this for "not offered" (MCP transports).
            return Err(Denial::new(Reason::MethodRefused));
        }
        if head.method == Method::GET {
            exchange.place = Some(self.streams.open(&identity, exchange.address)?);
            exchange.asked.expects = Expects::Answer;
            exchange.plan = Plan::of_session();
        }
        Ok(permit)
    }

    fn open_session(
        &self,
        head: &RequestHeader,
        exchange: &Exchange,
        service: &Service,
        identity: &Identity,
    ) -> Result<Option<Session>, Denial> {
        let Some(id) = head.headers.get("mcp-session-id") else { return Ok(None) };
        self.sealer(&exchange.snapshot).open(id.as_bytes(), &service.name, identity, self.clock.unix()).map(Some)
    }

    /// Every message counts; the places of all are taken or none.
    async fn take_limits<'m>(
        &self,
        pipeline: &Pipeline,
        exchange: &Exchange,
        operations: impl Iterator<Item = &'m Operation<'m>> + Clone + Send,
    ) -> Result<Vec<Ticket>, Denial> {
        let (Some(identity), Some(address)) = (&exchange.identity, exchange.address) else {
            return Err(Denial::new(Reason::Internal));
        };
        pipeline.limits.take_all(identity, address, operations, self.clock.monotonic()).await
    }
}

/// A modern client that does not say that it knows tasks is told so instead, as its server would (SEP-2663).
fn unknown_task(message: &Message<'_>, era: Era) -> Denial {
    if era == Era::Legacy || message.meta.knows_tasks {
        return Denial::new(Reason::TaskUnknown);
    }
    let required = serde_json::json!({ "requiredCapabilities": { "extensions": { TASKS_EXTENSION: {} } } });
    let mut denial = Denial::new(Reason::CapabilityMissing);
    denial.data = serde_json::value::to_raw_value(&required).ok();
    denial
}

/// Who asks, as it is known now.
async fn identified(pipeline: &Pipeline, exchange: &Exchange) -> Result<Arc<Identity>, Denial> {
    pipeline.authentication.identify(exchange.token.as_ref().map(|token| &*token.0)).await
}

/// The token that was presented, if any credential was.
fn token(headers: &HeaderMap) -> Result<Option<Token>, Denial> {
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(None);
    }
    let values = headers.get_all(AUTHORIZATION);
    let token = bearer::extract(values.iter().map(http::HeaderValue::as_bytes), bearer::LONGEST)?;
    Ok(Some(Token(token.into())))
}

/// Batches belong to sessions of 2025-03-26, which had no version header.
fn may_batch(session: Option<&Session>, headers: &HeaderMap) -> bool {
    let header = headers.get("mcp-protocol-version").map(http::HeaderValue::as_bytes);
    session.is_some_and(|session| session.revision == era::WITH_BATCHES)
        && header.is_none_or(|header| header == era::WITH_BATCHES.as_bytes())
}

fn enter_stages(
    pipeline: &Pipeline,
    session: &ServerSession,
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

/// The trace id of the one `traceparent`, of version 00 (W3C Trace Context section 3.2.2).
fn trace(headers: &HeaderMap) -> Option<String> {
    let mut lines = headers.get_all("traceparent").iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let mut parts = line.to_str().ok()?.split('-');
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
    Asked {
        id,
        method: message.method.as_deref().map(str::to_owned),
        expects: Expects::default(),
        target: target.map(str::to_owned),
        kind,
    }
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
