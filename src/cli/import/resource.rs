//! Native mode: a resource server, whose tokens come from the provider.

use super::Issuer;
use super::page::{Note, Page, listed, quoted};
use super::place::Place;
use super::variables::Variables;
use crate::oauth::challenge::is_scope_token;
use crate::oauth::jws::Algorithm;
use crate::oauth::key::Key;
use crate::oauth::url::IssuerUrl;

/// Scopes of signing in, which say nothing about a service.
const IDENTITY_SCOPES: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];

/// Writes providers, authentication and scopes.
pub(super) fn write(page: &mut Page, variables: &Variables, issuer: Issuer, place: &Place) {
    let without_effect = if issuer == Issuer::Hmac {
        variables.set(&[
            "OIDC_CLIENT_ID",
            "OIDC_CLIENT_SECRET",
            "OIDC_SKIP_AUDIENCE_CHECK",
            "OIDC_VALIDATOR_ISSUER",
            "OAUTH_REDIRECT_URIS",
            "OAUTH_FIXED_REDIRECT_URI",
            "OAUTH_ALLOWED_CLIENT_REDIRECT_DOMAINS",
        ])
    } else {
        variables.set(&[
            "OIDC_CLIENT_SECRET",
            "JWT_SECRET",
            "OAUTH_REDIRECT_URIS",
            "OAUTH_FIXED_REDIRECT_URI",
            "OAUTH_ALLOWED_CLIENT_REDIRECT_DOMAINS",
        ])
    };
    if !without_effect.is_empty() {
        page.note(Note::NoEffect, &format!("{} did nothing here. Not taken over.", without_effect.join(", ")));
    }
    if issuer == Issuer::Hmac {
        hmac(page, variables, place);
    } else {
        oidc(page, variables, issuer);
    }
    let audience = audience(page, variables, issuer);
    let audiences = audience.map(|audience| format!(", audiences: [{}]", quoted(audience))).unwrap_or_default();
    page.line(format!("authentication: {{ providers: [{}]{audiences} }}", issuer.name()));
    scopes(page, variables);
}

fn hmac(page: &mut Page, variables: &Variables, place: &Place) {
    let written = variables.get("OIDC_ISSUER").filter(|issuer| IssuerUrl::parse(issuer).is_ok());
    let issuer = written.or(place.origin.as_deref()).unwrap_or("https://issuer.example.com");
    page.note(
        Note::HmacIssuer,
        "nobody looked at `iss`: any token with the secret passed, whatever it was made for. Whoever makes tokens now writes this \
         issuer into `iss`; change it to what they write already.",
    );
    page.note(Note::HmacExpiry, "a token without `exp` was good for ever. Every token now ends.");
    page.note(
        Note::HmacAlgorithms,
        "HS384 and HS512 were accepted too. If tokens use them, list them under `algorithms`; their secrets are longer.",
    );
    match variables.get("JWT_SECRET") {
        None => {
            page.note(Note::SecretUnset, "JWT_SECRET is not set here. It must be where the gateway runs.");
            page.check_says("secret-unreadable");
        }
        Some(secret) if Key::secret(Algorithm::Hs256, secret.as_bytes()).is_err() => {
            page.note(
                Note::WeakSecret,
                "JWT_SECRET is short or can be guessed, and any secret was accepted. Make one with `openssl rand -base64 64`; for \
                 as long as both are in use, list both under `secrets`.",
            );
            page.check_says("weak-secret");
        }
        Some(_) => {}
    }
    page.note(
        Note::HmacClients,
        "clients cannot get such tokens by themselves, now as before (their metadata named a server without a name). People need \
         a provider that signs them in.",
    );
    page.check_says("no-authorization-server");
    page.line("providers:");
    page.line("  own:");
    page.line("    hmac:");
    page.line(format!("      issuer: {}", quoted(issuer)));
    page.line("      algorithms: [HS256]");
    page.line("      secrets: [{ env: JWT_SECRET }]");
}

fn oidc(page: &mut Page, variables: &Variables, kind: Issuer) {
    let discovered = variables.get("OIDC_ISSUER").unwrap_or_default();
    let issuer = variables.get("OIDC_VALIDATOR_ISSUER").unwrap_or(discovered);
    page.note(
        Note::IdTokens,
        "ID tokens passed as access tokens, which tell an application who signed in and open nothing. They are refused.",
    );
    about_issuer(page, kind, issuer);
    if kind == Issuer::Okta && !discovered.contains("/oauth2") {
        let told = format!(
            "access tokens of an organization's own server are for Okta itself, and nobody else can verify them. Use a custom \
             authorization server, such as {}.",
            quoted(&format!("{}/oauth2/default", discovered.trim_end_matches('/')))
        );
        page.note(Note::OktaOrg, &told);
    }
    if kind == Issuer::Google {
        page.note(
            Note::GoogleNative,
            "Google's access tokens cannot be verified by others, so only ID tokens ever worked, and these are refused now. Let \
             people sign in through the gateway: set OIDC_CLIENT_ID and a redirect, and import again.",
        );
    }
    let keys = variables.get("OIDC_VALIDATOR_ISSUER").map(|_| keys_of(kind, discovered));
    if keys.is_some() {
        page.note(
            Note::ValidatorIssuer,
            "OIDC_VALIDATOR_ISSUER: tokens name this issuer and OIDC_ISSUER was only where keys were found. So the keys are named \
             by their own URL.",
        );
    }
    page.line("providers:");
    page.line(format!("  {}:", kind.name()));
    page.line("    oidc:");
    page.line(format!("      issuer: {}", quoted(issuer)));
    if let Some(keys) = keys {
        page.line(format!("      jwks_uri: {}", quoted(&keys)));
    } else if kind == Issuer::Google {
        page.line("      allowed_hosts: [www.googleapis.com]");
    }
    page.line("      algorithms: [RS256, ES256]");
    if let Some(client) = variables.get("OIDC_CLIENT_ID") {
        page.line(format!("      sign_in_clients: [{}]", quoted(client)));
    }
}

