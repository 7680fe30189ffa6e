//! An event stream: event by event, for as long as it may last.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::server::ShutdownWatch;

use super::super::Gateway;
use super::super::exchange::{Exchange, Outcome};
use super::super::forward::{Stop, answer, gone, trouble};
use super::super::watch::Watch;
use super::client_head;
use super::decode::{Coding, Decoder};
use super::judge::Judge;
use crate::engine::decision::{Denial, Reason};
use crate::mcp::sse::EventFilter;

/// Keeps intermediaries from closing a stream that is silent: a comment, which readers skip.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// How long a client may take to read the end of a stream.
const LAST: Duration = Duration::from_secs(1);

/// Relays an event stream until it ends, the client goes away, or the caller may no longer have it.
///
/// # Errors
/// Before the head is written a refusal; afterwards the connection is broken off.
pub async fn events(
    gateway: &Gateway,
    session: &mut ServerSession,
    server: &mut HttpSession,
    coding: Coding,
    exchange: &mut Exchange,
    closing: &mut ShutdownWatch,
) -> Result<(), Stop> {
    if exchange.plan.waits {
        server.read_timeout = None;
    }
    let head = client_head(gateway, session, answer(server)?, exchange, None)?;
    if session.req_header().version == http::Version::HTTP_10 {
        session.set_keepalive(None);
    }
    exchange.status = head.status.as_u16();
    session.write_response_header(Box::new(head)).await.or(Err(Stop::Gone))?;
    match pumped(gateway, session, server, coding, exchange, closing).await? {
        Ended::ByUpstream => {}
        Ended::ByGateway(reason) => {
            server.shutdown().await;
            if let Some(reason) = reason {
                exchange.outcome = Outcome::Deny(reason, Some("the stream was ended".to_owned()));
            }
        }
    }
    let ended = tokio::time::timeout(LAST, session.write_response_body(Bytes::new(), true)).await;
    if matches!(ended, Ok(Ok(()))) { Ok(()) } else { Err(Stop::Gone) }
}

/// How a stream came to its orderly end.
enum Ended {
    /// The upstream ended it.
    ByUpstream,
    /// The gateway did: the caller may no longer have it, or the process ends.
    ByGateway(Option<Reason>),
}

enum Step {
    Look,
    Open,
    Close,
    Gone,
    Piece(pingora::Result<Option<Bytes>>),
}

async fn pumped(
    gateway: &Gateway,
    session: &mut ServerSession,
    server: &mut HttpSession,
    coding: Coding,
    exchange: &Exchange,
    closing: &mut ShutdownWatch,
) -> Result<Ended, Stop> {
    let broken = |denial: Denial| Stop::Broken(Box::new(denial));
    let mut judge = Judge::new(gateway, exchange).ok_or_else(|| broken(Denial::new(Reason::Internal)))?;
    let cap = super::cap(exchange).map_err(broken)?;
    let (mut decoder, mut filter) = (Decoder::new(coding), EventFilter::new(cap));
    let mut watch = Watch::new(gateway, exchange);
    let mut opened = false;
    loop {
        let step = tokio::select! {
            biased;
            () = watch.due() => Step::Look,
            _ = closing.changed() => Step::Close,
            () = gone(session) => Step::Gone,
            piece = server.read_body_bytes() => Step::Piece(piece),
            // The head must not wait for the first event.
            () = std::future::ready(()), if !opened => Step::Open,
        };
        let mut out = Vec::new();
        let mut ended = None;
        match step {
            Step::Look => {
                match watch.look().await {
                    Err(reason) => return Ok(Ended::ByGateway(Some(reason))),
                    // A stream that waits answers no one request: it is judged as requests are that begin now.
                    Ok(Some(pipeline)) if exchange.plan.waits => judge.follow(pipeline),
                    Ok(_) => {}
                }
                if watch.is_quiet() {
                    out.extend_from_slice(&COMMENT);
                }
            }
            Step::Open => out.extend_from_slice(&COMMENT),
            Step::Close => return Ok(Ended::ByGateway(None)),
            Step::Gone => {
                server.shutdown().await;
                return Err(Stop::Gone);
            }
            Step::Piece(piece) => {
                let piece = piece.map_err(|error| broken(trouble(&error)))?;
                let last = piece.is_none();
                let plain = match piece {
                    Some(piece) => decoder.push(piece, cap).map_err(broken)?,
                    None => std::mem::replace(&mut decoder, Decoder::new(Coding::Identity)).finish().map_err(broken)?,
                };
                // What judges an event takes no room in streams that are silent.
                let judging = Box::pin(filter.push(&plain, last, &mut out, &mut judge));
                let judged = permitted(&mut watch, judging).await;
                let pushed = match judged {
                    Ok(pushed) => pushed,
                    Err(reason) => return Ok(Ended::ByGateway(Some(reason))),
                };
                pushed.map_err(|error| broken(Denial::new(Reason::ResponseTooLarge).because(error.to_string())))?;
                ended = match judge.over {
                    Some(reason) => Some(Ended::ByGateway(Some(reason))),
                    None => last.then_some(Ended::ByUpstream),
                };
            }
        }
        if !out.is_empty() {
            watch.spoke();
            opened = true;
            match permitted(&mut watch, session.write_response_body(Bytes::from(out), false)).await {
                Ok(written) => written.or(Err(Stop::Gone))?,
                Err(reason) => {
                    let cause = "the stream was ended while the client did not read";
                    return Err(broken(Denial::new(reason).because(cause)));
                }
            }
        }
        if let Some(ended) = ended {
            return Ok(ended);
        }
    }
}

/// Waits for as long as the caller may have the stream: neither a client that does not read nor a store that does not
/// answer keeps it open.
async fn permitted<T>(watch: &mut Watch<'_>, work: impl Future<Output = T>) -> Result<T, Reason> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = watch.due() => watch.look().await.map(drop)?,
        }
    }
}
