//! Reads the whole request body before anything is decided: the bytes that are judged are the bytes that are forwarded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::protocols::http::ServerSession;

use super::budget::Budget;
use super::exchange::Exchange;
use crate::engine::decision::{Denial, Reason};

/// Bytes of a body that does not tell its length.
const UNSIZED: usize = 64 * 1024;
/// The longest silence within a body.
const SILENCE: Duration = Duration::from_secs(30);

/// Reads the body, at most `limit` bytes.
pub async fn read(
    session: &mut ServerSession,
    limit: usize,
    budget: &Budget,
    exchange: &mut Exchange,
) -> Result<Bytes, Denial> {
    let headers = &session.req_header().headers;
    let declared = headers.get(CONTENT_LENGTH).map(|length| {
        let length = length.to_str().ok().and_then(|length| length.parse::<usize>().ok());
        length.ok_or_else(|| Denial::new(Reason::MalformedRequest))
    });
    let (limit, above) = match declared.transpose()? {
        Some(length) if length > limit => return Err(Denial::new(Reason::BodyTooLarge)),
        Some(length) => (length, Reason::MalformedRequest),
        None => (limit.min(UNSIZED), Reason::LengthRequired),
    };
    let sized = headers.contains_key(CONTENT_LENGTH);
    exchange.held.extend(budget.take(limit)?);
    // A client of HTTP/1.0 would take it for the answer (RFC 9110 section 10.1.1).
    if headers.contains_key(EXPECT) && session.req_header().version != http::Version::HTTP_10 {
        session.write_continue_response().await.map_err(|error| cut(&error))?;
    }
    let whole = whole(session, limit, above);
    // Whoever sends byte by byte holds memory and a place for as long as that takes.
    let body = tokio::time::timeout(super::patience(limit), whole).await;
    let body = body.unwrap_or_else(|_| Err(Denial::new(Reason::BodyTimeout)))?;
    if sized && body.len() != limit {
        return Err(Denial::new(Reason::MalformedRequest).because("body shorter than content-length"));
    }
    Ok(body.freeze())
}

async fn whole(session: &mut ServerSession, limit: usize, above: Reason) -> Result<BytesMut, Denial> {
    let mut body = BytesMut::with_capacity(limit.min(UNSIZED));
    while let Some(piece) = next(session).await? {
        if body.len() + piece.len() > limit {
            return Err(Denial::new(above));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

async fn next(session: &mut ServerSession) -> Result<Option<Bytes>, Denial> {
    match tokio::time::timeout(SILENCE, session.read_request_body()).await {
        Ok(read) => read.map_err(|error| cut(&error)),
        Err(_elapsed) => Err(Denial::new(Reason::BodyTimeout)),
    }
}

fn cut(error: &pingora::Error) -> Denial {
    Denial::new(Reason::MalformedRequest).because(format!("request body: {}", error.etype().as_str()))
}
