//! From the claims of a verified token to an [`Identity`], strictly.
//!
//! Registered claims have their registered types even when nobody asks for them (a wrong type is an attack or a broken
//! issuer, never an absent claim), and what is not an access token is refused. Times are checked apart, on every request.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::challenge::is_scope_token;
use super::fault::{Fault, FaultKind};
use super::identity::{Holder, Identity, Scopes};

/// 9999-12-31T23:59:59Z. A later time is milliseconds, or meant to overflow someone's arithmetic.
pub const LATEST_TIME: i64 = 253_402_300_799;

/// Which `typ` a provider's access tokens have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TokenType {
    /// Absent, `JWT` or `at+jwt`.
    #[default]
    Jwt,
    /// `at+jwt` only (RFC 9068 section 2.1).
    AccessToken,
}

/// Which claim holds a provider's scopes; either may be a string or a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ScopeClaim {
    /// `scope` (RFC 8693 section 4.2).
    Scope,
    /// `scp`.
    Scp,
    /// Both, united.
    #[default]
    Both,
}

/// How one provider's tokens are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Profile {
    /// The issuer, compared byte for byte.
    pub issuer: Arc<str>,
    /// The types accepted.
    pub token_type: TokenType,
    /// Where scopes are.
    pub scope_claim: ScopeClaim,
    /// Client ids of sign-in clients of this installation: a token for one of them is an ID token.
    pub sign_in_clients: Vec<String>,
    /// Whether all of its tokens are machines', whatever they say.
    pub machines: bool,
}

/// Claims that name the client, the standard ones first.
const CLIENT: [&str; 4] = ["client_id", "azp", "cid", "appid"];

impl Profile {
    /// Reads the claims of a token whose signature is verified. `token_type` is the header's; `token_name` is how logs name
    /// the token.
    ///
    /// # Errors
    /// A claim has the wrong type, the issuer is another, or the token is no access token or bound to a key.
    pub fn read(
        &self,
        token_type: Option<&str>,
        token_name: String,
        mut claims: Map<String, Value>,
    ) -> Result<Identity, Fault> {
        self.check_type(token_type)?;
        check_types(&claims)?;
        if claims.get("iss").and_then(Value::as_str) != Some(self.issuer.as_ref()) {
            return Err(Fault::new(FaultKind::Issuer, "`iss` is not the provider's"));
        }
        check_kind(&claims)?;
        if claims.contains_key("cnf") {
            return Err(Fault::new(FaultKind::Binding, "the token is bound to a key"));
        }
        let audiences = audiences(&claims)?;
        if audiences.iter().any(|audience| self.sign_in_clients.contains(audience)) {
            return Err(not_an_access_token("its audience is a sign-in client"));
        }
        // Rules that speak of an address must not meet one that its issuer did not verify.
        if !email_counts(&claims) {
            claims.remove("email");
        }
        Ok(Identity {
            issuer: Arc::clone(&self.issuer),
            subject: claims.get("sub").and_then(Value::as_str).map(Arc::from),
            client: CLIENT.iter().find_map(|name| claims.get(*name)?.as_str()).map(Arc::from),
            holder: if self.machines || is_machine(&claims) { Holder::Machine } else { Holder::Person },
            scopes: self.scopes(&claims)?,
            audiences,
            expires: time(&claims, "exp", Rounding::Down)?.ok_or(wrong("exp"))?,
            not_before: time(&claims, "nbf", Rounding::Up)?,
            token_type: token_type.map(str::to_owned),
            claims,
            token_name,
            twin_name: None,
        })
    }

    fn check_type(&self, token_type: Option<&str>) -> Result<(), Fault> {
        match (self.token_type, token_type) {
            (_, Some("at+jwt")) | (TokenType::Jwt, None | Some("jwt")) => Ok(()),
            _ => Err(not_an_access_token("its `typ` is not accepted")),
        }
    }

    fn scopes(&self, claims: &Map<String, Value>) -> Result<Scopes, Fault> {
        let names: &[&'static str] = match self.scope_claim {
            ScopeClaim::Scope => &["scope"],
            ScopeClaim::Scp => &["scp"],
            ScopeClaim::Both => &["scope", "scp"],
        };
        let mut scopes: Vec<&str> = Vec::new();
        for name in names {
            match claims.get(*name) {
                None => {}
                // Split at single spaces only (RFC 6749 section 3.3); an empty string holds nothing.
                Some(Value::String(list)) => scopes.extend(list.split(' ').filter(|scope| !scope.is_empty())),
                Some(Value::Array(list)) => {
                    for scope in list {
                        scopes.push(scope.as_str().ok_or(wrong(name))?);
                    }
                }
                Some(_) => return Err(wrong(name)),
            }
            // A name with a space in it would be two scopes to whoever reads the list joined.
            if !scopes.iter().all(|scope| is_scope_token(scope)) {
                return Err(wrong(name));
            }
        }
        Ok(scopes.into_iter().collect())
    }
}

/// Whether the token is good at `now`, both in seconds since the epoch, with clocks `leeway` seconds apart.
///
/// # Errors
/// Past `exp`, before `nbf`, or issued in the future.
pub fn check_times(identity: &Identity, now: i64, leeway: i64) -> Result<(), Fault> {
    let (now, leeway) = (i128::from(now), i128::from(leeway));
    if now >= i128::from(identity.expires) + leeway {
        return Err(Fault::new(FaultKind::Expired, "past `exp`"));
    }
    if identity.not_before.is_some_and(|time| now + leeway < i128::from(time)) {
        return Err(Fault::new(FaultKind::NotYetValid, "before `nbf`"));
    }
    if time(&identity.claims, "iat", Rounding::Up)?.is_some_and(|time| now + leeway < i128::from(time)) {
        return Err(Fault::new(FaultKind::NotYetValid, "`iat` is in the future"));
    }
    Ok(())
}

