//! Signed tokens in compact form (RFC 7515 section 3.1), read strictly.
//!
//! Key material in a header (`jwk`, `jku`, `x5u`, `x5c`) is never looked at, and what an extension might change (`crit`,
//! `b64`) is refused. The algorithm is the key's; a token only has to name the same one.

mod twin;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::fault::{Fault, FaultKind};
use super::key::{Key, KeyType};
use super::strict;
pub use twin::twin;

/// Bytes of a `kid` at most.
pub const KID_LIMIT: usize = 256;

macro_rules! algorithms {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $key:ident, $hash:literal;)*) => {
        /// A signature algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1). There is no `none`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Algorithm { $($(#[doc = $doc])* $variant,)* }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Finds an algorithm by its name, byte for byte.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> { match name { $($name => Some(Self::$variant),)* _ => None } }

            /// The registered name.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $name,)* } }

            /// The type of key it needs.
            #[must_use]
            pub fn key_type(self) -> KeyType { match self { $(Self::$variant => KeyType::$key,)* } }

            /// Bytes of its hash: a shared secret must not be shorter.
            #[must_use]
            pub fn hash_length(self) -> usize { match self { $(Self::$variant => $hash,)* } }
        }
    };
}

algorithms! {
    /// HMAC with SHA-256.
    Hs256 = "HS256", Secret, 32;
    /// HMAC with SHA-384.
    Hs384 = "HS384", Secret, 48;
    /// HMAC with SHA-512.
    Hs512 = "HS512", Secret, 64;
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256 = "RS256", Rsa, 32;
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384 = "RS384", Rsa, 48;
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512 = "RS512", Rsa, 64;
    /// RSASSA-PSS with SHA-256.
    Ps256 = "PS256", Rsa, 32;
    /// RSASSA-PSS with SHA-384.
    Ps384 = "PS384", Rsa, 48;
    /// RSASSA-PSS with SHA-512.
    Ps512 = "PS512", Rsa, 64;
    /// ECDSA over P-256 with SHA-256.
    Es256 = "ES256", P256, 32;
    /// ECDSA over P-384 with SHA-384.
    Es384 = "ES384", P384, 48;
    /// ECDSA over P-521 with SHA-512.
    Es512 = "ES512", P521, 64;
    /// Ed25519.
    EdDsa = "EdDSA", Ed25519, 64;
}

impl Algorithm {
    /// The same algorithm in jsonwebtoken, which lacks ES512.
    pub(in crate::oauth) fn as_jsonwebtoken(self) -> Option<jsonwebtoken::Algorithm> {
        self.as_str().parse().ok()
    }
}

/// The parts of a JOSE header that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `alg`, one of the closed list.
    pub algorithm: Algorithm,
    /// `kid`, opaque, of at most [`KID_LIMIT`] bytes.
    pub kid: Option<String>,
    /// `typ`, lower-cased and without `application/` (RFC 7515 section 4.1.9).
    pub token_type: Option<String>,
}

/// A token whose header is read and whose signature is not yet verified: its claims cannot be seen.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// The header.
    pub header: Header,
    signing_input: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Unverified<'a> {
    /// Reads the header of a compact JWS.
    ///
    /// # Errors
    /// The token is not three base64url segments, or its header is not acceptable.
    pub fn parse(token: &'a str) -> Result<Self, Fault> {
        let [header, payload, signature] = segments(token)?;
        let header = read_header(&object(header)?)?;
        let signing_input = token.get(..token.len() - signature.len() - 1).ok_or(malformed("no signature"))?;
        decode_segment(signature)?;
        Ok(Self { header, signing_input, payload, signature })
    }

    /// Verifies the signature and only then reads the claims.
    ///
    /// # Errors
    /// The key is for another algorithm, the signature is not the key's, or the claims are not one strict JSON object.
    pub fn verify(&self, key: &Key) -> Result<Map<String, Value>, Fault> {
        if key.algorithm() != self.header.algorithm {
            return Err(Fault::new(FaultKind::Algorithm, "the key is for another algorithm"));
        }
        if !key.verifies(self.signing_input.as_bytes(), self.signature) {
            return Err(Fault::new(FaultKind::Signature, "the signature does not verify"));
        }
        object(self.payload)
    }
}

