//! Grants: what a person let a client do. Access tokens name their grant, refresh tokens walk along it.
//!
//! A refresh token is the grant's id, its turn and a keyed hash over both with the grant's own secret: nothing of it is
//! stored, and the successor of a turn can be told again while the grace for lost answers lasts (RFC 9700 section 4.14).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

use super::answer::{Answer, Oauth, OauthError};
use super::clients::Client;
use super::provider::ProviderTokens;
use crate::engine::issuing::{ClaimSource, Issuing, LONGEST_TOKEN};
use crate::engine::revocations::Asker;
use crate::engine::standing::Print;
use crate::engine::store::Table;
use crate::engine::vault::{VaultError, mac_of, random_text};
use crate::oauth::bearer;

/// The `typ` of access tokens (RFC 9068 section 2.1).
pub const TYPE: &str = "at+jwt";
/// What stands before every refresh token.
const MARK: &str = "pr1";

/// A grant as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grant {
    /// The client.
    pub client: String,
    /// The redirect URI by which it came: when the policy refuses it, the grant ends.
    pub redirect: String,
    /// The subject of its tokens.
    pub subject: String,
    /// The provider that vouched for the person.
    pub provider: String,
    /// The print of whoever vouched: when the policy has another one, the grant ends.
    pub print: Print,
    /// Claims for its tokens.
    pub claims: Map<String, Value>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// The secret of its refresh tokens.
    pub secret: String,
    /// How often it was refreshed.
    pub turn: u32,
    /// When it was last, in seconds since the epoch.
    pub turned: i64,
    /// When it began.
    pub began: i64,
    /// Whether the client may refresh it. One that it may not lasts as long as its only access token.
    pub renewable: bool,
    /// The provider's own tokens for the person.
    pub tokens: Option<ProviderTokens>,
}

impl Grant {
    /// Whether whoever vouched for the person still does, by the policy as it is now.
    pub fn is_vouched(&self, issuing: &Issuing) -> bool {
        issuing.standing.vouched(&self.subject, &self.print).is_some()
    }

    /// Whether an operator has revoked it, or whom it is about.
    pub fn is_revoked(&self, issuing: &Issuing, id: &str) -> bool {
        let asker = Asker {
            issuer: &issuing.issuer,
            subject: Some(&self.subject),
            client: Some(&self.client),
            session: Some(id),
            token: None,
            twin: None,
            issued: Some(self.began),
        };
        issuing.works.revocations.covers(&asker, issuing.works.clock.unix())
    }

    /// Seconds that it has left: idle, and altogether.
    pub fn left(&self, issuing: &Issuing) -> i64 {
        let lifetimes = &issuing.lifetimes;
        let until = if self.renewable {
            let idle = self.turned.saturating_add(lifetimes.refresh_idle);
            self.began.saturating_add(lifetimes.refresh).min(idle)
        } else {
            self.turned.saturating_add(lifetimes.access + lifetimes.code + LEEWAY)
        };
        until - issuing.works.clock.unix()
    }
}

/// The claims of the gateway's own tokens, of those that a provider gives.
pub fn mapped(issuing: &Issuing, claims: &Value) -> Map<String, Value> {
    let read = |source: &ClaimSource| source.read(claims).map(|value| (source.name.clone(), value.clone()));
    issuing.claims.iter().filter_map(read).collect()
}

/// A refresh token, read but not believed.
#[derive(Debug, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The grant that it names.
    pub id: &'a str,
    /// Its turn.
    pub turn: u32,
    mac: Vec<u8>,
}

