//! Rows in one file of this machine, for one process: durable, and without a server beside the gateway.
//!
//! What was answered is on the disk: a verb that changes something returns after its transaction was committed and synced.
//! One thread writes, and commits everything that waits at once, so that many clients share the cost of one sync. Readers
//! see the last commit and wait for nobody. Nothing here blocks the runtime.

mod rows;
mod writer;

use std::cell::Cell;
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase as _, StorageError};
use tokio::sync::oneshot;

use self::rows::{Found, Snapshot};
use self::writer::{Changes, Done, Job, Verb, Writer};
use super::OpenError;
use crate::engine::clock::Clock;
use crate::engine::store::{Added, Cursor, Name, Page, Row, Store, StoreError, Table};
use crate::secret::words;

/// Bytes of pages that are kept in memory; the system keeps others.
const CACHE: usize = 32 * 1024 * 1024;
/// Changes that may wait for the writer. More than that is refused.
const WAITING: usize = 4_096;
/// How long a caller waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// A store in a file.
#[derive(Debug)]
pub struct File {
    clock: Arc<dyn Clock>,
    database: Shared,
    /// There while the store is.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    changes: Arc<Changes>,
}

/// The open database; nothing while the disk refuses.
type Shared = Arc<ArcSwapOption<Open>>;

/// `Database` with the `Debug` that it has not.
struct Open(Database);

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl File {
    /// Opens the file, or makes it with mode 0600. It is this process's alone until the store is dropped.
    ///
    /// # Errors
    /// It cannot be opened, another process has it, or it is no store or a damaged one.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let database: Shared = Arc::new(ArcSwapOption::from_pointee(open(path, Missing::Make)?));
        let (jobs, waiting) = sync_channel(WAITING);
        let changes = Arc::new(Changes::default());
        let writer = Writer {
            path: path.to_owned(),
            clock: Arc::clone(&clock),
            database: Arc::clone(&database),
            changes: Arc::clone(&changes),
            opened: Cell::new(Instant::now()),
        };
        let spawned = std::thread::Builder::new().name("store".into()).spawn(move || writer.run(&waiting));
        let thread = spawned.map_err(|error| OpenError {
            message: format!("the store's thread cannot be started: {error}"),
            help: "raise the limit of threads of this process",
        })?;
        Ok(Self { clock, database, jobs: Some(jobs), thread: Some(thread), changes })
    }

    /// Has the writer do it, and waits until it is on the disk.
    async fn write(&self, table: Table, verb: Verb) -> Result<Done, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(|| StoreError(gone()))?;
        jobs.try_send(Job { table, verb, reply }).map_err(|error| {
            StoreError(match error {
                TrySendError::Full(_) => "too many changes wait for the disk".to_owned(),
                TrySendError::Disconnected(_) => gone(),
            })
        })?;
        patiently(outcome).await?.map_err(|_| StoreError(gone()))?
    }

    /// Reads from the last commit, beside the runtime.
    async fn read<T: Send + 'static>(
        &self,
        reading: impl FnOnce(Snapshot) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let open = self.database.load_full().ok_or_else(|| StoreError("the file is closed".to_owned()))?;
        let now = self.clock.unix();
        let reading = tokio::task::spawn_blocking(move || {
            let transaction = open.0.begin_read()?;
            reading(Snapshot { transaction, now })
        });
        let outcome = patiently(reading).await?.map_err(|error| StoreError(error.to_string()))?;
        outcome.map_err(|error| StoreError(error.to_string()))
    }
}

impl Drop for File {
    /// The file is free again when this returns.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It panics at worst, and then it has ended too.
            drop(thread.join());
        }
    }
}

fn gone() -> String {
    "the store's thread has ended".to_owned()
}

async fn patiently<T>(work: impl Future<Output = T>) -> Result<T, StoreError> {
    let late = |_| StoreError("the disk did not answer in time".to_owned());
    tokio::time::timeout(PATIENCE, work).await.map_err(late)
}

#[async_trait]
impl Store for File {
    async fn add(&self, table: Table, name: &Name, row: Row) -> Result<Added, StoreError> {
        match self.write(table, Verb::Add(*name, row)).await? {
            Done::Added(added) => Ok(added),
            _ => Err(StoreError(gone())),
        }
    }

    async fn get(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        let name = *name;
        self.read(move |snapshot| snapshot.value(table, &name)).await
    }

