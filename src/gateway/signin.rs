//! Takes requests to the endpoints of an authorization server to [`crate::signin`], and its answers back.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ALLOW,
};
use http::{HeaderValue, Method, StatusCode};
use pingora::protocols::http::ServerSession;

use super::body;
use super::budget::Budget;
use super::exchange::Exchange;
use super::local::Answer;
use crate::engine::decision::{Denial, Reason};
use crate::engine::routes::Endpoint;
use crate::engine::service::Pipeline;
use crate::signin::{self, Request};

/// When keys that cannot be read are asked for again.
const RETRY: Duration = Duration::from_secs(2);

/// Answers a request to `endpoint` of the routed service.
///
/// # Errors
/// The service is closed or has no authorization server, or the body cannot be read.
pub async fn answer(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    budget: &Budget,
    address: IpAddr,
    endpoint: Endpoint<'_>,
) -> Result<Answer, Denial> {
    let service = exchange.service.clone().ok_or_else(|| Denial::new(Reason::Internal))?;
    let pipeline = service.pipeline()?;
    let method = session.req_header().method.clone();
    let methods = signin::methods(endpoint);
    if signin::is_for_scripts(endpoint) {
        exchange.added.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
        if method == Method::OPTIONS {
            return Ok(preflight(methods));
        }
    }
    if !methods.contains(&method) {
        let why = "the method is not offered here";
        let for_scripts = signin::is_for_scripts(endpoint);
        let mut answer = signin::refusal(for_scripts, StatusCode::METHOD_NOT_ALLOWED, why, &exchange.id);
        answer.headers.push((ALLOW, listed(methods)));
        return Ok(answer);
    }
    let Some(issuing) = &pipeline.issuing else { return keys(pipeline).await };
    let limit = signin::body_limit(endpoint, &method);
    let body = if limit == 0 { Bytes::new() } else { body::read(session, limit, budget, exchange).await? };
    let head = session.req_header();
    let request = Request {
        endpoint,
        method: &head.method,
        headers: &head.headers,
        query: head.uri.query().unwrap_or_default(),
        body: &body,
        address,
        id: &exchange.id,
    };
    Ok(signin::answer(issuing, request).await)
}

/// The keys of a service that signs assertions and issues no tokens.
async fn keys(pipeline: &Pipeline) -> Result<Answer, Denial> {
    let published = pipeline.published.as_ref().ok_or_else(|| Denial::new(Reason::PathUnknown))?;
    let keys = published.keyring.jwks(&published.vault).await;
    keys.map(Answer::document)
        .map_err(|error| Denial::new(Reason::CredentialUnavailable).because(error.to_string()).retry_after(RETRY))
}

/// Clients in a browser may call it from anywhere, without credentials (Fetch standard, CORS protocol).
fn preflight(methods: &[Method]) -> Answer {
    let mut answer = Answer::empty(StatusCode::NO_CONTENT);
    answer.headers.extend([
        (ACCESS_CONTROL_ALLOW_METHODS, listed(methods)),
        (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type, mcp-protocol-version")),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
    ]);
    answer
}

fn listed(methods: &[Method]) -> HeaderValue {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static("POST"))
}
