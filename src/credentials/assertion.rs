//! Who calls, said by the gateway and signed: a short-lived assertion for one upstream, which verifies it with the keys that
//! the gateway publishes for the service.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::engine::clock::Clock;
use crate::engine::credential::{Caller, Obtain, Obtained};
use crate::engine::decision::{Denial, Reason};
use crate::engine::keyring::Keyring;
use crate::engine::vault::{Vault, VaultError, random_text};
use crate::oauth::identity::Identity;

/// The `typ` of such an assertion: it is no access token, here or anywhere (RFC 8725 section 3.11).
pub const TYPE: &str = "portcullis-assertion+jwt";
/// Seconds from its making to its end.
const LIVES: i64 = 60;
/// Seconds for which one is shown, and after which the next one is made in the background: whoever gets it has half of its
/// life to look at it.
const SHOWN: i64 = 30;
const RENEWED: i64 = 20;

/// What an assertion says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `iss`: the public URL of the service.
    pub issuer: String,
    /// `aud`: the upstream.
    pub audience: String,
    /// Claims of the caller's token that go along.
    pub claims: Vec<String>,
}

/// Makes assertions.
#[derive(Debug)]
pub struct Assertion {
    settings: Settings,
    vault: Arc<Vault>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

impl Assertion {
    /// Assertions by a key of `keyring`.
    #[must_use]
    pub fn new(settings: Settings, vault: Arc<Vault>, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { settings, vault, keyring, clock }
    }

    /// The claims. A subject is the pair of its issuer and its name there (RFC 9493 section 3.2.3): `sub` alone is unique
    /// only where the service accepts one issuer.
    fn claims(&self, identity: &Identity, now: i64, id: String) -> Map<String, Value> {
        let mut claims = Map::new();
        for name in &self.settings.claims {
            if let Some(value) = identity.claims.get(name) {
                claims.insert(name.clone(), value.clone());
            }
        }
        let mut say = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
        say("iss", self.settings.issuer.as_str().into());
        say("aud", self.settings.audience.as_str().into());
        say("iat", now.into());
        say("exp", (now + LIVES).min(identity.expires).into());
        say("jti", id.into());
        if let Some(subject) = &identity.subject {
            say("sub", (&**subject).into());
            say("sub_id", json!({ "format": "iss_sub", "iss": &*identity.issuer, "sub": &**subject }));
        }
        if let Some(client) = &identity.client {
            say("client_id", (&**client).into());
        }
        let scopes: Vec<&str> = identity.scopes.iter().collect();
        if !scopes.is_empty() {
            say("scope", scopes.join(" ").into());
        }
        claims
    }
}

#[async_trait]
impl Obtain for Assertion {
    async fn obtain(&self, caller: Option<&Caller>) -> Result<Obtained, Denial> {
        let nobody =
            || Denial::new(Reason::CredentialRefused).because("a caller without a token cannot be vouched for");
        let identity = &caller.ok_or_else(nobody)?.identity;
        let now = self.clock.unix();
        if identity.expires <= now {
            return Err(Denial::new(Reason::TokenExpired));
        }
        let id = random_text().or(Err(Denial::new(Reason::RandomFailed)))?;
        let signed = self.keyring.sign(&self.vault, TYPE, &self.claims(identity, now, id)).await;
        let text = signed.map_err(|error| match error {
            VaultError::Store(_) => Denial::new(Reason::CredentialUnavailable).because(error.to_string()),
            VaultError::Full | VaultError::Seal => Denial::new(Reason::Internal).because(error.to_string()),
        })?;
        let until = (now + SHOWN).min(identity.expires);
        Ok(Obtained { text, until, renew: now + RENEWED })
    }
}
