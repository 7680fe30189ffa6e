//! What is revoked before its time: grants and tokens of the gateway's own, and whatever an operator names. It is looked at
//! on every request without asking the store.
//!
//! What this process knows to be revoked stays so until it ends or is lifted, whatever becomes of the store: what could not
//! be saved is saved later, and what a store has forgotten is saved again.

mod known;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use self::known::{Known, Names};
use super::store::Table;
use super::vault::{Vault, VaultError, random_text};
use crate::oauth::identity::Identity;

/// The row by which a store is known again: one that was emptied has it no more.
const MARK: &str = "store";
/// The mark stays for a hundred years.
const KEPT: i64 = 100 * 366 * 24 * 3600;
/// What waits to be saved is saved in parts of this size, so that nobody waits for long.
const AT_ONCE: usize = 200;

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
    /// Whether it is a grant or token of the gateway's own, which its client may revoke.
    fn is_id(&self) -> bool {
        matches!(self, Self::Id(_))
    }

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
    /// The same of its other spelling, where it has one: whoever revokes one means both.
    pub twin: Option<&'a str>,
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
            twin: identity.twin_name.as_deref(),
            issued: identity.claims.get("iat").and_then(serde_json::Value::as_i64),
        }
    }
}

/// The revocations of an installation.
#[derive(Debug, Default)]
pub struct Revocations {
    known: ArcSwap<Known>,
    /// What the store does not hold, or not yet: reading the store takes none of it away.
    unsaved: Mutex<HashMap<Target, Revoked>>,
    /// One reads or writes the store at a time.
    turn: tokio::sync::Mutex<Seen>,
    /// Whether there is a store that was never read.
    unread: AtomicBool,
}

/// The store when it was last read.
#[derive(Debug, Default)]
struct Seen {
    /// How often its table had changed.
    changes: Option<u64>,
    /// What its mark was.
    mark: Option<String>,
}

impl Revocations {
    /// There is a store that outlives the process: until it was read, nobody can be taken for not revoked.
    pub fn await_store(&self) {
        self.unread.store(true, Ordering::Release);
    }

