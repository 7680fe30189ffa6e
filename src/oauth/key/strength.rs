//! What makes a key too weak to use, and the DER form of an RSA key.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::KeyError;

/// Drops leading zero bytes of a big-endian number.
pub(super) fn strip_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.split_at_checked(zeros).map_or(number, |(_, rest)| rest)
}

/// Length, exponent and ROCA (security considerations of RFC 7518 section 8.3).
pub(super) fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), KeyError> {
    let leading_zeros = n.first().map_or(8, |first| first.leading_zeros() as usize);
    let bits = (n.len() * 8).saturating_sub(leading_zeros);
    if !(2048..=8192).contains(&bits) || n.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyError::RsaLength);
    }
    let odd = e.last().is_some_and(|last| last % 2 == 1);
    if !odd || e.len() > 4 || e == [1] {
        return Err(KeyError::RsaExponent);
    }
    if has_roca_fingerprint(n) { Err(KeyError::Roca) } else { Ok(()) }
}

/// Primes modulo which 65537 generates a proper subgroup of the units: the discriminating ones of the ROCA paper
/// (CVE-2017-15361, "The Return of Coppersmith's Attack", section 2.2).
const ROCA_PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Moduli of the weak generator are powers of 65537 modulo each of these primes; others are so with odds of 2^-27.
fn has_roca_fingerprint(n: &[u8]) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        let residue = n.iter().fold(0, |residue, byte| (residue * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * (65537 % prime) % prime;
            power == residue
        })
    })
}

/// `RSAPublicKey` of RFC 8017 appendix A.1.1.
pub(super) fn pkcs1_der(n: &[u8], e: &[u8]) -> Vec<u8> {
    tagged(0x30, &[integer(n), integer(e)].concat())
}

