//! A JSON answer: read whole, judged, and then written at once.

use bytes::{Bytes, BytesMut};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::client::HttpSession;

use super::super::Gateway;
use super::super::exchange::Exchange;
use super::super::forward::{Stop, gone, trouble};
use super::decode::{Coding, Decoder};
use super::judge::Judge;
use super::{client_head, write_whole};
use crate::engine::decision::{Denial, Reason};

/// Relays a JSON answer.
///
/// # Errors
/// It cannot be had whole, is too large, or may not pass; nothing of it has been written then.
pub async fn json(
    gateway: &Gateway,
    session: &mut ServerSession,
    server: &mut HttpSession,
    answer: &ResponseHeader,
    coding: Coding,
    exchange: &mut Exchange,
) -> Result<(), Stop> {
    let cap = cap(exchange)?;
    let body = collected(session, server, coding, cap).await?;
    let mut judge = Judge::new(gateway, exchange).ok_or_else(|| Denial::new(Reason::Internal))?;
    let edited = judge.whole(&body).map_err(Denial::new)?;
    let body = edited.map_or(body, Bytes::from);
    let head = client_head(gateway, session, answer, exchange, Some(body.len()))?;
    write_whole(session, head, body, exchange).await
}

/// Lists are held and taken apart: they have a cap of their own.
fn cap(exchange: &Exchange) -> Result<usize, Denial> {
    let upstream = &exchange.pipeline()?.upstream;
    Ok(if exchange.plan.lists.is_empty() { upstream.response_limit } else { upstream.list_limit })
}

async fn collected(
    session: &mut ServerSession,
    server: &mut HttpSession,
    coding: Coding,
    cap: usize,
) -> Result<Bytes, Stop> {
    let mut decoder = Decoder::new(coding);
    let mut first = Bytes::new();
    let mut body = BytesMut::new();
    loop {
        let piece = tokio::select! {
            biased;
            piece = server.read_response_body() => piece.map_err(|error| trouble(&error))?,
            () = gone(session) => {
                server.shutdown().await;
                return Err(Stop::Gone);
            }
        };
        let (piece, ended) = match piece {
            Some(piece) => (decoder.push(piece, cap)?, false),
            None => (std::mem::replace(&mut decoder, Decoder::new(Coding::Identity)).finish()?, true),
        };
        if first.len() + body.len() + piece.len() > cap {
            return Err(Denial::new(Reason::ResponseTooLarge).into());
        }
        // Most answers come in one piece, which needs no copy.
        if first.is_empty() && body.is_empty() {
            first = piece;
        } else if !piece.is_empty() {
            if body.is_empty() {
                body.extend_from_slice(&std::mem::take(&mut first));
            }
            body.extend_from_slice(&piece);
        }
        if ended {
            return Ok(if body.is_empty() { first } else { body.freeze() });
        }
    }
}
