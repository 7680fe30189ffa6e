//! Who a `client_id` names: a client of the policy, one with a document at its URL, or one that registered.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::answer::{Oauth, OauthError};
use super::documents;
use crate::engine::issuing::{ClientProof, Grants, Issuing, StaticClient};
use crate::engine::store::Table;
use crate::oauth::client_metadata::{AuthMethod, ClientMetadata, is_document_url};
use crate::oauth::redirect::{AllowedRedirect, RedirectUri};

/// Seconds for which a registered client that has been used is kept.
const USED: i64 = 90 * 24 * 3600;
/// Seconds after which the row of a client is written again for that.
const OFTEN: i64 = 3600;
/// The print of every client that registered: what it said once, it said for good.
const REGISTERED: &str = "registered";

/// A client.
#[derive(Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// What it calls itself, or the policy calls it.
    pub name: Option<String>,
    /// The host that vouches for it: that of its document.
    pub host: Option<String>,
    /// Its own redirect URIs.
    pub redirects: Vec<AllowedRedirect>,
    /// How it proves who it is.
    pub proof: Proof,
    /// What it may ask for.
    pub grants: Grants,
    /// Changes when what it says about itself does.
    pub print: String,
}

/// How a client proves who it is.
#[derive(Debug)]
pub enum Proof {
    /// It is public.
    None,
    /// By a secret whose SHA-256 is one of these.
    Secrets(Vec<[u8; 32]>),
    /// By assertions signed with the keys of the policy's client of this index.
    PolicyKeys(usize),
    /// By assertions signed with its own keys.
    OwnKeys(Arc<ClientMetadata>),
}

/// A client as it registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registered {
    /// What it calls itself.
    pub name: Option<String>,
    /// Its redirect URIs that were accepted.
    pub redirects: Vec<String>,
    /// SHA-256 of its secret, in hex.
    pub secret: Option<String>,
    /// Whether it gets refresh tokens.
    pub refreshes: bool,
    /// Its keys, as it registered them.
    pub keys: Option<String>,
}

/// Finds a client.
///
/// # Errors
/// `invalid_client` when nobody is known by this id, or what its document says is not acceptable; 503 without a store.
pub async fn find(issuing: &Issuing, id: &str) -> Result<Client, OauthError> {
    if let Some((index, client)) = issuing.clients.iter().enumerate().find(|(_, client)| client.id == id) {
        return Ok(named(client, index));
    }
    if id.starts_with("https://") {
        return documented(issuing, id).await;
    }
    let found = issuing.works.vault.get::<Registered>(Table::Clients, &row_name(issuing, id)).await?;
    match found.filter(|_| issuing.registration) {
        Some(entry) => Ok(registered(id, &entry.value)),
        None => Err(unknown()),
    }
}

/// What a registered client is called in the store: clients of one issuer mean nothing to another.
pub fn row_name(issuing: &Issuing, id: &str) -> String {
    format!("{} {id}", issuing.issuer)
}

/// A registered client that signs somebody in, or is used, is kept longer than one that only registered.
pub async fn keep(issuing: &Issuing, client: &Client) {
    if client.print == REGISTERED {
        keep_for(issuing, &client.id, USED, "used").await;
    }
}

/// Keeps the registered client called `id` for `lifetime` seconds from now on, if it would be gone before.
pub async fn keep_for(issuing: &Issuing, id: &str, lifetime: i64, owner: &str) {
    let vault = &issuing.works.vault;
    let Ok(Some(entry)) = vault.get::<Registered>(Table::Clients, &row_name(issuing, id)).await else { return };
    if entry.expires() - vault.now() > lifetime - OFTEN {
        return;
    }
    let kept = vault.replace(Table::Clients, &entry, &entry.value, lifetime, owner).await;
    if let Err(error) = kept {
        tracing::debug!(%error, "a client was not kept longer");
    }
}

fn unknown() -> OauthError {
    OauthError::new(Oauth::InvalidClient, "the client is not known here; it may have to register again")
}

fn named(client: &StaticClient, index: usize) -> Client {
    let proof = match &client.proof {
        ClientProof::None => Proof::None,
        ClientProof::Secrets(secrets) => Proof::Secrets(secrets.iter().map(|held| held.secret.fingerprint()).collect()),
        ClientProof::Keys(_) => Proof::PolicyKeys(index),
    };
    Client {
        id: client.id.clone(),
        name: Some(client.name.clone()),
        host: None,
        redirects: client.redirects.clone(),
        proof,
        grants: client.grants,
        print: "policy".to_owned(),
    }
}

async fn documented(issuing: &Issuing, id: &str) -> Result<Client, OauthError> {
    if !issuing.client_documents || !is_document_url(id) {
        return Err(unknown());
    }
    let document = documents::client(issuing, id).await?;
    let read = ClientMetadata::document(id, &document)
        .map_err(|error| OauthError::new(Oauth::InvalidClient, format!("the client's metadata document: {error}")))?;
    let host = url::Url::parse(id).ok().and_then(|url| url.host_str().map(str::to_owned));
    let proof = if read.method == Some(AuthMethod::PrivateKeyJwt) {
        Proof::OwnKeys(Arc::new(read.clone()))
    } else {
        Proof::None
    };
    Ok(Client {
        id: id.to_owned(),
        redirects: allowed(&read.redirect_uris),
        grants: Grants { code: true, refresh: read.refreshes, service: false },
        name: read.name,
        host,
        proof,
        print: hex(&Sha256::digest(&document)),
    })
}

fn registered(id: &str, client: &Registered) -> Client {
    let keys = client.keys.as_ref().and_then(|keys| ClientMetadata::registration(keys.as_bytes()).ok());
    let proof = match (&client.secret, keys) {
        (Some(secret), _) => Proof::Secrets(unhex(secret).into_iter().collect()),
        (None, Some((keys, _))) => Proof::OwnKeys(Arc::new(keys)),
        (None, None) => Proof::None,
    };
    Client {
        id: id.to_owned(),
        name: client.name.clone(),
        host: None,
        redirects: allowed(&client.redirects),
        proof,
        grants: Grants { code: true, refresh: client.refreshes, service: false },
        print: REGISTERED.to_owned(),
    }
}

/// A port of this machine may vary; everything else is byte for byte.
fn allowed(uris: &[String]) -> Vec<AllowedRedirect> {
    uris.iter().filter_map(|uri| RedirectUri::parse(uri).ok()).map(AllowedRedirect::AnyPort).collect()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    (text.len() == 64).then_some(bytes)
}
