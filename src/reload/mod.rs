//! Follows the files: watch, settle, load, compile, swap. A bad file never takes down a good service.

mod follow;
mod kernel;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use foldhash::HashMap;

use crate::diagnostics::{Diagnostic, Report, Severity};
use crate::engine::decision::Reason;
use crate::engine::desk::Desk;
use crate::engine::health::Health;
use crate::engine::snapshot::Snapshot;
use crate::policy::by_path::{ByPath, FilePath};
use crate::policy::codes;
use crate::policy::compile::{Compiler, Entry};
use crate::policy::document::installation::OnInvalid;
use crate::policy::load::{self, Before, Claim, Good, Loaded, Running};
use crate::policy::look::{self, Depth, Folders, Stamp};
use crate::policy::model::{Installation, Service};
use crate::policy::resolve::{Dependency, Overrides};
use crate::policy::source::{Layout, Texts};
use crate::secret::SecretRef;
pub use follow::{Follower, Wake, tell};

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
    texts: Texts,
    /// Since when the last good version of a file serves although the file is broken.
    stale: ByPath<Instant>,
    loaded: Instant,
    /// What the files depend on, the broken ones too: each once.
    dependencies: HashSet<SecretRef>,
    /// What the folders held when they were last looked at.
    listed: Folders,
    /// How everything looked before it was read last.
    seen: Look,
    /// Warnings of what was read last.
    warned: HashSet<Warning>,
    health: Arc<Health>,
}

/// A warning with where it is: code, message, file and byte.
type Warning = (&'static str, String, Option<(String, usize)>);

/// Everything whose change means something, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Look {
    files: look::Look,
    dependencies: HashMap<PathBuf, Option<Stamp>>,
}

impl Reloader {
    /// A reloader that has loaded nothing yet.
    #[must_use]
    pub fn new(layout: Layout, overrides: Overrides, compiler: Compiler) -> Self {
        Self {
            layout,
            overrides,
            compiler,
            before: Before::default(),
            texts: Texts::default(),
            stale: ByPath::default(),
            loaded: Instant::now(),
            dependencies: HashSet::new(),
            listed: Folders::default(),
            seen: Look::default(),
            warned: HashSet::new(),
            health: Arc::default(),
        }
    }

