//! Proxy mode: an authorization server, which signs people in with the provider and issues tokens of its own.

use url::Url;

use super::Issuer;
use super::page::{Note, Page, listed, quoted};
use super::place::Place;
use super::resource::{about_issuer, skipped};
use super::variables::Variables;
use crate::oauth::redirect::RedirectUri;

/// Which redirects of clients are accepted.
#[derive(Debug, Default)]
struct Redirects<'v> {
    exact: Vec<&'v str>,
    loopback: bool,
    hosts: Vec<String>,
}

/// Writes providers and the authorization server.
///
/// # Errors
/// No redirect of clients is left.
pub(super) fn write(page: &mut Page, variables: &Variables, issuer: Issuer, place: &Place) -> Result<(), String> {
    page.note(
        Note::ProxyMode,
        "clients were handed the provider's own tokens, all of them through one client id, without a word to the person, and PKCE \
         was left to them. The gateway now issues tokens of its own, for this service alone and with refresh tokens that are used \
         once; each client is registered and the person asked; PKCE with S256 is a must; the provider's tokens stay inside.",
    );
    audience(page, variables);
    state_key(page, variables);
    provider(page, variables, issuer, place);
    let redirects = redirects(page, variables, place);
    if redirects.exact.is_empty() && !redirects.loopback {
        return Err(
            "no redirect of OAUTH_REDIRECT_URIS can be taken over: name https URLs without a fragment".to_owned()
        );
    }
    page.note(
        Note::Store,
        "clients, consents and sign-ins are kept in memory, as before, and a restart signs everybody out. Name a `store` in \
         `portcullis.yaml`: `store: { file: state/portcullis.redb }` with `encryption_keys` keeps them, `store: memory` says that \
         memory will do.",
    );
    page.check_says("restart-signs-out");
    page.line("authorization_server:");
    page.line(format!("  sign_in: [{}]", issuer.name()));
    page.line("  redirects:");
    if !redirects.exact.is_empty() {
        page.line(format!("    exact: {}", listed(redirects.exact.iter().copied())));
    }
    if redirects.loopback {
        page.line("    loopback: true");
    }
    if !redirects.hosts.is_empty() {
        page.line(format!("    hosts: {}", listed(redirects.hosts.iter().map(String::as_str))));
    }
    Ok(())
}

/// What becomes of the provider's audience, and of all that bent it.
fn audience(page: &mut Page, variables: &Variables) {
    if variables.get("OIDC_AUDIENCE").is_some() {
        page.note(
            Note::AudienceOwn,
            "OIDC_AUDIENCE is not needed: the gateway's tokens are for the URL of this service.",
        );
    }
    skipped(page, variables, "The gateway's own tokens are for this service and no other.");
    if variables.get("OIDC_VALIDATOR_ISSUER").is_some() {
        page.note(
            Note::ValidatorIssuer,
            "OIDC_VALIDATOR_ISSUER is not needed: the provider's access tokens are no longer what clients send.",
        );
    }
}

/// JWT_SECRET signed the state of a sign-in here.
fn state_key(page: &mut Page, variables: &Variables) {
    if variables.get("JWT_SECRET").is_some() {
        page.note(
            Note::StateKey,
            "JWT_SECRET signed what went through the browser, could be a key of tokens as well, and could not be renewed. Not taken \
             over: the gateway has keys for this alone, `encryption_keys` in `portcullis.yaml`.",
        );
    } else {
        page.note(
            Note::StateKeyRandom,
            "without JWT_SECRET every process made a key for itself, and a sign-in that began at one failed at another. Where \
             several gateways run, give them one store and the same `encryption_keys` in `portcullis.yaml`.",
        );
    }
}

