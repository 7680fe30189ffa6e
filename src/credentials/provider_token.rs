//! The person's own token of the provider that signed them in at the gateway: for an upstream that asks that provider's API
//! in their name.

use std::sync::Arc;

use async_trait::async_trait;

use crate::engine::clock::Clock;
use crate::engine::credential::{Caller, Obtain, Obtained, ProviderTokens};
use crate::engine::decision::{Denial, Reason};

/// Seconds before the end of a provider's token from which it is no longer used, and from which it is asked for again:
/// whoever keeps it hands out the same one before.
const MARGIN: i64 = 5;
const AHEAD: i64 = 29;

/// Obtains such tokens.
#[derive(Debug)]
pub struct OfProvider {
    tokens: Arc<dyn ProviderTokens>,
    clock: Arc<dyn Clock>,
}

impl OfProvider {
    /// Tokens that `tokens` keeps.
    #[must_use]
    pub fn new(tokens: Arc<dyn ProviderTokens>, clock: Arc<dyn Clock>) -> Self {
        Self { tokens, clock }
    }
}

#[async_trait]
impl Obtain for OfProvider {
    async fn obtain(&self, caller: Option<&Caller>) -> Result<Obtained, Denial> {
        let nobody =
            || Denial::new(Reason::CredentialRefused).because("nobody signed in at the gateway for this token");
        let caller = caller.ok_or_else(nobody)?;
        let (issuing, grant) = caller.grant().ok_or_else(nobody)?;
        let token = self.tokens.token(issuing, grant).await?;
        let now = self.clock.unix();
        let mut obtained = Obtained::lasting(token.text, now, token.until.map(|until| until - now));
        if let Some(until) = token.until {
            obtained.until = obtained.until.max(until - MARGIN);
            obtained.renew = (until - AHEAD).max(now + (until - now) / 2);
        }
        Ok(obtained.ending(caller.identity.expires))
    }
}
