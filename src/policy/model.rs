//! What a policy means: every name resolved, every default filled in, no text left that something could still find wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use url::Url;

use super::document::installation::OnInvalid;
use crate::credentials::assertion;
use crate::credentials::token_endpoint::TokenRequest;
use crate::engine::access::AccessTable;
use crate::engine::authentication::{Admission, RequiredClaim};
use crate::engine::issuing::{ClaimSource, Lifetimes, ScopeWords, SignIn, StaticClient};
use crate::engine::limits::{Key, LimitKind, LimitSelector, OnLoss};
use crate::engine::service::{DenialForm, IdentityHeaders, RulePlaces, ServerRequests, UriForm};
use crate::engine::snapshot::AdminAccess;
use crate::mcp::era::Revisions;
use crate::oauth::jws::Algorithm;
use crate::oauth::redirect::AllowedRedirect;
use crate::oauth::url::{EndpointUrl, ResourceUrl, UpstreamUrl};
use crate::providers::Definition;
use crate::secret::Held;
use crate::stores;

/// The installation.
#[derive(Debug)]
pub struct Installation {
    /// The origin of every URL that the gateway emits, when `portcullis.yaml` or the command line gives one.
    pub public_url: Option<EndpointUrl>,
    /// Where the gateway listens.
    pub listeners: Vec<Listener>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The service of the root documents.
    pub default_service: Option<String>,
    /// Shared providers.
    pub providers: BTreeMap<String, Provider>,
    /// Where flow state is kept; `None` when the file does not say, which is in memory.
    pub store: Option<stores::Settings>,
    /// Where an operator's commands reach the running gateway.
    pub control_socket: Option<PathBuf>,
    /// What seals flow state; the first seals, all open.
    pub encryption_keys: Vec<Held>,
    /// How documents are fetched.
    pub egress: Egress,
    /// Name servers that are asked for upstreams; none stands for the system's.
    pub name_servers: Vec<SocketAddr>,
    /// What a broken policy does to its service.
    pub on_invalid: OnInvalid,
    /// How long a last good version may serve; `None` for ever.
    pub max_stale: Option<Duration>,
    /// Failures per address: count and period.
    pub address_failures: (u32, Duration),
    /// Requests at once, before more are shed.
    pub requests_in_flight: u32,
    /// The audit log.
    pub log: Log,
    /// The admin listener.
    pub admin: Option<Admin>,
    /// Connect and read limits of policies that say nothing.
    pub timeouts: (Duration, Duration),
}

/// Whoever vouches for tokens, signs people in, or both.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Vouches for tokens; `None` where there are none that a service could accept.
    pub definition: Option<Arc<Definition>>,
    /// Signs people in.
    pub sign_in: Option<SignIn>,
    /// The ID tokens that signing in makes.
    pub id_tokens: Option<IdTokens>,
}

/// The tokens that a provider gives to the gateway itself about people who sign in. They open nothing, anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdTokens {
    /// Their issuers.
    pub issuers: Vec<String>,
    /// Their audience: the gateway's client id.
    pub client: String,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub address: SocketAddr,
    /// Who may ask.
    pub access: Arc<AdminAccess>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// Certificate and key files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether HTTP/2 without TLS is spoken.
    pub h2c: bool,
}

/// How documents are fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Certificate authorities besides the system's.
    pub ca: Vec<Der>,
    /// The proxy of all fetches.
    pub proxy: Option<Url>,
    /// Hosts whose special addresses are accepted.
    pub allowed_hosts: Vec<String>,
    /// Origins of clients that may be on a private network.
    pub private_clients: Vec<Url>,
}

/// The audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The file; `None` is standard output.
    pub file: Option<PathBuf>,
    /// Claims that may be logged.
    pub claims: Vec<String>,
    /// Arguments that may be logged.
    pub arguments: Vec<String>,
}

impl Installation {
    /// Whether limits are counted together with other replicas.
    #[must_use]
    pub fn shares_counts(&self) -> bool {
        self.store.as_ref().is_some_and(stores::Settings::is_shared)
    }
}

/// A certificate or key in DER. Prints as its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Der(pub Vec<u8>);

impl fmt::Debug for Der {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Der({})", short_hash(&self.0))
    }
}

