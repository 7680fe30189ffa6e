//! What is revoked before its time: grants and tokens of the gateway's own, and whatever an operator names. It is looked at
//! on every request without asking the store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::store::Table;
use super::vault::{Vault, VaultError};
use crate::oauth::identity::Identity;

/// What may be revoked. A name means something only together with the issuer that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A grant or access token of the gateway's own, by its random id (`sid`, `jti`).
    Id(String),
    /// A subject.
    Subject {
        /// `iss`.
        issuer: String,
        /// `sub`.
        name: String,
    },
    /// A client.
    Client {
        /// `iss` of its tokens.
        issuer: String,
        /// `client_id` or `azp`.
        name: String,
    },
    /// One sign-in of a subject.
    Session {
        /// `iss`.
        issuer: String,
        /// `sid` (OpenID Connect Front-Channel Logout section 3).
        name: String,
    },
    /// One token, by the start of its SHA-256 in hex, as logs name it.
    Token(String),
}

impl Target {
    /// What its row is called.
    #[must_use]
    pub fn row_name(&self) -> String {
        let (kind, issuer, name) = match self {
            Self::Id(name) => return name.clone(),
            Self::Token(name) => return format!("token\n{name}"),
            Self::Subject { issuer, name } => ("subject", issuer, name),
            Self::Client { issuer, name } => ("client", issuer, name),
            Self::Session { issuer, name } => ("session", issuer, name),
        };
        format!("{kind}\n{issuer}\n{name}")
    }
}

/// One revocation as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// What.
    pub target: Target,
    /// Since when, in seconds since the epoch.
    pub since: i64,
    /// Until when.
    pub until: i64,
    /// Only what was issued before this second; `None` is everything.
    pub issued_before: Option<i64>,
}

/// Who asks, as far as it can be revoked.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: Option<&'a str>,
    /// The client.
    pub client: Option<&'a str>,
    /// `sid`.
    pub session: Option<&'a str>,
    /// How logs name the token.
    pub token: Option<&'a str>,
    /// When the token or grant was issued; what does not say so was issued before everything.
    pub issued: Option<i64>,
}

impl<'a> Asker<'a> {
    /// The caller that a token speaks for.
    #[must_use]
    pub fn of(identity: &'a Identity) -> Self {
        Self {
            issuer: &identity.issuer,
            subject: identity.subject.as_deref(),
            client: identity.client.as_deref(),
            session: identity.claims.get("sid").and_then(serde_json::Value::as_str),
            token: Some(&identity.token_name),
            issued: identity.claims.get("iat").and_then(serde_json::Value::as_i64),
        }
    }
}

/// How long, and of what.
#[derive(Debug, Clone, Copy)]
struct Extent {
    until: i64,
    issued_before: Option<i64>,
}

impl Extent {
    fn covers(&self, issued: Option<i64>, now: i64) -> bool {
        let issued_before = |before| issued.is_none_or(|issued| issued < before);
        now < self.until && self.issued_before.is_none_or(issued_before)
    }
}

/// By issuer, and by the name that it gave.
type Names = HashMap<String, HashMap<String, Extent>>;

/// Everything that is revoked, as last read. It is never changed, but replaced.
#[derive(Debug, Clone, Default)]
struct Known {
    ids: HashMap<String, Extent>,
    tokens: HashMap<String, Extent>,
    subjects: Names,
    clients: Names,
    sessions: Names,
}

