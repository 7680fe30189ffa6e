//! Whoever issues or vouches for tokens.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::scalar::{DurationText, NameText, SecretDocument, Sha256Text};

/// A provider: exactly one of the kinds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct ProviderDocument {
    /// An OpenID Connect provider, by discovery.
    pub oidc: Option<OidcDocument>,
    /// An issuer of JWTs whose keys are at a URL, in a file or right here.
    pub jwks: Option<JwksDocument>,
    /// JWTs signed with shared secrets.
    pub hmac: Option<HmacDocument>,
    /// Named keys for machines, known by their hash.
    pub api_key: Option<ApiKeysDocument>,
}

/// An OpenID Connect provider, by discovery.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcDocument {
    /// The issuer, exactly as its tokens spell it.
    pub issuer: String,
    /// Where its keys are, if discovery shall not be asked.
    pub jwks_uri: Option<String>,
    /// Algorithms of its tokens. Default: `RS256`, `ES256`, `PS256` and `EdDSA`.
    #[schemars(length(min = 1))]
    pub algorithms: Option<Vec<Asymmetric>>,
    /// Which `typ` its access tokens have. Default: `jwt`.
    pub token_type: Option<TokenTypeWord>,
    /// By how much its clock may be off. Default: `60s`.
    pub leeway: Option<DurationText>,
    /// The claim that holds scopes. Default: both.
    pub scope_claim: Option<ScopeClaimWord>,
    /// Other hosts than the issuer's on which its endpoints may be.
    pub allowed_hosts: Option<Vec<String>>,
    /// Client ids of sign-in clients: a token for one of them is an ID token and refused.
    pub sign_in_clients: Option<Vec<String>>,
    /// When keys are fetched, and how long they serve.
    pub keys: Option<KeysDocument>,
}

/// An issuer of JWTs whose keys are known.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["url"]}, {"required": ["file"]}, {"required": ["inline"]}]))]
pub struct JwksDocument {
    /// The issuer, exactly as its tokens spell it.
    pub issuer: String,
    /// Algorithms of its tokens.
    #[schemars(length(min = 1))]
    pub algorithms: Vec<Asymmetric>,
    /// Where the key set is fetched.
    pub url: Option<String>,
    /// A file with the key set, as JWK Set or PEM, relative to this file. It is read anew when it changes.
    pub file: Option<String>,
    /// The key set itself.
    pub inline: Option<Map<String, Value>>,
    /// Which `typ` its access tokens have. Default: `jwt`.
    pub token_type: Option<TokenTypeWord>,
    /// By how much its clock may be off. Default: `60s`.
    pub leeway: Option<DurationText>,
    /// The claim that holds scopes. Default: both.
    pub scope_claim: Option<ScopeClaimWord>,
    /// Client ids of sign-in clients: a token for one of them is an ID token and refused.
    pub sign_in_clients: Option<Vec<String>>,
    /// When keys are fetched, and how long they serve. Only with `url`.
    pub keys: Option<KeysDocument>,
}

/// When keys are fetched, and how long they serve.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysDocument {
    /// How often keys are fetched anew. Default: `10m`.
    pub refresh: Option<DurationText>,
    /// The shortest time between two fetches for a key that is not known. Default: `30s`.
    pub cool_down: Option<DurationText>,
    /// How long the last good keys serve when they cannot be fetched. Default: `24h`.
    pub max_stale: Option<DurationText>,
}

/// JWTs signed with shared secrets.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HmacDocument {
    /// The issuer, exactly as its tokens spell it.
    pub issuer: String,
    /// Algorithms of its tokens. Default: `HS256`.
    #[schemars(length(min = 1))]
    pub algorithms: Option<Vec<Symmetric>>,
    /// The secrets; several at once for rotation. Each at least as long as the hash.
    #[schemars(length(min = 1))]
    pub secrets: Vec<SecretDocument>,
    /// Which `typ` its access tokens have. Default: `jwt`.
    pub token_type: Option<TokenTypeWord>,
    /// By how much its clock may be off. Default: `60s`.
    pub leeway: Option<DurationText>,
    /// The claim that holds scopes. Default: both.
    pub scope_claim: Option<ScopeClaimWord>,
}

/// Named keys for machines.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeysDocument {
    /// The keys.
    #[schemars(length(min = 1))]
    pub keys: Vec<ApiKeyDocument>,
}

/// One key. The key itself is known to its holder only.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyDocument {
    /// The name of its holder: the subject of its identity.
    pub name: NameText,
    /// SHA-256 of the key: `printf %s "$KEY" | sha256sum`. The key must be random and at least 32 characters long.
    pub sha256: Sha256Text,
    /// When it ends, as `2027-01-31T00:00:00Z`.
    pub expires: String,
    /// The scopes that it holds. Default: none.
    pub scopes: Option<Vec<String>>,
    /// The client that it stands for. Default: none.
    pub client: Option<String>,
}

/// Which `typ` access tokens have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TokenTypeWord {
    /// Absent, `JWT` or `at+jwt`.
    #[serde(rename = "jwt")]
    Jwt,
    /// `at+jwt` only (RFC 9068).
    #[serde(rename = "at+jwt")]
    AccessToken,
}

/// The claim that holds scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeClaimWord {
    /// `scope`.
    Scope,
    /// `scp`.
    Scp,
}

macro_rules! algorithms {
    ($(#[doc = $doc:literal])* $name:ident: $($variant:ident = $text:literal,)*) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
        pub enum $name {
            $(
                #[doc = $text]
                #[serde(rename = $text)]
                $variant,
            )*
        }

        impl $name {
            /// The JOSE name (RFC 7518 section 3.1, RFC 8037 section 3.1).
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

algorithms! {
    /// Algorithms with a public key.
    Asymmetric:
    Rs256 = "RS256",
    Rs384 = "RS384",
    Rs512 = "RS512",
    Ps256 = "PS256",
    Ps384 = "PS384",
    Ps512 = "PS512",
    Es256 = "ES256",
    Es384 = "ES384",
    Es512 = "ES512",
    EdDsa = "EdDSA",
}

algorithms! {
    /// Algorithms with a shared secret.
    Symmetric:
    Hs256 = "HS256",
    Hs384 = "HS384",
    Hs512 = "HS512",
}
