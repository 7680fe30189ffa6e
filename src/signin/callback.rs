//! Where a provider sends the browser back: once, to the browser that consented, from the provider that it was sent to.

use http::StatusCode;

use super::answer::{Answer, Oauth, OauthError};
use super::asked::{addressee, permitted};
use super::authorize::refused;
use super::flow::{self, Found, Lost};
use super::provider::{self, ProviderError};
use super::{Request, code, pages};
use crate::engine::issuing::Issuing;
use crate::oauth::form::Parameters;

/// Answers a browser that the provider called `name` sent back.
pub async fn answer(issuing: &Issuing, request: Request<'_>, name: &str) -> Answer {
    let parameters = match Parameters::parse(request.query.as_bytes()) {
        Ok(parameters) => parameters,
        Err(error) => return refused(request, &OauthError::new(Oauth::InvalidRequest, error.to_string())),
    };
    let state = parameters.get("state").unwrap_or_default();
    let found = match flow::find(issuing, request.headers, state, Some(name)).await {
        Ok(Ok(found)) => found,
        Ok(Err(lost)) => return no_flow(issuing, request, lost),
        Err(error) => return refused(request, &error.into()),
    };
    let Some(sign_in) = issuing.sign_in.iter().find(|sign_in| sign_in.name == name) else {
        return no_flow(issuing, request, Lost::State);
    };
    let Some(issuer) = provider::issuer(sign_in) else { return no_flow(issuing, request, Lost::State) };
    match provider::is_from(issuing, sign_in, parameters.get("iss")).await {
        Ok(true) if found.flow.issuer == issuer.as_str() => {}
        Ok(_) => {
            // Nothing that such an answer says is shown or passed on (RFC 9207 section 2.4).
            tracing::warn!(event = "provider-mix-up", service = %issuing.service, provider = name, request = request.id, "an answer came from another issuer");
            return no_flow(issuing, request, Lost::State);
        }
        Err(error) => return end(issuing, request, &found, &error.into()),
    }
    // From here on the flow is over, whatever comes of it.
    match found.take(issuing).await {
        Ok(true) => {}
        Ok(false) => return no_flow(issuing, request, Lost::Used),
        Err(error) => return refused(request, &error.into()),
    }
    let outcome = match (parameters.get("error"), parameters.get("code")) {
        (Some(error), _) => Err(passed_on(error)),
        (None, None) => Err(OauthError::new(Oauth::ServerError, "the identity provider's answer is not acceptable")),
        (None, Some(redeemed)) => provider::person(issuing, sign_in, &found.flow, redeemed).await.map_err(|error| {
            tracing::warn!(event = "sign-in-failed", service = %issuing.service, provider = name, request = request.id, %error, "nobody was signed in");
            match error {
                ProviderError::Ended(_) => not_signed_in(),
                error => error.into(),
            }
        }),
    };
    let answer = match outcome {
        Ok(person) => finish(issuing, request, &found, person).await,
        Err(error) => end(issuing, request, &found, &error),
    };
    answer.with_cookie(&found.done)
}

/// Gives the client its code, if the policy still lets it have one.
pub async fn finish(issuing: &Issuing, request: Request<'_>, found: &Found, person: code::Person) -> Answer {
    let asked = &found.flow.asked;
    let to = match addressee(issuing, &asked.client, &asked.redirect).await {
        Ok(to) => to,
        Err(error) => return refused(request, &error),
    };
    match code::issue(issuing, &to.client, asked, person, request.address).await {
        Ok(code) => asked.respond(issuing, &[("code", &code)]),
        Err(error) => asked.refuse(issuing, &error),
    }
}

/// An error goes back to the client only if its redirect URI is still permitted; otherwise the person is told.
fn end(issuing: &Issuing, request: Request<'_>, found: &Found, error: &OauthError) -> Answer {
    let asked = &found.flow.asked;
    if permitted(issuing, &asked.redirect) { asked.refuse(issuing, error) } else { refused(request, error) }
}

fn not_signed_in() -> OauthError {
    OauthError::new(Oauth::AccessDenied, "the identity provider did not sign the person in")
}

/// Of a provider's error only the registered code goes on (RFC 6749 section 4.1.2.1), and never its words.
fn passed_on(error: &str) -> OauthError {
    match error {
        "access_denied" | "consent_required" | "login_required" | "interaction_required" => not_signed_in(),
        "temporarily_unavailable" => {
            OauthError::new(Oauth::TemporarilyUnavailable, "the identity provider is not available")
        }
        _ => OauthError::new(Oauth::ServerError, "the identity provider reported an error"),
    }
}

/// Tells a person that nothing here belongs to their browser.
pub fn no_flow(issuing: &Issuing, request: Request<'_>, lost: Lost) -> Answer {
    let (event, what) = match lost {
        Lost::State => ("state-refused", "This sign-in was not begun here, or it took too long."),
        Lost::Browser => ("browser-refused", "This sign-in was begun in another browser, or cookies are turned off."),
        Lost::Used => ("state-replayed", "This sign-in is over already."),
    };
    tracing::warn!(event, service = %issuing.service, request = request.id, "a callback belongs to no flow");
    let then = "Go back to the application and begin again.";
    pages::problem(StatusCode::BAD_REQUEST, "This sign-in cannot go on", what, then, request.id)
}
