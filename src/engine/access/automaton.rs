//! Regular expressions within bounds: of their source, of what they compile to, of their nesting.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::pattern::{LONGEST, PatternError};
use crate::shared::Shared;

/// Bytes of a compiled regular expression at most.
const LARGEST: usize = 1 << 20;
/// Nesting of a regular expression at most.
const DEEPEST: u32 = 64;

/// A regular expression that is searched for anywhere, as CEL's `matches` does.
pub(super) fn search(text: &str) -> Result<Arc<Regex>, PatternError> {
    static HELD: Shared<String, Regex> = Shared::new();
    HELD.get_or_make(if text.len() > LONGEST { return Err(PatternError::TooLong) } else { text }, || build(text))
}

/// Compiles an expression.
pub(super) fn build(source: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(source).size_limit(LARGEST).dfa_size_limit(LARGEST).nest_limit(DEEPEST).build().map_err(|error| {
        match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                PatternError::Regex(last.strip_prefix("error: ").unwrap_or(last).to_owned())
            }
        }
    })
}
