//! The gateway as a client of OpenID Connect, with `openidconnect` checking what comes.

use http::StatusCode;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreIdTokenClaims, CoreIdTokenVerifier, CoreJsonWebKeySet,
    CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreRequestTokenError, CoreTokenResponse, CoreUserInfoClaims,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, Nonce, NonceVerifier, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, Scope, SubjectIdentifier, TokenResponse as _, UserInfoError,
};
use serde_json::{Map, Value};

use super::fetched::{Age, Sender, discovered, keys};
use super::{Person, ProviderError, ProviderTokens, Renewed, Word, callback};
use crate::engine::fetch::FetchError;
use crate::engine::issuing::{ClaimSource, Issuing, OidcSignIn, SignIn};
use crate::oauth::claims::check_id_token;
use crate::oauth::discovery::Discovered;
use crate::oauth::jws::show_unverified;
use crate::signin::asked::Asked;
use crate::signin::flow::Flow;
use crate::signin::grant::LEEWAY;
use ProviderError::{Ended, Refused, Unavailable};

/// Bytes of `sub`.
const LONGEST_SUBJECT: usize = 255;

/// An answer of a token endpoint.
pub type TokenAnswer = CoreTokenResponse;

/// Where the browser goes.
///
/// # Errors
/// The provider cannot be used as it describes itself.
pub fn authorization_url(
    issuing: &Issuing,
    (sign_in, oidc, discovered): (&SignIn, &OidcSignIn, &Discovered),
    (state, nonce, verifier): (&str, &str, String),
    asked: &Asked,
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
    // What the policy says of them counts.
    let wishes = [("prompt", &asked.prompt), ("login_hint", &asked.hint)];
    let open = wishes.into_iter().filter(|(name, _)| !oidc.parameters.iter().any(|(written, _)| written == name));
    for (name, wish) in open.filter_map(|(name, wish)| Some((name, wish.as_ref()?))) {
        request = request.add_extra_param(name, wish.clone());
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

/// The client, by what the provider says about itself. Its issuer and the hosts of its endpoints are checked already.
fn client(
    issuing: &Issuing,
    sign_in: &SignIn,
    oidc: &OidcSignIn,
    discovered: &Discovered,
    keys: CoreJsonWebKeySet,
) -> Result<Client, ProviderError> {
    let unusable = |error: String| ProviderError::Unavailable(format!("its discovery document: {error}"));
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
    let discovered = discovered(issuing, oidc).await?;
    let client = client(issuing, sign_in, oidc, &discovered, keys(issuing, &discovered, Age::Kept).await?)?;
    let exchange = client
        .exchange_code(AuthorizationCode::new(code.to_owned()))
        .map_err(|error| Unavailable(error.to_string()))?
        .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier.clone()));
    let tokens = exchange.request_async(&Sender::new(issuing)).await.map_err(|error| match error {
        RequestTokenError::Request(error) => Unavailable(error.to_string()),
        // What the provider says may hold what it was sent.
        RequestTokenError::ServerResponse(_) => Refused("it refuses the code".to_owned()),
        _ => Refused("its token answer cannot be read".to_owned()),
    })?;
    let judge = Judge { issuing, sign_in, oidc, discovered: &discovered };
    let id_token = tokens.id_token().ok_or_else(|| Refused("there is no ID token".to_owned()))?;
    let nonce = Nonce::new(flow.nonce.clone());
    let (subject, Word { claims, told }) = judge.claims(client, id_token, tokens.access_token(), || &nonce).await?;
    let tokens = ProviderTokens { told, ..kept(issuing, oidc, &tokens)? };
    Ok(Person { provider: sign_in.name.clone(), subject, claims, tokens: Some(tokens) })
}

/// The tokens of an answer, for the row of a grant.
fn kept(issuing: &Issuing, oidc: &OidcSignIn, answer: &TokenAnswer) -> Result<ProviderTokens, ProviderError> {
    let refresh = answer.refresh_token().map(|token| token.secret().as_str());
    let now = issuing.works.clock.unix();
    ProviderTokens::new(oidc.issuer.as_str(), answer.access_token().secret(), refresh, answer.expires_in(), now)
}

/// Asks for new tokens (OpenID Connect Core section 12).
///
/// # Errors
/// The provider does not answer, or refuses the refresh token itself.
pub async fn renew(
    issuing: &Issuing,
    sign_in: &SignIn,
    oidc: &OidcSignIn,
    tokens: &ProviderTokens,
) -> Result<(ProviderTokens, Renewed), ProviderError> {
    let Some(refresh) = &tokens.refresh else {
        return Err(Ended("its token is too old, and it gave none to renew it with".to_owned()));
    };
    let discovered = discovered(issuing, oidc).await?;
    let client = client(issuing, sign_in, oidc, &discovered, CoreJsonWebKeySet::default())?;
    let refresh = RefreshToken::new(refresh.to_owned());
    let request = client.exchange_refresh_token(&refresh).map_err(|error| Unavailable(error.to_string()))?;
    let send = Sender::new(issuing);
    let answer = request.request_async(&send).await.map_err(|error| refusal(&error, send.last().0))?;
    let mut tokens = kept(issuing, oidc, &answer)?;
    // A provider that sends no new one leaves the old one in force (RFC 6749 section 6).
    tokens.refresh.get_or_insert_with(|| refresh.secret().clone());
    Ok((tokens, Renewed::Oidc(Box::new(answer))))
}

