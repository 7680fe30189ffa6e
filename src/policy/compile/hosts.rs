//! How clients spell a host, and what they find on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::routes::RouteTable;
use crate::engine::service::Service;
use crate::policy::model::Installation;

/// A client may write the scheme's default port into `Host`.
fn spellings(host: &str, installation: &Installation) -> Vec<String> {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    if has_port {
        return vec![host.to_owned()];
    }
    let plain = installation.public_url.as_ref().is_some_and(|url| url.url().scheme() == "http");
    vec![host.to_owned(), format!("{host}:{}", if plain { 80 } else { 443 })]
}

/// Host and path to service.
pub fn routes(services: &[Arc<Service>], model: &Installation) -> RouteTable {
    let mut hosts: BTreeMap<&str, Vec<&Arc<Service>>> = BTreeMap::new();
    for service in services {
        hosts.entry(&service.host).or_default().push(service);
    }
    let mut routes = RouteTable::default();
    for (host, services) in hosts {
        spellings(host, model).iter().for_each(|host| routes.insert(host, &services));
    }
    routes.elect_defaults(model.default_service.as_deref());
    routes
}
