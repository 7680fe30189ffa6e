//! What the gateway shows an upstream besides a fixed secret: credentials that it obtains, keeps and renews ahead.
//!
//! How one is obtained is the matter of [`Obtain`], one file each on the floor above. Here stands what all have in common:
//! a credential belongs to one service and, unless the service has one for everybody, to the token of one caller; it is
//! never used past its time; and a request waits for it only when there is none.

mod cache;

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

pub use cache::CredentialCache;

use super::decision::{Denial, Reason};
use super::issuing::Issuing;
use crate::oauth::identity::Identity;

/// Seconds for which a credential is kept that does not say how long it lives.
const UNSAID: i64 = 60;
/// Seconds for which one is kept at most, whatever it says.
const LONGEST: i64 = 24 * 3600;
/// Seconds before its end from which one is no longer used, and from which it is renewed; or this part of its life when
/// that is shorter.
const MARGIN: (i64, i64) = (30, 10);
const AHEAD: (i64, i64) = (300, 4);

/// The kinds of credential, as the audit record names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A secret of the policy.
    Secret,
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 8693.
    Exchange,
    /// The person's own token of the provider that signed them in.
    ProviderToken,
    /// The gateway's word about who calls.
    Assertion,
}

impl Kind {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ClientCredentials => "client_credentials",
            Self::Exchange => "exchange",
            Self::ProviderToken => "provider_token",
            Self::Assertion => "assertion",
        }
    }
}

/// Whose a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// One for all callers of the service.
    Service,
    /// One for each token that is presented, and so never one for two subjects.
    Caller,
}

/// Who calls, as a request knows it.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// The token that was presented and accepted, if any was.
    pub token: Option<&'a str>,
    /// What it says.
    pub identity: &'a Arc<Identity>,
    /// The authorization server of the service, when it has its own.
    pub issuing: Option<&'a Arc<Issuing>>,
}

impl std::fmt::Debug for Who<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Who").field("token", &self.identity.token_name).finish_non_exhaustive()
    }
}

/// Who calls, for whom a credential is obtained.
#[derive(Clone)]
pub struct Caller {
    /// The token that was presented and accepted.
    pub token: Arc<str>,
    /// What it says.
    pub identity: Arc<Identity>,
    /// The authorization server of the service, when it has its own.
    pub issuing: Option<Arc<Issuing>>,
}

impl Caller {
    /// The grant of a person who signed in at the gateway: what their token calls its session. Machines have none.
    #[must_use]
    pub fn grant(&self) -> Option<(&Arc<Issuing>, &str)> {
        let own = self.issuing.as_ref().filter(|own| own.issuer == self.identity.issuer)?;
        Some((own, self.identity.claims.get("sid")?.as_str()?))
    }

    /// Whether the token is one of the gateway's own, which mean nothing to anybody else.
    #[must_use]
    pub fn has_own_token(&self) -> bool {
        self.issuing.as_ref().is_some_and(|own| own.issuer == self.identity.issuer)
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("token", &self.identity.token_name).finish_non_exhaustive()
    }
}

/// A credential that was obtained. Times are seconds since the epoch.
pub struct Obtained {
    /// The credential itself, without what stands before it in its header.
    pub text: String,
    /// From when it is not used any more.
    pub until: i64,
    /// From when another is obtained while this one still serves.
    pub renew: i64,
}

impl std::fmt::Debug for Obtained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Obtained").field("until", &self.until).field("renew", &self.renew).finish_non_exhaustive()
    }
}

impl Obtained {
    /// A credential that lives for so many seconds from `now` on, or does not say for how long.
    #[must_use]
    pub fn lasting(text: String, now: i64, seconds: Option<i64>) -> Self {
        let seconds = seconds.unwrap_or(UNSAID).clamp(0, LONGEST);
        let part = |(most, part): (i64, i64)| (seconds / part).min(most);
        let until = now.saturating_add(seconds - part(MARGIN));
        Self { text, until, renew: until.saturating_sub(part(AHEAD)) }
    }

