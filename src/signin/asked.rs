//! What a client asks a person for, once its own words are judged: the part of an authorization request that goes on.

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Oauth, OauthError};
use super::clients::{self, Client};
use crate::engine::issuing::Issuing;
use crate::oauth::form::Parameters;
use crate::oauth::redirect::{self, RedirectUri};

/// Bytes of a client's `state`.
pub const LONGEST_STATE: usize = 16 * 1024;

/// Bytes of a `login_hint` that goes on to a provider.
const LONGEST_HINT: usize = 320;

/// An authorization request with nothing left to judge but whether it is still permitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// `client_id`.
    pub client: String,
    /// `redirect_uri`, byte for byte.
    pub redirect: String,
    /// `state`, to be given back.
    pub state: Option<String>,
    /// `code_challenge` of the method S256 (RFC 7636 section 4.2).
    pub challenge: String,
    /// The scopes that will be granted, sorted.
    pub scopes: Vec<String>,
    /// Whether the person shall sign in anew or choose among accounts, for the provider (`prompt`).
    #[serde(default)]
    pub prompt: Option<String>,
    /// Who will sign in, as the client believes, for the provider's page (`login_hint`).
    #[serde(default)]
    pub hint: Option<String>,
}

/// The client of a request and the redirect URI that it may use: only behind this do errors go back by redirect.
pub struct Addressee {
    /// The client.
    pub client: Client,
    /// Where it wants its answer.
    pub redirect: RedirectUri,
}

/// Client and redirect URI, in this order, by the policy as it is now (RFC 6749 section 4.1.2.1).
///
/// # Errors
/// What a person is told; the client gets no redirect.
pub async fn addressee(issuing: &Issuing, client_id: &str, redirect_uri: &str) -> Result<Addressee, OauthError> {
    let client = clients::find(issuing, client_id).await?;
    let refused = || OauthError::new(Oauth::InvalidRequest, "the redirect URI is not one that this service accepts");
    let redirect = redirect::accept(&client.redirects, redirect_uri).map_err(|_| refused())?;
    if !permitted(issuing, redirect_uri) {
        tracing::warn!(event = "redirect-refused", service = %issuing.service, "a redirect URI is not permitted by the policy");
        return Err(refused());
    }
    Ok(Addressee { client, redirect })
}

/// Whether the policy's list permits a redirect URI now.
pub fn permitted(issuing: &Issuing, redirect_uri: &str) -> bool {
    issuing.redirect(redirect_uri).is_ok()
}

impl Asked {
    /// Reads the rest of an authorization request.
    ///
    /// # Errors
    /// What the client is told by redirect.
    pub fn read(issuing: &Issuing, parameters: &Parameters, to: &Addressee) -> Result<Self, OauthError> {
        use Oauth as E;
        let error = |code, text: &str| Err(OauthError::new(code, text));
        if parameters.get("request").is_some() {
            return error(E::RequestNotSupported, "request objects are not supported");
        }
        if parameters.get("request_uri").is_some() {
            return error(E::RequestUriNotSupported, "request objects are not supported");
        }
        match parameters.get("response_type") {
            Some("code") => {}
            Some(_) => return error(E::UnsupportedResponseType, "response_type must be `code`"),
            None => return error(E::InvalidRequest, "response_type is missing"),
        }
        if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
            return error(E::InvalidRequest, "response_mode must be `query`");
        }
        if parameters.get("prompt").is_some_and(|prompt| prompt.split(' ').any(|word| word == "none")) {
            return error(E::InteractionRequired, "a person must be asked");
        }
        if !to.client.grants.code {
            return error(E::UnauthorizedClient, "the client may not ask for authorization codes");
        }
        if parameters.get("code_challenge_method") != Some("S256") {
            return error(E::InvalidRequest, "PKCE is required: code_challenge_method must be `S256`");
        }
        let challenge = parameters.get("code_challenge").filter(|challenge| is_challenge(challenge));
        let Some(challenge) = challenge else {
            return error(E::InvalidRequest, "PKCE is required: code_challenge is missing or malformed");
        };
        check_resource(issuing, parameters)?;
        let state = parameters.get("state");
        if state.is_some_and(|state| state.len() > LONGEST_STATE) {
            return error(E::InvalidRequest, "state is too long");
        }
        Ok(Self {
            client: to.client.id.clone(),
            redirect: to.redirect.as_str().to_owned(),
            state: state.map(str::to_owned),
            challenge: challenge.to_owned(),
            scopes: scopes(issuing, parameters.get("scope"))?,
            prompt: prompt(parameters.get("prompt")),
            hint: parameters.get("login_hint").filter(|hint| hint.len() <= LONGEST_HINT).map(str::to_owned),
        })
    }

    /// Sends the client its answer.
    pub fn respond(&self, issuing: &Issuing, members: &[(&str, &str)]) -> Answer {
        respond(issuing, &self.redirect, self.state.as_deref(), members)
    }

    /// Sends the client an error.
    pub fn refuse(&self, issuing: &Issuing, error: &OauthError) -> Answer {
        refuse(issuing, &self.redirect, self.state.as_deref(), error)
    }
}

