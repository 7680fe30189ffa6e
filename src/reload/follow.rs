//! Notices changes, waits until they are whole, and swaps.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::{Inode, Reloader, kernel};
use crate::diagnostics::{Place, Report, Severity};
use crate::engine::service::State;
use crate::engine::snapshot::Snapshot;
use crate::policy::look::Depth;
use crate::policy::model::Installation;
use crate::stores::Settings;

/// Files must be quiet for so long: editors and orchestrators write in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// But no longer than this, or a busy folder would never be read.
const LONGEST_SETTLE: Duration = Duration::from_secs(1);
/// Somebody who writes a file for longer than this is not waited for.
const LONGEST_WRITE: Duration = Duration::from_secs(10);
/// The backstop for file systems that do not tell: with the settling, a change is still served within two seconds.
const POLL: Duration = Duration::from_millis(1500);
/// Where the kernel tells of every change, what it told nothing of is still looked at so often.
const LOOK_AT_ALL: Duration = Duration::from_secs(15);

/// Files of which nothing is known before they are quiet, and since when: they are taken as they were before.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Somebody is writing them.
    pub(super) writing: HashMap<PathBuf, Instant>,
    /// They are gone, and perhaps only to be replaced.
    pub(super) gone: HashMap<PathBuf, Instant>,
}

impl Unsettled {
    fn forget_what_is_quiet(&mut self) {
        self.writing.retain(|_, since| since.elapsed() < LONGEST_WRITE);
        self.gone.retain(|_, since| since.elapsed() < SETTLE);
    }
}

/// A reason to look at the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// Something changed in a watched folder.
    Changed,
    /// Somebody is writing this file.
    Writing(PathBuf),
    /// Whoever wrote this file has closed it.
    Written(PathBuf),
    /// The file was removed.
    Gone(PathBuf),
    /// An operator asks (SIGHUP): look even if nothing seems to have changed.
    Asked,
}

/// Watches the files of a reloader.
#[derive(Debug)]
pub struct Follower {
    reloader: Reloader,
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<(PathBuf, Inode)>,
    /// Whether the kernel tells of every change.
    all_is_told: bool,
}

impl Follower {
    /// Begins to watch: every change from now on is `told`.
    #[must_use]
    pub fn new(reloader: Reloader, told: Sender<Wake>) -> Self {
        let own = reloader.installation().map(|installation| own_files(installation)).unwrap_or_default();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for wake in event.iter().flat_map(|event| wakes(event, &own)) {
                // The follower may have ended.
                let _ = told.send(wake);
            }
        })
        .inspect_err(|error| tracing::warn!(event = "watch-failed", %error, "files are polled only"))
        .ok();
        let mut follower = Self { reloader, watcher, watched: HashSet::new(), all_is_told: false };
        follower.watch();
        follower
    }

    /// Follows the files until the sender of `wake` is gone, and puts every new snapshot into `current`. `reloaded` is
    /// called whenever files were read.
    pub fn follow(mut self, current: &ArcSwap<Snapshot>, wake: &Receiver<Wake>, mut reloaded: impl FnMut()) {
        // Snapshots that requests may still be judged by: the last of them shall not have to take one down.
        let mut retired: Vec<Arc<Snapshot>> = Vec::new();
        // What changed between the first load and the first watch was told by nobody.
        let mut full: Option<Instant> = None;
        let mut unsettled = Unsettled::default();
        loop {
            retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
            let woken = match wake.recv_timeout(POLL) {
                Ok(woken) => Some(woken),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let told = woken.is_some();
            let mut asked = woken.is_some_and(|woken| settle(woken, wake, &mut unsettled));
            unsettled.forget_what_is_quiet();
            // What no event told of may be on a file system that does not tell; nor do events, however many, put off looking
            // for it.
            let depth = match full.map_or(LOOK_AT_ALL, |full| full.elapsed()) {
                since if since >= LOOK_AT_ALL || (since >= POLL && !self.all_is_told) => Depth::Full,
                _ if told => Depth::Changes,
                _ => Depth::Untold,
            };
            if depth == Depth::Full {
                full = Some(Instant::now());
            }
            let mut look = self.reloader.look_beside(depth, &unsettled);
            if look == self.reloader.seen && !asked && !self.reloader.has_become_stale() {
                continue;
            }
            // What no event told of is given the same time to become quiet.
            let began = Instant::now();
            while !told && began.elapsed() < LONGEST_SETTLE {
                asked |= settle(Wake::Changed, wake, &mut unsettled);
                unsettled.forget_what_is_quiet();
                let before = std::mem::replace(&mut look, self.reloader.look_beside(Depth::Full, &unsettled));
                if before == look {
                    break;
                }
            }
            let (snapshot, report) = if asked { self.reloader.reload() } else { self.reloader.load(look) };
            tell(&report);
            if let Some(snapshot) = snapshot.filter(|snapshot| differs(snapshot, &current.load())) {
                let snapshot = Arc::new(snapshot);
                retired.push(current.swap(Arc::clone(&snapshot)));
                // Whoever reads this may count on it: it is said when every new request gets the new one.
                tracing::info!(
                    event = "reloaded",
                    generation = snapshot.generation,
                    hash = snapshot.hash,
                    services = snapshot.services.len(),
                    "a new snapshot serves"
                );
            }
            reloaded();
            self.watch();
        }
    }

    /// Watches every folder that has come to mean something.
    fn watch(&mut self) {
        let Some(watcher) = self.watcher.as_mut() else { return };
        let mut wanted = self.reloader.folders();
        let mut all_is_told = wanted.iter().all(|(folder, _)| kernel::sees_every_change(folder));
        for (gone, _) in self.watched.difference(&wanted) {
            // A folder that was removed is no longer watched anyway.
            let _ = watcher.unwatch(gone);
        }
        wanted.retain(|folder| {
            let done = self.watched.contains(folder) || start(watcher, &folder.0);
            all_is_told &= done;
            done
        });
        self.watched = wanted;
        self.all_is_told = all_is_told;
    }
}

