//! Documents that were fetched and found good, kept for a while: those of clients and providers. Errors are never kept.

use bytes::Bytes;
use moka::sync::Cache;

/// Bytes of all documents together at most.
const MOST: u64 = 32 * 1024 * 1024;

/// Good documents by their URL.
#[derive(Debug)]
pub struct Documents {
    kept: Cache<String, (Bytes, i64)>,
}

impl Default for Documents {
    fn default() -> Self {
        let weigher = |url: &String, (document, _): &(Bytes, i64)| {
            u32::try_from(url.len() + document.len() + 64).unwrap_or(u32::MAX)
        };
        Self { kept: Cache::builder().max_capacity(MOST).weigher(weigher).build() }
    }
}

impl Documents {
    /// The document at `url`, if it may still be used at `now` (seconds since the epoch).
    #[must_use]
    pub fn get(&self, url: &str, now: i64) -> Option<Bytes> {
        self.kept.get(url).filter(|(_, until)| now < *until).map(|(document, _)| document)
    }

    /// Keeps a document until a time, in seconds since the epoch.
    pub fn keep(&self, url: &str, document: Bytes, until: i64) {
        self.kept.insert(url.to_owned(), (document, until));
    }
}
