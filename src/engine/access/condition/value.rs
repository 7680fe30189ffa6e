//! Values of a running condition: borrowed from claims and arguments wherever possible.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use serde_json::{Map, Number, Value};

/// A value. Lists and objects of claims and arguments stay where they are.
#[derive(Debug, Clone)]
pub(in crate::engine::access) enum Datum<'f> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'f, str>),
    List(Rc<Vec<Datum<'f>>>),
    Array(&'f [Value]),
    Object(&'f Map<String, Value>),
}

impl<'f> From<&'f Value> for Datum<'f> {
    fn from(value: &'f Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::from(number),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(items) => Self::Array(items),
            Value::Object(members) => Self::Object(members),
        }
    }
}

impl From<&Number> for Datum<'_> {
    fn from(number: &Number) -> Self {
        match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Self::Int(number),
            (_, Some(number)) => Self::Uint(number),
            _ => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
        }
    }
}

impl Datum<'_> {
    /// How numbers and texts stand to each other; `None` where there is no order.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        if let (Self::Text(one), Self::Text(two)) = (self, other) {
            return Some(one.cmp(two));
        }
        if let (Some(one), Some(two)) = (self.integer(), other.integer()) {
            return Some(one.cmp(&two));
        }
        self.real()?.partial_cmp(&other.real()?)
    }

    pub(super) fn is_number(&self) -> bool {
        self.real().is_some()
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "CEL compares integers with doubles as doubles")]
    fn real(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// The items of a list of either form.
    pub(super) fn items(&self) -> Option<Items<'_>> {
        match self {
            Self::List(items) => Some(Items::Made(items)),
            Self::Array(items) => Some(Items::Read(items)),
            _ => None,
        }
    }
}

/// The items of a list.
pub(super) enum Items<'l> {
    Made(&'l [Datum<'l>]),
    Read(&'l [Value]),
}

impl<'l> Items<'l> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Made(items) => items.len(),
            Self::Read(items) => items.len(),
        }
    }

    pub(super) fn nth(&self, place: usize) -> Option<Datum<'l>> {
        match self {
            Self::Made(items) => items.get(place).cloned(),
            Self::Read(items) => items.get(place).map(Datum::from),
        }
    }
}
