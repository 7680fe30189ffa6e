//! Follows the files: watch, settle, load, compile, swap. A bad file never takes down a good service.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::diagnostics::{Diagnostic, Report, Severity};
use crate::engine::decision::Reason;
use crate::engine::snapshot::Snapshot;
use crate::policy::codes;
use crate::policy::compile::{Compiler, Entry};
use crate::policy::document::installation::OnInvalid;
use crate::policy::load::{self, Before, Good, Loaded};
use crate::policy::model::{Installation, Service};
use crate::policy::resolve::Overrides;
use crate::policy::source::Layout;

/// Files must be quiet for so long: editors and orchestrators write in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// But no longer than this, or a busy folder would never be read.
const LONGEST_SETTLE: Duration = Duration::from_secs(1);
/// The backstop for file systems that do not tell.
const POLL: Duration = Duration::from_secs(2);

/// Whether a broken policy is fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtStart {
    /// Nothing starts.
    Refuse,
    /// The rest is served.
    ServeTheRest,
}

/// The files, and what was made of them last.
#[derive(Debug)]
pub struct Reloader {
    layout: Layout,
    overrides: Overrides,
    compiler: Compiler,
    before: Before,
    /// Since when the last good version of a file serves although the file is broken.
    stale: HashMap<PathBuf, Instant>,
}

impl Reloader {
    /// A reloader that has loaded nothing yet.
    #[must_use]
    pub fn new(layout: Layout, overrides: Overrides, compiler: Compiler) -> Self {
        Self { layout, overrides, compiler, before: Before::default(), stale: HashMap::new() }
    }

    /// Loads for the first time.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn start(&mut self, broken: AtStart) -> Result<(Snapshot, Report), Report> {
        let files = self.layout.read()?;
        let loaded = load::load(&files, &self.overrides, &self.before);
        if loaded.installation.is_none() || (loaded.report.has_errors() && broken == AtStart::Refuse) {
            return Err(loaded.report);
        }
        let report = loaded.report.clone();
        self.take_over(loaded).map(|snapshot| (snapshot, report.clone())).map_err(|diagnostic| {
            let mut report = report;
            report.push(diagnostic);
            report
        })
    }

    /// The installation that runs.
    #[must_use]
    pub fn installation(&self) -> Option<&Arc<Installation>> {
        self.before.installation.as_ref().map(|good| &good.model)
    }

    /// Loads again. `None` when nothing may be concluded from what was found.
    pub fn reload(&mut self) -> (Option<Snapshot>, Report) {
        let files = match self.layout.read() {
            Ok(files) => files,
            Err(report) => return (None, report),
        };
        let mut loaded = load::load(&files, &self.overrides, &self.before);
        self.refuse_what_needs_a_restart(&mut loaded);
        let mut report = std::mem::take(&mut loaded.report);
        match self.take_over(loaded) {
            Ok(snapshot) => (Some(snapshot), report),
            Err(diagnostic) => {
                report.push(diagnostic);
                (None, report)
            }
        }
    }

    /// Listeners and the log are fixed once the process runs: a file that changes them is broken as a whole.
    fn refuse_what_needs_a_restart(&self, loaded: &mut Loaded) {
        let (Some(old), Some(new)) = (self.installation(), &loaded.installation) else { return };
        let changed = if old.listeners != new.model.listeners {
            "listeners"
        } else if old.log.file != new.model.log.file {
            "log.file"
        } else {
            return;
        };
        let diagnostic = Diagnostic::error(
            codes::NEEDS_RESTART,
            format!("`{changed}` cannot change while the process runs; {} is left as it was", new.source.name),
        );
        loaded.report.push(diagnostic.help("restart the process"));
        loaded.installation = None;
    }

    fn take_over(&mut self, loaded: Loaded) -> Result<Snapshot, Diagnostic> {
        let Some(installation) = loaded.installation.or_else(|| self.before.installation.clone()) else {
            return Err(Diagnostic::error(codes::UNREADABLE, "there is no installation to serve"));
        };
        let mut running = HashMap::new();
        let mut entries: Vec<Entry> = Vec::with_capacity(loaded.policies.len());
        let mut stale = HashMap::new();
        // Those whose file is broken come first: they keep their name and route against newcomers.
        for policy in loaded.policies.iter().filter(|policy| policy.good.is_none()) {
            let Some(last) = self.before.running.get(&policy.path) else { continue };
            let since = *self.stale.get(&policy.path).unwrap_or(&Instant::now());
            entries.push(self.last_good(&policy.path, last, &installation, since));
            running.insert(policy.path.clone(), Arc::clone(last));
            stale.insert(policy.path.clone(), since);
        }
        for policy in loaded.policies {
            let Some(good) = policy.good else { continue };
            if entries.iter().any(|entry| claims_the_same(&entry.good.model, &good.model)) {
                tracing::error!(event = "policy-refused", file = %policy.path.display(), "another service has this name or route");
                continue;
            }
            running.insert(policy.path, Arc::clone(&good));
            entries.push(Entry { good, closed: None });
        }
        let snapshot = self.compiler.snapshot(&installation, &entries)?;
        self.before = Before { installation: Some(installation), running };
        self.stale = stale;
        Ok(snapshot)
    }

    /// The last good version of a broken policy, against the newest installation: never with a provider, key or secret
    /// that is gone, and not for longer than the installation says.
    fn last_good(
        &self,
        path: &Path,
        last: &Arc<Good<Service>>,
        installation: &Good<Installation>,
        since: Instant,
    ) -> Entry {
        let too_stale = installation.model.max_stale.is_some_and(|longest| since.elapsed() > longest);
        match load::again(path, last, installation) {
            None => Entry { good: Arc::clone(last), closed: Some(Reason::ProviderRemoved) },
            Some(good) if too_stale || installation.model.on_invalid == OnInvalid::Close => {
                Entry { good, closed: Some(Reason::ServiceClosed) }
            }
            Some(good) => Entry { good, closed: None },
        }
    }

    /// Everything whose change means something: times and sizes of all files, without reading them.
    fn fingerprint(&self) -> HashSet<(PathBuf, Option<(SystemTime, u64)>)> {
        let installation = self.before.installation.iter().flat_map(|good| &good.dependencies);
        let dependencies = self.before.running.values().flat_map(|good| &good.dependencies).chain(installation);
        let dependencies = dependencies.filter_map(|dependency| match &dependency.from {
            crate::secret::SecretRef::File(path) => Some(path.clone()),
            crate::secret::SecretRef::Env(_) => None,
        });
        let of = |path: PathBuf| {
            let metadata = std::fs::metadata(&path).ok();
            let known = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
            (path, known)
        };
        self.layout.files().into_iter().chain(dependencies).map(of).collect()
    }

    /// Folders in which a change may mean something.
    fn folders(&self) -> HashSet<PathBuf> {
        let installation = self.before.installation.iter().flat_map(|good| &good.dependencies);
        let dependencies = self.before.running.values().flat_map(|good| &good.dependencies).chain(installation);
        let folders = dependencies.filter_map(|dependency| dependency.folder().map(Path::to_owned));
        self.layout.folders().into_iter().chain(folders).filter(|folder| folder.is_dir()).collect()
    }

    /// Whether a file is broken whose last good version will have to close one day.
    fn waits_for_staleness(&self) -> bool {
        !self.stale.is_empty() && self.installation().is_some_and(|installation| installation.max_stale.is_some())
    }
}

