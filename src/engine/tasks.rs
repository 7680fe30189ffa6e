//! Who made which task: a task belongs to the identity that made it (MCP 2025-11-25 tasks, "Security Considerations").
//!
//! It is kept in the store, so that any replica may be asked about a task and nobody makes so many that another's are
//! forgotten; and in memory, so that the store is asked only about tasks that are not known here. Both are bounded, and a task
//! whose maker is not known is nobody's.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::session;
use super::store::{StoreError, Table};
use super::vault::{Vault, VaultError};
use crate::oauth::identity::Identity;

/// Tasks that are remembered in memory at most.
const MOST: u64 = 100_000;
/// How long a task is remembered that does not say how long it lasts, and any in memory.
const USUAL: Duration = Duration::from_secs(24 * 3600);
/// How long a task is kept in the store at most.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// A server may be a little late in forgetting a task.
const LEEWAY: Duration = Duration::from_secs(60);
/// Tasks of one list that the store is asked about at most.
const MOST_ASKED: usize = 200;
/// For everything that one message asks the store.
const PATIENCE: Duration = Duration::from_secs(2);

/// What stands for a task or an identity: nobody can choose a collision, and no name is kept.
type Digest = [u8; 32];

/// The makers of tasks.
#[derive(Debug)]
pub struct TaskOwners {
    known: Cache<Digest, Digest>,
}

impl Default for TaskOwners {
    fn default() -> Self {
        Self { known: Cache::builder().max_capacity(MOST).time_to_live(USUAL).build() }
    }
}

impl TaskOwners {
    /// Remembers that `identity` made `task` at `service`, here and in `kept`. The first maker stays: a server that gives one
    /// id to two callers gives nothing away. `lifetime` is how long the task says that it lasts.
    ///
    /// # Errors
    /// It is known here alone, since it cannot be kept: to others the task is nobody's.
    pub async fn made(
        &self,
        kept: &Vault,
        service: &str,
        task: &str,
        lifetime: Option<Duration>,
        identity: &Identity,
    ) -> Result<(), VaultError> {
        let Some(owner) = owner(service, identity) else { return Ok(()) };
        let place = place(service, task);
        if self.known.contains_key(&place) {
            return Ok(());
        }
        let first = patiently(first(kept, &name(service, task), owner, lifetime, identity)).await;
        // The client is told of its task whether it can be kept or not, and shall find it here at least.
        if let Some(first) = first.as_ref().map_or(Some(owner), |first| *first) {
            self.known.entry(place).or_insert(first);
        }
        first.map(drop)
    }

