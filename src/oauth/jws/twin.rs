//! The other signature that ECDSA allows.
//!
//! Whoever holds a token can make it, and it is as good as the first: the token then has two spellings, and what names one
//! by its hash must mean both.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Algorithm, Unverified, decode_segment};

/// The orders of the curves (SEC 2 section 2), each as long as half of a signature.
const P256: &[u8; 32] =
    b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\
      \xf3\xb9\xca\xc2\xfc\x63\x25\x51";
const P384: &[u8; 48] =
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
      \xc7\x63\x4d\x81\xf4\x37\x2d\xdf\x58\x1a\x0d\xb2\x48\xb0\xa7\x7a\xec\xec\x19\x6a\xcc\xc5\x29\x73";
const P521: &[u8; 66] =
    b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
      \xff\xff\xff\xff\xff\xff\xff\xff\xff\xfa\x51\x86\x87\x83\xbf\x2f\x96\x6b\x7f\xcc\x01\x48\xf7\x09\
      \xa5\xd0\x3b\xb5\xc9\xb8\x89\x9c\x47\xae\xbb\x6f\xb7\x1e\x91\x38\x64\x09";

/// The same token with the signature (r, n - s), which verifies exactly when (r, s) does; `None` for what is not signed so.
#[must_use]
pub fn twin(token: &str) -> Option<String> {
    let token = Unverified::parse(token).ok()?;
    let order: &[u8] = match token.header.algorithm {
        Algorithm::Es256 => P256,
        Algorithm::Es384 => P384,
        Algorithm::Es512 => P521,
        _ => return None,
    };
    let mut signature = decode_segment(token.signature).ok()?;
    let s = signature.get_mut(order.len()..).filter(|s| s.len() == order.len())?;
    let mut borrowed = false;
    for (digit, of) in s.iter_mut().zip(order).rev() {
        let (difference, below) = of.overflowing_sub(*digit);
        let (difference, below_again) = difference.overflowing_sub(u8::from(borrowed));
        *digit = difference;
        borrowed = below || below_again;
    }
    Some(format!("{}.{}", token.signing_input, URL_SAFE_NO_PAD.encode(signature)))
}