/// What the gateway itself writes while it runs: its log and its store.
fn own_files(installation: &Installation) -> Vec<PathBuf> {
    let store = match &installation.store {
        Some(Settings::File(path)) => Some(path),
        _ => None,
    };
    installation.log.file.iter().chain(store).filter_map(|path| path.canonicalize().ok()).collect()
}

/// What an event of the file system tells. What the gateway itself writes is none of it.
fn wakes(event: &notify::Event, own: &[PathBuf]) -> Vec<Wake> {
    let is_own = |path: &PathBuf| {
        let same =
            |own: &PathBuf| path.file_name() == own.file_name() && path.canonicalize().is_ok_and(|path| path == *own);
        own.iter().any(same)
    };
    if !event.paths.is_empty() && event.paths.iter().all(is_own) {
        return Vec::new();
    }
    let paths = event.paths.iter().cloned();
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => paths.map(Wake::Writing).collect(),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => paths.map(Wake::Written).collect(),
        EventKind::Remove(_) => paths.map(Wake::Gone).collect(),
        EventKind::Access(_) => Vec::new(),
        _ => vec![Wake::Changed],
    }
}

/// Whether a snapshot means something else than the one that serves.
fn differs(new: &Snapshot, old: &Snapshot) -> bool {
    let closed = |snapshot: &Snapshot| {
        let states = snapshot.services.iter().map(|service| match &service.state {
            State::Open(_) => None,
            State::Closed(reason) => Some(*reason),
        });
        states.collect::<Vec<_>>()
    };
    new.hash != old.hash || closed(new) != closed(old)
}

/// Waits until the files are quiet and nobody is in the middle of writing one, or for as long as others can wait. Tells
/// whether an operator asked meanwhile.
fn settle(first: Wake, wake: &Receiver<Wake>, unsettled: &mut Unsettled) -> bool {
    let Unsettled { writing, gone } = unsettled;
    let began = Instant::now();
    let mut next = Some(first);
    while began.elapsed() < LONGEST_SETTLE {
        match next {
            Some(Wake::Asked) => return true,
            Some(Wake::Writing(path)) => drop(writing.entry(path).or_insert_with(Instant::now)),
            Some(Wake::Written(path)) => drop(writing.remove(&path)),
            Some(Wake::Gone(path)) => {
                writing.remove(&path);
                gone.insert(path, Instant::now());
            }
            Some(Wake::Changed) => {}
            None if writing.is_empty() => return false,
            None => {}
        }
        next = wake.recv_timeout(SETTLE).ok();
    }
    false
}

fn start(watcher: &mut RecommendedWatcher, folder: &Path) -> bool {
    let started = watcher.watch(folder, RecursiveMode::NonRecursive);
    let failed =
        |error: &_| tracing::warn!(event = "watch-failed", folder = %folder.display(), %error, "it is polled only");
    started.inspect_err(failed).is_ok()
}

/// Says in the event log what was found.
pub fn tell(report: &Report) {
    for diagnostic in report.sorted() {
        let place = diagnostic.place.as_ref();
        let (line, column) = place.map_or((0, 0), Place::start);
        let (file, help) = (place.map(|place| place.source.name.as_str()), diagnostic.help.as_deref());
        let (code, message) = (diagnostic.code, diagnostic.message.as_str());
        match diagnostic.severity {
            Severity::Error => tracing::error!(event = "policy-error", code, file, line, column, help, "{message}"),
            Severity::Warning => tracing::warn!(event = "policy-warning", code, file, line, column, help, "{message}"),
        }
    }
}
