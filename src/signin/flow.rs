//! A sign-in on its way: begun when the person has consented, ended once by the callback of the browser that began it.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::asked::Asked;
use super::browser::{cookie, print, set_cookie};
use crate::engine::issuing::Issuing;
use crate::engine::store::Table;
use crate::engine::vault::{Purpose, VaultError, random_text};

/// Seconds from consent to callback.
pub const LIFETIME: i64 = 600;

/// What a flow remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flow {
    /// What the client asked for.
    pub asked: Asked,
    /// The provider that signs in.
    pub provider: String,
    /// The issuer that the browser was sent to: another one's answer is a mix-up.
    pub issuer: String,
    /// `nonce` of the ID token.
    pub nonce: String,
    /// `code_verifier` of the gateway's own PKCE.
    pub verifier: String,
    /// SHA-256 of the cookie of the browser that consented.
    pub browser: String,
}

/// What `state` says: which flow, of which provider, until when.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    flow: String,
    provider: String,
    until: i64,
}

/// A flow that has begun.
pub struct Begun {
    /// `state`.
    pub state: String,
    /// The cookie that binds it to the browser.
    pub cookie: String,
}

/// Why a callback or form belongs to no flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// `state` is not one of ours, too old, or of another provider.
    State,
    /// The browser is not the one that consented.
    Browser,
    /// The flow is over, or was answered before.
    Used,
}

/// Begins a flow: keeps it, and binds it to the browser by a cookie of its own.
///
/// # Errors
/// It cannot be kept.
pub async fn begin(issuing: &Issuing, mut flow: Flow, owner: &str) -> Result<Begun, VaultError> {
    let (id, secret) = (random_text()?, random_text()?);
    flow.browser = print(&secret);
    let state =
        State { flow: id.clone(), provider: flow.provider.clone(), until: issuing.works.clock.unix() + LIFETIME };
    let state = issuing.works.vault.seal(Purpose::State, &issuing.issuer, &state)?;
    issuing.works.vault.add(Table::Flows, &id, &flow, LIFETIME, owner).await?;
    Ok(Begun { state, cookie: set_cookie(issuing, &cookie_name(&id), &secret, LIFETIME) })
}

/// One cookie for each flow, so that two tabs do not take each other's.
fn cookie_name(id: &str) -> String {
    format!("flow-{}", id.get(..12).unwrap_or_default())
}

/// A flow that `state` names and the browser's cookie fits.
pub struct Found {
    /// What it remembers.
    pub flow: Flow,
    /// Takes its cookie away.
    pub done: String,
    id: String,
}

/// Finds the flow of `state` at the callback or page of `provider`, for the browser that began it.
///
/// # Errors
/// `Ok(Err)` tells why there is none; nothing is taken.
pub async fn find(
    issuing: &Issuing,
    headers: &http::HeaderMap,
    state: &str,
    provider: Option<&str>,
) -> Result<Result<Found, Lost>, VaultError> {
    let vault = &issuing.works.vault;
    let opened = vault.open::<State>(Purpose::State, &issuing.issuer, state);
    let now = issuing.works.clock.unix();
    let Some(state) = opened.filter(|state| now < state.until && provider.is_none_or(|name| name == state.provider))
    else {
        return Ok(Err(Lost::State));
    };
    let name = cookie_name(&state.flow);
    let Some(secret) = cookie(issuing, headers, &name) else { return Ok(Err(Lost::Browser)) };
    let Some(entry) = vault.get::<Flow>(Table::Flows, &state.flow).await? else { return Ok(Err(Lost::Used)) };
    if !bool::from(entry.value.browser.as_bytes().ct_eq(print(&secret).as_bytes())) {
        return Ok(Err(Lost::Browser));
    }
    let done = set_cookie(issuing, &name, "", 0);
    Ok(Ok(Found { flow: entry.value, done, id: state.flow }))
}

impl Found {
    /// Takes the flow, so that it is answered once. False when somebody else has.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn take(&self, issuing: &Issuing) -> Result<bool, VaultError> {
        Ok(issuing.works.vault.take::<Flow>(Table::Flows, &self.id).await?.is_some())
    }
}
