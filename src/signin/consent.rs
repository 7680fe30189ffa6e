//! The page that asks a person whether a client may, and the person's answer (MCP, "Security Best Practices").
//!
//! Nothing is kept before the answer: the request stands sealed in the form, bound to the browser by its cookie.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Oauth, OauthError};
use super::asked::{Addressee, Asked, addressee};
use super::authorize::refused;
use super::browser::{Browser, is_foreign_form, print};
use super::clients::Client;
use super::pages::{self, STYLE, Way};
use super::{Request, form, provider};
use crate::engine::issuing::Issuing;
use crate::engine::limits::network;
use crate::engine::store::Table;
use crate::engine::vault::Purpose;

/// Seconds from the page to the answer.
const LIFETIME: i64 = 600;

/// What the form holds, sealed.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    asked: Asked,
    /// What the client said about itself when the person was asked.
    client: String,
    /// SHA-256 of the browser's cookie.
    browser: String,
    until: i64,
}

/// A consent that is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    provider: String,
}

/// Asks the person.
pub fn ask(issuing: &Issuing, to: &Addressee, asked: &Asked, browser: &Browser) -> Answer {
    let held = Held {
        asked: asked.clone(),
        client: to.client.print.clone(),
        browser: print(&browser.id),
        until: issuing.works.clock.unix() + LIFETIME,
    };
    let sealed = match issuing.works.vault.seal(Purpose::Consent, &issuing.issuer, &held) {
        Ok(sealed) => sealed,
        Err(error) => return asked.refuse(issuing, &error.into()),
    };
    let client = &to.client;
    let by_policy = issuing.clients.iter().any(|named| named.id == client.id);
    let words = |name: &String| {
        let scope = issuing.scopes.iter().find(|scope| scope.name == *name);
        scope.map(|scope| scope.describe.as_deref().unwrap_or(&scope.name))
    };
    let name = client.name.as_deref().unwrap_or("An application without a name");
    let page = pages::Consent {
        client: name,
        initial: initial(name),
        host: client.host.as_deref(),
        vouched: by_policy || client.host.is_some(),
        loopback: to.redirect.is_loopback() && !by_policy,
        redirect: to.redirect.host().unwrap_or(to.redirect.as_str()),
        service: &issuing.title,
        resource: &issuing.issuer,
        scopes: asked.scopes.iter().filter_map(words).collect(),
        ways: issuing.sign_in.iter().map(|way| Way { name: way.name.clone(), title: way.title.clone() }).collect(),
        action: format!("{}/consent", issuing.issuer),
        request: &sealed,
        remembered: issuing.remember.is_some(),
        style: STYLE,
    };
    // Browsers apply the policy of a page to every redirect after its form, and a company's sign-in may lead over hosts
    // that nobody here knows: https goes anywhere, and beyond it only what this request needs.
    let mut leads_to = vec!["https:".to_owned(), to.redirect.csp_source()];
    let origins = issuing.sign_in.iter().filter_map(provider::issuer);
    leads_to.extend(origins.map(|issuer| issuer.url().origin().ascii_serialization()));
    let answer = pages::page(StatusCode::OK, &page, &leads_to);
    browser.cookie.iter().fold(answer, |answer, cookie| answer.with_cookie(cookie))
}

/// What stands for a name in a picture.
fn initial(name: &str) -> char {
    let first = name.chars().find(|letter| letter.is_alphanumeric());
    first.and_then(|letter| letter.to_uppercase().next()).unwrap_or('?')
}

