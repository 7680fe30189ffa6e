//! The meaning of `upstream.credential`.

use http::HeaderValue;
use http::header::AUTHORIZATION;

use super::context::Context;
use super::issuing::{RESERVED_CLAIMS, algorithm};
use super::upstream::header;
use crate::credentials::assertion::Settings;
use crate::credentials::token_endpoint::{Proof, TokenRequest};
use crate::diagnostics::Diagnostic;
use crate::engine::authentication::Admission;
use crate::engine::issuing::SignInKind;
use crate::oauth::challenge::is_scope_token;
use crate::oauth::signer::Signer;
use crate::oauth::url::{EndpointUrl, ResourceUrl, UpstreamUrl};
use crate::policy::codes;
use crate::policy::document::PolicyDocument;
use crate::policy::document::credential::{
    AssertionDocument, ClientAuthWord, CredentialDocument, TokenRequestDocument,
};
use crate::policy::document::scalar::SecretDocument;
use crate::policy::model::{Credential, CredentialSource, Service};
use crate::secret::Held;

/// Where it all stands.
const POINTER: &str = "/upstream/credential";

/// Resolves the credential of an upstream.
pub fn credential(
    context: &mut Context<'_>,
    document: &PolicyDocument,
    (resource, upstream): (Option<&ResourceUrl>, &UpstreamUrl),
) -> Option<Credential> {
    let written = document.upstream.credential.as_ref()?;
    let header = match &written.header {
        None => AUTHORIZATION,
        Some(name) => header(context, name, &format!("{POINTER}/header"))?,
    };
    let bearer = if header == AUTHORIZATION { "Bearer " } else { "" };
    let prefix = written.prefix.clone().unwrap_or_else(|| bearer.to_owned());
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, "a header cannot carry this prefix");
        context.push(diagnostic.help("write visible ASCII, such as `Token `"), &format!("{POINTER}/prefix"));
    }
    let request = |key: &str| format!("{POINTER}/{key}");
    let source = match written {
        CredentialDocument { secret: Some(secret), .. } => CredentialSource::Secret(fixed(context, secret)?),
        CredentialDocument { client_credentials: Some(written), .. } => {
            CredentialSource::ClientCredentials(token_request(context, written, &request("client_credentials"))?)
        }
        CredentialDocument { exchange: Some(written), .. } => {
            CredentialSource::Exchange(token_request(context, written, &request("exchange"))?)
        }
        CredentialDocument { provider_token: Some(wanted), .. } => {
            if !wanted {
                let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "`false` is as good as nothing");
                context.push(diagnostic.help("write `true`, or remove `credential`"), &request("provider_token"));
                return None;
            }
            CredentialSource::ProviderToken
        }
        CredentialDocument { assertion: Some(written), .. } => {
            let settings = assertion(context, written, (resource?, upstream));
            let tokens = document.authorization_server.as_ref().and_then(|server| server.tokens.as_ref());
            CredentialSource::Assertion(settings, algorithm(tokens.and_then(|tokens| tokens.algorithm)))
        }
        // The schema wants one of them.
        _ => return None,
    };
    Some(Credential { header, prefix, source })
}

fn assertion(
    context: &mut Context<'_>,
    written: &AssertionDocument,
    (resource, upstream): (&ResourceUrl, &UpstreamUrl),
) -> Settings {
    for (index, claim) in written.claims.iter().flatten().enumerate() {
        if claim == "sub_id" || RESERVED_CLAIMS.contains(&claim.as_str()) {
            let diagnostic =
                Diagnostic::error(codes::RESERVED_CLAIM, format!("`{claim}` is written by the gateway itself"));
            context.push(diagnostic.help("remove it"), &format!("{POINTER}/assertion/claims/{index}"));
        }
    }
    Settings {
        issuer: resource.as_str().to_owned(),
        audience: written.audience.clone().unwrap_or_else(|| upstream.as_str().to_owned()),
        claims: written.claims.clone().unwrap_or_default(),
    }
}

