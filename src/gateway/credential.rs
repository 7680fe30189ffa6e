//! What the gateway shows the upstream of one request, and what it does when that is refused.

use http::{HeaderValue, StatusCode};

use super::exchange::Exchange;
use crate::engine::credential::{Kind, Who};
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::{CredentialSource, Pipeline, Upstream};

/// The value of the credential's header, when the upstream gets one. What was obtained before is there at once.
///
/// # Errors
/// It cannot be had: nothing may be sent upstream.
pub async fn of(pipeline: &Pipeline, exchange: &mut Exchange) -> Result<Option<HeaderValue>, Denial> {
    let Some(credential) = &pipeline.upstream.credential else { return Ok(None) };
    let issuing = pipeline.issuing.as_ref();
    match &credential.source {
        CredentialSource::Fixed(value) => {
            exchange.credential = Some(Kind::Secret);
            Ok(Some(value.clone()))
        }
        CredentialSource::Obtained(credentials) => {
            exchange.credential = Some(credentials.kind());
            let identity = exchange.identity.as_ref().ok_or_else(|| Denial::new(Reason::Internal))?;
            let token = exchange.token.as_ref().map(|token| &*token.0);
            credentials.get(Who { token, identity, issuing }).await.map(Some)
        }
    }
}

/// Takes note of how the upstream answered. A credential that it refused is not shown again; the request is not repeated,
/// for it may have had an effect.
pub fn answered(upstream: &Upstream, exchange: &Exchange, shown: Option<&HeaderValue>, status: StatusCode) {
    if status != StatusCode::UNAUTHORIZED {
        return;
    }
    if let (Some(value), Some(CredentialSource::Obtained(credentials))) =
        (shown, upstream.credential.as_ref().map(|credential| &credential.source))
    {
        credentials.refused(exchange.token.as_ref().map(|token| &*token.0), value);
    }
}
