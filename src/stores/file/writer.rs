//! The one thread that writes: it carries out everything that waits in one transaction, and answers when that is on the
//! disk. When the disk refuses, what waited is refused, and the file is opened anew until the disk is there again.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::rows::Writing;
use super::{Missing, Shared, open};
use crate::engine::clock::Clock;
use crate::engine::store::{Added, Name, Row, StoreError, Table};

/// Changes of one transaction.
const BATCH: usize = 512;
/// How often what has expired is cleared away while nobody writes, and how much of each table at once.
const SWEEP: (Duration, usize) = (Duration::from_secs(5), 2_000);
/// How long the disk is left alone before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What shall be changed.
#[derive(Debug)]
pub(super) enum Verb {
    /// A row shall be added.
    Add(Name, Row),
    /// A row shall be taken.
    Take(Name),
    /// A row shall be replaced, by one of the same or another name.
    Replace { name: Name, before: Vec<u8>, to: Name, row: Row },
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Done {
    Added(Added),
    Taken(Option<Vec<u8>>),
    Replaced(bool),
}

impl Done {
    fn changed_something(&self) -> bool {
        matches!(self, Self::Added(Added::New) | Self::Taken(Some(_)) | Self::Replaced(true))
    }
}

/// One change that somebody waits for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) table: Table,
    pub(super) verb: Verb,
    pub(super) reply: oneshot::Sender<Result<Done, StoreError>>,
}

/// How often each table was changed.
#[derive(Debug)]
pub(super) struct Changes(HashMap<Table, AtomicU64>);

impl Default for Changes {
    fn default() -> Self {
        Self(Table::ALL.iter().map(|table| (*table, AtomicU64::default())).collect())
    }
}

impl Changes {
    pub(super) fn of(&self, table: Table) -> u64 {
        self.0.get(&table).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    fn count(&self, table: Table) {
        if let Some(count) = self.0.get(&table) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Whoever writes.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) database: Shared,
    pub(super) changes: Arc<Changes>,
    /// When the file was last opened, or that was tried.
    pub(super) opened: Cell<Instant>,
}

impl Writer {
    /// Writes until nobody can ask any more.
    pub(super) fn run(&self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(SWEEP.0) {
                Ok(first) => {
                    let batch: Vec<Job> = std::iter::once(first).chain(jobs.try_iter().take(BATCH - 1)).collect();
                    self.settle(batch);
                }
                Err(RecvTimeoutError::Timeout) => self.sweep(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.database.store(None);
    }

    fn settle(&self, batch: Vec<Job>) {
        let outcome = match self.database.load().is_some() || self.reopen() {
            true => self.carry_out(&batch).map_err(|error| self.lose(&error)),
            false => Err(StoreError("the disk refuses".to_owned())),
        };
        match outcome {
            Ok(done) => {
                for (job, done) in batch.iter().zip(&done) {
                    if done.changed_something() {
                        self.changes.count(job.table);
                    }
                }
                // Whoever waited may have gone.
                batch.into_iter().zip(done).for_each(|(job, done)| drop(job.reply.send(Ok(done))));
            }
            Err(error) => batch.into_iter().for_each(|job| drop(job.reply.send(Err(error.clone())))),
        }
    }

    /// All of it in one transaction, in the order in which it came: each sees what those before it did.
    fn carry_out(&self, batch: &[Job]) -> Result<Vec<Done>, redb::Error> {
        let Some(open) = self.database.load_full() else { return Err(redb::Error::DatabaseClosed) };
        let now = self.clock.unix();
        let transaction = open.0.begin_write()?;
        let mut done = Vec::with_capacity(batch.len());
        {
            let mut tables: HashMap<Table, Writing<'_>> = HashMap::new();
            for Job { table, verb, .. } in batch {
                let table = match tables.entry(*table) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(Writing::open(&transaction, *table, now)?),
                };
                done.push(match verb {
                    Verb::Add(name, row) => Done::Added(table.add(name, row)?),
                    Verb::Take(name) => Done::Taken(table.take(name)?),
                    Verb::Replace { name, before, to, row } => Done::Replaced(table.replace(name, before, to, row)?),
                });
            }
        }
        if done.iter().any(Done::changed_something) {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(done)
    }

    /// Clears away what has expired, so that it does not stay on the disk.
    fn sweep(&self) {
        let Some(open) = self.database.load_full() else {
            self.reopen();
            return;
        };
        let swept = || -> Result<(), redb::Error> {
            let transaction = open.0.begin_write()?;
            let mut count = 0;
            for table in Table::ALL {
                count += Writing::open(&transaction, *table, self.clock.unix())?.sweep(SWEEP.1)?;
            }
            if count == 0 {
                return Ok(transaction.abort()?);
            }
            Ok(transaction.commit()?)
        };
        let outcome = swept();
        drop(open);
        if let Err(error) = outcome {
            self.lose(&error);
        }
    }

    /// After a failure nothing is known of what is on the disk: the file is closed, and read anew.
    fn lose(&self, error: &redb::Error) -> StoreError {
        tracing::error!(event = "store-lost", %error, "the store's file cannot be written");
        self.database.store(None);
        StoreError(error.to_string())
    }

    /// Opens the file again, not more often than the disk should be asked. Those who still read from it hold it for a moment.
    /// A file that is gone is not replaced by an empty one.
    fn reopen(&self) -> bool {
        if self.opened.get().elapsed() < RETRY {
            return false;
        }
        let outcome = open(&self.path, Missing::Refuse);
        self.opened.set(Instant::now());
        match outcome {
            Ok(database) => {
                self.database.store(Some(Arc::new(database)));
                tracing::info!(event = "store-back", "the store's file is open again");
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the store's file stays closed");
                false
            }
        }
    }
}
