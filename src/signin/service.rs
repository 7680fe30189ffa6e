//! Tokens for machines (RFC 6749 section 4.4): for clients of the policy that prove who they are.

use http::StatusCode;

use super::answer::{Answer, Oauth, OauthError};
use super::asked::check_resource;
use super::clients::{Client, Proof};
use super::grant;
use crate::engine::issuing::Issuing;
use crate::oauth::form::Parameters;

/// Issues an access token whose subject is the client itself. There is no refresh token: the client asks again.
///
/// # Errors
/// The client is public, or asks for more than its own.
pub async fn issue(issuing: &Issuing, client: &Client, parameters: &Parameters) -> Result<Answer, OauthError> {
    if matches!(client.proof, Proof::None) {
        return Err(OauthError::new(Oauth::UnauthorizedClient, "a public client cannot act for itself"));
    }
    check_resource(issuing, parameters)?;
    let own = issuing.clients.iter().find(|named| named.id == client.id).map(|named| &named.scopes);
    let own =
        own.ok_or_else(|| OauthError::new(Oauth::UnauthorizedClient, "only a client of the policy acts for itself"))?;
    let scopes: Vec<String> = match parameters.get("scope") {
        None => own.clone(),
        Some(asked) => {
            let asked: Vec<&str> = asked.split(' ').filter(|scope| !scope.is_empty()).collect();
            if asked.iter().any(|scope| !own.iter().any(|held| held == scope)) {
                return Err(OauthError::new(Oauth::InvalidScope, "the client may not have all of these scopes"));
            }
            own.iter().filter(|held| asked.contains(&held.as_str())).cloned().collect()
        }
    };
    let lifetime = issuing.lifetimes.service;
    let access = grant::access_token(issuing, &client.id, &scopes, lifetime).await?;
    Ok(Answer::value(StatusCode::OK, &grant::answer(&access, lifetime, &scopes)))
}