/// Whether everybody who is let in can have a credential of this kind: one that some callers could never have is an
/// error, for each of their calls would end in it.
pub fn fits(context: &mut Context<'_>, service: &Service) {
    let Some(credential) = &service.upstream.credential else { return };
    let of_provider = matches!(credential.source, CredentialSource::ProviderToken);
    let exchanged = matches!(credential.source, CredentialSource::Exchange(_));
    let asserted = matches!(credential.source, CredentialSource::Assertion(..));
    if !(of_provider || exchanged || asserted) {
        return;
    }
    let mut wrong = |message: &str, help: &str, pointer: &str| {
        context.push(Diagnostic::error(codes::NO_CREDENTIAL, message).help(help), pointer);
    };
    if of_provider && service.authorization_server.is_none() {
        let message = "the gateway has a person's own token only where it signs people in";
        wrong(message, "add `authorization_server`, or use `exchange`", &format!("{POINTER}/provider_token"));
        return;
    }
    if service.admission == Admission::Everyone {
        let message = "callers without a token have nothing that the upstream's credential could be made from";
        wrong(
            message,
            "remove `optional`, or choose a credential that is the same for all",
            "/authentication/optional",
        );
    }
    for (index, provider) in service.providers.iter().enumerate() {
        let pointer = format!("/authentication/providers/{index}");
        if exchanged && provider.is_closed_list() {
            let message = "an API key cannot be exchanged: the token endpoint does not know it, and must not learn it";
            wrong(message, "remove the provider, or choose another credential", &pointer);
        } else if of_provider {
            wrong("callers with tokens of this provider did not sign in at the gateway", "remove it", &pointer);
        }
    }
    let known = service.authorization_server.iter().flat_map(|server| &server.sign_in);
    for (index, _) in known.enumerate().filter(|(_, sign_in)| !asserted && matches!(sign_in.kind, SignInKind::Local(_)))
    {
        let message = "people of a `local` provider have no token of it";
        let help = "remove it, or use `assertion`";
        wrong(message, help, &format!("/authorization_server/sign_in/{index}"));
    }
}

fn fixed(context: &mut Context<'_>, written: &SecretDocument) -> Option<Held> {
    let pointer = format!("{POINTER}/secret");
    let secret = context.secret(written, &pointer)?;
    if HeaderValue::from_bytes(secret.secret.expose()).is_err() {
        let diagnostic =
            Diagnostic::error(codes::WEAK_SECRET, "the secret holds a line end or another control character");
        context.push(diagnostic.help("a header cannot carry it: store the bare value"), &pointer);
    }
    Some(secret)
}

/// Resolves how a token endpoint is asked.
fn token_request(context: &mut Context<'_>, written: &TokenRequestDocument, pointer: &str) -> Option<TokenRequest> {
    let url = context.url(&format!("{pointer}/token_url"), EndpointUrl::parse(&written.token_url));
    let proof = proof(context, written, pointer);
    for (index, scope) in written.scopes.iter().flatten().enumerate().filter(|(_, scope)| !is_scope_token(scope)) {
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{scope}` is no scope"));
        let help = "a scope is visible ASCII without spaces, `\"` and `\\`, such as `notes:read`";
        context.push(diagnostic.help(help), &format!("{pointer}/scopes/{index}"));
    }
    if let Some(resource) = &written.resource
        && !url::Url::parse(resource).is_ok_and(|url| url.has_host() && url.fragment().is_none())
    {
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{resource}` is no URL of a resource"));
        let help = "write an absolute URL without a fragment, such as `https://mcp.internal/mcp`";
        context.push(diagnostic.help(help), &format!("{pointer}/resource"));
    }
    Some(TokenRequest {
        url: url?,
        client_id: written.client_id.clone(),
        proof: proof?,
        scopes: written.scopes.clone().unwrap_or_default(),
        audience: written.audience.clone(),
        resource: written.resource.clone(),
    })
}

fn proof(context: &mut Context<'_>, written: &TokenRequestDocument, pointer: &str) -> Option<Proof> {
    if let Some(key) = &written.client_key {
        if written.client_auth.is_some() {
            let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "a key is not sent, so it goes nowhere");
            context.push_at_key(diagnostic.help("remove `client_auth`"), &format!("{pointer}/client_auth"));
        }
        let pointer = format!("{pointer}/client_key");
        let held = context.secret(key, &pointer)?;
        if Signer::from_pem(held.secret.expose()).is_err() {
            let message = "this is no private key that the gateway can sign with";
            let help = "store one P-256 or Ed25519 key in PKCS #8: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";
            context.push(Diagnostic::error(codes::INVALID_KEY, message).help(help), &pointer);
        }
        return Some(Proof::Key(held));
    }
    let held = context.secret(written.client_secret.as_ref()?, &format!("{pointer}/client_secret"))?;
    Some(if written.client_auth == Some(ClientAuthWord::Post) { Proof::Post(held) } else { Proof::Basic(held) })
}
