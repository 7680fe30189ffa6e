//! Where a service runs, and what the gateway shows there.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use http::HeaderValue;

use super::Compiler;
use crate::credentials::assertion::Assertion;
use crate::credentials::client_credentials::ClientCredentials;
use crate::credentials::exchange::Exchange;
use crate::credentials::provider_token::OfProvider;
use crate::credentials::token_endpoint::{TokenEndpoint, TokenRequest};
use crate::egress::names;
use crate::engine::clock::Clock;
use crate::engine::credential::{CredentialCache, Credentials, Holder, Kind, Obtain, ProviderTokens};
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::{Credential, CredentialSource, Prepared, Published, Timeouts, Transport, Upstream};
use crate::policy::model::{Credential as Written, CredentialSource as Source, Upstream as Model};

/// Credentials that are obtained, by service. They outlive a reload that does not change how.
#[derive(Debug)]
pub(super) struct Obtained {
    cache: Arc<CredentialCache>,
    tokens: Arc<dyn ProviderTokens>,
    running: HashMap<String, (Written, Arc<Credentials>)>,
}

impl Obtained {
    /// `tokens` keeps those of providers.
    pub(super) fn new(clock: Arc<dyn Clock>, tokens: Arc<dyn ProviderTokens>) -> Self {
        Self { cache: Arc::new(CredentialCache::new(clock)), tokens, running: HashMap::new() }
    }

    pub(super) fn cache(&self) -> &Arc<CredentialCache> {
        &self.cache
    }

    /// What was obtained through another client or with other keys is obtained anew.
    pub(super) fn forget(&mut self) {
        self.running.clear();
    }

    /// Keeps what services of these names have.
    pub(super) fn retain(&mut self, is_served: impl Fn(&str) -> bool) {
        self.running.retain(|service, _| is_served(service));
    }
}

impl Compiler {
    /// Where requests to `service` go, and how.
    pub(super) fn upstream(&mut self, service: &str, model: &Model) -> Result<Upstream, Denial> {
        let host = (model.url.host().to_owned(), model.url.port());
        let runtime = &self.surroundings.runtime;
        let servers = &self.name_servers;
        let pending = &mut self.pending;
        let follow = |(host, port): &(String, u16)| names::follow(host, *port, servers, runtime, pending);
        let addresses = Arc::clone(self.names.entry(host).or_insert_with_key(follow));
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
        let credential = model.credential.as_ref().map(|credential| self.credential(service, credential));
        Ok(Upstream {
            addresses,
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

    /// The keys that a service publishes for its upstream.
    pub(super) fn published(&mut self, model: &Model) -> Result<Option<Published>, Denial> {
        match model.credential.as_ref().map(|credential| &credential.source) {
            Some(Source::Assertion(_, algorithm)) => {
                self.workshop.published(*algorithm, &self.surroundings.clock).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn credential(&mut self, service: &str, written: &Written) -> Result<Credential, Denial> {
        let source = match &written.source {
            Source::Secret(held) => {
                let value = [written.prefix.as_bytes(), held.secret.expose()].concat();
                let mut value = HeaderValue::from_bytes(&value)
                    .map_err(|error| Denial::new(Reason::ProviderRemoved).because(error.to_string()))?;
                value.set_sensitive(true);
                CredentialSource::Fixed(value)
            }
            _ => CredentialSource::Obtained(self.obtained(service, written)?),
        };
        Ok(Credential { header: written.header.clone(), source })
    }

    /// The running credentials of a service, or new ones when they are written otherwise than before.
    fn obtained(&mut self, service: &str, written: &Written) -> Result<Arc<Credentials>, Denial> {
        if let Some((before, running)) = self.obtained.running.get(service)
            && before == written
        {
            return Ok(Arc::clone(running));
        }
        let shared = Arc::clone(&self.surroundings.clock);
        let clock = || Arc::clone(&shared);
        let endpoint = |request: &TokenRequest| {
            TokenEndpoint::new(request, Arc::clone(&self.surroundings.fetch), Arc::clone(&self.surroundings.clock))
        };
        let (kind, holder, obtain): (_, _, Arc<dyn Obtain>) = match &written.source {
            Source::Secret(_) => return Err(Denial::new(Reason::Internal)),
            Source::ClientCredentials(request) => {
                let obtain = ClientCredentials::new(endpoint(request)?, clock());
                (Kind::ClientCredentials, Holder::Service, Arc::new(obtain))
            }
            Source::Exchange(request) => {
                let obtain = Exchange::new(endpoint(request)?, Arc::clone(&self.obtained.tokens), clock());
                (Kind::Exchange, Holder::Caller, Arc::new(obtain))
            }
            Source::ProviderToken => {
                let obtain = OfProvider::new(Arc::clone(&self.obtained.tokens), clock());
                (Kind::ProviderToken, Holder::Caller, Arc::new(obtain))
            }
            Source::Assertion(settings, algorithm) => {
                let Published { keyring, vault } = self.workshop.published(*algorithm, &self.surroundings.clock)?;
                let obtain = Assertion::new(settings.clone(), vault, keyring, clock());
                (Kind::Assertion, Holder::Caller, Arc::new(obtain))
            }
        };
        let (cache, runtime) = (&self.obtained.cache, self.surroundings.runtime.clone());
        let running = Arc::new(Credentials::new(kind, holder, written.prefix.clone(), obtain, cache, runtime));
        self.obtained.running.insert(service.to_owned(), (written.clone(), Arc::clone(&running)));
        Ok(running)
    }
}
