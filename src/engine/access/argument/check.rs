//! What can be demanded of a value, and what follows from what.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::super::facts::{Cause, Fit};
use super::super::pattern::{Pattern, Span};
use super::ArgumentError;

/// One demand on a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Check(Demand);

/// The types of JSON that can be demanded; null is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// A text.
    String,
    /// Any number.
    Number,
    /// A number without a fraction.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list.
    Array,
    /// An object.
    Object,
}

#[derive(Debug, Clone, PartialEq)]
enum Demand {
    OneOf(Vec<Value>),
    Matches(Pattern),
    Prefix(Box<str>),
    Min(Number),
    Max(Number),
    MinLength(usize),
    MaxLength(usize),
    MinItems(usize),
    MaxItems(usize),
    Type(JsonType),
}

impl Check {
    /// The value is this text, number or boolean; numbers are compared by value.
    ///
    /// # Errors
    /// Null, a list or an object.
    pub fn equals(value: Value) -> Result<Self, ArgumentError> {
        Self::one_of(vec![value])
    }

    /// The value is one of these.
    ///
    /// # Errors
    /// No value, or one that is null, a list or an object.
    pub fn one_of(values: Vec<Value>) -> Result<Self, ArgumentError> {
        if values.is_empty() {
            return Err(ArgumentError::EmptyList);
        }
        if values.iter().any(|value| matches!(value, Value::Null | Value::Array(_) | Value::Object(_))) {
            return Err(ArgumentError::NotScalar);
        }
        Ok(Self(Demand::OneOf(values)))
    }

    /// The value is a text that matches the regular expression as a whole.
    ///
    /// # Errors
    /// Not valid or too large.
    pub fn matches(expression: &str) -> Result<Self, ArgumentError> {
        Ok(Self(Demand::Matches(Pattern::regex(expression)?)))
    }

    /// The value is a text that matches the glob: as in URIs, `*` stops at `/` and `**` does not.
    ///
    /// # Errors
    /// Empty or too long.
    pub fn glob(glob: &str) -> Result<Self, ArgumentError> {
        Ok(Self(Demand::Matches(Pattern::glob(glob, Span::Segment)?)))
    }

    /// The value is a text that begins so.
    #[must_use]
    pub fn prefix(prefix: &str) -> Self {
        Self(Demand::Prefix(prefix.into()))
    }

    /// The value is a number and at least this.
    #[must_use]
    pub fn min(bound: Number) -> Self {
        Self(Demand::Min(bound))
    }

    /// The value is a number and at most this.
    #[must_use]
    pub fn max(bound: Number) -> Self {
        Self(Demand::Max(bound))
    }

    /// The value is a text of at least so many Unicode characters.
    #[must_use]
    pub fn min_length(bound: usize) -> Self {
        Self(Demand::MinLength(bound))
    }

    /// The value is a text of at most so many Unicode characters.
    #[must_use]
    pub fn max_length(bound: usize) -> Self {
        Self(Demand::MaxLength(bound))
    }

    /// The value is a list of at least so many items.
    #[must_use]
    pub fn min_items(bound: usize) -> Self {
        Self(Demand::MinItems(bound))
    }

    /// The value is a list of at most so many items.
    #[must_use]
    pub fn max_items(bound: usize) -> Self {
        Self(Demand::MaxItems(bound))
    }

    /// The value has this type. Another type is a plain no, for that is the question; only null stays undecided.
    #[must_use]
    pub fn json_type(expected: JsonType) -> Self {
        Self(Demand::Type(expected))
    }

    pub(super) fn judge(&self, value: &Value) -> Fit {
        const WRONG: Fit = Fit::Undecided(Cause::Borrowed("has the wrong type"));
        match (&self.0, value) {
            (_, Value::Null) => Fit::Undecided(Cause::Borrowed("is null")),
            (Demand::OneOf(values), value) => {
                if values.iter().any(|one| same(one, value)) {
                    Fit::Yes
                } else if values.iter().any(|one| std::mem::discriminant(one) == std::mem::discriminant(value)) {
                    Fit::No
                } else {
                    WRONG
                }
            }
            (Demand::Matches(pattern), Value::String(text)) => pattern.matches(text).into(),
            (Demand::Prefix(prefix), Value::String(text)) => text.starts_with(prefix.as_ref()).into(),
            (Demand::Min(bound), Value::Number(number)) => (order(number, bound) != Ordering::Less).into(),
            (Demand::Max(bound), Value::Number(number)) => (order(number, bound) != Ordering::Greater).into(),
            (Demand::MinLength(bound), Value::String(text)) => (length(text, *bound) >= *bound).into(),
            (Demand::MaxLength(bound), Value::String(text)) => (length(text, *bound) <= *bound).into(),
            (Demand::MinItems(bound), Value::Array(items)) => (items.len() >= *bound).into(),
            (Demand::MaxItems(bound), Value::Array(items)) => (items.len() <= *bound).into(),
            (Demand::Type(expected), value) => expected.holds(value).into(),
            _ => WRONG,
        }
    }

