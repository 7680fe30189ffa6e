//! Public keys from PEM: `PUBLIC KEY`, `RSA PUBLIC KEY` and `CERTIFICATE` blocks.

use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::{PublicKey, RSAPublicKey};

use super::KeySetError;
use crate::oauth::jws::Algorithm;
use crate::oauth::key::{Key, KeyError, KeyType};

/// Reads every block. A private key in the text refuses the whole text.
pub(super) fn read(document: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Result<Key, KeyError>>, KeySetError> {
    let blocks: Vec<Pem> = Pem::iter_from_buffer(document).collect::<Result<_, _>>().or(Err(KeySetError::NotPem))?;
    if blocks.is_empty() {
        return Err(KeySetError::NotPem);
    }
    blocks.iter().map(|block| read_block(block, algorithms)).collect()
}

fn read_block(block: &Pem, algorithms: &[Algorithm]) -> Result<Result<Key, KeyError>, KeySetError> {
    Ok(match block.label.as_str() {
        "PUBLIC KEY" => match SubjectPublicKeyInfo::from_der(&block.contents) {
            Ok(([], info)) => from_info(&info, algorithms),
            _ => Err(KeyError::Malformed),
        },
        "RSA PUBLIC KEY" => match RSAPublicKey::from_der(&block.contents) {
            Ok(([], key)) => rsa(&key, algorithms),
            _ => Err(KeyError::Malformed),
        },
        "CERTIFICATE" => match X509Certificate::from_der(&block.contents) {
            Ok(([], certificate)) => from_info(certificate.public_key(), algorithms),
            _ => Err(KeyError::Malformed),
        },
        _ => return Err(KeySetError::NotPem),
    })
}

fn from_info(info: &SubjectPublicKeyInfo<'_>, algorithms: &[Algorithm]) -> Result<Key, KeyError> {
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let curve = curve.map(|oid| oid.to_id_string());
    match (info.algorithm.algorithm.to_id_string().as_str(), curve.as_deref()) {
        ("1.2.840.113549.1.1.1", _) => match info.parsed() {
            Ok(PublicKey::RSA(key)) => rsa(&key, algorithms),
            _ => Err(KeyError::Malformed),
        },
        ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => ec(KeyType::P256, info, algorithms),
        ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => ec(KeyType::P384, info, algorithms),
        ("1.2.840.10045.2.1", Some("1.3.132.0.35")) => ec(KeyType::P521, info, algorithms),
        ("1.3.101.112", None) => Key::ed25519(first(KeyType::Ed25519, algorithms)?, &info.subject_public_key.data),
        _ => Err(KeyError::Type),
    }
}

fn rsa(key: &RSAPublicKey<'_>, algorithms: &[Algorithm]) -> Result<Key, KeyError> {
    Key::rsa(first(KeyType::Rsa, algorithms)?, key.modulus, key.exponent)
}

fn ec(curve: KeyType, info: &SubjectPublicKeyInfo<'_>, algorithms: &[Algorithm]) -> Result<Key, KeyError> {
    let coordinates = match info.subject_public_key.data.split_first() {
        Some((4, coordinates)) => coordinates,
        _ => return Err(KeyError::Point),
    };
    let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).ok_or(KeyError::Point)?;
    Key::ec(first(curve, algorithms)?, curve, x, y)
}

/// PEM names no algorithm: the first configured that fits.
fn first(key_type: KeyType, algorithms: &[Algorithm]) -> Result<Algorithm, KeyError> {
    algorithms.iter().find(|algorithm| algorithm.key_type() == key_type).copied().ok_or(KeyError::Algorithm)
}