    /// Whether `identity` made all of `tasks`. The first that it did not make ends the look-ups.
    ///
    /// # Errors
    /// One of them is not known here, and `kept` cannot be asked.
    pub async fn owns(
        &self,
        kept: &Vault,
        service: &str,
        tasks: &[Cow<'_, str>],
        identity: &Identity,
    ) -> Result<bool, VaultError> {
        let Some(owner) = owner(service, identity) else { return Ok(false) };
        let all = async {
            for task in tasks {
                if self.maker(Some(kept), service, task).await? != Some(owner) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        patiently(all).await
    }

    /// Which of `tasks`, those of one list, `identity` made. What is not known here is looked up for some of them only.
    ///
    /// # Errors
    /// One of them is not known here, and `kept` cannot be asked.
    pub async fn owned<'t>(
        &self,
        kept: &Vault,
        service: &str,
        tasks: &'t [String],
        identity: &Identity,
    ) -> Result<HashSet<&'t str>, VaultError> {
        let Some(owner) = owner(service, identity) else { return Ok(HashSet::new()) };
        let some = async {
            let (mut owned, mut left) = (HashSet::new(), MOST_ASKED);
            for task in tasks {
                let known = self.known.contains_key(&place(service, task));
                let asked = Some(kept).filter(|_| known || left > 0);
                if self.maker(asked, service, task).await? == Some(owner) {
                    owned.insert(task.as_str());
                }
                left = left.saturating_sub(usize::from(!known));
            }
            Ok(owned)
        };
        patiently(some).await
    }

    /// Who made a task: what is known here, or what another replica kept, or this one before it was started; that is known
    /// here from now on.
    async fn maker(&self, kept: Option<&Vault>, service: &str, task: &str) -> Result<Option<Digest>, VaultError> {
        let place = place(service, task);
        let known = self.known.get(&place);
        let Some(vault) = kept.filter(|_| known.is_none()) else { return Ok(known) };
        let found = vault.get::<Digest>(Table::Tasks, &name(service, task)).await?;
        let maker = found.map(|row| row.value);
        if let Some(maker) = maker {
            self.known.entry(place).or_insert(maker);
        }
        Ok(maker)
    }
}

/// Keeps that `owner` made a task, unless it is kept that somebody did. Returns who did; `None` where a row says so that
/// cannot be read.
async fn first(
    vault: &Vault,
    name: &str,
    owner: Digest,
    lifetime: Option<Duration>,
    identity: &Identity,
) -> Result<Option<Digest>, VaultError> {
    let lifetime = lifetime.map_or(USUAL, |lifetime| lifetime.saturating_add(LEEWAY).min(LONGEST));
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    if vault.add(Table::Tasks, name, &owner, seconds, &share(identity)).await? {
        return Ok(Some(owner));
    }
    Ok(vault.get::<Digest>(Table::Tasks, name).await?.map(|row| row.value))
}

async fn patiently<T>(asked: impl Future<Output = Result<T, VaultError>>) -> Result<T, VaultError> {
    let late = |_| StoreError("it does not answer soon".to_owned());
    timeout(PATIENCE, asked).await.map_err(late)?
}

/// Callers who are told apart by nothing own nothing: one's tasks would be another's.
fn owner(service: &str, identity: &Identity) -> Option<Digest> {
    let told_apart = identity.subject.is_some() || identity.client.is_some();
    told_apart.then(|| Sha256::digest(session::owner(service, identity)).into())
}

/// Whose share of the table a task takes: a person has one, however many clients act for her.
fn share(identity: &Identity) -> String {
    let kind = if identity.subject.is_some() { "subject" } else { "client" };
    let named = identity.subject.as_deref().or(identity.client.as_deref());
    format!("{kind}\n{}\n{}", identity.issuer, named.unwrap_or_default())
}

/// What a task is called: names of services have no line breaks.
fn name(service: &str, task: &str) -> String {
    format!("{service}\n{task}")
}

fn place(service: &str, task: &str) -> Digest {
    Sha256::digest(name(service, task)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::engine::clock::{Clock, SetClock};
    use crate::engine::store::Store;
    use crate::stores::faulty::{Around, Faulty, Verb};
    use crate::stores::memory::Memory;

    /// Counts what a store is asked, which may be lost or silent.
    #[derive(Debug)]
    struct Watched {
        rows: Arc<Memory>,
        asked: AtomicUsize,
        lost: AtomicBool,
        silent: AtomicBool,
    }

    #[async_trait]
    impl Around for Watched {
        fn within(&self) -> Arc<dyn Store> {
            Arc::clone(&self.rows) as Arc<dyn Store>
        }

        async fn before(&self, _: Verb) -> Result<(), StoreError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.silent.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.lost.load(Ordering::SeqCst) { Err(StoreError("lost".to_owned())) } else { Ok(()) }
        }
    }

    /// Replicas with one store.
    struct Scene {
        clock: Arc<SetClock>,
        store: Arc<Faulty<Watched>>,
        vault: Vault,
        replicas: [TaskOwners; 2],
    }

    impl Scene {
        fn new() -> Self {
            let clock = Arc::new(SetClock(AtomicI64::new(1_000)));
            let rows = Arc::new(Memory::new(Arc::clone(&clock) as Arc<dyn Clock>));
            let (asked, lost, silent) = Default::default();
            let store = Arc::new(Faulty(Watched { rows, asked, lost, silent }));
            let vault = Vault::new(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&clock) as Arc<dyn Clock>, &[]);
            Self { clock, store, vault: vault.unwrap(), replicas: Default::default() }
        }

        async fn made(&self, replica: usize, task: &str, seconds: Option<u64>, by: &Identity) -> bool {
            let lifetime = seconds.map(Duration::from_secs);
            self.replicas[replica].made(&self.vault, "s", task, lifetime, by).await.is_ok()
        }

        /// `None` where it cannot be known.
        async fn owns(&self, replica: usize, task: &str, by: &Identity) -> Option<bool> {
            self.replicas[replica].owns(&self.vault, "s", &[task.into()], by).await.ok()
        }

        async fn owned(&self, replica: usize, tasks: &[String], by: &Identity) -> Option<usize> {
            self.replicas[replica].owned(&self.vault, "s", tasks, by).await.ok().map(|owned| owned.len())
        }
    }

