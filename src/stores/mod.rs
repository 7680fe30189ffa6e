//! Where flow state is kept, one file each. All of them keep the one contract of `contract`.

pub mod file;
pub mod memory;
pub mod redis;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use self::file::File;
use self::memory::Memory;
use self::redis::{Redis, RedisSettings};
use crate::engine::clock::Clock;
use crate::engine::limits::Counts;
use crate::engine::store::Store;

/// Which store an installation has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Settings {
    /// In this process, until it ends.
    #[default]
    Memory,
    /// In a file of this machine, for one process.
    File(PathBuf),
    /// In Redis or Valkey, for several processes.
    Redis(Box<RedisSettings>),
}

impl From<RedisSettings> for Settings {
    fn from(settings: RedisSettings) -> Self {
        Self::Redis(Box::new(settings))
    }
}

impl Settings {
    /// Whether rows outlive the process, so that what seals them must too.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    /// Whether several processes may use it at once, so that limits are counted there too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// Whether it is the same store, though it may be reached by another password.
    #[must_use]
    pub fn is_where(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Redis(one), Self::Redis(other)) => one.is_where(other),
            _ => self == other,
        }
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

/// A store that is open.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Keeps rows.
    pub store: Arc<dyn Store>,
    /// Whether rows outlive the process.
    pub is_durable: bool,
    redis: Option<Arc<Redis>>,
}

impl Opened {
    /// An empty store in memory.
    #[must_use]
    pub fn memory(clock: Arc<dyn Clock>) -> Self {
        Self { store: Arc::new(Memory::new(clock)), is_durable: false, redis: None }
    }

    /// Who counts limits for all replicas, where there can be several.
    #[must_use]
    pub fn counts(&self) -> Option<Arc<dyn Counts>> {
        self.redis.clone().map(|redis| redis as Arc<dyn Counts>)
    }

    /// Takes over what may change while the store is open: how the gateway logs in.
    pub fn renew(&self, settings: &Settings) {
        if let (Some(redis), Settings::Redis(settings)) = (&self.redis, settings) {
            redis.renew(settings);
        }
    }
}

/// Opens the store. Its connections are kept on `runtime`.
///
/// # Errors
/// It cannot be used. A server that cannot be reached is no error: it may be back before it is needed.
pub fn open(settings: &Settings, clock: Arc<dyn Clock>, runtime: &Handle) -> Result<Opened, OpenError> {
    Ok(match settings {
        Settings::Memory => Opened::memory(clock),
        Settings::File(path) => Opened { store: Arc::new(File::open(path, clock)?), is_durable: true, redis: None },
        Settings::Redis(settings) => {
            let redis = Arc::new(Redis::new(RedisSettings::clone(settings), runtime));
            Opened { store: Arc::clone(&redis) as Arc<dyn Store>, is_durable: true, redis: Some(redis) }
        }
    })
}

#[cfg(test)]
mod contract;
#[cfg(test)]
pub mod faulty;
