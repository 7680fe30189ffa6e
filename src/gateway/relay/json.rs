//! A JSON answer: read whole, judged, and then written at once.

use bytes::{Bytes, BytesMut};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession;

use super::super::Gateway;
use super::super::budget::{Budget, Held};
use super::super::exchange::Exchange;
use super::super::forward::{Stop, answer, gone, trouble};
use super::decode::{Coding, Decoder};
use super::judge::Judge;
use super::{client_head, write_whole};
use crate::engine::decision::{Denial, Reason};

/// Bytes by which the budget is taken while an answer grows.
const COUNTED: usize = 1024 * 1024;
/// Bytes of an answer that are not counted.
const UNCOUNTED: usize = 64 * 1024;

/// Relays a JSON answer.
///
/// # Errors
/// It cannot be had whole, is too large, or may not pass; nothing of it has been written then.
pub async fn json(
    gateway: &Gateway,
    session: &mut ServerSession,
    server: &mut HttpSession,
    coding: Coding,
    exchange: &mut Exchange,
) -> Result<(), Stop> {
    let cap = super::cap(exchange)?;
    let (body, held) = collected(session, server, coding, cap, &gateway.budget).await?;
    exchange.held.extend(held);
    let mut judge = Judge::new(gateway, exchange).ok_or_else(|| Denial::new(Reason::Internal))?;
    let edited = judge.whole(&body).await.map_err(Denial::new)?;
    let body = edited.map_or(body, Bytes::from);
    let head = client_head(gateway, session, answer(server)?, exchange, Some(body.len()))?;
    write_whole(session, head, body, exchange).await
}

async fn collected(
    session: &mut ServerSession,
    server: &mut HttpSession,
    coding: Coding,
    cap: usize,
    budget: &Budget,
) -> Result<(Bytes, Vec<Held>), Stop> {
    let (mut held, mut counted) = (Vec::new(), 0);
    let mut decoder = Decoder::new(coding);
    let mut first = Bytes::new();
    let mut body = BytesMut::new();
    loop {
        let piece = tokio::select! {
            biased;
            piece = server.read_body_bytes() => piece.map_err(|error| trouble(&error))?,
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
        let size = first.len() + body.len() + piece.len();
        // In steps, so that what is held is counted before it is there.
        while size > counted + UNCOUNTED {
            held.extend(budget.take(COUNTED)?);
            counted += COUNTED;
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
            return Ok((if body.is_empty() { first } else { body.freeze() }, held));
        }
    }
}
