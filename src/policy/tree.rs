//! YAML text as a tree of values in which every key and value knows its place.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_yaml::options::{AliasLimits, MergeKeyPolicy};
use serde_yaml::{Budget, Options, Spanned};

use super::mask;
use super::refusal::refusal;
use crate::diagnostics::{Diagnostic, Place, Source};

/// Aliases and anchors that one file may use.
pub(super) const MOST_ALIASES: usize = 32;
/// Mappings and lists inside each other.
pub(super) const DEEPEST: usize = 32;
/// Values in one file.
pub(super) const MOST_NODES: usize = 100_000;

/// A parsed file. Values are plain JSON; places are found by JSON Pointer (RFC 6901).
#[derive(Debug)]
pub struct Tree {
    /// The text, with what looks like a secret masked: no report can show one.
    pub source: Arc<Source>,
    /// What it says.
    pub value: Value,
    spots: HashMap<String, Spot>,
}

#[derive(Debug, Clone)]
struct Spot {
    key: Option<Range<usize>>,
    /// What a report underlines: at most one line.
    value: Range<usize>,
    /// All of a scalar, whatever its number of lines.
    whole: Range<usize>,
}

impl Tree {
    /// Parses one YAML document strictly.
    ///
    /// # Errors
    /// The one problem that ends parsing: syntax, a duplicate key, a budget, a second document.
    pub fn parse(source: &Arc<Source>) -> Result<Self, Diagnostic> {
        let parsed = serde_yaml::from_str_with_options::<Spanned<Node>>(&source.text, options());
        let node = parsed.map_err(|error| refusal(&error, source))?;
        let mut spots = HashMap::new();
        let spot = spot_of(None, &node, &source.text);
        let value = flatten(node.value, &source.text, String::new(), spot, &mut spots);
        let mut tree = Self { source: Arc::clone(source), value, spots };
        tree.source = mask::secrets(&tree);
        Ok(tree)
    }

    /// The place of the value at `pointer`, or of the nearest value around it.
    #[must_use]
    pub fn value_at(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            if let Some(spot) = self.spots.get(pointer) {
                return self.place(spot.value.clone());
            }
            let Some((parent, _)) = pointer.rsplit_once('/') else { return self.place(0..0) };
            pointer = parent;
        }
    }

    /// The place of the key at `pointer`; of the value, when it is an element of a list.
    #[must_use]
    pub fn key_at(&self, pointer: &str) -> Place {
        match self.spots.get(pointer) {
            Some(Spot { key: Some(key), .. }) => self.place(key.clone()),
            _ => self.value_at(pointer),
        }
    }

    /// `file:line` of the value at `pointer`.
    #[must_use]
    pub fn line_at(&self, pointer: &str) -> String {
        let place = self.value_at(pointer);
        format!("{}:{}", place.source.name, place.start().0)
    }

    /// The place of `word`, a part of the text at `pointer`, if it stands in the file as it is; `near` is a longer part
    /// around it, of which it begins at byte `at`.
    #[must_use]
    pub fn within(&self, pointer: &str, near: &str, at: usize, word: usize) -> Option<Place> {
        let spot = self.spots.get(pointer)?;
        let written = self.source.text.get(spot.whole.clone())?;
        let start = spot.whole.start + written.find(near)? + at;
        let end = start + word;
        self.source.text.get(start..end).map(|_| self.place(start..end))
    }

    /// Every scalar with its pointer and range.
    pub(super) fn scalars(&self) -> impl Iterator<Item = (&str, &Value, Range<usize>)> {
        self.spots.iter().filter_map(|(pointer, spot)| {
            let value = self.value.pointer(pointer)?;
            (!value.is_object() && !value.is_array()).then(|| (pointer.as_str(), value, spot.whole.clone()))
        })
    }

    fn place(&self, range: Range<usize>) -> Place {
        Place { source: Arc::clone(&self.source), range }
    }
}

/// Escapes one segment of a JSON Pointer.
#[must_use]
pub fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

fn options() -> Options {
    let mut budget = Budget::default();
    // The second is refused by name; the budget would end at it without a word about documents.
    budget.max_documents = 2;
    budget.max_aliases = MOST_ALIASES;
    budget.max_anchors = MOST_ALIASES;
    budget.max_depth = DEEPEST;
    budget.max_nodes = MOST_NODES;
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = 10_000;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits = aliases;
    options.strict_booleans = true;
    options.reject_unsupported_tags = true;
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.merge_keys = MergeKeyPolicy::Error;
    options.with_snippet = false;
    options
}

fn range_of<T>(spanned: &Spanned<T>, text: &str) -> Range<usize> {
    let span = spanned.referenced.span();
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or_default();
    let start = number(span.byte_offset()).min(text.len());
    let length = number(span.byte_len());
    let line = text.get(start..).map_or("", |rest| rest.lines().next().unwrap_or_default());
    // A mapping or list in brackets is shown as a whole, one in lines by its first line.
    let end = start
        + match flow_length(line) {
            Some(length) => length,
            None if length == 0 => line.len(),
            None => length.min(line.len()),
        };
    let shown = text.get(start..end).map_or(0, |shown| shown.trim_end().len());
    start..start + shown
}

/// Bytes of a collection in brackets, when it ends on this line.
fn flow_length(line: &str) -> Option<usize> {
    if !line.starts_with(['{', '[']) {
        return None;
    }
    let (mut open, mut quote) = (0_usize, None);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(begun), _) if begun == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => open += 1,
            (None, '}' | ']') if open == 1 => return Some(at + 1),
            (None, '}' | ']') => open = open.saturating_sub(1),
            (None, _) => {}
        }
    }
    None
}

fn spot_of(key: Option<Range<usize>>, node: &Spanned<Node>, text: &str) -> Spot {
    let value = range_of(node, text);
    let length = node.referenced.span().byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let scalar = matches!(node.value, Node::Scalar(_));
    let whole = if scalar { value.start..value.end.max((value.start + length).min(text.len())) } else { value.clone() };
    Spot { key, value, whole }
}

fn flatten(node: Node, text: &str, pointer: String, spot: Spot, spots: &mut HashMap<String, Spot>) -> Value {
    let value = match node {
        Node::Scalar(value) => value,
        Node::List(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                let spot = spot_of(None, &item, text);
                flatten(item.value, text, format!("{pointer}/{index}"), spot, spots)
            })
            .collect(),
        Node::Mapping(members) => {
            let mut object = Map::new();
            for (key, member) in members {
                let spot = spot_of(Some(range_of(&key, text)), &member, text);
                let pointer = format!("{pointer}/{}", escaped(&key.value));
                object.insert(key.value, flatten(member.value, text, pointer, spot, spots));
            }
            Value::Object(object)
        }
    };
    spots.insert(pointer, spot);
    value
}

enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Number(value.into())))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value)
            .map(|number| Node::Scalar(Value::Number(number)))
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = elements.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members: Vec<(Spanned<String>, Spanned<Node>)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            if !seen.insert(key.value.clone()) {
                return Err(A::Error::custom(format!("the key `{}` occurs twice", key.value)));
            }
            members.push((key, entries.next_value()?));
        }
        Ok(Node::Mapping(members))
    }
}
