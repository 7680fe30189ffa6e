//! Everything that the gateway fetches by itself, and nothing else. The only place that names the HTTP client.
//!
//! There are two classes of target. What the *operator* named (issuer, key set) may be on a private network, but not at a
//! link-local or metadata address unless its host is listed. What a *stranger* named must be public. Addresses are judged
//! where the connection is made, so that a name cannot change its mind in between. Both: no redirects, no proxy from the
//! environment, bounds on size and time.

mod guard;
pub mod names;

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Certificate, Client, Proxy, StatusCode, redirect};
use url::Url;

use crate::engine::fetch::{Fetch, FetchError};
use guard::Guard;

/// Bytes of a document at most.
const LARGEST: usize = 512 * 1024;
/// From the start of a fetch to its last byte.
const LONGEST: Duration = Duration::from_secs(5);

/// What the installation says about fetching.
#[derive(Debug, Clone, Default)]
pub struct EgressSettings {
    /// Certificate authorities besides the system's, in DER.
    pub ca: Vec<Vec<u8>>,
    /// The proxy of all fetches.
    pub proxy: Option<Url>,
    /// Hosts whose link-local or metadata address is accepted.
    pub allowed_hosts: Vec<String>,
}

/// Who named a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The operator, in the configuration.
    Operator,
    /// Somebody on the network, such as a client that names its own metadata document.
    Stranger,
}

/// Why fetching cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up: {0}")]
pub struct EgressError(#[from] reqwest::Error);

/// The clients of both classes.
#[derive(Debug, Clone)]
pub struct Egress {
    operator: (Client, Guard),
    stranger: (Client, Guard),
}

impl Egress {
    /// Sets up both clients.
    ///
    /// # Errors
    /// A certificate or the proxy cannot be used.
    pub fn new(settings: &EgressSettings) -> Result<Self, EgressError> {
        let with = |class| {
            let guard = Guard::new(class, settings.allowed_hosts.clone());
            client(settings, &guard).map(|client| (client, guard))
        };
        Ok(Self { operator: with(Class::Operator)?, stranger: with(Class::Stranger)? })
    }

    /// Gets a document of at most 512 KiB within 5 seconds.
    ///
    /// # Errors
    /// What went wrong, for the log only.
    pub async fn fetch(&self, class: Class, url: &Url) -> Result<Bytes, FetchError> {
        let (client, guard) = if class == Class::Operator { &self.operator } else { &self.stranger };
        let shown = format!("{}{}", url.origin().ascii_serialization(), url.path());
        let failed = |cause: String| FetchError { url: shown.clone(), cause };
        guard.check(url).map_err(|cause| failed(cause.to_owned()))?;
        match tokio::time::timeout(LONGEST, document(client, url)).await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(failed("no answer within 5 seconds".to_owned())),
        }
    }
}

#[async_trait]
impl Fetch for Egress {
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        self.fetch(Class::Operator, url).await
    }
}

fn client(settings: &EgressSettings, guard: &Guard) -> Result<Client, reqwest::Error> {
    let roots: Result<Vec<_>, _> = settings.ca.iter().map(|der| Certificate::from_der(der)).collect();
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(LONGEST)
        .pool_max_idle_per_host(1)
        .dns_resolver(guard.clone())
        .tls_certs_merge(roots?);
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(Proxy::all(proxy.clone())?);
    }
    builder.build()
}

async fn document(client: &Client, url: &Url) -> Result<Bytes, String> {
    let request = client.get(url.clone()).header(ACCEPT, HeaderValue::from_static("application/json"));
    let mut answer = request.send().await.map_err(|error| told(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(format!("status {}", answer.status().as_u16()));
    }
    let mut document = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| told(&error))? {
        if document.len() + piece.len() > LARGEST {
            return Err("larger than 512 KiB".to_owned());
        }
        document.extend_from_slice(&piece);
    }
    Ok(document.freeze())
}

/// The whole chain of causes: the client's own first line never says what happened.
fn told(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(one) = cause {
        causes.push(one.to_string());
        cause = one.source();
    }
    if causes.is_empty() { "the request failed".to_owned() } else { causes.join(": ") }
}

#[cfg(test)]
mod tests;
