//! GitHub, which is no OpenID Connect provider: a token, and what its API says with it.
//!
//! Sources: docs.github.com "Authorizing OAuth apps", "Refreshing user access tokens", "Troubleshooting OAuth app access token
//! request errors" and the REST API (users, emails, organization members, teams). Errors of the token endpoint come with
//! status 200. A person is named by the number of their account: names are given away and taken over.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::fetched::sent;
use super::{Person, ProviderError, ProviderTokens, callback};
use crate::engine::issuing::{GitHubSignIn, Issuing, SignIn};
use crate::oauth::form::Parameters;
use crate::oauth::strict;
use crate::signin::asked::Asked;
use crate::signin::code::challenge;
use crate::signin::flow::Flow;
use ProviderError::{Ended, Refused, Unavailable};

/// Entries of a page of a list, which is as many as there may be.
const PAGE: usize = 100;
/// Pages of a list that are read.
const PAGES: usize = 10;

/// Where the browser goes; `verifier` is the `code_verifier` of the gateway's own PKCE.
pub fn authorization_url(
    issuing: &Issuing,
    (sign_in, github): (&SignIn, &GitHubSignIn),
    (state, verifier): (&str, &str),
    asked: &Asked,
) -> String {
    let mut url = github.authorize.clone();
    url.query_pairs_mut()
        .append_pair("client_id", &github.client_id)
        .append_pair("redirect_uri", &callback(issuing, sign_in))
        .append_pair("scope", &github.scopes.join(" "))
        .append_pair("state", state)
        .append_pair("code_challenge", &challenge(verifier))
        .append_pair("code_challenge_method", "S256");
    // GitHub has one `prompt`, and no way to ask for the password again.
    let chosen = asked.prompt.as_deref().filter(|prompt| prompt.contains("select_account"));
    url.query_pairs_mut()
        .extend_pairs(chosen.map(|_| ("prompt", "select_account")))
        .extend_pairs(asked.hint.as_deref().map(|hint| ("login", hint)));
    url.into()
}

/// Whether `iss` of an authorization response, when there is one, is what GitHub calls its authorization server.
pub fn is_from(github: &GitHubSignIn, iss: Option<&str>) -> bool {
    let issuer = github.issuer.as_str().trim_end_matches('/');
    iss.is_none_or(|iss| iss.strip_prefix(issuer) == Some("/login/oauth"))
}

/// Redeems a code and says who the person is.
///
/// # Errors
/// GitHub does not answer, refuses the code, or the person is in none of the organizations.
pub async fn person(
    issuing: &Issuing,
    sign_in: &SignIn,
    github: &GitHubSignIn,
    flow: &Flow,
    code: &str,
) -> Result<Person, ProviderError> {
    let redirect = callback(issuing, sign_in);
    let form = [("code", code), ("redirect_uri", redirect.as_str()), ("code_verifier", flow.verifier.as_str())];
    let tokens = token(issuing, github, &form).await.map_err(|error| match error {
        // Whatever is wrong with a code is no word about a person.
        Ended(cause) => Refused(cause),
        error => error,
    })?;
    let (subject, claims) = look(issuing, github, &tokens.access).await?;
    Ok(Person { provider: sign_in.name.clone(), subject, claims, tokens: Some(tokens) })
}

