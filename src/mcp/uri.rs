//! Resource URIs whose spelling means one thing only, so that what is matched is what the server reads.

/// Why a resource URI is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No scheme, or not in lower case (RFC 3986 section 3.1).
    #[error("the URI has no scheme in lower case")]
    Scheme,
    /// A control, blank or non-ASCII character, or a backslash.
    #[error("the URI holds a character that must be encoded")]
    Character,
    /// `user@host`.
    #[error("the URI holds user information")]
    UserInfo,
    /// `.` or `..` as a segment, or in the place of the authority.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// An encoded slash, backslash or percent sign, an encoded character that needs no encoding, or a percent sign that
    /// encodes nothing.
    #[error("the path holds an encoded dot, slash, backslash, percent sign, letter or digit")]
    Encoding,
}

/// Accepts `uri` if its spelling could mean nothing else upstream.
///
/// # Errors
/// The first rule that it breaks.
pub fn strict(uri: &str) -> Result<(), UriError> {
    if uri.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
        return Err(UriError::Character);
    }
    let (scheme, rest) = uri.split_once(':').ok_or(UriError::Scheme)?;
    let letters = scheme.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
    if !letters || !scheme.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(UriError::Scheme);
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
            if authority.contains('@') {
                return Err(UriError::UserInfo);
            }
            // To a server that takes everything behind the scheme for a path, it is the first segment.
            if matches!(authority, "." | "..") {
                return Err(UriError::DotSegment);
            }
            encoding(authority)?;
            path
        }
    };
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(UriError::DotSegment);
    }
    encoding(path)
}

fn encoding(part: &str) -> Result<(), UriError> {
    for (at, _) in part.match_indices('%') {
        let code =
            part.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok()).ok_or(UriError::Encoding)?;
        // Letters, digits and these marks mean the same encoded as not (RFC 3986 section 2.3).
        let unreserved = code.is_ascii_alphanumeric() || matches!(code, b'-' | b'.' | b'_' | b'~');
        if unreserved || matches!(code, b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f) {
            return Err(UriError::Encoding);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{UriError, strict};

    #[test]
    fn one_meaning_passes() {
        for uri in [
            "repo://acme/x",
            "file:///a/b.txt",
            "urn:x:y",
            "ui://w/a%20b%3Ac%C3%A9",
            "db://t?x=../y",
            "a+b.c-1:/x",
            "repo://**/{id}",
            "test://..a/b..",
        ] {
            assert_eq!(strict(uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn q05_spellings_with_a_second_meaning_are_refused() {
        for (uri, error) in [
            ("", UriError::Scheme),
            ("/a", UriError::Scheme),
            ("Repo://a", UriError::Scheme),
            ("1a:b", UriError::Scheme),
            ("repo://a/../b", UriError::DotSegment),
            ("repo://a/./b", UriError::DotSegment),
            ("repo://a/b/..", UriError::DotSegment),
            ("urn:../x", UriError::DotSegment),
            ("repo://../x", UriError::DotSegment),
            ("repo://./x", UriError::DotSegment),
            ("repo://..", UriError::DotSegment),
            ("repo://..?x", UriError::DotSegment),
            ("repo://a/%2e%2e/b", UriError::Encoding),
            ("repo://a/%2Eb", UriError::Encoding),
            ("repo://a%2Fb", UriError::Encoding),
            ("repo://a/b%2fc", UriError::Encoding),
            ("repo://a/b%5Cc", UriError::Encoding),
            ("repo://a/b%252e", UriError::Encoding),
            ("repo://a/secre%74", UriError::Encoding),
            ("repo://%61/b", UriError::Encoding),
            ("repo://a/b%5fc", UriError::Encoding),
            ("repo://a/%7Eb", UriError::Encoding),
            ("repo://a/b%00", UriError::Encoding),
            ("repo://a/b%zz", UriError::Encoding),
            ("repo://a/b%2", UriError::Encoding),
            ("repo://a\\b", UriError::Character),
            ("repo://a b", UriError::Character),
            ("repo://a\n", UriError::Character),
            ("repo://é", UriError::Character),
            ("repo://u@a/b", UriError::UserInfo),
        ] {
            assert_eq!(strict(uri), Err(error), "{uri}");
        }
    }
}
