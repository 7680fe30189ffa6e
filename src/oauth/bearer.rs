//! Exactly one bearer token from the `Authorization` values of a request (RFC 6750 section 2.1).
//!
//! Knows nothing of what a token means: an opaque key passes here as well as a JWT.

use super::fault::{Fault, FaultKind};

/// Bytes of a token that are read at most.
pub const LONGEST: usize = 16 * 1024;

/// Finds the one bearer token among all values of `Authorization`.
///
/// The scheme is case-insensitive; the token must be a `b64token` of at most `limit` bytes.
///
/// # Errors
/// [`FaultKind::Missing`] when there is no value, or one of another scheme; [`FaultKind::Malformed`] when there are two,
/// a list, or something that is no token.
pub fn extract<'a>(values: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Result<&'a str, Fault> {
    let mut values = values.into_iter();
    let value = values.next().ok_or(Fault::new(FaultKind::Missing, "no authorization header"))?;
    if values.next().is_some() {
        return Err(malformed("more than one authorization header"));
    }
    let (scheme, credentials) = value.split_at_checked("Bearer".len()).unwrap_or((value, &[]));
    let separated = matches!(credentials.first(), None | Some(b' '));
    if !scheme.eq_ignore_ascii_case(b"Bearer") || !separated {
        return Err(match memchr::memchr(b',', value) {
            Some(_) => malformed("a list of credentials"),
            None => Fault::new(FaultKind::Missing, "another authorization scheme"),
        });
    }
    let token = credentials.trim_ascii_start();
    if credentials.iter().take(credentials.len() - token.len()).any(|byte| *byte != b' ') {
        return Err(malformed("white space other than a space after the scheme"));
    }
    if token.len() > limit {
        return Err(malformed("the token is too long"));
    }
    if !is_b64token(token) {
        return Err(malformed("the credential is no bearer token"));
    }
    std::str::from_utf8(token).or(Err(malformed("the credential is no bearer token")))
}

fn malformed(detail: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, detail)
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
/// Whether these bytes are a `b64token`.
#[must_use]
pub fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = token.get(..token.len() - padding).unwrap_or_default();
    // Without an early end, so that it is done for many bytes at once.
    !body.is_empty() && body.iter().fold(true, |all, byte| all & is_b64token_byte(*byte))
}

fn is_b64token_byte(byte: u8) -> bool {
    let mark = |mark: u8| byte == mark;
    byte.is_ascii_alphanumeric() | mark(b'-') | mark(b'.') | mark(b'_') | mark(b'~') | mark(b'+') | mark(b'/')
}

/// Whether a raw query has a parameter that some server would read as `access_token`, in any percent-encoded spelling.
/// Such a request is refused, for its token is in logs and histories already (RFC 6750 section 5.3).
#[must_use]
pub fn query_has_token(raw_query: &str) -> bool {
    raw_query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let mut decoded = name.as_bytes().to_vec();
        // Twice, for a server behind may decode what a proxy has decoded.
        for _ in 0..2 {
            decoded = percent_decode(&decoded);
        }
        let name = decoded.trim_ascii();
        let name = name.strip_suffix(b"[]").unwrap_or(name);
        name.eq_ignore_ascii_case(b"access_token")
    })
}

/// Decodes `%XX` and `+`; what is no escape stays.
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| (high * 16 + low, after)),
            _ => None,
        };
        match escaped {
            Some((byte, after)) => {
                decoded.push(byte);
                rest = after;
            }
            None => decoded.push(if *first == b'+' { b' ' } else { *first }),
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::super::fault::FaultKind;
    use super::{LONGEST, extract, query_has_token};

    fn one(value: &[u8]) -> Result<&str, FaultKind> {
        extract([value], LONGEST).map_err(|fault| fault.kind)
    }

    #[test]
    fn a24_the_scheme_is_case_insensitive() {
        for value in [&b"Bearer abc.def-ghi_~+/=="[..], b"bearer abc.def-ghi_~+/==", b"BEARER   abc.def-ghi_~+/=="] {
            assert_eq!(one(value), Ok("abc.def-ghi_~+/=="));
        }
    }

    #[test]
    fn a24_no_credential_is_missing() {
        assert_eq!(extract([], 10).unwrap_err().kind, FaultKind::Missing);
        for value in [&b""[..], b"Basic dXNlcjpwdw==", b"DPoP abc", b"Bearerabc", b"Bearer2 abc"] {
            assert_eq!(one(value), Err(FaultKind::Missing), "{value:?}");
        }
    }

    #[test]
    fn a24_more_than_one_credential_or_no_token_is_malformed() {
        let two: [&[u8]; 2] = [b"Bearer abc", b"Bearer abc"];
        assert_eq!(extract(two, 10).unwrap_err().kind, FaultKind::Malformed, "even when they are equal");
        let mixed: [&[u8]; 2] = [b"Basic abc", b"Bearer abc"];
        assert_eq!(extract(mixed, 10).unwrap_err().kind, FaultKind::Malformed);
        for value in [
            &b"Bearer"[..],
            b"Bearer ",
            b"Bearer abc, Bearer def",
            b"Bearer abc,def",
            b"Basic abc, Bearer def",
            b"Bearer abc def",
            b"Bearer abc ",
            b"Bearer \tabc",
            b"Bearer \"abc\"",
            b"Bearer =",
            b"Bearer a=b",
            b"Bearer a\x00b",
            b"Bearer \xff\xfe",
            b"Bearer {\"alg\":\"none\"}",
        ] {
            assert_eq!(one(value), Err(FaultKind::Malformed), "{value:?}");
        }
    }

    #[test]
    fn a22_the_length_is_bounded_before_anything_is_decoded() {
        let value = |length: usize| format!("Bearer {}", "a".repeat(length)).into_bytes();
        assert!(extract([&value(LONGEST)[..]], LONGEST).is_ok());
        assert!(extract([&value(LONGEST + 1)[..]], LONGEST).is_err());
    }

    #[test]
    fn a24_a_token_in_the_query_is_seen_in_every_spelling() {
        for query in ["", "a=b", "access_tokens=x", "my_access_token=x", "a=access_token", "%", "a%zz=b", "token=x"] {
            assert!(!query_has_token(query), "{query}");
        }
        for query in [
            "access_token=x",
            "access_token",
            "a=b&access_token=x",
            "a=b;access_token=x",
            "%61ccess_token=x",
            "access%5Ftoken=x",
            "access%5ftoken=x",
            "%61%63%63%65%73%73%5F%74%6F%6B%65%6E=x",
            "%2561ccess_token=x",
            "ACCESS_TOKEN=x",
            "+access_token=x",
            "access_token[]=x",
            "access_token%5B%5D=x",
        ] {
            assert!(query_has_token(query), "{query}");
        }
    }
}
