//! The way to a provider and back, and asking it again later whether it still vouches for a person.

mod fetched;
mod github;
mod oidc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::{Answer, Oauth, OauthError};
use super::asked::Asked;
use super::flow::{self, Flow};
use super::{Request, code::Person};
use crate::engine::issuing::{Issuing, SignIn, SignInKind};
use crate::engine::vault::random_text;
use crate::oauth::url::IssuerUrl;

/// Seconds of life that a token has left when it is handed out.
const MARGIN: i64 = 30;
/// Bytes of a token of a provider that are kept at most.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Why a provider did not sign anybody in, or does not vouch for somebody any more.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It cannot be reached, or answers with what is no answer.
    #[error("the provider does not answer: {0}")]
    Unavailable(String),
    /// It answers, and what it says is not acceptable.
    #[error("the provider's answer is refused: {0}")]
    Refused(String),
    /// It answers that the person, or what the gateway may do for them, is no more; or the policy accepts what it says no
    /// longer.
    #[error("the provider no longer vouches: {0}")]
    Ended(String),
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
            ProviderError::Ended(_) => {
                Self::new(Oauth::InvalidGrant, "the identity provider no longer vouches for the person")
            }
        }
    }
}

/// The provider's tokens for a person. They are kept sealed with the grant, and go to the provider, or to an upstream whose
/// policy says so, and to nobody else.
#[derive(Clone, Serialize, Deserialize)]
pub struct ProviderTokens {
    /// The issuer that gave them: another one never sees them.
    pub issuer: String,
    /// The access token.
    pub access: String,
    /// Until when it is good, in seconds since the epoch, if the provider said so.
    pub until: Option<i64>,
    /// The refresh token, if there is one.
    pub refresh: Option<String>,
    /// When the provider last vouched for the person, in seconds since the epoch.
    pub asked: i64,
    /// Until when somebody is asking it, in seconds since the epoch.
    pub busy: i64,
    /// Until when nobody asks it, because it did not answer.
    pub rest: i64,
    /// What the last ID token said of the claims that the policy reads: a refresh may bring none.
    #[serde(default)]
    pub told: Map<String, Value>,
}

impl std::fmt::Debug for ProviderTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderTokens")
            .field("issuer", &self.issuer)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl ProviderTokens {
    /// Whether the access token has too little life left to be handed out.
    pub fn is_stale(&self, now: i64) -> bool {
        self.until.is_some_and(|until| until - MARGIN <= now)
    }

    /// Tokens that the provider has just given.
    fn new(
        issuer: &str,
        access: &str,
        refresh: Option<&str>,
        lifetime: Option<std::time::Duration>,
        now: i64,
    ) -> Result<Self, ProviderError> {
        if access.len() > LONGEST_TOKEN || refresh.is_some_and(|token| token.len() > LONGEST_TOKEN) {
            return Err(ProviderError::Refused("a token is larger than 16 KiB".to_owned()));
        }
        let until = lifetime.map(|lifetime| now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX)));
        Ok(Self {
            issuer: issuer.to_owned(),
            access: access.to_owned(),
            until,
            refresh: refresh.map(str::to_owned),
            asked: now,
            busy: 0,
            rest: 0,
            told: Map::new(),
        })
    }
}

