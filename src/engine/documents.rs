//! Documents that were fetched and found good, kept for a while: those of clients and providers. Errors are never kept.

use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of all documents together at most.
const MOST: u64 = 32 * 1024 * 1024;

/// Documents of strangers that are fetched at once: each costs memory, and a connection to where somebody else chose.
const AT_ONCE: usize = 256;

/// Good documents by their URL.
#[derive(Debug)]
pub struct Documents {
    kept: Cache<String, (Bytes, i64)>,
    turns: Semaphore,
}

impl Default for Documents {
    fn default() -> Self {
        let weigher = |url: &String, (document, _): &(Bytes, i64)| {
            u32::try_from(url.len() + document.len() + 64).unwrap_or(u32::MAX)
        };
        Self { kept: Cache::builder().max_capacity(MOST).weigher(weigher).build(), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Documents {
    /// The document at `url`, if it may still be used at `now` (seconds since the epoch).
    #[must_use]
    pub fn get(&self, url: &str, now: i64) -> Option<Bytes> {
        self.kept.get(url).filter(|(_, until)| now < *until).map(|(document, _)| document)
    }

    /// Leave to fetch one document of a stranger; `None` when too many are under way.
    #[must_use]
    pub fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.try_acquire().ok()
    }

    /// Keeps a document until a time, in seconds since the epoch.
    pub fn keep(&self, url: &str, document: Bytes, until: i64) {
        self.kept.insert(url.to_owned(), (document, until));
    }
}
