//! Documents that clients name: their metadata and their keys. Fetched as a stranger's word, under the strict class of
//! egress, and kept by the time that they give themselves.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use url::Url;

use super::answer::{Oauth, OauthError};
use crate::engine::fetch::Target;
use crate::engine::issuing::Issuing;
use crate::oauth::client_metadata::ClientMetadata;
use crate::oauth::jwk::KeySet;
use crate::oauth::server_metadata::ASSERTION_ALGORITHMS;

/// Bytes of a client's metadata document (Client ID Metadata Document section 6.6).
const LARGEST: usize = 5 * 1024;
/// Bytes of a client's key set.
const LARGEST_KEYS: usize = 64 * 1024;
/// Seconds for which a document without a word about it is kept, and the bounds of such a word.
const KEPT: i64 = 300;
const SHORTEST: i64 = 10;
const LONGEST: i64 = 24 * 3600;

/// The metadata document of the client at the URL `id`, good at least in that it is its own.
pub async fn client(issuing: &Issuing, id: &str) -> Result<Bytes, OauthError> {
    let good = |document: &Bytes| ClientMetadata::document(id, document).map(drop).map_err(|error| error.to_string());
    let name = format!("client {id}");
    fetched(issuing, (&name, id), LARGEST, good).await.map_err(|failure| {
        let (cause, error) = failure.told("the client's metadata document");
        tracing::info!(event = "client-document-refused", service = %issuing.service, client = id, cause, "a client's document was refused");
        error
    })
}

/// The key set at the URL `uri` of a client.
pub async fn keys(issuing: &Issuing, uri: &Url) -> Result<Bytes, OauthError> {
    // What is good as keys is not yet good as a client, though it be at the same URL.
    let name = format!("keys {uri}");
    let good = |document: &Bytes| {
        KeySet::from_jwks(document, &ASSERTION_ALGORITHMS).map(drop).map_err(|error| error.to_string())
    };
    fetched(issuing, (&name, uri.as_str()), LARGEST_KEYS, good).await.map_err(|failure| {
        let (cause, error) = failure.told("the key set of the client");
        tracing::info!(event = "client-keys-refused", service = %issuing.service, cause, "a client's keys were refused");
        error
    })
}

/// Why there is no document, for the log.
enum Failure {
    /// Whoever has it does not answer now, or the gateway asks too many at once.
    Silent(String),
    /// What is there is not acceptable.
    Unacceptable(String),
}

impl Failure {
    /// The cause, and what the client is told: of one that cannot be reached for a moment nothing is known, and nobody is
    /// signed out for it.
    fn told(self, what: &str) -> (String, OauthError) {
        match self {
            Self::Silent(cause) => {
                (cause, OauthError::new(Oauth::TemporarilyUnavailable, format!("{what} cannot be had at the moment")))
            }
            Self::Unacceptable(cause) => {
                (cause, OauthError::new(Oauth::InvalidClient, format!("{what} is not there or not acceptable")))
            }
        }
    }
}

async fn fetched(
    issuing: &Issuing,
    (name, url): (&str, &str),
    largest: usize,
    good: impl Fn(&Bytes) -> Result<(), String>,
) -> Result<Bytes, Failure> {
    use Failure::{Silent, Unacceptable};
    let (documents, now) = (&issuing.works.documents, issuing.works.clock.unix());
    if let Some(document) = documents.get(name, now) {
        return Ok(document);
    }
    let _turn = documents.turn().ok_or_else(|| Silent("too many are fetched at once".to_owned()))?;
    let request = Request::get(url).header(ACCEPT, "application/json").body(Bytes::new());
    let request = request.map_err(|error| Unacceptable(error.to_string()))?;
    let answer = issuing.works.fetch.send(Target::Stranger, request).await;
    let answer = answer.map_err(|error| Silent(error.to_string()))?;
    match answer.status() {
        StatusCode::OK => {}
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Silent(format!("status {}", status.as_u16())));
        }
        status => return Err(Unacceptable(format!("status {}", status.as_u16()))),
    }
    if !is_json(answer.headers()) {
        return Err(Unacceptable("it is not application/json".to_owned()));
    }
    if answer.body().len() > largest {
        return Err(Unacceptable(format!("it is larger than {largest} bytes")));
    }
    let lifetime = lifetime(answer.headers());
    let document = answer.into_body();
    good(&document).map_err(Unacceptable)?;
    documents.keep(name, document.clone(), now + lifetime);
    Ok(document)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

/// Seconds that an answer may be kept (RFC 9111 section 5.2.2), within bounds.
fn lifetime(headers: &HeaderMap) -> i64 {
    let control = headers.get(CACHE_CONTROL).and_then(|control| control.to_str().ok()).unwrap_or_default();
    let directives: Vec<String> = control.split(',').map(|one| one.trim().to_ascii_lowercase()).collect();
    if directives.iter().any(|directive| directive == "no-store" || directive == "no-cache") {
        return SHORTEST;
    }
    let age = directives.iter().find_map(|directive| directive.strip_prefix("max-age=")?.parse::<i64>().ok());
    age.unwrap_or(KEPT).clamp(SHORTEST, LONGEST)
}