fn integer(number: &[u8]) -> Vec<u8> {
    // A leading zero keeps a number with its top bit set positive.
    if number.first().is_some_and(|first| first & 0x80 != 0) {
        tagged(2, &[&[0], number].concat())
    } else {
        tagged(2, number)
    }
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = strip_zeros(&length);
    let mut der = vec![tag];
    match length {
        [] => der.push(0),
        [short] if *short < 0x80 => der.push(*short),
        long => {
            der.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(content);
    der
}

/// Different bytes that a random secret of 32 bytes has all but surely; base64 and hex of one too.
const MIN_DIFFERENT_BYTES: usize = 8;

/// Length (RFC 7518 section 3.2), regularity, and whether the secret is public.
pub(super) fn check_secret(secret: &[u8], hash_length: usize) -> Result<(), KeyError> {
    if looks_like_public_key(secret) {
        return Err(KeyError::SecretPublic);
    }
    if secret.len() < hash_length {
        return Err(KeyError::SecretLength);
    }
    let mut seen = [false; 256];
    for byte in secret {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    if seen.iter().filter(|seen| **seen).count() < MIN_DIFFERENT_BYTES { Err(KeyError::SecretRegular) } else { Ok(()) }
}

/// Whether bytes are a key or certificate in PEM, DER, base64 of DER, JWK or OpenSSH form, blanks around it ignored.
///
/// Such bytes are never a shared secret: whoever knows the public key could sign (CVE-2026-34950).
#[must_use]
pub fn looks_like_public_key(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii();
    let pem = text.windows(10).any(|window| window == b"-----BEGIN");
    let openssh = [&b"ssh-"[..], b"ecdsa-sha2-", b"sk-ssh-"].iter().any(|prefix| text.starts_with(prefix));
    let jwk = serde_json::from_slice::<serde_json::Value>(text)
        .is_ok_and(|value| value.get("kty").is_some() || value.get("keys").is_some());
    pem || openssh || jwk || is_der_key(bytes) || is_der_key(text) || is_base64_of_der_key(text)
}

fn is_base64_of_der_key(text: &[u8]) -> bool {
    let joined: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(&joined).or_else(|_| URL_SAFE_NO_PAD.decode(&joined)).is_ok_and(|der| is_der_key(&der))
}

fn is_der_key(der: &[u8]) -> bool {
    SubjectPublicKeyInfo::from_der(der).is_ok()
        || X509Certificate::from_der(der).is_ok()
        || x509_parser::public_key::RSAPublicKey::from_der(der).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{KeyError, check_rsa, check_secret, has_roca_fingerprint, pkcs1_der};

    fn odd_modulus(bits: usize) -> Vec<u8> {
        let mut n: Vec<u8> = (0..bits / 8).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        n[0] = 0x80;
        *n.last_mut().unwrap() |= 1;
        n
    }

    #[test]
    fn a20_short_moduli_and_bad_exponents_are_refused() {
        assert_eq!(check_rsa(&odd_modulus(2048), &[1, 0, 1]), Ok(()));
        assert_eq!(check_rsa(&odd_modulus(2048), &[3]), Ok(()));
        assert_eq!(check_rsa(&odd_modulus(8192), &[1, 0, 1]), Ok(()));
        let mut just_short = odd_modulus(2048);
        just_short[0] = 0x7f;
        for n in [vec![], odd_modulus(1024), just_short, odd_modulus(8200)] {
            assert_eq!(check_rsa(&n, &[1, 0, 1]), Err(KeyError::RsaLength), "{} bytes", n.len());
        }
        let mut even = odd_modulus(2048);
        *even.last_mut().unwrap() &= 0xfe;
        assert_eq!(check_rsa(&even, &[1, 0, 1]), Err(KeyError::RsaLength));
        for e in [&[][..], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert_eq!(check_rsa(&odd_modulus(2048), e), Err(KeyError::RsaExponent), "{e:?}");
        }
    }

    #[test]
    fn a20_roca_moduli_are_recognised() {
        // 65537^5 + the product of the primes is a power of 65537 modulo each of them, as the weak generator's moduli are.
        let product: u128 = super::ROCA_PRIMES.iter().map(|prime| u128::from(*prime)).product();
        let weak = 65537_u128.pow(5) % product + product;
        assert!(has_roca_fingerprint(&weak.to_be_bytes()));
        assert!(!has_roca_fingerprint(&(weak + 2).to_be_bytes()));
        assert!(!has_roca_fingerprint(&odd_modulus(2048)));
    }

    #[test]
    fn a20_secrets_are_as_long_as_the_hash_and_irregular() {
        let secret: Vec<u8> = (0..64).collect();
        assert_eq!(check_secret(&secret[..32], 32), Ok(()));
        assert_eq!(check_secret(&secret, 64), Ok(()));
        assert_eq!(check_secret(&secret[..31], 32), Err(KeyError::SecretLength));
        assert_eq!(check_secret(&secret[..63], 64), Err(KeyError::SecretLength));
        assert_eq!(check_secret(&[0; 64], 32), Err(KeyError::SecretRegular));
        assert_eq!(check_secret(b"abcabcabcabcabcabcabcabcabcabcabcabc", 32), Err(KeyError::SecretRegular));
    }

    #[test]
    fn a04_nothing_public_is_a_secret() {
        use base64::Engine;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        let der = pkcs1_der(&odd_modulus(2048), &[1, 0, 1]);
        let base64 = STANDARD.encode(&der);
        let pem = format!("-----BEGIN RSA PUBLIC KEY-----\n{base64}\n-----END RSA PUBLIC KEY-----\n");
        let spki = crate::oauth::testing::RSA.spki_der();
        for public in [
            der.clone(),
            spki.clone(),
            base64.clone().into_bytes(),
            STANDARD.encode(&spki).into_bytes(),
            URL_SAFE_NO_PAD.encode(&spki).into_bytes(),
            pem.clone().into_bytes(),
            format!("  \n{pem}").into_bytes(),
            format!("\u{feff}{pem}").into_bytes(),
            format!("{pem}\t ").into_bytes(),
            pem.trim().to_owned().into_bytes(),
            crate::oauth::testing::RSA.jwk(None).to_string().into_bytes(),
            serde_json::json!({ "keys": [crate::oauth::testing::RSA.jwk(None)] }).to_string().into_bytes(),
            b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDZ me@host".to_vec(),
        ] {
            assert_eq!(check_secret(&public, 32), Err(KeyError::SecretPublic), "{}", String::from_utf8_lossy(&public));
        }
        assert_eq!(check_secret(b"a long enough and irregular secret!!", 32), Ok(()));
    }
}