/// Whether an ID token was issued to `client` (`azp`, OpenID Connect Core section 3.1.3.7) and counts already at `now`.
///
/// # Errors
/// Issued to another client, or before `nbf`.
pub fn check_id_token(claims: &Map<String, Value>, client: &str, now: i64, leeway: i64) -> Result<(), Fault> {
    if claims.get("azp").is_some_and(|party| party != client) {
        return Err(Fault::new(FaultKind::Claim, "`azp` is another client"));
    }
    if time(claims, "nbf", Rounding::Up)?.is_some_and(|time| now.saturating_add(leeway) < time) {
        return Err(Fault::new(FaultKind::NotYetValid, "before `nbf`"));
    }
    Ok(())
}

/// Whether `email` is an address that the issuer has verified, with exactly one `@`.
///
/// `admin@evil.test@corp.test` belongs to no domain (CVE-2026-40574).
fn email_counts(claims: &Map<String, Value>) -> bool {
    let Some(Value::String(email)) = claims.get("email") else { return false };
    let Some((local, domain)) = email.split_once('@') else { return false };
    let clean = email.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b',' | b'\\'));
    let verified = claims.get("email_verified") == Some(&Value::Bool(true));
    verified && clean && !local.is_empty() && !domain.is_empty() && !domain.contains('@')
}

fn wrong(name: &'static str) -> Fault {
    Fault::new(FaultKind::Claim, format!("`{name}` is missing or malformed"))
}

fn not_an_access_token(detail: &'static str) -> Fault {
    Fault::new(FaultKind::TokenType, detail)
}

/// Whether a token is held by a client that acts for itself. A subject that is the client's own name is one (RFC 9068 section
/// 2.2, RFC 9700 section 4.15), and so is no subject at all; products say it in other ways too: Auth0 (`gty`, and `@clients`
/// behind the client's id), Entra (`idtyp`), Keycloak (the user of a service account).
fn is_machine(claims: &Map<String, Value>) -> bool {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let Some(subject) = text("sub") else { return true };
    let mut clients = CLIENT.iter().filter_map(|name| text(name));
    clients.any(|client| subject == client || subject.strip_suffix("@clients") == Some(client))
        || text("gty") == Some("client-credentials")
        || text("idtyp") == Some("app")
        || text("client_id").is_some_and(|client| {
            text("preferred_username").and_then(|name| name.strip_prefix("service-account-")) == Some(client)
        })
}

/// Strings where RFC 7519 section 4.1, RFC 9068 and OpenID Connect Core register strings.
fn check_types(claims: &Map<String, Value>) -> Result<(), Fault> {
    for name in ["iss", "sub", "jti", "client_id", "azp", "cid", "appid"] {
        match claims.get(name) {
            None => {}
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => return Err(wrong(name)),
        }
    }
    for name in ["nbf", "iat", "auth_time"] {
        time(claims, name, Rounding::Up)?;
    }
    Ok(())
}

/// Other tokens of the same issuer, signed with the same key (RFC 8725 section 2.8, RFC 9068 section 4).
fn check_kind(claims: &Map<String, Value>) -> Result<(), Fault> {
    // ID tokens (OpenID Connect Core section 3), logout tokens and other events (RFC 8417), DPoP proofs (RFC 9449).
    for marker in ["at_hash", "c_hash", "s_hash", "events", "htm", "htu"] {
        if claims.contains_key(marker) {
            return Err(Fault::new(FaultKind::TokenType, format!("it has `{marker}`")));
        }
    }
    // Keycloak says in a claim what kind a token is.
    match claims.get("typ") {
        Some(Value::String(kind))
            if ["id", "logout", "refresh", "offline"].iter().any(|other| other.eq_ignore_ascii_case(kind)) =>
        {
            Err(not_an_access_token("its claim `typ` names another kind of token"))
        }
        _ => Ok(()),
    }
}

/// One string or a list of strings (RFC 7519 section 4.1.3); absent is nobody.
fn audiences(claims: &Map<String, Value>) -> Result<Vec<String>, Fault> {
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(audience)) => Ok(vec![audience.clone()]),
        Some(Value::Array(list)) => {
            list.iter().map(|audience| audience.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or(wrong("aud"))
        }
        Some(_) => Err(wrong("aud")),
    }
}

/// Fractions of a second are rounded against the bearer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    Down,
    Up,
}

/// A `NumericDate` (RFC 7519 section 2): a number from 0 to [`LATEST_TIME`].
fn time(claims: &Map<String, Value>, name: &'static str, rounding: Rounding) -> Result<Option<i64>, Fault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Value::Number(number) = value else { return Err(wrong(name)) };
    if let Some(seconds) = number.as_i64() {
        return if (0..=LATEST_TIME).contains(&seconds) { Ok(Some(seconds)) } else { Err(wrong(name)) };
    }
    let seconds = number.as_f64().ok_or(wrong(name))?;
    #[expect(clippy::cast_precision_loss, reason = "the latest time is below 2^53")]
    let latest = LATEST_TIME as f64;
    // Before rounding, which would lift what is just below zero.
    if !(0.0..=latest).contains(&seconds) {
        return Err(wrong(name));
    }
    let seconds = if rounding == Rounding::Up { seconds.ceil() } else { seconds.floor() };
    #[expect(clippy::cast_possible_truncation, reason = "a whole number in the range of i64, as just checked")]
    Ok(Some(seconds as i64))
}

#[cfg(test)]
mod tests;