/// What an error of the token endpoint says about a refresh token: only errors about the person or the token end it. A client
/// secret that is refused is the operator's trouble and nobody's sign-out; that is what 401 means, whatever the code
/// (RFC 6749 section 5.2): Auth0's says `access_denied`.
fn refusal(error: &CoreRequestTokenError<FetchError>, status: StatusCode) -> ProviderError {
    match error {
        RequestTokenError::Request(error) => Unavailable(error.to_string()),
        RequestTokenError::ServerResponse(_) if status == StatusCode::UNAUTHORIZED => {
            Unavailable("its token endpoint does not accept the gateway as a client".to_owned())
        }
        RequestTokenError::ServerResponse(response) => match response.error().as_ref() {
            code @ ("invalid_grant"
            | "access_denied"
            | "consent_required"
            | "interaction_required"
            | "login_required"
            | "account_selection_required") => Ended(format!("its token endpoint says `{code}`")),
            // Of other codes only those that are registered are repeated.
            code @ ("invalid_client"
            | "unauthorized_client"
            | "invalid_request"
            | "invalid_scope"
            | "unsupported_grant_type") => Unavailable(format!("its token endpoint says `{code}`")),
            _ => Unavailable("its token endpoint reports an error".to_owned()),
        },
        _ => Unavailable("its token answer cannot be read".to_owned()),
    }
}

/// What an answer to a refresh says about `subject`. Without an ID token in it the userinfo endpoint may say something new beside
/// what the last one `told`.
///
/// # Errors
/// As at sign-in; and an ID token about somebody else (OpenID Connect Core section 12.2) is [`ProviderError::Ended`].
pub async fn claims(
    issuing: &Issuing,
    (sign_in, oidc): (&SignIn, &OidcSignIn),
    answer: &TokenAnswer,
    (subject, told): (&str, &Map<String, Value>),
) -> Result<Option<Word>, ProviderError> {
    if answer.id_token().is_none() && !oidc.userinfo {
        return Ok(None);
    }
    let discovered = discovered(issuing, oidc).await?;
    let client = client(issuing, sign_in, oidc, &discovered, keys(issuing, &discovered, Age::Kept).await?)?;
    let judge = Judge { issuing, sign_in, oidc, discovered: &discovered };
    let Some(id_token) = answer.id_token() else {
        let mut claims = told.clone();
        let subject = SubjectIdentifier::new(subject.to_owned());
        judge.add_userinfo(&mut claims, &client, &subject, answer.access_token()).await?;
        judge.is_whole(&claims)?;
        return Ok(Some(Word { claims: Value::Object(claims), told: told.clone() }));
    };
    // There was no request of a browser that a nonce could belong to.
    let any = || |_: Option<&Nonce>| Ok(());
    let (found, word) = judge.claims(client, id_token, answer.access_token(), any).await?;
    if found == subject { Ok(Some(word)) } else { Err(Ended("its ID token is about another person".to_owned())) }
}

/// Judges ID tokens of one provider.
struct Judge<'a> {
    issuing: &'a Issuing,
    sign_in: &'a SignIn,
    oidc: &'a OidcSignIn,
    discovered: &'a Discovered,
}

