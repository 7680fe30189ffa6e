//! A token endpoint that the gateway asks as a client (RFC 6749 section 3.2), and what of its answers is believed.
//!
//! It is the one endpoint that the operator named. A question is asked once, within the bounds of every fetch; whoever asks
//! anew does so after a rest. What the endpoint says beside its error code may repeat what it was sent, so that no word of
//! it is logged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::engine::breaker::Breaker;
use crate::engine::clock::Clock;
use crate::engine::decision::{Denial, Reason};
use crate::engine::fetch::{Fetch, Target};
use crate::engine::vault::random_text;
use crate::oauth::bearer::is_b64token;
use crate::oauth::signer::Signer;
use crate::oauth::url::EndpointUrl;
use crate::oauth::{client_auth, strict};
use crate::secret::Held;

/// Bytes of an answer that are read.
const LARGEST: usize = 64 * 1024;
/// Bytes of a token that fits into the head of an upstream request.
const LONGEST_TOKEN: usize = 16 * 1024;
/// Questions under way at once; more wait for their turn.
const AT_ONCE: usize = 64;
/// For a turn and an answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// Error codes of RFC 6749 section 5.2, RFC 8693 section 2.2.2 and RFC 8707 section 2: what may be logged.
const ERRORS: [&str; 8] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
];

/// The endpoint, who asks it, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The endpoint.
    pub url: EndpointUrl,
    /// The gateway's `client_id` there.
    pub client_id: String,
    /// How the gateway proves that it is this client.
    pub proof: Proof,
    /// Scopes that are asked for; none leaves it to the server.
    pub scopes: Vec<String>,
    /// `audience` (RFC 8693 section 2.1, and what some servers take it for in other grants).
    pub audience: Option<String>,
    /// `resource` (RFC 8707 section 2).
    pub resource: Option<String>,
}

/// How the gateway proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// `client_secret_basic`.
    Basic(Held),
    /// `client_secret_post`.
    Post(Held),
    /// `private_key_jwt`, with the key in this PEM text.
    Key(Held),
}

/// A token as the endpoint gave it.
pub struct Token {
    /// The token.
    pub text: String,
    /// Seconds that it lives, when the endpoint says so.
    pub lives: Option<i64>,
    /// The whole answer, for what a grant asks of it besides.
    pub members: Map<String, Value>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("lives", &self.lives).finish_non_exhaustive()
    }
}

/// The endpoint, ready to be asked.
#[derive(Debug)]
pub struct TokenEndpoint {
    uri: Uri,
    /// Parameters of every question, encoded.
    form: String,
    prover: Prover,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    breaker: Breaker,
    turns: Semaphore,
}

enum Prover {
    Header(HeaderValue),
    /// Parameters, encoded.
    Form(String),
    Key {
        signer: Box<Signer>,
        client_id: String,
        audience: String,
    },
}

impl std::fmt::Debug for Prover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header(_) => "client_secret_basic",
            Self::Form(_) => "client_secret_post",
            Self::Key { .. } => "private_key_jwt",
        })
    }
}

