//! Which files make an installation, and their texts.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::codes;
use crate::diagnostics::{Diagnostic, Report, Source};
use crate::secret::{open_regular, words};

/// Bytes of one file that are read at most.
const LARGEST: u64 = 1024 * 1024;
/// The installation's file.
pub const INSTALLATION: &str = "portcullis.yaml";
/// The folder of policies beside it.
const POLICIES: &str = "policies";
/// A file that changed so shortly before it was read may change again without looking different from outside.
const CLOCK_TICK: Duration = Duration::from_secs(2);

/// Where the operator's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `portcullis.yaml`; absent, every setting has its default.
    pub installation: Option<PathBuf>,
    /// Folders whose `*.yaml` and `*.yml` are policies, and single policy files.
    pub policies: Vec<PathBuf>,
}

/// One file of an installation.
#[derive(Debug, Clone)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What it says, or what is wrong with it.
    pub text: Result<Arc<Source>, Diagnostic>,
}

/// How a file looks from outside: what differs means that it may say something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    changed: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

/// Which files there are and how each looks, without reading one. Of a file that is not there, there is no stamp.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    installation: Option<(PathBuf, Option<Stamp>)>,
    policies: Vec<(PathBuf, Option<Stamp>)>,
    folders: Vec<String>,
}

/// Texts by path, as they were last read: what looks the same from outside is not read again, unless it had changed too
/// shortly before (there is no stamp then).
#[derive(Debug, Default)]
pub struct Texts(HashMap<PathBuf, (Option<Stamp>, Arc<Source>)>);

/// Everything that was read at once.
#[derive(Debug, Clone)]
pub struct Files {
    /// `portcullis.yaml`, when there is one.
    pub installation: Option<File>,
    /// The policies, in the order of their paths.
    pub policies: Vec<File>,
}

impl Layout {
    /// The layout of what was named on the command line: a directory with `portcullis.yaml` or `policies/`, a directory
    /// of policies, or single policy files.
    #[must_use]
    pub fn of(paths: &[PathBuf], config: Option<&Path>) -> Self {
        let mut layout = Self { installation: config.map(Path::to_owned), policies: Vec::new() };
        for path in paths {
            let (installation, policies) = (path.join(INSTALLATION), path.join(POLICIES));
            if path.file_name().is_some_and(|name| name == INSTALLATION) {
                layout.installation.get_or_insert_with(|| path.clone());
                layout.policies.push(path.with_file_name(POLICIES));
            } else if installation.exists() || policies.exists() {
                if installation.exists() {
                    layout.installation.get_or_insert(installation);
                }
                layout.policies.push(policies);
            } else {
                layout.policies.push(path.clone());
            }
        }
        layout
    }

    /// Every folder that must be watched to notice a change of any file.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let folder = |path: &PathBuf| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => path.clone(),
        };
        // The folder around a folder of policies tells when another takes its place.
        let policies = self.policies.iter().filter(|path| path.is_dir()).cloned();
        self.installation.iter().chain(&self.policies).map(folder).chain(policies).collect()
    }

    /// Looks at every file from outside.
    #[must_use]
    pub fn look(&self) -> Look {
        let seen = |path: PathBuf| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        };
        let (mut policies, mut folders) = (Vec::new(), Vec::new());
        for path in &self.policies {
            match policy_paths(path) {
                Ok(paths) => policies.extend(paths),
                Err(diagnostic) => folders.push(diagnostic.message),
            }
        }
        policies.sort_unstable();
        policies.dedup();
        Look {
            installation: self.installation.clone().map(seen),
            policies: policies.into_iter().map(seen).collect(),
            folders,
        }
    }

    /// Reads every file.
    ///
    /// # Errors
    /// A folder is missing, unreadable or empty: nothing may be concluded from that, least of all that every policy was
    /// deleted.
    pub fn read(&self) -> Result<Files, Report> {
        self.read_again(&self.look(), &mut Texts::default())
    }

    /// Reads the files that `look` found, except those whose text is known.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_again(&self, look: &Look, texts: &mut Texts) -> Result<Files, Report> {
        let mut report = Report::default();
        if !look.folders.is_empty() {
            self.policies.iter().filter_map(|path| policy_paths(path).err()).for_each(|found| report.push(found));
        }
        if report.has_errors() {
            return Err(report);
        }
        let began = SystemTime::now();
        let before = std::mem::take(&mut texts.0);
        let mut file = |(path, stamp): &(PathBuf, Option<Stamp>)| {
            let last = before.get(path);
            let known = last.filter(|(known, _)| known.is_some() && known == stamp);
            let mut text = known.map_or_else(|| read(path), |(_, text)| Ok(Arc::clone(text)));
            if let Ok(text) = &mut text {
                // One text is held once, and is soon seen to be the same.
                if let Some((_, last)) = last.filter(|(_, last)| last == text) {
                    *text = Arc::clone(last);
                }
                let stamp = stamp.filter(|stamp| known.is_some() || stamp.is_settled(began));
                texts.0.insert(path.clone(), (stamp, Arc::clone(text)));
            }
            File { path: path.clone(), text }
        };
        Ok(Files {
            installation: look.installation.as_ref().map(&mut file),
            policies: look.policies.iter().map(&mut file).collect(),
        })
    }
}

impl Stamp {
    /// How the file at `path` looks; a link looks like what it leads to.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
        })
    }

    /// Whether the file changed long enough before `moment` for a further change to show.
    fn is_settled(&self, moment: SystemTime) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or_default();
        moment.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|now| now.as_secs() > seconds + CLOCK_TICK.as_secs())
    }
}

fn policy_paths(path: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error: std::io::Error| {
        Diagnostic::error(codes::UNREADABLE, format!("`{}` cannot be read: {}", shown(path), words(error.kind())))
            .help("name a policy file, or a directory with `portcullis.yaml` and `policies/`")
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?.path();
        let hidden = entry.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
        let yaml = entry.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // What is no file (a dangling link in the middle of an update, a folder) is reported by reading it: a policy whose
        // place something else has taken was not deleted.
        if yaml && !hidden && entry.file_name().is_some_and(|name| name != INSTALLATION) {
            paths.push(entry);
        }
    }
    if paths.is_empty() {
        return Err(Diagnostic::error(codes::NO_POLICY, format!("no policy in `{}`", shown(path)))
            .help("a policy is a file that ends in `.yaml`"));
    }
    Ok(paths)
}

fn read(path: &Path) -> Result<Arc<Source>, Diagnostic> {
    let name = shown(path);
    let unreadable = |error: std::io::Error| {
        Diagnostic::error(codes::UNREADABLE, format!("`{name}` cannot be read: {}", words(error.kind())))
    };
    let mut bytes = Vec::new();
    open_regular(path).map_err(unreadable)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        let diagnostic = Diagnostic::error(codes::TOO_LARGE, format!("`{name}` is larger than 1 MiB"));
        return Err(diagnostic.help("no policy needs so much; long lists of names are often one pattern"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        Diagnostic::error(codes::NOT_UTF8, format!("`{name}` is not UTF-8: line {line} holds other bytes"))
            .help("save the file as UTF-8")
    })?;
    Ok(Arc::new(Source { name, text }))
}

/// A path as people write it: without `./` before it.
pub(super) fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}
