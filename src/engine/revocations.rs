//! What is revoked before its time: grants and single tokens, looked at on every request without asking the store.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::store::Table;
use super::vault::{Vault, VaultError};

/// One revocation as the store keeps it, until the last token that it concerns has ended.
#[derive(Debug, Serialize, Deserialize)]
struct Revoked {
    id: String,
}

/// The ids that are revoked, as last read from the store.
#[derive(Debug, Default)]
pub struct Revocations {
    ids: ArcSwap<HashSet<String>>,
    /// What the store does not hold, or not yet, and until when it is revoked: reading the store takes none of it away.
    unsaved: Mutex<HashMap<String, i64>>,
}

impl Revocations {
    /// Whether the grant or token called `id` is revoked.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.ids.load().contains(id)
    }

    /// Revokes `id` for `lifetime` seconds: here at once, at other replicas when they next read.
    ///
    /// # Errors
    /// The store cannot keep it; the id is revoked here all the same, for as long.
    pub async fn revoke(&self, vault: &Vault, id: &str, lifetime: i64) -> Result<(), VaultError> {
        // Before it is seen, so that a reading under way finds it in one place or the other.
        self.unsaved().insert(id.to_owned(), vault.now().saturating_add(lifetime));
        self.ids.rcu(|ids| {
            let mut ids = HashSet::clone(ids);
            ids.insert(id.to_owned());
            ids
        });
        vault.add(Table::Revocations, id, &Revoked { id: id.to_owned() }, lifetime, "").await?;
        self.unsaved().remove(id);
        Ok(())
    }

    fn unsaved(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everything that is known to be revoked for `lifetime` seconds, whatever the store says: it was emptied, and
    /// what it forgot must not come back to life.
    pub fn keep(&self, vault: &Vault, lifetime: i64) {
        let until = vault.now().saturating_add(lifetime);
        let mut unsaved = self.unsaved();
        for id in self.ids.load().iter() {
            unsaved.entry(id.clone()).or_insert(until);
        }
    }

    /// Reads what is revoked. What this process revoked since stays revoked.
    ///
    /// # Errors
    /// The store cannot be asked; what was known stays known.
    pub async fn refresh(&self, vault: &Vault) -> Result<(), VaultError> {
        let before = self.ids.load_full();
        let unsaved: Vec<String> = {
            let mut unsaved = self.unsaved();
            unsaved.retain(|_, until| *until > vault.now());
            unsaved.keys().cloned().collect()
        };
        let read: HashSet<String> =
            vault.list::<Revoked>(Table::Revocations).await?.into_iter().map(|row| row.id).collect();
        self.ids.rcu(|now| {
            let added = now.difference(&before).cloned();
            Arc::new(read.iter().chain(&unsaved).cloned().chain(added).collect::<HashSet<_>>())
        });
        Ok(())
    }
}
