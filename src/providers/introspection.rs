//! A provider that is asked about tokens (RFC 7662): about opaque ones, and about JWTs that must be revocable.
//!
//! A token goes to the one endpoint that the operator named, as it came, and nowhere else. What comes back is read as
//! strictly as the claims of a JWT. That the endpoint cannot be asked is no fault of the token: the answer is then 503.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use moka::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use url::form_urlencoded;

use super::{Surroundings, next_generation, read};
use crate::engine::breaker::Breaker;
use crate::engine::clock::Clock;
use crate::engine::decision::{Denial, Reason};
use crate::engine::fetch::{Fetch, Target};
use crate::engine::provider::Provider;
use crate::oauth::claims::{LATEST_TIME, Profile};
use crate::oauth::client_auth::basic;
use crate::oauth::fault::{Fault, FaultKind};
use crate::oauth::identity::Identity;
use crate::oauth::strict;
use crate::oauth::url::EndpointUrl;
use crate::secret::Held;

/// From a token to what is known of it, with the second try.
const LONGEST: Duration = Duration::from_secs(5);
/// Before the second try.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of an answer at most.
const LARGEST: usize = 64 * 1024;
/// Questions under way at once; more wait for their turn.
const AT_ONCE: usize = 64;
/// Tokens that were refused and are remembered.
const REFUSED: u64 = 10_000;
/// How long a refusal is remembered at most.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// What the kind needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntrospectionSettings {
    /// How answers are read.
    pub profile: Profile,
    /// The endpoint.
    pub url: EndpointUrl,
    /// Who asks (RFC 6749 section 2.3.1).
    pub client_id: String,
    /// With which secret.
    pub client_secret: Held,
    /// About which tokens.
    pub tokens: Tokens,
    /// How long an answer is kept.
    pub cache: Duration,
}

/// Which tokens the endpoint is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// Tokens that are no JWT, and JWTs of the issuer.
    All,
    /// Tokens that are no JWT.
    Opaque,
    /// JWTs of the issuer.
    Jwt,
}

/// A provider of this kind.
#[derive(Debug)]
pub struct Introspection {
    name: String,
    generation: u64,
    tokens: Tokens,
    cache: Duration,
    endpoint: Arc<Endpoint>,
    runtime: Handle,
}

/// What a question needs, which may outlive the request that led to it.
#[derive(Debug)]
struct Endpoint {
    provider: String,
    profile: Profile,
    uri: Uri,
    authorization: HeaderValue,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    breaker: Breaker,
    turns: Semaphore,
    /// By the SHA-256 of the whole token. They belong to this endpoint and client, for they end with this value.
    refused: Cache<[u8; 32], Denial>,
}

/// Why there is no answer.
struct Failure {
    cause: String,
    /// Whether a second try could end better.
    passing: bool,
}

impl Introspection {
    /// A provider that asks `settings.url`.
    ///
    /// # Errors
    /// The endpoint cannot be asked with these settings.
    pub fn new(name: &str, settings: &IntrospectionSettings, surroundings: &Surroundings) -> Result<Self, Denial> {
        let unusable = |error: http::Error| Denial::new(Reason::ProviderRemoved).because(error.to_string());
        let endpoint = Endpoint {
            provider: name.to_owned(),
            profile: settings.profile.clone(),
            uri: Uri::try_from(settings.url.as_str()).map_err(|error| unusable(error.into()))?,
            authorization: basic(&settings.client_id, settings.client_secret.secret.expose())
                .map_err(|error| unusable(error.into()))?,
            fetch: Arc::clone(&surroundings.fetch),
            clock: Arc::clone(&surroundings.clock),
            breaker: Breaker::default(),
            turns: Semaphore::new(AT_ONCE),
            refused: Cache::builder().max_capacity(REFUSED).time_to_live(settings.cache.min(REFUSED_FOR)).build(),
        };
        Ok(Self {
            name: name.to_owned(),
            generation: next_generation(),
            tokens: settings.tokens,
            cache: settings.cache,
            endpoint: Arc::new(endpoint),
            runtime: surroundings.runtime.clone(),
        })
    }
}

#[async_trait]
impl Provider for Introspection {
    fn name(&self) -> &str {
        &self.name
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn answers_for(&self, issuer: Option<&str>) -> bool {
        match issuer {
            None => self.tokens != Tokens::Jwt,
            Some(issuer) => self.tokens != Tokens::Opaque && issuer == &*self.endpoint.profile.issuer,
        }
    }

    fn keeps_facts(&self) -> Duration {
        self.cache
    }

    async fn verify(&self, token: &str) -> Result<Arc<Identity>, Denial> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(denial) = self.endpoint.refused.get(&hash) {
            return Err(denial);
        }
        let (endpoint, token) = (Arc::clone(&self.endpoint), token.to_owned());
        // On the background runtime: a caller that goes away does not stop what is asked, and a refusal is remembered.
        let verdict = self.runtime.spawn(async move { endpoint.verdict(&token, hash).await });
        verdict.await.unwrap_or_else(|error| {
            Err(Denial::new(Reason::ProviderUnavailable).because(format!("the question ended early: {error}")))
        })
    }
}

