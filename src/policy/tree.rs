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

use super::{codes, mask};
use crate::diagnostics::{Diagnostic, Place, Source};

/// Aliases and anchors that one file may use.
const MOST_ALIASES: usize = 32;
/// Mappings and lists inside each other.
const DEEPEST: usize = 32;
/// Values in one file.
const MOST_NODES: usize = 100_000;

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
    value: Range<usize>,
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
        let range = range_of(&node, &source.text);
        let value = flatten(node.value, &source.text, String::new(), Spot { key: None, value: range }, &mut spots);
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

    /// Every scalar with its pointer and range.
    pub(super) fn scalars(&self) -> impl Iterator<Item = (&str, &Value, Range<usize>)> {
        self.spots.iter().filter_map(|(pointer, spot)| {
            let value = self.value.pointer(pointer)?;
            (!value.is_object() && !value.is_array()).then(|| (pointer.as_str(), value, spot.value.clone()))
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
    budget.max_documents = 1;
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

/// What ended parsing. The snippet must not show a secret, and the tree that tells where one is does not exist yet.
fn refusal(error: &serde_yaml::Error, source: &Source) -> Diagnostic {
    use serde_yaml::Error as E;
    let at = error.location().and_then(|location| location.span().byte_offset());
    let start = at.and_then(|at| usize::try_from(at).ok()).unwrap_or_default().min(source.text.len());
    let masked = Arc::new(Source { name: source.name.clone(), text: mask::lines(&source.text) });
    let rest = masked.text.get(start..).unwrap_or_default();
    let word =
        rest.find(|c: char| c.is_whitespace() || c == ':' || c == ',').unwrap_or(rest.len()).max(1).min(rest.len());
    let range = start..start + word;
    let diagnostic = match error.without_snippet() {
        E::DuplicateMappingKey { .. } => {
            let key = masked.text.get(range.clone()).unwrap_or_default();
            Diagnostic::error(codes::DUPLICATE_KEY, format!("the key `{key}` occurs twice")).help("keep one of them")
        }
        E::Budget { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. }
        | E::AliasReplayCounterOverflow { .. } => Diagnostic::error(
            codes::BUDGET,
            "the file nests too deeply, repeats too much or is too long to be a policy",
        )
        .help(format!("at most {DEEPEST} levels, {MOST_ALIASES} aliases and {MOST_NODES} values are read")),
        E::MultipleDocuments { .. } => {
            Diagnostic::error(codes::SEVERAL_DOCUMENTS, "the file holds more than one YAML document")
                .help("write one policy per file, without `---` between")
        }
        _ => Diagnostic::error(codes::SYNTAX, said(error)),
    };
    diagnostic.at(Place { source: masked, range })
}

/// The parser's own words, without the place that the report gives by itself.
fn said(error: &serde_yaml::Error) -> String {
    let text = error.without_snippet().render();
    let text = text.lines().next().unwrap_or_default();
    let text = text.split(" at line ").next().unwrap_or(text);
    text.trim_start_matches("error: ").to_owned()
}

fn range_of<T>(spanned: &Spanned<T>, text: &str) -> Range<usize> {
    let span = spanned.referenced.span();
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or_default();
    let start = number(span.byte_offset()).min(text.len());
    let length = number(span.byte_len());
    let line = text.get(start..).map_or(0, |rest| rest.find('\n').unwrap_or(rest.len()));
    // A mapping or list is shown by its first line only.
    let end = start + if length == 0 { line } else { length.min(line) };
    let shown = text.get(start..end).map_or(0, |shown| shown.trim_end().len());
    start..start + shown
}

fn flatten(node: Node, text: &str, pointer: String, spot: Spot, spots: &mut HashMap<String, Spot>) -> Value {
    let value = match node {
        Node::Scalar(value) => value,
        Node::List(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                let spot = Spot { key: None, value: range_of(&item, text) };
                flatten(item.value, text, format!("{pointer}/{index}"), spot, spots)
            })
            .collect(),
        Node::Mapping(members) => {
            let mut object = Map::new();
            for (key, member) in members {
                let spot = Spot { key: Some(range_of(&key, text)), value: range_of(&member, text) };
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
