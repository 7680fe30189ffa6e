//! Limits that all replicas count together: one script for all limits of a request.
//!
//! A bucket of a rate is one key, which ends by itself when the bucket is full again; the keys of a service are counted, and
//! when there are as many as there may be, a caller without one is refused for a second. Places in flight are members of a
//! set, each with a time at which it ends unless this process says before that it is still held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::Script;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{ANSWER, Redis, link::Link};
use crate::engine::limits::{Counts, Measure, Place, Taken, Want};
use crate::engine::store::{Name, StoreError};

/// A caller does not wait longer for its limits.
const SOON: Duration = Duration::from_millis(250);
/// A place of a process that is not heard of is free again after this.
const HELD: Duration = Duration::from_secs(30);
/// So often the process says which places it still holds.
const RENEWAL: Duration = Duration::from_secs(10);
/// Before what could not be given back is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Keys of one script.
const AT_ONCE: usize = 500;
/// Places that wait to be given back; more of them end by themselves.
const MOST: usize = 100_000;

/// Buckets of one service that are not full: as many as a limit has that is counted by one process.
const BUCKETS: usize = 1_000_000;

/// What the keys of a service begin with. All buckets of a service are in one slot, since one request takes of several.
fn prefix(namespace: &str, service: &str) -> String {
    format!("{{{namespace}:limits:{service}}}:")
}

/// The key of a bucket.
fn key(namespace: &str, service: &str, bucket: &Name) -> String {
    let (half, _) = bucket.split_at(bucket.len() / 2);
    prefix(namespace, service) + &URL_SAFE_NO_PAD.encode(half)
}

/// What a place is called in the set of a bucket: a request may take several of one.
fn member(place: &Place, number: usize) -> Vec<u8> {
    [place.as_slice(), (number + 1).to_string().as_bytes()].concat()
}

#[async_trait]
impl Counts for Redis {
    async fn take(&self, service: &Arc<str>, place: &Place, wants: &[Want]) -> Result<Taken, StoreError> {
        let mut take = self.scripts.limits.prepare_invoke();
        take.key(prefix(&self.namespace, service) + "buckets");
        take.arg(place.as_slice()).arg(HELD.as_millis().to_string()).arg(BUCKETS);
        let mut places = Vec::new();
        for want in wants {
            take.key(key(&self.namespace, service, &want.bucket));
            match want.measure {
                Measure::Rate { each, span } => take.arg("rate").arg(each).arg(span),
                Measure::Places { count } => {
                    places.push(want.bucket);
                    take.arg("places").arg(count).arg(0)
                }
            };
        }
        let ask = async |connection: &mut super::dial::Connection| take.invoke_async(connection).await;
        let (at, wait): (usize, u64) = self.link.ask(SOON, ask).await?;
        match at.checked_sub(1) {
            Some(at) => Ok(Taken::None(at, Duration::from_micros(wait))),
            None => {
                if !places.is_empty() {
                    let held = Holding { service: Arc::clone(service), buckets: places };
                    self.places.shared.held().insert(*place, held);
                }
                Ok(Taken::All)
            }
        }
    }

    fn release(&self, service: &Arc<str>, place: Place, buckets: Vec<Name>) {
        self.places.shared.held().remove(&place);
        self.places.shared.keep(vec![(place, Holding { service: Arc::clone(service), buckets })]);
        self.places.shared.wake.notify_one();
    }
}

/// The places that this process holds, and the task that speaks of them.
#[derive(Debug)]
pub(super) struct Places {
    shared: Arc<Registry>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Registry {
    held: Mutex<HashMap<Place, Holding>>,
    freed: Mutex<Vec<(Place, Holding)>>,
    wake: Notify,
}

#[derive(Debug, Clone)]
struct Holding {
    service: Arc<str>,
    buckets: Vec<Name>,
}

impl Drop for Places {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    fn held(&self) -> MutexGuard<'_, HashMap<Place, Holding>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn freed(&self) -> MutexGuard<'_, Vec<(Place, Holding)>> {
        self.freed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<(Place, Holding)> {
        self.held().iter().map(|(place, held)| (*place, held.clone())).collect()
    }

    fn take(&self) -> Vec<(Place, Holding)> {
        std::mem::take(&mut *self.freed())
    }

    /// Keeps what is to be given back later.
    fn keep(&self, freed: Vec<(Place, Holding)>) {
        let mut kept = self.freed();
        let room = MOST.saturating_sub(kept.len());
        kept.extend(freed.into_iter().take(room));
    }
}

impl Places {
    pub(super) fn start(link: Arc<Link>, namespace: Arc<str>, runtime: &Handle) -> Self {
        let shared = Arc::<Registry>::default();
        let speaker = Speaker {
            registry: Arc::clone(&shared),
            link,
            namespace,
            hold: Script::new(include_str!("lua/hold.lua")),
            release: Script::new(include_str!("lua/release.lua")),
        };
        Self { shared, task: runtime.spawn(speaker.speak()).abort_handle() }
    }
}

struct Speaker {
    registry: Arc<Registry>,
    link: Arc<Link>,
    namespace: Arc<str>,
    hold: Script,
    release: Script,
}

impl Speaker {
    async fn speak(self) {
        let mut renewal = interval(RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.registry.wake.notified() => {
                    let freed = self.registry.take();
                    let left = self.tell(&self.release, None, freed).await;
                    if !left.is_empty() {
                        self.registry.keep(left);
                        sleep(AGAIN).await;
                        self.registry.wake.notify_one();
                    }
                }
                _ = renewal.tick() => {
                    let held = self.registry.all();
                    // What cannot be said now is said next time.
                    self.tell(&self.hold, Some(HELD), held).await;
                }
            }
        }
    }

    /// Runs a script over places, those of one service together. Returns what could not be told.
    async fn tell(
        &self,
        script: &Script,
        lasting: Option<Duration>,
        places: Vec<(Place, Holding)>,
    ) -> Vec<(Place, Holding)> {
        let mut by_service: HashMap<Arc<str>, Vec<(Place, Holding)>> = HashMap::new();
        for (place, held) in places {
            by_service.entry(Arc::clone(&held.service)).or_default().push((place, held));
        }
        let mut left = Vec::new();
        for (service, places) in by_service {
            for some in places.chunks(AT_ONCE) {
                let mut telling = script.prepare_invoke();
                if let Some(lasting) = lasting {
                    telling.arg(lasting.as_millis().to_string());
                }
                for (place, held) in some {
                    for (number, bucket) in held.buckets.iter().enumerate() {
                        telling.key(key(&self.namespace, &service, bucket)).arg(member(place, number));
                    }
                }
                let ask = async |connection: &mut super::dial::Connection| {
                    telling.invoke_async::<redis::Value>(connection).await
                };
                if self.link.ask(ANSWER, ask).await.is_err() {
                    left.extend_from_slice(some);
                }
            }
        }
        left
    }
}
