//! Host and path to service: two hash look-ups, whatever the number of services.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use super::service::Service;

/// The suffix-less path of RFC 9728 section 3.1.
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// What a host and path lead to.
#[derive(Debug, Clone, Copy)]
pub enum Route<'a> {
    /// A service's MCP endpoint.
    Service(&'a Arc<Service>),
    /// The RFC 9728 document of a service.
    Metadata(&'a Arc<Service>),
    /// No such path on a host that is served.
    Unknown,
    /// No such host.
    UnknownHost,
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
    pub fn find(&self, host: &str, path: &str) -> Route<'_> {
        let Some(host) = self.hosts.get(host) else { return Route::UnknownHost };
        let path = trimmed(path);
        if let Some(AtPath(service)) = host.services.get(path) {
            return Route::Service(service);
        }
        let Some(of) = path.strip_prefix(METADATA) else { return Route::Unknown };
        let service = if of.is_empty() { host.default.as_ref() } else { host.services.get(of).map(|at| &at.0) };
        service.map_or(Route::Unknown, Route::Metadata)
    }
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
