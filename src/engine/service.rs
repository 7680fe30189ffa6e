//! One service, compiled: everything a request to it needs, resolved and immutable.

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::access::AccessTable;
use super::authentication::Authentication;
use super::counters::ServiceCounts;
use super::credential::Credentials;
use super::decision::{Denial, Reason};
use super::issuing::Issuing;
use super::keyring::Keyring;
use super::limits::Limits;
use super::stage::Stage;
use super::vault::Vault;
use crate::mcp::era::Revisions;
use crate::mcp::server::Wish;

/// One MCP server with its policy.
#[derive(Debug)]
pub struct Service {
    /// The name, as logs and metrics know it.
    pub name: Arc<str>,
    /// The host of the route: lower case, with a port unless it is the scheme's default.
    pub host: String,
    /// The path of the route, without a trailing slash.
    pub path: String,
    /// What runs, or why nothing does.
    pub state: State,
    /// What became of its requests.
    pub counts: Arc<ServiceCounts>,
}

/// Whether a service is open.
#[derive(Debug)]
pub enum State {
    /// Requests go through the pipeline.
    Open(Arc<Pipeline>),
    /// Every request is refused with 503: failing closed is a value, not a branch.
    Closed(Reason),
}

impl Service {
    /// The pipeline of an open service.
    ///
    /// # Errors
    /// 503 when the service is closed.
    pub fn pipeline(&self) -> Result<&Arc<Pipeline>, Denial> {
        match &self.state {
            State::Open(pipeline) => Ok(pipeline),
            State::Closed(reason) => Err(Denial::new(*reason).retry_after(Duration::from_secs(30))),
        }
    }
}

/// What a request goes through, in the order of the fields. Authentication and authorization are fields and not stages,
/// so that no policy can leave them out or reorder them.
#[derive(Debug)]
pub struct Pipeline {
    /// Optional steps before authentication.
    pub stages: Vec<Box<dyn Stage>>,
    /// Token to identity.
    pub authentication: Authentication,
    /// Bytes of body that are read at most.
    pub body_limit: usize,
    /// MCP revisions that are accepted.
    pub revisions: Revisions,
    /// Identity and operation to permit.
    pub access: Arc<AccessTable>,
    /// Rates and concurrency.
    pub limits: Limits,
    /// Where permitted messages go.
    pub upstream: Upstream,
    /// How a final denial looks.
    pub denials: DenialForm,
    /// How resource URIs are judged.
    pub uri_form: UriForm,
    /// What the server may ask the client for.
    pub server_requests: ServerRequests,
    /// `resource_metadata` of challenges (RFC 9728 section 5.1).
    pub metadata_url: String,
    /// The RFC 9728 document.
    pub metadata: Bytes,
    /// Scopes that a 401 names: those marked default.
    pub default_scopes: Vec<String>,
    /// Where each rule is written, for the audit record.
    pub rule_places: RulePlaces,
    /// The authorization server, in a service that has its own.
    pub issuing: Option<Arc<Issuing>>,
    /// The keys of assertions about callers, in a service that makes them.
    pub published: Option<Published>,
}

/// Keys that the gateway signs with and publishes.
#[derive(Debug, Clone)]
pub struct Published {
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// Where they are kept.
    pub vault: Arc<Vault>,
}

/// Where the rules of a policy are written.
#[derive(Debug, Clone)]
pub struct RulePlaces {
    /// The policy's file.
    pub file: Arc<str>,
    /// The line of each rule, from 1.
    pub lines: Arc<[u32]>,
}

impl RulePlaces {
    /// `file:line` of a rule, counted from 0.
    #[must_use]
    pub fn get(&self, rule: u32) -> Option<String> {
        let line = self.lines.get(usize::try_from(rule).ok()?)?;
        Some(format!("{}:{line}", self.file))
    }
}

/// How a final denial looks to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialForm {
    /// 403 with a JSON-RPC error.
    Forbidden,
    /// 200 with JSON-RPC `-32602`, as if the tool did not exist.
    Hidden,
    /// 200 with a tool result that has `isError`.
    ToolResult,
}

/// How resource URIs are judged before they are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriForm {
    /// Spellings that could mean something else upstream are refused.
    Strict,
    /// Any spelling; rules name whole URIs only.
    Opaque,
}

/// What a server may ask the client for, in either era.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRequests {
    /// Text from the client's model.
    pub sampling: bool,
    /// The client's file roots.
    pub roots: bool,
    /// Forms for a person to fill in.
    pub forms: bool,
    /// URLs for a person to visit.
    pub visits: Visits,
}

/// Where a server may send a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visits {
    /// To any https URL.
    Anywhere,
    /// To https URLs on these hosts.
    Hosts(Vec<String>),
}

