//! Clients that a policy names.

use std::collections::BTreeMap;

use super::context::Context;
use super::provider::key_set;
use super::redirects::uri;
use super::scopes::unknown_scope;
use crate::diagnostics::Diagnostic;
use crate::engine::issuing::{ClientProof, Grants, StaticClient};
use crate::oauth::redirect::{AllowedRedirect, accept};
use crate::oauth::server_metadata::ASSERTION_ALGORITHMS;
use crate::oauth::url::ResourceUrl;
use crate::policy::codes;
use crate::policy::document::authorization_server::{ClientDocument, GrantWord};
use crate::policy::document::policy::ScopeDocument;
use crate::policy::document::scalar::SecretDocument;
use crate::secret::Held;

/// Bytes of a secret at least.
const SHORTEST_SECRET: usize = 32;

/// What the clients of one service have in common.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The service's URL.
    pub resource: Option<&'a ResourceUrl>,
    /// The list that every redirect URI must be permitted by.
    pub redirects: &'a [AllowedRedirect],
    /// The service's scopes.
    pub scopes: Option<&'a BTreeMap<String, ScopeDocument>>,
}

/// Resolves the clients of a policy.
pub fn clients(context: &mut Context<'_>, written: &[ClientDocument], around: Around<'_>) -> Vec<StaticClient> {
    let mut clients: Vec<StaticClient> = Vec::with_capacity(written.len());
    for (index, client) in written.iter().enumerate() {
        let pointer = format!("/authorization_server/clients/{index}");
        if clients.iter().any(|other| other.id == client.id.0) {
            let diagnostic = Diagnostic::error(codes::DUPLICATE_CLIENT, format!("`{}` is named twice", client.id.0));
            context.push(diagnostic.help("give each client an id of its own"), &format!("{pointer}/id"));
        }
        let grants = grants(client);
        let proof = proof(context, client, &pointer);
        let redirects = redirects(context, client, around, &pointer);
        let scopes = scopes(context, client, around, &pointer);
        consistent(context, client, grants, &pointer);
        clients.push(StaticClient {
            id: client.id.0.clone(),
            name: client.name.clone().unwrap_or_else(|| client.id.0.clone()),
            proof,
            redirects,
            grants,
            scopes,
        });
    }
    clients
}

fn grants(client: &ClientDocument) -> Grants {
    let default = [GrantWord::AuthorizationCode, GrantWord::RefreshToken];
    let written = client.grants.as_deref().unwrap_or(&default);
    Grants {
        code: written.contains(&GrantWord::AuthorizationCode),
        refresh: written.contains(&GrantWord::RefreshToken),
        service: written.contains(&GrantWord::ClientCredentials),
    }
}

fn proof(context: &mut Context<'_>, client: &ClientDocument, pointer: &str) -> ClientProof {
    let ways = [client.secret.is_some(), client.secrets.is_some(), client.keys.is_some()];
    if ways.iter().filter(|written| **written).count() > 1 {
        let diagnostic = Diagnostic::error(codes::INVALID_CLIENT, "a client proves who it is in one way");
        context.push_at_key(diagnostic.help("keep one of `secret`, `secrets` and `keys`"), pointer);
    }
    if let Some(keys) = &client.keys {
        let pointer = format!("{pointer}/keys/file");
        let text = context.file(&pointer, &keys.file);
        let set = text
            .and_then(|text| key_set(context, &text, &ASSERTION_ALGORITHMS, &pointer))
            .map(|keys| keys.set().clone());
        return ClientProof::Keys(set.unwrap_or_default());
    }
    let one = client.secret.iter().map(|secret| (format!("{pointer}/secret"), secret));
    let several = client.secrets.iter().flatten().enumerate();
    let several = several.map(|(index, secret)| (format!("{pointer}/secrets/{index}"), secret));
    let written: Vec<(String, &SecretDocument)> = one.chain(several).collect();
    if written.is_empty() {
        return ClientProof::None;
    }
    ClientProof::Secrets(written.into_iter().filter_map(|(at, secret)| strong(context, secret, &at)).collect())
}

/// Reads a secret of at least 32 bytes.
pub fn strong(context: &mut Context<'_>, written: &SecretDocument, pointer: &str) -> Option<Held> {
    let held = context.secret(written, pointer)?;
    let length = held.secret.expose().len();
    if length < SHORTEST_SECRET {
        let message = format!("the secret has {length} bytes, and {SHORTEST_SECRET} are needed");
        let diagnostic = Diagnostic::error(codes::WEAK_SECRET, message);
        context.push(diagnostic.help("make one with `openssl rand -base64 32`"), pointer);
    }
    Some(held)
}

fn redirects(
    context: &mut Context<'_>,
    client: &ClientDocument,
    around: Around<'_>,
    pointer: &str,
) -> Vec<AllowedRedirect> {
    let mut list = Vec::new();
    for (index, written) in client.redirects.iter().flatten().enumerate() {
        let pointer = format!("{pointer}/redirects/{index}");
        let Some(uri) = uri(context, written, around.resource, &pointer) else { continue };
        if accept(around.redirects, written).is_err() {
            let diagnostic =
                Diagnostic::error(codes::UNLISTED_REDIRECT, format!("`{written}` is in no list of the policy"));
            let help = "add it under `authorization_server.redirects.exact`: one list holds for every client";
            context.push(diagnostic.help(help), &pointer);
        }
        list.push(AllowedRedirect::AnyPort(uri));
    }
    list
}

fn scopes(context: &mut Context<'_>, client: &ClientDocument, around: Around<'_>, pointer: &str) -> Vec<String> {
    let none = BTreeMap::new();
    let declared = around.scopes.unwrap_or(&none);
    let written = client.scopes.clone().unwrap_or_default();
    for (index, scope) in written.iter().enumerate().filter(|(_, scope)| !declared.contains_key(*scope)) {
        unknown_scope(context, scope, declared.keys(), &format!("{pointer}/scopes/{index}"));
    }
    written
}

/// What does not go together could never be used.
fn consistent(context: &mut Context<'_>, client: &ClientDocument, grants: Grants, pointer: &str) {
    let public = client.secret.is_none() && client.secrets.is_none() && client.keys.is_none();
    let mut wrong = |key: &str, code, message: &str, help: &str| {
        context.push_at_key(Diagnostic::error(code, message).help(help), &format!("{pointer}{key}"));
    };
    if grants.service && public {
        let help = "give it a `secret` or `keys`: without them anybody could get its tokens";
        wrong("/grants", codes::INVALID_CLIENT, "`client_credentials` needs a client that proves who it is", help);
    }
    if grants.refresh && !grants.code {
        let help = "add `authorization_code`; with `client_credentials` a client asks for a new token instead";
        wrong("/grants", codes::INVALID_CLIENT, "`refresh_token` renews what a person let the client do", help);
    }
    if grants.code && client.redirects.is_none() {
        let help = "add `redirects`, or leave `client_credentials` as its only grant";
        wrong("", codes::INVALID_CLIENT, "the client has no redirect URI to be sent back to", help);
    }
    if !grants.code && client.redirects.is_some() {
        let message = "`redirects` has no effect without the grant `authorization_code`";
        wrong("/redirects", codes::USELESS_SETTING, message, "remove it");
    }
    if !grants.service && client.scopes.is_some() {
        let help = "remove it: a person decides which scopes the client gets";
        let message = "`scopes` has no effect without the grant `client_credentials`";
        wrong("/scopes", codes::USELESS_SETTING, message, help);
    }
}
