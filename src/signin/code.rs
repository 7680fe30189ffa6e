//! Authorization codes: for one client, one redirect URI and one PKCE challenge, redeemed once (OAuth 2.1 section 4.1.3).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::{Answer, Oauth, OauthError};
use super::asked::{Asked, addressee, check_resource};
use super::clients::{self, Client};
use super::grant::{self, Grant};
use super::local;
use super::provider::ProviderTokens;
use crate::engine::issuing::Issuing;
use crate::engine::limits::network;
use crate::engine::store::Table;
use crate::engine::vault::random_text;
use crate::oauth::form::Parameters;

/// Seconds for which a redeemed code is remembered, so that a second redemption is seen.
const REMEMBERED: i64 = 600;

/// A person whom a provider vouches for.
#[derive(Debug)]
pub struct Person {
    /// The provider's name.
    pub provider: String,
    /// Its `sub`.
    pub subject: String,
    /// Its claims.
    pub claims: Value,
    /// Its tokens.
    pub tokens: Option<ProviderTokens>,
}

impl Person {
    /// The subject of the gateway's own tokens: a provider's name and a colon stand before what the provider says, so that
    /// no person can be called like a client (RFC 9700 section 4.15) or like another provider's.
    fn subject(&self) -> String {
        subject(&self.provider, &self.subject)
    }
}

/// How the gateway calls somebody whom a provider calls `name`.
pub fn subject(provider: &str, name: &str) -> String {
    format!("{provider}:{name}")
}

/// A code as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Code {
    asked: Asked,
    grant: Grant,
    /// The grant that it was redeemed for.
    redeemed: Option<String>,
    /// Until when it may be redeemed, in seconds since the epoch.
    until: i64,
}

/// Issues a code to `client`, for what it asked, about `person`.
///
/// # Errors
/// It cannot be kept.
pub async fn issue(
    issuing: &Issuing,
    client: &Client,
    asked: &Asked,
    person: Person,
    address: IpAddr,
) -> Result<String, OauthError> {
    let (now, subject) = (issuing.works.clock.unix(), person.subject());
    let gone = || OauthError::new(Oauth::AccessDenied, "nobody vouches for the person any more");
    let issuer = person.claims.get("iss").and_then(Value::as_str);
    let grant = Grant {
        client: client.id.clone(),
        redirect: asked.redirect.clone(),
        print: issuing.standing.print(&subject, issuer).ok_or_else(gone)?.clone(),
        subject,
        claims: grant::mapped(issuing, &person.claims),
        provider: person.provider,
        tokens: person.tokens,
        renewable: client.grants.refresh,
        scopes: asked.scopes.clone(),
        secret: random_text().map_err(|error| OauthError::new(Oauth::ServerError, error.to_string()))?,
        turn: 0,
        turned: now,
        began: now,
    };
    let until = now + issuing.lifetimes.code;
    let code = Code { asked: asked.clone(), grant, redeemed: None, until };
    let text = random_text().map_err(|error| OauthError::new(Oauth::ServerError, error.to_string()))?;
    let owner = network(address).to_string();
    let name = row_name(issuing, &text);
    let kept = issuing.works.vault.add(Table::Codes, &name, &code, issuing.lifetimes.code, &owner);
    if !kept.await? {
        return Err(OauthError::new(Oauth::ServerError, "try again"));
    }
    Ok(text)
}

fn row_name(issuing: &Issuing, code: &str) -> String {
    format!("{} {code}", issuing.issuer)
}

/// Redeems a code.
///
/// # Errors
/// `invalid_grant` whatever does not fit: a client learns nothing from which it was.
pub async fn redeem(issuing: &Issuing, client: &Client, parameters: &Parameters) -> Result<Answer, OauthError> {
    let refused = |why: &str| OauthError::new(Oauth::InvalidGrant, why.to_owned());
    let needed = |name: &'static str| {
        parameters.get(name).ok_or_else(|| OauthError::new(Oauth::InvalidRequest, format!("{name} is missing")))
    };
    let (code, redirect, verifier) = (needed("code")?, needed("redirect_uri")?, needed("code_verifier")?);
    check_resource(issuing, parameters)?;
    let (vault, now) = (&issuing.works.vault, issuing.works.clock.unix());
    let unknown = || refused("the code is unknown, used or too old");
    let entry = vault.get::<Code>(Table::Codes, &row_name(issuing, code)).await?.ok_or_else(unknown)?;
    let held = &entry.value;
    let fits = held.asked.client == client.id
        && held.asked.redirect == redirect
        && is_verifier(verifier)
        && bool::from(challenge(verifier).as_bytes().ct_eq(held.asked.challenge.as_bytes()));
    if !fits {
        return Err(unknown());
    }
    if let Some(grant) = &held.redeemed {
        tracing::warn!(event = "code-replayed", service = %issuing.service, client = client.id, "a code was redeemed twice; what it gave is revoked");
        grant::revoke(issuing, grant).await?;
        return Err(unknown());
    }
    if now >= held.until {
        return Err(unknown());
    }
    // By the policy as it is now: a redirect URI that was removed gets no token.
    addressee(issuing, &client.id, redirect).await.map_err(|_| refused("the redirect URI is no longer permitted"))?;
    if !held.grant.is_vouched(issuing) {
        return Err(refused("nobody vouches for the person any more"));
    }
    let id = random_text().map_err(|error| OauthError::new(Oauth::ServerError, error.to_string()))?;
    let mut used = Code { redeemed: Some(id.clone()), ..held.clone() };
    used.grant.tokens = None;
    if used.grant.is_revoked(issuing, &id) {
        return Err(refused("the subject or the client is revoked"));
    }
    let mut given = held.grant.clone();
    local::read_claims(issuing, &mut given);
    // First the grant and then the code that names it: whoever finds the code redeemed finds a grant to revoke.
    grant::begin(issuing, &id, &given).await?;
    // Of many redemptions at once, one succeeds.
    if !vault.replace(Table::Codes, &entry, &used, REMEMBERED, "redeemed").await? {
        grant::forget(issuing, &id).await?;
        return Err(unknown());
    }
    clients::keep(issuing, client).await;
    grant::tokens(issuing, client, &id, &given, &given.scopes).await
}

/// 43 to 128 unreserved characters (RFC 7636 section 4.1).
fn is_verifier(verifier: &str) -> bool {
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// The S256 challenge of a verifier (RFC 7636 section 4.2).
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

#[cfg(test)]
mod tests {
    use super::{challenge, is_verifier};

    #[test]
    fn e04_a_challenge_is_the_hash_of_its_verifier() {
        // RFC 7636 appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(is_verifier(verifier) && is_verifier(&"a".repeat(128)));
        for bad in ["", &"a".repeat(42), &"a".repeat(129), &format!("{}+", "a".repeat(43)), &"\u{e9}".repeat(43)] {
            assert!(!is_verifier(bad), "{bad}");
        }
    }
}
