//! What the gateway writes down and gives away to get back: rows of the store, state, forms and cookies.
//!
//! Everything is named by keyed hashes and sealed (AES-256-GCM), bound to the purpose it was made for, so that a row cannot
//! stand in another's place or outlive its time, and a cookie not stand for a state. There may be several keys: the first
//! seals, all open. What an older key sealed can be sealed anew with the first, see [`rotate`](super::rotate).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::clock::Clock;
pub use super::seal::{RandomFailed, random, random_text};
use super::seal::{SealError, mac, opened, sealed};
use super::store::{Added, Name, Row, Store, StoreError, Table};

/// Keys of state change so often (seconds); the one before is opened too.
const EPOCH: i64 = 600;
/// Bytes of a sealed text that are looked at.
const LONGEST: usize = 64 * 1024;

/// What a sealed text is for. A text of one purpose is nothing to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `state` on the way to a provider and back.
    State,
    /// An authorization request in the form of the consent page.
    Consent,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Consent => "consent",
        }
    }
}

/// Why something could not be kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    /// The store cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The table, or the owner's share of it, is full.
    #[error("the table is full")]
    Full,
    /// The random source fails, or a value cannot be written.
    #[error("the value cannot be sealed")]
    Seal,
}

impl From<SealError> for VaultError {
    fn from(_: SealError) -> Self {
        Self::Seal
    }
}

impl From<RandomFailed> for VaultError {
    fn from(_: RandomFailed) -> Self {
        Self::Seal
    }
}

/// A row as it was read, so that it can be replaced only while it is still the same.
#[derive(Debug)]
pub struct Entry<T> {
    /// What it says.
    pub value: T,
    name: Name,
    sealed: Vec<u8>,
    plain: Plain,
}

impl<T> Entry<T> {
    /// When the row is gone, in seconds since the epoch.
    #[must_use]
    pub fn expires(&self) -> i64 {
        self.plain.expires
    }
}

/// What is sealed in a row. The store knows a row by keyed hashes alone; here is what they were made of, so that the row can
/// be bound to its place and named by another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plain {
    /// SHA-256 of the name.
    name: [u8; 32],
    /// SHA-256 of the owner.
    owner: [u8; 32],
    /// When it is gone, in seconds since the epoch.
    pub(super) expires: i64,
    /// The value, as JSON.
    text: Vec<u8>,
}

impl Plain {
    fn to_bytes(&self) -> Vec<u8> {
        [self.name.as_slice(), &self.owner, &self.expires.to_be_bytes(), &self.text].concat()
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (name, rest) = bytes.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (expires, text) = rest.split_first_chunk()?;
        Some(Self { name: *name, owner: *owner, expires: i64::from_be_bytes(*expires), text: text.to_vec() })
    }
}