impl Judge<'_> {
    /// The subject of an ID token that came with an access token, and its claims with those of the userinfo endpoint.
    async fn claims<N: NonceVerifier>(
        &self,
        mut client: Client,
        id_token: &CoreIdToken,
        access: &AccessToken,
        nonce: impl Fn() -> N,
    ) -> Result<(String, Word), ProviderError> {
        let oidc = self.oidc;
        let mut verified = id_token.claims(&verifier(&client, oidc), nonce()).cloned();
        if let Err(ClaimsVerificationError::SignatureVerification(_)) = verified {
            // Its keys may be newer than those that were kept. Only the provider can bring us here, by redeeming a code or
            // refresh token, so that nobody else makes the gateway fetch.
            let keys = keys(self.issuing, self.discovered, Age::New).await?;
            client = self::client(self.issuing, self.sign_in, oidc, self.discovered, keys)?;
            verified = id_token.claims(&verifier(&client, oidc), nonce()).cloned();
        }
        let verified = verified.map_err(|error| Refused(format!("the ID token: {error}")))?;
        if !is_issuer(oidc, verified.issuer().as_str()) {
            return Err(Ended("the ID token is of another issuer".to_owned()));
        }
        self.belongs(&client, id_token, &verified, access)?;
        let shown = show_unverified(&id_token.to_string()).map_err(|fault| Refused(fault.detail.into_owned()))?;
        let mut claims: Map<String, Value> = shown.claims;
        // What the library does not look at.
        check_id_token(&claims, &oidc.client_id, self.issuing.works.clock.unix(), LEEWAY)
            .map_err(|fault| Refused(format!("the ID token: {fault}")))?;
        let carries = |(name, value): &(String, Option<String>)| {
            claims.get(name).is_some_and(|claim| value.as_ref().is_none_or(|value| claim == value.as_str()))
        };
        if !oidc.expected.iter().all(carries) {
            return Err(Ended("the ID token lacks a claim that the policy expects".to_owned()));
        }
        let tops: Vec<_> = self.issuing.claims.iter().map(ClaimSource::top).collect();
        let told = claims.iter().filter(|(name, _)| tops.iter().any(|top| top == *name));
        let told = told.map(|(name, value)| (name.clone(), value.clone())).collect();
        if oidc.userinfo {
            self.add_userinfo(&mut claims, &client, verified.subject(), access).await?;
        }
        self.is_whole(&claims)?;
        let subject = verified.subject().to_string();
        // OpenID Connect Core section 2: at most 255 characters. Nobody is called nothing.
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT {
            return Err(Refused("the ID token names nobody".to_owned()));
        }
        Ok((subject, Word { claims: Value::Object(claims), told }))
    }

    /// Checks that no claim of the policy was left out because it is too large: a provider then says where else it is
    /// (OpenID Connect Core section 5.6.2), as Entra does for the groups of a person who is in more than two hundred. Fewer
    /// groups than there are could be the wrong ones.
    fn is_whole(&self, claims: &Map<String, Value>) -> Result<(), ProviderError> {
        let elsewhere = claims.get("_claim_names").and_then(Value::as_object);
        let left_out = |name: &str| {
            !claims.contains_key(name)
                && (elsewhere.is_some_and(|names| names.contains_key(name))
                    || (name == "groups" && claims.get("hasgroups").is_some_and(|has| has != false)))
        };
        let tops = self.issuing.claims.iter().map(ClaimSource::top);
        match tops.into_iter().find(|name| left_out(name)) {
            None => Ok(()),
            Some(name) => {
                let (service, provider) = (&*self.issuing.service, &self.sign_in.name);
                tracing::warn!(
                    event = "claim-elsewhere",
                    service,
                    provider,
                    claim = &*name,
                    "the provider left a claim out"
                );
                Err(Ended(format!(
                    "it left `{name}` out, which is too large for a token; assign fewer groups to the application"
                )))
            }
        }
    }

    /// Checks that an ID token that names an access token names this one (OpenID Connect Core section 3.1.3.8).
    fn belongs(
        &self,
        client: &Client,
        id_token: &CoreIdToken,
        verified: &CoreIdTokenClaims,
        access: &AccessToken,
    ) -> Result<(), ProviderError> {
        let Some(expected) = verified.access_token_hash() else { return Ok(()) };
        let verifier = verifier(client, self.oidc);
        let (algorithm, key) = (id_token.signing_alg().ok(), id_token.signing_key(&verifier).ok());
        let actual =
            algorithm.zip(key).and_then(|(algorithm, key)| AccessTokenHash::from_token(access, algorithm, key).ok());
        if actual.as_ref() == Some(expected) {
            Ok(())
        } else {
            Err(Refused("the ID token belongs to another access token".to_owned()))
        }
    }

    /// What the ID token does not say, the userinfo endpoint may.
    async fn add_userinfo(
        &self,
        claims: &mut Map<String, Value>,
        client: &Client,
        subject: &SubjectIdentifier,
        access: &AccessToken,
    ) -> Result<(), ProviderError> {
        let send = Sender::new(self.issuing);
        let info =
            client.user_info(access.clone(), Some(subject.clone())).map_err(|error| Unavailable(error.to_string()))?;
        let read: Result<CoreUserInfoClaims, _> = info.request_async(&send).await;
        read.map_err(|error| match error {
            UserInfoError::Request(error) => Unavailable(error.to_string()),
            _ => Refused("its userinfo answer is not acceptable".to_owned()),
        })?;
        // The library has judged subject and form; claims of other names are read from the same answer.
        let said =
            crate::oauth::strict::object(&send.last().1).map_err(|error| Refused(format!("userinfo: {error}")))?;
        for (name, value) in said {
            claims.entry(name).or_insert(value);
        }
        Ok(())
    }
}
