//! The authorization server of a service: its endpoints (OAuth 2.1) and pages.
//!
//! It is stateless: what it follows is in the snapshot of the request, what it remembers is in the store, and what it gives
//! away to get back is sealed. A change of the policy is in force at every endpoint with the next request.
//!
//! ```text
//! authorize   client, redirect URI, PKCE, resource, scopes → the consent page
//! consent     the person's answer → a flow in the store, its cookie, and off to the provider
//! callback    state, cookie, provider, once → a person → a code for the client
//! token       code or refresh token → tokens for exactly one resource
//! ```

mod answer;
mod asked;
mod authorize;
mod browser;
mod callback;
mod client_auth;
mod clients;
mod code;
mod consent;
mod documents;
mod flow;
mod grant;
mod introspect;
mod local;
mod login;
mod pages;
mod provider;
mod refresh;
mod register;
mod revoke;
mod service;
mod token;
mod vouching;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};

pub use answer::Answer;
pub use vouching::KeptTokens;

use crate::engine::decision::Denial;
use crate::engine::issuing::{Endpoints, Issuing};
use crate::engine::routes::Endpoint;
use crate::oauth::form::Parameters;
use answer::{Oauth, OauthError};

/// Bytes of a body at the token endpoint and those like it.
const FORM: usize = 1024 * 1024;
/// Bytes of a registration.
const REGISTRATION: usize = 256 * 1024;

/// A request to an endpoint, with its whole body.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where it goes.
    pub endpoint: Endpoint<'a>,
    /// The HTTP method.
    pub method: &'a Method,
    /// The headers; singletons occur at most once.
    pub headers: &'a HeaderMap,
    /// The query, without `?`.
    pub query: &'a str,
    /// The body.
    pub body: &'a Bytes,
    /// The client's address.
    pub address: IpAddr,
    /// The gateway's id of the request, which error pages show.
    pub id: &'a str,
}

/// Bytes of body that an endpoint reads; nothing where no body belongs.
#[must_use]
pub fn body_limit(endpoint: Endpoint<'_>, method: &Method) -> usize {
    match endpoint {
        _ if *method != Method::POST => 0,
        Endpoint::Register => REGISTRATION,
        _ => FORM,
    }
}

/// Whether pages of any origin may read the endpoint's answers (never with credentials): what clients in a browser call.
#[must_use]
pub fn is_for_scripts(endpoint: Endpoint<'_>) -> bool {
    matches!(
        endpoint,
        Endpoint::Metadata
            | Endpoint::Jwks
            | Endpoint::Token
            | Endpoint::Register
            | Endpoint::Revoke
            | Endpoint::Introspect
    )
}

/// The methods that an endpoint takes.
#[must_use]
pub fn methods(endpoint: Endpoint<'_>) -> &'static [Method] {
    match endpoint {
        Endpoint::Metadata | Endpoint::Jwks => &[Method::GET, Method::HEAD],
        Endpoint::Authorize | Endpoint::Callback(_) => &[Method::GET],
        Endpoint::SignIn | Endpoint::SignOut => &[Method::GET, Method::POST],
        Endpoint::Consent | Endpoint::Token | Endpoint::Register | Endpoint::Revoke | Endpoint::Introspect => {
            &[Method::POST]
        }
    }
}

/// Answers a request whose method the endpoint takes. Every refusal is an answer.
pub async fn answer(issuing: &Arc<Issuing>, request: Request<'_>) -> Answer {
    let counted = limited(request.endpoint).map_or(Ok(()), |endpoints| {
        issuing.works.throttle.count(endpoints, request.address, issuing.works.clock.monotonic())
    });
    if let Err(denial) = counted {
        return too_often(request, &denial);
    }
    match request.endpoint {
        Endpoint::Metadata => Answer::document(issuing.metadata.clone()),
        Endpoint::Jwks => {
            told(issuing.works.keyring.jwks(&issuing.works.vault).await.map(Answer::document).map_err(Into::into))
        }
        Endpoint::Authorize => authorize::answer(issuing, request).await,
        Endpoint::Consent => consent::answer(issuing, request).await,
        Endpoint::Callback(provider) => callback::answer(issuing, request, provider).await,
        Endpoint::SignIn => local::answer(issuing, request).await,
        Endpoint::SignOut => login::sign_out(issuing, request).await,
        Endpoint::Token => told(token::answer(issuing, request).await),
        Endpoint::Register => told(register::answer(issuing, request).await),
        Endpoint::Revoke => told(revoke::answer(issuing, request).await),
        Endpoint::Introspect => told(introspect::answer(issuing, request).await),
    }
}

/// Refuses a request that an endpoint has not looked at: clients and people are told each in their own way.
#[must_use]
pub fn refusal(for_scripts: bool, status: StatusCode, why: &str, id: &str) -> Answer {
    if for_scripts {
        let code = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Oauth::TemporarilyUnavailable,
            status if status.is_server_error() => Oauth::ServerError,
            _ => Oauth::InvalidRequest,
        };
        return OauthError { status, ..OauthError::new(code, why) }.answer();
    }
    let (title, then) = match status {
        StatusCode::TOO_MANY_REQUESTS => ("Too many requests", "Wait a minute and try again."),
        status if status.is_server_error() => ("The service is not available", "Try again in a moment."),
        _ => ("This request cannot be answered", "Go back to the application and begin again."),
    };
    pages::problem(status, title, &format!("The gateway answers: {why}."), then, id)
}

/// An address that asks too often waits.
fn too_often(request: Request<'_>, denial: &Denial) -> Answer {
    let why = "too many requests from this network";
    refusal(is_for_scripts(request.endpoint), StatusCode::TOO_MANY_REQUESTS, why, request.id).to_come_back(denial)
}

fn limited(endpoint: Endpoint<'_>) -> Option<Endpoints> {
    match endpoint {
        Endpoint::Metadata | Endpoint::Jwks => None,
        Endpoint::Authorize | Endpoint::Consent | Endpoint::Callback(_) | Endpoint::SignIn | Endpoint::SignOut => {
            Some(Endpoints::Pages)
        }
        Endpoint::Token | Endpoint::Revoke | Endpoint::Introspect => Some(Endpoints::Tokens),
        Endpoint::Register => Some(Endpoints::Registrations),
    }
}

fn told(outcome: Result<Answer, OauthError>) -> Answer {
    outcome.unwrap_or_else(|error| {
        let mut answer = error.answer();
        if error.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers.push((RETRY_AFTER, 2.into()));
        }
        answer
    })
}

/// The form in a body, which must say that it is one (OAuth 2.1 section 3.2).
fn form(request: Request<'_>) -> Result<Parameters, OauthError> {
    let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(OauthError::new(Oauth::InvalidRequest, "the body must be application/x-www-form-urlencoded"));
    }
    Parameters::parse(request.body).map_err(|error| OauthError::new(Oauth::InvalidRequest, error.to_string()))
}

#[cfg(test)]
mod tests;
