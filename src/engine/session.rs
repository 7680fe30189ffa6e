//! Session ids that only their owner can use: the upstream's id, sealed for one identity at one service.
//!
//! The keys come from the secrets of the installation, so that every replica opens them; without secrets they end with the
//! process. Nothing is stored: a made-up id costs one failed decryption. An id is no credential; every request carries a token.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::decision::{Denial, Reason};
use super::vault::derive;
use crate::oauth::identity::Identity;

/// The form of a sealed id; ids of another form are unknown.
const VERSION: u8 = 2;
/// How long an id is good: a client starts anew on 404.
const LIFETIME: i64 = 24 * 3600;
/// Bytes of a protocol revision's name.
const LONGEST_REVISION: usize = 32;
/// Bytes of a sealed id that are looked at: the longest upstream id with its seal, in base64url.
const LONGEST: usize = 1024;
/// Bytes of an upstream's own id that are accepted.
const LONGEST_UPSTREAM: usize = 512;

/// A session as its id tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The upstream's own id.
    pub upstream_id: Vec<u8>,
    /// The revision that the client asked for in `initialize`: legacy, since modern clients have no sessions.
    pub revision: String,
}

/// Seals session ids with its first key, and opens them with any.
pub struct Sealer {
    keys: Vec<RandomizedNonceKey>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// A sealer with a fresh key: ids end with the process, and clients start anew on 404.
    ///
    /// # Errors
    /// When the system's random source fails; the process must not start then.
    pub fn random() -> Result<Self, Denial> {
        let mut key = [0_u8; 32];
        OsRng.try_fill_bytes(&mut key).map_err(|error| Denial::new(Reason::RandomFailed).because(error.to_string()))?;
        Self::with(std::iter::once(key))
    }

    /// A sealer whose keys come from `secrets`, so that every replica and every later process opens what it seals. The
    /// first seals.
    ///
    /// # Errors
    /// There is no secret.
    pub fn derived(secrets: &[&[u8]]) -> Result<Self, Denial> {
        Self::with(secrets.iter().map(|secret| derive(secret, b"portcullis session 1")))
    }

    fn with(keys: impl Iterator<Item = [u8; 32]>) -> Result<Self, Denial> {
        let keys: Result<Vec<_>, _> = keys.map(|key| RandomizedNonceKey::new(&AES_256_GCM, &key)).collect();
        match keys {
            Ok(keys) if !keys.is_empty() => Ok(Self { keys }),
            _ => Err(Denial::new(Reason::RandomFailed).because("there is no key for sessions")),
        }
    }

    /// Seals an upstream's session id for `identity` at `service`.
    ///
    /// # Errors
    /// When the id is not visible ASCII of a sane length (MCP 2025-11-25 transports, "Session Management"): a hostile
    /// upstream could otherwise write headers.
    pub fn seal(&self, session: &Session, service: &str, identity: &Identity, now: i64) -> Result<String, Denial> {
        let (id, revision) = (&session.upstream_id, session.revision.as_bytes());
        let Some(length) = u8::try_from(revision.len()).ok().filter(|_| revision.len() <= LONGEST_REVISION) else {
            return Err(Denial::new(Reason::VersionUnsupported));
        };
        if id.is_empty() || id.len() > LONGEST_UPSTREAM || !id.iter().all(u8::is_ascii_graphic) {
            return Err(Denial::new(Reason::UpstreamInvalid).because("session id of the upstream is malformed"));
        }
        let mut sealed = now.to_be_bytes().to_vec();
        sealed.push(length);
        sealed.extend_from_slice(revision);
        sealed.extend_from_slice(id);
        let nonce = self
            .keys
            .first()
            .ok_or_else(|| Denial::new(Reason::RandomFailed))?
            .seal_in_place_append_tag(Aad::from(owner(service, identity)), &mut sealed)
            .map_err(|_| Denial::new(Reason::RandomFailed))?;
        let mut whole = Vec::with_capacity(1 + NONCE_LEN + sealed.len());
        whole.push(VERSION);
        whole.extend_from_slice(nonce.as_ref());
        whole.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(whole))
    }

    /// Opens an id that this gateway sealed for `identity` at `service`.
    ///
    /// # Errors
    /// [`Reason::SessionUnknown`]: a foreign id gets the same answer as one that never was.
    pub fn open(&self, id: &[u8], service: &str, identity: &Identity, now: i64) -> Result<Session, Denial> {
        self.try_open(id, service, identity, now).ok_or_else(|| Denial::new(Reason::SessionUnknown))
    }

    fn try_open(&self, id: &[u8], service: &str, identity: &Identity, now: i64) -> Option<Session> {
        if id.len() > LONGEST {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(id).ok()?;
        let (version, rest) = whole.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        if *version != VERSION {
            return None;
        }
        let nonce: [u8; NONCE_LEN] = nonce.try_into().ok()?;
        let opened = self.keys.iter().find_map(|key| {
            let mut opened = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(nonce);
            let length = key.open_in_place(nonce, Aad::from(owner(service, identity)), &mut opened).ok()?.len();
            opened.truncate(length);
            Some(opened)
        })?;
        let (sealed_at, rest) = opened.split_first_chunk()?;
        let age = now.checked_sub(i64::from_be_bytes(*sealed_at))?;
        let (length, rest) = rest.split_first()?;
        let (revision, id) = rest.split_at_checked(usize::from(*length))?;
        let revision = std::str::from_utf8(revision).ok()?.to_owned();
        (age <= LIFETIME).then(|| Session { upstream_id: id.to_vec(), revision })
    }
}

