//! The token endpoint (OAuth 2.1 section 3.2).

use std::sync::Arc;

use super::answer::{Answer, Oauth, OauthError};
use super::{Request, client_auth, code, form, refresh, service};
use crate::engine::issuing::Issuing;

/// Answers a client that wants tokens.
///
/// # Errors
/// In the form of RFC 6749 section 5.2.
pub async fn answer(issuing: &Arc<Issuing>, request: Request<'_>) -> Result<Answer, OauthError> {
    let parameters = form(request)?;
    let client = client_auth::authenticate(issuing, request.headers, &parameters).await?;
    let unauthorized = || OauthError::new(Oauth::UnauthorizedClient, "the client may not use this grant type");
    let outcome = match parameters.get("grant_type") {
        Some("authorization_code") if client.grants.code => code::redeem(issuing, &client, &parameters).await,
        Some("refresh_token") if client.grants.refresh => refresh::refresh(issuing, &client, &parameters).await,
        Some("client_credentials") if client.grants.service => service::issue(issuing, &client, &parameters).await,
        Some("authorization_code" | "refresh_token" | "client_credentials") => Err(unauthorized()),
        Some(_) => Err(OauthError::new(Oauth::UnsupportedGrantType, "the grant type is not offered")),
        None => Err(OauthError::new(Oauth::InvalidRequest, "grant_type is missing")),
    };
    tracing::info!(
        event = "token",
        service = %issuing.service,
        client = client.id,
        grant = parameters.get("grant_type").unwrap_or_default().chars().take(64).collect::<String>(),
        outcome = outcome.as_ref().map_or_else(|error| error.code.as_str(), |_| "issued"),
        request = request.id,
        "token endpoint"
    );
    outcome
}
