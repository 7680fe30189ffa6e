//! From what a policy says of its upstream to what requests are sent by.

use std::sync::Arc;

use http::HeaderValue;

use super::Compiler;
use crate::egress::names;
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::{Credential, Prepared, Timeouts, Transport, Upstream};
use crate::policy::model::Upstream as UpstreamModel;

impl Compiler {
    /// Where requests go, and how.
    pub(super) fn upstream(&mut self, model: &UpstreamModel) -> Result<Upstream, Denial> {
        let host = (model.url.host().to_owned(), model.url.port());
        let runtime = &self.surroundings.runtime;
        let servers = &self.name_servers;
        let pending = &mut self.pending;
        let follow = |(host, port): &(String, u16)| names::follow(host, *port, servers, runtime, pending);
        let addresses = self.names.entry(host).or_insert_with_key(follow);
        let transport = if model.url.is_https() {
            Transport::Tls {
                server_name: model.server_name.clone(),
                ca: model.ca.as_ref().map(|ca| ca.iter().map(|der| der.0.clone()).collect()),
                identity: model
                    .identity
                    .as_ref()
                    .map(|(chain, key)| (chain.iter().map(|der| der.0.clone()).collect(), key.0.clone())),
            }
        } else {
            Transport::Plain
        };
        let credential = model.credential.as_ref().map(|credential| {
            let value = [credential.prefix.as_bytes(), credential.secret.secret.expose()].concat();
            let mut value = HeaderValue::from_bytes(&value)
                .map_err(|error| Denial::new(Reason::ProviderRemoved).because(error.to_string()))?;
            value.set_sensitive(true);
            Ok::<_, Denial>(Credential { header: credential.header.clone(), value })
        });
        Ok(Upstream {
            addresses: Arc::clone(addresses),
            authority: model.url.authority().to_owned(),
            target: model.url.target(),
            transport,
            timeouts: Timeouts { connect: model.connect, read: model.read, tools: model.tools.clone() },
            response_limit: model.response_limit,
            list_limit: model.list_limit,
            credential: credential.transpose()?,
            identity_headers: model.identity_headers.clone(),
            forward_headers: model.forward_headers.clone(),
            prepared: Prepared::default(),
        })
    }
}
