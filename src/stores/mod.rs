//! Where flow state is kept, one file each. All of them keep the one contract of `contract`.

pub mod file;
pub mod memory;

use std::path::PathBuf;
use std::sync::Arc;

use self::file::File;
use self::memory::Memory;
use crate::engine::clock::Clock;
use crate::engine::store::Store;

/// Which store an installation has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Settings {
    /// In this process, until it ends.
    #[default]
    Memory,
    /// In a file of this machine, for one process.
    File(PathBuf),
}

impl Settings {
    /// Whether rows outlive the process, so that what seals them must too.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Memory)
    }
}

/// Why a store cannot be opened, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: &'static str,
}

/// Opens the store.
///
/// # Errors
/// It cannot be used.
pub fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match settings {
        Settings::Memory => Arc::new(Memory::new(clock)),
        Settings::File(path) => Arc::new(File::open(path, clock)?),
    })
}

#[cfg(test)]
mod contract;
