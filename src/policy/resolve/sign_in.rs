//! The meaning of a provider that signs people in.

use super::context::Context;
use super::preset::Preset;
use super::users::users;
use crate::diagnostics::Diagnostic;
use crate::engine::issuing::{OidcSignIn, SignIn, SignInKind};
use crate::oauth::challenge::is_scope_token;
use crate::policy::codes;
use crate::policy::document::provider::{LocalDocument, OidcDocument, SignInDocument};
use crate::policy::model::IdTokens;
use crate::providers::oidc::OidcSettings;

/// What is asked for when nothing is written.
const SCOPES: [&str; 3] = ["openid", "email", "profile"];
/// Parameters that the flow itself sets.
const OWN_PARAMETERS: [&str; 12] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
];

/// Resolves `sign_in` of the provider that `settings` describe, written at `pointer`.
pub fn oidc(
    context: &mut Context<'_>,
    (name, document, written): (&str, &OidcDocument, &SignInDocument),
    settings: &OidcSettings,
    pointer: &str,
) -> (SignIn, IdTokens) {
    let preset = Preset::of(document.preset);
    let secret = written.client_secret.as_ref();
    let client_secret = secret.and_then(|secret| context.secret(secret, &format!("{pointer}/client_secret")));
    let scopes = scopes(context, written.scopes.as_deref(), &format!("{pointer}/scopes"));
    let parameters = parameters(context, written, pointer);
    let echoed = parameters.iter().filter(|(name, _)| preset.echoed.contains(&name.as_str()));
    let expected = echoed.map(|(name, value)| (name.clone(), Some(value.clone()).filter(|value| value != "*")));
    let expected = expected.collect();
    let several = preset.multi_tenant(&settings.issuer);
    let tenants = written.tenants.as_deref().unwrap_or_default();
    match &several {
        Some(_) if tenants.is_empty() => {
            let diagnostic = Diagnostic::error(codes::MISSING_KEY, "everybody with a Microsoft account could come in");
            context.push_at_key(diagnostic.help("name the tenants: `tenants: [<tenant id>]`"), pointer);
        }
        None if written.tenants.is_some() => {
            let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "the issuer is of one tenant");
            let help = "remove `tenants`, or write `preset: entra` and the issuer of several tenants: \
                        `https://login.microsoftonline.com/organizations/v2.0`";
            context.push_at_key(diagnostic.help(help), &format!("{pointer}/tenants"));
        }
        _ => {}
    }
    for (index, tenant) in tenants.iter().enumerate() {
        let id = tenant.len() == 36 && tenant.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        if !id {
            let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{tenant}` is no tenant id"));
            let help = "write the directory (tenant) ID in lower case, as the overview page of the tenant shows it";
            context.push(diagnostic.help(help), &format!("{pointer}/tenants/{index}"));
        }
    }
    let of_tenants: Vec<String> =
        several.iter().flat_map(|several| tenants.iter().map(|tenant| several.of(tenant))).collect();
    let issuers = match several {
        Some(_) => of_tenants.clone(),
        None => vec![settings.issuer.as_str().to_owned()],
    };
    let id_tokens = IdTokens {
        issuers: issuers.iter().flat_map(|issuer| preset.same_tenant(issuer)).collect(),
        client: written.client_id.clone(),
    };
    let sign_in = OidcSignIn {
        issuer: settings.issuer.clone(),
        allowed_hosts: settings.allowed_hosts.clone(),
        client_id: written.client_id.clone(),
        client_secret,
        scopes,
        parameters,
        userinfo: written.userinfo.unwrap_or(preset.userinfo),
        algorithms: settings.algorithms.clone(),
        discovered_issuer: several.map_or_else(|| settings.issuer.as_str().to_owned(), |several| several.discovered),
        tenants: of_tenants,
        expected,
    };
    let title = written.title.clone().unwrap_or_else(|| name.to_owned());
    (SignIn { name: name.to_owned(), title, kind: SignInKind::Oidc(Box::new(sign_in)) }, id_tokens)
}

/// Resolves a `local` provider, written at `pointer`.
pub fn local(context: &mut Context<'_>, name: &str, written: &LocalDocument, pointer: &str) -> SignIn {
    let users = users(context, &written.users, &format!("{pointer}/users"));
    let title = written.title.clone().unwrap_or_else(|| name.to_owned());
    SignIn { name: name.to_owned(), title, kind: SignInKind::Local(users.into()) }
}

fn scopes(context: &mut Context<'_>, written: Option<&[String]>, pointer: &str) -> Vec<String> {
    let Some(written) = written else { return SCOPES.map(str::to_owned).to_vec() };
    if !written.iter().any(|scope| scope == "openid") {
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, "without `openid` nobody is signed in");
        context.push(diagnostic.help("add `openid` to the list"), pointer);
    }
    for (index, scope) in written.iter().enumerate().filter(|(_, scope)| !is_scope_token(scope)) {
        context.error(&format!("{pointer}/{index}"), codes::INVALID_VALUE, format!("`{scope}` is no scope"));
    }
    written.to_vec()
}

fn parameters(context: &mut Context<'_>, written: &SignInDocument, pointer: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    for (name, value) in written.parameters.iter().flatten() {
        if OWN_PARAMETERS.contains(&name.as_str()) {
            let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{name}` is set by the gateway"));
            let pointer = format!("{pointer}/parameters/{}", crate::policy::tree::escaped(name));
            context.push_at_key(diagnostic.help("remove it; scopes are named under `scopes`"), &pointer);
        }
        parameters.push((name.clone(), value.clone()));
    }
    parameters
}