    /// Whether it is known what is revoked.
    #[must_use]
    pub fn are_known(&self) -> bool {
        !self.unread.load(Ordering::Acquire)
    }

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
        let token = || asker.token.into_iter().chain(asker.twin).filter_map(|token| known.tokens.get(token));
        (!known.subjects.is_empty() && named(&known.subjects, asker.subject))
            || (!known.clients.is_empty() && named(&known.clients, asker.client))
            || (!known.sessions.is_empty() && named(&known.sessions, asker.session))
            || (!known.tokens.is_empty() && token().any(|extent| extent.covers(asker.issued, now)))
    }

    /// Revokes a grant or token of the gateway's own for `lifetime` seconds: here at once, at other replicas when they next
    /// read.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn revoke(&self, vault: &Vault, id: &str, lifetime: i64) -> Result<(), VaultError> {
        let now = vault.now();
        let until = now.saturating_add(lifetime);
        self.put(vault, Revoked { target: Target::Id(id.to_owned()), since: now, until, issued_before: None }).await
    }

    /// Puts a revocation in force, in place of what there was about its target.
    ///
    /// # Errors
    /// The store cannot keep it. It is in force here all the same, and saved when it can be; unless so many wait for that
    /// already that there is no room here either.
    pub async fn put(&self, vault: &Vault, revoked: Revoked) -> Result<(), VaultError> {
        self.remember(&revoked)?;
        let _turn = self.turn.lock().await;
        write(vault, &revoked, |_| false).await?;
        self.unsaved().remove(&revoked.target);
        Ok(())
    }

    /// What clients revoke leaves room for what an operator does, here as in the table.
    fn remember(&self, revoked: &Revoked) -> Result<(), VaultError> {
        let table = Table::Revocations;
        let most = if revoked.target.is_id() { table.share() } else { table.most() };
        {
            // Before it is seen, so that a reading under way finds it in one place or the other.
            let mut unsaved = self.unsaved();
            if unsaved.len() >= most && !unsaved.contains_key(&revoked.target) {
                return Err(VaultError::Full);
            }
            unsaved.insert(revoked.target.clone(), revoked.clone());
        }
        self.change(|known| known.insert(revoked));
        Ok(())
    }

    /// Saves some of what the store does not hold: it could not be asked when that was revoked, or has forgotten it since.
    ///
    /// # Errors
    /// The store cannot be asked, or has no room; what is left waits for the next time.
    pub async fn save(&self, vault: &Vault) -> Result<(), VaultError> {
        let waiting: Vec<Revoked> = {
            let unsaved = self.unsaved();
            // The share of what clients revoke may be full, and an operator's not.
            let (ids, named): (Vec<_>, Vec<_>) = unsaved.values().partition(|revoked| revoked.target.is_id());
            named.into_iter().chain(ids).take(AT_ONCE).cloned().collect()
        };
        for revoked in waiting {
            let _turn = self.turn.lock().await;
            // It may have been lifted since, or put anew.
            if self.unsaved().get(&revoked.target) != Some(&revoked) {
                continue;
            }
            // A newer word about the same, of another replica, stands.
            write(vault, &revoked, |kept| kept.since >= revoked.since).await?;
            self.unsaved().remove(&revoked.target);
        }
        Ok(())
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
        if seen.changes != Some(changes) {
            self.read(vault, &mut seen).await?;
            seen.changes = Some(changes);
        }
        Ok(())
    }

    /// Reads everything, whether it has changed or not: another vault may open more, and what has ended is forgotten.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh).
    pub async fn reread(&self, vault: &Vault) -> Result<(), VaultError> {
        let mut seen = self.turn.lock().await;
        self.read(vault, &mut seen).await
    }

    async fn read(&self, vault: &Vault, seen: &mut Seen) -> Result<(), VaultError> {
        let rows = vault.list::<Revoked>(Table::Revocations).await?;
        // After the rows: a store that was emptied before or meanwhile has lost its mark by now.
        let mark = mark(vault).await?;
        if seen.mark.is_some() && seen.mark != mark {
            tracing::warn!(event = "store-emptied", "what was revoked stays so, and is saved again");
            self.keep();
        }
        seen.mark = mark;
        self.known.rcu(|_| {
            let mut known = Known::default();
            rows.iter().for_each(|revoked| known.insert(revoked));
            let mut unsaved = self.unsaved();
            unsaved.retain(|_, revoked| revoked.until > vault.now());
            unsaved.values().for_each(|revoked| known.insert(revoked));
            known
        });
        self.unread.store(false, Ordering::Release);
        Ok(())
    }

    /// Keeps everything that is known to be revoked, whatever the store says.
    fn keep(&self) {
        let mut unsaved = self.unsaved();
        for revoked in self.known.load().all() {
            unsaved.entry(revoked.target.clone()).or_insert(revoked);
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

/// Writes a revocation into the store, unless what it holds about the same target `stands`.
async fn write(vault: &Vault, revoked: &Revoked, stands: impl Fn(&Revoked) -> bool) -> Result<(), VaultError> {
    let (table, name) = (Table::Revocations, revoked.target.row_name());
    let owner = if revoked.target.is_id() { "" } else { "operator" };
    let lifetime = revoked.until.saturating_sub(vault.now());
    // A row that is there may end between two looks, or be another replica's.
    for _ in 0..3 {
        let kept = match vault.get::<Revoked>(table, &name).await? {
            Some(entry) if entry.value == *revoked || stands(&entry.value) => true,
            Some(entry) => vault.replace(table, &entry, revoked, lifetime, owner).await?,
            None => vault.add(table, &name, revoked, lifetime, owner).await?,
        };
        if kept {
            return Ok(());
        }
    }
    Err(VaultError::Full)
}

/// The mark of a store. Whoever finds none makes it; one that takes nothing new has none, and can be read all the same.
async fn mark(vault: &Vault) -> Result<Option<String>, VaultError> {
    let new = random_text()?;
    for _ in 0..3 {
        if let Some(kept) = vault.get::<String>(Table::Keys, MARK).await? {
            return Ok(Some(kept.value));
        }
        match vault.add(Table::Keys, MARK, &new, KEPT, "").await {
            Ok(true) => return Ok(Some(new)),
            Ok(false) => {}
            Err(_) => break,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
