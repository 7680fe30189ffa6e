//! Everything that the gateway fetches by itself, and nothing else. The only place that names the HTTP client.
//!
//! There are two classes of target. What the *operator* named (issuer, key set) may be on a private network, but not at a
//! link-local or metadata address unless its host is listed. What a *stranger* named must be public, unless its origin is
//! listed; then it may be on a private network, and never at a special address. Addresses are judged where the connection is
//! made, so that a name cannot change its mind in between. Both: no redirects, no proxy from the environment, bounds on size
//! and time.

mod guard;
pub mod names;

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HeaderValue};
use http::{Request, Response, StatusCode};
use reqwest::{Certificate, Client, Proxy, redirect};
use url::Url;

use crate::engine::fetch::{Fetch, FetchError, Target};
use guard::Guard;

/// Bytes of a document at most; of a stranger's, many of which may come at once, fewer.
const LARGEST: usize = 512 * 1024;
const LARGEST_OF_STRANGERS: usize = 64 * 1024;
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
    /// Origins that a stranger may name although they are on a private network.
    pub private_clients: Vec<Url>,
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
        let with = |guard: Guard| client(settings, &guard).map(|client| (client, guard));
        let guard = |class| Guard::new(class, settings.allowed_hosts.clone());
        let stranger = guard(Target::Stranger).with_private(settings.private_clients.clone());
        Ok(Self { operator: with(guard(Target::Operator))?, stranger: with(stranger)? })
    }

    /// Sends a request under the rules of its class and reads its answer: at most 512 KiB, of a stranger's 64 KiB, within 5
    /// seconds.
    async fn within_bounds(&self, target: Target, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let ((client, guard), largest) = match target {
            Target::Operator => (&self.operator, LARGEST),
            Target::Stranger => (&self.stranger, LARGEST_OF_STRANGERS),
        };
        let url = Url::parse(&request.uri().to_string());
        let url = url.map_err(|error| FetchError { url: String::new(), cause: error.to_string() })?;
        let shown = format!("{}{}", url.origin().ascii_serialization(), url.path());
        let failed = |cause: String| FetchError { url: shown.clone(), cause };
        guard.check(&url).map_err(|cause| failed(cause.to_owned()))?;
        match tokio::time::timeout(LONGEST, answered(client, request, largest)).await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(failed("no answer within 5 seconds".to_owned())),
        }
    }
}

#[async_trait]
impl Fetch for Egress {
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        let failed = |cause: String| FetchError { url: url.origin().ascii_serialization(), cause };
        let request = Request::get(url.as_str()).header(ACCEPT, HeaderValue::from_static("application/json"));
        let request = request.body(Bytes::new()).map_err(|error| failed(error.to_string()))?;
        let answer = self.within_bounds(Target::Operator, request).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(failed(format!("status {}", status.as_u16()))),
        }
    }

    async fn send(&self, target: Target, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        self.within_bounds(target, request).await
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

async fn answered(client: &Client, request: Request<Bytes>, largest: usize) -> Result<Response<Bytes>, String> {
    let request = reqwest::Request::try_from(request).map_err(|error| told(&error))?;
    let mut answer = client.execute(request).await.map_err(|error| told(&error))?;
    let mut document = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| told(&error))? {
        if document.len() + piece.len() > largest {
            return Err(format!("larger than {} KiB", largest / 1024));
        }
        document.extend_from_slice(&piece);
    }
    let mut whole = Response::new(document.freeze());
    *whole.status_mut() = answer.status();
    *whole.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(whole)
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
