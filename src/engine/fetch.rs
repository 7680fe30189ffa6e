//! What the engine and the providers ask of the network.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use url::Url;

/// Who named a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The operator, in the configuration.
    Operator,
    /// Somebody on the network, such as a client that names its own metadata document.
    Stranger,
}

/// Fetches documents that an operator named (issuer metadata, key sets). The only implementation on the network is `egress`.
#[async_trait]
pub trait Fetch: Send + Sync + std::fmt::Debug {
    /// Gets a document of at most 512 KiB within 5 seconds, following no redirect.
    ///
    /// # Errors
    /// What went wrong, for the log only.
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError>;

    /// Sends a request and reads its answer, whatever its status, under the same bounds.
    ///
    /// # Errors
    /// What went wrong, for the log only.
    async fn send(&self, target: Target, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError>;
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
