//! The authorization endpoint (OAuth 2.1 section 4.1.1): from a client's request to the page that asks the person.

use http::StatusCode;

use super::answer::{Answer, Oauth, OauthError};
use super::asked::{self, Asked, LONGEST_STATE, addressee};
use super::browser::{Browser, is_own_navigation};
use super::{Request, consent, pages, provider};
use crate::engine::issuing::Issuing;
use crate::oauth::form::Parameters;

/// Answers a browser that a client sent.
pub async fn answer(issuing: &Issuing, request: Request<'_>) -> Answer {
    let parameters = match Parameters::parse(request.query.as_bytes()) {
        Ok(parameters) => parameters,
        Err(error) => return refused(request, &OauthError::new(Oauth::InvalidRequest, error.to_string())),
    };
    let missing = |name: &str| OauthError::new(Oauth::InvalidRequest, format!("{name} is missing"));
    let Some(client_id) = parameters.get("client_id") else { return refused(request, &missing("client_id")) };
    let Some(redirect) = parameters.get("redirect_uri") else { return refused(request, &missing("redirect_uri")) };
    let to = match addressee(issuing, client_id, redirect).await {
        Ok(to) => to,
        Err(error) => return refused(request, &error),
    };
    let asked = match Asked::read(issuing, &parameters, &to) {
        Ok(asked) => asked,
        Err(error) => {
            // A state that is itself at fault is not echoed.
            let state = parameters.get("state").filter(|state| state.len() <= LONGEST_STATE);
            return asked::refuse(issuing, to.redirect.as_str(), state, &error);
        }
    };
    let browser = match Browser::of(issuing, request.headers) {
        Ok(browser) => browser,
        Err(error) => return asked.refuse(issuing, &OauthError::new(Oauth::ServerError, error.to_string())),
    };
    // A client that wants the person to be asked, or to sign in anew, has its reasons.
    if parameters.get("prompt").is_none()
        && is_own_navigation(request.headers)
        && let Some(name) = consent::remembered(issuing, &browser, &to.client, &asked).await
        && let Some(sign_in) = issuing.sign_in.iter().find(|sign_in| sign_in.name == name)
    {
        return provider::begin(issuing, sign_in, asked, request).await;
    }
    consent::ask(issuing, &to, &asked, &browser)
}

/// Tells the person, and not the client: nothing is known yet of where its answers may go (RFC 9700 section 4.11).
pub fn refused(request: Request<'_>, error: &OauthError) -> Answer {
    let status = if error.code == Oauth::InvalidClient { StatusCode::BAD_REQUEST } else { error.status };
    let what =
        format!("The application that sent you here asked for something that cannot be given: {}.", error.description);
    let then = match error.code {
        Oauth::TemporarilyUnavailable => "Go back to the application and try again in a moment.",
        _ => {
            "Go back to the application and begin again. If it happens again, tell the people who run the service, with the line below."
        }
    };
    pages::problem(status, "This sign-in cannot go on", &what, then, request.id)
}
