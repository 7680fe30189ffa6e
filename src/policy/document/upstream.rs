//! Where a service runs.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::credential::CredentialDocument;
use super::scalar::{DurationText, OFF, SizeText};

/// Where a service runs, and how the gateway talks to it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamDocument {
    /// The URL of the MCP endpoint, such as `http://127.0.0.1:9000/mcp`.
    pub url: String,
    /// How an https upstream is verified, and how the gateway identifies itself to it.
    pub tls: Option<UpstreamTlsDocument>,
    /// Time limits.
    pub timeouts: Option<UpstreamTimeoutsDocument>,
    /// A credential of the gateway's own. The client's token never reaches the upstream.
    pub credential: Option<CredentialDocument>,
    /// Headers that tell the upstream who asks, or `off`.
    pub identity_headers: Option<IdentityHeadersDocument>,
    /// Headers of the client that the server needs besides those of MCP and tracing, such as `x-tenant`. Whatever is not
    /// listed stays behind. Default: none.
    #[schemars(length(min = 1))]
    pub forward_headers: Option<Vec<String>>,
    /// The largest answers.
    pub limits: Option<UpstreamLimitsDocument>,
}

/// How an https upstream is verified.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTlsDocument {
    /// PEM file of the certificate authorities that are trusted instead of the system's, relative to this file.
    pub ca_file: Option<String>,
    /// PEM file with the gateway's client certificate, relative to this file.
    pub certificate: Option<String>,
    /// PEM file with the key of that certificate, relative to this file.
    pub key: Option<String>,
    /// The name that the upstream's certificate must carry. Default: the host of the URL.
    pub server_name: Option<String>,
}

/// Time limits of an upstream.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsDocument {
    /// To connect, TLS included. Default: `2s`.
    pub connect: Option<DurationText>,
    /// The longest silence before and within an answer. Default: `5m`.
    pub read: Option<DurationText>,
}

/// Time limits of one upstream.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTimeoutsDocument {
    /// To connect, TLS included. Default: `2s`.
    pub connect: Option<DurationText>,
    /// The longest silence before and within an answer. Default: `5m`.
    pub read: Option<DurationText>,
    /// The longest silence of single tools, by name.
    pub tools: Option<BTreeMap<String, DurationText>>,
}

/// The largest answers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamLimitsDocument {
    /// The largest JSON answer. Default: `16MiB`.
    pub response: Option<SizeText>,
    /// The largest list that is filtered, and the largest event of a stream of such. Default: `4MiB`.
    pub list: Option<SizeText>,
}

/// Names of the identity headers, or none at all.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum IdentityHeadersDocument {
    /// `off`.
    Off(String),
    /// The names.
    Names(IdentityHeaderNames),
}

/// Names of the headers; what is left out keeps its default name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityHeaderNames {
    /// The issuer of the token.
    pub issuer: Option<String>,
    /// The subject, meaningful only together with the issuer.
    pub subject: Option<String>,
    /// The client.
    pub client: Option<String>,
    /// The scopes, separated by spaces.
    pub scopes: Option<String>,
}

impl JsonSchema for IdentityHeadersDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IdentityHeaders".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let name = |what: &str, default: &str| json_schema!({ "type": "string", "description": format!("The header for {what}. Default: `{default}`.") });
        json_schema!({
            "type": ["object", "string"],
            "description": "Names of the headers that tell the upstream who asks, or `off`.",
            "pattern": OFF.pattern,
            "additionalProperties": false,
            "properties": {
                "issuer": name("the issuer", "X-Portcullis-Issuer"),
                "subject": name("the subject", "X-Portcullis-Subject"),
                "client": name("the client", "X-Portcullis-Client"),
                "scopes": name("the scopes", "X-Portcullis-Scopes"),
            }
        })
    }
}
