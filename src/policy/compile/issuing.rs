//! What the authorization servers of an installation work with, and keep across reloads: rows, keys, revocations, limits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::engine::clock::Clock;
use crate::engine::credential::CredentialCache;
use crate::engine::decision::{Denial, Reason};
use crate::engine::desk::Desk;
use crate::engine::documents::Documents;
use crate::engine::issuing::{Issuing, Throttle, Works};
use crate::engine::keyring::Keyring;
use crate::engine::limits::Shared;
use crate::engine::provider::Provider;
use crate::engine::revocations::Revocations;
use crate::engine::service::Published;
use crate::engine::session::Sealer;
use crate::engine::standing::Standing;
use crate::engine::store::Store;
use crate::engine::vault::{RandomFailed, Vault, VaultError, random};
use crate::oauth::jws::Algorithm;
use crate::oauth::server_metadata::ServerMetadata;
use crate::policy::model::{AuthorizationServer, Service};
use crate::providers::Surroundings;
use crate::providers::own::Own;
use crate::secret::Held;
use crate::stores::{self, OpenError, Opened, Settings};

/// How often is looked for revocations of other replicas. A stream looks at its token every four seconds, and must end within
/// five.
const REVOCATIONS: Duration = Duration::from_millis(500);
/// How often they are read even if none has changed, to forget those that have ended.
const REREAD: u32 = 120;

/// How long a start waits for the first reading.
const FIRST: Duration = Duration::from_secs(2);

/// Everything that outlives a snapshot.
#[derive(Debug)]
pub(super) struct Workshop {
    clock: Arc<dyn Clock>,
    store: Opened,
    /// Whether the installation's store is still to be opened, which is done once.
    opens: bool,
    secrets: Vec<Held>,
    sealer: Option<Arc<Sealer>>,
    /// What seals while no secret is named. It is made when it is needed, and opens its rows for as long as the process runs.
    random: Option<[u8; 32]>,
    vault: Option<Arc<Vault>>,
    keyrings: Vec<Arc<Keyring>>,
    revocations: Arc<Revocations>,
    desk: Arc<Desk>,
    documents: Arc<Documents>,
    throttle: Arc<Throttle>,
    own: HashMap<Arc<str>, Issuer>,
    follower: Option<Follower>,
}

/// The provider of the tokens of one service, kept while nothing about it changes: what was verified stays verified.
#[derive(Debug)]
struct Issuer {
    service: String,
    algorithm: Algorithm,
    standing: Arc<Standing>,
    provider: Arc<dyn Provider>,
}

/// Work in the background that ends with its owner.
#[derive(Debug)]
struct Follower {
    task: AbortHandle,
    /// How many it follows.
    keyrings: usize,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Workshop {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let revocations: Arc<Revocations> = Arc::default();
        Self {
            desk: Arc::new(Desk::new(Arc::clone(&revocations))),
            store: Opened::memory(Arc::clone(&clock)),
            clock,
            opens: false,
            secrets: Vec::new(),
            sealer: None,
            random: None,
            vault: None,
            keyrings: Vec::new(),
            revocations,
            documents: Arc::default(),
            throttle: Arc::default(),
            own: HashMap::new(),
            follower: None,
        }
    }

    /// What is revoked.
    pub(super) fn revocations(&self) -> Arc<Revocations> {
        Arc::clone(&self.revocations)
    }

    /// What an operator works with.
    pub(super) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// The store of the first installation is opened.
    pub(super) fn will_open(&mut self) {
        self.opens = true;
    }

    /// Opens the store, if that is still to be done. Other secrets are another vault over the same rows.
    pub(super) fn take_over(&mut self, store: &Settings, secrets: &[Held], runtime: &Handle) -> Result<(), OpenError> {
        if self.opens {
            self.store = stores::open(store, Arc::clone(&self.clock), runtime)?;
            self.opens = false;
            if self.store.is_durable {
                self.revocations.await_store();
            }
        } else {
            self.store.renew(store);
        }
        if secrets != self.secrets {
            self.secrets = secrets.to_vec();
            let secrets: Vec<&[u8]> = secrets.iter().map(|held| held.secret.expose()).collect();
            self.sealer = Sealer::derived(&secrets).ok().map(Arc::new);
            self.forget_vault();
        }
        Ok(())
    }