impl Known {
    /// Where a target is known, and by which name.
    fn place<'a>(&mut self, target: &'a Target) -> (&mut HashMap<String, Extent>, &'a String) {
        let (names, issuer, name) = match target {
            Target::Id(name) => return (&mut self.ids, name),
            Target::Token(name) => return (&mut self.tokens, name),
            Target::Subject { issuer, name } => (&mut self.subjects, issuer, name),
            Target::Client { issuer, name } => (&mut self.clients, issuer, name),
            Target::Session { issuer, name } => (&mut self.sessions, issuer, name),
        };
        (names.entry(issuer.clone()).or_default(), name)
    }

    /// Everything with how long it is revoked.
    fn all(&self) -> Vec<(Target, Extent)> {
        let mut all: Vec<(Target, Extent)> = Vec::new();
        all.extend(self.ids.iter().map(|(name, extent)| (Target::Id(name.clone()), *extent)));
        all.extend(self.tokens.iter().map(|(name, extent)| (Target::Token(name.clone()), *extent)));
        let mut add = |names: &Names, target: fn(String, String) -> Target| {
            for (issuer, names) in names {
                all.extend(names.iter().map(|(name, extent)| (target(issuer.clone(), name.clone()), *extent)));
            }
        };
        add(&self.subjects, |issuer, name| Target::Subject { issuer, name });
        add(&self.clients, |issuer, name| Target::Client { issuer, name });
        add(&self.sessions, |issuer, name| Target::Session { issuer, name });
        all
    }

    fn insert(&mut self, revoked: &Revoked) {
        let extent = Extent { until: revoked.until, issued_before: revoked.issued_before };
        let (names, name) = self.place(&revoked.target);
        names.insert(name.clone(), extent);
    }

    fn remove(&mut self, target: &Target) {
        let (names, name) = self.place(target);
        names.remove(name);
    }
}

/// The revocations of an installation.
#[derive(Debug, Default)]
pub struct Revocations {
    known: ArcSwap<Known>,
    /// What the store does not hold, or not yet: reading the store takes none of it away.
    unsaved: Mutex<HashMap<Target, Revoked>>,
    /// One reads or writes the store at a time. How often the store's table had changed when it was last read.
    turn: tokio::sync::Mutex<Option<u64>>,
}