impl Endpoint {
    async fn verdict(&self, token: &str, hash: [u8; 32]) -> Result<Arc<Identity>, Denial> {
        let answer = self.ask(token).await?;
        let verdict = self.judge(token, answer);
        if let Err(denial) = &verdict {
            self.refused.insert(hash, denial.clone());
        }
        verdict
    }

    /// Asks, unless the endpoint failed too often just now.
    async fn ask(&self, token: &str) -> Result<Map<String, Value>, Denial> {
        let unavailable =
            |cause: String, wait| Denial::new(Reason::ProviderUnavailable).because(cause).retry_after(wait);
        if let Err(wait) = self.breaker.admit(self.clock.monotonic()) {
            return Err(unavailable("the introspection endpoint failed and is left alone".to_owned(), wait));
        }
        let outcome = tokio::time::timeout(LONGEST, self.try_twice(token)).await;
        let cause = match outcome {
            Ok(Ok(answer)) => {
                self.breaker.succeeded();
                return Ok(answer);
            }
            Ok(Err(failure)) => failure.cause,
            Err(_) => "no answer within 5 seconds".to_owned(),
        };
        let rest = self.breaker.failed(self.clock.monotonic());
        tracing::warn!(
            event = "introspection-unavailable",
            provider = self.provider,
            cause,
            left_alone = rest.is_some(),
            "a token could not be asked about"
        );
        Err(unavailable(format!("introspection: {cause}"), rest.unwrap_or(Duration::from_secs(1))))
    }

    async fn try_twice(&self, token: &str) -> Result<Map<String, Value>, Failure> {
        // Never closed, so this only waits.
        let _turn = self.turns.acquire().await;
        match self.try_once(token).await {
            Err(failure) if failure.passing => {
                tokio::time::sleep(PAUSE).await;
                self.try_once(token).await
            }
            outcome => outcome,
        }
    }

    /// One question (RFC 7662 section 2.1). The token is sent as it came: nothing here looks into it.
    async fn try_once(&self, token: &str) -> Result<Map<String, Value>, Failure> {
        let failure = |cause: String, passing| Failure { cause, passing };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        let request = Request::post(self.uri.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Bytes::from(form))
            .map_err(|error| failure(error.to_string(), false))?;
        let answer = self.fetch.send(Target::Operator, request).await;
        let answer = answer.map_err(|error| failure(error.to_string(), true))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(failure("status 401: `client_id` or `client_secret` is not accepted".to_owned(), false));
            }
            status => {
                let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                return Err(failure(format!("status {}", status.as_u16()), passing));
            }
        }
        if answer.body().len() > LARGEST {
            return Err(failure("the answer is larger than 64 KiB".to_owned(), false));
        }
        strict::object(answer.body()).map_err(|error| failure(format!("the answer is {error}"), false))
    }

    /// From an answer (RFC 7662 section 2.2) to an identity.
    fn judge(&self, token: &str, mut answer: Map<String, Value>) -> Result<Arc<Identity>, Denial> {
        match answer.remove("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(Denial::new(Reason::TokenInactive)),
            _ => return Err(Denial::new(Reason::TokenInactive).because("`active` is missing or no boolean")),
        }
        check_use(&answer)?;
        answer.entry("iss").or_insert_with(|| Value::from(&*self.profile.issuer));
        let ends = answer.contains_key("exp");
        // Without an end of its own the token is good for as long as the endpoint says so, each time it is asked.
        answer.entry("exp").or_insert_with(|| Value::from(LATEST_TIME));
        let mut identity = read(&self.profile, token, None, answer)?;
        if !ends && let Some(identity) = Arc::get_mut(&mut identity) {
            identity.claims.remove("exp");
        }
        Ok(identity)
    }
}

