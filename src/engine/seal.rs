//! The primitives of [`Vault`](super::vault::Vault): random bytes, keyed hashes over framed parts, and AES-256-GCM.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::Sha256;

/// The form of what is sealed; another form is unknown.
const VERSION: u8 = 1;

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

/// The library refuses to seal.
#[derive(Debug, Clone, Copy)]
pub(super) struct SealError;

/// HMAC-SHA-256 over parts, each with its length before it.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn sealed(key: &[u8; 32], place: &str, mut plain: Vec<u8>) -> Result<Vec<u8>, SealError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).or(Err(SealError))?;
    let nonce = key.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut plain).or(Err(SealError))?;
    Ok([&[VERSION], nonce.as_ref().as_slice(), &plain].concat())
}

pub(super) fn opened(key: &[u8; 32], place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
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
