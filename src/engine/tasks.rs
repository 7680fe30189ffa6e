//! Who made which task: a task belongs to the identity that made it (MCP 2025-11-25 tasks, "Security Considerations").
//!
//! Kept in memory and bounded; a task whose maker was forgotten is nobody's, and so unknown to everyone.

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use moka::sync::Cache;

use crate::oauth::identity::Identity;

/// Tasks that are remembered at most.
const MOST: u64 = 100_000;
/// How long a task is remembered.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The makers of tasks.
#[derive(Debug)]
pub struct TaskOwners {
    owners: Cache<u128, u128>,
    hashers: [RandomState; 2],
}

impl Default for TaskOwners {
    fn default() -> Self {
        let owners = Cache::builder().max_capacity(MOST).time_to_live(LONGEST).build();
        Self { owners, hashers: [RandomState::new(), RandomState::new()] }
    }
}

impl TaskOwners {
    /// Remembers that `identity` made `task` at `service`. The first maker stays: a server that gives one id to two callers
    /// gives nothing away.
    pub fn made(&self, service: &str, task: &str, identity: &Identity) {
        if let Some(owner) = self.owner(service, identity) {
            self.owners.entry(self.key(&(service, task))).or_insert(owner);
        }
    }

    /// Whether `identity` made `task`.
    #[must_use]
    pub fn owns(&self, service: &str, task: &str, identity: &Identity) -> bool {
        let owner = self.owner(service, identity);
        owner.is_some() && self.owners.get(&self.key(&(service, task))) == owner
    }

    /// Callers who are told apart by nothing own nothing: one's tasks would be another's.
    fn owner(&self, service: &str, identity: &Identity) -> Option<u128> {
        let (subject, client) = (identity.subject.as_deref(), identity.client.as_deref());
        (subject.is_some() || client.is_some()).then(|| self.key(&(service, &*identity.issuer, subject, client)))
    }

    /// Keyed hashes: nobody can choose a collision, and no personal data is kept.
    fn key(&self, parts: &impl Hash) -> u128 {
        let [one, two] = &self.hashers;
        (u128::from(one.hash_one(parts)) << 64) | u128::from(two.hash_one(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_its_makers_and_nobody_elses() {
        let owners = TaskOwners::default();
        let named =
            |subject: &str| Identity { issuer: "i".into(), subject: Some(subject.into()), ..Identity::anonymous() };
        owners.made("s", "t", &named("alice"));
        owners.made("s", "t", &named("bob"));
        assert!(owners.owns("s", "t", &named("alice")));
        assert!(!owners.owns("s", "t", &named("bob")) && !owners.owns("s", "t", &Identity::anonymous()));
        owners.made("s", "nobodys", &Identity::anonymous());
        assert!(!owners.owns("s", "nobodys", &Identity::anonymous()), "callers without a name share nothing");
        assert!(!owners.owns("other", "t", &named("alice")) && !owners.owns("s", "u", &named("alice")));
    }
}
