//! Host and path to service: two hash look-ups, whatever the number of services.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use super::service::{Service, State};

/// The suffix-less path of RFC 9728 section 3.1.
const METADATA: &str = "/.well-known/oauth-protected-resource";
/// The suffix-less paths of RFC 8414 section 3 and of OpenID Connect Discovery section 4, in the order in which clients try.
const SERVER_METADATA: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
/// What stands before a provider's name in the path of its callback.
const CALLBACK: &str = "/callback";
/// The last segment of the path of a service's keys.
pub const JWKS: &str = "jwks";
/// The endpoints of an authorization server, by the last segment of their path.
const ENDPOINTS: [(&str, Endpoint<'static>); 9] = [
    ("authorize", Endpoint::Authorize),
    ("consent", Endpoint::Consent),
    ("introspect", Endpoint::Introspect),
    (JWKS, Endpoint::Jwks),
    ("register", Endpoint::Register),
    ("revoke", Endpoint::Revoke),
    ("sign-in", Endpoint::SignIn),
    ("sign-out", Endpoint::SignOut),
    ("token", Endpoint::Token),
];

/// What a host and path lead to.
#[derive(Debug, Clone, Copy)]
pub enum Route<'a> {
    /// A service's MCP endpoint.
    Service(&'a Arc<Service>),
    /// The RFC 9728 document of a service.
    Metadata(&'a Arc<Service>),
    /// An endpoint of a service's authorization server. A closed service may have had one, so every endpoint leads there.
    Issuer(&'a Arc<Service>, Endpoint<'a>),
    /// No such path on a host that is served.
    Unknown,
    /// No such host.
    UnknownHost,
}

/// An endpoint of the authorization server of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// The document of RFC 8414, which OpenID Connect Discovery reads too.
    Metadata,
    /// The keys (RFC 7517).
    Jwks,
    /// Where a client sends a browser (RFC 6749 section 3.1).
    Authorize,
    /// Where the page that asks for consent is answered.
    Consent,
    /// Where the provider of this name sends a browser back.
    Callback(&'a str),
    /// RFC 6749 section 3.2.
    Token,
    /// RFC 7591.
    Register,
    /// RFC 7009.
    Revoke,
    /// RFC 7662.
    Introspect,
    /// Where a person gives name and password.
    SignIn,
    /// Where a person leaves.
    SignOut,
}

impl Endpoint<'_> {
    /// Whether the default service of a host answers for it at the root too: what clients that do not look at the path of
    /// an issuer ask for.
    fn is_at_root(self) -> bool {
        matches!(self, Self::Metadata | Self::Authorize | Self::Token | Self::Register | Self::Callback(_))
    }
}

/// The routes of one snapshot. Requests only look them up: nobody but the operator chooses what stands in them.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: HashMap<Box<str>, Host>,
}

#[derive(Debug, Default)]
struct Host {
    services: HashSet<AtPath>,
    default: Option<Arc<Service>>,
}

/// A service, found by its path.
#[derive(Debug)]
struct AtPath(Arc<Service>);

impl Borrow<str> for AtPath {
    fn borrow(&self) -> &str {
        &self.0.path
    }
}

impl PartialEq for AtPath {
    fn eq(&self, other: &Self) -> bool {
        self.0.path == other.0.path
    }
}

impl Eq for AtPath {}

impl Hash for AtPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.path.hash(state);
    }
}

impl RouteTable {
    /// Adds services, each at its path, under one more spelling of their host (lower case).
    #[expect(clippy::mutable_key_type, reason = "the path of a service never changes")]
    pub fn insert(&mut self, host: &str, services: &[&Arc<Service>]) {
        let known = &mut self.hosts.entry(host.into()).or_default().services;
        known.reserve(services.len());
        known.extend(services.iter().map(|service| AtPath(Arc::clone(service))));
    }

    /// Serves the root documents of every host from its default service: the one called `named`, or the only one.
    pub fn elect_defaults(&mut self, named: Option<&str>) {
        for host in self.hosts.values_mut() {
            let mut services = host.services.iter().map(|at| &at.0);
            let only = if host.services.len() == 1 { services.clone().next() } else { None };
            let by_name = named.and_then(|name| services.find(|service| *service.name == *name));
            host.default = by_name.or(only).cloned();
        }
    }