/// `iss` of a token that nobody has verified, for choosing the provider to ask and for nothing else.
#[must_use]
pub fn unverified_issuer(token: &str) -> Option<String> {
    let [_, payload, _] = segments(token).ok()?;
    match object(payload).ok()?.remove("iss")? {
        Value::String(issuer) => Some(issuer),
        _ => None,
    }
}

/// What a token says, verified by nobody.
#[derive(Debug)]
pub struct Shown {
    /// The JOSE header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// Header and claims that nobody has verified, for showing them to the person who holds the token.
///
/// # Errors
/// The token is not three base64url segments of which two are strict JSON objects.
pub fn show_unverified(token: &str) -> Result<Shown, Fault> {
    let [header, payload, _] = segments(token)?;
    Ok(Shown { header: object(header)?, claims: object(payload)? })
}

/// Makes a token with a shared secret, for development.
///
/// # Errors
/// The algorithm is not an HMAC.
pub fn sign_with_secret(algorithm: Algorithm, secret: &[u8], claims: &Map<String, Value>) -> Result<String, Fault> {
    let unusable = || Fault::new(FaultKind::Algorithm, "tokens are only signed with a shared secret");
    if algorithm.key_type() != KeyType::Secret {
        return Err(unusable());
    }
    let header = serde_json::json!({ "alg": algorithm.as_str(), "typ": "JWT" }).to_string();
    let claims = Value::Object(claims.clone()).to_string();
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let signed_as = algorithm.as_jsonwebtoken().ok_or_else(unusable)?;
    let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &key, signed_as).or(Err(unusable()))?;
    Ok(format!("{input}.{signature}"))
}

fn malformed(detail: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, detail)
}

/// Exactly three non-empty segments of the base64url alphabet. Looks at no more than three dots.
fn segments(token: &str) -> Result<[&str; 3], Fault> {
    let mut split = token.splitn(4, '.');
    let (Some(header), Some(payload), Some(signature), None) = (split.next(), split.next(), split.next(), split.next())
    else {
        return Err(malformed("not three segments"));
    };
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if [header, payload, signature].iter().any(|segment| segment.is_empty() || !segment.bytes().all(alphabet)) {
        return Err(malformed("a segment is empty or not base64url"));
    }
    Ok([header, payload, signature])
}

/// Decodes one segment: no padding, and no bits behind the last byte, so that one token has one spelling.
pub(super) fn decode_segment(segment: &str) -> Result<Vec<u8>, Fault> {
    URL_SAFE_NO_PAD.decode(segment).or(Err(malformed("a segment is not canonical base64url")))
}

fn object(segment: &str) -> Result<Map<String, Value>, Fault> {
    strict::object(&decode_segment(segment)?).or(Err(malformed("a segment is not one strict JSON object")))
}

fn read_header(members: &Map<String, Value>) -> Result<Header, Fault> {
    for refused in ["crit", "b64", "enc", "zip"] {
        if members.contains_key(refused) {
            return Err(Fault::new(FaultKind::Malformed, format!("the header has `{refused}`")));
        }
    }
    let algorithm = match members.get("alg") {
        Some(Value::String(name)) => Algorithm::parse(name),
        _ => return Err(malformed("`alg` is missing or no string")),
    };
    let algorithm = algorithm.ok_or(Fault::new(FaultKind::Algorithm, "`alg` is not supported"))?;
    let kid = match members.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_LIMIT => Some(kid.clone()),
        Some(_) => return Err(malformed("`kid` is no string or too long")),
    };
    let token_type = match members.get("typ") {
        None => None,
        Some(Value::String(typ)) => Some(media_type(typ)),
        Some(_) => return Err(malformed("`typ` is no string")),
    };
    Ok(Header { algorithm, kid, token_type })
}

/// Media types are case-insensitive, and `application/` may be left out (RFC 7515 section 4.1.9).
fn media_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(rest) if !rest.contains('/') => rest.to_owned(),
        _ => lower,
    }
}

#[cfg(test)]
mod tests;