    /// The same, not used past `end`, when what it was made from ends.
    #[must_use]
    pub fn ending(mut self, end: i64) -> Self {
        self.until = self.until.min(end);
        self
    }
}

/// A way to obtain a credential.
#[async_trait]
pub trait Obtain: Send + Sync + std::fmt::Debug {
    /// Obtains one: for `caller`, or for everybody when the service has one for all.
    ///
    /// # Errors
    /// [`Reason::CredentialUnavailable`] when whoever gives it does not answer, [`Reason::CredentialRefused`] when they
    /// answer and give none.
    async fn obtain(&self, caller: Option<&Caller>) -> Result<Obtained, Denial>;
}

/// A token of the provider that signed a person in.
pub struct ProviderToken {
    /// The token.
    pub text: String,
    /// Until when it is good, in seconds since the epoch, if the provider said so.
    pub until: Option<i64>,
}

impl std::fmt::Debug for ProviderToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderToken").field("until", &self.until).finish_non_exhaustive()
    }
}

/// Whoever keeps the tokens of providers, and renews them.
#[async_trait]
pub trait ProviderTokens: Send + Sync + std::fmt::Debug {
    /// The access token of the person of a grant, with half a minute of life or more.
    ///
    /// # Errors
    /// 401 when the sign-in is over, [`Reason::CredentialUnavailable`] or [`Reason::CredentialRefused`] when the provider
    /// does not answer or gives none.
    async fn token(&self, issuing: &Arc<Issuing>, grant: &str) -> Result<ProviderToken, Denial>;
}

/// The credentials of one service.
#[derive(Debug)]
pub struct Credentials {
    kind: Kind,
    holder: Holder,
    prefix: String,
    obtain: Arc<dyn Obtain>,
    cache: Arc<CredentialCache>,
    runtime: Handle,
    /// Names this service with these settings: what was obtained under others is not found.
    generation: u64,
}

impl Credentials {
    /// Credentials that `obtain` gives, each with `prefix` before it in its header. What is obtained is obtained on
    /// `runtime`: a caller that goes away does not stop what others wait for.
    #[must_use]
    pub fn new(
        kind: Kind,
        holder: Holder,
        prefix: String,
        obtain: Arc<dyn Obtain>,
        cache: &Arc<CredentialCache>,
        runtime: Handle,
    ) -> Self {
        let generation = cache.next_generation();
        Self { kind, holder, prefix, obtain, cache: Arc::clone(cache), runtime, generation }
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The value of the header for a request of this caller. It is there at once unless there is none yet.
    ///
    /// # Errors
    /// None can be had. Nothing is sent upstream then.
    pub async fn get(&self, who: Who<'_>) -> Result<HeaderValue, Denial> {
        let key = self.key(who.token)?;
        if let Some(value) = self.cache.held(&key, || self.flight(who)) {
            return Ok(value);
        }
        self.cache.obtained(&key, || self.flight(who)).await
    }

    /// The upstream refused `value`: the next request gets another. One that was just obtained anew stays, so that an
    /// upstream that refuses everything costs no more than its own answers.
    pub fn refused(&self, token: Option<&str>, value: &HeaderValue) {
        if let Ok(key) = self.key(token) {
            self.cache.refused(&key, value);
        }
    }

    fn key(&self, token: Option<&str>) -> Result<cache::Key, Denial> {
        let hash = match (self.holder, token) {
            (Holder::Service, _) => [0; 32],
            (Holder::Caller, Some(token)) => Sha256::digest(token).into(),
            (Holder::Caller, None) => {
                return Err(Denial::new(Reason::CredentialRefused).because("a caller without a token has none"));
            }
        };
        Ok((hash, self.generation))
    }

    fn flight(&self, who: Who<'_>) -> cache::Flight {
        let caller = |token: &str| Caller {
            token: token.into(),
            identity: Arc::clone(who.identity),
            issuing: who.issuing.map(Arc::clone),
        };
        cache::Flight {
            obtain: Arc::clone(&self.obtain),
            caller: who.token.filter(|_| self.holder == Holder::Caller).map(caller),
            prefix: self.prefix.clone(),
            runtime: self.runtime.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