    /// Finds where a request leads. `/mcp` and `/mcp/` are one route.
    #[must_use]
    pub fn find<'a>(&'a self, host: &str, path: &'a str) -> Route<'a> {
        let Some(host) = self.hosts.get(host) else { return Route::UnknownHost };
        let path = trimmed(path);
        if let Some(AtPath(service)) = host.services.get(path) {
            return Route::Service(service);
        }
        if let Some(of) = path.strip_prefix(METADATA) {
            let service = if of.is_empty() { host.default.as_ref() } else { host.services.get(of).map(|at| &at.0) };
            return service.map_or(Route::Unknown, Route::Metadata);
        }
        let mut found = endpoints(path).into_iter().flatten().filter_map(|(of, endpoint)| {
            let at_root = || host.default.as_ref().filter(|_| endpoint.is_at_root());
            let service = if of.is_empty() { at_root() } else { host.services.get(of).map(|at| &at.0) };
            service.filter(|service| may_have(service, endpoint)).map(|service| Route::Issuer(service, endpoint))
        });
        found.next().unwrap_or(Route::Unknown)
    }
}

/// Every reading of a path as that of a service and an endpoint of it, the most telling first.
fn endpoints(path: &str) -> [Option<(&str, Endpoint<'_>)>; 4] {
    let known = |name: &str| ENDPOINTS.iter().find(|(known, _)| *known == name).map(|(_, endpoint)| *endpoint);
    let document = SERVER_METADATA.iter().find_map(|known| path.strip_prefix(known));
    let appended = SERVER_METADATA.iter().find_map(|known| path.strip_suffix(known));
    let (front, last) = path.rsplit_once('/').unwrap_or_default();
    [
        document.map(|of| (of, Endpoint::Metadata)),
        appended.map(|of| (of, Endpoint::Metadata)),
        known(last).map(|endpoint| (front, endpoint)),
        front.strip_suffix(CALLBACK).map(|of| (of, Endpoint::Callback(last))),
    ]
}

/// Whether the service has the endpoint, as far as can be told: all with an authorization server, and its keys with those
/// of assertions alone.
fn may_have(service: &Service, endpoint: Endpoint<'_>) -> bool {
    match &service.state {
        State::Open(pipeline) => {
            pipeline.issuing.is_some() || (endpoint == Endpoint::Jwks && pipeline.published.is_some())
        }
        State::Closed(_) => true,
    }
}

/// The endpoint of a service's authorization server, such as `token`, at or below which `path` lies; `of` is the path of
/// that service.
#[must_use]
pub fn endpoint_above<'a>(path: &'a str, of: &str) -> Option<&'a str> {
    let first = path.strip_prefix(of)?.strip_prefix('/')?.split('/').next()?;
    let taken = ["callback", ".well-known"].contains(&first) || ENDPOINTS.iter().any(|(known, _)| *known == first);
    taken.then_some(first)
}

/// One trailing slash is no difference; two are another path.
fn trimmed(path: &str) -> &str {
    path.strip_suffix('/').filter(|rest| !rest.ends_with('/')).unwrap_or(path)
}