    /// Where rows are kept.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store.store)
    }

    /// Where the makers of tasks are kept.
    pub(super) fn tasks(&mut self) -> Result<Arc<Vault>, RandomFailed> {
        let clock = Arc::clone(&self.clock);
        self.vault(&clock)
    }

    /// Seals session ids with the secrets of the installation; without any, the process does by itself.
    pub(super) fn sealer(&self) -> Option<Arc<Sealer>> {
        self.sealer.clone()
    }

    /// Who counts the limits of a service for all replicas, where there can be several.
    pub(super) fn shared(&mut self, service: &str) -> Result<Option<Shared>, RandomFailed> {
        let Some(counts) = self.store.counts() else { return Ok(None) };
        let clock = Arc::clone(&self.clock);
        Ok(Some(Shared { counts, vault: self.vault(&clock)?, service: service.into() }))
    }

    /// Whether the vault is one of these secrets already.
    pub(super) fn seals_by(&self, secrets: &[Held]) -> bool {
        secrets == self.secrets
    }

    /// What was fetched through another client is fetched anew.
    pub(super) fn forget_fetch(&mut self) {
        self.documents = Arc::default();
    }

    fn forget_vault(&mut self) {
        self.vault = None;
        self.own.clear();
        self.follower = None;
    }

    fn vault(&mut self, clock: &Arc<dyn Clock>) -> Result<Arc<Vault>, RandomFailed> {
        if let Some(vault) = &self.vault {
            return Ok(Arc::clone(vault));
        }
        if self.secrets.is_empty() && self.random.is_none() {
            self.random = Some(random()?);
        }
        let secrets = self.secrets.iter().map(|held| held.secret.expose());
        let secrets: Vec<&[u8]> = secrets.chain(self.random.as_ref().map(<[u8; 32]>::as_slice)).collect();
        let vault = Arc::new(Vault::new(Arc::clone(&self.store.store), Arc::clone(clock), &secrets)?);
        self.vault = Some(Arc::clone(&vault));
        self.desk.work_with(Arc::clone(&vault));
        Ok(vault)
    }

    /// What signs assertions, with keys that are published.
    pub(super) fn published(&mut self, algorithm: Algorithm, clock: &Arc<dyn Clock>) -> Result<Published, Denial> {
        let vault = self.vault(clock).map_err(|error| Denial::new(Reason::Internal).because(error.to_string()))?;
        Ok(Published { keyring: self.keyring(algorithm), vault })
    }

    fn keyring(&mut self, algorithm: Algorithm) -> Arc<Keyring> {
        if let Some(known) = self.keyrings.iter().find(|keyring| keyring.algorithm() == algorithm) {
            return Arc::clone(known);
        }
        let keyring = Arc::new(Keyring::new(algorithm));
        self.keyrings.push(Arc::clone(&keyring));
        keyring
    }

    /// The authorization server of a service, and the provider that vouches for its tokens.
    pub(super) fn issuing(
        &mut self,
        model: &Service,
        server: &AuthorizationServer,
        surroundings: &Surroundings,
    ) -> Result<(Arc<Issuing>, Arc<dyn Provider>), Denial> {
        let vault = self.vault(&surroundings.clock);
        let vault = vault.map_err(|error| Denial::new(Reason::Internal).because(error.to_string()))?;
        let works = Works {
            vault,
            keyring: self.keyring(server.algorithm),
            revocations: Arc::clone(&self.revocations),
            fetch: Arc::clone(&surroundings.fetch),
            clock: Arc::clone(&surroundings.clock),
            documents: Arc::clone(&self.documents),
            throttle: Arc::clone(&self.throttle),
        };
        let issuer: Arc<str> = model.resource.as_str().into();
        let AuthorizationServer { sign_in, clients, registration, client_documents, .. } = server;
        let standing = Arc::new(Standing::new(sign_in, clients, *registration, *client_documents));
        let provider = self.provider(&model.name, &issuer, server.algorithm, (&works, &standing));
        let metadata = ServerMetadata {
            issuer: &issuer,
            scopes: &model.default_scopes,
            algorithm: server.algorithm,
            registration: server.registration,
            client_documents: server.client_documents,
            client_credentials: server.clients.iter().any(|client| client.grants.service),
        };
        let issuing = Issuing {
            service: model.name.as_str().into(),
            metadata: metadata.to_bytes(),
            title: model.title.clone(),
            redirects: server.redirects.clone(),
            clients: server.clients.clone(),
            registration: server.registration,
            client_documents: server.client_documents,
            remember: server.remember,
            claims: server.claims.clone(),
            scopes: server.scopes.clone(),
            lifetimes: server.lifetimes,
            sign_in: server.sign_in.clone(),
            standing,
            issuer,
            works,
        };
        Ok((Arc::new(issuing), provider))
    }

    fn provider(
        &mut self,
        service: &str,
        issuer: &Arc<str>,
        algorithm: Algorithm,
        (works, standing): (&Works, &Arc<Standing>),
    ) -> Arc<dyn Provider> {
        let is_same =
            |known: &&Issuer| known.service == service && known.algorithm == algorithm && known.standing == *standing;
        if let Some(known) = self.own.get(issuer).filter(is_same) {
            return Arc::clone(&known.provider);
        }
        let provider: Arc<dyn Provider> = Arc::new(Own::new(service, Arc::clone(issuer), works, Arc::clone(standing)));
        let standing = Arc::clone(standing);
        let running = Issuer { service: service.to_owned(), algorithm, standing, provider: Arc::clone(&provider) };
        self.own.insert(Arc::clone(issuer), running);
        provider
    }

    /// Keeps what the services at these issuers need, and follows what is revoked.
    pub(super) fn settle(&mut self, issuers: &[&str], credentials: &Arc<CredentialCache>, runtime: &Handle) {
        self.own.retain(|issuer, _| issuers.contains(&&**issuer));
        let keyrings = self.keyrings.len();
        if self.follower.as_ref().is_some_and(|follower| follower.keyrings == keyrings) {
            return;
        }
        let clock = Arc::clone(&self.clock);
        match self.vault(&clock) {
            Ok(vault) => {
                let revocations = Arc::clone(&self.revocations);
                let (tried, first) = sync_channel(1);
                let following = follow(vault, revocations, self.keyrings.clone(), Arc::clone(credentials), tried);
                self.follower = Some(Follower { task: runtime.spawn(following).abort_handle(), keyrings });
                if !self.revocations.are_known() {
                    // Or the first requests would be refused. A store that cannot be asked holds up no start.
                    let _ = first.recv_timeout(FIRST);
                }
            }
            Err(error) => tracing::error!(event = "revocations-unread", %error, "nothing can be revoked"),
        }
    }
}