/// Names, seals and keeps.
pub struct Vault {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    keys: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault over `store`. `secrets` are at least 32 bytes each, the first seals; none makes a random one, which ends with
    /// the process.
    ///
    /// # Errors
    /// The random source fails.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, secrets: &[&[u8]]) -> Result<Self, RandomFailed> {
        let mut keys: Vec<[u8; 32]> = secrets.iter().map(|secret| derive(secret, b"portcullis vault 1")).collect();
        if keys.is_empty() {
            keys.push(random()?);
        }
        Ok(Self { store, clock, keys })
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.clock.unix()
    }

    /// Adds a row that is gone after `lifetime` seconds, in the share of `owner`. Returns false when there is one of this
    /// name.
    ///
    /// # Errors
    /// It cannot be kept.
    pub async fn add<T: Serialize + Sync>(
        &self,
        table: Table,
        name: &str,
        value: &T,
        lifetime: i64,
        owner: &str,
    ) -> Result<bool, VaultError> {
        let plain = self.plain(name, value, lifetime, owner)?;
        for key in self.keys.iter().skip(1) {
            if self.store.get(table, &named(key, table, &plain.name)).await?.is_some() {
                return Ok(false);
            }
        }
        let (name, row) = self.row(table, &plain)?;
        match self.store.add(table, &name, row).await? {
            Added::New => {}
            Added::Taken => return Ok(false),
            Added::Full => return Err(VaultError::Full),
        }
        // While keys are changed, another replica may name rows by one that is not the first here: of two that add the same
        // at once, neither may take itself for the only one.
        for key in self.keys.iter().skip(1) {
            if self.store.get(table, &named(key, table, &plain.name)).await?.is_some() {
                self.store.take(table, &name).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a row. A row that this vault did not write is no row.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn get<T: DeserializeOwned>(&self, table: Table, name: &str) -> Result<Option<Entry<T>>, VaultError> {
        for name in self.names(table, name) {
            if let Some(sealed) = self.store.get(table, &name).await? {
                return Ok(self.entry(table, name, sealed));
            }
        }
        Ok(None)
    }

    /// Takes a row away; of many callers at once, one gets it.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn take<T: DeserializeOwned>(&self, table: Table, name: &str) -> Result<Option<T>, VaultError> {
        for name in self.names(table, name) {
            if let Some(sealed) = self.store.take(table, &name).await? {
                return Ok(self.entry(table, name, sealed).map(|entry| entry.value));
            }
        }
        Ok(None)
    }

    /// What a row may be called: by each of the keys, and by the first once more, since a row that is named anew meanwhile
    /// has been at neither place when it was looked for.
    fn names(&self, table: Table, name: &str) -> impl Iterator<Item = Name> + Send + use<> {
        let digest = Sha256::digest(name).into();
        let keys = self.keys.iter().chain(self.keys.first().filter(|_| self.keys.len() > 1));
        keys.map(|key| named(key, table, &digest)).collect::<Vec<_>>().into_iter()
    }

    /// Replaces a row that is still as it was read. Returns whether it was.
    ///
    /// # Errors
    /// It cannot be kept.
    pub async fn replace<T: Serialize + Sync>(
        &self,
        table: Table,
        entry: &Entry<T>,
        value: &T,
        lifetime: i64,
        owner: &str,
    ) -> Result<bool, VaultError> {
        let text = serde_json::to_vec(value).or(Err(VaultError::Seal))?;
        let expires = self.now().saturating_add(lifetime);
        let owner = Sha256::digest(owner).into();
        let plain = Plain { name: entry.plain.name, owner, expires, text };
        let (first, row) = self.row(table, &plain)?;
        if self.store.replace(table, &entry.name, &entry.sealed, row.clone()).await? {
            return Ok(true);
        }
        // It may be the same row, named anew by the first key since.
        match self.store.get(table, &first).await? {
            Some(sealed) if first != entry.name && self.opened(table, &sealed).as_ref() == Some(&entry.plain) => {
                Ok(self.store.replace(table, &first, &sealed, row).await?)
            }
            _ => Ok(false),
        }
    }

    /// Every row of a table that this vault wrote with a name it can be asked for; `T` holds that name itself.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn list<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>, VaultError> {
        let (mut found, mut from, mut unread) = (Vec::new(), None, 0_usize);
        loop {
            let page = self.store.page(table, from.as_ref()).await?;
            for (name, row) in &page.rows {
                let plain = self.bound(table, name, &row.value);
                match plain.and_then(|plain| serde_json::from_slice(&plain.text).ok()) {
                    Some(value) => found.push(value),
                    None => unread += 1,
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        // What cannot be opened is not in force, and nobody shall believe that it is.
        if unread > 0 {
            tracing::error!(
                event = "rows-unread",
                table = table.as_str(),
                rows = unread,
                "no key in `encryption_keys` opens them: put the old key back and run `portcullis store rotate-key`"
            );
        }
        Ok(found)
    }

    fn plain<T: Serialize>(&self, name: &str, value: &T, lifetime: i64, owner: &str) -> Result<Plain, VaultError> {
        let text = serde_json::to_vec(value).or(Err(VaultError::Seal))?;
        let expires = self.now().saturating_add(lifetime);
        Ok(Plain { name: Sha256::digest(name).into(), owner: Sha256::digest(owner).into(), expires, text })
    }

    /// A row with its name, by the first key.
    pub(super) fn row(&self, table: Table, plain: &Plain) -> Result<(Name, Row), VaultError> {
        let key = self.keys.first().ok_or(VaultError::Seal)?;
        let value = sealed(&subkey(key, b"row", b""), table.as_str(), plain.to_bytes())?;
        let owner = mac(key, &[b"owner", &plain.owner]);
        Ok((named(key, table, &plain.name), Row { value, expires: plain.expires, owner }))
    }

    fn entry<T: DeserializeOwned>(&self, table: Table, name: Name, sealed: Vec<u8>) -> Option<Entry<T>> {
        let plain = self.bound(table, &name, &sealed)?;
        let value = serde_json::from_slice(&plain.text).ok()?;
        Some(Entry { value, name, sealed, plain })
    }

    /// What a row says, if it stands where it was put and its time has not come.
    pub(super) fn bound(&self, table: Table, name: &Name, sealed: &[u8]) -> Option<Plain> {
        let plain = self.opened(table, sealed).filter(|plain| plain.expires > self.now())?;
        let named = |key| bool::from(named(key, table, &plain.name).ct_eq(name));
        self.keys.iter().any(named).then_some(plain)
    }

    fn opened(&self, table: Table, sealed: &[u8]) -> Option<Plain> {
        let open = |key| opened(&subkey(key, b"row", b""), table.as_str(), sealed);
        Plain::of_bytes(&self.keys.iter().find_map(open)?)
    }

    /// Whether a row is named and sealed by the first key.
    pub(super) fn is_current(&self, table: Table, name: &Name, sealed: &[u8]) -> bool {
        let Some(key) = self.keys.first() else { return false };
        let plain = opened(&subkey(key, b"row", b""), table.as_str(), sealed);
        let plain = plain.and_then(|plain| Plain::of_bytes(&plain));
        plain.is_some_and(|plain| bool::from(named(key, table, &plain.name).ct_eq(name)))
    }

    /// The store.
    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Seals a value for its way out and back, bound to `purpose` and `place` (the issuer that made it). Its key is one of
    /// the present ten minutes.
    ///
    /// # Errors
    /// The random source fails, or the value cannot be written.
    pub fn seal<T: Serialize>(&self, purpose: Purpose, place: &str, value: &T) -> Result<String, VaultError> {
        let text = serde_json::to_vec(value).or(Err(VaultError::Seal))?;
        let key = self.keys.first().ok_or(VaultError::Seal)?;
        let key = subkey(key, purpose.label().as_bytes(), &epoch(self.now()).to_be_bytes());
        Ok(URL_SAFE_NO_PAD.encode(sealed(&key, place, text)?))
    }

    /// Opens what [`seal`](Self::seal) made in these or the last ten minutes. Another version is nothing.
    #[must_use]
    pub fn open<T: DeserializeOwned>(&self, purpose: Purpose, place: &str, text: &str) -> Option<T> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let now = epoch(self.now());
        let epochs = [now, now.saturating_sub(1)];
        let mut keys = self.keys.iter().flat_map(|key| epochs.map(|epoch| (key, epoch)));
        let plain = keys.find_map(|(key, epoch)| {
            opened(&subkey(key, purpose.label().as_bytes(), &epoch.to_be_bytes()), place, &bytes)
        })?;
        serde_json::from_slice(&plain).ok()
    }

    /// A keyed hash for `label` over parts, unambiguously framed, with the first key.
    #[must_use]
    pub fn mac(&self, label: &str, parts: &[&str]) -> [u8; 32] {
        let key = self.keys.first().map(|key| subkey(key, b"mac", b"")).unwrap_or_default();
        mac_of(&key, label, parts)
    }
}

/// HMAC-SHA-256 for `label` over parts, unambiguously framed, with a secret that a row holds: it is the same whichever key
/// sealed the row.
#[must_use]
pub fn mac_of(secret: &[u8], label: &str, parts: &[&str]) -> [u8; 32] {
    let parts: Vec<&[u8]> = std::iter::once(label).chain(parts.iter().copied()).map(str::as_bytes).collect();
    mac(secret, &parts)
}

/// The ten minutes that `now` is in.
fn epoch(now: i64) -> i64 {
    now.div_euclid(EPOCH)
}

/// The name of the row that `digest` names.
fn named(key: &[u8; 32], table: Table, digest: &[u8; 32]) -> Name {
    mac(key, &[b"name", table.as_str().as_bytes(), digest])
}

/// The key that a secret is for one purpose.
pub(in crate::engine) fn derive(secret: &[u8], purpose: &[u8]) -> [u8; 32] {
    mac(secret, &[purpose])
}

fn subkey(key: &[u8; 32], label: &[u8], epoch: &[u8]) -> [u8; 32] {
    mac(key, &[b"key", label, epoch])
}