impl TokenEndpoint {
    /// The endpoint of `request`.
    ///
    /// # Errors
    /// A secret or key that cannot be used.
    pub fn new(request: &TokenRequest, fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) -> Result<Self, Denial> {
        let unusable = |cause: String| Denial::new(Reason::ProviderRemoved).because(cause);
        let prover = match &request.proof {
            Proof::Basic(held) => client_auth::basic(&request.client_id, held.secret.expose())
                .map(Prover::Header)
                .map_err(|error| unusable(error.to_string()))?,
            Proof::Post(held) => {
                let secret: String = byte_serialize(held.secret.expose()).collect();
                let id: String = byte_serialize(request.client_id.as_bytes()).collect();
                Prover::Form(format!("client_id={id}&client_secret={secret}"))
            }
            Proof::Key(held) => Prover::Key {
                signer: Box::new(Signer::from_pem(held.secret.expose()).map_err(|error| unusable(error.to_string()))?),
                client_id: request.client_id.clone(),
                audience: request.url.as_str().to_owned(),
            },
        };
        let mut form = Serializer::new(String::new());
        if !request.scopes.is_empty() {
            form.append_pair("scope", &request.scopes.join(" "));
        }
        let targets = [("audience", &request.audience), ("resource", &request.resource)];
        for (name, value) in targets.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))) {
            form.append_pair(name, value);
        }
        Ok(Self {
            uri: Uri::try_from(request.url.as_str()).map_err(|error| unusable(error.to_string()))?,
            form: form.finish(),
            prover,
            fetch,
            clock,
            breaker: Breaker::default(),
            turns: Semaphore::new(AT_ONCE),
        })
    }

    /// Asks for a token with the parameters of a grant, unless the endpoint failed too often just now.
    ///
    /// # Errors
    /// The endpoint does not answer, or gives no token that can be used.
    pub async fn ask(&self, grant: &[(&str, &str)]) -> Result<Token, Denial> {
        if let Err(wait) = self.breaker.admit(self.clock.monotonic()) {
            return Err(unavailable("the token endpoint failed and is left alone".to_owned(), wait));
        }
        let request = self.request(grant)?;
        let asked = async {
            // Never closed, so this only waits.
            let _turn = self.turns.acquire().await;
            self.fetch.send(Target::Operator, request).await
        };
        let cause = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) if !is_passing(answer.status()) => {
                self.breaker.succeeded();
                return read(&answer).inspect_err(|denial| self.tell(denial));
            }
            Ok(Ok(answer)) => format!("status {}", answer.status().as_u16()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} seconds", PATIENCE.as_secs()),
        };
        let rest = self.breaker.failed(self.clock.monotonic());
        let denial = unavailable(format!("token endpoint: {cause}"), rest.unwrap_or(Duration::from_secs(2)));
        self.tell(&denial);
        Err(denial)
    }

    fn tell(&self, denial: &Denial) {
        tracing::warn!(
            event = denial.reason.as_str(),
            endpoint = %self.uri,
            cause = denial.internal.as_deref(),
            "no credential for the upstream was had"
        );
    }

    fn request(&self, grant: &[(&str, &str)]) -> Result<Request<Bytes>, Denial> {
        let internal = |cause: String| Denial::new(Reason::Internal).because(cause);
        let mut form = Serializer::new(self.form.clone());
        form.extend_pairs(grant);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let form = match &self.prover {
            Prover::Header(value) => {
                headers.insert(AUTHORIZATION, value.clone());
                form.finish()
            }
            Prover::Form(parameters) => format!("{}&{parameters}", form.finish()),
            Prover::Key { signer, client_id, audience } => {
                let id = random_text().or(Err(Denial::new(Reason::RandomFailed)))?;
                let assertion = client_auth::assertion(signer, client_id, audience, self.clock.unix(), &id);
                let assertion = assertion.map_err(|error| internal(error.to_string()))?;
                form.append_pair("client_id", client_id)
                    .append_pair("client_assertion_type", client_auth::ASSERTION_TYPE)
                    .append_pair("client_assertion", &assertion)
                    .finish()
            }
        };
        let mut request = Request::new(Bytes::from(form));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Whether another answer may come later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
}

fn unavailable(cause: String, wait: Duration) -> Denial {
    Denial::new(Reason::CredentialUnavailable).because(cause).retry_after(wait)
}

/// Reads an answer (RFC 6749 sections 5.1 and 5.2), strictly: what is used in front of a server must be what was meant.
fn read(answer: &Response<Bytes>) -> Result<Token, Denial> {
    let refused = |cause: &str| Denial::new(Reason::CredentialRefused).because(format!("token endpoint: {cause}"));
    let status = answer.status();
    let members = if answer.body().len() > LARGEST { Err(strict::NotStrict) } else { strict::object(answer.body()) };
    if status != StatusCode::OK {
        let said = members.ok().and_then(|members| members.get("error")?.as_str().map(str::to_owned));
        let code =
            said.and_then(|said| ERRORS.into_iter().find(|known| *known == said)).unwrap_or("no known error code");
        return Err(refused(&format!("status {}, {code}", status.as_u16())));
    }
    let mut members = members.or(Err(refused("the answer is not one JSON object of at most 64 KiB")))?;
    let bearer = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("Bearer"));
    if !members.get("token_type").is_some_and(bearer) {
        return Err(refused("`token_type` is not Bearer"));
    }
    let lives = lives(members.get("expires_in")).ok_or_else(|| refused("`expires_in` is no number of seconds"))?;
    let Some(Value::String(text)) = members.remove("access_token") else {
        return Err(refused("`access_token` is missing"));
    };
    if text.len() > LONGEST_TOKEN || !is_b64token(text.as_bytes()) {
        return Err(refused("`access_token` is no bearer token, or too long"));
    }
    Ok(Token { text, lives, members })
}

/// Seconds, of which some servers make text; `None` for what is neither.
#[expect(clippy::option_option, reason = "absent is not wrong")]
fn lives(value: Option<&Value>) -> Option<Option<i64>> {
    let seconds = match value {
        None | Some(Value::Null) => return Some(None),
        Some(Value::String(text)) => text.parse().ok()?,
        Some(value) => value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX))?,
    };
    (seconds > 0).then_some(Some(seconds))
}

#[cfg(test)]
mod tests;