/// New tokens if the old ones end and there is something to renew them with; otherwise those that are there.
///
/// # Errors
/// GitHub does not answer, or refuses the refresh token.
pub async fn renew(
    issuing: &Issuing,
    github: &GitHubSignIn,
    tokens: &ProviderTokens,
) -> Result<ProviderTokens, ProviderError> {
    if !tokens.is_stale(issuing.works.clock.unix()) {
        return Ok(tokens.clone());
    }
    let Some(refresh) = &tokens.refresh else { return Err(Ended("the token is too old".to_owned())) };
    let mut renewed = token(issuing, github, &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await?;
    renewed.refresh.get_or_insert_with(|| refresh.clone());
    Ok(renewed)
}

/// What GitHub says about `subject` now.
///
/// # Errors
/// As at sign-in; and another person is [`ProviderError::Ended`].
pub async fn claims(
    issuing: &Issuing,
    github: &GitHubSignIn,
    access: &str,
    subject: &str,
) -> Result<Value, ProviderError> {
    let (found, claims) = look(issuing, github, access).await?;
    if found == subject { Ok(claims) } else { Err(Ended("its token is about another person".to_owned())) }
}

/// Asks the token endpoint, whose answer is JSON or a form, and an error whatever its status.
async fn token(
    issuing: &Issuing,
    github: &GitHubSignIn,
    form: &[(&str, &str)],
) -> Result<ProviderTokens, ProviderError> {
    let secret = String::from_utf8(github.client_secret.secret.expose().to_vec());
    let secret = secret.map_err(|_| Unavailable("the client secret is no text".to_owned()))?;
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &github.client_id)
        .append_pair("client_secret", &secret)
        .extend_pairs(form)
        .finish();
    let request = Request::post(github.token.as_str())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "portcullis")
        .body(Bytes::from(body))
        .map_err(|error| Unavailable(error.to_string()))?;
    let answer = sent(&*issuing.works.fetch, request).await;
    let answer = answer.map_err(|error| Unavailable(error.to_string()))?;
    let unreadable = || Unavailable(format!("its token answer cannot be read (status {})", answer.status().as_u16()));
    let members = members(answer.headers(), answer.body()).ok_or_else(unreadable)?;
    let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(code) = text("error") {
        return Err(match code {
            "bad_verification_code" => Ended("it refuses the code".to_owned()),
            "bad_refresh_token" => Ended("it refuses the refresh token".to_owned()),
            "unverified_user_email" => Ended("the person has not verified their e-mail address".to_owned()),
            "incorrect_client_credentials" | "redirect_uri_mismatch" | "application_suspended" => {
                Unavailable(format!("its token endpoint says `{code}`"))
            }
            _ => Unavailable("its token endpoint reports an error".to_owned()),
        });
    }
    if answer.status() != StatusCode::OK {
        return Err(unreadable());
    }
    let access = text("access_token").ok_or_else(|| Refused("there is no access token".to_owned()))?;
    if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(Refused("the token is no bearer token".to_owned()));
    }
    // As a number in JSON, as text in a form.
    let seconds = members.get("expires_in").map(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
    let lifetime = match seconds {
        None => None,
        Some(Some(seconds)) => Some(std::time::Duration::from_secs(seconds)),
        Some(None) => return Err(Refused("`expires_in` is no number".to_owned())),
    };
    let now = issuing.works.clock.unix();
    ProviderTokens::new(github.issuer.as_str(), access, text("refresh_token"), lifetime, now)
}

fn members(headers: &HeaderMap, body: &[u8]) -> Option<Map<String, Value>> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let form = Parameters::parse(body).ok()?;
        return Some(form.iter().map(|(name, value)| (name.to_owned(), value.into())).collect());
    }
    strict::object(body).ok()
}

/// Who the token belongs to, with what the policy may read of them.
async fn look(issuing: &Issuing, github: &GitHubSignIn, access: &str) -> Result<(String, Value), ProviderError> {
    let api = Api { issuing, github, access };
    let user = api.object("user").await?.ok_or_else(|| Refused("there is no such person".to_owned()))?;
    let id = user.get("id").and_then(Value::as_u64).ok_or_else(|| Refused("the person has no number".to_owned()))?;
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), id.to_string().into());
    for (name, from) in [("preferred_username", "login"), ("name", "name"), ("picture", "avatar_url")] {
        if let Some(value @ Value::String(_)) = user.get(from) {
            claims.insert(name.to_owned(), value.clone());
        }
    }
    if github.emails {
        let emails = api.list("user/emails").await?;
        let primary = emails.iter().find(|email| email.get("primary") == Some(&Value::Bool(true)));
        if let Some(address) = primary.and_then(|email| email.get("email")) {
            let verified = primary.and_then(|email| email.get("verified")) == Some(&Value::Bool(true));
            claims.insert("email".to_owned(), address.clone());
            claims.insert("email_verified".to_owned(), verified.into());
        }
    }
    if !github.organizations.is_empty() {
        api.belongs().await?;
    }
    if github.groups {
        claims.insert("groups".to_owned(), api.groups().await?);
    }
    Ok((id.to_string(), Value::Object(claims)))
}

