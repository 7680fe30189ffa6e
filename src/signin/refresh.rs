//! Refreshing (OAuth 2.1 section 4.3): every turn gives a new token, and one that comes twice ends the grant.

use std::sync::Arc;

use super::answer::{Answer, Oauth, OauthError};
use super::asked::{addressee, check_resource};
use super::clients::{self, Client};
use super::grant::{self, Grant, Presented};
use super::{local, vouching};
use crate::engine::issuing::Issuing;
use crate::engine::store::Table;
use crate::oauth::form::Parameters;

/// Seconds for which the turn before is answered with the same successor: its answer may have been lost.
const GRACE: i64 = 30;

/// Refreshes a grant.
///
/// # Errors
/// `invalid_grant` when there is none for this token and client; nothing is used up by what is refused.
pub async fn refresh(issuing: &Arc<Issuing>, client: &Client, parameters: &Parameters) -> Result<Answer, OauthError> {
    let token = parameters.get("refresh_token");
    let token = token.ok_or_else(|| OauthError::new(Oauth::InvalidRequest, "refresh_token is missing"))?;
    check_resource(issuing, parameters)?;
    let refused = || OauthError::new(Oauth::InvalidGrant, "the refresh token is unknown, used or too old");
    let presented = Presented::read(token).ok_or_else(refused)?;
    let (vault, now) = (&issuing.works.vault, issuing.works.clock.unix());
    let mut vouched = false;
    // Another look when the provider was asked, and one when another refresh came in between.
    for _ in 0..3 {
        let entry = vault.get::<Grant>(Table::Grants, &grant::row_name(issuing, presented.id)).await?;
        let Some(entry) = entry else { return Err(refused()) };
        let held = &entry.value;
        if held.client != client.id || !presented.is_of(issuing, held) || held.left(issuing) <= 0 {
            return Err(refused());
        }
        if held.is_revoked(issuing, presented.id) {
            return Err(OauthError::new(Oauth::InvalidGrant, "the grant is revoked"));
        }
        if addressee(issuing, &client.id, &held.redirect).await.is_err() {
            return Err(OauthError::new(Oauth::InvalidGrant, "the redirect URI of the grant is no longer permitted"));
        }
        if !held.is_vouched(issuing) {
            return Err(OauthError::new(Oauth::InvalidGrant, "nobody vouches for the person any more"));
        }
        let scopes = narrowed(held, parameters.get("scope"))?;
        if presented.turn == held.turn && !vouched && vouching::is_due(issuing, held) {
            vouching::vouch(issuing, presented.id, held).await?;
            vouched = true;
        } else if presented.turn == held.turn {
            let mut turned = Grant { turn: held.turn.saturating_add(1), turned: now, ..held.clone() };
            local::read_claims(issuing, &mut turned);
            if vault.replace(Table::Grants, &entry, &turned, turned.left(issuing), &turned.subject).await? {
                clients::keep(issuing, client).await;
                return grant::tokens(issuing, client, presented.id, &turned, &scopes).await;
            }
        } else if presented.turn.checked_add(1) == Some(held.turn) && now - held.turned <= GRACE {
            let mut again = held.clone();
            local::read_claims(issuing, &mut again);
            return grant::tokens(issuing, client, presented.id, &again, &scopes).await;
        } else {
            tracing::warn!(event = "refresh-replayed", service = %issuing.service, client = client.id, "a refresh token came twice; its grant is revoked");
            grant::revoke(issuing, presented.id).await?;
            return Err(refused());
        }
    }
    Err(OauthError::new(Oauth::TemporarilyUnavailable, "another refresh is under way"))
}

/// The scopes of the next access token: all of the grant's, or those asked for, which may only be fewer.
fn narrowed(grant: &Grant, asked: Option<&str>) -> Result<Vec<String>, OauthError> {
    let Some(asked) = asked else { return Ok(grant.scopes.clone()) };
    let habit = |scope: &&str| matches!(*scope, "openid" | "profile" | "email" | "offline_access" | "");
    let wanted: Vec<&str> = asked.split(' ').filter(|scope| !habit(scope)).collect();
    if wanted.iter().any(|scope| !grant.scopes.iter().any(|held| held == scope)) {
        return Err(OauthError::new(Oauth::InvalidScope, "a refresh cannot widen what was granted"));
    }
    Ok(grant.scopes.iter().filter(|held| wanted.is_empty() || wanted.contains(&held.as_str())).cloned().collect())
}
