//! Writes every answer that the gateway gives by itself: refusals here, and nowhere else.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    SET_COOKIE, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

use super::exchange::{Exchange, Form, Outcome, Target};
use super::local::Answer;
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::{DenialForm, Pipeline};
use crate::mcp::error::{error_body, tool_error};
use crate::oauth::challenge::{Challenge, ChallengeError};
use crate::signin;

/// What every answer of the gateway's own tells a browser: nothing of it is a page unless it says so, and nobody frames it,
/// keeps it or is told where it came from.
pub const SECURITY: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (CACHE_CONTROL, "no-store"),
];
/// How long a client may take to read an answer of the gateway's own.
const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses: remembers the denial for the audit record, counts it, and writes it.
pub async fn refuse(session: &mut ServerSession, exchange: &mut Exchange, denial: Denial) -> pingora::Result<()> {
    let reason = denial.reason;
    tell(exchange, &denial);
    // A malformed request ends the connection whatever follows (RFC 9112 section 11.2).
    if reason == Reason::MalformedRequest {
        session.set_keepalive(None);
    }
    let answer = written(&denial, exchange);
    let detail = denial.internal.map(|detail| detail.into_owned());
    exchange.rule = denial.rule.or(exchange.rule);
    exchange.outcome = Outcome::Deny(reason, detail);
    write(session, exchange, answer).await
}

/// Counts failures of an address, and says aloud what looks like an attack.
fn tell(exchange: &Exchange, denial: &Denial) {
    let failed = denial.reason.status() == 401 && denial.reason != Reason::TokenMissing
        || denial.reason == Reason::MalformedRequest;
    if let Some(address) = exchange.address.filter(|_| failed) {
        exchange.snapshot.address_limit.failed(address, std::time::Instant::now());
    }
    let suspicious = matches!(
        denial.reason,
        Reason::AlgorithmRefused
            | Reason::SignatureInvalid
            | Reason::SessionUnknown
            | Reason::HeaderMismatch
            | Reason::TokenTypeRefused
    );
    if suspicious {
        tracing::warn!(event = denial.reason.as_str(), request = %exchange.id, address = exchange.address.map(tracing::field::display), "suspicious request refused");
    }
}

/// The form of a refusal.
fn written(denial: &Denial, exchange: &Exchange) -> Answer {
    let pipeline = exchange.service.as_ref().and_then(|service| service.pipeline().ok());
    let id = exchange.asked.id.as_deref();
    if let (Some(pipeline), Some(id), Reason::NotPermitted) = (pipeline, id, denial.reason)
        && let Some(body) = softened(pipeline, exchange, id, denial)
    {
        return Answer::json(StatusCode::OK, body);
    }
    let status = StatusCode::from_u16(denial.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = match exchange.form {
        Form::Message => {
            let body = error_body(id, denial.reason.code(), &denial.public, denial.data.as_deref(), &exchange.id);
            Answer::json(status, body)
        }
        Form::Oauth => signin::refusal(true, status, &denial.public, &exchange.id),
        Form::Page => signin::refusal(false, status, &denial.public, &exchange.id),
    };
    if let Some(wait) = denial.retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        answer.headers.push((RETRY_AFTER, seconds.max(1).into()));
    }
    if denial.reason == Reason::MethodRefused {
        answer.headers.push((ALLOW, HeaderValue::from_static("POST")));
    }
    if let Some(challenge) = pipeline.and_then(|pipeline| challenge(pipeline, denial)) {
        match HeaderValue::from_str(&challenge.value()) {
            Ok(value) => answer.headers.push((WWW_AUTHENTICATE, value)),
            Err(error) => tracing::error!(%error, "challenge could not be written"),
        }
    }
    answer
}

/// The two forms of a final denial that do not show as one. They never replace 401 or `insufficient_scope`.
fn softened(pipeline: &Pipeline, exchange: &Exchange, id: &str, denial: &Denial) -> Option<Vec<u8>> {
    match (pipeline.denials, exchange.asked.kind) {
        (DenialForm::Forbidden, _) => None,
        (DenialForm::ToolResult, Target::Tool) => Some(tool_error(id, &denial.public)),
        (DenialForm::Hidden, Target::Tool) => Some(error_body(Some(id), -32602, "unknown tool", None, &exchange.id)),
        (DenialForm::Hidden | DenialForm::ToolResult, Target::Other) => {
            Some(error_body(Some(id), -32602, "not found", None, &exchange.id))
        }
    }
}

/// RFC 6750 section 3 and RFC 9728 section 5.1. An error is named only when a token was presented.
fn challenge<'a>(pipeline: &'a Pipeline, denial: &'a Denial) -> Option<Challenge<'a>> {
    let (error, scopes) = match (denial.reason, denial.reason.status()) {
        (Reason::TokenMissing, _) => (None, &pipeline.default_scopes),
        (Reason::ScopeMissing, _) => (Some(ChallengeError::InsufficientScope), &denial.scopes),
        (_, 401) => (Some(ChallengeError::InvalidToken), &pipeline.default_scopes),
        _ => return None,
    };
    let error = error.map(|error| (error, denial.public.as_ref()));
    Some(Challenge { metadata_url: &pipeline.metadata_url, scopes, error })
}

/// The gateway's own id of the request, as a header.
pub fn id(exchange: &Exchange) -> HeaderValue {
    // Hex digits are always a header value.
    HeaderValue::from_str(&exchange.id).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Writes an answer with the headers that every local answer carries.
pub async fn write(session: &mut ServerSession, exchange: &mut Exchange, answer: Answer) -> pingora::Result<()> {
    exchange.status = answer.status.as_u16();
    // What is left of a body that nobody wants is not read to its end, and must not be taken for the next request.
    if !session.is_body_done() {
        session.set_keepalive(None);
    }
    let mut head =
        ResponseHeader::build_no_case(answer.status, Some(answer.headers.len() + exchange.added.len() + 10))?;
    if !answer.body.is_empty() {
        head.insert_header(CONTENT_TYPE, "application/json")?;
    }
    for (name, value) in SECURITY {
        head.insert_header(name, value)?;
    }
    if exchange.is_public_https() {
        head.insert_header(STRICT_TRANSPORT_SECURITY, "max-age=31536000")?;
    }
    head.insert_header("x-request-id", id(exchange))?;
    if answer.status != StatusCode::NO_CONTENT {
        head.insert_header(CONTENT_LENGTH, answer.body.len())?;
    }
    for (name, value) in answer.headers.iter().chain(&exchange.added) {
        if *name == SET_COOKIE {
            head.append_header(name, value)?;
        } else {
            head.insert_header(name, value)?;
        }
    }
    let body = if session.req_header().method == http::Method::HEAD { Bytes::new() } else { answer.body };
    let written = async {
        session.write_response_header(Box::new(head)).await?;
        session.write_response_body(body, true).await
    };
    // A client that does not read its refusal is not waited for.
    let late = |_| pingora::Error::new(pingora::ErrorType::WriteTimedout);
    tokio::time::timeout(PATIENCE, written).await.map_err(late)?
}
