//! Sign-in by name and password, for people whom the gateway itself knows.

use std::sync::OnceLock;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier as _};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::answer::{Answer, Oauth, OauthError};
use super::authorize::refused;
use super::browser::is_foreign_form;
use super::callback::{finish, no_flow};
use super::code::Person;
use super::flow::{self, Found, Lost};
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
    if !written {
        return match login::known(issuing, request.headers, &found.flow.provider).await {
            Ok(Some(name)) if users.iter().any(|user| user.name == name) => {
                enter(issuing, request, &found, users, &name, None).await
            }
            Ok(_) => page(issuing, &found, state, false),
            Err(error) => refused(request, &error.into()),
        };
    }
    if is_foreign_form(issuing, request.headers) {
        return no_flow(issuing, request, Lost::Browser);
    }
    let throttle = &issuing.works.throttle;
    if throttle.count(Endpoints::Passwords, request.address, issuing.works.clock.monotonic()).is_err() {
        let what = "There were too many tries from your network.";
        let then = "Wait a minute, then go back and try again.";
        return pages::problem(StatusCode::TOO_MANY_REQUESTS, "Too many tries", what, then, request.id);
    }
    let name = parameters.get("name").unwrap_or_default().trim().to_lowercase();
    let password = parameters.get("password").unwrap_or_default();
    if !is_right(users, &name, password).await {
        tracing::warn!(event = "password-refused", service = %issuing.service, request = request.id, "name or password is not right");
        return page(issuing, &found, state, true);
    }
    match login::begin(issuing, request.headers, &found.flow.provider, &name).await {
        Ok(cookie) => enter(issuing, request, &found, users, &name, Some(&cookie)).await,
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
async fn enter(
    issuing: &Issuing,
    request: Request<'_>,
    found: &Found,
    users: &[User],
    name: &str,
    cookie: Option<&str>,
) -> Answer {
    match found.take(issuing).await {
        Ok(true) => {}
        Ok(false) => return no_flow(issuing, request, Lost::Used),
        Err(error) => return refused(request, &error.into()),
    }
    let user = users.iter().find(|user| user.name == name);
    let mut claims = user.map(|user| user.claims.clone()).unwrap_or_default();
    claims.insert("sub".to_owned(), name.into());
    claims.insert("preferred_username".to_owned(), name.into());
    let person = Person {
        provider: found.flow.provider.clone(),
        subject: name.to_owned(),
        claims: Value::Object(claims),
        tokens: None,
    };
    let answer = finish(issuing, request, found, person).await.with_cookie(&found.done);
    cookie.into_iter().fold(answer, |answer, cookie| answer.with_cookie(cookie))
}

/// Whether the password is the person's. A name that nobody has takes as long.
async fn is_right(users: &[User], name: &str, password: &str) -> bool {
    static NOBODY: OnceLock<String> = OnceLock::new();
    let known = users.iter().find(|user| user.name == name);
    let hash = known.map_or_else(|| NOBODY.get_or_init(nobody).clone(), |user| user.password.clone());
    let password: Vec<u8> = password.bytes().take(LONGEST).collect();
    let Ok(_turn) = HASHING.acquire().await else { return false };
    let looked = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&hash).is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
    });
    looked.await.unwrap_or(false) && known.is_some()
}

/// A hash of nothing that anybody can type, with the cost of the others.
fn nobody() -> String {
    use argon2::password_hash::{PasswordHasher as _, SaltString};
    let random = crate::engine::vault::random::<32>().unwrap_or_default();
    let salt = SaltString::encode_b64(random.get(..16).unwrap_or_default());
    let hashed = salt.and_then(|salt| Argon2::default().hash_password(&random, &salt).map(|hash| hash.to_string()));
    hashed.unwrap_or_default()
}
