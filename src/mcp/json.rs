//! One strict pass over JSON text: what any two parsers could read differently is refused (RFC 8259, RFC 7493).
//!
//! Builds nothing. Duplicate members are found at every depth, after unescaping.

use std::borrow::Cow;
use std::collections::HashSet;

/// Mappings and lists inside each other.
const DEEPEST: usize = 64;
/// Members up to which duplicates are found by comparing, and not by hashing.
const FEW: usize = 16;

/// Why bytes are no strict JSON. Carries nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8, or with a byte order mark.
    #[error("not plain UTF-8")]
    Encoding,
    /// Not the grammar of RFC 8259.
    #[error("not JSON")]
    Syntax,
    /// Something after the value.
    #[error("data after the JSON value")]
    Trailing,
    /// A member that occurs twice.
    #[error("duplicate member")]
    Duplicate,
    /// An escaped surrogate without its other half.
    #[error("lone surrogate")]
    Surrogate,
    /// Nested too deeply.
    #[error("nested too deeply")]
    Depth,
    /// More values than may be held as such.
    #[error("too many values")]
    Many,
}

/// Checks that `bytes` are exactly one strict JSON value, and returns them as text.
///
/// # Errors
/// The first thing found wrong.
pub fn check(bytes: &[u8]) -> Result<&str, JsonError> {
    check_within(bytes, usize::MAX)
}

/// The same for text of no more than so many values, those inside others included. What is made of a value may take a
/// hundred bytes, where the text took three.
///
/// # Errors
/// The first thing found wrong.
pub fn check_within(bytes: &[u8], values: usize) -> Result<&str, JsonError> {
    let text = std::str::from_utf8(bytes).or(Err(JsonError::Encoding))?;
    if text.starts_with('\u{feff}') {
        return Err(JsonError::Encoding);
    }
    let mut walker = Walker { text, bytes, at: 0, left: values, keys: Vec::with_capacity(FEW) };
    walker.blank();
    walker.value(0)?;
    walker.blank();
    if walker.at == bytes.len() { Ok(text) } else { Err(JsonError::Trailing) }
}

/// Marks, with its highest bit, every byte of `word` that is a quote, a backslash or a control character. Marks above the
/// lowest may be wrong.
fn special(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = 0x80 * EACH;
    let below = |word: u64, bound: u64| word.wrapping_sub(EACH * bound) & !word & HIGHEST;
    let is = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    is(b'"') | is(b'\\') | below(word, 0x20)
}

struct Walker<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// How many values may still come.
    left: usize,
    /// The member names of all objects that are open, outermost first.
    keys: Vec<Cow<'a, str>>,
}

impl<'a> Walker<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(JsonError::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        self.left = self.left.checked_sub(1).ok_or(JsonError::Many)?;
        match self.peek() {
            Some(b'{' | b'[') if depth >= DEEPEST => Err(JsonError::Depth),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(JsonError::Syntax),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.at += 1;
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let first = self.keys.len();
        let mut many: Option<HashSet<String>> = None;
        loop {
            let key = self.string()?;
            if !self.is_new(&key, first, &mut many) {
                return Err(JsonError::Duplicate);
            }
            self.keys.push(key);
            self.blank();
            self.expect(b':')?;
            self.blank();
            self.value(depth)?;
            self.blank();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.blank();
                }
                Some(b'}') => {
                    self.at += 1;
                    self.keys.truncate(first);
                    return Ok(());
                }
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    /// Whether `key` is not among the names of the innermost open object, which start at `first`.
    fn is_new(&self, key: &str, first: usize, many: &mut Option<HashSet<String>>) -> bool {
        let own = self.keys.get(first..).unwrap_or_default();
        if own.len() < FEW {
            return !own.iter().any(|known| known == key);
        }
        let many = many.get_or_insert_with(|| own.iter().map(|known| known.clone().into_owned()).collect());
        many.insert(key.to_owned())
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.at += 1;
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.blank();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.blank();
                }
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    /// Reads a string; borrowed when it holds no escape.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        self.plain();
        match self.peek() {
            Some(b'"') => {
                let text = self.text.get(start..self.at).ok_or(JsonError::Syntax)?;
                self.at += 1;
                Ok(Cow::Borrowed(text))
            }
            Some(b'\\') => self.escaped(start).map(Cow::Owned),
            _ => Err(JsonError::Syntax),
        }
    }

    /// Goes to the next byte that means something in a string: a quote, a backslash, or what may not stand in one.
    fn plain(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (words, _) = rest.as_chunks::<8>();
        for word in words {
            let found = special(u64::from_le_bytes(*word));
            if found != 0 {
                self.at += usize::try_from(found.trailing_zeros() / 8).unwrap_or_default();
                return;
            }
            self.at += 8;
        }
        while matches!(self.peek(), Some(byte) if byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn escaped(&mut self, start: usize) -> Result<String, JsonError> {
        let mut text = String::new();
        let mut plain = start;
        loop {
            self.plain();
            let byte = self.peek().filter(|byte| matches!(byte, b'"' | b'\\')).ok_or(JsonError::Syntax)?;
            text.push_str(self.text.get(plain..self.at).ok_or(JsonError::Syntax)?);
            self.at += 1;
            if byte == b'"' {
                return Ok(text);
            }
            text.push(self.escape()?);
            plain = self.at;
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or(JsonError::Syntax)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                match first {
                    0xd800..=0xdbff => {
                        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                            return Err(JsonError::Surrogate);
                        }
                        self.at += 2;
                        let second = self.hex4()?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return Err(JsonError::Surrogate);
                        }
                        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
                            .ok_or(JsonError::Surrogate)?
                    }
                    _ => char::from_u32(first).ok_or(JsonError::Surrogate)?,
                }
            }
            _ => return Err(JsonError::Syntax),
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(JsonError::Syntax)?;
        self.at += 4;
        digits.iter().try_fold(0, |number, digit| {
            char::from(*digit).to_digit(16).map(|digit| number * 16 + digit).ok_or(JsonError::Syntax)
        })
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if self.bytes.get(self.at..self.at + word.len()) != Some(word) {
            return Err(JsonError::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(JsonError::Syntax),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(JsonError::Syntax) }
    }
}

