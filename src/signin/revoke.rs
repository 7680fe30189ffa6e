//! Revocation (RFC 7009): of a grant by its refresh token, of one access token by itself.

use http::StatusCode;

use super::answer::{Answer, Oauth, OauthError};
use super::grant::{self, Grant, LEEWAY, Presented};
use super::{Request, client_auth, form, introspect};
use crate::engine::issuing::Issuing;
use crate::engine::store::Table;

/// Answers a client that wants a token to be worth nothing. A token that is unknown, or another client's, is answered in the
/// same way (section 2.2).
///
/// # Errors
/// The client is not known, or the store cannot be asked.
pub async fn answer(issuing: &Issuing, request: Request<'_>) -> Result<Answer, OauthError> {
    let parameters = form(request)?;
    let client = client_auth::authenticate(issuing, request.headers, &parameters).await?;
    let token = parameters.get("token");
    let token = token.ok_or_else(|| OauthError::new(Oauth::InvalidRequest, "token is missing"))?;
    let works = &issuing.works;
    if let Some(presented) = Presented::read(token) {
        let entry = works.vault.get::<Grant>(Table::Grants, &grant::row_name(issuing, presented.id)).await?;
        if entry.is_some_and(|entry| entry.value.client == client.id && presented.is_of(issuing, &entry.value)) {
            grant::revoke(issuing, presented.id).await?;
        }
    } else if let Some(claims) = introspect::access(issuing, token, &client.id).await?
        && let Some(id) = claims.get("jti").and_then(serde_json::Value::as_str)
    {
        let left = claims.get("exp").and_then(serde_json::Value::as_i64).unwrap_or_default() - works.clock.unix();
        works.revocations.revoke(&works.vault, id, left.max(1) + LEEWAY).await?;
    }
    Ok(Answer::empty(StatusCode::OK))
}