/// Where the RFC 9728 document of a service at `path` is (section 3.1: the well-known part goes before the path).
#[must_use]
pub fn metadata_path(path: &str) -> String {
    format!("{METADATA}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::decision::Reason;

    fn table(paths: &[&str], default: Option<&str>) -> RouteTable {
        let mut table = RouteTable::default();
        for path in paths {
            let (name, host) = (path.trim_start_matches('/').replace('/', "-"), "h".to_owned());
            // What a closed service was cannot be told, so that every endpoint leads to it.
            let state = State::Closed(Reason::ServiceClosed);
            let service =
                Arc::new(Service { name: name.into(), host, path: (*path).to_owned(), state, counts: Arc::default() });
            table.insert("h", &[&service]);
        }
        table.elect_defaults(default);
        table
    }

    fn found(table: &RouteTable, path: &str) -> String {
        match table.find("h", path) {
            Route::Service(service) => service.path.clone(),
            Route::Metadata(service) => format!("{} resource", service.path),
            Route::Issuer(service, endpoint) => format!("{} {endpoint:?}", service.path),
            Route::Unknown => "unknown".to_owned(),
            Route::UnknownHost => "no host".to_owned(),
        }
    }

    #[test]
    fn every_endpoint_is_below_the_path_of_its_service() {
        let table = table(&["/a/mcp", "/b"], None);
        for (path, endpoint) in [
            ("/.well-known/oauth-authorization-server/a/mcp", "Metadata"),
            ("/.well-known/openid-configuration/a/mcp", "Metadata"),
            ("/.well-known/openid-configuration/a/mcp/", "Metadata"),
            ("/a/mcp/.well-known/openid-configuration", "Metadata"),
            ("/a/mcp/.well-known/oauth-authorization-server", "Metadata"),
            ("/.well-known/oauth-protected-resource/a/mcp", "resource"),
            ("/a/mcp/jwks", "Jwks"),
            ("/a/mcp/authorize", "Authorize"),
            ("/a/mcp/consent", "Consent"),
            ("/a/mcp/callback/okta", "Callback(\"okta\")"),
            ("/a/mcp/callback/token", "Callback(\"token\")"),
            ("/a/mcp/token", "Token"),
            ("/a/mcp/register", "Register"),
            ("/a/mcp/revoke", "Revoke"),
            ("/a/mcp/introspect", "Introspect"),
            ("/a/mcp/sign-in", "SignIn"),
            ("/a/mcp/sign-out", "SignOut"),
        ] {
            assert_eq!(found(&table, path), format!("/a/mcp {endpoint}"), "{path}");
        }
        for path in [
            "/a/mcp/callback",
            "/a/mcp/callback/",
            "/a/mcp/callback/okta/more",
            "/a/mcp/token/more",
            "/a/mcp//token",
            "/a/mcp/Token",
            "/a/token",
            "/token",
            "/authorize",
            "/callback/okta",
            "/.well-known/oauth-authorization-server",
            "/.well-known/oauth-authorization-server/a",
            "/.well-known/oauth-authorization-serverx/a/mcp",
            "token",
            "",
        ] {
            assert_eq!(found(&table, path), "unknown", "{path}");
        }
    }

    #[test]
    fn the_default_service_answers_at_the_root_too_and_only_what_clients_guess() {
        for table in [table(&["/a"], None), table(&["/a", "/b"], Some("a"))] {
            for (path, endpoint) in [
                ("/.well-known/oauth-authorization-server", "Metadata"),
                ("/.well-known/openid-configuration", "Metadata"),
                ("/authorize", "Authorize"),
                ("/token", "Token"),
                ("/register", "Register"),
                ("/callback/okta", "Callback(\"okta\")"),
                ("/.well-known/oauth-protected-resource", "resource"),
            ] {
                assert_eq!(found(&table, path), format!("/a {endpoint}"), "{path}");
            }
            for path in ["/jwks", "/consent", "/revoke", "/introspect", "/sign-in", "/sign-out", "/callback", "/"] {
                assert_eq!(found(&table, path), "unknown", "{path}");
            }
            assert!(matches!(table.find("other", "/token"), Route::UnknownHost));
        }
    }

    #[test]
    fn a_service_of_its_own_comes_before_the_root_of_the_default_service() {
        let table = table(&["/a", "/token", "/callback"], Some("a"));
        assert_eq!(found(&table, "/token"), "/token");
        assert_eq!(found(&table, "/callback/token"), "/callback Token");
        assert_eq!(found(&table, "/callback/okta"), "/a Callback(\"okta\")");
    }

    #[test]
    fn what_lies_at_or_below_an_endpoint_is_told() {
        for (path, above) in [
            ("/mcp/token", Some("token")),
            ("/mcp/token/x", Some("token")),
            ("/mcp/callback/okta", Some("callback")),
            ("/mcp/.well-known/x", Some(".well-known")),
            ("/mcp", None),
            ("/mcp/tokens", None),
            ("/mcptoken", None),
            ("/mcp/other/token", None),
            ("/token", None),
        ] {
            assert_eq!(endpoint_above(path, "/mcp"), above, "{path}");
        }
    }
}
