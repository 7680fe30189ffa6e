//! What is wrong with a token, without saying what the client is told: the engine turns a fault into a refusal.

use std::borrow::Cow;

/// What kind of thing is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// No credential.
    Missing,
    /// Not one well-formed token.
    Malformed,
    /// Not from the issuer it was taken for.
    Issuer,
    /// An algorithm that the provider or the key does not use.
    Algorithm,
    /// No key fits.
    Key,
    /// The signature does not verify.
    Signature,
    /// A registered claim is missing, of the wrong type or out of range.
    Claim,
    /// Past `exp`.
    Expired,
    /// Before `nbf` or `iat`.
    NotYetValid,
    /// Another kind of token than an access token.
    TokenType,
    /// Bound to a key that a plain bearer does not prove (RFC 9449, RFC 8705).
    Binding,
}

/// What is wrong with a token. The detail is for the log; it never holds the token, a key or the value of a claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// What kind of thing is wrong.
    pub kind: FaultKind,
    /// One clause for the log.
    pub detail: Cow<'static, str>,
}

impl Fault {
    /// A fault with its clause for the log.
    #[must_use]
    pub fn new(kind: FaultKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into() }
    }
}
