//! The meaning of `upstream.credential`.

use http::HeaderValue;
use http::header::AUTHORIZATION;

use super::context::Context;
use super::upstream::header;
use crate::credentials::token_endpoint::{Proof, TokenRequest};
use crate::diagnostics::Diagnostic;
use crate::oauth::challenge::is_scope_token;
use crate::oauth::signer::Signer;
use crate::oauth::url::EndpointUrl;
use crate::policy::codes;
use crate::policy::document::credential::{ClientAuthWord, CredentialDocument, TokenRequestDocument};
use crate::policy::document::scalar::SecretDocument;
use crate::policy::model::{Credential, CredentialSource};
use crate::secret::Held;

/// Where it all stands.
const POINTER: &str = "/upstream/credential";

/// Resolves the credential of an upstream.
pub fn credential(context: &mut Context<'_>, written: &CredentialDocument) -> Option<Credential> {
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
    let source = match written {
        CredentialDocument { secret: Some(secret), .. } => CredentialSource::Secret(fixed(context, secret)?),
        CredentialDocument { client_credentials: Some(request), .. } => {
            let pointer = format!("{POINTER}/client_credentials");
            CredentialSource::ClientCredentials(token_request(context, request, &pointer)?)
        }
        // The schema wants one of them.
        _ => return None,
    };
    Some(Credential { header, prefix, source })
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