    /// Loads for the first time.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn start(&mut self, broken: AtStart) -> Result<(Snapshot, Report), Report> {
        let look = self.look(Depth::Full);
        let files = self.layout.read_again(&look.files, &mut self.texts)?;
        self.seen = look;
        self.before.rest = broken == AtStart::ServeTheRest;
        let mut loaded = load::load(&files, &self.overrides, &self.before);
        let mut report = std::mem::take(&mut loaded.report);
        if loaded.installation.is_none() || (report.has_errors() && broken == AtStart::Refuse) {
            return Err(report);
        }
        self.leave_out_what_was_told(&mut report);
        match self.take_over(loaded) {
            Ok(snapshot) => {
                self.health.found(&report, Vec::new());
                Ok((snapshot, report))
            }
            Err(diagnostic) => {
                report.push(diagnostic);
                Err(report)
            }
        }
    }

    /// What is found when the files are read, for those who ask.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// The installation that runs.
    #[must_use]
    pub fn installation(&self) -> Option<&Arc<Installation>> {
        self.before.installation.as_ref().map(|good| &good.model)
    }

    /// What an operator works with.
    #[must_use]
    pub fn desk(&self) -> Arc<Desk> {
        self.compiler.desk()
    }

    /// Loads again, whatever the files look like from outside. `None` when nothing may be concluded from what was found.
    pub fn reload(&mut self) -> (Option<Snapshot>, Report) {
        self.texts = Texts::default();
        let look = self.look(Depth::Full);
        self.load(look)
    }

    fn load(&mut self, look: Look) -> (Option<Snapshot>, Report) {
        let (snapshot, report) = self.load_again(look);
        let stale = self.stale.iter().map(|(path, since)| (path.display().to_string(), *since)).collect();
        self.health.found(&report, stale);
        (snapshot, report)
    }

    fn load_again(&mut self, look: Look) -> (Option<Snapshot>, Report) {
        self.loaded = Instant::now();
        self.seen = look;
        let files = match self.layout.read_again(&self.seen.files, &mut self.texts) {
            Ok(files) => files,
            Err(report) => return (None, report),
        };
        let mut loaded = load::load(&files, &self.overrides, &self.before);
        let mut report = std::mem::take(&mut loaded.report);
        self.leave_out_what_was_told(&mut report);
        match self.take_over(loaded) {
            Ok(snapshot) => (Some(snapshot), report),
            Err(diagnostic) => {
                report.push(diagnostic);
                (None, report)
            }
        }
    }

    /// Who changes one file wants to hear about that one. Errors are told as long as they last.
    fn leave_out_what_was_told(&mut self, report: &mut Report) {
        let found: HashSet<Warning> = report.diagnostics().iter().filter_map(warning).collect();
        let mut told = std::mem::replace(&mut self.warned, found);
        if !self.warned.is_subset(&told) {
            // What runs and was not read again still has its warnings.
            let installation = self.before.installation.iter().flat_map(|good| good.warnings.diagnostics());
            let policies = self.before.running.values().flat_map(|good| good.warnings.diagnostics());
            told.extend(installation.chain(policies).filter_map(warning).filter(|known| self.warned.contains(known)));
        }
        report.retain(|found| warning(found).is_none_or(|found| !told.contains(&found)));
    }

    fn take_over(&mut self, loaded: Loaded) -> Result<Snapshot, Diagnostic> {
        let Some(installation) = loaded.installation.or_else(|| self.before.installation.clone()) else {
            return Err(Diagnostic::error(codes::UNREADABLE, "there is no installation to serve"));
        };
        let mut running = Running::with_capacity_and_hasher(loaded.policies.len(), Default::default());
        let mut stale = ByPath::default();
        // Those whose file is broken come first: they keep their name and route against newcomers.
        let mut last: Vec<Entry> = Vec::new();
        for policy in loaded.policies.iter().filter(|policy| policy.good.is_none()) {
            let Some(good) = self.before.running.get(&policy.path) else { continue };
            let since = *self.stale.get(&policy.path).unwrap_or(&Instant::now());
            let mut entry = self.last_good(&policy.path, good, &installation, since);
            if policy.closes {
                entry.closed.get_or_insert(Reason::ServiceClosed);
            }
            last.push(entry);
            running.insert(policy.path.clone(), Arc::clone(good));
            stale.insert(policy.path.clone(), since);
        }
        let mut taken = Taken::default();
        for entry in &last {
            taken.take(&entry.good.model);
        }
        let mut entries = last.clone();
        let mut claims = Vec::new();
        for policy in &loaded.policies {
            let Some(good) = &policy.good else {
                claims.extend(policy.claim.as_ref().filter(|_| !stale.contains_key(&policy.path)));
                continue;
            };
            if !taken.take(&good.model) {
                tracing::error!(event = "policy-refused", file = %policy.path.display(), "another service has this name or route");
                continue;
            }
            running.insert(policy.path.clone(), Arc::clone(good));
            entries.push(Entry { good: Arc::clone(good), closed: None });
        }
        let claims: Vec<Claim> = claims.into_iter().filter(|claim| taken.take_claim(claim)).cloned().collect();
        let snapshot = self.compiler.snapshot(&installation, &entries, &claims)?;
        self.before = Before { installation: Some(installation), running, rest: false };
        self.stale = stale;
        self.depend(&loaded.wanted);
        Ok(snapshot)
    }

    /// The last good version of a broken policy, against the newest installation: never with a provider, key or secret
    /// that is gone, and not for longer than the installation says.
    fn last_good(
        &self,
        path: &FilePath,
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

    /// Looks at all files from outside.
    fn look(&mut self, depth: Depth) -> Look {
        let dependencies = self.dependency_files().map(|path| (path.to_owned(), Stamp::of(path))).collect();
        Look { files: self.layout.look(&mut self.listed, depth), dependencies }
    }

    /// Looks at all files but those that somebody is writing or replacing.
    fn look_beside(&mut self, depth: Depth, unsettled: &follow::Unsettled) -> Look {
        let mut look = self.look(depth);
        if !unsettled.writing.is_empty() {
            look.files.hold(&self.seen.files, |path| unsettled.writing.contains_key(path));
        }
        if !unsettled.gone.is_empty() {
            look.files.keep(&self.seen.files, |path| unsettled.gone.contains_key(path));
        }
        look
    }

    /// Notes what the files that were taken over depend on, and `wanted`, which broken ones do.
    fn depend(&mut self, wanted: &[Arc<Dependency>]) {
        let installation = self.before.installation.iter().flat_map(|good| &good.dependencies);
        let policies = self.before.running.values().flat_map(|good| &good.dependencies);
        let all = policies.chain(installation).chain(wanted);
        // Most policies share them, and a pointer is compared sooner than a path.
        let distinct: HashMap<*const Dependency, &Dependency> =
            all.map(|dependency| (Arc::as_ptr(dependency), &**dependency)).collect();
        self.dependencies = distinct.into_values().map(|dependency| dependency.from.clone()).collect();
    }

    fn dependency_files(&self) -> impl Iterator<Item = &Path> {
        self.dependencies.iter().filter_map(|from| if let SecretRef::File(path) = from { Some(&**path) } else { None })
    }

    /// Folders in which a change may mean something, each with how it looks: another folder may take its place.
    fn folders(&self) -> HashSet<(PathBuf, Inode)> {
        let folders: HashSet<&Path> = self.dependency_files().filter_map(Path::parent).collect();
        let folders = folders.into_iter().map(Path::to_owned);
        let all = self.layout.folders().into_iter().chain(folders).filter(|folder| folder.is_dir());
        all.filter_map(|folder| Some((Inode::of(&folder)?, folder))).map(|(inode, folder)| (folder, inode)).collect()
    }

    /// Whether a last good version has served for too long since the files were loaded.
    fn has_become_stale(&self) -> bool {
        let Some(longest) = self.installation().and_then(|installation| installation.max_stale) else { return false };
        let closes = |since: &Instant| since.checked_add(longest);
        self.stale.values().filter_map(closes).any(|closes| self.loaded <= closes && closes < Instant::now())
    }
}

fn warning(found: &Diagnostic) -> Option<Warning> {
    let place = found.place.as_ref().map(|place| (place.source.name.clone(), place.range.start));
    (found.severity == Severity::Warning).then(|| (found.code, found.message.clone(), place))
}

/// Names and routes that services of one snapshot have.
#[derive(Debug, Default)]
struct Taken<'a> {
    names: foldhash::HashSet<&'a str>,
    routes: foldhash::HashSet<(&'a str, &'a str)>,
}

impl<'a> Taken<'a> {
    fn take(&mut self, service: &'a Service) -> bool {
        let (name, route) = (service.name.as_str(), (service.host.as_str(), service.resource.path()));
        !self.names.contains(name) && self.routes.insert(route) && self.names.insert(name)
    }

    fn take_claim(&mut self, claim: &'a Claim) -> bool {
        self.routes.insert((&claim.host, &claim.path))
    }
}

/// Which folder it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inode(u64, u64);

impl Inode {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self(metadata.dev(), metadata.ino()))
    }
}
