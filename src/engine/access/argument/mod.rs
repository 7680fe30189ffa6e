//! Conditions on single arguments: a path into the arguments and what must hold there.
//!
//! A value that is null or of a type that a check does not speak about cannot be decided; absence is told apart, because
//! `optional` decides it.

mod check;
mod path;

use serde_json::Value;

pub use check::{Check, JsonType};
use path::Path;

use super::facts::Fit;
use super::pattern::PatternError;

/// Checks of one matcher at most.
const MOST_CHECKS: usize = 32;

/// Why an argument condition is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// The key is empty.
    #[error("the argument's name is empty")]
    EmptyKey,
    /// `~` that is neither `~0` nor `~1` (RFC 6901 section 3).
    #[error("`~` in a JSON pointer must be `~0` or `~1`")]
    Escape,
    /// More than 32 segments.
    #[error("the JSON pointer has more than 32 segments")]
    TooDeep,
    /// No check is given.
    #[error("nothing is demanded of the argument")]
    NoCheck,
    /// More than 32 checks.
    #[error("more than 32 checks are given for one argument")]
    TooManyChecks,
    /// `equals` or `one_of` with null, a list or an object.
    #[error("only texts, numbers and booleans can be compared with")]
    NotScalar,
    /// `one_of` without a value.
    #[error("the list of accepted values is empty")]
    EmptyList,
    /// A pattern is refused.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Whether an argument may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Absence cannot be decided: an allow rule does not fit, a deny rule does.
    Required,
    /// Absence satisfies an allow rule and keeps a deny rule from fitting. Null is not absence.
    Optional,
}

/// What must hold of one argument.
#[derive(Debug, Clone, PartialEq)]
pub struct ArgumentMatcher {
    path: Path,
    checks: Vec<Check>,
    presence: Presence,
}

impl ArgumentMatcher {
    /// `key` is the name of a top-level argument or, when it begins with `/`, a JSON pointer (RFC 6901) in which the
    /// segment `*` means every item of a list; all checks must hold at every place it leads to.
    ///
    /// # Errors
    /// The key cannot be read, or there is no check.
    pub fn new(key: &str, checks: Vec<Check>, presence: Presence) -> Result<Self, ArgumentError> {
        match checks.len() {
            0 => Err(ArgumentError::NoCheck),
            1..=MOST_CHECKS => Ok(Self { path: Path::parse(key)?, checks, presence }),
            _ => Err(ArgumentError::TooManyChecks),
        }
    }

    /// The key as it was written.
    #[must_use]
    pub fn key(&self) -> &str {
        self.path.text()
    }

    /// Whether it asks something of every item of a list.
    #[must_use]
    pub fn is_plural(&self) -> bool {
        self.path.is_plural()
    }

    /// The top-level argument that the path begins with.
    pub(super) fn top(&self) -> &str {
        self.path.top()
    }

    /// Whether both speak of the same place.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.path.same_place(&other.path)
    }

    /// [`Fit::Absent`] means an absence that is optional.
    pub(super) fn judge(&self, arguments: &Value) -> Fit {
        let test = |value: &Value| self.checks.iter().fold(Fit::Yes, |fit, check| fit.and(|| check.judge(value)));
        match self.path.judge(arguments, &test) {
            Fit::Absent if self.presence == Presence::Required => {
                Fit::Undecided(format!("argument `{}` is absent", self.key()).into())
            }
            Fit::Undecided(cause) => Fit::Undecided(format!("argument `{}` {cause}", self.key()).into()),
            fit => fit,
        }
    }

    /// Why no value can ever hold, when that can be seen.
    pub(super) fn contradiction(&self) -> Option<String> {
        let clash = check::contradiction(&self.checks)?;
        // Absence satisfies what is optional, and an empty list every demand on its items.
        (self.presence == Presence::Required && !self.path.is_plural())
            .then(|| format!("argument `{}`: {clash}", self.key()))
    }

    /// Whether this matcher of a deny rule fits whatever `allowed`, the matcher of an allow rule, lets through.
    pub(super) fn covers(&self, allowed: &Self) -> bool {
        let absent = allowed.presence == Presence::Required || self.presence == Presence::Required;
        absent && self.same_place(allowed) && self.checks.iter().all(|mine| check::implied(mine, &allowed.checks))
    }
}
