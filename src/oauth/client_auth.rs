//! How the gateway itself proves who it is at a token or introspection endpoint.

use ::url::form_urlencoded;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use serde_json::{Map, Value};

use super::signer::{Signer, SignerError};

/// `client_assertion_type` of an assertion (RFC 7523 section 2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Seconds for which an assertion is good: it is used at once.
const ASSERTION: i64 = 60;

/// `client_secret_basic` (RFC 6749 section 2.3.1): both parts are form-encoded first. The value is marked sensitive.
///
/// # Errors
/// The library refuses the value.
pub fn basic(client_id: &str, secret: &[u8]) -> Result<HeaderValue, InvalidHeaderValue> {
    let encoded = |part: &[u8]| form_urlencoded::byte_serialize(part).collect::<String>();
    let pair = format!("{}:{}", encoded(client_id.as_bytes()), encoded(secret));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `private_key_jwt` (RFC 7523 section 2.2): an assertion for `audience` that is good for a minute from `now` on, in seconds
/// since the epoch, and once, by its `id`.
///
/// # Errors
/// The library refuses.
pub fn assertion(signer: &Signer, client_id: &str, audience: &str, now: i64, id: &str) -> Result<String, SignerError> {
    let claims: [(&str, Value); 6] = [
        ("iss", client_id.into()),
        ("sub", client_id.into()),
        ("aud", audience.into()),
        ("jti", id.into()),
        ("iat", now.into()),
        ("exp", now.saturating_add(ASSERTION).into()),
    ];
    let claims: Map<String, Value> = claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    signer.sign("JWT", &claims)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::jws::{Algorithm, Unverified};

    #[test]
    fn b07_credentials_are_encoded_before_they_are_joined_and_never_shown() {
        let value = basic("a:b c", b"p%:\xff").unwrap();
        let decoded = STANDARD.decode(&value.as_bytes()["Basic ".len()..]).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), "a%3Ab+c:p%25%3A%FF");
        assert!(value.is_sensitive() && format!("{value:?}") == "Sensitive");
    }

    #[test]
    fn an_assertion_names_the_client_twice_and_one_audience_for_a_minute() {
        let signer = Signer::generate(Algorithm::Es256).unwrap();
        let text = assertion(&signer, "gate", "https://id.example/token", 1000, "once").unwrap();
        let token = Unverified::parse(&text).unwrap();
        let claims = token.verify(signer.verifier()).unwrap();
        let expected = json!({
            "iss": "gate", "sub": "gate", "aud": "https://id.example/token", "jti": "once", "iat": 1000, "exp": 1060,
        });
        assert_eq!(Value::Object(claims), expected);
    }
}
