//! Follows a chunked body (RFC 9112 section 7.1) byte by byte, and refuses what lenient parsers read differently.

use super::head::{Violation, is_token};

/// Bytes of a chunk-size line at most.
const LONGEST_LINE: usize = 256;
/// Bytes of trailers at most; they are dropped later.
const LONGEST_TRAILERS: usize = 8 * 1024;

/// Where in the body the reader is.
#[derive(Debug, Clone)]
pub struct Chunks {
    state: State,
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    SizeEnd,
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
}

/// How much of the input belongs to the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// All of it, and the body goes on.
    All,
    /// So many bytes, and the body is over.
    Until(usize),
}

impl Default for Chunks {
    fn default() -> Self {
        Self { state: State::Size, line: Vec::new(), trailers: 0 }
    }
}

impl Chunks {
    /// Follows the body through `bytes`.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, Violation> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if let State::Data(left) = self.state {
                let here = u64::try_from(bytes.len() - at).unwrap_or(u64::MAX).min(left);
                at += usize::try_from(here).unwrap_or(usize::MAX);
                self.state = if here == left { State::DataCr } else { State::Data(left - here) };
                continue;
            }
            at += 1;
            if self.step(byte)? {
                return Ok(Scanned::Until(at));
            }
        }
        Ok(Scanned::All)
    }

    /// One byte outside of data; whether the body is over.
    fn step(&mut self, byte: u8) -> Result<bool, Violation> {
        self.state = match (self.state, byte) {
            (State::Size, b'\r') => State::SizeEnd,
            (State::Size, byte) => {
                self.push(byte, LONGEST_LINE)?;
                State::Size
            }
            (State::SizeEnd, b'\n') => match size(&std::mem::take(&mut self.line))? {
                0 => State::Trailer,
                length => State::Data(length),
            },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Trailer, byte) => {
                self.trailers += 1;
                self.push(byte, LONGEST_TRAILERS - self.trailers.min(LONGEST_TRAILERS))?;
                State::Trailer
            }
            (State::TrailerLf, b'\n') => {
                let line = std::mem::take(&mut self.line);
                if line.is_empty() {
                    return Ok(true);
                }
                trailer(&line)?;
                State::Trailer
            }
            _ => return Err("a malformed chunk"),
        };
        Ok(false)
    }

    fn push(&mut self, byte: u8, bound: usize) -> Result<(), Violation> {
        if self.line.len() >= bound {
            return Err("a chunk line or trailer is too long");
        }
        self.line.push(byte);
        Ok(())
    }
}

/// Hex digits and perhaps extensions: `;name`, `;name=token` or `;name="text"`, without blanks.
fn size(line: &[u8]) -> Result<u64, Violation> {
    let mut parts = line.split(|byte| *byte == b';');
    let digits = parts.next().and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default();
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("a malformed chunk size");
    }
    for extension in parts {
        let (name, value) = match memchr::memchr(b'=', extension) {
            None => (extension, None),
            Some(at) => (extension.get(..at).unwrap_or_default(), extension.get(at + 1..)),
        };
        let token = |text: &[u8]| !text.is_empty() && text.iter().all(|byte| is_token(*byte));
        let quoted = |text: &[u8]| {
            let inner = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
            inner.is_some_and(|inner| {
                inner.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
            })
        };
        if !token(name) || !value.is_none_or(|value| token(value) || quoted(value)) {
            return Err("a malformed chunk extension");
        }
    }
    u64::from_str_radix(digits, 16).or(Err("a malformed chunk size"))
}

/// A header line that frames nothing (RFC 9110 section 6.5.1).
fn trailer(line: &[u8]) -> Result<(), Violation> {
    let colon = memchr::memchr(b':', line).ok_or("a malformed trailer")?;
    let (name, value) = line.split_at_checked(colon).ok_or("a malformed trailer")?;
    let framing =
        [&b"content-length"[..], b"transfer-encoding", b"host", b"authorization", b"content-type", b"trailer"];
    let clean = value.iter().all(|byte| !matches!(byte, 0..=8 | 10..=31 | 127));
    if name.is_empty()
        || !name.iter().all(|byte| is_token(*byte))
        || !clean
        || framing.iter().any(|other| name.eq_ignore_ascii_case(other))
    {
        return Err("a malformed trailer");
    }
    Ok(())
}
