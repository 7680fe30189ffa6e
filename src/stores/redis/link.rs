//! The one connection of the process, and how it comes back.
//!
//! While it is lost every question fails at once: nobody waits for a server that is not there, and one task alone tries to
//! reach it, with growing pauses that no two replicas share. What does not answer in time counts as lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, cmd};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::ANSWER;
use super::dial::{Connection, unusable};
use super::settings::RedisSettings;
use crate::engine::store::StoreError;

/// One attempt to connect, with everything that belongs to it.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The pause before the first attempt to connect again.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(2);
/// A connection that lasts so long was a good one: the next pause is short again.
const STEADY: Duration = Duration::from_secs(10);
/// An idle connection is tried so often.
const IDLE: Duration = Duration::from_secs(1);

/// The connection, as long as there is one.
pub(super) struct Link {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

struct Shared {
    settings: ArcSwap<RedisSettings>,
    current: ArcSwapOption<Connection>,
    /// Wakes the keeper when the connection is lost.
    lost: Notify,
    /// Why there is none.
    cause: Mutex<String>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("connected", &self.shared.current.load().is_some()).finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Link {
    /// Begins to connect on `runtime`, and waits a while for the first attempt: a process that starts beside its store shall
    /// not refuse its first requests.
    pub(super) fn start(settings: RedisSettings, runtime: &Handle) -> Self {
        let shared = Arc::new(Shared {
            settings: ArcSwap::from_pointee(settings),
            current: ArcSwapOption::empty(),
            lost: Notify::new(),
            cause: Mutex::new("it has not been reached yet".to_owned()),
        });
        let (tried, first) = std::sync::mpsc::sync_channel(1);
        let keeper = runtime.spawn(keep(Arc::clone(&shared), tried)).abort_handle();
        // Whether it was reached or not, and if nobody tells: the process starts.
        let _ = first.recv_timeout(ATTEMPT);
        Self { shared, keeper }
    }

    /// Connects so from the next time on.
    pub(super) fn renew(&self, settings: RedisSettings) {
        self.shared.settings.store(Arc::new(settings));
    }

    /// Why there is no connection, when there is none.
    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.current.load().is_none().then(|| self.cause())
    }

    fn cause(&self) -> String {
        self.shared.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the server, and waits for `patience` at most.
    ///
    /// # Errors
    /// It is not there, does not answer in time, or refuses.
    pub(super) async fn ask<T>(
        &self,
        patience: Duration,
        question: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let Some(connection) = self.shared.current.load_full() else { return Err(StoreError(self.cause())) };
        let error = match timeout(patience, question(&mut Connection::clone(&connection))).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => slow(),
        };
        if speaks_of_the_connection(&error) {
            self.shared.lose(&connection, &error);
        }
        Err(StoreError(error.to_string()))
    }
}

impl Shared {
    /// Only the first who notices says so. Whoever still waits for an answer of this connection gets it.
    fn lose(&self, connection: &Arc<Connection>, cause: &RedisError) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause.to_string();
        let current = self.current.load();
        let is_it =
            |known: &Option<Arc<Connection>>| known.as_ref().is_some_and(|known| Arc::ptr_eq(known, connection));
        if is_it(&current) && is_it(&self.current.compare_and_swap(&current, None)) {
            tracing::warn!(event = "store-lost", %cause, "the store is not asked until it answers again");
            self.lost.notify_one();
        }
    }

    /// Until the connection is lost.
    async fn watch(&self, connection: &Arc<Connection>) {
        while self.current.load().is_some() {
            if timeout(IDLE, self.lost.notified()).await.is_ok() {
                continue;
            }
            if let Err(error) = alive(&mut Connection::clone(connection)).await {
                self.lose(connection, &error);
            }
        }
    }
}

async fn keep(shared: Arc<Shared>, tried: std::sync::mpsc::SyncSender<()>) {
    let mut pause = SHORTEST;
    loop {
        let settings = shared.settings.load_full();
        let attempt = timeout(ATTEMPT, async {
            let mut connection = settings.connect().await?;
            alive(&mut connection).await?;
            keeps_what_it_is_given(&mut connection).await?;
            Ok(connection)
        });
        match attempt.await.unwrap_or_else(|_| Err(slow())) {
            Ok(connection) => {
                let (connection, since) = (Arc::new(connection), Instant::now());
                shared.current.store(Some(Arc::clone(&connection)));
                tracing::info!(event = "store-reached", namespace = settings.namespace, "the store answers");
                let _ = tried.try_send(());
                shared.watch(&connection).await;
                if since.elapsed() > STEADY {
                    pause = SHORTEST;
                }
            }
            Err(error) => {
                let cause = error.to_string();
                let before =
                    std::mem::replace(&mut *shared.cause.lock().unwrap_or_else(PoisonError::into_inner), cause.clone());
                if before != cause {
                    tracing::warn!(event = "store-lost", cause, "the store cannot be reached");
                }
                let _ = tried.try_send(());
            }
        }
        // Between a half and the whole of it, so that replicas do not come back at the same moment.
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn alive(connection: &mut Connection) -> RedisResult<()> {
    timeout(ANSWER, cmd("PING").exec_async(connection)).await.unwrap_or_else(|_| Err(slow()))
}

/// A server that forgets keys to make room would let a code be used twice, and one that copies another is behind it. One that
/// does not tell is believed.
async fn keeps_what_it_is_given(connection: &mut Connection) -> RedisResult<()> {
    let told = match connection {
        Connection::One(connection) => cmd("INFO").query_async::<String>(connection).await.map(|told| vec![told]),
        Connection::Cluster(connection) => {
            let told = cmd("INFO").query_async::<HashMap<String, String>>(connection).await;
            told.map(|told| told.into_values().collect())
        }
    };
    told.unwrap_or_default().iter().try_for_each(|told| keeps(told))
}

/// Whether a server that tells this about itself keeps what it is given.
fn keeps(told: &str) -> RedisResult<()> {
    let field =
        |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    if field("maxmemory_policy").starts_with("allkeys-") && !matches!(field("maxmemory"), "" | "0") {
        return Err(unusable("the server may forget any key when it is full: set `maxmemory-policy noeviction`"));
    }
    if field("role") == "slave" {
        return Err(unusable("the server copies another one: name the one that takes writes, or the sentinels"));
    }
    Ok(())
}

fn slow() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

/// Whether another connection may do better: what the server says about one command says nothing about others.
fn speaks_of_the_connection(error: &RedisError) -> bool {
    use ServerErrorKind as Server;
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            Server::BusyLoading
                | Server::ClusterDown
                | Server::MasterDown
                | Server::ReadOnly
                | Server::Moved
                | Server::Ask
        ),
        ErrorKind::Extension => error.code().is_some_and(|code| matches!(code, "NOAUTH" | "UNKILLABLE")),
        ErrorKind::UnexpectedReturnType => false,
        _ => true,
    }
}