impl Revocations {
    /// Whether the grant or token of the gateway's own called `id` is revoked.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.known.load().ids.contains_key(id)
    }

    /// Whether an operator has revoked the caller that a token speaks for. It costs nothing while nothing is revoked so.
    #[must_use]
    pub fn covers_identity(&self, identity: &Identity, now: i64) -> bool {
        let known = self.known.load();
        let names = [&known.subjects, &known.clients, &known.sessions];
        let is_nothing = known.tokens.is_empty() && names.iter().all(|names| names.is_empty());
        !is_nothing && self.covers(&Asker::of(identity), now)
    }

    /// Whether an operator has revoked whoever asks.
    #[must_use]
    pub fn covers(&self, asker: &Asker<'_>, now: i64) -> bool {
        let known = self.known.load();
        let named = |names: &Names, name: Option<&str>| {
            let extent = name.and_then(|name| names.get(asker.issuer)?.get(name));
            extent.is_some_and(|extent| extent.covers(asker.issued, now))
        };
        let token = || asker.token.and_then(|token| known.tokens.get(token));
        (!known.subjects.is_empty() && named(&known.subjects, asker.subject))
            || (!known.clients.is_empty() && named(&known.clients, asker.client))
            || (!known.sessions.is_empty() && named(&known.sessions, asker.session))
            || (!known.tokens.is_empty() && token().is_some_and(|extent| extent.covers(asker.issued, now)))
    }

    /// Revokes a grant or token of the gateway's own for `lifetime` seconds: here at once, at other replicas when they next
    /// read.
    ///
    /// # Errors
    /// The store cannot keep it; the id is revoked here all the same, for as long.
    pub async fn revoke(&self, vault: &Vault, id: &str, lifetime: i64) -> Result<(), VaultError> {
        let now = vault.now();
        let until = now.saturating_add(lifetime);
        self.put(vault, Revoked { target: Target::Id(id.to_owned()), since: now, until, issued_before: None }).await
    }

    /// Puts a revocation in force, in place of what there was about its target.
    ///
    /// # Errors
    /// The store cannot keep it; it is in force here all the same.
    pub async fn put(&self, vault: &Vault, revoked: Revoked) -> Result<(), VaultError> {
        // Before it is seen, so that a reading under way finds it in one place or the other.
        self.unsaved().insert(revoked.target.clone(), revoked.clone());
        self.change(|known| known.insert(&revoked));
        let _turn = self.turn.lock().await;
        let (table, name) = (Table::Revocations, revoked.target.row_name());
        // What clients revoke leaves room for what an operator does.
        let owner = if matches!(revoked.target, Target::Id(_)) { "" } else { "operator" };
        let lifetime = revoked.until.saturating_sub(vault.now());
        // A row that is there may end between two looks, or be another replica's.
        for _ in 0..3 {
            let kept = match vault.get::<Revoked>(table, &name).await? {
                Some(entry) if entry.value == revoked => true,
                Some(entry) => vault.replace(table, &entry, &revoked, lifetime, owner).await?,
                None => vault.add(table, &name, &revoked, lifetime, owner).await?,
            };
            if kept {
                self.unsaved().remove(&revoked.target);
                return Ok(());
            }
        }
        Err(VaultError::Full)
    }

    /// Lifts a revocation. Returns whether there was one.
    ///
    /// # Errors
    /// The store cannot be asked; then it stays in force.
    pub async fn lift(&self, vault: &Vault, target: &Target) -> Result<bool, VaultError> {
        let _turn = self.turn.lock().await;
        let kept = vault.take::<Revoked>(Table::Revocations, &target.row_name()).await?.is_some();
        let unsaved = self.unsaved().remove(target).is_some();
        self.change(|known| known.remove(target));
        Ok(kept || unsaved)
    }

    /// Every revocation: what the store holds, and what it does not hold yet.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn list(&self, vault: &Vault) -> Result<Vec<Revoked>, VaultError> {
        let mut all: HashMap<Target, Revoked> = HashMap::new();
        let kept = vault.list::<Revoked>(Table::Revocations).await?;
        all.extend(kept.into_iter().chain(self.unsaved().values().cloned()).map(|one| (one.target.clone(), one)));
        Ok(all.into_values().collect())
    }

    /// Reads what is revoked, if it has changed. What this process could not save stays revoked.
    ///
    /// # Errors
    /// The store cannot be asked; what was known stays known.
    pub async fn refresh(&self, vault: &Vault) -> Result<(), VaultError> {
        let mut seen = self.turn.lock().await;
        // First this, then the rows: what changes in between is read again.
        let changes = vault.store().changes(Table::Revocations).await?;
        if *seen == Some(changes) {
            return Ok(());
        }
        self.read(vault).await?;
        *seen = Some(changes);
        Ok(())
    }

    /// Reads everything, whether it has changed or not: another vault may open more, and what has ended is forgotten.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh).
    pub async fn reread(&self, vault: &Vault) -> Result<(), VaultError> {
        let _turn = self.turn.lock().await;
        self.read(vault).await
    }

    async fn read(&self, vault: &Vault) -> Result<(), VaultError> {
        let rows = vault.list::<Revoked>(Table::Revocations).await?;
        self.known.rcu(|_| {
            let mut known = Known::default();
            rows.iter().for_each(|revoked| known.insert(revoked));
            let mut unsaved = self.unsaved();
            unsaved.retain(|_, revoked| revoked.until > vault.now());
            unsaved.values().for_each(|revoked| known.insert(revoked));
            known
        });
        Ok(())
    }

    /// Keeps everything that is known to be revoked, whatever the store says: it was emptied, and what it forgot must not
    /// come back to life. Ids of the gateway's own are kept for `lifetime` seconds at most: no token lives longer.
    pub fn keep(&self, vault: &Vault, lifetime: i64) {
        let now = vault.now();
        let mut unsaved = self.unsaved();
        for (target, extent) in self.known.load().all() {
            let longest = if matches!(target, Target::Id(_)) { now.saturating_add(lifetime) } else { i64::MAX };
            let Extent { until, issued_before } = extent;
            let revoked = Revoked { target: target.clone(), since: now, until: until.min(longest), issued_before };
            unsaved.entry(target).or_insert(revoked);
        }
    }

    fn change(&self, change: impl Fn(&mut Known)) {
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            change(&mut known);
            known
        });
    }

    fn unsaved(&self) -> MutexGuard<'_, HashMap<Target, Revoked>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
