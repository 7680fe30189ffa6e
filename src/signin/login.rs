//! A browser in which a person of the local provider has signed in: known for eight hours after it was last used.

use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::Request;
use super::answer::Answer;
use super::browser::{self, cookie, is_foreign_form, set_cookie};
use super::code::subject;
use super::pages::{self, STYLE};
use crate::engine::issuing::Issuing;
use crate::engine::standing::Print;
use crate::engine::store::Table;
use crate::engine::vault::{VaultError, random_text};

/// Seconds after which a browser that is not used is forgotten.
const IDLE: i64 = 8 * 3600;

/// A login as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Login {
    /// The local provider.
    pub provider: String,
    /// The person's name.
    pub user: String,
    /// The print of name and password: with another password the person signs in again.
    pub print: Print,
}

/// Somebody who has signed in.
pub struct Known {
    /// The person's name.
    pub user: String,
    /// The cookie that makes the browser remember for eight hours more.
    pub cookie: String,
}

/// The person who has signed in to `provider` in this browser.
///
/// # Errors
/// The store cannot be asked.
pub async fn known(issuing: &Issuing, headers: &HeaderMap, provider: &str) -> Result<Option<Known>, VaultError> {
    let Some(id) = cookie(issuing, headers, &cookie_name(issuing)) else { return Ok(None) };
    let vault = &issuing.works.vault;
    let Some(entry) = vault.get::<Login>(Table::Logins, &row_name(issuing, &id)).await? else { return Ok(None) };
    let login = &entry.value;
    if login.provider != provider || print(issuing, provider, &login.user) != Some(&login.print) {
        return Ok(None);
    }
    vault.replace(Table::Logins, &entry, login, IDLE, &login.user).await?;
    Ok(Some(Known { user: login.user.clone(), cookie: set_cookie(issuing, &cookie_name(issuing), &id, IDLE) }))
}

fn print<'a>(issuing: &'a Issuing, provider: &str, user: &str) -> Option<&'a Print> {
    issuing.standing.print(&subject(provider, user), None)
}

/// Remembers that `user` has signed in, under a new name: whoever knew the old cookie knows nothing. Returns the cookie.
///
/// # Errors
/// It cannot be kept.
pub async fn begin(issuing: &Issuing, headers: &HeaderMap, provider: &str, user: &str) -> Result<String, VaultError> {
    end(issuing, headers).await?;
    let id = random_text()?;
    let print = print(issuing, provider, user).cloned().unwrap_or_default();
    let login = Login { provider: provider.to_owned(), user: user.to_owned(), print };
    issuing.works.vault.add(Table::Logins, &row_name(issuing, &id), &login, IDLE, user).await?;
    Ok(set_cookie(issuing, &cookie_name(issuing), &id, IDLE))
}

async fn end(issuing: &Issuing, headers: &HeaderMap) -> Result<(), VaultError> {
    match cookie(issuing, headers, &cookie_name(issuing)) {
        Some(id) => issuing.works.vault.take::<Login>(Table::Logins, &row_name(issuing, &id)).await.map(drop),
        None => Ok(()),
    }
}

/// Every service has a cookie of its own, or services of one host would take each other's logins out of the browser, and what
/// is not in the browser any more cannot be ended by signing out.
fn cookie_name(issuing: &Issuing) -> String {
    format!("login-{}", browser::print(&issuing.issuer).get(..12).unwrap_or_default())
}

fn row_name(issuing: &Issuing, id: &str) -> String {
    format!("{} {id}", issuing.issuer)
}

/// Asks whether to sign out, and does it.
pub async fn sign_out(issuing: &Issuing, request: Request<'_>) -> Answer {
    let page = |done| pages::SignOut {
        service: &issuing.title,
        action: format!("{}/sign-out", issuing.issuer),
        done,
        style: STYLE,
    };
    if *request.method != Method::POST {
        return pages::page(StatusCode::OK, &page(false), &[]);
    }
    if is_foreign_form(issuing, request.headers) {
        let then = "Open the sign-out page of the service and try again.";
        return pages::problem(
            StatusCode::FORBIDDEN,
            "Not signed out",
            "The request came from another site.",
            then,
            request.id,
        );
    }
    if let Err(error) = end(issuing, request.headers).await {
        tracing::warn!(event = "sign-in-store", %error, "nobody was signed out");
        let what = "The service cannot reach its store at the moment.";
        return pages::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "Not signed out",
            what,
            "Try again in a moment.",
            request.id,
        );
    }
    pages::page(StatusCode::OK, &page(true), &[]).with_cookie(&set_cookie(issuing, &cookie_name(issuing), "", 0))
}
