//! `authorization_server`: the gateway issues the tokens of a service itself.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::scalar::{ClientIdText, DurationText, NameText, SecretDocument};
use crate::oauth::redirect::known_clients;

/// The gateway issues the tokens of the service itself, to clients that a person lets in after signing in. Its endpoints are
/// below the route.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationServerDocument {
    /// Who signs people in: providers that have `sign_in`, and `local` ones.
    #[schemars(length(min = 1))]
    pub sign_in: Vec<NameText>,
    /// Where clients may be sent back to. It holds for every client, however it became known.
    pub redirects: RedirectsDocument,
    /// Clients that need not register.
    pub clients: Option<Vec<ClientDocument>>,
    /// Whether clients may register by themselves (RFC 7591). Default: true.
    pub registration: Option<bool>,
    /// Whether a client may be named by the https URL of its metadata document. Default: true.
    pub client_documents: Option<bool>,
    /// For how long a person is not asked again for what they let a client do. Default: they are asked every time.
    pub remember_consent: Option<DurationText>,
    /// Claims of the gateway's tokens, each with the claim of the provider that it is taken from, or a JSON Pointer into its
    /// claims, such as `department: /org/department`. Default: none.
    pub claims: Option<BTreeMap<String, String>>,
    /// How tokens are signed, and how long things last.
    pub tokens: Option<TokensDocument>,
}

/// Where clients may be sent back to.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct RedirectsDocument {
    /// Well-known clients, whose redirect URIs the gateway knows.
    #[schemars(schema_with = "known_schema")]
    #[serde(default)]
    pub known: Option<Vec<String>>,
    /// Redirect URIs, byte for byte, such as `https://ci.example.com/cb`.
    #[schemars(length(min = 1))]
    pub exact: Option<Vec<String>>,
    /// Whether any URI on the machine of the browser will do: for command-line clients, which choose port and path.
    /// Default: false.
    pub loopback: Option<bool>,
    /// Domains below which any https URI will do, such as `*.example.com`.
    #[schemars(length(min = 1))]
    pub hosts: Option<Vec<String>>,
}

fn known_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = known_clients().collect();
    json_schema!({ "type": "array", "items": { "type": "string", "enum": names }, "minItems": 1 })
}

/// A client that need not register.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientDocument {
    /// Its `client_id`.
    pub id: ClientIdText,
    /// What people call it. Default: its id.
    pub name: Option<String>,
    /// Its secret, of at least 32 bytes. Without `secret`, `secrets` and `keys` the client is public.
    pub secret: Option<SecretDocument>,
    /// Its secrets, several at once for rotation; instead of `secret`.
    #[schemars(length(min = 1))]
    pub secrets: Option<Vec<SecretDocument>>,
    /// Its public keys, with which it signs assertions (`private_key_jwt`).
    pub keys: Option<ClientKeysDocument>,
    /// Its redirect URIs. On `127.0.0.1`, `[::1]` and `localhost` any port will do.
    #[schemars(length(min = 1))]
    pub redirects: Option<Vec<String>>,
    /// How it gets tokens. Default: `authorization_code` and `refresh_token`.
    #[schemars(length(min = 1))]
    pub grants: Option<Vec<GrantWord>>,
    /// The scopes that it may get without a person, by `client_credentials`. Default: none.
    #[schemars(length(min = 1))]
    pub scopes: Option<Vec<String>>,
}

/// The public keys of a client.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientKeysDocument {
    /// A file with the key set, as JWK Set or PEM, relative to this file. It is read anew when it changes.
    pub file: String,
}

/// How a client gets tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantWord {
    /// A person signs in and consents.
    AuthorizationCode,
    /// New tokens without the person.
    RefreshToken,
    /// Tokens of its own, without any person.
    ClientCredentials,
}

/// How tokens are signed, and how long things last.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokensDocument {
    /// The algorithm. Default: `ES256`.
    pub algorithm: Option<OwnAlgorithm>,
    /// Access tokens of people. Default: `1h`; at most `24h`.
    pub access: Option<DurationText>,
    /// Authorization codes. Default: `60s`; at most `10m`.
    pub code: Option<DurationText>,
    /// What a person let a client do, when the client does not use it. Default: `14d`.
    pub refresh_idle: Option<DurationText>,
    /// What a person let a client do, however much the client uses it. Default: `30d`.
    pub refresh: Option<DurationText>,
    /// For how long after its last word about a person the identity provider may be silent before a refresh waits for it.
    /// Default: not at all; at most `24h`.
    pub provider_outage: Option<DurationText>,
    /// Access tokens by `client_credentials`. Default: `6h`; at most `24h`.
    pub service: Option<DurationText>,
}

/// An algorithm of the gateway's own tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum OwnAlgorithm {
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}