/// The start of a SHA-256 in hex: tells two values apart without telling either.
fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// One service.
#[derive(Debug)]
pub struct Service {
    /// The name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The host of the route: lower case, with a port unless it is the scheme's default.
    pub host: String,
    /// The canonical public URL.
    pub resource: ResourceUrl,
    /// Where it runs.
    pub upstream: Upstream,
    /// The authorization server of its own.
    pub authorization_server: Option<AuthorizationServer>,
    /// ID tokens of the policy's own providers.
    pub id_tokens: Vec<IdTokens>,
    /// Accepted providers.
    pub providers: Vec<Arc<Definition>>,
    /// Accepted audiences.
    pub audiences: Vec<String>,
    /// Whether another service may share an audience.
    pub shared_audience: bool,
    /// Accepted clients.
    pub clients: Option<Vec<String>>,
    /// Whether callers without a token are let in.
    pub admission: Admission,
    /// What the server may ask the client for.
    pub server_requests: ServerRequests,
    /// Required claims.
    pub required_claims: Vec<RequiredClaim>,
    /// Scopes that a 401 names.
    pub default_scopes: Vec<String>,
    /// The rules, compiled.
    pub access: Arc<AccessTable>,
    /// Where each rule is written.
    pub rule_places: RulePlaces,
    /// The limits.
    pub limits: Vec<LimitSpec>,
    /// How a final denial looks.
    pub denials: DenialForm,
    /// How resource URIs are judged.
    pub uri_form: UriForm,
    /// Listed origins.
    pub origins: Vec<String>,
    /// Bytes of body.
    pub body_limit: usize,
    /// Accepted revisions.
    pub revisions: Revisions,
}

impl Service {
    /// Whether it publishes keys of the gateway's own.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        let source = self.upstream.credential.as_ref().map(|credential| &credential.source);
        self.authorization_server.is_some() || matches!(source, Some(CredentialSource::Assertion(..)))
    }

    /// The issuers whose tokens it accepts.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        let own = self.authorization_server.as_ref().map(|_| self.resource.as_str());
        own.into_iter().chain(self.providers.iter().filter_map(|provider| provider.issuer()))
    }
}

/// An authorization server of one service. Its issuer is the resource.
#[derive(Debug)]
pub struct AuthorizationServer {
    /// Who signs people in.
    pub sign_in: Vec<SignIn>,
    /// Where clients may be sent back to.
    pub redirects: Vec<AllowedRedirect>,
    /// Clients that need not register.
    pub clients: Vec<StaticClient>,
    /// Whether clients may register by themselves.
    pub registration: bool,
    /// Whether a client may be named by the URL of its metadata document.
    pub client_documents: bool,
    /// For how long a consent is remembered.
    pub remember: Option<Duration>,
    /// Claims of people that go into tokens.
    pub claims: Vec<ClaimSource>,
    /// The scopes of the service, sorted.
    pub scopes: Vec<ScopeWords>,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// What signs its tokens.
    pub algorithm: Algorithm,
}

/// Where a service runs.
#[derive(Debug)]
pub struct Upstream {
    /// The URL.
    pub url: UpstreamUrl,
    /// The name in its certificate.
    pub server_name: String,
    /// Certificate authorities instead of the system's.
    pub ca: Option<Vec<Der>>,
    /// Client certificate chain and key.
    pub identity: Option<(Vec<Der>, Der)>,
    /// To connect.
    pub connect: Duration,
    /// The longest silence.
    pub read: Duration,
    /// The longest silence of single tools.
    pub tools: Vec<(String, Duration)>,
    /// The gateway's own credential.
    pub credential: Option<Credential>,
    /// Names of identity headers.
    pub identity_headers: IdentityHeaders,
    /// Headers of the client that go on although MCP does not speak of them.
    pub forward_headers: Vec<HeaderName>,
    /// Bytes of a JSON answer.
    pub response_limit: usize,
    /// Bytes of a list.
    pub list_limit: usize,
}

/// A credential of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The header.
    pub header: HeaderName,
    /// What stands before it.
    pub prefix: String,
    /// Where it comes from.
    pub source: CredentialSource,
}

/// Where a credential comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// The policy, by reference.
    Secret(Held),
    /// A token endpoint, for all callers.
    ClientCredentials(TokenRequest),
    /// A token endpoint, for each caller.
    Exchange(TokenRequest),
    /// The provider that signed the caller in.
    ProviderToken,
    /// The gateway itself, with the algorithm of its keys.
    Assertion(assertion::Settings, Algorithm),
}

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitSpec {
    /// What is limited.
    pub kind: LimitKind,
    /// What it counts by, sorted.
    pub per: Vec<Key>,
    /// What it counts.
    pub selector: LimitSelector,
    /// What it does while whoever counts it for all replicas cannot be asked.
    pub on_loss: OnLoss,
}
