//! `upstream.credential`: what the gateway shows a server about itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::SecretDocument;

/// A credential that the gateway attaches to what it forwards.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["secret"]}, {"required": ["client_credentials"]}, {"required": ["exchange"]},
    {"required": ["provider_token"]}, {"required": ["assertion"]}
]))]
pub struct CredentialDocument {
    /// The header. Default: `Authorization`.
    pub header: Option<String>,
    /// What stands before the credential in the header. Default: `Bearer ` for `Authorization`, otherwise nothing.
    pub prefix: Option<String>,
    /// A secret that is always the same.
    pub secret: Option<SecretDocument>,
    /// A token that the gateway gets for itself, for all callers (RFC 6749 section 4.4).
    pub client_credentials: Option<TokenRequestDocument>,
    /// A token for each caller, for which the gateway exchanges theirs (RFC 8693). With `authorization_server` that of the
    /// provider which signed them in is exchanged.
    pub exchange: Option<TokenRequestDocument>,
    /// The token of each person by the provider that signed them in at the gateway: true. Only with `authorization_server`.
    pub provider_token: Option<bool>,
    /// The gateway's own word about who calls: a signed assertion that is good for a minute, for this upstream alone. The
    /// keys to verify it are at the service's URL and `/jwks`.
    pub assertion: Option<AssertionDocument>,
}

/// What the gateway's word about a caller says.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssertionDocument {
    /// Whom it is for (`aud`). Default: the URL of the upstream.
    #[schemars(length(min = 1))]
    pub audience: Option<String>,
    /// Claims of the caller's token that go along, such as `email` and `groups`. Default: none.
    #[schemars(length(min = 1))]
    pub claims: Option<Vec<String>>,
}

/// The token endpoint of an authorization server that the upstream trusts, and the gateway as its client.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["client_secret"]}, {"required": ["client_key"]}]))]
pub struct TokenRequestDocument {
    /// The URL of the token endpoint.
    pub token_url: String,
    /// The gateway's `client_id` there.
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// The gateway's secret there.
    pub client_secret: Option<SecretDocument>,
    /// Instead of a secret, the gateway's private key: a PEM file with one P-256 or Ed25519 key in PKCS #8
    /// (`private_key_jwt`).
    pub client_key: Option<SecretDocument>,
    /// Where the secret goes: `basic` into the `Authorization` header, `post` into the form. Default: `basic`.
    pub client_auth: Option<ClientAuthWord>,
    /// The scopes that are asked for. Default: none, which leaves them to the authorization server.
    #[schemars(length(min = 1))]
    pub scopes: Option<Vec<String>>,
    /// The `audience` parameter. Default: none.
    #[schemars(length(min = 1))]
    pub audience: Option<String>,
    /// The `resource` parameter (RFC 8707): the URL of the upstream as the authorization server knows it. Default: none.
    pub resource: Option<String>,
}

/// Where a client secret goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthWord {
    /// Into the `Authorization` header.
    Basic,
    /// Into the form.
    Post,
}
