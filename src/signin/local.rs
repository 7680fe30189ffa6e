//! Sign-in by name and password, for people whom the gateway itself knows.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier as _};
use http::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::answer::{Answer, Oauth, OauthError};
use super::authorize::refused;
use super::browser::is_foreign_form;
use super::callback::{finish, no_flow};
use super::code::{Person, subject};
use super::flow::{self, Found, Lost};
use super::grant::{self, Grant};
use super::pages::{self, STYLE};
use super::{Request, form, login};
use crate::engine::issuing::{Endpoints, Issuing, SignInKind, User};
use crate::oauth::form::Parameters;
use crate::oauth::redirect::RedirectUri;

/// Passwords that are looked at together: each takes some twenty megabytes and a core.
static HASHING: Semaphore = Semaphore::const_new(2);
/// Bytes of a password that are looked at.
const LONGEST: usize = 1024;

/// Shows the page, or looks at what a person wrote into it.
pub async fn answer(issuing: &Issuing, request: Request<'_>) -> Answer {
    let written = *request.method == Method::POST;
    let parameters = if written {
        form(request)
    } else {
        Parameters::parse(request.query.as_bytes())
            .map_err(|error| OauthError::new(Oauth::InvalidRequest, error.to_string()))
    };
    let parameters = match parameters {
        Ok(parameters) => parameters,
        Err(error) => return refused(request, &error),
    };
    let state = parameters.get("state").unwrap_or_default();
    let found = match flow::find(issuing, request.headers, state, None).await {
        Ok(Ok(found)) => found,
        Ok(Err(lost)) => return no_flow(issuing, request, lost),
        Err(error) => return refused(request, &error.into()),
    };
    let Some(users) = users(issuing, &found.flow.provider) else { return no_flow(issuing, request, Lost::State) };
    if !written && found.flow.asked.prompt.is_some() {
        return page(issuing, &found, state, false);
    }
    if !written {
        return match login::known(issuing, request.headers, &found.flow.provider).await {
            Ok(Some(known)) => enter(issuing, request, &found, &known.user, &known.cookie).await,
            Ok(None) => page(issuing, &found, state, false),
            Err(error) => refused(request, &error.into()),
        };
    }
    if is_foreign_form(issuing, request.headers) {
        return no_flow(issuing, request, Lost::Browser);
    }
    let throttle = &issuing.works.throttle;
    if let Err(denial) = throttle.count(Endpoints::Passwords, request.address, issuing.works.clock.monotonic()) {
        let what = "There were too many tries from your network.";
        let then = "Wait a minute, then go back and try again.";
        let page = pages::problem(StatusCode::TOO_MANY_REQUESTS, "Too many tries", what, then, request.id);
        return page.to_come_back(&denial);
    }
    let name = parameters.get("name").unwrap_or_default().trim().to_lowercase();
    let password = parameters.get("password").unwrap_or_default();
    if !is_right(users, &name, password).await {
        tracing::warn!(event = "password-refused", service = %issuing.service, request = request.id, "name or password is not right");
        return page(issuing, &found, state, true);
    }
    match login::begin(issuing, request.headers, &found.flow.provider, &name).await {
        Ok(cookie) => enter(issuing, request, &found, &name, &cookie).await,
        Err(error) => refused(request, &error.into()),
    }
}

fn users<'a>(issuing: &'a Issuing, provider: &str) -> Option<&'a [User]> {
    let sign_in = issuing.sign_in.iter().find(|sign_in| sign_in.name == provider)?;
    match &sign_in.kind {
        SignInKind::Local(users) => Some(users),
        SignInKind::Oidc(_) | SignInKind::GitHub(_) => None,
    }
}

fn page(issuing: &Issuing, found: &Found, state: &str, failed: bool) -> Answer {
    let page = pages::SignIn {
        service: &issuing.title,
        action: format!("{}/sign-in", issuing.issuer),
        state,
        failed,
        style: STYLE,
    };
    let status = if failed { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    // The answer to the form leads on to the client.
    let leads_to: Vec<String> =
        RedirectUri::parse(&found.flow.asked.redirect).iter().map(RedirectUri::csp_source).collect();
    pages::page(status, &page, &leads_to)
}

/// Ends the flow with a code for the client.
async fn enter(issuing: &Issuing, request: Request<'_>, found: &Found, name: &str, cookie: &str) -> Answer {
    match found.take(issuing).await {
        Ok(true) => {}
        Ok(false) => return no_flow(issuing, request, Lost::Used),
        Err(error) => return refused(request, &error.into()),
    }
    let provider = found.flow.provider.clone();
    let Some(claims) = claims(issuing, &provider, &subject(&provider, name)) else {
        return no_flow(issuing, request, Lost::State);
    };
    let person = Person { provider, subject: name.to_owned(), claims, tokens: None };
    finish(issuing, request, found, person).await.with_cookie(&found.done).with_cookie(cookie)
}

/// Reads what the file of a local provider says about the person of a grant now. Others have told what they had to.
pub fn read_claims(issuing: &Issuing, grant: &mut Grant) {
    if let Some(claims) = claims(issuing, &grant.provider, &grant.subject) {
        grant.claims = grant::mapped(issuing, &claims);
    }
}

/// What the file of a local provider says about a person now; `None` when the provider is no local one, or knows nobody of
/// that name.
fn claims(issuing: &Issuing, provider: &str, subject: &str) -> Option<Value> {
    let name = subject.strip_prefix(provider)?.strip_prefix(':')?;
    let user = users(issuing, provider)?.iter().find(|user| user.name == name)?;
    let mut claims = user.claims.clone();
    claims.insert("sub".to_owned(), name.into());
    claims.insert("preferred_username".to_owned(), name.into());
    Some(Value::Object(claims))
}

/// Whether the password is the person's. For a name that nobody has it is compared with another person's, always the same
/// one's: that takes as long as it does for somebody, whatever the hashes of the file cost.
async fn is_right(users: &[User], name: &str, password: &str) -> bool {
    let known = users.iter().find(|user| user.name == name);
    let Some(compared) = known.or_else(|| users.get(stand_in(name, users.len()))) else { return false };
    let hash = compared.password.clone();
    let password: Vec<u8> = password.bytes().take(LONGEST).collect();
    let Ok(_turn) = HASHING.acquire().await else { return false };
    let looked = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&hash).is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
    });
    looked.await.unwrap_or(false) && known.is_some()
}

/// Whose hash stands in for that of a name that nobody has.
fn stand_in(name: &str, people: usize) -> usize {
    let sum = Sha256::digest(name).iter().take(4).fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    sum.checked_rem(people).unwrap_or_default()
}
