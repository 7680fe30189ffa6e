//! Who calls the token endpoint (OAuth 2.1 section 2.4): by one method, the one that the client has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::{Oauth, OauthError};
use super::clients::{self, Client, Proof};
use super::documents;
use crate::engine::issuing::{ClientProof, Issuing};
use crate::engine::store::Table;
use crate::oauth::form::{self, Parameters};
use crate::oauth::jwk::KeySet;
use crate::oauth::jws::Unverified;
use crate::oauth::server_metadata::ASSERTION_ALGORITHMS;

/// RFC 7523 section 2.2.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Seconds for which an assertion may be good at most.
const LONGEST: i64 = 600;
/// Seconds by which clocks may be off.
const LEEWAY: i64 = 60;
/// What a client shows.
enum Shown {
    /// Its id alone.
    Id(String),
    /// Id and secret.
    Secret(String, String),
    /// An assertion of this client.
    Assertion(String, String),
}

/// The client of a request, proven by its own method.
///
/// # Errors
/// `invalid_client`, whatever is wrong.
pub async fn authenticate(
    issuing: &Issuing,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Client, OauthError> {
    let basic = headers.contains_key(AUTHORIZATION);
    let outcome = proven(issuing, headers, parameters).await;
    outcome.map_err(|error| {
        if error.code == Oauth::InvalidClient {
            tracing::warn!(event = "client-refused", service = %issuing.service, why = error.description, "a client was refused at the token endpoint");
        }
        OauthError { basic: basic && error.code == Oauth::InvalidClient, ..error }
    })
}

async fn proven(issuing: &Issuing, headers: &HeaderMap, parameters: &Parameters) -> Result<Client, OauthError> {
    let shown = shown(headers, parameters)?;
    let id = match &shown {
        Shown::Id(id) | Shown::Secret(id, _) | Shown::Assertion(id, _) => id,
    };
    let client = clients::find(issuing, id).await?;
    match (&client.proof, &shown) {
        (Proof::None, Shown::Id(_)) => Ok(client),
        (Proof::Secrets(hashes), Shown::Secret(_, secret)) => {
            let presented: [u8; 32] = Sha256::digest(secret).into();
            let good = hashes.iter().fold(false, |good, hash| good | bool::from(hash.ct_eq(&presented)));
            if good { Ok(client) } else { Err(invalid("the secret is wrong")) }
        }
        (Proof::PolicyKeys(index), Shown::Assertion(_, assertion)) => {
            let Some(ClientProof::Keys(keys)) = issuing.clients.get(*index).map(|named| &named.proof) else {
                return Err(invalid("the client has no keys"));
            };
            check_assertion(issuing, &client.id, assertion, keys).await?;
            Ok(client)
        }
        (Proof::OwnKeys(metadata), Shown::Assertion(_, assertion)) => {
            let document = match (&metadata.jwks, &metadata.jwks_uri) {
                (Some(jwks), _) => bytes::Bytes::from(jwks.to_string()),
                (None, Some(uri)) => documents::keys(issuing, uri).await?,
                (None, None) => return Err(invalid("the client has no keys")),
            };
            let keys =
                KeySet::from_jwks(&document, &ASSERTION_ALGORITHMS).map_err(|error| invalid(&error.to_string()))?;
            check_assertion(issuing, &client.id, assertion, &keys).await?;
            Ok(client)
        }
        _ => Err(invalid("the client proves who it is by another method")),
    }
}

fn invalid(why: &str) -> OauthError {
    OauthError::new(Oauth::InvalidClient, why.to_owned())
}

/// What is shown, by one method only (RFC 6749 section 2.3).
fn shown(headers: &HeaderMap, parameters: &Parameters) -> Result<Shown, OauthError> {
    let (id, secret) = (parameters.get("client_id"), parameters.get("client_secret"));
    let assertion = parameters.get("client_assertion");
    let basic = match headers.get(AUTHORIZATION) {
        Some(value) => Some(basic(value.as_bytes()).ok_or_else(|| invalid("the Authorization header is not Basic"))?),
        None => None,
    };
    if [basic.is_some(), secret.is_some(), assertion.is_some()].iter().filter(|used| **used).count() > 1 {
        return Err(invalid("more than one method was used"));
    }
    if let Some((basic_id, secret)) = basic {
        if id.is_some_and(|id| id != basic_id) {
            return Err(invalid("two clients are named"));
        }
        return Ok(Shown::Secret(basic_id, secret));
    }
    if let Some(assertion) = assertion {
        if parameters.get("client_assertion_type") != Some(ASSERTION) {
            return Err(invalid("client_assertion_type is not the one of JWTs"));
        }
        let subject = crate::oauth::jws::show_unverified(assertion).ok();
        let subject = subject.and_then(|shown| shown.claims.get("sub")?.as_str().map(str::to_owned));
        let subject = subject.ok_or_else(|| invalid("the assertion names no client"))?;
        if id.is_some_and(|id| id != subject) {
            return Err(invalid("two clients are named"));
        }
        return Ok(Shown::Assertion(subject, assertion.to_owned()));
    }
    let id = id.ok_or_else(|| invalid("client_id is missing"))?.to_owned();
    Ok(match secret {
        Some(secret) => Shown::Secret(id, secret.to_owned()),
        None => Shown::Id(id),
    })
}

/// Id and secret of HTTP Basic, each form-encoded (RFC 6749 section 2.3.1).
fn basic(value: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, credentials) = text.split_once(' ')?;
    let decoded = STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let plain = |text: &str| form::decoded(text.as_bytes()).ok().filter(|text| !text.is_empty());
    Some((plain(id)?, plain(secret)?))
}

