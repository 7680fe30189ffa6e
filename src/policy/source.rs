//! Which files make an installation, and their texts.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::by_path::{ByPath, FilePath};
use super::look::{Depth, Folders, Look, Stamp, policy_files};
use super::{codes, parallel};
use crate::diagnostics::{Diagnostic, Report, Source};
use crate::secret::{open_regular, words};

/// Bytes of one file that are read at most.
const LARGEST: u64 = 1024 * 1024;
/// The installation's file.
pub const INSTALLATION: &str = "portcullis.yaml";
/// The folder of policies beside it.
const POLICIES: &str = "policies";

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
    pub path: FilePath,
    /// What it says, or what is wrong with it.
    pub text: Result<Arc<Source>, Diagnostic>,
}

/// Texts by path, as they were last read: what looks the same from outside is not read again, unless it had changed too
/// shortly before (there is no stamp then).
#[derive(Debug, Default)]
pub struct Texts(ByPath<(Option<Stamp>, Arc<Source>)>);

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

    /// Reads every file.
    ///
    /// # Errors
    /// A folder is missing, unreadable or empty: nothing may be concluded from that, least of all that every policy was
    /// deleted.
    pub fn read(&self) -> Result<Files, Report> {
        self.read_again(&self.look(&mut Folders::default(), Depth::Full), &mut Texts::default())
    }

    /// Reads the files that `look` found, except those whose text is known.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_again(&self, look: &Look, texts: &mut Texts) -> Result<Files, Report> {
        let mut report = Report::default();
        if !look.folders.is_empty() {
            self.policies.iter().filter_map(|path| policy_files(path).err()).for_each(|found| report.push(found));
        }
        // What has come back meanwhile was not looked at: nothing may be concluded from that either.
        if report.is_empty() {
            let missed = look.folders.iter().map(|message| Diagnostic::error(codes::UNREADABLE, message.clone()));
            missed.for_each(|found| report.push(found));
        }
        if report.has_errors() {
            return Err(report);
        }
        let began = SystemTime::now();
        let before = std::mem::take(&mut texts.0);
        let installation = look.installation.iter().map(|(path, stamp)| (path, stamp));
        let all: Vec<(&FilePath, &Option<Stamp>)> =
            installation.chain(look.policies.iter().zip(look.stamps.iter())).collect();
        let is_known = |(path, stamp): &(&FilePath, &Option<Stamp>)| {
            let is_same = |known: &Option<Stamp>| known.is_some() && known == *stamp;
            before.get(*path).filter(|(known, _)| is_same(known) || look.held.contains(path))
        };
        let unknown: Vec<&FilePath> =
            all.iter().filter(|file| is_known(file).is_none()).map(|(path, _)| *path).collect();
        let mut read = parallel::map(&unknown, |path| self::read(path)).into_iter();
        texts.0.reserve(all.len());
        let mut files = Vec::with_capacity(all.len());
        for file in &all {
            let (path, stamp) = *file;
            if let Some((_, text)) = is_known(file) {
                texts.0.insert(path.clone(), (*stamp, Arc::clone(text)));
                files.push(File { path: path.clone(), text: Ok(Arc::clone(text)) });
                continue;
            }
            let Some(mut text) = read.next() else { continue };
            if let Ok(text) = &mut text {
                // One text is held once, and is soon seen to be the same.
                if let Some((_, last)) = before.get(path).filter(|(_, last)| last == text) {
                    *text = Arc::clone(last);
                }
                let stamp = stamp.filter(|stamp| stamp.is_settled(began));
                texts.0.insert(path.clone(), (stamp, Arc::clone(text)));
            }
            files.push(File { path: path.clone(), text });
        }
        let policies = files.split_off(usize::from(look.installation.is_some()));
        Ok(Files { installation: files.pop(), policies })
    }
}

/// Reads one file.
///
/// # Errors
/// It cannot be read, is too large or not UTF-8.
pub(super) fn read(path: &Path) -> Result<Arc<Source>, Diagnostic> {
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
    bytes.shrink_to_fit();
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