/// The API, as one person sees it.
struct Api<'a> {
    issuing: &'a Issuing,
    github: &'a GitHubSignIn,
    access: &'a str,
}

impl Api<'_> {
    /// Whether the person is an active member of one of the policy's organizations.
    async fn belongs(&self) -> Result<(), ProviderError> {
        for organization in &self.github.organizations {
            let membership = self.object(&format!("user/memberships/orgs/{organization}")).await?;
            if membership.is_some_and(|membership| membership.get("state") == Some(&json!("active"))) {
                return Ok(());
            }
        }
        Err(Ended("the person is in none of the organizations".to_owned()))
    }

    /// Organizations by their names, and teams by those of both.
    async fn groups(&self) -> Result<Value, ProviderError> {
        let odd = || Refused("an organization or team has no name".to_owned());
        let mut groups = Vec::new();
        for membership in self.list("user/memberships/orgs").await? {
            if membership.get("state") == Some(&json!("active")) {
                groups.push(membership.pointer("/organization/login").and_then(Value::as_str).ok_or_else(odd)?.into());
            }
        }
        for team in self.list("user/teams").await? {
            let organization = team.pointer("/organization/login").and_then(Value::as_str).ok_or_else(odd)?;
            let slug = team.get("slug").and_then(Value::as_str).ok_or_else(odd)?;
            groups.push(format!("{organization}/{slug}"));
        }
        Ok(groups.into())
    }

    /// An object; `None` when GitHub does not show it to this person.
    async fn object(&self, path: &str) -> Result<Option<Map<String, Value>>, ProviderError> {
        let answer = self.get(path, None).await?;
        if answer.status() != StatusCode::OK {
            return Ok(None);
        }
        strict::object(answer.body()).map(Some).map_err(|error| Refused(format!("{path}: {error}")))
    }

    /// All of a list. One that does not end is refused: half of a person's groups could be the wrong half.
    async fn list(&self, path: &str) -> Result<Vec<Value>, ProviderError> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let answer = self.get(path, Some(page)).await?;
            if answer.status() != StatusCode::OK {
                return Err(Ended(format!("{path}: status {}", answer.status().as_u16())));
            }
            let entries: Vec<Value> =
                serde_json::from_slice(answer.body()).map_err(|_| Refused(format!("{path}: the answer is no list")))?;
            let last = entries.len() < PAGE;
            all.extend(entries);
            if last {
                return Ok(all);
            }
        }
        Err(Refused(format!("{path}: there are more than {}", PAGE * PAGES)))
    }

    /// An answer of the API: 200, or a refusal that is about the person.
    async fn get(&self, path: &str, page: Option<usize>) -> Result<Response<Bytes>, ProviderError> {
        let mut url = format!("{}/{path}", self.github.api.as_str().trim_end_matches('/'));
        if let Some(page) = page {
            url.push_str(&format!("?per_page={PAGE}&page={page}"));
        }
        let request = Request::builder()
            .method(Method::GET)
            .uri(url)
            .header(ACCEPT, "application/vnd.github+json")
            .header(AUTHORIZATION, format!("Bearer {}", self.access))
            .header(USER_AGENT, "portcullis")
            .header("x-github-api-version", "2022-11-28")
            .body(Bytes::new())
            .map_err(|error| Unavailable(error.to_string()))?;
        let answer = sent(&*self.issuing.works.fetch, request).await;
        let answer = answer.map_err(|error| Unavailable(error.to_string()))?;
        let headers = answer.headers();
        // Too many requests are 403 as well ("Rate limits for the REST API").
        let limited =
            headers.contains_key(RETRY_AFTER) || headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0");
        match answer.status() {
            StatusCode::OK | StatusCode::NOT_FOUND => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(Ended("it no longer accepts the token".to_owned())),
            StatusCode::FORBIDDEN if !limited && path == "user" => Err(Ended("it refuses the person".to_owned())),
            StatusCode::FORBIDDEN if !limited => Ok(answer),
            status => Err(Unavailable(format!("{path}: status {}", status.as_u16()))),
        }
    }
}
