//! Who is asking: the facts that a provider vouched for, and nothing else.

use std::sync::Arc;

use serde_json::{Map, Value};

/// Who holds a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Holder {
    /// Somebody who signed in.
    #[default]
    Person,
    /// A client that acts for itself.
    Machine,
}

/// Who is asking, as one provider vouched for it: a verified fact about a token, independent of any service.
///
/// *Subject* always means the pair (issuer, subject): a bare `sub` identifies nobody.
#[derive(Debug)]
pub struct Identity {
    /// `iss`, byte-exact (RFC 7519 section 4.1.1).
    pub issuer: Arc<str>,
    /// `sub` (RFC 7519 section 4.1.2), when the token has one.
    pub subject: Option<Arc<str>>,
    /// `client_id` (RFC 9068 section 2.2) or else `azp` (OpenID Connect Core section 2), or what Okta (`cid`) and Entra's
    /// version 1 (`appid`) call it.
    pub client: Option<Arc<str>>,
    /// A person or a machine.
    pub holder: Holder,
    /// The scopes held, from `scope` or `scp`.
    pub scopes: Scopes,
    /// `aud`, always as a list.
    pub audiences: Vec<String>,
    /// `exp`, seconds since the epoch.
    pub expires: i64,
    /// `nbf`, seconds since the epoch.
    pub not_before: Option<i64>,
    /// The JOSE `typ` header, lower-cased and without `application/`; `None` when absent.
    pub token_type: Option<String>,
    /// Every claim, for conditions and required claims.
    pub claims: Map<String, Value>,
    /// The first 8 bytes of the SHA-256 of the token, in hex: how logs name a token.
    pub token_name: String,
    /// The same of the token's other spelling, where it has one ([`twin`](super::jws::twin)).
    pub twin_name: Option<String>,
}

impl Identity {
    /// Nobody in particular: a caller without a token, where a service admits such.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            issuer: "".into(),
            subject: None,
            client: None,
            holder: Holder::default(),
            scopes: Scopes::default(),
            audiences: Vec::new(),
            expires: i64::MAX,
            not_before: None,
            token_type: None,
            claims: Map::new(),
            token_name: String::new(),
            twin_name: None,
        }
    }

    /// Whether nobody vouched for anything: every provider's issuer has a name.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.issuer.is_empty()
    }
}

/// A set of scope names (RFC 6749 section 3.3), sorted, exact and case-sensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Arc<str>>);

impl Scopes {
    /// Whether `scope` is held, byte for byte.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.0.binary_search_by(|held| held.as_ref().cmp(scope)).is_ok()
    }

    /// The scopes in sorted order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether no scope is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Into<Arc<str>>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(scopes: I) -> Self {
        let mut scopes: Vec<Arc<str>> = scopes.into_iter().map(Into::into).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }
}
