//! A provider's discovery document (OpenID Connect Discovery section 3, RFC 8414 section 2), believed only where the
//! operator's word covers it.

use serde_json::{Map, Value};
use url::Url;

use super::strict;
use super::url::EndpointUrl;

/// A document whose issuer is the one that was asked.
#[derive(Debug, Clone)]
pub struct Discovered {
    members: Map<String, Value>,
    hosts: Vec<String>,
}

impl Discovered {
    /// Reads the document of the issuer at `url`, which must call itself `issuer` byte for byte (OpenID Connect Discovery
    /// section 4.3). Its endpoints must be on the issuer's host or on one of `allowed_hosts`.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn read(document: &[u8], issuer: &str, url: &Url, allowed_hosts: &[String]) -> Result<Self, String> {
        let members = strict::object(document).map_err(|error| error.to_string())?;
        if members.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err("the document names another issuer".to_owned());
        }
        let own = url.host_str().unwrap_or_default().to_owned();
        Ok(Self { members, hosts: allowed_hosts.iter().cloned().chain([own]).collect() })
    }

    /// The endpoint called `name`, such as `jwks_uri`.
    ///
    /// # Errors
    /// It is not there, unsafe, or on a host that nobody named.
    pub fn endpoint(&self, name: &str) -> Result<Url, String> {
        let uri = self.text(name).ok_or_else(|| format!("the document has no `{name}`"))?;
        let uri = EndpointUrl::parse(uri).map_err(|error| format!("`{name}`: {error}"))?;
        let host = uri.url().host_str().unwrap_or_default();
        if self.hosts.iter().any(|allowed| allowed == host) {
            return Ok(uri.url().clone());
        }
        Err(format!("`{name}` is on the host `{host}`, which is neither the issuer's nor in `allowed_hosts`"))
    }

    /// A member that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    /// Whether a member that is a list holds `value`.
    #[must_use]
    pub fn lists(&self, name: &str, value: &str) -> bool {
        self.members.get(name).and_then(Value::as_array).is_some_and(|list| list.iter().any(|one| one == value))
    }

    /// Whether a member is `true`.
    #[must_use]
    pub fn says(&self, name: &str) -> bool {
        self.members.get(name) == Some(&Value::Bool(true))
    }

    /// The whole document.
    #[must_use]
    pub fn members(&self) -> &Map<String, Value> {
        &self.members
    }
}