impl ServerRequests {
    /// Whether the server may ask for `wish`.
    #[must_use]
    pub fn allow(&self, wish: &Wish<'_>) -> bool {
        match wish {
            Wish::Sampling => self.sampling,
            Wish::Roots => self.roots,
            Wish::Form => self.forms,
            Wish::Visit(url) => url.as_ref().is_some_and(|url| self.visits.allow(url)),
            Wish::Other => true,
        }
    }
}

impl Visits {
    fn allow(&self, written: &str) -> bool {
        let Ok(url) = url::Url::parse(written) else { return false };
        let plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
        let listed = |host: &str| match self {
            Self::Anywhere => true,
            Self::Hosts(hosts) => hosts.iter().any(|listed| listed == host) && names(written, host),
        };
        plain && url.host_str().is_some_and(listed)
    }
}

/// Whether any reader finds this host in a URL. The parser repairs what is not written as it should be, and others repair it
/// differently: to some of them what stands before a backslash is no host.
fn names(written: &str, host: &str) -> bool {
    let odd = |c: char| c == '\\' || c.is_whitespace() || c.is_control();
    let scheme = written.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://"));
    let rest = scheme.and_then(|scheme| written.get(scheme.len()..)).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let port = authority.strip_prefix(host);
    !written.contains(odd) && port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
}

/// Where a service runs, and how it is reached.
#[derive(Debug)]
pub struct Upstream {
    /// The resolved addresses, renewed in the background; the name is never resolved on the request path.
    pub addresses: Arc<ArcSwap<Vec<std::net::SocketAddr>>>,
    /// The `Host` header.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// How the connection is secured.
    pub transport: Transport,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Bytes of a JSON answer that are relayed at most.
    pub response_limit: usize,
    /// Bytes of a list answer that are read for filtering at most.
    pub list_limit: usize,
    /// The gateway's own credential.
    pub credential: Option<Credential>,
    /// Names of the identity headers.
    pub identity_headers: IdentityHeaders,
    /// Headers of the client that go on although MCP does not speak of them.
    pub forward_headers: Vec<HeaderName>,
    /// What the floor that connects has prepared from `transport`, once.
    pub prepared: Prepared,
}

/// A place for what the connecting floor derives from an [`Upstream`], made at the first use and kept as long as the service.
#[derive(Debug, Default)]
pub struct Prepared(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Prepared {
    /// The value, made by `make` at the first call. `None` when another type was put here.
    pub fn or_make<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        Arc::clone(self.0.get_or_init(|| Arc::new(make()))).downcast().ok()
    }
}

/// How the connection to an upstream is secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP.
    Plain,
    /// TLS, always with a name to verify.
    Tls {
        /// The name in SNI and certificate.
        server_name: String,
        /// DER of the certificate authorities trusted instead of the system's.
        ca: Option<Vec<Vec<u8>>>,
        /// DER of the client certificate chain and of its key.
        identity: Option<(Vec<Vec<u8>>, Vec<u8>)>,
    },
}

/// Time limits of an upstream.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// The longest silence, before the first byte of an answer and between two reads of it.
    pub read: Duration,
    /// The longest silence of single tools, by name.
    pub tools: Vec<(String, Duration)>,
}

impl Timeouts {
    /// The limit for a call of `tool`, or for anything else.
    #[must_use]
    pub fn read_of(&self, tool: Option<&str>) -> Duration {
        let own = tool.and_then(|tool| self.tools.iter().find(|(name, _)| name == tool));
        own.map_or(self.read, |(_, limit)| *limit)
    }
}

/// A credential that the gateway attaches to upstream requests.
#[derive(Debug)]
pub struct Credential {
    /// The header.
    pub header: HeaderName,
    /// Where its value comes from.
    pub source: CredentialSource,
}

/// Where the value of a credential's header comes from.
pub enum CredentialSource {
    /// It is always this one, marked sensitive. A secret that changes makes a new service.
    Fixed(HeaderValue),
    /// It is obtained.
    Obtained(Arc<Credentials>),
}

impl std::fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed"),
            Self::Obtained(credentials) => f.debug_tuple("Obtained").field(credentials).finish(),
        }
    }
}

/// Names of the headers that tell the upstream who asks; an empty set sends none. No client's copy of them goes on.
#[derive(Debug, Clone, Default)]
pub struct IdentityHeaders {
    /// The issuer.
    pub issuer: Option<HeaderName>,
    /// The subject.
    pub subject: Option<HeaderName>,
    /// The client.
    pub client: Option<HeaderName>,
    /// The scopes, separated by spaces.
    pub scopes: Option<HeaderName>,
}

/// The default names, in the order issuer, subject, client, scopes.
pub const DEFAULT_IDENTITY_HEADERS: [&str; 4] =
    ["x-portcullis-issuer", "x-portcullis-subject", "x-portcullis-client", "x-portcullis-scopes"];