/// `token_type` is that of RFC 6749 section 5.1, and `token_use` what some servers call the kind: a refresh token is active
/// too, and opens nothing.
fn check_use(answer: &Map<String, Value>) -> Result<(), Fault> {
    let other = |name: &str| Err(Fault::new(FaultKind::TokenType, format!("`{name}` names another kind of token")));
    match answer.get("token_type") {
        None => {}
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("Bearer") => {}
        Some(_) => return other("token_type"),
    }
    match answer.get("token_use") {
        None => Ok(()),
        Some(Value::String(kind)) if kind == "access_token" || kind == "access" => Ok(()),
        Some(_) => other("token_use"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use url::Url;

    use super::*;
    use crate::engine::clock::SystemClock;
    use crate::engine::fetch::FetchError;
    use crate::oauth::claims::{ScopeClaim, TokenType};
    use crate::secret::SecretRef;

    const ISSUER: &str = "https://id.example";

    /// Answers what it is told to, and remembers the questions.
    #[derive(Debug, Default)]
    struct Fake {
        answer: Mutex<String>,
        asked: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Fetch for Fake {
        async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
            Err(FetchError { url: url.to_string(), cause: "nothing is got".into() })
        }

        async fn send(&self, target: Target, request: Request<Bytes>) -> Result<http::Response<Bytes>, FetchError> {
            assert_eq!(target, Target::Operator);
            self.asked.lock().unwrap().push(String::from_utf8(request.body().to_vec()).unwrap());
            Ok(http::Response::new(Bytes::from(self.answer.lock().unwrap().clone())))
        }
    }

    fn provider(fetch: &Arc<Fake>, tokens: Tokens) -> Introspection {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hunter2").unwrap();
        let from = SecretRef::File(path);
        let settings = IntrospectionSettings {
            profile: Profile {
                issuer: ISSUER.into(),
                token_type: TokenType::Jwt,
                scope_claim: ScopeClaim::Both,
                sign_in_clients: Vec::new(),
                machines: false,
            },
            url: EndpointUrl::parse("https://id.example/introspect").unwrap(),
            client_id: "gate".into(),
            client_secret: Held { secret: from.read().unwrap(), from },
            tokens,
            cache: Duration::from_secs(60),
        };
        let surroundings =
            Surroundings { fetch: Arc::<Fake>::clone(fetch), clock: Arc::new(SystemClock), runtime: Handle::current() };
        Introspection::new("corp", &settings, &surroundings).unwrap()
    }

    fn says(fake: &Fake, answer: &str) {
        answer.clone_into(&mut fake.answer.lock().unwrap());
    }

    #[tokio::test]
    async fn b03_refusals_are_bounded_and_no_identity_is_among_them() {
        let fake = Arc::<Fake>::default();
        says(&fake, r#"{"active":false}"#);
        let corp = provider(&fake, Tokens::All);
        for n in 0..3 * REFUSED {
            assert_eq!(corp.verify(&format!("t{n}")).await.unwrap_err().reason, Reason::TokenInactive);
        }
        corp.endpoint.refused.run_pending_tasks();
        assert!(corp.endpoint.refused.entry_count() <= REFUSED, "{}", corp.endpoint.refused.entry_count());
        says(&fake, r#"{"active":true,"sub":"alice"}"#);
        let before = corp.endpoint.refused.entry_count();
        assert!(corp.verify("good").await.is_ok());
        corp.endpoint.refused.run_pending_tasks();
        assert_eq!(corp.endpoint.refused.entry_count(), before, "what is good is kept elsewhere");
        assert_eq!(corp.keeps_facts(), Duration::from_secs(60));
    }

    #[tokio::test]
    async fn b03_a_refusal_is_found_by_the_whole_token_and_ends_with_the_provider() {
        let fake = Arc::<Fake>::default();
        says(&fake, r#"{"active":false}"#);
        let (corp, restarted) = (provider(&fake, Tokens::All), provider(&fake, Tokens::All));
        for token in ["token", "token", "token2", "oken", "token"] {
            assert!(corp.verify(token).await.is_err());
        }
        assert_eq!(fake.asked.lock().unwrap().len(), 3, "{:?}", fake.asked.lock().unwrap());
        assert!(restarted.verify("token").await.is_err());
        assert_eq!(fake.asked.lock().unwrap().len(), 4, "other settings, other answers");
        assert_ne!(corp.generation(), restarted.generation());
    }

    #[tokio::test]
    async fn an_answer_without_exp_has_no_end_and_invents_no_claim() {
        let fake = Arc::<Fake>::default();
        let corp = provider(&fake, Tokens::All);
        says(&fake, r#"{"active":true,"sub":"alice","client_id":"c","scope":"a b"}"#);
        let identity = corp.verify("endless").await.unwrap();
        assert_eq!(identity.expires, LATEST_TIME);
        assert!(!identity.claims.contains_key("exp") && !identity.claims.contains_key("active"));
        assert_eq!((identity.issuer.as_ref(), identity.claims["iss"].as_str()), (ISSUER, Some(ISSUER)));
        assert!(identity.scopes.contains("b") && identity.client.as_deref() == Some("c"));
        says(&fake, r#"{"active":true,"exp":5000}"#);
        let ending = corp.verify("ending").await.unwrap();
        assert_eq!((ending.expires, ending.claims["exp"].as_i64()), (5000, Some(5000)));
    }

    #[tokio::test]
    async fn tokens_are_told_apart_by_whether_they_name_an_issuer() {
        let fake = Arc::<Fake>::default();
        for (tokens, opaque, own) in
            [(Tokens::All, true, true), (Tokens::Opaque, true, false), (Tokens::Jwt, false, true)]
        {
            let corp = provider(&fake, tokens);
            assert_eq!((corp.answers_for(None), corp.answers_for(Some(ISSUER))), (opaque, own), "{tokens:?}");
            assert!(!corp.answers_for(Some("https://id.example/")), "another issuer's token is sent nowhere");
        }
        assert!(fake.asked.lock().unwrap().is_empty());
    }
}
