//! Everything compiled, swapped as a whole.

use std::sync::Arc;

use ipnet::IpNet;

use super::limits::AddressLimit;
use super::routes::RouteTable;
use super::service::Service;
use super::session::Sealer;
use super::store::Store;
use super::vault::Vault;

/// Who may ask the admin listener.
#[derive(Debug, PartialEq, Eq)]
pub struct AdminAccess {
    /// SHA-256 of what callers must show; `None` where being on this machine is enough.
    pub token: Option<[u8; 32]>,
    /// Names, beside addresses and `localhost`, under which it may be asked.
    pub hosts: Vec<String>,
}

/// One generation of the whole configuration. A request keeps the snapshot that it began with.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with every swap, from 1.
    pub generation: u64,
    /// SHA-256 over all files that it was made from, in hex.
    pub hash: String,
    /// The services, in the order of their names.
    pub services: Vec<Arc<Service>>,
    /// Host and path to service.
    pub routes: RouteTable,
    /// Whether clients reach every service over https.
    pub public_https: bool,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Failures per address before anything is verified.
    pub address_limit: Arc<AddressLimit>,
    /// Requests at once, above which new ones are shed.
    pub requests_in_flight: usize,
    /// Where flow state is kept, to tell how it is.
    pub store: Arc<dyn Store>,
    /// Keeps who made which task.
    pub tasks: Arc<Vault>,
    /// Seals session ids with the secrets of the installation, when it has any.
    pub sealer: Option<Arc<Sealer>>,
    /// Claims that the audit record may name.
    pub logged_claims: Vec<String>,
    /// Arguments that the audit record may name.
    pub logged_arguments: Vec<String>,
    /// Who may ask the admin listener; `None` without one.
    pub admin: Option<Arc<AdminAccess>>,
}

impl Snapshot {
    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        let place = self.services.binary_search_by(|service| (*service.name).cmp(name)).ok()?;
        self.services.get(place)
    }
}
