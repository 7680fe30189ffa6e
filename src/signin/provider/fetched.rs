//! What is fetched from a provider: its documents, kept for a while, and what a library wants sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use openidconnect::core::CoreJsonWebKeySet;
use openidconnect::{AsyncHttpClient, HttpRequest as OidcRequest, HttpResponse as OidcResponse};
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::ProviderError;
use crate::engine::fetch::{Fetch, FetchError, Target};
use crate::engine::issuing::{Issuing, OidcSignIn};
use crate::oauth::discovery::Discovered;
use crate::oauth::strict;

/// Seconds for which a discovery document and keys are kept.
const KEPT: i64 = 600;
/// How long one answer may take: a browser has its own within five seconds, whatever becomes of the provider.
const PATIENCE: Duration = Duration::from_millis(4_500);

/// How old a document of the provider may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// At most [`KEPT`] seconds.
    Kept,
    /// Fetched now.
    New,
}

/// What `read` finds in a document of the provider. One in which it finds nothing is not kept: what a proxy or a page about
/// maintenance said for a moment would keep everybody out for longer.
///
/// # Errors
/// It does not answer, or not what `read` can use.
async fn document<T>(
    issuing: &Issuing,
    url: &Url,
    age: Age,
    read: impl Fn(&Bytes) -> Result<T, String> + Send,
) -> Result<T, ProviderError> {
    let (documents, now) = (&issuing.works.documents, issuing.works.clock.unix());
    let name = format!("provider {url}");
    if age == Age::Kept
        && let Some(document) = documents.get(&name, now)
        && let Ok(found) = read(&document)
    {
        return Ok(found);
    }
    let document = soon(url.as_str(), issuing.works.fetch.get(url)).await;
    let document = document.map_err(|error| ProviderError::Unavailable(error.to_string()))?;
    let found = read(&document).map_err(ProviderError::Unavailable)?;
    documents.keep(&name, document, now + KEPT);
    Ok(found)
}

/// The provider's discovery document, its issuer and the hosts of its endpoints checked.
///
/// # Errors
/// It cannot be had, or is not what it should be.
pub async fn discovered(issuing: &Issuing, oidc: &OidcSignIn) -> Result<Discovered, ProviderError> {
    let read = |document: &Bytes| {
        let issuer = oidc.issuer.url();
        let discovered = Discovered::read(document, &oidc.discovered_issuer, issuer, &oidc.allowed_hosts)?;
        let userinfo = oidc.userinfo.then_some("userinfo_endpoint");
        for endpoint in ["authorization_endpoint", "token_endpoint", "jwks_uri"].into_iter().chain(userinfo) {
            discovered.endpoint(endpoint)?;
        }
        Ok(discovered)
    };
    document(issuing, &oidc.issuer.discovery_url(), Age::Kept, read).await
}

/// The keys that the provider publishes.
///
/// # Errors
/// They cannot be had, or are no keys.
pub async fn keys(issuing: &Issuing, discovered: &Discovered, age: Age) -> Result<CoreJsonWebKeySet, ProviderError> {
    let url = discovered.endpoint("jwks_uri").map_err(ProviderError::Unavailable)?;
    let read = |document: &Bytes| serde_json::from_slice(document).map_err(|error| format!("its keys: {error}"));
    document(issuing, &url, age, read).await
}

/// Sends a request to the provider.
///
/// # Errors
/// It does not answer, or not soon.
pub async fn sent(fetch: &dyn Fetch, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
    let url = request.uri().to_string();
    soon(&url, fetch.send(Target::Operator, request)).await
}

async fn soon<T>(url: &str, answer: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    let late = |_| FetchError {
        url: url.split('?').next().unwrap_or_default().to_owned(),
        cause: format!("no answer within {} ms", PATIENCE.as_millis()),
    };
    timeout(PATIENCE, answer).await.map_err(late)?
}

/// Sends what the library wants sent, by the gateway's own egress, and remembers the last answer.
pub struct Sender<'a> {
    fetch: &'a dyn Fetch,
    last: Mutex<(StatusCode, Vec<u8>)>,
}

impl<'a> Sender<'a> {
    /// A sender that has sent nothing yet.
    pub fn new(issuing: &'a Issuing) -> Self {
        Self { fetch: &*issuing.works.fetch, last: Mutex::default() }
    }

    /// Status and body of the last answer.
    pub fn last(&self) -> (StatusCode, Vec<u8>) {
        self.last.lock().map(|last| last.clone()).unwrap_or_default()
    }
}

/// The answer of a token endpoint with `expires_in` as the number that it should be (RFC 6749 section 5.1): Entra's of version
/// 1 writes it as text.
fn with_numbers(body: Vec<u8>) -> Vec<u8> {
    let Ok(mut members) = strict::object(&body) else { return body };
    let seconds = members.get("expires_in").and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
    let Some(seconds) = seconds else { return body };
    members.insert("expires_in".to_owned(), seconds.into());
    serde_json::to_vec(&members).unwrap_or(body)
}

impl<'c> AsyncHttpClient<'c> for Sender<'_> {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<OidcResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: OidcRequest) -> Self::Future {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let answer = sent(self.fetch, Request::from_parts(head, body.into())).await?;
            let (head, body) = answer.into_parts();
            let body = with_numbers(body.to_vec());
            if let Ok(mut last) = self.last.lock() {
                *last = (head.status, body.clone());
            }
            Ok(OidcResponse::from_parts(head, body))
        })
    }
}
