//! From what policies mean to what runs. What did not change is shared with the snapshot before, not made again.

mod hosts;
mod issuing;
mod limits;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _, HashSet};
use sha2::{Digest, Sha256};

use self::issuing::Workshop;
use self::upstream::Obtained;
use super::load::{Claim, Good};
use super::model::{Egress as EgressModel, Installation, LimitSpec, Service as Model};
use crate::diagnostics::Diagnostic;
use crate::egress::names::{self, Addresses, Pending};
use crate::egress::{Egress, EgressError, EgressSettings};
use crate::engine::authentication::{Accepted, AudienceCheck, Authentication};
use crate::engine::clock::Clock;
use crate::engine::counters::ServiceCounts;
use crate::engine::credential::ProviderTokens;
use crate::engine::decision::{Denial, Reason};
use crate::engine::desk::Desk;
use crate::engine::limits::{AddressLimit, LimitState};
use crate::engine::provider::Provider;
use crate::engine::service::{Pipeline, Service, State};
use crate::engine::snapshot::Snapshot;
use crate::engine::token_cache::TokenCache;
use crate::oauth::metadata::ResourceMetadata;
use crate::providers::{Definition, Surroundings};
use crate::shared::Shared;
use crate::stages;

use super::codes;

/// Seconds by which the clocks of two replicas may be apart when one judges what the other issued.
const OWN_LEEWAY: i64 = 5;

/// One service on its way into a snapshot.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it means.
    pub good: Arc<Good<Model>>,
    /// Why it is not open, when it is not.
    pub closed: Option<Reason>,
}

/// Makes snapshots, and keeps what outlives them: key stores, caches, the fill of limits.
#[derive(Debug)]
pub struct Compiler {
    surroundings: Surroundings,
    egress: EgressModel,
    cache: Arc<TokenCache>,
    providers: HashMap<String, (Arc<Definition>, Arc<dyn Provider>)>,
    services: HashMap<[u8; 32], Arc<Service>>,
    limits: HashMap<String, Vec<(LimitSpec, Arc<LimitState>)>>,
    name_servers: Vec<SocketAddr>,
    names: HashMap<(String, u16), Addresses>,
    pending: Pending,
    address_limit: Option<Arc<AddressLimit>>,
    counts: Shared<String, ServiceCounts>,
    workshop: Workshop,
    obtained: Obtained,
    /// The gateway's own client ids, by the issuer whose ID tokens are for them.
    sign_in_clients: BTreeMap<String, BTreeSet<String>>,
    generation: u64,
}