fn provider(page: &mut Page, variables: &Variables, kind: Issuer, place: &Place) {
    let issuer = variables.get("OIDC_ISSUER").unwrap_or_default();
    let name = kind.name();
    if about_issuer(page, kind, issuer) {
        page.check_says("missing-key");
    }
    if kind == Issuer::Google {
        page.note(
            Note::GoogleProxy,
            "clients sent Google's access tokens, which nobody else can verify, so only an ID token that was pasted in ever worked. \
             They get tokens of the gateway now.",
        );
    }
    if kind == Issuer::Azure {
        page.note(
            Note::AzureGraph,
            "with the scopes of signing in, Entra made tokens for Microsoft Graph, which nobody else can verify. Clients get tokens of \
             the gateway now.",
        );
    }
    let service = place.resource().unwrap_or_else(|| format!("<public_url>{}", place.path));
    let callback = format!("{service}/callback/{name}");
    let told =
        format!("register {} as a redirect of this client at the provider; the old ones can go.", quoted(&callback));
    page.note(Note::CallbackMoves, &told);
    let secret = variables.get("OIDC_CLIENT_SECRET").is_some();
    if !secret {
        let told =
            "OIDC_CLIENT_SECRET is not set: the gateway is a client without a secret at the provider, with PKCE.";
        page.note(Note::PublicClient, told);
    }
    let scopes = scopes(page, variables);
    page.line("providers:");
    page.line(format!("  {name}:"));
    page.line("    oidc:");
    page.line(format!("      issuer: {}", quoted(issuer)));
    page.line(format!("      preset: {name}"));
    page.line("      sign_in:");
    page.line(format!("        client_id: {}", quoted(variables.get("OIDC_CLIENT_ID").unwrap_or_default())));
    if secret {
        page.line("        client_secret: { env: OIDC_CLIENT_SECRET }");
    }
    if !scopes.is_empty() {
        page.line(format!("        scopes: {}", listed(scopes.iter().copied())));
    }
}

/// Scopes that the provider is asked for; none says the default, which was the same.
fn scopes<'v>(page: &mut Page, variables: &'v Variables) -> Vec<&'v str> {
    let mut scopes: Vec<&str> = variables.get("OIDC_SCOPES").unwrap_or_default().split_whitespace().collect();
    if !scopes.is_empty() && !scopes.contains(&"openid") {
        page.note(Note::ScopesOpenid, "OIDC_SCOPES lacks `openid`, without which nobody is signed in. Added.");
        scopes.insert(0, "openid");
    }
    scopes
}

fn redirects<'v>(page: &mut Page, variables: &'v Variables, place: &Place) -> Redirects<'v> {
    let mut redirects = Redirects::default();
    let mut own = false;
    for written in parts(variables.get("OAUTH_REDIRECT_URIS")) {
        if let Err(error) = RedirectUri::parse(written) {
            let told = format!("{} of OAUTH_REDIRECT_URIS is left out: {error}.", quoted(written));
            page.note(Note::RedirectRefused, &told);
            continue;
        }
        let url = Url::parse(written).ok();
        let here = url.filter(|url| place.origin.as_deref() == Some(&*url.origin().ascii_serialization()));
        if here.is_some_and(|url| url.path().ends_with("/callback")) {
            own = true;
        } else if !redirects.exact.contains(&written) {
            redirects.exact.push(written);
        }
    }
    if own {
        page.note(
            Note::RedirectOwn,
            "OAUTH_REDIRECT_URIS names the server's own callback. Alone there it meant a fixed redirect until v1.1.2, and since then \
             refused every client. Written as the fixed redirect that was meant.",
        );
    }
    let fixed = variables.get("OAUTH_FIXED_REDIRECT_URI").is_some() || own;
    if fixed {
        redirects.loopback = true;
        page.note(
            Note::RedirectLoopback,
            "with a fixed redirect any program on the person's machine could have the code, and nobody was told. Programs on the \
             machine need this, so it stays; but the person now reads where the code goes, and says yes.",
        );
    }
    let domains: Vec<&str> = parts(variables.get("OAUTH_ALLOWED_CLIENT_REDIRECT_DOMAINS")).collect();
    if !domains.is_empty() && !fixed {
        let told = "OAUTH_ALLOWED_CLIENT_REDIRECT_DOMAINS did nothing without a fixed redirect. Not taken over.";
        page.note(Note::NoEffect, told);
    } else if !domains.is_empty() {
        page.note(
            Note::RedirectDomains,
            "every host below the domains of OAUTH_ALLOWED_CLIENT_REDIRECT_DOMAINS gets codes, and one that somebody takes over is \
             enough. Taken over for hosts below, and the person reads which; better write the URLs of your clients under `exact`, as \
             those on the domain itself must be.",
        );
        for domain in domains {
            let domain = domain.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
            redirects.hosts.push(format!("*.{domain}"));
        }
    }
    redirects
}

/// The parts of a list with commas.
fn parts(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}
