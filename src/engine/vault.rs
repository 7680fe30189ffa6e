//! What the gateway writes down and gives away to get back: rows of the store, state, forms and cookies.
//!
//! Everything is named by keyed hashes and sealed (AES-256-GCM), bound to the purpose it was made for, so that a row cannot
//! stand in another's place and a cookie not for a state. There may be several keys: the first seals, all open.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::clock::Clock;
use super::store::{Added, Name, Row, Store, StoreError, Table};

/// The form of what is sealed; another form is unknown.
const VERSION: u8 = 1;
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
    /// The cookie of a browser.
    Browser,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Consent => "consent",
            Self::Browser => "browser",
        }
    }
}

/// The system's random source failed: nothing that must be unguessable can be made.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system's random source failed")]
pub struct RandomFailed;

/// `N` bytes of the system's random source.
///
/// # Errors
/// It fails.
pub fn random<const N: usize>() -> Result<[u8; N], RandomFailed> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).or(Err(RandomFailed))?;
    Ok(bytes)
}

/// 256 random bits in base64url.
///
/// # Errors
/// The random source fails.
pub fn random_text() -> Result<String, RandomFailed> {
    random::<32>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
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
        let mut keys: Vec<[u8; 32]> = secrets.iter().map(|secret| mac(secret, &[b"portcullis vault 1"])).collect();
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
        for key in self.keys.iter().skip(1) {
            if self.store.get(table, &named(key, table, name)).await?.is_some() {
                return Ok(false);
            }
        }
        let Some(key) = self.keys.first() else { return Err(VaultError::Seal) };
        let name = named(key, table, name);
        let row = self.row(table, &name, value, lifetime, owner)?;
        match self.store.add(table, &name, row).await? {
            Added::New => Ok(true),
            Added::Taken => Ok(false),
            Added::Full => Err(VaultError::Full),
        }
    }

    /// Reads a row. A row that this vault did not write is no row.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn get<T: DeserializeOwned>(&self, table: Table, name: &str) -> Result<Option<Entry<T>>, VaultError> {
        for key in &self.keys {
            let name = named(key, table, name);
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
        for key in &self.keys {
            let name = named(key, table, name);
            if let Some(sealed) = self.store.take(table, &name).await? {
                return Ok(self.entry(table, name, sealed).map(|entry| entry.value));
            }
        }
        Ok(None)
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
        let row = self.row(table, &entry.name, value, lifetime, owner)?;
        Ok(self.store.replace(table, &entry.name, &entry.sealed, row).await?)
    }

    /// Every row of a table that this vault wrote with a name it can be asked for; `T` holds that name itself.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn list<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>, VaultError> {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = self.store.page(table, from.as_ref()).await?;
            found.extend(page.rows.iter().filter_map(|(_, row)| self.open_row(table, &row.value)));
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(found),
            }
        }
    }

    fn row<T: Serialize>(
        &self,
        table: Table,
        name: &Name,
        value: &T,
        lifetime: i64,
        owner: &str,
    ) -> Result<Row, VaultError> {
        let text = serde_json::to_vec(value).or(Err(VaultError::Seal))?;
        // The name stands before the value, so that a table can be listed without trusting the store's names.
        let plain = [name.as_slice(), &text].concat();
        let key = self.keys.first().ok_or(VaultError::Seal)?;
        let value = sealed(&subkey(key, b"row", b""), table.as_str(), plain)?;
        let owner = mac(key, &[b"owner", owner.as_bytes()]);
        Ok(Row { value, expires: self.now().saturating_add(lifetime), owner })
    }

    fn entry<T: DeserializeOwned>(&self, table: Table, name: Name, sealed: Vec<u8>) -> Option<Entry<T>> {
        let (found, value) = self.opened(table, &sealed)?;
        bool::from(found.ct_eq(&name)).then_some(Entry { value, name, sealed })
    }

    fn open_row<T: DeserializeOwned>(&self, table: Table, sealed: &[u8]) -> Option<T> {
        self.opened(table, sealed).map(|(_, value)| value)
    }

    fn opened<T: DeserializeOwned>(&self, table: Table, sealed: &[u8]) -> Option<(Name, T)> {
        let plain = self.keys.iter().find_map(|key| opened(&subkey(key, b"row", b""), table.as_str(), sealed))?;
        let (name, text) = plain.split_first_chunk()?;
        serde_json::from_slice(text).ok().map(|value| (*name, value))
    }

    /// Seals a value for its way out and back, bound to `purpose` and `place` (the issuer that made it). Its key is one of
    /// the present ten minutes.
    ///
    /// # Errors
    /// The random source fails, or the value cannot be written.
    pub fn seal<T: Serialize>(&self, purpose: Purpose, place: &str, value: &T) -> Result<String, VaultError> {
        let text = serde_json::to_vec(value).or(Err(VaultError::Seal))?;
        let key = self.keys.first().ok_or(VaultError::Seal)?;
        let key = subkey(key, purpose.label().as_bytes(), &epoch(purpose, self.now()).to_be_bytes());
        Ok(URL_SAFE_NO_PAD.encode(sealed(&key, place, text)?))
    }

    /// Opens what [`seal`](Self::seal) made in these or the last ten minutes. Another version is nothing.
    #[must_use]
    pub fn open<T: DeserializeOwned>(&self, purpose: Purpose, place: &str, text: &str) -> Option<T> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let now = epoch(purpose, self.now());
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
        self.macs(label, parts).next().unwrap_or_default()
    }

    /// Whether `presented` is the keyed hash by any of the keys, compared in constant time.
    #[must_use]
    pub fn is_mac(&self, label: &str, parts: &[&str], presented: &[u8]) -> bool {
        self.macs(label, parts).fold(false, |found, mac| found | bool::from(mac.ct_eq(presented)))
    }

    fn macs<'a>(&'a self, label: &'a str, parts: &'a [&'a str]) -> impl Iterator<Item = [u8; 32]> + 'a {
        let parts: Vec<&[u8]> = std::iter::once(label).chain(parts.iter().copied()).map(str::as_bytes).collect();
        self.keys.iter().map(move |key| mac(&subkey(key, b"mac", b""), &parts))
    }
}

/// A browser's cookie outlives ten minutes; its key is that of the installation.
fn epoch(purpose: Purpose, now: i64) -> i64 {
    if purpose == Purpose::Browser { 0 } else { now.div_euclid(EPOCH) }
}

fn named(key: &[u8; 32], table: Table, name: &str) -> Name {
    mac(key, &[b"name", table.as_str().as_bytes(), name.as_bytes()])
}

fn subkey(key: &[u8; 32], label: &[u8], epoch: &[u8]) -> [u8; 32] {
    mac(key, &[b"key", label, epoch])
}

/// HMAC-SHA-256 over parts, each with its length before it.
fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn sealed(key: &[u8; 32], place: &str, mut plain: Vec<u8>) -> Result<Vec<u8>, VaultError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).or(Err(VaultError::Seal))?;
    let nonce = key.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut plain).or(Err(VaultError::Seal))?;
    Ok([&[VERSION], nonce.as_ref().as_slice(), &plain].concat())
}

fn opened(key: &[u8; 32], place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (version, rest) = sealed.split_first()?;
    let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
    if *version != VERSION {
        return None;
    }
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut plain = sealed.to_vec();
    let length = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}
