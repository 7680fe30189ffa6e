//! Changes to parts of a text that leave every other byte as it was.

use std::ops::Range;

use serde_json::value::RawValue;

/// Changes to parts of a text, applied at once.
#[derive(Debug)]
pub(super) struct Edits<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Edits<'a> {
    /// No change to `text` yet.
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, edits: Vec::new() }
    }

    /// Puts `by` in the place of `part`, a slice of the text.
    pub(super) fn replace(&mut self, part: &RawValue, by: String) {
        let start = self.offset(part);
        self.edits.push((start..start + part.get().len(), by));
    }

    /// Adds `text` behind so many bytes of `part`.
    pub(super) fn insert(&mut self, part: &RawValue, behind: usize, text: String) {
        let at = self.offset(part) + behind;
        self.edits.push((at..at, text));
    }

    /// Where `part`, a slice of the text, begins.
    fn offset(&self, part: &RawValue) -> usize {
        part.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr())
    }

    /// The changed text; `None` when there is no change.
    pub(super) fn apply(mut self) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return None;
        }
        self.edits.sort_by_key(|(range, _)| range.start);
        let mut out = Vec::with_capacity(self.text.len() + 32);
        let mut at = 0;
        for (range, text) in self.edits {
            out.extend_from_slice(self.text.get(at..range.start)?.as_bytes());
            out.extend_from_slice(text.as_bytes());
            at = range.end;
        }
        out.extend_from_slice(self.text.get(at..)?.as_bytes());
        Some(out)
    }
}