/// The person has answered.
pub async fn answer(issuing: &Issuing, request: Request<'_>) -> Answer {
    let parameters = match form(request) {
        Ok(parameters) => parameters,
        Err(error) => return refused(request, &error),
    };
    let held = parameters.get("request");
    let held = held.and_then(|held| issuing.works.vault.open::<Held>(Purpose::Consent, &issuing.issuer, held));
    let Some(held) = held.filter(|held| issuing.works.clock.unix() < held.until) else {
        let what = "The page that you answered is too old, or was changed on its way.";
        let then = "Go back to the application and begin again.";
        return pages::problem(StatusCode::BAD_REQUEST, "This page has expired", what, then, request.id);
    };
    let browser = Browser::known(issuing, request.headers).filter(|id| print(id) == held.browser);
    let Some(browser) = browser.filter(|_| !is_foreign_form(issuing, request.headers)) else {
        tracing::warn!(event = "consent-forged", service = %issuing.service, request = request.id, "an answer to a consent page came from elsewhere");
        let what = "The answer did not come from the browser that was asked. Cookies may be turned off.";
        let then = "Allow cookies for this site, go back to the application and begin again.";
        return pages::problem(StatusCode::FORBIDDEN, "This answer cannot be accepted", what, then, request.id);
    };
    let asked = held.asked;
    // By the policy as it is now, and by what the client says about itself now.
    let to = match addressee(issuing, &asked.client, &asked.redirect).await {
        Ok(to) => to,
        Err(error) => return refused(request, &error),
    };
    if to.client.print != held.client {
        let browser = Browser { id: browser, cookie: None };
        return ask(issuing, &to, &asked, &browser);
    }
    let Some(name) = parameters.get("provider") else {
        // Whoever refuses now does not mean what they said before.
        forget(issuing, &browser, &to.client, &asked).await;
        return asked.refuse(issuing, &OauthError::new(Oauth::AccessDenied, "the person refused"));
    };
    let Some(sign_in) = issuing.sign_in.iter().find(|sign_in| sign_in.name == name) else {
        return asked.refuse(issuing, &OauthError::new(Oauth::ServerError, "the way to sign in is gone"));
    };
    remember(issuing, request, &browser, (&to.client, &asked), name).await;
    provider::begin(issuing, sign_in, asked, request).await
}

/// The provider of a consent that this browser gave to the same client, as it is now, for the same matter.
pub async fn remembered(issuing: &Issuing, browser: &Browser, client: &Client, asked: &Asked) -> Option<String> {
    issuing.remember?;
    let name = row_name(issuing, &browser.id, client, asked);
    let found = issuing.works.vault.get::<Remembered>(Table::Consents, &name).await;
    found.ok().flatten().map(|entry| entry.value.provider)
}

async fn forget(issuing: &Issuing, browser: &str, client: &Client, asked: &Asked) {
    if issuing.remember.is_none() {
        return;
    }
    let name = row_name(issuing, browser, client, asked);
    let forgotten = issuing.works.vault.take::<Remembered>(Table::Consents, &name).await;
    if let Err(error) = forgotten {
        tracing::warn!(event = "sign-in-store", %error, "a consent that was withdrawn is still remembered");
    }
}

async fn remember(
    issuing: &Issuing,
    request: Request<'_>,
    browser: &str,
    (client, asked): (&Client, &Asked),
    provider: &str,
) {
    let Some(lifetime) = issuing.remember else { return };
    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let name = row_name(issuing, browser, client, asked);
    let remembered = Remembered { provider: provider.to_owned() };
    let (vault, table, owner) = (&issuing.works.vault, Table::Consents, network(request.address).to_string());
    // Whoever cannot be remembered is asked again.
    let kept = match vault.get::<Remembered>(table, &name).await {
        Ok(Some(entry)) => vault.replace(table, &entry, &remembered, lifetime, &owner).await.map(drop),
        Ok(None) => vault.add(table, &name, &remembered, lifetime, &owner).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        tracing::debug!(%error, "a consent is not remembered");
    }
}

fn row_name(issuing: &Issuing, browser: &str, client: &Client, asked: &Asked) -> String {
    let scopes = asked.scopes.join(" ");
    [browser, &issuing.issuer, &client.id, &client.print, &asked.redirect, &scopes].join("\n")
}
