//! The authorization server of one service: what its policy says, and what it works with.
//!
//! It is part of the snapshot, so that a change of the policy is in force at every endpoint at once, for flows that have
//! begun as for new ones. What outlives a snapshot (rows, keys, revocations) is shared behind it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use super::clock::Clock;
use super::decision::Denial;
use super::documents::Documents;
use super::fetch::Fetch;
use super::keyring::Keyring;
use super::limits::AddressLimit;
use super::revocations::Revocations;
use super::standing::Standing;
use super::vault::Vault;
use crate::oauth::jwk::KeySet;
use crate::oauth::jws::Algorithm;
use crate::oauth::redirect::{self, AllowedRedirect, RedirectError, RedirectUri};
use crate::oauth::url::IssuerUrl;
use crate::secret::Held;

/// No token of the gateway's own lives longer, in seconds, whatever a policy says.
pub const LONGEST_TOKEN: i64 = 24 * 3600;

/// The authorization server of one service.
#[derive(Debug)]
pub struct Issuing {
    /// The service's name.
    pub service: Arc<str>,
    /// The issuer (RFC 8414 section 2), which is the resource too: the canonical public URL of the service.
    pub issuer: Arc<str>,
    /// The RFC 8414 document, prepared.
    pub metadata: bytes::Bytes,
    /// What people call the service.
    pub title: String,
    /// The one list of redirect URIs, asked at registration, authorization, consent, callback and token alike.
    pub redirects: Vec<AllowedRedirect>,
    /// Clients that the policy names.
    pub clients: Vec<StaticClient>,
    /// Whether clients may register by themselves (RFC 7591).
    pub registration: bool,
    /// Whether a client may be named by the URL of its metadata document.
    pub client_documents: bool,
    /// For how long a consent is remembered; `None` asks every time.
    pub remember: Option<Duration>,
    /// Claims of a person that go into tokens.
    pub claims: Vec<ClaimSource>,
    /// The scopes of the service.
    pub scopes: Vec<ScopeWords>,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// Who signs people in.
    pub sign_in: Vec<SignIn>,
    /// Whom tokens may speak for.
    pub standing: Arc<Standing>,
    /// What all of them work with.
    pub works: Works,
}

impl Issuing {
    /// Accepts a redirect URI that the policy's list permits and that does not lead back to the gateway: a code must never
    /// land on one of its own pages.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn redirect(&self, presented: &str) -> Result<RedirectUri, RedirectError> {
        let accepted = redirect::accept(&self.redirects, presented)?;
        if accepted.leads_to(&self.issuer) { Err(RedirectError::Own) } else { Ok(accepted) }
    }
}

/// What outlives a snapshot.
#[derive(Debug, Clone)]
pub struct Works {
    /// Keeps rows.
    pub vault: Arc<Vault>,
    /// Signs tokens.
    pub keyring: Arc<Keyring>,
    /// What is revoked.
    pub revocations: Arc<Revocations>,
    /// Fetches.
    pub fetch: Arc<dyn Fetch>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Documents of clients and providers.
    pub documents: Arc<Documents>,
    /// Limits before anything is looked at.
    pub throttle: Arc<Throttle>,
}

/// How long things last, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Access tokens of people.
    pub access: i64,
    /// Access tokens of machines.
    pub service: i64,
    /// Authorization codes.
    pub code: i64,
    /// A grant that is not used.
    pub refresh_idle: i64,
    /// A grant, however much it is used.
    pub refresh: i64,
    /// A provider's word about a person, when it cannot be asked again.
    pub outage: i64,
}

/// A scope with its words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeWords {
    /// The name.
    pub name: String,
    /// What it lets a client do.
    pub describe: Option<String>,
    /// Whether it is granted to a client that asks for none.
    pub default: bool,
}

/// Where a claim of the gateway's own tokens comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSource {
    /// Its name in the tokens.
    pub name: String,
    /// A claim of the provider, or a JSON Pointer into its claims (RFC 6901).
    pub from: String,
}

impl ClaimSource {
    /// The claim of the provider that the value is, or is in.
    #[must_use]
    pub fn top(&self) -> std::borrow::Cow<'_, str> {
        match self.from.strip_prefix('/') {
            None => self.from.as_str().into(),
            Some(path) => path.split('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~").into(),
        }
    }

    /// The value, if the provider gave one.
    #[must_use]
    pub fn read<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        let found = if self.from.starts_with('/') { claims.pointer(&self.from) } else { claims.get(&self.from) };
        found.filter(|value| !value.is_null())
    }
}

/// A client that the policy names.
#[derive(Debug, Clone)]
pub struct StaticClient {
    /// `client_id`.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// How it proves who it is.
    pub proof: ClientProof,
    /// Its redirect URIs; each must be permitted by the policy's list as well.
    pub redirects: Vec<AllowedRedirect>,
    /// What it may ask for at the token endpoint.
    pub grants: Grants,
    /// Scopes that it may get without a person.
    pub scopes: Vec<String>,
}

