//! Host and path to service: two hash look-ups, whatever the number of services.

use std::collections::HashMap;
use std::sync::Arc;

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

/// The routes of one snapshot.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: HashMap<Box<str>, Host>,
}

#[derive(Debug, Default)]
struct Host {
    paths: HashMap<Box<str>, Arc<Service>>,
    default: Option<Arc<Service>>,
}

impl RouteTable {
    /// Adds a service under `host` (lower case, with a port unless it is the scheme's default) and `path` (no trailing
    /// slash). Returns the service that holds the route already, if one does.
    pub fn insert(&mut self, host: &str, path: &str, service: Arc<Service>) -> Option<Arc<Service>> {
        self.hosts.entry(host.into()).or_default().paths.insert(path.into(), service)
    }

    /// Serves the root documents of every host from its default service: the one called `named`, or the only one.
    pub fn elect_defaults(&mut self, named: Option<&str>) {
        for host in self.hosts.values_mut() {
            let by_name = host.paths.values().find(|service| named.is_some_and(|name| *service.name == *name));
            let only = if host.paths.len() == 1 { host.paths.values().next() } else { None };
            host.default = by_name.or(only).cloned();
        }
    }

    /// Finds where a request leads. `/mcp` and `/mcp/` are one route.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Route<'_> {
        let Some(host) = self.hosts.get(host) else { return Route::UnknownHost };
        let path = trimmed(path);
        if let Some(service) = host.paths.get(path) {
            return Route::Service(service);
        }
        let Some(of) = path.strip_prefix(METADATA) else { return Route::Unknown };
        let service = if of.is_empty() { host.default.as_ref() } else { host.paths.get(of) };
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