fn claims_the_same(one: &Service, other: &Service) -> bool {
    one.name == other.name || (one.host == other.host && one.resource.path() == other.resource.path())
}

/// A reason to look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something changed in a watched folder.
    Changed,
    /// An operator asks (SIGHUP): look even if nothing seems to have changed.
    Asked,
}

/// Follows the files until the sender of `wake` is gone, and puts every new snapshot into `current`. `swapped` is told of
/// the installation behind each.
pub fn follow(
    mut reloader: Reloader,
    current: &ArcSwap<Snapshot>,
    wake: &Receiver<Wake>,
    told: Sender<Wake>,
    mut swapped: impl FnMut(&Installation),
) {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // The follower may have ended.
            let _ = told.send(Wake::Changed);
        }
    })
    .inspect_err(|error| tracing::warn!(event = "watch-failed", %error, "files are polled only"))
    .ok();
    let mut watched = HashSet::new();
    watch(watcher.as_mut(), &mut watched, &reloader);
    let mut seen = reloader.fingerprint();
    loop {
        match wake.recv_timeout(POLL) {
            Ok(Wake::Asked) => {}
            Ok(Wake::Changed) => settle(wake),
            Err(RecvTimeoutError::Timeout) => {
                if reloader.fingerprint() == seen && !reloader.waits_for_staleness() {
                    continue;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        seen = reloader.fingerprint();
        let (snapshot, report) = reloader.reload();
        tell(&report);
        if let Some(snapshot) = snapshot.filter(|snapshot| {
            snapshot.hash != current.load().hash
                || !reloader.stale.is_empty()
                || changed_state(snapshot, &current.load())
        }) {
            tracing::info!(
                event = "reloaded",
                generation = snapshot.generation,
                hash = snapshot.hash,
                services = snapshot.services.len(),
                "a new snapshot serves"
            );
            current.store(Arc::new(snapshot));
        }
        if let Some(installation) = reloader.installation() {
            swapped(installation);
        }
        watch(watcher.as_mut(), &mut watched, &reloader);
    }
}

/// Whether a service opened or closed although no file changed.
fn changed_state(new: &Snapshot, old: &Snapshot) -> bool {
    let open =
        |snapshot: &Snapshot| snapshot.services.iter().map(|service| service.pipeline().is_ok()).collect::<Vec<_>>();
    open(new) != open(old)
}

/// Waits until the files are quiet.
fn settle(wake: &Receiver<Wake>) {
    let began = Instant::now();
    while began.elapsed() < LONGEST_SETTLE && wake.recv_timeout(SETTLE).is_ok() {}
}

/// Watches every folder that has come to mean something.
fn watch(watcher: Option<&mut RecommendedWatcher>, watched: &mut HashSet<PathBuf>, reloader: &Reloader) {
    let Some(watcher) = watcher else { return };
    let wanted = reloader.folders();
    for gone in watched.difference(&wanted) {
        // A folder that was removed is no longer watched anyway.
        let _ = watcher.unwatch(gone);
    }
    for new in wanted.difference(watched) {
        if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
            tracing::warn!(event = "watch-failed", folder = %new.display(), %error, "the folder is polled only");
        }
    }
    *watched = wanted;
}

/// Says in the event log what was found.
pub fn tell(report: &Report) {
    for diagnostic in report.sorted() {
        let place = diagnostic.place.as_ref();
        let (line, column) = place.map_or((0, 0), crate::diagnostics::Place::start);
        let (file, help) = (place.map(|place| place.source.name.as_str()), diagnostic.help.as_deref());
        let (code, message) = (diagnostic.code, diagnostic.message.as_str());
        match diagnostic.severity {
            Severity::Error => tracing::error!(event = "policy-error", code, file, line, column, help, "{message}"),
            Severity::Warning => tracing::warn!(event = "policy-warning", code, file, line, column, help, "{message}"),
        }
    }
}