impl Compiler {
    /// A compiler whose providers work on `runtime`; `tokens` keeps the tokens of those who sign people in.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(
        runtime: tokio::runtime::Handle,
        clock: Arc<dyn Clock>,
        tokens: Arc<dyn ProviderTokens>,
    ) -> Result<Self, EgressError> {
        let egress = EgressModel::default();
        let fetch = Arc::new(client(&egress)?);
        Ok(Self {
            cache: Arc::new(TokenCache::new(Arc::clone(&clock))),
            workshop: Workshop::new(Arc::clone(&clock)),
            obtained: Obtained::new(Arc::clone(&clock), tokens),
            sign_in_clients: BTreeMap::new(),
            surroundings: Surroundings { fetch, clock, runtime },
            egress,
            providers: HashMap::new(),
            services: HashMap::new(),
            limits: HashMap::new(),
            name_servers: Vec::new(),
            names: HashMap::new(),
            pending: Pending::default(),
            address_limit: None,
            counts: Shared::new(),
            generation: 0,
        })
    }

    /// Opens the installation's store, for a gateway that serves. Whoever only looks leaves it alone: a running gateway may
    /// have it to itself.
    #[must_use]
    pub fn with_store(mut self) -> Self {
        self.workshop.will_open();
        self
    }

    /// What an operator works with, for as long as the process runs.
    #[must_use]
    pub fn desk(&self) -> Arc<Desk> {
        self.workshop.desk()
    }

    /// Compiles everything into the next snapshot; what is only claimed is closed.
    ///
    /// # Errors
    /// The installation's own settings cannot be used.
    pub fn snapshot(
        &mut self,
        installation: &Good<Installation>,
        entries: &[Entry],
        claims: &[Claim],
    ) -> Result<Snapshot, Diagnostic> {
        let model = &installation.model;
        self.take_over_egress(&model.egress)
            .map_err(|error| Diagnostic::error(codes::INVALID_CERTIFICATE, error.to_string()))?;
        self.take_over_name_servers(&model.name_servers);
        self.take_over_sign_in_clients(model, entries);
        let store = model.store.clone().unwrap_or_default();
        if !self.workshop.seals_by(&model.encryption_keys) {
            self.obtained.forget();
        }
        self.workshop.take_over(&store, &model.encryption_keys, &self.surroundings.runtime).map_err(|error| {
            let diagnostic = Diagnostic::error(codes::STORE_UNUSABLE, error.message).help(error.help);
            installation.places.iter().fold(diagnostic, |diagnostic, place| diagnostic.at(place.clone()))
        })?;
        let tasks =
            self.workshop.tasks().map_err(|error| Diagnostic::error(codes::STORE_UNUSABLE, error.to_string()))?;
        let mut services: Vec<Arc<Service>> = Vec::with_capacity(entries.len());
        let mut kept = HashMap::with_capacity(entries.len());
        let mut hash = Sha256::new().chain_update(installation.hash);
        for entry in entries {
            let service = self.service(entry);
            if entry.closed.is_none() {
                kept.insert(entry.good.hash, Arc::clone(&service));
            }
            hash.update(entry.good.hash);
            services.push(service);
        }
        for claim in claims {
            hash.update([&claim.name, &claim.host, &claim.path].map(String::as_str).join("\n"));
            services.push(Arc::new(Service {
                name: claim.name.as_str().into(),
                host: claim.host.clone(),
                path: claim.path.clone(),
                state: State::Closed(Reason::ServiceClosed),
                counts: self.counts(&claim.name),
            }));
        }
        // Every look-up is under way by now.
        std::mem::take(&mut self.pending).wait();
        self.services = kept;
        self.forget(entries);
        services.sort_by(|one, other| one.name.cmp(&other.name));
        let routes = hosts::routes(&services, model);
        let is_https = |entry: &Entry| entry.good.model.resource.origin().starts_with("https:");
        let public_https = !entries.is_empty() && entries.iter().all(is_https);
        self.generation += 1;
        Ok(Snapshot {
            generation: self.generation,
            hash: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            services,
            routes,
            public_https,
            trusted_proxies: model.trusted_proxies.clone(),
            address_limit: self.address_limit(model.address_failures),
            requests_in_flight: model.requests_in_flight as usize,
            store: self.workshop.store(),
            tasks,
            sealer: self.workshop.sealer(),
            logged_claims: model.log.claims.clone(),
            logged_arguments: model.log.arguments.clone(),
            admin: model.admin.as_ref().map(|admin| Arc::clone(&admin.access)),
        })
    }

    /// A changed proxy or authority concerns every provider that fetches.
    fn take_over_egress(&mut self, egress: &EgressModel) -> Result<(), EgressError> {
        if *egress != self.egress {
            self.surroundings.fetch = Arc::new(client(egress)?);
            self.egress = egress.clone();
            self.providers.clear();
            self.services.clear();
            self.workshop.forget_fetch();
            self.obtained.forget();
        }
        Ok(())
    }

    /// Every name is asked of the new servers; until they answer, what the old ones said still serves.
    fn take_over_name_servers(&mut self, servers: &[SocketAddr]) {
        if servers == self.name_servers {
            return;
        }
        self.name_servers = servers.to_vec();
        self.services.clear();
        for ((host, port), addresses) in &mut self.names {
            let last = addresses.load_full();
            *addresses = names::follow(host, *port, servers, &self.surroundings.runtime, &mut self.pending);
            addresses.rcu(|found| Arc::clone(if found.is_empty() { &last } else { found }));
        }
    }

    /// What a provider tells the gateway about people who sign in is no access token, whichever file it was registered in.
    fn take_over_sign_in_clients(&mut self, installation: &Installation, entries: &[Entry]) {
        let shared = installation.providers.values().filter_map(|provider| provider.id_tokens.as_ref());
        let own = entries.iter().flat_map(|entry| &entry.good.model.id_tokens);
        let mut clients: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for tokens in shared.chain(own) {
            for issuer in &tokens.issuers {
                clients.entry(issuer.clone()).or_default().insert(tokens.client.clone());
            }
        }
        if clients != self.sign_in_clients {
            self.sign_in_clients = clients;
            self.services.clear();
        }
    }

    fn service(&mut self, entry: &Entry) -> Arc<Service> {
        if let (None, Some(service)) = (entry.closed, self.services.get(&entry.good.hash)) {
            return Arc::clone(service);
        }
        let model = &entry.good.model;
        let state = match entry.closed {
            Some(reason) => State::Closed(reason),
            None => match self.pipeline(model) {
                Ok(pipeline) => State::Open(Arc::new(pipeline)),
                Err(denial) => {
                    tracing::error!(
                        service = model.name,
                        reason = denial.reason.as_str(),
                        detail = denial.internal.as_deref(),
                        "service closed"
                    );
                    State::Closed(denial.reason)
                }
            },
        };
        let path = model.resource.path().to_owned();
        let (name, host, counts) = (model.name.as_str().into(), model.host.clone(), self.counts(&model.name));
        Arc::new(Service { name, host, path, state, counts })
    }

    /// What a service of this name has counted goes on.
    fn counts(&self, name: &str) -> Arc<ServiceCounts> {
        let Ok(counts) = self.counts.get_or_make(name, || Ok::<_, std::convert::Infallible>(ServiceCounts::default()));
        counts
    }

    fn pipeline(&mut self, model: &Model) -> Result<Pipeline, Denial> {
        let mut accepted = Vec::with_capacity(model.providers.len() + 1);
        let mut issuing = None;
        if let Some(server) = &model.authorization_server {
            let (server, provider) = self.workshop.issuing(model, server, &self.surroundings)?;
            accepted.push(Accepted { provider, leeway: OWN_LEEWAY, audience: AudienceCheck::Required });
            issuing = Some(server);
        }
        for definition in &model.providers {
            accepted.push(Accepted {
                provider: self.provider(definition)?,
                leeway: definition.leeway,
                audience: definition.audience_check(),
            });
        }
        let mut issuers: Vec<String> = Vec::new();
        match &issuing {
            Some(own) => issuers.push(own.issuer.to_string()),
            None => {
                let able = model.providers.iter().filter(|provider| provider.issues_to_clients());
                for issuer in able.filter_map(|provider| provider.issuer()) {
                    // One issuer may be two providers: keys for its JWTs, questions about its other tokens.
                    if !issuers.iter().any(|known| known == issuer) {
                        issuers.push(issuer.to_owned());
                    }
                }
            }
        }
        let metadata =
            ResourceMetadata::new(&model.resource, &issuers, &model.default_scopes).named(&model.title).to_bytes();
        Ok(Pipeline {
            stages: stages::build(&stages::Settings {
                origins: model.origins.clone(),
                sessions: model.revisions.accepts_legacy(),
            }),
            authentication: Authentication {
                providers: accepted,
                audiences: model.audiences.clone(),
                clients: model.clients.clone(),
                admission: model.admission,
                required_claims: model.required_claims.clone(),
                revocations: self.workshop.revocations(),
                cache: Arc::clone(&self.cache),
                clock: Arc::clone(&self.surroundings.clock),
            },
            body_limit: model.body_limit,
            revisions: model.revisions.clone(),
            access: Arc::clone(&model.access),
            limits: self.limits(model)?,
            upstream: self.upstream(&model.name, &model.upstream)?,
            published: self.published(&model.upstream)?,
            denials: model.denials,
            uri_form: model.uri_form,
            server_requests: model.server_requests.clone(),
            metadata_url: model.resource.metadata_url(),
            metadata,
            default_scopes: model.default_scopes.clone(),
            rule_places: model.rule_places.clone(),
            issuing,
        })
    }

    /// The running provider of this definition, or a new one: its keys and what was verified with them outlive a reload.
    fn provider(&mut self, definition: &Arc<Definition>) -> Result<Arc<dyn Provider>, Denial> {
        let clients = definition.issuer().and_then(|issuer| self.sign_in_clients.get(issuer));
        let definition = match clients {
            Some(clients) => &Arc::new(definition.refusing(clients)),
            None => definition,
        };
        if let Some((running, provider)) = self.providers.get(&definition.name)
            && running == definition
        {
            return Ok(Arc::clone(provider));
        }
        let provider = definition.start(&self.surroundings)?;
        self.providers.insert(definition.name.clone(), (Arc::clone(definition), Arc::clone(&provider)));
        Ok(provider)
    }

    fn address_limit(&mut self, (count, period): (u32, std::time::Duration)) -> Arc<AddressLimit> {
        let limit = match self.address_limit.take() {
            Some(limit) => Arc::new(limit.rescaled(count, period)),
            None => Arc::new(AddressLimit::new(count, period)),
        };
        self.address_limit = Some(Arc::clone(&limit));
        limit
    }

    /// Drops what no service uses any more; background work ends with it.
    fn forget(&mut self, entries: &[Entry]) {
        let models = || entries.iter().map(|entry| &entry.good.model);
        let providers: HashSet<&str> =
            models().flat_map(|model| &model.providers).map(|provider| provider.name.as_str()).collect();
        self.providers.retain(|name, _| providers.contains(name.as_str()));
        let hosts: HashSet<(&str, u16)> =
            models().map(|model| (model.upstream.url.host(), model.upstream.url.port())).collect();
        self.names.retain(|(host, port), _| hosts.contains(&(host.as_str(), *port)));
        let services: HashSet<&str> = models().map(|model| model.name.as_str()).collect();
        self.limits.retain(|name, _| services.contains(name.as_str()));
        self.obtained.retain(|name| services.contains(name));
        let issuers = models().filter(|model| model.authorization_server.is_some());
        let issuers: Vec<&str> = issuers.map(|model| model.resource.as_str()).collect();
        self.workshop.settle(&issuers, self.obtained.cache(), &self.surroundings.runtime);
    }
}

fn client(egress: &EgressModel) -> Result<Egress, EgressError> {
    Egress::new(&EgressSettings {
        ca: egress.ca.iter().map(|der| der.0.clone()).collect(),
        proxy: egress.proxy.clone(),
        allowed_hosts: egress.allowed_hosts.clone(),
        private_clients: egress.private_clients.clone(),
    })
}
