//! `policies/*.yaml`: one service.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::authorization_server::AuthorizationServerDocument;
use super::provider::ProviderDocument;
use super::rule::{LimitDocument, RuleDocument};
use super::scalar::{NameText, SizeText, scalars_schema};
use super::upstream::UpstreamDocument;

/// One MCP server with its policy: where it is offered, where it runs, who may come in and what they may do.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "Portcullis policy",
    extend("anyOf" = [{"required": ["authentication"]}, {"required": ["authorization_server"]}])
)]
pub struct PolicyDocument {
    /// The name of the service, as logs and metrics know it.
    pub service: NameText,
    /// What people call it: on the pages of sign-in, and in metadata (RFC 9728 `resource_name`). Default: its name.
    #[schemars(length(min = 1, max = 80))]
    pub title: Option<String>,
    /// Where clients find it.
    pub route: RouteDocument,
    /// Where it runs.
    pub upstream: UpstreamDocument,
    /// Whose tokens are accepted. With `authorization_server`: whose tokens are accepted besides the gateway's own.
    pub authentication: Option<AuthenticationDocument>,
    /// The gateway issues the tokens of the service itself.
    pub authorization_server: Option<AuthorizationServerDocument>,
    /// The public origin, in an installation without `portcullis.yaml`.
    pub public_url: Option<String>,
    /// Providers that this policy alone may name.
    pub providers: Option<BTreeMap<NameText, ProviderDocument>>,
    /// The scopes that rules speak of.
    pub scopes: Option<BTreeMap<String, ScopeDocument>>,
    /// What is allowed and denied. Nothing is allowed that no rule allows; deny wins; order does not matter.
    pub rules: Option<Vec<RuleDocument>>,
    /// Rates and concurrency, counted after authorization. All that fit are taken together or none.
    pub limits: Option<Vec<LimitDocument>>,
    /// Which items lists show. Default: `permitted`.
    pub list: Option<ListMode>,
    /// How a final denial looks. Default: `forbidden`.
    pub denials: Option<DenialMode>,
    /// How resource URIs are judged. Default: `strict`.
    pub uri_form: Option<UriMode>,
    /// Origins of browser clients that may call the service, such as `https://inspector.example.com`. Default: none.
    pub origins: Option<Vec<String>>,
    /// The largest request body. Default: `4MiB`.
    pub body_limit: Option<SizeText>,
    /// What the server may ask the client for. What is not written is as its default says.
    pub server_requests: Option<ServerRequestsDocument>,
    /// MCP revisions that are accepted. Default: all that the gateway knows.
    #[schemars(length(min = 1))]
    pub revisions: Option<Vec<Revision>>,
}

/// Where clients find a service.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteDocument {
    /// The path, such as `/github/mcp`. With and without a trailing slash it is one route.
    pub path: String,
    /// The host, if it is not the public URL's.
    pub host: Option<String>,
}

/// Whose tokens are accepted.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthenticationDocument {
    /// Providers by name; they are told apart by the issuer of a token.
    #[schemars(length(min = 1))]
    pub providers: Vec<NameText>,
    /// Audiences of which a token must name one. Default: the service's public URL. With `authorization_server` it is always
    /// that, and the key is refused.
    #[schemars(length(min = 1))]
    pub audiences: Option<Vec<String>>,
    /// Clients (`client_id` or `azp`) that are accepted. Default: any.
    #[schemars(length(min = 1))]
    pub clients: Option<Vec<String>>,
    /// Claims that a token must carry: equal to the value, or to one of a list. A claim that is a list must contain it.
    #[serde(default)]
    #[schemars(schema_with = "claims_schema")]
    pub required_claims: Option<BTreeMap<String, Value>>,
    /// Whether callers without a token are let in, to what rules with `identity: none` allow. A token that is not good is
    /// refused all the same. Default: false.
    pub optional: Option<bool>,
    /// Whether another service of the same provider may accept the same audience. Both must say so. Default: false.
    pub shared_audience: Option<bool>,
}

/// What the server may ask the client for, by requests of its own or as a condition of an answer.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerRequestsDocument {
    /// Text from the client's model (`sampling/createMessage`). Default: true.
    pub sampling: Option<bool>,
    /// The client's file roots (`roots/list`). Default: true.
    pub roots: Option<bool>,
    /// Questions to the person (`elicitation/create`).
    pub elicitation: Option<ElicitationDocument>,
}

/// Questions to the person.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElicitationDocument {
    /// Forms to fill in. Default: true.
    pub form: Option<bool>,
    /// Hosts that a person may be sent to, by https only, such as `accounts.example.com`; `\"*\"` is any. Default: none.
    pub url: Option<Vec<String>>,
}

fn claims_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "additionalProperties": scalars_schema(generator) })
}

/// A scope of the service.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeDocument {
    /// What it lets a client do, in words for people.
    pub describe: Option<String>,
    /// Whether a client without a token is told to ask for it, and metadata lists it. Default: false.
    pub default: Option<bool>,
    /// Scopes that it includes.
    pub implies: Option<Vec<String>>,
}

/// Which items lists show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListMode {
    /// What the caller may use.
    Permitted,
    /// Also what only lacks scopes; the call then leads to step-up.
    Acquirable,
}

/// How a final denial looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenialMode {
    /// HTTP 403 with a JSON-RPC error.
    Forbidden,
    /// As if the tool did not exist.
    Hidden,
    /// A tool result that says so.
    Result,
}

/// How resource URIs are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UriMode {
    /// Spellings that could mean something else upstream are refused.
    Strict,
    /// Any spelling; rules name whole URIs only.
    Opaque,
}

/// A revision of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Revision {
    /// 2025-03-26.
    #[serde(rename = "2025-03-26")]
    March2025,
    /// 2025-06-18.
    #[serde(rename = "2025-06-18")]
    June2025,
    /// 2025-11-25.
    #[serde(rename = "2025-11-25")]
    November2025,
    /// 2026-07-28.
    #[serde(rename = "2026-07-28")]
    July2026,
}

impl Revision {
    /// As MCP spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::March2025 => "2025-03-26",
            Self::June2025 => "2025-06-18",
            Self::November2025 => "2025-11-25",
            Self::July2026 => "2026-07-28",
        }
    }
}
