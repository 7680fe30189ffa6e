//! Which files make an installation, and their texts.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codes;
use crate::diagnostics::{Diagnostic, Report, Source};
use crate::secret::words;

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
    pub path: PathBuf,
    /// What it says, or what is wrong with it.
    pub text: Result<Arc<Source>, Diagnostic>,
}

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
        let policies = self.policies.iter().map(|path| if path.is_dir() { path.clone() } else { folder(path) });
        self.installation.iter().map(folder).chain(policies).collect()
    }

    /// Every file of the layout as it is now, without reading one.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let policies = self.policies.iter().flat_map(|path| policy_paths(path).unwrap_or_default());
        self.installation.iter().cloned().chain(policies).collect()
    }

    /// Reads every file.
    ///
    /// # Errors
    /// A folder is missing, unreadable or empty: nothing may be concluded from that, least of all that every policy was
    /// deleted.
    pub fn read(&self) -> Result<Files, Report> {
        let mut report = Report::default();
        let mut policies = Vec::new();
        for path in &self.policies {
            match policy_paths(path) {
                Ok(paths) => policies.extend(paths),
                Err(diagnostic) => report.push(diagnostic),
            }
        }
        if report.has_errors() {
            return Err(report);
        }
        policies.sort();
        policies.dedup();
        let file = |path: PathBuf| File { text: read(&path), path };
        Ok(Files {
            installation: self.installation.clone().map(file),
            policies: policies.into_iter().map(file).collect(),
        })
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
        // What is not there any more (a dangling link in the middle of an update) is reported by reading it.
        if yaml && !hidden && !entry.is_dir() && entry.file_name().is_some_and(|name| name != INSTALLATION) {
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
    std::fs::File::open(path).map_err(unreadable)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
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
