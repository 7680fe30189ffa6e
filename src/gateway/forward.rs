//! Sends a permitted request to its upstream and waits for the head of the answer, without losing sight of the client.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora::connectors::TransportConnector;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::server::ShutdownWatch;
use pingora::{Error, ErrorSource, ErrorType};
use tokio::io::AsyncWriteExt as _;

use super::Gateway;
use super::credential;
use super::exchange::Exchange;
use super::relay::{self, Form};
use super::upstream::{self, Place};
use crate::engine::decision::{Denial, Permit, Reason};
use crate::engine::service::Upstream;

/// For a request to be taken by the upstream.
const WRITING: Duration = Duration::from_secs(30);
/// Bytes of a body that are copied behind the head.
const TOGETHER: usize = 16 * 1024;
/// Informational heads before the answer's own.
const MOST_INFORMATIONAL: usize = 8;
/// Addresses of an upstream that are tried one after the other.
const MOST_ADDRESSES: usize = 3;

type Sent = Result<(), Box<Error>>;

/// Why an exchange ends early.
#[derive(Debug)]
pub enum Stop {
    /// Nothing has been written to the client: it gets a refusal.
    Refused(Box<Denial>),
    /// The head of an answer has gone out: all that is left is to end the connection without an orderly end.
    Broken(Box<Denial>),
    /// The client has gone away.
    Gone,
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Refused(Box::new(denial))
    }
}

/// A request that an upstream has answered, as far as the head of the answer.
struct Answered {
    server: HttpSession,
    /// Where the connection goes to.
    place: Place,
    /// Whether all of the request was sent.
    whole: bool,
}

impl Gateway {
    /// Forwards a request, which only a permit allows, and relays the answer. Whatever ends this early closes the upstream's connection.
    pub async fn forward(
        &self,
        permit: Permit,
        connector: &TransportConnector,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        closing: &mut ShutdownWatch,
    ) -> Result<(), Stop> {
        // Nothing that only the way there needs is kept while an answer comes back, which may take hours.
        let Answered { mut server, place, whole } = asked(permit, connector, session, exchange).await?;
        match relay::judge(answer(&server)?, exchange)? {
            Form::Empty => {
                let head = relay::client_head(self, session, answer(&server)?, exchange, Some(0))?;
                relay::write_whole(session, head, Bytes::new(), exchange).await?;
            }
            Form::Json(coding) => relay::json(self, session, &mut server, coding, exchange).await?,
            Form::Events(coding) => relay::events(self, session, &mut server, coding, exchange, closing).await?,
        }
        // A connection on which a request was not sent whole would take the next one for the rest of it.
        if whole && server.is_body_done() {
            server.respect_keepalive();
            if let Some(stream) = server.reuse().await {
                place.keep(stream);
            }
        }
        Ok(())
    }
}

/// Sends the request and waits for the head of its answer.
async fn asked(
    _permit: Permit,
    connector: &TransportConnector,
    session: &mut ServerSession,
    exchange: &mut Exchange,
) -> Result<Answered, Stop> {
    let service = exchange.service.clone().ok_or_else(|| Denial::new(Reason::Internal))?;
    let pipeline = service.pipeline()?;
    let upstream = &pipeline.upstream;
    let shown = credential::of(pipeline, exchange).await?;
    let exchange = &*exchange;
    let head = upstream::head(session.req_header(), upstream, exchange, shown.as_ref())?;
    let (mut stream, place) = connect(connector, upstream).await?;
    let sent = tokio::time::timeout(WRITING, write(&mut stream, head, &exchange.body)).await;
    let sent = sent.unwrap_or_else(|_| Err(Error::new(ErrorType::WriteTimedout)));
    let mut server = HttpSession::new(stream);
    server.read_timeout = Some(upstream::silence(upstream, exchange));
    // An upstream may answer before it has read everything: its answer tells more than the failed write.
    match (answer_begun(&mut server, session).await, sent) {
        (Ok(()), sent) => {
            credential::answered(upstream, exchange, shown.as_ref(), answer(&server)?.status);
            Ok(Answered { server, place, whole: sent.is_ok() })
        }
        (Err(Stop::Refused(_)), Err(error)) => Err(trouble(&error).into()),
        (Err(stop), _) => Err(stop),
    }
}

/// A connection to the next address, and to others when it does not answer.
async fn connect(connector: &TransportConnector, upstream: &Upstream) -> Result<(Stream, Place), Denial> {
    let mut failed = Denial::new(Reason::UpstreamUnreachable).because("no address known for the upstream's name");
    for place in upstream::places(upstream)?.take(MOST_ADDRESSES) {
        if let Some(stream) = place.kept() {
            return Ok((stream, place));
        }
        let peer = place.peer(upstream);
        // Room for a handshake is taken when there is one.
        match Box::pin(async move { connector.new_stream(&peer).await }).await {
            Ok(stream) => return Ok((stream, place)),
            Err(error) => failed = trouble(&error),
        }
    }
    Err(failed)
}

/// Writes head and body, in one write when they are short: a segment and a system call less.
async fn write(stream: &mut Stream, mut head: Vec<u8>, body: &[u8]) -> Sent {
    let failed = |error| Error::because(ErrorType::WriteError, "while writing the request", error);
    let rest = if body.len() <= TOGETHER {
        head.extend_from_slice(body);
        &[]
    } else {
        body
    };
    stream.write_all(&head).await.map_err(failed)?;
    stream.write_all(rest).await.map_err(failed)?;
    stream.flush().await.map_err(failed)
}

/// Reads the head of the answer. A client that goes away meanwhile ends the wait: nobody would read what comes.
async fn answer_begun(server: &mut HttpSession, session: &mut ServerSession) -> Result<(), Stop> {
    for _ in 0..MOST_INFORMATIONAL {
        tokio::select! {
            biased;
            read = server.read_response() => read.map_err(|error| trouble(&error))?,
            () = gone(session) => {
                server.shutdown().await;
                return Err(Stop::Gone);
            }
        };
        let status = answer(server)?.status;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
    }
    Err(headless().into())
}

/// The head of an answer that has begun.
pub(super) fn answer(server: &HttpSession) -> Result<&ResponseHeader, Denial> {
    server.resp_header().ok_or_else(headless)
}

fn headless() -> Denial {
    Denial::new(Reason::UpstreamInvalid).because("the upstream's answer has no head")
}

/// Resolves when the client has closed its connection or reset its stream.
pub(super) async fn gone(session: &mut ServerSession) {
    while session.read_body_or_idle(true).await.is_ok() {}
}

/// What was met on the way to an upstream, as a denial. The details go to the log only.
pub(super) fn trouble(error: &Error) -> Denial {
    let reason = match (error.etype(), error.esource()) {
        (
            ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout,
            _,
        ) => Reason::UpstreamTimeout,
        (ErrorType::InternalError, ErrorSource::Internal) => Reason::Internal,
        (
            ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::SocketError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::InvalidCert,
            _,
        ) => Reason::UpstreamUnreachable,
        _ => Reason::UpstreamInvalid,
    };
    // What a broken answer said is the upstream's, and may be a secret: only the kind of the trouble is told.
    let invalid = reason == Reason::UpstreamInvalid;
    Denial::new(reason).because(if invalid { error.etype().as_str().to_owned() } else { error.to_string() })
}
