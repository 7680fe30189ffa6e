//! The keys that sign the gateway's own tokens: made once, kept sealed in the store, rotated without an invalid moment.
//!
//! A new key is published a while before it signs and stays published until the last token that it signed has ended.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

use super::seal::mac;
use super::standing::{Print, VOUCHER};
use super::store::Table;
use super::vault::{Entry, Vault, VaultError, derive};
use crate::oauth::jws::Algorithm;
use crate::oauth::key::Key;
use crate::oauth::signer::Signer;

/// Seconds for which a key signs.
const SIGNS: i64 = 30 * 24 * 3600;
/// Seconds for which it is published before it signs: longer than verifiers keep a key set.
const AHEAD: i64 = 24 * 3600;
/// Seconds for which it is published after it last signed: longer than any token lives.
const AFTER: i64 = 2 * 24 * 3600;
/// The row stays as long as somebody looks at it now and then.
const KEPT: i64 = 400 * 24 * 3600;
/// Seconds after which the row is read again: another replica may have rotated.
const FRESH: i64 = 60;
/// Seconds after which it is read again for a key that is not known.
const NEWS: i64 = 2;

/// One key as the store keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    algorithm: String,
    pkcs8: String,
    /// From when it signs, in seconds since the epoch.
    from: i64,
}

#[derive(Debug, Default)]
struct Ring {
    keys: Vec<(i64, Signer)>,
    jwks: Bytes,
    read_at: i64,
}

impl Ring {
    /// The key that signs now.
    fn signing(&self, now: i64) -> Result<&Signer, VaultError> {
        let begun = self.keys.iter().filter(|(from, _)| *from <= now);
        // The first key of all may have been made a moment ago by a replica whose clock is ahead.
        let signing = begun.max_by_key(|(from, _)| *from).or_else(|| self.keys.iter().min_by_key(|(from, _)| *from));
        signing.map(|(_, signer)| signer).ok_or(VaultError::Seal)
    }

    fn verifier(&self, kid: &str) -> Option<Arc<Key>> {
        self.keys.iter().find(|(_, signer)| signer.kid() == kid).map(|(_, signer)| Arc::clone(signer.verifier()))
    }
}

/// The keys of one algorithm.
#[derive(Debug)]
pub struct Keyring {
    algorithm: Algorithm,
    current: ArcSwap<Ring>,
    turn: tokio::sync::Mutex<()>,
}

impl Keyring {
    /// A ring for ES256 or EdDSA. Keys are made or read when they are first needed.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, current: ArcSwap::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The algorithm of its tokens.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs a token whose `typ` is `token_type`.
    ///
    /// # Errors
    /// No key can be had, or the library refuses.
    pub async fn sign(
        &self,
        vault: &Vault,
        token_type: &str,
        claims: &Map<String, Value>,
    ) -> Result<String, VaultError> {
        let ring = self.ring(vault).await?;
        ring.signing(vault.now())?.sign(token_type, claims).or(Err(VaultError::Seal))
    }