/// Who owns a session or a task, unambiguously framed. A token refresh changes none of it.
pub(super) fn owner(service: &str, identity: &Identity) -> Vec<u8> {
    let mut owner = Vec::with_capacity(128);
    let parts = [Some(service), Some(&*identity.issuer), identity.subject.as_deref(), identity.client.as_deref()];
    for part in parts {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        owner.extend_from_slice(&length.to_be_bytes());
        owner.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    owner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(subject: &str, client: Option<&str>) -> Identity {
        Identity {
            holder: crate::oauth::identity::Holder::default(),
            issuer: "https://issuer.example".into(),
            subject: Some(subject.into()),
            client: client.map(Into::into),
            scopes: Default::default(),
            audiences: Vec::new(),
            expires: 0,
            not_before: None,
            token_type: None,
            claims: Default::default(),
            token_name: String::new(),
            twin_name: None,
        }
    }

    fn session(id: &[u8]) -> Session {
        Session { upstream_id: id.to_vec(), revision: "2025-11-25".into() }
    }

    #[test]
    fn m01_an_id_opens_for_its_owner_only_and_not_for_ever() {
        let sealer = Sealer::random().unwrap();
        let alice = identity("alice", Some("cli"));
        let id = sealer.seal(&session(b"upstream-1"), "github", &alice, 100).unwrap();
        assert_eq!(sealer.open(id.as_bytes(), "github", &alice, 100).unwrap(), session(b"upstream-1"));
        assert!(sealer.open(id.as_bytes(), "github", &alice, 100 + LIFETIME).is_ok());
        let unknown = |service, identity: Identity, now| {
            let opened = sealer.open(id.as_bytes(), service, &identity, now);
            assert_eq!(opened.unwrap_err().reason, Reason::SessionUnknown);
        };
        unknown("github", identity("alice", Some("cli")), 101 + LIFETIME);
        unknown("github", identity("bob", Some("cli")), 100);
        unknown("github", identity("alice", None), 100);
        unknown("github", identity("alice", Some("other")), 100);
        unknown("github", Identity::anonymous(), 100);
        unknown("jira", identity("alice", Some("cli")), 100);
    }

    #[test]
    fn m01_replicas_with_one_secret_open_each_others_ids_also_while_it_is_changed() {
        let alice = identity("alice", None);
        let (old, new) =
            (b"an-old-secret-of-the-installation".as_slice(), b"a-new-secret-of-the-installation!".as_slice());
        let sealer = |secrets: &[&[u8]]| Sealer::derived(secrets).unwrap();
        let id = sealer(&[old]).seal(&session(b"upstream-1"), "github", &alice, 0).unwrap();
        let opened = |sealer: &Sealer, id: &str| sealer.open(id.as_bytes(), "github", &alice, 0).is_ok();
        assert!(opened(&sealer(&[old]), &id) && opened(&sealer(&[new, old]), &id) && opened(&sealer(&[old, new]), &id));
        assert!(!opened(&sealer(&[new]), &id), "a secret that is taken away opens nothing");
        let id = sealer(&[new, old]).seal(&session(b"upstream-1"), "github", &alice, 0).unwrap();
        assert!(opened(&sealer(&[new]), &id), "the first seals");
        assert!(Sealer::derived(&[]).is_err());
    }

    #[test]
    fn m02_made_up_and_changed_ids_are_unknown() {
        let sealer = Sealer::random().unwrap();
        let alice = identity("alice", None);
        let id = sealer.seal(&session(b"upstream-1"), "github", &alice, 0).unwrap();
        let flipped: String = id.chars().rev().collect();
        let other_key = Sealer::random().unwrap().seal(&session(b"upstream-1"), "github", &alice, 0).unwrap();
        for bad in
            ["", "x", &flipped, &other_key, &"A".repeat(5000), "upstream-1", &format!("{id}A"), &format!("{id}=")]
        {
            assert!(sealer.open(bad.as_bytes(), "github", &alice, 0).is_err(), "{bad}");
        }
        assert!(sealer.open(id.as_bytes(), "github", &alice, 0).is_ok());
    }

    #[test]
    fn m02_an_upstream_id_with_control_bytes_is_refused() {
        let sealer = Sealer::random().unwrap();
        for bad in [&b"a\r\nx: y"[..], b"", b"a b", &[b'a'; 513], "\u{e9}".as_bytes()] {
            let sealed = sealer.seal(&session(bad), "s", &identity("a", None), 0);
            assert_eq!(sealed.unwrap_err().reason, Reason::UpstreamInvalid);
        }
    }
}
