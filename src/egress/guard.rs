//! Judges the target of a fetch: its URL before, and its addresses while the connection is made.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::engine::fetch::Target;
use crate::oauth::address::{AddressClass, classify};

type Found = Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;

/// The rules of one class.
#[derive(Clone)]
pub struct Guard {
    class: Target,
    allowed_hosts: Vec<String>,
    private_origins: Vec<Url>,
    look_up: Arc<dyn Fn(String) -> Found + Send + Sync>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("class", &self.class).finish_non_exhaustive()
    }
}

impl Guard {
    /// Rules of `class`; `allowed_hosts` are the operator's exceptions, and never a stranger's.
    #[must_use]
    pub fn new(class: Target, allowed_hosts: Vec<String>) -> Self {
        let look_up = |host: String| -> Found {
            Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
        };
        Self { class, allowed_hosts, private_origins: Vec::new(), look_up: Arc::new(look_up) }
    }

    /// The same rules, but for these origins, which a stranger may name although they are on a private network.
    #[must_use]
    pub fn with_private(self, private_origins: Vec<Url>) -> Self {
        Self { private_origins, ..self }
    }

    fn is_private_host(&self, host: &str) -> bool {
        self.private_origins.iter().any(|origin| origin.host_str() == Some(host))
    }

    /// The same rules over other names.
    #[cfg(test)]
    pub(super) fn asking(mut self, look_up: impl Fn(String) -> Found + Send + Sync + 'static) -> Self {
        self.look_up = Arc::new(look_up);
        self
    }

    /// Judges scheme and, when the host is one, address. A name is judged when it is resolved.
    ///
    /// # Errors
    /// What is wrong, for the log.
    pub fn check(&self, url: &Url) -> Result<(), &'static str> {
        let host = url.host().ok_or("the URL has no host")?;
        let address = match &host {
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
            Host::Domain(_) => None,
        };
        let local = matches!(&host, Host::Domain("localhost"))
            || address.is_some_and(|address| classify(address) == AddressClass::Loopback);
        match (url.scheme(), self.class) {
            ("https", _) => {}
            ("http", Target::Operator) if local => {}
            _ => return Err("the scheme must be https"),
        }
        // One port of a host on a private network is no word about its others.
        let host = url.host_str().unwrap_or_default();
        if self.is_private_host(host) && !self.private_origins.iter().any(|origin| origin.origin() == url.origin()) {
            return Err("the origin is not one of those listed of its host");
        }
        address.map_or(Ok(()), |address| self.address(host, address))
    }

    /// Judges an address that `host` is or has.
    fn address(&self, host: &str, address: IpAddr) -> Result<(), &'static str> {
        let accepted = match (self.class, classify(address)) {
            (_, AddressClass::Public) => true,
            (Target::Operator, AddressClass::Private | AddressClass::Loopback) => true,
            (Target::Operator, AddressClass::LinkLocal | AddressClass::CloudMetadata | AddressClass::Special) => {
                self.allowed_hosts.iter().any(|allowed| allowed == host)
            }
            (Target::Stranger, AddressClass::Private | AddressClass::Loopback) => self.is_private_host(host),
            (Target::Stranger, _) => false,
        };
        if accepted { Ok(()) } else { Err("the address is not one that may be fetched from") }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let addresses = (guard.look_up)(host.to_owned()).await?;
            // One bad address condemns the name: it is not the client's turn to choose among them.
            for address in &addresses {
                guard.address(host, address.ip())?;
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
