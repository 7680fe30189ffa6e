//! Whoever issues or vouches for tokens.

use std::collections::BTreeMap;

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
    /// Tokens that the provider is asked about: opaque ones, and JWTs that must be revocable.
    pub introspection: Option<IntrospectionDocument>,
    /// Named keys for machines, known by their hash.
    pub api_key: Option<ApiKeysDocument>,
    /// GitHub, or an Enterprise Server. It signs people in for `authorization_server` and issues no tokens of its own.
    pub github: Option<GitHubDocument>,
    /// People in a file, with passwords. It signs people in for `authorization_server` and issues no tokens of its own.
    pub local: Option<LocalDocument>,
}

/// An OpenID Connect provider, by discovery.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcDocument {
    /// The issuer, exactly as its tokens spell it.
    pub issuer: String,
    /// Which product it is: fills in what is particular to it.
    pub preset: Option<PresetWord>,
    /// The gateway's registration at the provider. It makes the provider usable under `authorization_server.sign_in`.
    pub sign_in: Option<SignInDocument>,
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
    /// Whose tokens they are: `machines` takes all of them for machines'. Default: told by each token, which is a machine's
    /// when its subject is its client or the product says so.
    pub holders: Option<HoldersWord>,
}

/// A product, by which the particulars of a provider are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PresetWord {
    /// Okta, with the org's authorization server or one of its own.
    Okta,
    /// Microsoft Entra ID.
    Entra,
    /// Google Workspace and Google accounts.
    Google,
    /// Keycloak.
    Keycloak,
    /// Auth0.
    Auth0,
}

/// The gateway's registration at a provider, which must list `<public URL of the service>/callback/<name of the provider>`
/// as a redirect URI.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInDocument {
    /// The gateway's `client_id`.
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// Its secret. Default: none; the gateway is a public client with PKCE.
    pub client_secret: Option<SecretDocument>,
    /// Scopes that are asked for, `openid` among them. Default: `openid`, `email`, `profile`.
    #[schemars(length(min = 1))]
    pub scopes: Option<Vec<String>>,
    /// More parameters of the authorization request, such as `hd: example.com`.
    pub parameters: Option<BTreeMap<String, String>>,
    /// Whether claims are taken from the userinfo endpoint too. Default: false, or as the preset says.
    pub userinfo: Option<bool>,
    /// The tenants whose people may come, where the issuer is one of several tenants (`organizations` or `common` of Entra).
    #[schemars(length(min = 1))]
    pub tenants: Option<Vec<String>>,
    /// What the sign-in page calls it. Default: the name of the provider.
    pub title: Option<String>,
}

/// GitHub: the gateway is an OAuth app (or GitHub App) there, whose callback URL is
/// `<public URL of the service>/callback/<name of the provider>`. The subject of a person is the number of their account.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitHubDocument {
    /// The GitHub. Default: `https://github.com`.
    pub url: Option<String>,
    /// The app's client id.
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// The app's client secret.
    pub client_secret: SecretDocument,
    /// Scopes that are asked for. Default: `read:user`, `user:email`, and `read:org` where organizations or groups are
    /// wanted. A GitHub App has permissions instead and ignores them.
    #[schemars(length(min = 1))]
    pub scopes: Option<Vec<String>>,
    /// Organizations: only active members of one of them may come. Default: everybody with an account.
    #[schemars(length(min = 1))]
    pub organizations: Option<Vec<String>>,
    /// Whether `groups` holds the person's organizations (`acme`) and teams (`acme/developers`). Default: false.
    pub groups: Option<bool>,
    /// What the sign-in page calls it. Default: the name of the provider.
    pub title: Option<String>,
}

/// People in a file, with passwords.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalDocument {
    /// The file, relative to this file, as `portcullis user add FILE NAME` writes it. It is read anew when it changes. It
    /// does not stand among the policies.
    pub users: String,
    /// What the sign-in page calls it. Default: the name of the provider.
    pub title: Option<String>,
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
    /// Whose tokens they are: `machines` takes all of them for machines'. Default: told by each token, which is a machine's
    /// when its subject is its client or the product says so.
    pub holders: Option<HoldersWord>,
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
    /// Whose tokens they are: `machines` takes all of them for machines'. Default: told by each token, which is a machine's
    /// when its subject is its client or the product says so.
    pub holders: Option<HoldersWord>,
}

/// A provider that is asked about tokens (RFC 7662).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionDocument {
    /// The issuer of the tokens. An answer that names another one is refused.
    pub issuer: String,
    /// Where the provider is asked: the `introspection_endpoint` of its metadata.
    pub url: String,
    /// The client id of the gateway at the provider.
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// Its secret, which goes to the provider as HTTP Basic credentials.
    pub client_secret: SecretDocument,
    /// Which tokens the provider is asked about. Default: `all`.
    pub tokens: Option<TokensWord>,
    /// How long an answer is kept, and so for how long at most a token that was revoked is still good. At most `5m`.
    /// Default: `60s`.
    pub cache: Option<DurationText>,
    /// By how much its clock may be off. Default: `60s`.
    pub leeway: Option<DurationText>,
    /// The member of the answer that holds scopes. Default: both.
    pub scope_claim: Option<ScopeClaimWord>,
    /// Client ids of sign-in clients: a token for one of them is an ID token and refused.
    pub sign_in_clients: Option<Vec<String>>,
    /// Whose tokens they are: `machines` takes all of them for machines'. Default: told by each token, which is a machine's
    /// when its subject is its client or the product says so.
    pub holders: Option<HoldersWord>,
}

/// Which tokens a provider is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokensWord {
    /// Tokens that are no JWT, and JWTs of the issuer.
    All,
    /// Tokens that are no JWT.
    Opaque,
    /// JWTs of the issuer.
    Jwt,
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

/// Whose tokens a provider's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldersWord {
    /// Machines, all of them.
    Machines,
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
