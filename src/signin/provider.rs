//! The way to a provider and back: the gateway as a client of OpenID Connect, with `openidconnect` checking what comes.

use std::future::Future;
use std::pin::Pin;

use http::Request as HttpRequest;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm,
    CoreProviderMetadata, CoreUserInfoClaims,
};
use openidconnect::{
    AccessTokenHash, AsyncHttpClient, AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    HttpRequest as OidcRequest, HttpResponse as OidcResponse, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _,
};
use serde_json::{Map, Value};
use url::Url;

use super::answer::{Answer, Oauth, OauthError};
use super::asked::Asked;
use super::flow::{self, Flow};
use super::{Request, code::Person};
use crate::engine::fetch::{Fetch, FetchError, Target};
use crate::engine::issuing::{Issuing, OidcSignIn, SignIn, SignInKind};
use crate::engine::vault::random_text;
use crate::oauth::discovery::Discovered;
use crate::oauth::jws::show_unverified;

/// Seconds for which a discovery document and keys are kept.
const KEPT: i64 = 600;

/// Why a provider did not sign anybody in.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It cannot be reached, or answers with what is no answer.
    #[error("the provider does not answer: {0}")]
    Unavailable(String),
    /// It answers, and what it says is not acceptable.
    #[error("the provider's answer is refused: {0}")]
    Refused(String),
}

impl From<ProviderError> for OauthError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unavailable(_) => {
                Self::new(Oauth::TemporarilyUnavailable, "the identity provider does not answer")
            }
            ProviderError::Refused(_) => {
                Self::new(Oauth::ServerError, "the identity provider's answer is not acceptable")
            }
        }
    }
}

/// Begins a flow and sends the browser on its way.
pub async fn begin(issuing: &Issuing, sign_in: &SignIn, asked: Asked, request: Request<'_>) -> Answer {
    match leave(issuing, sign_in, &asked, request).await {
        Ok(answer) => answer,
        Err(error) => asked.refuse(issuing, &error),
    }
}

async fn leave(issuing: &Issuing, sign_in: &SignIn, asked: &Asked, request: Request<'_>) -> Result<Answer, OauthError> {
    let failed = |_| OauthError::new(Oauth::ServerError, "no random bytes");
    let (nonce, verifier) = (random_text().map_err(failed)?, random_text().map_err(failed)?);
    let provider = match &sign_in.kind {
        SignInKind::Oidc(oidc) => Some((
            oidc,
            discovered(issuing, oidc).await.inspect_err(|error| {
                tracing::warn!(event = "provider-unavailable", provider = sign_in.name, %error, "nobody can sign in");
            })?,
        )),
        SignInKind::Local(_) => None,
    };
    let issuer = provider.as_ref().map(|(oidc, _)| oidc.issuer.as_str().to_owned());
    let flow = Flow {
        asked: asked.clone(),
        provider: sign_in.name.clone(),
        issuer: issuer.unwrap_or_default(),
        nonce: nonce.clone(),
        verifier: verifier.clone(),
        browser: String::new(),
    };
    let begun = flow::begin(issuing, flow, &crate::engine::limits::network(request.address).to_string()).await?;
    let to = match &provider {
        Some((oidc, discovered)) => {
            authorization_url(issuing, sign_in, oidc, discovered, (&begun.state, &nonce, verifier))?
        }
        None => {
            let query =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("state", &begun.state).finish();
            format!("{}/sign-in?{query}", issuing.issuer)
        }
    };
    Ok(Answer::to(&to).with_cookie(&begun.cookie))
}

/// Where the provider sends the browser back: every provider has a path of its own (RFC 9700 section 4.4.2).
fn callback(issuing: &Issuing, sign_in: &SignIn) -> String {
    format!("{}/callback/{}", issuing.issuer, sign_in.name)
}

fn authorization_url(
    issuing: &Issuing,
    sign_in: &SignIn,
    oidc: &OidcSignIn,
    discovered: &Discovered,
    (state, nonce, verifier): (&str, &str, String),
) -> Result<String, ProviderError> {
    let refused = |error: String| ProviderError::Unavailable(error);
    let client = client(issuing, sign_in, oidc, discovered, CoreJsonWebKeySet::default())?;
    let (state, nonce) = (state.to_owned(), nonce.to_owned());
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier));
    let mut request = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || CsrfToken::new(state), || Nonce::new(nonce))
        .set_pkce_challenge(challenge);
    // `openid` is there by itself.
    for scope in oidc.scopes.iter().filter(|scope| *scope != "openid") {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    for (name, value) in &oidc.parameters {
        request = request.add_extra_param(name.clone(), value.clone());
    }
    let (url, ..) = request.url();
    if url.scheme() == "https" || url.scheme() == "http" {
        Ok(url.into())
    } else {
        Err(refused("no web address".into()))
    }
}