    /// Signs a token that carries the voucher of `print`.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub async fn sign_vouched(
        &self,
        vault: &Vault,
        token_type: &str,
        mut claims: Map<String, Value>,
        print: &Print,
    ) -> Result<String, VaultError> {
        let ring = self.ring(vault).await?;
        let signer = ring.signing(vault.now())?;
        claims.insert(VOUCHER.to_owned(), voucher(signer, print).into());
        signer.sign(token_type, &claims).or(Err(VaultError::Seal))
    }

    /// Whether a token by the key `kid` carries the voucher of `print`. The key was found a moment ago: nobody is asked.
    #[must_use]
    pub fn is_voucher(&self, kid: &str, presented: &str, print: &Print) -> bool {
        let ring = self.current.load();
        let mut signers = ring.keys.iter().map(|(_, signer)| signer);
        signers.any(|signer| {
            signer.kid() == kid && bool::from(voucher(signer, print).as_bytes().ct_eq(presented.as_bytes()))
        })
    }

    /// The JWK Set (RFC 7517 section 5).
    ///
    /// # Errors
    /// No key can be had.
    pub async fn jwks(&self, vault: &Vault) -> Result<Bytes, VaultError> {
        self.ring(vault).await.map(|ring| ring.jwks.clone())
    }

    /// The published key called `kid`.
    ///
    /// # Errors
    /// No key can be had.
    pub async fn key(&self, vault: &Vault, kid: &str) -> Result<Option<Arc<Key>>, VaultError> {
        let known = self.ring(vault).await?;
        let found = known.verifier(kid);
        if found.is_some() || vault.now() - known.read_at < NEWS {
            return Ok(found);
        }
        // Another replica may have made it a moment ago.
        Ok(self.renewed(vault, NEWS).await?.verifier(kid))
    }

    /// Reads the keys again if they are in use, so that no request has to. Tells whether they were gone: whoever kept them
    /// has lost its memory, and there are new ones.
    ///
    /// # Errors
    /// The store cannot be asked; the keys stay as they were.
    pub async fn refresh(&self, vault: &Vault) -> Result<bool, VaultError> {
        let known = self.current.load_full();
        if known.keys.is_empty() {
            return Ok(false);
        }
        let _turn = self.turn.lock().await;
        let ring = self.read(vault).await?;
        let kept = known.keys.iter().any(|(_, signer)| ring.verifier(signer.kid()).is_some());
        self.current.store(Arc::new(ring));
        Ok(!kept)
    }

    /// The ring as it is, read anew once a minute and rotated when it is time. A store that cannot be asked leaves it as it
    /// was.
    async fn ring(&self, vault: &Vault) -> Result<Arc<Ring>, VaultError> {
        self.renewed(vault, FRESH).await
    }

    /// The ring as it was read less than `age` seconds ago.
    async fn renewed(&self, vault: &Vault, age: i64) -> Result<Arc<Ring>, VaultError> {
        let is_fresh = |ring: &Ring| !ring.keys.is_empty() && (vault.now() - ring.read_at).abs() < age;
        let known = self.current.load_full();
        if is_fresh(&known) {
            return Ok(known);
        }
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            // Somebody reads: whoever has keys need not wait for that.
            Err(_) if !known.keys.is_empty() && age >= FRESH => return Ok(known),
            Err(_) => self.turn.lock().await,
        };
        let known = self.current.load_full();
        if is_fresh(&known) {
            return Ok(known);
        }
        match self.read(vault).await {
            Ok(ring) => {
                let ring = Arc::new(ring);
                self.current.store(Arc::clone(&ring));
                Ok(ring)
            }
            Err(error) if known.keys.is_empty() => Err(error),
            Err(error) => {
                tracing::debug!(event = "signing-keys-unread", %error, "the signing keys stay as they were");
                Ok(known)
            }
        }
    }

    async fn read(&self, vault: &Vault) -> Result<Ring, VaultError> {
        let name = self.algorithm.as_str();
        // Of several replicas that write at once one wins, and the others read what it wrote.
        for _ in 0..4 {
            let now = vault.now();
            let entry: Option<Entry<Vec<Kept>>> = vault.get(Table::Keys, name).await?;
            let kept = entry.as_ref().map(|entry| entry.value.clone()).unwrap_or_default();
            let due = self.due(&kept, now)?;
            let written = match (due, &entry) {
                (None, _) => return Ok(ring(&kept, now)),
                (Some(new), None) => vault.add(Table::Keys, name, &new, KEPT, "").await?,
                (Some(new), Some(entry)) => vault.replace(Table::Keys, entry, &new, KEPT, "").await?,
            };
            if written {
                tracing::info!(event = "signing-keys-rotated", algorithm = name, "a new key will sign");
            }
        }
        Err(VaultError::Full)
    }

    /// The keys as they should be from now on, when they should be others.
    fn due(&self, kept: &[Kept], now: i64) -> Result<Option<Vec<Kept>>, VaultError> {
        let newest = kept.iter().map(|key| key.from).max();
        let from = match newest {
            None => now,
            Some(newest) if now >= newest + SIGNS - AHEAD => (newest + SIGNS).max(now + AHEAD),
            Some(_) => return Ok(None),
        };
        let signer = Signer::generate(self.algorithm).or(Err(VaultError::Seal))?;
        let mut next: Vec<Kept> = Vec::with_capacity(kept.len() + 1);
        for key in kept {
            // A key has last signed when the one after it began.
            let followed = kept.iter().map(|other| other.from).filter(|other| *other > key.from).min();
            if followed.is_none_or(|followed| now < followed + AFTER) {
                next.push(key.clone());
            }
        }
        next.push(Kept {
            algorithm: self.algorithm.as_str().to_owned(),
            pkcs8: URL_SAFE_NO_PAD.encode(signer.pkcs8()),
            from,
        });
        Ok(Some(next))
    }
}

/// The print as a token carries it: hashed with a secret that lives as long as the tokens of its key.
fn voucher(signer: &Signer, print: &Print) -> String {
    URL_SAFE_NO_PAD.encode(mac(&derive(signer.pkcs8(), b"portcullis voucher 1"), &[print.as_bytes()]))
}

fn ring(kept: &[Kept], now: i64) -> Ring {
    let keys: Vec<(i64, Signer)> = kept
        .iter()
        .filter_map(|key| {
            let algorithm = Algorithm::parse(&key.algorithm)?;
            let pkcs8 = URL_SAFE_NO_PAD.decode(&key.pkcs8).ok()?;
            Some((key.from, Signer::from_pkcs8(algorithm, &pkcs8).ok()?))
        })
        .collect();
    let jwks: Vec<&Value> = keys.iter().map(|(_, signer)| signer.jwk()).collect();
    let jwks = Bytes::from(json!({ "keys": jwks }).to_string());
    Ring { keys, jwks, read_at: now }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::engine::clock::{Clock, SetClock};
    use crate::stores::memory::Memory;

    #[tokio::test]
    async fn a_replica_whose_clock_is_behind_signs_with_the_first_key_at_once() {
        let clock = |now| Arc::new(SetClock(AtomicI64::new(now))) as Arc<dyn Clock>;
        let store = Arc::new(Memory::new(clock(1_000)));
        let replica = |now| {
            let vault =
                Vault::new(Arc::clone(&store) as Arc<_>, clock(now), &[b"a-secret-of-the-installation".as_slice()]);
            (vault.unwrap(), Keyring::new(Algorithm::Es256))
        };
        let (ahead, behind) = (replica(1_030), replica(1_000));
        let signed = async |(vault, keyring): &(Vault, Keyring)| keyring.sign(vault, "at+jwt", &Map::new()).await;
        let token = signed(&ahead).await.unwrap();
        let other = signed(&behind).await.unwrap();
        let kid = |token: &str| crate::oauth::jws::show_unverified(token).unwrap().header["kid"].clone();
        assert_eq!(kid(&token), kid(&other), "there is one key");
    }
}
