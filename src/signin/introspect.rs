//! Introspection (RFC 7662): what a client's own token is worth now.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Oauth, OauthError};
use super::clients::Proof;
use super::grant::{self, Grant, Presented};
use super::{Request, client_auth, form};
use crate::engine::issuing::Issuing;
use crate::engine::revocations::Asker;
use crate::engine::store::Table;
use crate::oauth::jws::{Unverified, twin};
use crate::providers::token_name;

/// Answers a client about a token. Of a token that is not its own it learns that it is not active (section 4).
///
/// # Errors
/// The client is not known, or the store cannot be asked.
pub async fn answer(issuing: &Issuing, request: Request<'_>) -> Result<Answer, OauthError> {
    let parameters = form(request)?;
    let client = client_auth::authenticate(issuing, request.headers, &parameters).await?;
    // Whoever only holds a token has nothing to ask (section 2.1).
    if matches!(client.proof, Proof::None) {
        return Err(OauthError::new(Oauth::InvalidClient, "a public client cannot ask about tokens"));
    }
    let token = parameters.get("token");
    let token = token.ok_or_else(|| OauthError::new(Oauth::InvalidRequest, "token is missing"))?;
    let mut body = json!({ "active": false });
    if let Some(presented) = Presented::read(token) {
        let entry = issuing.works.vault.get::<Grant>(Table::Grants, &grant::row_name(issuing, presented.id)).await?;
        let good = |grant: &Grant| {
            !grant.is_revoked(issuing, presented.id)
                && grant.is_vouched(issuing)
                && grant.client == client.id
                && grant.turn == presented.turn
                && presented.is_of(issuing, grant)
                && grant.left(issuing) > 0
        };
        if let Some(entry) = entry.filter(|entry| good(&entry.value)) {
            let grant = entry.value;
            let until = issuing.works.clock.unix() + grant.left(issuing);
            body = json!({
                "active": true, "scope": grant.scopes.join(" "), "client_id": grant.client, "sub": grant.subject,
                "iss": &*issuing.issuer, "exp": until,
            });
        }
    } else if let Some(mut claims) = access(issuing, token, &client.id).await? {
        claims.retain(|name, _| {
            matches!(name.as_str(), "iss" | "aud" | "sub" | "client_id" | "scope" | "exp" | "iat" | "jti")
        });
        claims.insert("active".to_owned(), true.into());
        claims.insert("token_type".to_owned(), "Bearer".into());
        body = Value::Object(claims);
    }
    Ok(Answer::value(StatusCode::OK, &body))
}

/// The claims of an access token of this issuer and client that is good now.
///
/// # Errors
/// The keys cannot be had.
pub async fn access(issuing: &Issuing, token: &str, client: &str) -> Result<Option<Map<String, Value>>, OauthError> {
    let works = &issuing.works;
    let Ok(unverified) = Unverified::parse(token) else { return Ok(None) };
    let Some(kid) = unverified.header.kid.as_deref() else { return Ok(None) };
    let Some(key) = works.keyring.key(&works.vault, kid).await? else { return Ok(None) };
    let Ok(claims) = unverified.verify(&key) else { return Ok(None) };
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let revoked = ["sid", "jti"].iter().filter_map(|name| text(name)).any(|id| works.revocations.contains(id));
    let (name, twin) = (token_name(token), twin(token).as_deref().map(token_name));
    let asker = Asker {
        issuer: &issuing.issuer,
        subject: text("sub"),
        client: text("client_id"),
        session: text("sid"),
        token: Some(&name),
        twin: twin.as_deref(),
        issued: claims.get("iat").and_then(Value::as_i64),
    };
    let revoked = revoked || works.revocations.covers(&asker, works.clock.unix());
    let good = text("iss") == Some(&issuing.issuer)
        && unverified.header.token_type.as_deref() == Some(grant::TYPE)
        && text("client_id") == Some(client)
        && claims.get("exp").and_then(Value::as_i64).is_some_and(|expires| works.clock.unix() < expires)
        && !revoked
        && issuing.standing.covers(&works.keyring, kid, &claims);
    Ok(good.then_some(claims))
}
