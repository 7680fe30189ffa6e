//! Where an argument stands.

use serde_json::Value;

use super::super::facts::{Cause, Fit};
use super::ArgumentError;
use crate::mcp::members::folded_equal;

/// Segments of a pointer at most.
const DEEPEST: usize = 32;

/// A name or a JSON pointer with `*` for every item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Path {
    text: Box<str>,
    top: Box<str>,
    rest: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Name(Box<str>),
    Every,
}

impl Path {
    pub(super) fn parse(key: &str) -> Result<Self, ArgumentError> {
        let Some(pointer) = key.strip_prefix('/') else {
            return if key.is_empty() {
                Err(ArgumentError::EmptyKey)
            } else {
                Ok(Self { text: key.into(), top: key.into(), rest: Vec::new() })
            };
        };
        let mut segments = pointer.split('/');
        let top = unescaped(segments.next().unwrap_or_default())?;
        if top.is_empty() {
            return Err(ArgumentError::EmptyKey);
        }
        let rest = segments
            .map(|segment| if segment == "*" { Ok(Segment::Every) } else { unescaped(segment).map(Segment::Name) })
            .collect::<Result<Vec<_>, _>>()?;
        if rest.len() >= DEEPEST {
            return Err(ArgumentError::TooDeep);
        }
        Ok(Self { text: key.into(), top, rest })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn top(&self) -> &str {
        &self.top
    }

    /// Whether it leads to every item of some list.
    pub(super) fn is_plural(&self) -> bool {
        self.rest.contains(&Segment::Every)
    }

    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.top == other.top && self.rest == other.rest
    }

    pub(super) fn judge(&self, arguments: &Value, test: &dyn Fn(&Value) -> Fit) -> Fit {
        member(arguments, &self.top, &self.rest, test)
    }
}

fn unescaped(segment: &str) -> Result<Box<str>, ArgumentError> {
    let mut pieces = segment.split('~');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (character, rest) = match (piece.strip_prefix('0'), piece.strip_prefix('1')) {
            (Some(rest), _) => ('~', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return Err(ArgumentError::Escape),
        };
        text.push(character);
        text.push_str(rest);
    }
    Ok(text.into())
}

fn walk(value: &Value, path: &[Segment], test: &dyn Fn(&Value) -> Fit) -> Fit {
    match path.split_first() {
        None => test(value),
        Some((Segment::Name(name), rest)) => member(value, name, rest, test),
        Some((Segment::Every, rest)) => match value {
            Value::Array(items) => items.iter().fold(Fit::Yes, |fit, item| fit.and(|| walk(item, rest, test))),
            _ => Fit::Undecided(Cause::Borrowed("is reached through something that is not a list")),
        },
    }
}

fn member(value: &Value, name: &str, rest: &[Segment], test: &dyn Fn(&Value) -> Fit) -> Fit {
    let found = match value {
        Value::Object(members) => {
            // A lenient server could read the look-alike instead of what was judged.
            if members.keys().any(|key| key != name && folded_equal(key, name)) {
                return Fit::Undecided(Cause::Borrowed("has a look-alike beside or instead of it"));
            }
            members.get(name)
        }
        Value::Array(items) => match name.parse::<usize>() {
            Ok(place) if name == "0" || !name.starts_with(['0', '+']) => items.get(place),
            _ => return Fit::Undecided(Cause::Borrowed("is reached through a list")),
        },
        _ => return Fit::Undecided(Cause::Borrowed("is reached through something that is not an object")),
    };
    found.map_or(Fit::Absent, |value| walk(value, rest, test))
}
