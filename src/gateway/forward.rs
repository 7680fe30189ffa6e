//! Sends a permitted request to its upstream and waits for the head of the answer, without losing sight of the client.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::{HttpSession as H1Session, http_req_header_to_wire};
use pingora::server::ShutdownWatch;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use tokio::io::AsyncWriteExt as _;

use super::exchange::Exchange;
use super::relay::{self, Form};
use super::{Gateway, upstream};
use crate::engine::decision::{Denial, Permit, Reason};
use crate::engine::service::Upstream;

/// Below the keep-alive of common servers (Node and uvicorn close after 5 s): a POST on a connection that the upstream
/// has just closed cannot be sent again.
const POOLED: Duration = Duration::from_secs(4);
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

impl Gateway {
    /// Forwards a request, which only a permit allows, and relays the answer. Whatever ends this early closes the upstream's connection.
    pub async fn forward(
        &self,
        _permit: Permit,
        connector: &Connector,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        closing: &mut ShutdownWatch,
    ) -> Result<(), Stop> {
        let service = exchange.service.clone().ok_or_else(|| Denial::new(Reason::Internal))?;
        let pipeline = service.pipeline()?;
        let head = upstream::head(session.req_header(), &pipeline.upstream, exchange)?;
        let (server, peer) = connect(connector, &pipeline.upstream).await?;
        let (mut server, sent) = send(server, &peer, head, exchange.body.clone()).await;
        server.set_read_timeout(Some(upstream::silence(&pipeline.upstream, exchange)));
        let whole = sent.is_ok();
        // An upstream may answer before it has read everything: its answer tells more than the failed write.
        let answer = answer_head(&mut server, session).await.map_err(|stop| match (stop, sent) {
            (Stop::Refused(_), Err(error)) => trouble(&error).into(),
            (stop, _) => stop,
        })?;
        let form = relay::judge(&answer, exchange)?;
        match form {
            Form::Empty => {
                let head = relay::client_head(self, session, &answer, exchange, Some(0))?;
                relay::write_whole(session, head, Bytes::new(), exchange).await?;
            }
            Form::Json(coding) => relay::json(self, session, &mut server, &answer, coding, exchange).await?,
            Form::Events(coding) => {
                relay::events(self, session, &mut server, &answer, coding, exchange, closing).await?;
            }
        }
        // A connection on which a request was not sent whole would take the next one for the rest of it.
        if whole && server.response_done() {
            if let HttpSession::H1(h1) = &mut server {
                h1.respect_keepalive();
            }
            connector.release_http_session(server, &peer, Some(POOLED)).await;
        }
        Ok(())
    }
}

/// Connects to the next address, and to others when it does not answer.
async fn connect(connector: &Connector, upstream: &Upstream) -> Result<(HttpSession, HttpPeer), Denial> {
    let mut failed = Denial::new(Reason::UpstreamUnreachable).because("no address known for the upstream's name");
    for peer in upstream::peers(upstream)?.take(MOST_ADDRESSES) {
        match connector.get_http_session(&peer).await {
            Ok((server, _reused)) => return Ok((server, peer)),
            Err(error) => failed = trouble(&error),
        }
    }
    Err(failed)
}

/// Sends head and body. On HTTP/1 both leave in one write when they are short: a segment and a system call less.
async fn send(server: HttpSession, peer: &HttpPeer, head: RequestHeader, body: Bytes) -> (HttpSession, Sent) {
    match server {
        HttpSession::H1(h1) => {
            let mut stream = h1.into_inner();
            let sent = tokio::time::timeout(WRITING, write(&mut stream, &head, &body)).await;
            let late = |_| Error::new(ErrorType::WriteTimedout);
            (HttpSession::H1(H1Session::new_with_options(stream, peer)), sent.map_err(late).flatten())
        }
        mut server => {
            server.set_write_timeout(Some(WRITING));
            let sent = send_framed(&mut server, head, body).await;
            (server, sent)
        }
    }
}

async fn write(stream: &mut Stream, head: &RequestHeader, body: &[u8]) -> Sent {
    let mut bytes = http_req_header_to_wire(head).ok_or_else(|| Error::new(ErrorType::InvalidHTTPHeader))?;
    let failed = |error| Error::because(ErrorType::WriteError, "while writing the request", error);
    let rest = if body.len() <= TOGETHER {
        bytes.extend_from_slice(body);
        &[]
    } else {
        body
    };
    stream.write_all(&bytes).await.map_err(failed)?;
    stream.write_all(rest).await.map_err(failed)?;
    stream.flush().await.map_err(failed)
}

async fn send_framed(server: &mut HttpSession, head: RequestHeader, body: Bytes) -> Sent {
    let carries = head.method == Method::POST;
    server.write_request_header(Box::new(head)).await?;
    if carries {
        server.write_request_body(body, true).await?;
    }
    server.finish_request_body().await
}

/// The head of the answer. A client that goes away meanwhile ends the wait: nobody would read what comes.
async fn answer_head(server: &mut HttpSession, session: &mut ServerSession) -> Result<ResponseHeader, Stop> {
    for _ in 0..MOST_INFORMATIONAL {
        tokio::select! {
            biased;
            read = server.read_response_header() => read.map_err(|error| trouble(&error))?,
            () = gone(session) => {
                server.shutdown().await;
                return Err(Stop::Gone);
            }
        }
        match server.response_header() {
            Some(head) if head.status.is_informational() && head.status.as_u16() != 101 => {}
            Some(head) => return Ok(head.clone()),
            None => break,
        }
    }
    Err(Denial::new(Reason::UpstreamInvalid).because("the upstream's answer has no head").into())
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
    Denial::new(reason).because(error.to_string())
}
