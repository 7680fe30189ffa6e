//! Dynamic registration (RFC 7591), strict about redirect URIs and lenient about everything that means nothing here.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Request;
use super::answer::{Answer, Oauth, OauthError};
use super::asked::permitted;
use super::clients::{self, Registered, hex, row_name};
use crate::engine::issuing::Issuing;
use crate::engine::limits::network;
use crate::engine::standing::REGISTERED;
use crate::engine::store::Table;
use crate::engine::vault::{VaultError, random_text};
use crate::oauth::client_metadata::{AuthMethod, ClientMetadata, MetadataError};

/// Bytes of a registration that are kept.
const LARGEST: usize = 8 * 1024;
/// Seconds for which a client that signs nobody in is kept.
const UNUSED: i64 = 24 * 3600;
/// What every registration may say of itself and get back; nothing of it means anything here.
const ECHOED: [&str; 8] = [
    "client_uri",
    "logo_uri",
    "tos_uri",
    "policy_uri",
    "software_id",
    "software_version",
    "contacts",
    "application_type",
];

/// Answers a client that registers.
///
/// # Errors
/// In the form of RFC 7591 section 3.2.2.
pub async fn answer(issuing: &Issuing, request: Request<'_>) -> Result<Answer, OauthError> {
    let wrong = |code, text: String| Err(OauthError::new(code, text));
    if !issuing.registration {
        return Err(OauthError {
            status: StatusCode::FORBIDDEN,
            ..OauthError::new(Oauth::AccessDenied, "clients do not register here by themselves")
        });
    }
    let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return wrong(Oauth::InvalidClientMetadata, "the body must be application/json".to_owned());
    }
    let (metadata, members) = ClientMetadata::registration(request.body).map_err(|error| {
        let code =
            if error == MetadataError::Redirects { Oauth::InvalidRedirectUri } else { Oauth::InvalidClientMetadata };
        OauthError::new(code, error.to_string())
    })?;
    // One that is not permitted does not spoil the others: real clients register several at once.
    let redirects: Vec<String> = metadata.redirect_uris.iter().filter(|uri| permitted(issuing, uri)).cloned().collect();
    if redirects.is_empty() {
        return wrong(
            Oauth::InvalidRedirectUri,
            "none of the redirect URIs is one that this service accepts".to_owned(),
        );
    }
    let method = metadata.method.unwrap_or(AuthMethod::Secret);
    let secret = match method {
        AuthMethod::Secret => Some(random_text().map_err(VaultError::from)?),
        AuthMethod::None | AuthMethod::PrivateKeyJwt => None,
    };
    let keys = (method == AuthMethod::PrivateKeyJwt).then(|| kept_keys(&metadata, &redirects).to_string());
    let client = Registered {
        name: metadata.name.clone(),
        redirects: redirects.clone(),
        secret: secret.as_ref().map(|secret| hex(&Sha256::digest(secret))),
        refreshes: metadata.refreshes,
        keys,
    };
    let print = serde_json::to_string(&client).unwrap_or_default();
    if print.len() > LARGEST {
        return wrong(Oauth::InvalidClientMetadata, "the metadata is larger than 8 KiB".to_owned());
    }
    // The same public client is the same client, however often it registers.
    let id = match &secret {
        None => short(&issuing.works.vault.mac("client", &[&issuing.issuer, &print])),
        Some(_) => random_text().map_err(VaultError::from)?,
    };
    let id = format!("{REGISTERED}{id}");
    let now = issuing.works.clock.unix();
    let owner = network(request.address).to_string();
    let vault = &issuing.works.vault;
    match vault.add(Table::Clients, &row_name(issuing, &id), &client, UNUSED, &owner).await {
        Ok(true) => {}
        // It is told that it is registered, so that it must not be forgotten sooner than another.
        Ok(false) => clients::keep_for(issuing, &id, UNUSED, &owner).await,
        Err(VaultError::Full) => {
            tracing::warn!(event = "registrations-full", service = %issuing.service, "no more clients can register for now");
            return wrong(
                Oauth::TemporarilyUnavailable,
                "too many clients have registered; try again later".to_owned(),
            );
        }
        Err(error) => return Err(error.into()),
    }
    tracing::info!(event = "client-registered", service = %issuing.service, client = id, request = request.id, "a client registered");
    let body = written(&members, &id, &client, secret.as_deref(), method, now);
    Ok(Answer::value(StatusCode::CREATED, &body))
}

/// What is registered, and nothing that is `null` (RFC 7591 section 3.2.1).
fn written(
    members: &Map<String, Value>,
    id: &str,
    client: &Registered,
    secret: Option<&str>,
    method: AuthMethod,
    now: i64,
) -> Value {
    let asked = members.get("token_endpoint_auth_method").and_then(Value::as_str);
    let method = asked.unwrap_or(match method {
        AuthMethod::None => "none",
        AuthMethod::Secret => "client_secret_basic",
        AuthMethod::PrivateKeyJwt => "private_key_jwt",
    });
    let grants: &[&str] =
        if client.refreshes { &["authorization_code", "refresh_token"] } else { &["authorization_code"] };
    let mut body = json!({
        "client_id": id,
        "client_id_issued_at": now,
        "redirect_uris": client.redirects,
        "grant_types": grants,
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
    });
    if let Some(name) = &client.name {
        body["client_name"] = name.as_str().into();
    }
    if let Some(secret) = secret {
        body["client_secret"] = secret.into();
        body["client_secret_expires_at"] = 0.into();
    }
    for name in ECHOED {
        if let Some(value) = members.get(name).filter(|value| !value.is_null() && value.to_string().len() <= 2048) {
            body[name] = value.clone();
        }
    }
    if let Some(scope) = members.get("scope").and_then(Value::as_str).filter(|scope| scope.len() <= 2048) {
        body["scope"] = scope.into();
    }
    body
}

/// What is needed to check assertions later.
fn kept_keys(metadata: &ClientMetadata, redirects: &[String]) -> Value {
    let mut kept = json!({ "redirect_uris": redirects, "token_endpoint_auth_method": "private_key_jwt" });
    if let Some(jwks) = &metadata.jwks {
        kept["jwks"] = jwks.clone();
    }
    if let Some(uri) = &metadata.jwks_uri {
        kept["jwks_uri"] = uri.as_str().into();
    }
    kept
}

fn short(mac: &[u8; 32]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(mac)
}