/// An assertion of the client about itself, for this issuer, used once (RFC 7523 section 3).
async fn check_assertion(issuing: &Issuing, id: &str, assertion: &str, keys: &KeySet) -> Result<(), OauthError> {
    let malformed = |_| invalid("the assertion is not acceptable");
    let unverified = Unverified::parse(assertion).map_err(malformed)?;
    if !ASSERTION_ALGORITHMS.contains(&unverified.header.algorithm) {
        return Err(invalid("the algorithm of the assertion is not offered"));
    }
    let key = keys.select(&unverified.header).map_err(malformed)?;
    let claims = unverified.verify(key).map_err(malformed)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    let now = issuing.works.clock.unix();
    let token_endpoint = format!("{}/token", issuing.issuer);
    let audience = |audience: &Value| audience == &*issuing.issuer || *audience == token_endpoint;
    let for_us = match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(audience),
        Some(one) => audience(one),
        None => false,
    };
    let expires = time("exp").ok_or_else(|| invalid("the assertion has no `exp`"))?;
    let in_time = now < expires.saturating_add(LEEWAY)
        && expires <= now + LONGEST + LEEWAY
        && (!claims.contains_key("nbf") || time("nbf").is_some_and(|time| time <= now + LEEWAY))
        && (!claims.contains_key("iat") || time("iat").is_some_and(|time| time <= now + LEEWAY));
    if text("iss") != Some(id) || text("sub") != Some(id) || !for_us || !in_time {
        return Err(invalid("the assertion is not of this client, not for this issuer, or not of now"));
    }
    let used = text("jti").filter(|jti| jti.len() <= 256).ok_or_else(|| invalid("the assertion has no `jti`"))?;
    let name = [&*issuing.issuer, id, used].join("\n");
    let vault = &issuing.works.vault;
    // A leeway longer than it is good here: a replica whose clock is behind the store's may accept it for as much longer.
    if !vault.add(Table::Assertions, &name, &(), expires + 2 * LEEWAY - now + 1, id).await? {
        return Err(invalid("the assertion was used before"));
    }
    Ok(())
}
