//! Reads the whole request body before anything is decided, and lets Pingora forward the bytes that were judged.
//!
//! Pingora replays at most 64 KiB of a body that a filter has read. The forwarding loop only needs that buffer to be
//! neither empty nor truncated, so it is armed when at most 64 KiB remain, and `request_body_filter` puts the whole body
//! in the place of the replayed tail. A body without a length could outgrow the buffer unseen; it is refused above it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::proxy::Session;

use crate::engine::decision::{Denial, Reason};

/// What Pingora keeps for replay.
const REPLAYED: usize = 64 * 1024;
/// The longest silence within a body; the edge bounds the whole.
const SILENCE: Duration = Duration::from_secs(30);

/// Reads the body, at most `limit` bytes.
pub async fn read(session: &mut Session, limit: usize) -> Result<Bytes, Denial> {
    let head = session.req_header();
    let declared = head
        .headers
        .get(CONTENT_LENGTH)
        .map(|length| length.to_str().ok().and_then(|length| length.parse::<usize>().ok()));
    let declared = match declared {
        Some(None) => return Err(Denial::new(Reason::MalformedRequest)),
        Some(Some(length)) if length > limit => return Err(Denial::new(Reason::BodyTooLarge)),
        Some(length) => length,
        None => None,
    };
    if head.headers.contains_key(EXPECT) {
        session.as_mut().write_continue_response().await.map_err(|error| cut(&error))?;
    }
    let Some(length) = declared else { return read_unsized(session, limit.min(REPLAYED)).await };
    let mut body = BytesMut::with_capacity(length.min(REPLAYED));
    let mut armed = false;
    while body.len() < length {
        if !armed && length - body.len() <= REPLAYED {
            session.as_mut().enable_retry_buffering();
            armed = true;
        }
        let Some(chunk) = next(session).await? else { break };
        body.extend_from_slice(&chunk);
    }
    if body.len() != length {
        return Err(Denial::new(Reason::MalformedRequest).because("body shorter or longer than content-length"));
    }
    // Lets an HTTP/2 stream reach its end, so that the forwarding loop sees a finished body.
    if length > 0 && !session.as_mut().is_body_done() && next(session).await?.is_some_and(|rest| !rest.is_empty()) {
        return Err(Denial::new(Reason::MalformedRequest).because("body longer than content-length"));
    }
    Ok(body.freeze())
}

async fn read_unsized(session: &mut Session, limit: usize) -> Result<Bytes, Denial> {
    session.as_mut().enable_retry_buffering();
    let mut body = BytesMut::new();
    while let Some(chunk) = next(session).await? {
        if body.len() + chunk.len() > limit {
            return Err(Denial::new(Reason::LengthRequired));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

async fn next(session: &mut Session) -> Result<Option<Bytes>, Denial> {
    match tokio::time::timeout(SILENCE, session.as_mut().read_request_body()).await {
        Ok(read) => read.map_err(|error| cut(&error)),
        Err(_elapsed) => Err(Denial::new(Reason::BodyTimeout)),
    }
}

fn cut(error: &pingora::Error) -> Denial {
    Denial::new(Reason::MalformedRequest).because(format!("request body: {}", error.etype().as_str()))
}
