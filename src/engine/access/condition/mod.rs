//! Conditions written in CEL, checked when they are loaded and bounded when they run.
//!
//! The grammar is the `cel` crate's; the evaluation is our own, because the crate's has no bound on cost, no type check
//! before it runs, and copies every claim into values of its own. Here a condition reads claims and arguments where they
//! are, so nothing is converted. It knows literals, lists, `claims`, `issuer`, `subject`, `client`, `operation` and
//! `arguments`, the operators, `has`, `all`, `exists`, `exists_one`, `map`, `filter`, and the functions of
//! `node::Function`; everything else is refused at load. Scopes cannot be seen, so that more scopes never deny.

mod compile;
mod convert;
mod evaluate;
mod node;
mod value;

use super::facts::{Cause, Facts, Fit};
use super::pattern::PatternError;
use node::{Node, Reads};

/// When a condition is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// For lists and calls: identity and operation only (`when`).
    List,
    /// For calls: arguments too (`when_arguments`).
    Call,
}

/// Why a condition is refused at load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Longer than 4096 bytes.
    #[error("the expression is longer than 4096 bytes")]
    TooLong,
    /// Nested too deeply, or of too many parts.
    #[error("the expression is too complex")]
    TooComplex,
    /// Not CEL. Line and column count from 1, the column in characters as the parser tells it.
    #[error("the expression cannot be parsed at column {column}: {message}")]
    Syntax {
        /// Line in the expression.
        line: usize,
        /// Column in the line.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A name that no condition knows.
    #[error("`{0}` is not known; there are claims, issuer, subject, client, operation and arguments")]
    UnknownVariable(String),
    /// A function that no condition knows.
    #[error("the function `{0}` is not known")]
    UnknownFunction(String),
    /// A field that `operation` does not have.
    #[error("`operation` has no `{0}`; there are kind, method, name and uri")]
    UnknownField(String),
    /// `scopes` is read.
    #[error("conditions cannot see scopes; name them under `scopes` of the rule")]
    Scopes,
    /// `arguments` is read where it is not known yet.
    #[error("`arguments` cannot be read here, because this is decided for lists too; use `when_arguments`")]
    Arguments,
    /// `arguments` is not read where it is expected.
    #[error("the expression does not read `arguments`; use `when`")]
    NoArguments,
    /// Types that do not fit.
    #[error("{0}")]
    Type(String),
    /// A part of CEL that is not offered.
    #[error("{0} cannot be used in conditions")]
    Unsupported(&'static str),
    /// The literal regular expression of `matches`.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// A condition on identity, operation and perhaps arguments.
#[derive(Debug)]
pub struct Condition {
    source: Box<str>,
    root: Node,
    reads: Reads,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Condition {
    /// Parses and checks `expression`.
    ///
    /// # Errors
    /// Whatever can be known before it runs: syntax, unknown names, types, arguments in the wrong phase, size.
    pub fn compile(expression: &str, phase: Phase) -> Result<Self, ConditionError> {
        let (root, reads) = compile::compile(expression, phase)?;
        if phase == Phase::Call && !reads.arguments {
            return Err(ConditionError::NoArguments);
        }
        Ok(Self { source: expression.into(), root, reads })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn reads(&self) -> Reads {
        self.reads
    }

    pub(super) fn judge(&self, facts: &Facts<'_>) -> Fit {
        match evaluate::evaluate(&self.root, facts) {
            Ok(value::Datum::Bool(holds)) => holds.into(),
            Ok(_) => Fit::Undecided(Cause::Borrowed("the condition gives something that is not a boolean")),
            Err(cause) => Fit::Undecided(cause),
        }
    }
}