impl<'a> Presented<'a> {
    /// Reads a refresh token.
    pub fn read(token: &'a str) -> Option<Self> {
        let mut parts = token.split('.');
        let (mark, id, turn, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let well_formed = mark == MARK && id.len() == 43 && turn.len() <= 10 && parts.next().is_none();
        let mac = URL_SAFE_NO_PAD.decode(mac).ok().filter(|_| well_formed)?;
        // One token has one spelling: `01` and `+1` are none.
        let number = turn.parse::<u32>().ok().filter(|number| number.to_string() == turn)?;
        Some(Self { id, turn: number, mac })
    }

    /// Whether the gateway made it for `grant`.
    pub fn is_of(&self, issuing: &Issuing, grant: &Grant) -> bool {
        let turn = self.turn.to_string();
        bool::from(mac_of(grant.secret.as_bytes(), "refresh", &[&issuing.issuer, self.id, &turn]).ct_eq(&self.mac))
    }
}

fn refresh_token(issuing: &Issuing, id: &str, grant: &Grant) -> String {
    let turn = grant.turn.to_string();
    let mac = mac_of(grant.secret.as_bytes(), "refresh", &[&issuing.issuer, id, &turn]);
    format!("{MARK}.{id}.{turn}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// What a grant is called in the store.
pub fn row_name(issuing: &Issuing, id: &str) -> String {
    format!("{} {id}", issuing.issuer)
}

/// Begins a grant.
///
/// # Errors
/// It cannot be kept.
pub async fn begin(issuing: &Issuing, id: &str, grant: &Grant) -> Result<(), OauthError> {
    if grant.renewable || grant.tokens.is_some() {
        let name = row_name(issuing, id);
        let kept = issuing.works.vault.add(Table::Grants, &name, grant, grant.left(issuing), &grant.subject);
        if !kept.await? {
            return Err(OauthError::new(Oauth::ServerError, "try again"));
        }
    }
    Ok(())
}

/// Takes a grant back of which nobody has heard.
///
/// # Errors
/// The store cannot be asked.
pub async fn forget(issuing: &Issuing, id: &str) -> Result<(), VaultError> {
    issuing.works.vault.take::<Grant>(Table::Grants, &row_name(issuing, id)).await.map(drop)
}

/// An access token for some of the scopes of a grant, and the refresh token of its turn.
///
/// # Errors
/// No token can be signed.
pub async fn tokens(
    issuing: &Issuing,
    client: &Client,
    id: &str,
    grant: &Grant,
    scopes: &[String],
) -> Result<Answer, OauthError> {
    let mut claims = grant.claims.clone();
    claims.insert("sid".to_owned(), id.into());
    let lifetime = issuing.lifetimes.access;
    let claims = registered(issuing, (&grant.subject, &grant.client), scopes, claims, lifetime)?;
    let works = &issuing.works;
    let gone = || OauthError::new(Oauth::InvalidGrant, "nobody vouches for the person any more");
    let vouched = issuing.standing.vouched(&grant.subject, &grant.print).ok_or_else(gone)?;
    let access = works.keyring.sign_vouched(&works.vault, TYPE, claims, &vouched.token).await?;
    if access.len() > bearer::LONGEST {
        // It would be refused with every call, and the client would sign the person in again and again.
        let (service, size) = (&*issuing.service, access.len());
        tracing::error!(event = "token-too-long", service, size, "map fewer claims, or assign fewer groups");
        return Err(OauthError::new(Oauth::ServerError, "the person's claims do not fit into a token"));
    }
    let mut body = answer(&access, lifetime, scopes);
    if client.grants.refresh {
        body["refresh_token"] = refresh_token(issuing, id, grant).into();
    }
    Ok(Answer::value(StatusCode::OK, &body))
}

/// A successful answer (RFC 6749 section 5.1).
pub fn answer(access: &str, lifetime: i64, scopes: &[String]) -> Value {
    json!({ "access_token": access, "token_type": "Bearer", "expires_in": lifetime, "scope": scopes.join(" ") })
}

/// An access token for a machine.
///
/// # Errors
/// It cannot be signed.
pub async fn access_token(
    issuing: &Issuing,
    client: &str,
    scopes: &[String],
    lifetime: i64,
) -> Result<String, OauthError> {
    let claims = registered(issuing, (client, client), scopes, Map::new(), lifetime)?;
    Ok(issuing.works.keyring.sign(&issuing.works.vault, TYPE, &claims).await?)
}

/// The claims of an access token for this service alone (RFC 9068 section 2.2).
fn registered(
    issuing: &Issuing,
    (subject, client): (&str, &str),
    scopes: &[String],
    mut claims: Map<String, Value>,
    lifetime: i64,
) -> Result<Map<String, Value>, OauthError> {
    let now = issuing.works.clock.unix();
    let id = random_text().map_err(|error| OauthError::new(Oauth::ServerError, error.to_string()))?;
    let registered = json!({
        "iss": &*issuing.issuer, "aud": &*issuing.issuer, "sub": subject, "client_id": client,
        "iat": now, "exp": now + lifetime, "jti": id, "scope": scopes.join(" "),
    });
    if let Value::Object(registered) = registered {
        claims.extend(registered);
    }
    Ok(claims)
}

/// Changes a grant, whatever else changes it meanwhile. `None` when it is over.
///
/// # Errors
/// It cannot be kept.
pub async fn change(
    issuing: &Issuing,
    id: &str,
    change: impl Fn(&mut Grant) + Send + Sync,
) -> Result<Option<Grant>, VaultError> {
    let (vault, name) = (&issuing.works.vault, row_name(issuing, id));
    loop {
        // Somebody who comes in between has made progress: this ends.
        let Some(entry) = vault.get::<Grant>(Table::Grants, &name).await? else { return Ok(None) };
        let mut changed = entry.value.clone();
        change(&mut changed);
        let left = changed.left(issuing);
        if left <= 0 {
            return Ok(None);
        }
        if vault.replace(Table::Grants, &entry, &changed, left, &changed.subject).await? {
            return Ok(Some(changed));
        }
    }
}

/// Ends a grant and every access token of it.
///
/// # Errors
/// The store cannot be asked.
pub async fn revoke(issuing: &Issuing, id: &str) -> Result<(), VaultError> {
    let works = &issuing.works;
    // First the tokens that are out, then the grant: whoever is interrupted in between leaves nothing open, and one that
    // fails does not keep the other from being done.
    // The policy may have had longer-lived tokens when they were issued than it has now.
    let tokens = works.revocations.revoke(&works.vault, id, LONGEST_TOKEN + LEEWAY).await;
    forget(issuing, id).await?;
    tokens
}

/// Seconds by which clocks may be off.
pub const LEEWAY: i64 = 60;
