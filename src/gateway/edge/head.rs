//! Judges the bytes of one HTTP/1 head (RFC 9112) before any parser reads them.

use super::super::front::is_host;

/// Bytes of a head at most.
pub const LONGEST_HEAD: usize = 64 * 1024;
/// Bytes of one line at most; the longest token fits.
const LONGEST_LINE: usize = 32 * 1024;
/// Lines at most.
const MOST_LINES: usize = 130;

/// How the body of a message is delimited (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A rule that is broken, for the log.
pub type Violation = &'static str;
/// CONNECT and TRACE: what follows them is not ours to read (RFC 9110 sections 9.3.6 and 9.3.8).
pub const NEVER_OFFERED: Violation = "a method that is never offered";

/// Judges a whole head, its empty line included.
///
/// # Errors
/// The first rule that it breaks.
pub fn judge(head: &[u8]) -> Result<Framing, Violation> {
    let mut lines = lines(head);
    let request = lines.next().ok_or("no request line")??;
    let request = request_line(request)?;
    let (mut host, mut length, mut chunked) = (None, None, false);
    for (count, line) in lines.enumerate() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if count > MOST_LINES {
            return Err("too many header lines");
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            if host.replace(value).is_some() {
                return Err("two hosts");
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(content_length(value)?).is_some() {
                return Err("two content lengths");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a transfer coding other than one `chunked`");
            }
            chunked = true;
        }
    }
    let host = host.and_then(|host| std::str::from_utf8(host).ok()).ok_or("no host")?;
    if !is_host(host) {
        return Err("a malformed host");
    }
    if request.authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host.as_bytes())) {
        return Err("target and host name different hosts");
    }
    match (length, chunked) {
        (Some(_), true) => Err("both content-length and transfer-encoding"),
        (None, true) if request.version == Version::Old => Err("a transfer coding in HTTP/1.0"),
        (None, true) => Ok(Framing::Chunked),
        (Some(0) | None, false) => Ok(Framing::None),
        (Some(length), false) => Ok(Framing::Length(length)),
    }
}

/// Splits at CRLF; a CR or LF that stands alone is an error (RFC 9112 section 2.2).
fn lines(head: &[u8]) -> impl Iterator<Item = Result<&[u8], Violation>> {
    let mut rest = head;
    let lines = std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at_checked(end).filter(|(line, _)| !line.is_empty())?;
        rest = behind;
        Some(line)
    });
    lines.map(|line| {
        let line = line.strip_suffix(b"\r\n").ok_or("a line that does not end with CR LF")?;
        if line.len() > LONGEST_LINE {
            return Err("a line is too long");
        }
        if memchr::memchr(b'\r', line).is_some() { Err("a CR within a line") } else { Ok(line) }
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Current,
    Old,
}

struct Request<'a> {
    authority: Option<&'a [u8]>,
    version: Version,
}

/// Method, target and version, with single spaces between (RFC 9112 section 3).
fn request_line(line: &[u8]) -> Result<Request<'_>, Violation> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("a malformed request line");
    };
    if method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Err("a malformed method");
    }
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(NEVER_OFFERED);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Current,
        b"HTTP/1.0" => Version::Old,
        _ => return Err("a malformed version"),
    };
    if !target.iter().all(u8::is_ascii_graphic)
        || target
            .iter()
            .any(|byte| matches!(byte, b'#' | b'\\' | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'|' | b'^'))
    {
        return Err("a character in the target that must be encoded");
    }
    if target.starts_with(b"/") {
        return Ok(Request { authority: None, version });
    }
    let rest = target
        .strip_prefix(b"http://")
        .or_else(|| target.strip_prefix(b"https://"))
        .ok_or("a target that is no path")?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Ok(Request { authority: rest.get(..end), version })
}

/// Name, colon and value, without blanks around the name (RFC 9112 section 5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let colon = memchr::memchr(b':', line).ok_or("a header line without a colon")?;
    let (name, value) = line.split_at_checked(colon).ok_or("a header line without a colon")?;
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("a malformed header name");
    }
    let value = value.get(1..).unwrap_or_default();
    // Without an early end, so that it is done for many bytes at once.
    if value.iter().fold(false, |found, byte| found | ((*byte < 32) & (*byte != b'\t')) | (*byte == 127)) {
        return Err("a control character in a header value");
    }
    Ok((name, value.trim_ascii()))
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    let marks = matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
    byte.is_ascii_alphanumeric() || marks
}

/// Digits only, and not more than anyone could mean (RFC 9110 section 8.6).
fn content_length(value: &[u8]) -> Result<u64, Violation> {
    let digits = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or("a malformed content length")
}