/// The client of a provider whose endpoints are as discovered.
type Client = CoreClient<
    openidconnect::EndpointSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointMaybeSet,
    openidconnect::EndpointMaybeSet,
>;

/// What judges ID tokens: the provider's algorithms and no others. Of a provider with many tenants the issuer is judged
/// beside it.
fn verifier<'a>(client: &'a Client, oidc: &OidcSignIn) -> CoreIdTokenVerifier<'a> {
    let names = oidc.algorithms.iter().map(|algorithm| Value::from(algorithm.as_str()));
    let algorithms = names.filter_map(|name| serde_json::from_value::<CoreJwsSigningAlgorithm>(name).ok());
    client.id_token_verifier().set_allowed_algs(algorithms).require_issuer_match(oidc.tenants.is_empty())
}

/// The client, by what the provider says about itself. The checks of issuer and endpoint hosts are done already.
fn client(
    issuing: &Issuing,
    sign_in: &SignIn,
    oidc: &OidcSignIn,
    discovered: &Discovered,
    keys: CoreJsonWebKeySet,
) -> Result<Client, ProviderError> {
    let unusable = |error: String| ProviderError::Unavailable(format!("its discovery document: {error}"));
    for endpoint in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        discovered.endpoint(endpoint).map_err(unusable)?;
    }
    if oidc.userinfo {
        discovered.endpoint("userinfo_endpoint").map_err(unusable)?;
    }
    let metadata: CoreProviderMetadata = serde_json::from_value(Value::Object(discovered.members().clone()))
        .map_err(|error| unusable(error.to_string()))?;
    let secret = match &oidc.client_secret {
        Some(held) => {
            let text = String::from_utf8(held.secret.expose().to_vec());
            Some(ClientSecret::new(text.map_err(|_| unusable("the client secret is no text".into()))?))
        }
        None => None,
    };
    let redirect = RedirectUrl::new(callback(issuing, sign_in)).map_err(|error| unusable(error.to_string()))?;
    let client =
        CoreClient::from_provider_metadata(metadata.set_jwks(keys), ClientId::new(oidc.client_id.clone()), secret);
    let basic = discovered.lists("token_endpoint_auth_methods_supported", "client_secret_basic")
        || !discovered.lists("token_endpoint_auth_methods_supported", "client_secret_post");
    let auth = if basic { AuthType::BasicAuth } else { AuthType::RequestBody };
    Ok(client.set_redirect_uri(redirect).set_auth_type(auth))
}

/// Whether `iss` of an authorization response is the provider's (RFC 9207 section 2.4): there if it says that it sends it,
/// and byte-equal whenever it is there.
pub async fn is_from(issuing: &Issuing, oidc: &OidcSignIn, iss: Option<&str>) -> Result<bool, ProviderError> {
    let discovered = discovered(issuing, oidc).await?;
    Ok(match iss {
        Some(iss) => is_issuer(oidc, iss),
        None => !discovered.says("authorization_response_iss_parameter_supported"),
    })
}

/// The issuer, or a listed tenant of a provider that has many.
fn is_issuer(oidc: &OidcSignIn, iss: &str) -> bool {
    if oidc.tenants.is_empty() { iss == oidc.issuer.as_str() } else { oidc.tenants.iter().any(|tenant| tenant == iss) }
}