/// Grant types of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grants {
    /// `authorization_code`.
    pub code: bool,
    /// `refresh_token`.
    pub refresh: bool,
    /// `client_credentials`.
    pub service: bool,
}

/// How a client proves who it is (RFC 6749 section 2.3, OpenID Connect Core section 9).
#[derive(Debug, Clone)]
pub enum ClientProof {
    /// It is public.
    None,
    /// By one of some secrets.
    Secrets(Vec<Held>),
    /// By assertions signed with its keys (`private_key_jwt`).
    Keys(KeySet),
}

/// A way to sign in.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// The provider's name: the last segment of its callback path, and the start of its subjects.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// How.
    pub kind: SignInKind,
}

/// The kinds of sign-in.
#[derive(Debug, Clone)]
pub enum SignInKind {
    /// At an OpenID Connect provider.
    Oidc(Box<OidcSignIn>),
    /// At a GitHub, which is no OpenID Connect provider.
    GitHub(Box<GitHubSignIn>),
    /// By a name and password that the gateway knows.
    Local(Arc<[User]>),
}

/// The gateway as a client of an OpenID Connect provider.
#[derive(Debug, Clone)]
pub struct OidcSignIn {
    /// The issuer, byte for byte.
    pub issuer: IssuerUrl,
    /// Hosts on which its endpoints may be besides the issuer's.
    pub allowed_hosts: Vec<String>,
    /// `client_id`.
    pub client_id: String,
    /// Its secret; without one the gateway is a public client with PKCE.
    pub client_secret: Option<Held>,
    /// Scopes that are asked for.
    pub scopes: Vec<String>,
    /// More parameters of the authorization request.
    pub parameters: Vec<(String, String)>,
    /// Whether the userinfo endpoint is asked too.
    pub userinfo: bool,
    /// Algorithms of its ID tokens.
    pub algorithms: Vec<Algorithm>,
    /// What its discovery document calls itself: the issuer, or of a multi-tenant provider the form of its issuers.
    pub discovered_issuer: String,
    /// Issuers of ID tokens where they are not the configured one: the tenants of a multi-tenant provider.
    pub tenants: Vec<String>,
    /// Claims that an ID token must carry, equal to the value where there is one: what a parameter of the request only asks
    /// for, such as Google's `hd`.
    pub expected: Vec<(String, Option<String>)>,
}

/// The gateway as an OAuth app of a GitHub.
#[derive(Debug, Clone)]
pub struct GitHubSignIn {
    /// The GitHub, such as `https://github.com`.
    pub issuer: IssuerUrl,
    /// Where browsers go.
    pub authorize: Url,
    /// Where codes are redeemed.
    pub token: Url,
    /// Where people are looked up.
    pub api: Url,
    /// `client_id`.
    pub client_id: String,
    /// Its secret, which GitHub asks of every app.
    pub client_secret: Held,
    /// Scopes that are asked for.
    pub scopes: Vec<String>,
    /// Whether the scopes show the person's e-mail addresses.
    pub emails: bool,
    /// Organizations of which a person must be an active member of one; none lets everybody come.
    pub organizations: Vec<String>,
    /// Whether `groups` holds the organizations and teams of a person.
    pub groups: bool,
}

/// A person of the local provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name, in lower case.
    pub name: String,
    /// An argon2id hash in PHC form.
    pub password: String,
    /// Claims, such as `groups`.
    pub claims: serde_json::Map<String, Value>,
}

/// Limits per address of the endpoints that anybody may call.
#[derive(Debug)]
pub struct Throttle {
    pages: AddressLimit,
    tokens: AddressLimit,
    registrations: AddressLimit,
    passwords: AddressLimit,
}

/// What is limited apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoints {
    /// Pages and callbacks.
    Pages,
    /// Token, revocation and introspection.
    Tokens,
    /// Registration.
    Registrations,
    /// Passwords.
    Passwords,
}

impl Default for Throttle {
    /// Many people and hosted clients share an address, so the limits are wide but for passwords.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            pages: AddressLimit::new(300, minute),
            tokens: AddressLimit::new(600, minute),
            registrations: AddressLimit::new(60, minute),
            passwords: AddressLimit::new(10, minute),
        }
    }
}

impl Throttle {
    /// Counts a request of `address`.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn count(&self, endpoints: Endpoints, address: IpAddr, now: Instant) -> Result<(), Denial> {
        let limit = match endpoints {
            Endpoints::Pages => &self.pages,
            Endpoints::Tokens => &self.tokens,
            Endpoints::Registrations => &self.registrations,
            Endpoints::Passwords => &self.passwords,
        };
        limit.allowed(address, now)?;
        limit.failed(address, now);
        Ok(())
    }
}