    fn named(subject: &str) -> Identity {
        Identity { issuer: "i".into(), subject: Some(subject.into()), ..Identity::anonymous() }
    }

    #[tokio::test]
    async fn m08_a_task_is_its_makers_and_nobody_elses() {
        let (owners, vault) = (TaskOwners::default(), Scene::new().vault);
        let made = async |service: &str, task: &str, by: &Identity| {
            owners.made(&vault, service, task, None, by).await.unwrap();
        };
        let owns = async |service: &str, tasks: &[&str], by: &Identity| {
            let tasks: Vec<Cow<'_, str>> = tasks.iter().map(|task| (*task).into()).collect();
            owners.owns(&vault, service, &tasks, by).await.unwrap()
        };
        made("s", "t", &named("alice")).await;
        made("s", "t", &named("bob")).await;
        assert!(owns("s", &["t"], &named("alice")).await);
        assert!(!owns("s", &["t"], &named("bob")).await && !owns("s", &["t"], &Identity::anonymous()).await);
        made("s", "nobodys", &Identity::anonymous()).await;
        assert!(!owns("s", &["nobodys"], &Identity::anonymous()).await, "callers without a name share nothing");
        assert!(!owns("other", &["t"], &named("alice")).await && !owns("s", &["u"], &named("alice")).await);
        assert!(!owns("s", &["t", "u"], &named("alice")).await, "all of them must be hers");
        let other = Identity { client: Some("c".into()), ..named("alice") };
        assert!(!owns("s", &["t"], &other).await, "another client acts for her");
    }

    #[tokio::test]
    async fn m08_a_task_of_one_replica_is_its_makers_at_the_other() {
        let scene = Scene::new();
        let (alice, bob) = (named("alice"), named("bob"));
        assert!(scene.made(0, "t", None, &alice).await);
        assert_eq!(scene.store.0.asked.swap(0, Ordering::SeqCst), 1);
        assert_eq!(scene.owns(0, "t", &alice).await, Some(true));
        assert_eq!(scene.owns(0, "t", &bob).await, Some(false));
        assert_eq!(scene.store.0.asked.swap(0, Ordering::SeqCst), 0, "what is known here is asked of nobody");
        assert_eq!(scene.owns(1, "t", &bob).await, Some(false));
        assert_eq!(scene.owns(1, "t", &alice).await, Some(true));
        assert_eq!(scene.store.0.asked.swap(0, Ordering::SeqCst), 1, "the second time it is known");
        assert_eq!(scene.owns(1, "t", &Identity::anonymous()).await, Some(false));
        assert!(scene.made(1, "t", None, &Identity::anonymous()).await);
        assert_eq!(
            scene.store.0.asked.swap(0, Ordering::SeqCst),
            0,
            "callers without a name have no tasks to look for"
        );

        assert!(scene.made(1, "u", None, &bob).await);
        assert!(scene.made(0, "u", None, &alice).await, "a server that gives one id to two callers");
        for replica in [0, 1] {
            assert_eq!(scene.owns(replica, "u", &alice).await, Some(false), "gives nothing away at {replica}");
            assert_eq!(scene.owns(replica, "u", &bob).await, Some(true), "and the first keeps it at {replica}");
        }
        let page = scene.store.0.rows.page(Table::Tasks, None).await.unwrap();
        let rows = format!("{:?}", page.rows);
        let hidden = |text: &str| !rows.contains(&format!("{:?}", text.as_bytes()).replace(['[', ']'], ""));
        assert!(page.rows.len() == 2 && hidden("alice") && hidden("bob"), "rows are sealed");
    }

    #[tokio::test]
    async fn a_task_is_kept_a_little_longer_than_it_says_and_not_for_ever() {
        let alice = named("alice");
        let kept_until = async |seconds: Option<u64>, end: i64| {
            let scene = Scene::new();
            assert!(scene.made(0, "t", seconds, &alice).await);
            scene.clock.0.store(1_000 + end - 1, Ordering::SeqCst);
            let found = scene.vault.get::<Digest>(Table::Tasks, "s\nt").await.unwrap();
            scene.clock.0.store(1_000 + end, Ordering::SeqCst);
            let over = scene.owns(1, "t", &alice).await == Some(false);
            found.is_some() && over
        };
        assert!(kept_until(Some(600), 660).await);
        assert!(kept_until(Some(0), 60).await);
        assert!(kept_until(None, 24 * 3600).await, "one that does not say so");
        assert!(kept_until(Some(u64::MAX), 30 * 24 * 3600).await);
    }