/// An authorization response: the members, then `state` and `iss` (RFC 9207 section 2).
pub fn respond(issuing: &Issuing, redirect: &str, state: Option<&str>, members: &[(&str, &str)]) -> Answer {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(members);
    query.extend_pairs(state.map(|state| ("state", state)));
    query.append_pair("iss", &issuing.issuer);
    let mark = if redirect.contains('?') { '&' } else { '?' };
    Answer::to(&format!("{redirect}{mark}{}", query.finish()))
}

/// An error response (RFC 6749 section 4.1.2.1).
pub fn refuse(issuing: &Issuing, redirect: &str, state: Option<&str>, error: &OauthError) -> Answer {
    respond(issuing, redirect, state, &[("error", error.code.as_str()), ("error_description", &error.description)])
}

/// Of `prompt` (OpenID Connect Core section 3.1.2.1) what the person does at the provider. Consent is asked for here, every time
/// that somebody wants it asked; a provider's own would keep people out whose administrator has consented for them.
fn prompt(asked: Option<&str>) -> Option<String> {
    let known = asked?.split(' ').filter(|prompt| matches!(*prompt, "login" | "select_account"));
    Some(known.collect::<Vec<_>>().join(" ")).filter(|prompt| !prompt.is_empty())
}

/// 43 characters of base64url: what SHA-256 makes.
fn is_challenge(challenge: &str) -> bool {
    challenge.len() == 43 && challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// `resource` (RFC 8707 section 2), if it is there, is this service's: with or without a trailing slash, and with scheme and
/// host in whatever case a person typed them.
pub fn check_resource(issuing: &Issuing, parameters: &Parameters) -> Result<(), OauthError> {
    let Some(resource) = parameters.get("resource") else { return Ok(()) };
    let origin = resource.match_indices('/').nth(2).map_or(resource.len(), |(at, _)| at);
    let same = resource.split_at_checked(origin).is_some_and(|(origin, path)| {
        let path = path.strip_suffix('/').unwrap_or(path);
        issuing.issuer.strip_suffix(path).is_some_and(|own| own.eq_ignore_ascii_case(origin))
    });
    if same { Ok(()) } else { Err(OauthError::new(Oauth::InvalidTarget, "resource is not this service")) }
}

/// The scopes that are granted: of those asked for, the ones that the service has; without a wish, the default ones.
pub fn scopes(issuing: &Issuing, asked: Option<&str>) -> Result<Vec<String>, OauthError> {
    let mut granted: Vec<String> = match asked {
        None => issuing.scopes.iter().filter(|scope| scope.default).map(|scope| scope.name.clone()).collect(),
        Some(asked) => {
            let wanted: Vec<&str> = asked.split(' ').collect();
            issuing
                .scopes
                .iter()
                .map(|scope| &scope.name)
                .filter(|name| wanted.contains(&name.as_str()))
                .cloned()
                .collect()
        }
    };
    // What OpenID clients ask for by habit means nothing here, and is no reason to refuse.
    let habit = |scope: &str| matches!(scope, "openid" | "profile" | "email" | "offline_access" | "");
    if granted.is_empty() && asked.is_some_and(|asked| !asked.split(' ').all(habit)) {
        return Err(OauthError::new(Oauth::InvalidScope, "the service has none of these scopes"));
    }
    granted.sort();
    Ok(granted)
}
