//! What the engine and the providers ask of the network.

use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

/// Fetches documents that an operator named (issuer metadata, key sets). The only implementation on the network is `egress`.
#[async_trait]
pub trait Fetch: Send + Sync + std::fmt::Debug {
    /// Gets a document of at most 512 KiB within 5 seconds, following no redirect.
    ///
    /// # Errors
    /// What went wrong, for the log only.
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError>;
}

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {cause}")]
pub struct FetchError {
    /// The URL asked for, without query.
    pub url: String,
    /// What happened.
    pub cause: String,
}