#[cfg(test)]
mod tests {
    use super::{DEEPEST, JsonError, check, check_within};

    #[test]
    fn k03_strict_json_passes() {
        for text in [
            r#"{"a":1,"b":{"a":[{"a":null},true,false,-0.5e+10,"x\n\u00e9\ud83d\ude00"]}}"#,
            " [ ] ",
            "0",
            "\"\"",
            "{\"é\":\"\u{10ffff}\"}",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(text));
        }
    }

    #[test]
    fn k03_every_byte_of_a_string_is_looked_at_wherever_it_stands() {
        for at in 0..24 {
            for c in (0..=0xff).map(char::from) {
                let text = format!("\"{}{c}{}\"", "a".repeat(at), "\u{e9}b".repeat(9));
                let wanted = match c {
                    '\0'..='\u{1f}' | '\\' => Err(JsonError::Syntax),
                    '"' => Err(JsonError::Trailing),
                    _ => Ok(text.as_str()),
                };
                assert_eq!(check(text.as_bytes()), wanted, "{text:?}");
            }
        }
    }

    #[test]
    fn k03_duplicates_are_found_at_every_depth_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":[{"b":{"c":1,"c":2}}]}"#,
            r#"{"\ud83d\ude00":1,"😀":2}"#,
            r#"{"a":{"a":1},"a":2}"#,
        ] {
            assert_eq!(check(text.as_bytes()), Err(JsonError::Duplicate), "{text}");
        }
        let members: Vec<String> = (0..1000).map(|n| format!("\"k{n}\":{n}")).collect();
        assert!(check(format!("{{{}}}", members.join(",")).as_bytes()).is_ok());
        let twice = format!("{{{},\"k7\":0}}", members.join(","));
        assert_eq!(check(twice.as_bytes()), Err(JsonError::Duplicate));
        assert!(check(br#"{"a":{"x":1},"b":{"x":1}}"#).is_ok(), "the same name in two objects is fine");
    }

    #[test]
    fn k03_what_parsers_disagree_on_is_refused() {
        for (bytes, error) in [
            (&b"\xef\xbb\xbf{}"[..], JsonError::Encoding),
            (b"\xff\xfe{\0}\0", JsonError::Encoding),
            (b"{\0}\0", JsonError::Syntax),
            (b"\"\xc0\x80\"", JsonError::Encoding),
            (b"\"\xed\xa0\x80\"", JsonError::Encoding),
            (br#""\ud800""#, JsonError::Surrogate),
            (br#""\ud800\u0041""#, JsonError::Surrogate),
            (br#""\udc00""#, JsonError::Surrogate),
            (b"{} {}", JsonError::Trailing),
            (b"{}x", JsonError::Trailing),
            (b"1 2", JsonError::Trailing),
            (b"", JsonError::Syntax),
            (b"NaN", JsonError::Syntax),
            (b"-Infinity", JsonError::Syntax),
            (b"01", JsonError::Trailing),
            (b"1.", JsonError::Syntax),
            (b".5", JsonError::Syntax),
            (b"+1", JsonError::Syntax),
            (b"0x10", JsonError::Trailing),
            (b"{'a':1}", JsonError::Syntax),
            (b"{a:1}", JsonError::Syntax),
            (b"{\"a\":1,}", JsonError::Syntax),
            (b"[1,]", JsonError::Syntax),
            (b"[1 2]", JsonError::Syntax),
            (b"/* */{}", JsonError::Syntax),
            (b"{}//", JsonError::Trailing),
            (b"\"a\nb\"", JsonError::Syntax),
            (b"\"\0\"", JsonError::Syntax),
            (br#""\x41""#, JsonError::Syntax),
            (br#""\u12g4""#, JsonError::Syntax),
            (b"\"abc", JsonError::Syntax),
            (b"tru", JsonError::Syntax),
            (b"\x0b1", JsonError::Syntax),
        ] {
            assert_eq!(check(bytes), Err(error), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn k15_depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(DEEPEST).as_bytes()).is_ok());
        assert_eq!(check(nested(DEEPEST + 1).as_bytes()), Err(JsonError::Depth));
        assert_eq!(check("[".repeat(1_000_000).as_bytes()), Err(JsonError::Depth));
    }

    #[test]
    fn k15_values_are_counted_wherever_they_stand() {
        let text = br#"{"a":[1,{"b":null}],"c":""}"#;
        assert!(check_within(text, 6).is_ok());
        assert_eq!(check_within(text, 5), Err(JsonError::Many));
    }
}