    /// The only type that a value can have for the check to hold.
    fn speaks_of(&self) -> Option<JsonType> {
        match &self.0 {
            Demand::OneOf(_) => None,
            Demand::Matches(_) | Demand::Prefix(_) | Demand::MinLength(_) | Demand::MaxLength(_) => {
                Some(JsonType::String)
            }
            Demand::Min(_) | Demand::Max(_) => Some(JsonType::Number),
            Demand::MinItems(_) | Demand::MaxItems(_) => Some(JsonType::Array),
            Demand::Type(expected) => Some(*expected),
        }
    }
}

impl JsonType {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Integer => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }

    fn overlaps(self, other: Self) -> bool {
        let broad = |kind| if kind == Self::Integer { Self::Number } else { kind };
        broad(self) == broad(other)
    }
}

/// Characters of `text`, counted no further than is needed to compare with `bound`.
fn length(text: &str, bound: usize) -> usize {
    text.chars().take(bound.saturating_add(1)).count()
}

/// Equality by value: `1` and `1.0` are the same number.
fn same(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => order(one, two) == Ordering::Equal,
        _ => one == two,
    }
}

/// Integers exactly, anything else as double precision; JSON has no NaN.
pub(in crate::engine::access) fn order(one: &Number, two: &Number) -> Ordering {
    let integer = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (integer(one), integer(two)) {
        (Some(one), Some(two)) => one.cmp(&two),
        _ => {
            let real = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
            // Not the total order: there -0 comes before 0.
            real(one).partial_cmp(&real(two)).unwrap_or_else(|| real(one).total_cmp(&real(two)))
        }
    }
}

/// Why no value satisfies all of `checks`, when that can be seen.
pub(super) fn contradiction(checks: &[Check]) -> Option<&'static str> {
    for (place, check) in checks.iter().enumerate() {
        let others = || checks.iter().enumerate().filter(move |(other, _)| *other != place).map(|(_, check)| check);
        if let Demand::OneOf(values) = &check.0 {
            let fits = |value: &Value| others().all(|other| other.judge(value) == Fit::Yes);
            if !values.iter().any(fits) {
                return Some("no accepted value satisfies the other checks");
            }
            continue;
        }
        for other in others() {
            let clash = match (&check.0, &other.0) {
                (Demand::Min(low), Demand::Max(high)) => order(low, high) == Ordering::Greater,
                (Demand::MinLength(low), Demand::MaxLength(high)) | (Demand::MinItems(low), Demand::MaxItems(high)) => {
                    low > high
                }
                (Demand::Prefix(one), Demand::Prefix(two)) => {
                    !one.starts_with(two.as_ref()) && !two.starts_with(one.as_ref())
                }
                (Demand::Prefix(prefix), Demand::MaxLength(high)) => prefix.chars().count() > *high,
                (Demand::Matches(pattern), _) => {
                    pattern.only().is_some_and(|text| other.judge(&Value::String(text.to_owned())) != Fit::Yes)
                }
                _ => false,
            };
            if clash {
                return Some("its checks contradict each other");
            }
            if check.speaks_of().zip(other.speaks_of()).is_some_and(|(one, two)| !one.overlaps(two)) {
                return Some("its checks demand different types");
            }
        }
    }
    None
}

/// Whether whatever satisfies all of `given` satisfies `wanted`; `false` when that cannot be seen.
pub(super) fn implied(wanted: &Check, given: &[Check]) -> bool {
    given.iter().any(|given| {
        if let Demand::OneOf(values) = &given.0 {
            return values.iter().all(|value| wanted.judge(value) == Fit::Yes);
        }
        match (&wanted.0, &given.0) {
            (Demand::Matches(wanted), Demand::Matches(given)) => wanted.covers(given),
            (Demand::Prefix(wanted), Demand::Prefix(given)) => given.starts_with(wanted.as_ref()),
            (Demand::Prefix(wanted), Demand::Matches(given)) => given.prefix().starts_with(wanted.as_ref()),
            (Demand::Min(wanted), Demand::Min(given)) => order(given, wanted) != Ordering::Less,
            (Demand::Max(wanted), Demand::Max(given)) => order(given, wanted) != Ordering::Greater,
            (Demand::MinLength(wanted), Demand::MinLength(given))
            | (Demand::MinItems(wanted), Demand::MinItems(given)) => given >= wanted,
            (Demand::MaxLength(wanted), Demand::MaxLength(given))
            | (Demand::MaxItems(wanted), Demand::MaxItems(given)) => given <= wanted,
            (Demand::Type(JsonType::Number), Demand::Type(JsonType::Integer)) => true,
            (Demand::Type(wanted), _) => given.speaks_of() == Some(*wanted),
            _ => false,
        }
    })
}