/// Redeems the provider's code and says who the person is.
///
/// # Errors
/// The provider does not answer, or what it says is not acceptable.
pub async fn person(
    issuing: &Issuing,
    sign_in: &SignIn,
    oidc: &OidcSignIn,
    flow: &Flow,
    code: &str,
) -> Result<Person, ProviderError> {
    use ProviderError::{Refused, Unavailable};
    let discovered = discovered(issuing, oidc).await?;
    let client = client(issuing, sign_in, oidc, &discovered, keys(issuing, &discovered, Age::Kept).await?)?;
    let send = Sender { fetch: &*issuing.works.fetch, last: std::sync::Mutex::default() };
    let exchange = client
        .exchange_code(AuthorizationCode::new(code.to_owned()))
        .map_err(|error| Unavailable(error.to_string()))?
        .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier.clone()));
    let tokens = exchange.request_async(&send).await.map_err(|error| match error {
        openidconnect::RequestTokenError::Request(error) => Unavailable(error.to_string()),
        // What the provider says may hold what it was sent.
        openidconnect::RequestTokenError::ServerResponse(_) => Refused("it refuses the code".to_owned()),
        _ => Refused("its token answer cannot be read".to_owned()),
    })?;
    let id_token = tokens.id_token().ok_or_else(|| Refused("there is no ID token".to_owned()))?;
    let nonce = Nonce::new(flow.nonce.clone());
    let verified = match id_token.claims(&verifier(&client, oidc), &nonce) {
        Ok(claims) => Ok(claims.clone()),
        Err(openidconnect::ClaimsVerificationError::SignatureVerification(_)) => {
            // Its keys may be newer than those that were kept. Only the provider can bring us here, by redeeming a code, so
            // that nobody else makes the gateway fetch.
            let keys = keys(issuing, &discovered, Age::New).await?;
            let client = self::client(issuing, sign_in, oidc, &discovered, keys)?;
            id_token.claims(&verifier(&client, oidc), &nonce).cloned()
        }
        Err(error) => Err(error),
    };
    let verified = verified.map_err(|error| Refused(format!("the ID token: {error}")))?;
    if !is_issuer(oidc, verified.issuer().as_str()) {
        return Err(Refused("the ID token is of another issuer".to_owned()));
    }
    if let Some(expected) = verified.access_token_hash() {
        let verifier = verifier(&client, oidc);
        let actual = id_token
            .signing_alg()
            .ok()
            .zip(id_token.signing_key(&verifier).ok())
            .and_then(|(alg, key)| AccessTokenHash::from_token(tokens.access_token(), alg, key).ok());
        if actual.as_ref() != Some(expected) {
            return Err(Refused("the ID token belongs to another access token".to_owned()));
        }
    }
    let shown = show_unverified(&id_token.to_string()).map_err(|fault| Refused(fault.detail.into_owned()))?;
    let mut claims: Map<String, Value> = shown.claims;
    let carries = |(name, value): &(String, Option<String>)| {
        claims.get(name).is_some_and(|claim| value.as_ref().is_none_or(|value| claim == value.as_str()))
    };
    if !oidc.expected.iter().all(carries) {
        return Err(Refused("the ID token lacks a claim that the policy expects".to_owned()));
    }
    if oidc.userinfo {
        let info = client
            .user_info(tokens.access_token().clone(), Some(verified.subject().clone()))
            .map_err(|error| Unavailable(error.to_string()))?;
        let read: Result<CoreUserInfoClaims, _> = info.request_async(&send).await;
        read.map_err(|error| match error {
            openidconnect::UserInfoError::Request(error) => Unavailable(error.to_string()),
            _ => Refused("its userinfo answer is not acceptable".to_owned()),
        })?;
        // The library has judged subject and form; claims of other names are read from the same answer.
        let raw = send.last.lock().map(|last| last.clone()).unwrap_or_default();
        let raw = crate::oauth::strict::object(&raw).map_err(|error| Refused(format!("userinfo: {error}")))?;
        for (name, value) in raw {
            claims.entry(name).or_insert(value);
        }
    }
    Ok(Person {
        provider: sign_in.name.clone(),
        subject: verified.subject().to_string(),
        claims: Value::Object(claims),
    })
}

/// The provider's discovery document, its issuer and hosts checked.
async fn discovered(issuing: &Issuing, oidc: &OidcSignIn) -> Result<Discovered, ProviderError> {
    let url = oidc.issuer.discovery_url();
    let document = document(issuing, &url, Age::Kept).await?;
    Discovered::read(&document, &oidc.discovered_issuer, oidc.issuer.url(), &oidc.allowed_hosts)
        .map_err(ProviderError::Unavailable)
}

/// How old a document of the provider may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// At most [`KEPT`] seconds.
    Kept,
    /// Fetched now.
    New,
}

async fn keys(issuing: &Issuing, discovered: &Discovered, age: Age) -> Result<CoreJsonWebKeySet, ProviderError> {
    let url = discovered.endpoint("jwks_uri").map_err(ProviderError::Unavailable)?;
    let document = document(issuing, &url, age).await?;
    serde_json::from_slice(&document).map_err(|error| ProviderError::Unavailable(format!("its keys: {error}")))
}

async fn document(issuing: &Issuing, url: &Url, age: Age) -> Result<bytes::Bytes, ProviderError> {
    let (documents, now) = (&issuing.works.documents, issuing.works.clock.unix());
    let name = format!("provider {url}");
    if age == Age::Kept
        && let Some(document) = documents.get(&name, now)
    {
        return Ok(document);
    }
    let document = issuing.works.fetch.get(url).await;
    let document = document.map_err(|error| ProviderError::Unavailable(error.to_string()))?;
    documents.keep(&name, document.clone(), now + KEPT);
    Ok(document)
}

/// Sends what the library wants sent, by the gateway's own egress, and remembers the last answer.
struct Sender<'a> {
    fetch: &'a dyn Fetch,
    last: std::sync::Mutex<Vec<u8>>,
}

impl<'c> AsyncHttpClient<'c> for Sender<'_> {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<OidcResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: OidcRequest) -> Self::Future {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let answer = self.fetch.send(Target::Operator, HttpRequest::from_parts(head, body.into())).await?;
            let (head, body) = answer.into_parts();
            if let Ok(mut last) = self.last.lock() {
                *last = body.to_vec();
            }
            Ok(OidcResponse::from_parts(head, body.to_vec()))
        })
    }
}