/// Says what is to be said about an issuer in either mode, and whether it stands for many tenants.
pub(super) fn about_issuer(page: &mut Page, kind: Issuer, issuer: &str) -> bool {
    if IssuerUrl::parse(issuer).is_err() {
        page.note(
            Note::IssuerUnsafe,
            "the issuer is no https URL with a name, so anybody on the way could say which keys are good. Nothing is fetched from it.",
        );
        page.check_says("unsafe-url");
    }
    let several = kind == Issuer::Azure
        && ["/common/", "/organizations/", "/consumers/"].iter().any(|tenant| issuer.contains(tenant));
    if several {
        page.note(
            Note::AzureTenants,
            "this issuer stands for many tenants and is none itself: no token names it, and oauth-mcp-proxy could not start with \
             it. Write your tenant's id in its place, or where people sign in through the gateway, their tenants under `sign_in.tenants`.",
        );
    }
    several
}

/// Where the keys are of an issuer that oauth-mcp-proxy knew.
fn keys_of(kind: Issuer, issuer: &str) -> String {
    let issuer = issuer.trim_end_matches('/');
    match kind {
        Issuer::Google => "https://www.googleapis.com/oauth2/v3/certs".to_owned(),
        Issuer::Azure => format!("{}/discovery/v2.0/keys", issuer.trim_end_matches("/v2.0")),
        _ if issuer.contains("/oauth2/") => format!("{issuer}/v1/keys"),
        _ => format!("{issuer}/oauth2/v1/keys"),
    }
}

/// The audience that is taken over.
fn audience<'v>(page: &mut Page, variables: &'v Variables, kind: Issuer) -> Option<&'v str> {
    if kind != Issuer::Hmac {
        skipped(page, variables, "Tokens must name an audience.");
    }
    let Some(audience) = variables.get("OIDC_AUDIENCE") else {
        page.note(Note::AudienceMissing, "OIDC_AUDIENCE is not set. Tokens must name the URL of this service.");
        return None;
    };
    if kind == Issuer::Hmac {
        return Some(audience);
    }
    let issuer = variables.get("OIDC_ISSUER").unwrap_or_default();
    let origin = IssuerUrl::parse(issuer).map(|issuer| issuer.url().origin().ascii_serialization()).unwrap_or_default();
    if [issuer, &origin].iter().any(|own| own.trim_end_matches('/') == audience.trim_end_matches('/')) {
        page.note(
            Note::AudienceIsIssuer,
            "OIDC_AUDIENCE is the issuer itself, which tokens for any application of it name: each of them opened this service. \
             Not taken over: let the issuer make tokens for the URL of this service, or for a name that is its own.",
        );
        return None;
    }
    if variables.get("OIDC_CLIENT_ID") == Some(audience) {
        page.note(
            Note::AudienceIsClient,
            "OIDC_AUDIENCE is the client id, which only ID tokens name. Not taken over: let the issuer make access tokens for the \
             URL of this service, or for a name that is its own.",
        );
        return None;
    }
    Some(audience)
}

/// OIDC_SKIP_AUDIENCE_CHECK, as Go's ParseBool read it.
pub(super) fn skipped(page: &mut Page, variables: &Variables, instead: &str) {
    match variables.get("OIDC_SKIP_AUDIENCE_CHECK") {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => {}
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => {
            let told =
                format!("OIDC_SKIP_AUDIENCE_CHECK let in tokens that were made for any other service. {instead}");
            page.note(Note::AudienceSkipped, &told);
        }
        Some(other) => {
            let told =
                format!("OIDC_SKIP_AUDIENCE_CHECK is {}, which nobody understood and which meant off.", quoted(other));
            page.note(Note::SwitchUnread, &told);
        }
    }
}

fn scopes(page: &mut Page, variables: &Variables) {
    let Some(written) = variables.get("OIDC_SCOPES") else { return };
    let (own, identity): (Vec<&str>, Vec<&str>) =
        written.split_whitespace().partition(|scope| !IDENTITY_SCOPES.contains(scope) && is_scope_token(scope));
    if !identity.is_empty() {
        let told = format!(
            "{} of OIDC_SCOPES is for signing in and says nothing about a service. Not taken over.",
            listed(identity)
        );
        page.note(Note::ScopesIdentity, &told);
    }
    if own.is_empty() {
        return;
    }
    page.line("scopes:");
    let mut seen = Vec::new();
    for scope in own {
        if !seen.contains(&scope) {
            page.line(format!("  {}: {{ default: true }}", quoted(scope)));
            seen.push(scope);
        }
    }
}
