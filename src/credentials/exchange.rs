//! The token of a caller exchanged for one that the upstream takes (RFC 8693): the upstream sees the person, and never the
//! token that opened the gateway. Of a person who signed in at the gateway the provider's token is exchanged, since the
//! gateway's own mean nothing to anybody else.

use std::sync::Arc;

use async_trait::async_trait;

use super::token_endpoint::TokenEndpoint;
use crate::engine::clock::Clock;
use crate::engine::credential::{Caller, Obtain, Obtained, ProviderTokens};
use crate::engine::decision::{Denial, Reason};

/// RFC 8693 section 2.1.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 section 3: what goes there, and what may come back.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Obtains tokens by exchange.
#[derive(Debug)]
pub struct Exchange {
    endpoint: TokenEndpoint,
    tokens: Arc<dyn ProviderTokens>,
    clock: Arc<dyn Clock>,
}

impl Exchange {
    /// Exchange at this endpoint; `tokens` keeps those of providers.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, tokens: Arc<dyn ProviderTokens>, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint, tokens, clock }
    }

    /// The token that is exchanged, and when it ends.
    async fn subject(&self, caller: &Caller) -> Result<(Arc<str>, i64), Denial> {
        let end = caller.identity.expires;
        if !caller.has_own_token() {
            return Ok((Arc::clone(&caller.token), end));
        }
        let machine = || Denial::new(Reason::CredentialRefused).because("a machine client has no token of a provider");
        let (issuing, grant) = caller.grant().ok_or_else(machine)?;
        let token = self.tokens.token(issuing, grant).await?;
        Ok((token.text.into(), end.min(token.until.unwrap_or(i64::MAX))))
    }
}

#[async_trait]
impl Obtain for Exchange {
    async fn obtain(&self, caller: Option<&Caller>) -> Result<Obtained, Denial> {
        let refused = |cause: &'static str| Denial::new(Reason::CredentialRefused).because(cause);
        let caller = caller.ok_or_else(|| refused("a caller without a token has none to exchange"))?;
        let now = self.clock.unix();
        if caller.identity.expires <= now {
            // What clocks may be off by is between the gateway and the token, and no matter of another server.
            return Err(Denial::new(Reason::TokenExpired));
        }
        let (subject, end) = self.subject(caller).await?;
        let asked = [
            ("grant_type", GRANT),
            ("subject_token", &*subject),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
        ];
        let token = self.endpoint.ask(&asked).await?;
        match token.members.get("issued_token_type").and_then(|kind| kind.as_str()) {
            Some(ACCESS_TOKEN | JWT) => {}
            _ => return Err(refused("token endpoint: `issued_token_type` is not that of an access token")),
        }
        if token.text == *caller.token || token.text == *subject {
            return Err(refused("token endpoint: what came back is what was sent"));
        }
        Ok(Obtained::lasting(token.text, now, token.lives).ending(end))
    }
}