    async fn take(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        match self.write(table, Verb::Take(*name)).await? {
            Done::Taken(value) => Ok(value),
            _ => Err(StoreError(gone())),
        }
    }

    async fn replace(&self, table: Table, name: &Name, before: &[u8], row: Row) -> Result<bool, StoreError> {
        self.rename(table, name, before, name, row).await
    }

    async fn rename(&self, table: Table, name: &Name, before: &[u8], to: &Name, row: Row) -> Result<bool, StoreError> {
        match self.write(table, Verb::Replace { name: *name, before: before.to_vec(), to: *to, row }).await? {
            Done::Replaced(replaced) => Ok(replaced),
            _ => Err(StoreError(gone())),
        }
    }

    async fn page(&self, table: Table, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let unknown = |_| StoreError("an unknown cursor".to_owned());
        let after: Option<Name> = from.map(|cursor| cursor.as_slice().try_into().map_err(unknown)).transpose()?;
        self.read(move |snapshot| snapshot.page(table, after)).await
    }

    async fn changes(&self, table: Table) -> Result<u64, StoreError> {
        Ok(self.changes.of(table))
    }
}

/// Whether the file is there.
///
/// # Errors
/// Something else is.
pub fn look(path: &Path) -> Result<bool, OpenError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(unusable(path, std::io::ErrorKind::IsADirectory)),
        Ok(metadata) if !metadata.is_file() => Err(unusable(path, std::io::ErrorKind::Unsupported)),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unusable(path, error.kind())),
    }
}

/// Puts a store that is closed in a place, for good: a power failure does not undo it.
///
/// # Errors
/// The file cannot be moved there.
pub fn place(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)?;
    sync_folder(to)
}

/// Sees to it that the name of a file is on the disk, as what is in it.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

fn unusable(path: &Path, kind: std::io::ErrorKind) -> OpenError {
    OpenError {
        message: format!("the store `{}` cannot be opened: {}", path.display(), words(kind)),
        help: "the gateway needs a file that it may write, in a folder that exists and that it may write too",
    }
}

/// What becomes of a file that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It is made.
    Make,
    /// It is an error: an empty store would forget what was revoked.
    Refuse,
}

/// Opens or makes the file, checks every page of it, and sees to its mode.
fn open(path: &Path, missing: Missing) -> Result<Open, OpenError> {
    let shown = path.display();
    let unusable = |kind| unusable(path, kind);
    let is_new = match (look(path)?, missing) {
        (true, _) => false,
        (false, Missing::Make) => true,
        (false, Missing::Refuse) => return Err(unusable(std::io::ErrorKind::NotFound)),
    };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| unusable(error.kind()))?;
    let mode = file.metadata().map_err(|error| unusable(error.kind()))?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(|error| unusable(error.kind()))?;
    }
    if is_new {
        // Or the file could be gone after a power failure although what is in it was synced.
        sync_folder(path).map_err(|error| unusable(error.kind()))?;
    }
    let damaged = |what: String| OpenError {
        message: format!("the store `{shown}` is damaged or none of this program: {what}"),
        help: "put a copy of it in its place, or move it away and begin with an empty one: everybody signs in again then, \
               and what was revoked must be revoked again",
    };
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let backend = FileBackend::new(file)?;
        // A file that was changed by something else is told from one that was only not closed.
        redb::Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).create_with_backend(backend)
    }));
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            return Err(OpenError {
                message: format!("the store `{shown}` is in use by another process"),
                help: "stop the other gateway or command that uses this file; gateways that run at the same time each need \
                       a file of their own",
            });
        }
        Ok(Err(DatabaseError::Storage(StorageError::Io(error)))) if error.kind() != std::io::ErrorKind::InvalidData => {
            return Err(unusable(error.kind()));
        }
        Ok(Err(error)) => return Err(damaged(error.to_string())),
        Err(_) => return Err(damaged("it cannot be read".to_owned())),
    };
    match rows::prepare(&database) {
        Ok(Found::Store) => Ok(Open(database)),
        Ok(Found::OtherVersion) => Err(OpenError {
            message: format!("the store `{shown}` was written by another version of this program"),
            help: "export it with the version that wrote it, and import that with this one",
        }),
        Ok(Found::Foreign) => Err(damaged("it is the database of something else".to_owned())),
        Err(error) => Err(damaged(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
