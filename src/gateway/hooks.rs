//! Pingora's hooks, each a call or two.

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::admit::Admitted;
use super::exchange::{Exchange, Outcome};
use super::relay::{self, End};
use super::{Gateway, audit, reply, upstream};
use crate::engine::decision::{Denial, Reason};

/// Carries a denial of a later phase to `fail_to_proxy`, where it is written.
const DENIED: ErrorType = ErrorType::new("denied");

/// Parks `denial` in the exchange and stops Pingora.
fn stop<T>(exchange: &mut Exchange, denial: Denial) -> Result<T> {
    exchange.denied = Some(denial);
    Err(Error::new(DENIED))
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::begin(self.current.load_full(), &self.in_flight)
    }

    /// No modules: the default one is response compression, which nothing here wants.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        match self.admit(session, exchange).await {
            Ok(Admitted::Forward) => Ok(false),
            Ok(Admitted::Answer(answer)) => reply::write(session, exchange, answer).await.map(|()| true),
            Err(denial) => reply::refuse(session, exchange, denial).await.map(|()| true),
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let peer = match exchange.pipeline() {
            Ok(pipeline) => upstream::peer(&pipeline.upstream, exchange),
            Err(denial) => Err(denial),
        };
        peer.map(Box::new).or_else(|denial| stop(exchange, denial))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let written = match exchange.pipeline() {
            Ok(pipeline) => upstream::head(request, &pipeline.upstream, exchange),
            Err(denial) => Err(denial),
        };
        written.or_else(|denial| stop(exchange, denial))
    }

    /// The bytes judged are the bytes forwarded: the first piece is replaced by the whole body, later ones by nothing.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if !exchange.body_sent {
            exchange.body_sent = true;
            *body = Some(exchange.body.clone());
        } else if body.is_some() || !end {
            *body = Some(Bytes::new());
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        answer: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let service = exchange.service.clone();
        let judged = match service
            .as_deref()
            .ok_or_else(|| Denial::new(Reason::Internal))
            .and_then(|service| service.pipeline())
        {
            Ok(pipeline) => relay::head(answer, exchange, pipeline).and_then(|()| self.seal(answer, exchange)),
            Err(denial) => Err(denial),
        };
        judged.or_else(|denial| stop(exchange, denial))
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<Option<std::time::Duration>> {
        if matches!(exchange.relay, relay::Relay::Untouched) {
            return Ok(None);
        }
        let service = exchange.service.clone();
        let end = if end { End::Reached } else { End::Ahead };
        let judged = match service
            .as_deref()
            .ok_or_else(|| Denial::new(Reason::Internal))
            .and_then(|service| service.pipeline())
        {
            Ok(pipeline) => relay::body(body, end, exchange, pipeline),
            Err(denial) => Err(denial),
        };
        match judged {
            Ok(()) => Ok(None),
            Err(denial) => stop(exchange, denial),
        }
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
        let denial = exchange.denied.take().unwrap_or_else(|| trouble(error));
        let status = denial.reason.status();
        if session.response_written().is_some() {
            // The status has gone out: all that is left is to end the connection without an orderly end of the body.
            exchange.outcome = Outcome::Deny(denial.reason, denial.internal.map(|detail| detail.into_owned()));
        } else if let Err(error) = reply::refuse(session, exchange, denial).await {
            tracing::debug!(%error, "refusal could not be written");
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    async fn logging(&self, _session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        if let (Some(error), Outcome::Permit | Outcome::Local) = (error, &exchange.outcome) {
            let denial = trouble(error);
            exchange.outcome = Outcome::Deny(denial.reason, denial.internal.map(|detail| detail.into_owned()));
        }
        self.sink.line(audit::line(exchange));
        exchange.ticket = None;
    }
}

impl Gateway {
    /// Puts the sealed session id in the place of the upstream's.
    fn seal(&self, answer: &mut ResponseHeader, exchange: &Exchange) -> std::result::Result<(), Denial> {
        let Some(id) = answer.headers.get("mcp-session-id") else { return Ok(()) };
        let sealed = self.seal_session(id.as_bytes(), exchange)?;
        answer
            .insert_header("mcp-session-id", sealed)
            .map_err(|error| Denial::new(Reason::Internal).because(error.to_string()))
    }
}

/// What Pingora met on the way, as a denial. Its words go to the log only.
fn trouble(error: &Error) -> Denial {
    let reason = match (error.etype(), error.esource()) {
        (
            ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout,
            _,
        ) => Reason::UpstreamTimeout,
        (
            ErrorType::ConnectRefused | ErrorType::ConnectNoRoute | ErrorType::ConnectError | ErrorType::SocketError,
            _,
        ) => Reason::UpstreamUnreachable,
        (ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert, _) => Reason::UpstreamUnreachable,
        (_, pingora::ErrorSource::Downstream) => Reason::MalformedRequest,
        (_, pingora::ErrorSource::Upstream) => Reason::UpstreamInvalid,
        _ => Reason::Internal,
    };
    Denial::new(reason).because(error.to_string())
}
