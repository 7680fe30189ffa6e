//! Turns a finished exchange into its audit record.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::exchange::{Exchange, Outcome};
use crate::engine::credential::Kind;
use crate::oauth::strict;
use crate::telemetry::audit::{Record, SCHEMA};

/// Bytes that are told of a method or target: with more, one caller could fill the queue and the disk.
const TOLD: usize = 1024;

/// The record of `exchange` as one line.
pub fn line(exchange: &Exchange) -> Vec<u8> {
    let identity = exchange.identity.as_deref().filter(|identity| !identity.is_anonymous());
    let (decision, reason, detail) = match &exchange.outcome {
        Outcome::Local => ("local", None, None),
        Outcome::Permit => ("permit", None, None),
        Outcome::Deny(reason, detail) => ("deny", Some(reason.as_str()), detail.as_deref()),
    };
    let address = exchange.address.map(|address| address.to_string());
    let pipeline = exchange.service.as_ref().and_then(|service| service.pipeline().ok());
    let place = exchange.rule.and_then(|rule| pipeline?.rule_places.get(rule));
    Record {
        schema: SCHEMA,
        time: exchange.time,
        request: &exchange.id,
        trace: exchange.trace.as_deref(),
        generation: exchange.snapshot.generation,
        address: address.as_deref(),
        service: exchange.service.as_ref().map(|service| &*service.name),
        issuer: identity.map(|identity| &*identity.issuer),
        subject: identity.and_then(|identity| identity.subject.as_deref()),
        client: identity.and_then(|identity| identity.client.as_deref()),
        token: identity.map(|identity| identity.token_name.as_str()),
        claims: claims(exchange),
        method: exchange.asked.method.as_deref().map(beginning),
        target: exchange.asked.target.as_deref().map(beginning),
        arguments: arguments(exchange).unwrap_or_default(),
        decision,
        reason,
        detail: detail.map(Cow::Borrowed),
        rule: place.as_deref(),
        undecided: &exchange.undecided,
        credential: exchange.credential.map(Kind::as_str),
        status: exchange.status,
        duration: u64::try_from(exchange.started.elapsed().as_micros()).unwrap_or(u64::MAX),
    }
    .line()
}

fn beginning(text: &str) -> &str {
    if text.len() <= TOLD {
        return text;
    }
    let end = (0..=TOLD).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Only the claims that the installation lists.
fn claims(exchange: &Exchange) -> Map<String, Value> {
    let Some(identity) = &exchange.identity else { return Map::new() };
    let listed = exchange.snapshot.logged_claims.iter();
    listed.filter_map(|name| Some((name.clone(), identity.claims.get(name)?.clone()))).collect()
}

/// Only the arguments that the installation lists; read from the judged body, and only when some are listed.
fn arguments(exchange: &Exchange) -> Option<Map<String, Value>> {
    if exchange.snapshot.logged_arguments.is_empty() || exchange.asked.target.is_none() {
        return None;
    }
    let body: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(&exchange.body).ok()?;
    let params: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(body.get("params")?.get()).ok()?;
    let arguments = strict::object(params.get("arguments")?.get().as_bytes()).ok()?;
    Some(arguments.into_iter().filter(|(name, _)| exchange.snapshot.logged_arguments.contains(name)).collect())
}
