//! A token of the gateway's own, for all callers of a service (RFC 6749 section 4.4).

use std::sync::Arc;

use async_trait::async_trait;

use super::token_endpoint::TokenEndpoint;
use crate::engine::clock::Clock;
use crate::engine::credential::{Caller, Obtain, Obtained};
use crate::engine::decision::Denial;

/// Obtains such tokens.
#[derive(Debug)]
pub struct ClientCredentials {
    endpoint: TokenEndpoint,
    clock: Arc<dyn Clock>,
}

impl ClientCredentials {
    /// Tokens of this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint, clock }
    }
}

#[async_trait]
impl Obtain for ClientCredentials {
    async fn obtain(&self, _caller: Option<&Caller>) -> Result<Obtained, Denial> {
        // What a token lives is counted from before it was asked for.
        let now = self.clock.unix();
        let token = self.endpoint.ask(&[("grant_type", "client_credentials")]).await?;
        Ok(Obtained::lasting(token.text, now, token.lives))
    }
}
