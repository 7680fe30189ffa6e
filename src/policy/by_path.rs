//! What is known of each of many files, by where they are.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a file is. Every look at ten thousand files names the same paths again: copies share one text, and compare at
/// once when they do.
#[derive(Debug, Clone, Eq, PartialOrd, Ord)]
pub struct FilePath(Arc<Path>);

/// Something for each file. Its keys are the operator's, who needs no defence against themselves.
pub type ByPath<T> = HashMap<FilePath, T, foldhash::fast::RandomState>;

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl From<PathBuf> for FilePath {
    fn from(path: PathBuf) -> Self {
        Self(path.into())
    }
}

impl PartialEq for FilePath {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.as_os_str() == other.0.as_os_str()
    }
}

impl Hash for FilePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_os_str().as_bytes());
    }
}