async fn follow(
    vault: Arc<Vault>,
    revocations: Arc<Revocations>,
    keyrings: Vec<Arc<Keyring>>,
    credentials: Arc<CredentialCache>,
    tried: SyncSender<()>,
) {
    let mut every = tokio::time::interval(REVOCATIONS);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost = false;
    for round in 0_u32.. {
        every.tick().await;
        let outcome = read(&vault, &revocations, &keyrings, round).await;
        match &outcome {
            Err(error) if !lost => {
                tracing::warn!(event = "revocations-unread", %error, "what was known stays known, and is not saved");
            }
            Ok(()) if lost => tracing::info!(event = "revocations-read", "revocations are read again"),
            _ => {}
        }
        lost = outcome.is_err();
        let _ = tried.try_send(());
        credentials.drop_revoked(&revocations);
    }
}

/// Reads the signing keys that are in use, and what is revoked; and saves of that what the store does not hold.
async fn read(
    vault: &Vault,
    revocations: &Revocations,
    keyrings: &[Arc<Keyring>],
    round: u32,
) -> Result<(), VaultError> {
    for keyring in keyrings {
        if keyring.refresh(vault).await? {
            tracing::warn!(
                event = "store-emptied",
                "the store has forgotten everything: whoever signed in does so again"
            );
        }
    }
    if round.is_multiple_of(REREAD) {
        revocations.reread(vault).await?
    } else {
        revocations.refresh(vault).await?
    }
    revocations.save(vault).await
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::engine::clock::SystemClock;
    use crate::engine::fetch::{Fetch, FetchError, Target};
    use crate::engine::store::Table;
    use crate::secret::SecretRef;

    #[derive(Debug)]
    struct Nothing;

    #[async_trait]
    impl Fetch for Nothing {
        async fn get(&self, url: &url::Url) -> Result<Bytes, FetchError> {
            Err(FetchError { url: url.to_string(), cause: String::new() })
        }
        async fn send(&self, _: Target, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, FetchError> {
            Err(FetchError { url: request.uri().to_string(), cause: String::new() })
        }
    }

    fn workshop() -> (Workshop, Arc<dyn Clock>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut workshop = Workshop::new(Arc::clone(&clock));
        workshop.take_over(&Settings::Memory, &[], &Handle::current()).unwrap();
        (workshop, clock)
    }

    fn held(folder: &tempfile::TempDir, text: &str) -> Held {
        let path = folder.path().join(text.get(..1).unwrap_or_default());
        std::fs::write(&path, text).unwrap();
        let from = SecretRef::File(path);
        Held { secret: from.read().unwrap(), from }
    }

    fn works(workshop: &mut Workshop, clock: &Arc<dyn Clock>) -> Works {
        Works {
            vault: workshop.vault(clock).unwrap(),
            keyring: workshop.keyring(Algorithm::Es256),
            revocations: Arc::clone(&workshop.revocations),
            fetch: Arc::new(Nothing),
            clock: Arc::clone(clock),
            documents: Arc::clone(&workshop.documents),
            throttle: Arc::clone(&workshop.throttle),
        }
    }

    #[tokio::test]
    async fn rows_outlive_every_change_of_keys_that_leaves_the_one_that_sealed_them() {
        let (mut workshop, clock) = workshop();
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (held(&folder, &"a".repeat(40)), held(&folder, &"b".repeat(40)));
        let row = async |vault: &Vault, name: &str| {
            vault.get::<String>(Table::Clients, name).await.unwrap().map(|entry| entry.value)
        };
        let vault = workshop.vault(&clock).unwrap();
        vault.add(Table::Clients, "random", &"kept", 60, "").await.unwrap();
        workshop.take_over(&Settings::Memory, &[], &Handle::current()).unwrap();
        assert!(Arc::ptr_eq(&vault, &workshop.vault(&clock).unwrap()), "nothing changed");
        workshop.take_over(&Settings::Memory, std::slice::from_ref(&first), &Handle::current()).unwrap();
        let vault = workshop.vault(&clock).unwrap();
        assert_eq!(row(&vault, "random").await.as_deref(), Some("kept"));
        vault.add(Table::Clients, "first", &"kept", 60, "").await.unwrap();
        workshop.take_over(&Settings::Memory, &[second.clone(), first], &Handle::current()).unwrap();
        let vault = workshop.vault(&clock).unwrap();
        assert_eq!(row(&vault, "random").await.as_deref(), Some("kept"));
        assert_eq!(row(&vault, "first").await.as_deref(), Some("kept"));
        workshop.take_over(&Settings::Memory, &[second], &Handle::current()).unwrap();
        let vault = workshop.vault(&clock).unwrap();
        assert_eq!(row(&vault, "first").await, None, "a key that is taken away opens nothing");
        assert_eq!(row(&vault, "random").await.as_deref(), Some("kept"));
    }

    #[tokio::test]
    async fn the_gateways_own_provider_stays_the_same_while_nothing_about_it_changes() {
        let (mut workshop, clock) = workshop();
        let folder = tempfile::tempdir().unwrap();
        let issuer: Arc<str> = "https://m.example/a".into();
        let before = works(&mut workshop, &clock);
        let nobody: Arc<Standing> = Arc::default();
        let one = workshop.provider("a", &issuer, Algorithm::Es256, (&before, &nobody));
        let again = workshop.provider("a", &issuer, Algorithm::Es256, (&before, &Arc::default()));
        assert_eq!(one.generation(), again.generation());
        let algorithm = workshop.provider("a", &issuer, Algorithm::EdDsa, (&before, &nobody));
        assert_ne!(one.generation(), algorithm.generation());
        let other = workshop.provider("b", &issuer, Algorithm::EdDsa, (&before, &nobody));
        assert_ne!(other.generation(), algorithm.generation());
        let open = Arc::new(Standing::new(&[], &[], true, true));
        let others = workshop.provider("b", &issuer, Algorithm::EdDsa, (&before, &open));
        assert_ne!(other.generation(), others.generation(), "what was verified of people is verified anew");
        workshop.take_over(&Settings::Memory, &[held(&folder, &"a".repeat(40))], &Handle::current()).unwrap();
        let after = works(&mut workshop, &clock);
        let anew = workshop.provider("b", &issuer, Algorithm::EdDsa, (&after, &open));
        assert_ne!(anew.generation(), others.generation());
        assert!(Arc::ptr_eq(&before.keyring, &after.keyring) && Arc::ptr_eq(&before.throttle, &after.throttle));
        assert!(Arc::ptr_eq(&before.revocations, &after.revocations));
    }

    #[tokio::test]
    async fn revocations_of_other_replicas_are_read() {
        let (mut workshop, clock) = workshop();
        let vault = workshop.vault(&clock).unwrap();
        let elsewhere = Revocations::default();
        let credentials = Arc::new(CredentialCache::new(Arc::clone(&clock)));
        workshop.settle(&["https://m.example/a"], &credentials, &Handle::current());
        elsewhere.revoke(&vault, "grant", 600).await.unwrap();
        assert!(!workshop.revocations.contains("grant"));
        let read = async {
            while !workshop.revocations.contains("grant") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(REVOCATIONS * 20, read).await.unwrap();
        workshop.settle(&[], &credentials, &Handle::current());
        elsewhere.revoke(&vault, "another", 600).await.unwrap();
        let read = async {
            while !workshop.revocations.contains("another") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(REVOCATIONS * 20, read).await.expect("tokens of others are revoked too");
    }
}