    #[tokio::test]
    async fn nobody_uses_the_table_up_for_others() {
        let scene = Scene::new();
        let (alice, bob) = (named("alice"), named("bob"));
        for task in 0..Table::Tasks.share() {
            assert!(scene.made(0, &task.to_string(), None, &alice).await);
        }
        let other = Identity { client: Some("another".into()), ..named("alice") };
        assert!(!scene.made(0, "more", None, &other).await, "her share is used up, whichever client acts for her");
        assert_eq!(scene.owns(0, "more", &other).await, Some(true), "it is known where it was made");
        assert_eq!(scene.owns(1, "more", &other).await, Some(false), "and nowhere else");
        assert!(scene.made(0, "his", None, &bob).await);
        assert_eq!(scene.owns(1, "his", &bob).await, Some(true));
    }

    #[tokio::test]
    async fn m08_a_flood_of_one_caller_takes_no_task_from_another() {
        let mut scene = Scene::new();
        scene.replicas[0] = TaskOwners { known: Cache::new(4) };
        let (alice, mallory) = (named("alice"), named("mallory"));
        assert!(scene.made(0, "t", None, &alice).await);
        for task in 0..1_000 {
            assert!(scene.made(0, &format!("flood {task}"), None, &mallory).await);
        }
        scene.replicas[0].known.run_pending_tasks();
        assert!(scene.replicas[0].known.entry_count() <= 4, "memory has forgotten most");
        assert_eq!(scene.owns(0, "t", &alice).await, Some(true));
        assert_eq!(scene.owns(0, "t", &mallory).await, Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn m08_without_the_store_a_task_is_known_where_it_was_made_and_never_anothers() {
        let scene = Scene::new();
        let (alice, bob) = (named("alice"), named("bob"));
        assert!(scene.made(0, "kept", None, &alice).await);
        for silent in [false, true] {
            scene.store.0.lost.store(!silent, Ordering::SeqCst);
            scene.store.0.silent.store(silent, Ordering::SeqCst);
            let task = format!("made {silent}");
            assert!(!scene.made(0, &task, None, &alice).await, "it cannot be kept");
            assert_eq!(scene.owns(0, &task, &alice).await, Some(true), "but is known here");
            assert_eq!(scene.owns(0, &task, &bob).await, Some(false));
            assert_eq!(scene.owns(0, "kept", &alice).await, Some(true));
            for by in [&alice, &bob] {
                assert_eq!(scene.owns(1, "kept", by).await, None, "what is not known here is not decided");
                assert_eq!(scene.owned(1, &["kept".to_owned()], by).await, None);
            }
            assert_eq!(scene.owned(0, &["kept".to_owned(), task], &alice).await, Some(2));
        }
        scene.store.0.silent.store(false, Ordering::SeqCst);
        assert_eq!(scene.owns(1, "kept", &alice).await, Some(true), "it is back");
        assert_eq!(scene.owns(1, "made true", &alice).await, Some(false), "what was not kept stays unknown");
    }

    #[tokio::test]
    async fn a_list_costs_the_store_a_bounded_number_of_questions() {
        let scene = Scene::new();
        let alice = named("alice");
        let strange: Vec<String> = (0..3 * MOST_ASKED).map(|task| format!("strange {task}")).collect();
        assert_eq!(scene.owned(1, &strange, &alice).await, Some(0));
        assert_eq!(scene.store.0.asked.swap(0, Ordering::SeqCst), MOST_ASKED);
        let hers: Vec<String> = (0..MOST_ASKED).map(|task| task.to_string()).collect();
        for task in &hers {
            assert!(scene.made(0, task, None, &alice).await);
        }
        scene.store.0.asked.swap(0, Ordering::SeqCst);
        let list = [hers.as_slice(), &strange].concat();
        assert_eq!(scene.owned(1, &list, &alice).await, Some(MOST_ASKED));
        assert_eq!(scene.store.0.asked.swap(0, Ordering::SeqCst), MOST_ASKED);
        let list = [strange.as_slice(), &hers].concat();
        assert_eq!(scene.owned(1, &list, &alice).await, Some(MOST_ASKED), "what is known here needs no question");
        assert_eq!(scene.owned(1, &hers, &named("bob")).await, Some(0));
    }
}