/// New tokens, whose word about the person is still to be looked at.
pub enum Renewed {
    /// An answer of an OpenID Connect provider.
    Oidc(Box<oidc::TokenAnswer>),
    /// A token that GitHub's API is asked with.
    GitHub(String),
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
    let discovered = match &sign_in.kind {
        SignInKind::Oidc(oidc) => Some(fetched::discovered(issuing, oidc).await.inspect_err(|error| {
            tracing::warn!(event = "provider-unavailable", provider = sign_in.name, %error, "nobody can sign in");
        })?),
        SignInKind::GitHub(_) | SignInKind::Local(_) => None,
    };
    let flow = Flow {
        asked: asked.clone(),
        provider: sign_in.name.clone(),
        issuer: issuer(sign_in).map(IssuerUrl::as_str).unwrap_or_default().to_owned(),
        nonce: nonce.clone(),
        verifier: verifier.clone(),
        browser: String::new(),
    };
    let begun = flow::begin(issuing, flow, &crate::engine::limits::network(request.address).to_string()).await?;
    let to = match (&sign_in.kind, &discovered) {
        (SignInKind::Oidc(oidc), Some(discovered)) => {
            oidc::authorization_url(issuing, (sign_in, oidc, discovered), (&begun.state, &nonce, verifier), asked)?
        }
        (SignInKind::GitHub(github), _) => {
            github::authorization_url(issuing, (sign_in, github), (&begun.state, &verifier), asked)
        }
        _ => {
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

/// The issuer that a provider is; `None` when the gateway itself signs in.
pub fn issuer(sign_in: &SignIn) -> Option<&IssuerUrl> {
    match &sign_in.kind {
        SignInKind::Oidc(oidc) => Some(&oidc.issuer),
        SignInKind::GitHub(github) => Some(&github.issuer),
        SignInKind::Local(_) => None,
    }
}

/// Whether `iss` of an authorization response is the provider's (RFC 9207 section 2.4): there if it says that it sends it,
/// and byte-equal whenever it is there.
///
/// # Errors
/// It does not answer.
pub async fn is_from(issuing: &Issuing, sign_in: &SignIn, iss: Option<&str>) -> Result<bool, ProviderError> {
    match &sign_in.kind {
        SignInKind::Oidc(oidc) => oidc::is_from(issuing, oidc, iss).await,
        SignInKind::GitHub(github) => Ok(github::is_from(github, iss)),
        SignInKind::Local(_) => Ok(false),
    }
}

/// Redeems the provider's code and says who the person is.
///
/// # Errors
/// The provider does not answer, or what it says is not acceptable.
pub async fn person(issuing: &Issuing, sign_in: &SignIn, flow: &Flow, code: &str) -> Result<Person, ProviderError> {
    match &sign_in.kind {
        SignInKind::Oidc(oidc) => oidc::person(issuing, sign_in, oidc, flow, code).await,
        SignInKind::GitHub(github) => github::person(issuing, sign_in, github, flow, code).await,
        SignInKind::Local(_) => Err(ProviderError::Refused("it gives no codes".to_owned())),
    }
}

/// Whether the provider can be asked again about a person: by a refresh token, and GitHub by any token.
pub fn answers(sign_in: &SignIn, tokens: &ProviderTokens) -> bool {
    tokens.refresh.is_some() || matches!(sign_in.kind, SignInKind::GitHub(_))
}

/// Asks for new tokens with the refresh token, where that is how the provider is asked.
///
/// # Errors
/// [`ProviderError::Ended`] when the provider refuses the token itself.
pub async fn renew(
    issuing: &Issuing,
    sign_in: &SignIn,
    tokens: &ProviderTokens,
) -> Result<(ProviderTokens, Renewed), ProviderError> {
    if issuer(sign_in).map(IssuerUrl::as_str) != Some(tokens.issuer.as_str()) {
        return Err(ProviderError::Ended("the policy names another issuer now".to_owned()));
    }
    match &sign_in.kind {
        SignInKind::Oidc(oidc) => oidc::renew(issuing, sign_in, oidc, tokens).await,
        SignInKind::GitHub(github) => {
            let renewed = github::renew(issuing, github, tokens).await?;
            let access = renewed.access.clone();
            Ok((renewed, Renewed::GitHub(access)))
        }
        SignInKind::Local(_) => Err(ProviderError::Ended("it gives no tokens".to_owned())),
    }
}

/// What a provider says about a person.
pub struct Word {
    /// Their claims.
    pub claims: Value,
    /// See [`ProviderTokens::told`].
    pub told: Map<String, Value>,
}

/// What the provider says about `subject` now; `None` when it says nothing new. `told` is what its last ID token said.
///
/// # Errors
/// As at sign-in; and another person is [`ProviderError::Ended`].
pub async fn claims(
    issuing: &Issuing,
    sign_in: &SignIn,
    renewed: &Renewed,
    (subject, told): (&str, &Map<String, Value>),
) -> Result<Option<Word>, ProviderError> {
    match (&sign_in.kind, renewed) {
        (SignInKind::Oidc(oidc), Renewed::Oidc(answer)) => {
            oidc::claims(issuing, (sign_in, oidc), answer, (subject, told)).await
        }
        (SignInKind::GitHub(github), Renewed::GitHub(access)) => {
            let claims = github::claims(issuing, github, access, subject).await?;
            Ok(Some(Word { claims, told: Map::new() }))
        }
        _ => Err(ProviderError::Ended("it gives no tokens".to_owned())),
    }
}
