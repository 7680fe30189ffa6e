//! Problems found while loading: many at once, each with a place, a stable code and help.
//!
//! Knows nothing of policies: it is given sources, ranges and words.

pub mod render;

use std::ops::Range;
use std::sync::Arc;

/// A text that problems point into, with the name that people know it by.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as the operator gave it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// A range of bytes in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The text pointed into.
    pub source: Arc<Source>,
    /// Bytes from the start of the text.
    pub range: Range<usize>,
}

impl Place {
    /// Line and column of the first character, from 1; columns count characters.
    #[must_use]
    pub fn start(&self) -> (usize, usize) {
        self.source.position(self.range.start)
    }

    /// Line and column behind the last character.
    #[must_use]
    pub fn end(&self) -> (usize, usize) {
        self.source.position(self.range.end)
    }
}

impl Source {
    /// Line and column of a byte, from 1; columns count characters.
    #[must_use]
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        (line, 1 + before.get(line_start..).map_or(0, |text| text.chars().count()))
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Served, but probably not what was meant.
    Warning,
    /// Not served.
    Error,
}

/// One problem. Messages are lower case, without a final stop, with user input in backticks.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// A stable kebab-case word such as `unknown-provider`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where, unless it concerns no text (an empty directory).
    pub place: Option<Place>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), place: None, help: None }
    }

    /// A warning.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All problems of one load.
#[derive(Debug, Clone, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Adds a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Adds all problems of another report.
    pub fn extend(&mut self, other: Self) {
        self.diagnostics.extend(other.diagnostics);
    }

    /// The problems in the order of files and places; what concerns no text comes first.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.diagnostics.iter().collect();
        sorted.sort_by_key(|one| one.place.as_ref().map(|place| (place.source.name.as_str(), place.range.start)));
        sorted
    }

    /// The problems, in the order in which they were found.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Leaves out every problem that is not to be kept.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.diagnostics.retain(keep);
    }

    /// Whether anything is not served.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// How many problems keep something from being served.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }
}
