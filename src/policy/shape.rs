//! What the schema finds wrong, in the words of the file and at the place in the file.

use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::document::scalar::FORMS;
use super::schema;
use super::tree::{Tree, escaped};
use super::{codes, mask};
use crate::diagnostics::{Diagnostic, Place, Report};

/// Checks a file against its schema.
#[must_use]
pub fn check(tree: &Tree, kind: schema::Kind) -> Report {
    let mut report = Report::default();
    let Some(validator) = kind.validator() else {
        report.push(Diagnostic::error(
            codes::SYNTAX,
            "the schema of this kind of file is broken; this is a defect of portcullis",
        ));
        return report;
    };
    for error in validator.iter_errors(&tree.value) {
        for diagnostic in explain(tree, kind, &error) {
            report.push(diagnostic);
        }
    }
    report
}

fn explain(tree: &Tree, kind: schema::Kind, error: &ValidationError<'_>) -> Vec<Diagnostic> {
    let pointer = error.instance_path().as_str();
    let instance = error.instance();
    match error.kind() {
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let known = known_keys(kind, error);
            unexpected.iter().map(|key| unknown_key(tree, kind, pointer, key, &known)).collect()
        }
        Kind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let diagnostic = Diagnostic::error(codes::MISSING_KEY, format!("the key `{key}` is missing"));
            let diagnostic = diagnostic.at(tree.key_at(pointer));
            vec![match description(kind, error, key) {
                Some(words) => diagnostic.help(format!("add `{key}`: {words}")),
                None => diagnostic,
            }]
        }
        Kind::Type { .. } if pointer.is_empty() && instance.is_null() => vec![says_nothing(tree, kind)],
        Kind::Type { kind: wanted } => {
            let diagnostic = wrong_type(tree, pointer, instance, wanted);
            let known = known_keys(kind, error);
            vec![if diagnostic.code == codes::WRONG_TYPE && diagnostic.help.is_none() && !known.is_empty() {
                diagnostic.help(format!("write its keys: {}", ticked(&known)))
            } else {
                diagnostic
            }]
        }
        Kind::Enum { options } => {
            let words: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            vec![invalid_word(tree, pointer, instance, &words)]
        }
        Kind::AnyOf { .. } => {
            let keys = branch_keys(kind, error);
            let message = format!("one of the keys {} is missing", ticked(&keys));
            let diagnostic = Diagnostic::error(codes::MISSING_KEY, message).at(tree.key_at(pointer));
            let words = |key: &&str| Some(format!("`{key}`: {}", description(kind, error, key)?));
            let help: Vec<String> = keys.iter().filter_map(words).collect();
            vec![diagnostic.help(format!("add {}", help.join("; or ")))]
        }
        Kind::OneOfNotValid { context } | Kind::OneOfMultipleValid { context } if !context.is_empty() => {
            vec![one_of(tree, kind, pointer, error)]
        }
        Kind::MinProperties { .. } | Kind::MaxProperties { .. } => {
            let known = known_keys(kind, error);
            let word = if matches!(error.kind(), Kind::MaxProperties { .. }) { "exactly one" } else { "at least one" };
            vec![
                Diagnostic::error(codes::INVALID_VALUE, format!("{word} of {} is needed here", ticked(&known)))
                    .at(tree.key_at(pointer)),
            ]
        }
        Kind::Pattern { pattern } => {
            let words =
                FORMS.iter().find(|form| form.pattern == pattern).map_or("text of another form", |form| form.words);
            vec![
                Diagnostic::error(codes::INVALID_VALUE, format!("{} is not {words}", quoted(pointer, instance)))
                    .at(tree.value_at(pointer)),
            ]
        }
        Kind::MinItems { .. } => {
            vec![
                Diagnostic::error(codes::INVALID_VALUE, "the list is empty")
                    .at(tree.value_at(pointer))
                    .help("leave the key out, or name at least one"),
            ]
        }
        Kind::MinLength { .. } => {
            vec![Diagnostic::error(codes::INVALID_VALUE, "the text is empty").at(tree.value_at(pointer))]
        }
        Kind::Minimum { limit } => {
            vec![
                Diagnostic::error(codes::INVALID_VALUE, format!("the number is below {limit}"))
                    .at(tree.value_at(pointer)),
            ]
        }
        _ => vec![Diagnostic::error(codes::INVALID_VALUE, plain(pointer, error)).at(tree.value_at(pointer))],
    }
}

/// The validator's own words, unless they would quote a secret.
fn plain(pointer: &str, error: &ValidationError<'_>) -> String {
    if mask::is_secret(pointer, error.instance()) {
        "the value is not accepted here".to_owned()
    } else {
        error.masked().to_string()
    }
}

/// An empty file is a mapping that was not begun.
fn says_nothing(tree: &Tree, kind: schema::Kind) -> Diagnostic {
    let place = Place { source: Arc::clone(&tree.source), range: 0..0 };
    let needed = kind.schema().pointer("/required").and_then(Value::as_array);
    let needed: Vec<&str> = needed.into_iter().flatten().filter_map(Value::as_str).collect();
    Diagnostic::error(codes::MISSING_KEY, "the file says nothing")
        .at(place)
        .help(format!("it needs {}", ticked(&needed)))
}

/// What the schema says of a key beside which `error` was found: one clause in lower case.
fn description(kind: schema::Kind, error: &ValidationError<'_>, key: &str) -> Option<String> {
    let (owner, _) = error.schema_path().as_str().rsplit_once('/')?;
    let words = kind.schema().pointer(&format!("{owner}/properties/{}/description", escaped(key)))?.as_str()?;
    let mut rest = words.split(". ").next()?.trim_end_matches('.').chars();
    let first = rest.next()?;
    let acronym = rest.clone().next().is_some_and(char::is_uppercase);
    Some(if acronym { words.to_owned() } else { first.to_lowercase().chain(rest).collect() })
}

fn unknown_key(tree: &Tree, kind: schema::Kind, pointer: &str, key: &str, known: &[String]) -> Diagnostic {
    let place = tree.key_at(&format!("{pointer}/{}", escaped(key)));
    let diagnostic = Diagnostic::error(codes::UNKNOWN_KEY, format!("the key `{key}` means nothing here")).at(place);
    let others = [
        (schema::Kind::Installation, "`portcullis.yaml`"),
        (schema::Kind::Policy, "a policy"),
        (schema::Kind::Users, "the file that a `local` provider names"),
    ];
    let knows = |other: schema::Kind| other.schema().pointer(&format!("/properties/{}", escaped(key))).is_some();
    if let Some((_, place)) = others.iter().find(|(other, _)| pointer.is_empty() && *other != kind && knows(*other)) {
        return diagnostic.help(format!("it belongs into {place}"));
    }
    match super::suggest::nearest(key, known.iter().map(String::as_str)) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("known here: {}", ticked(known))),
    }
}

fn wrong_type(tree: &Tree, pointer: &str, instance: &Value, kind: &TypeKind) -> Diagnostic {
    let place = tree.value_at(pointer);
    let wanted: Vec<JsonType> = match kind {
        TypeKind::Single(kind) => vec![*kind],
        TypeKind::Multiple(kinds) => kinds.iter().collect(),
    };
    if mask::is_secret(pointer, instance) {
        return Diagnostic::error(codes::LITERAL_SECRET, "a secret is written into the file")
            .at(place)
            .help("refer to it: `{ env: NAME }` or `{ file: path }`; and renew it, since it was stored in clear");
    }
    let word = instance.as_str().unwrap_or_default().to_ascii_lowercase();
    if wanted.contains(&JsonType::Boolean) && matches!(word.as_str(), "yes" | "no" | "on" | "off" | "y" | "n") {
        return Diagnostic::error(codes::NOT_A_BOOLEAN, format!("`{}` is text", instance.as_str().unwrap_or_default()))
            .at(place)
            .help("write `true` or `false`");
    }
    let wanted: Vec<&str> = wanted.into_iter().map(type_word).collect();
    let diagnostic = Diagnostic::error(
        codes::WRONG_TYPE,
        format!("{} is wanted here, not {}", wanted.join(" or "), word_of(instance)),
    )
    .at(place);
    match instance {
        Value::Null => diagnostic.help("give it a value, or leave the key out"),
        Value::String(text) if wanted == ["a list"] => diagnostic.help(format!("write `[{text}]`")),
        Value::Object(_) if wanted == ["a list"] => diagnostic.help("begin each of its items with `-`"),
        _ => diagnostic,
    }
}

fn invalid_word(tree: &Tree, pointer: &str, instance: &Value, words: &[&str]) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(codes::INVALID_VALUE, format!("{} is not accepted here", quoted(pointer, instance)))
            .at(tree.value_at(pointer));
    // Among dates and algorithms the nearest is hardly the one that was meant.
    let word = instance.as_str().filter(|text| !text.contains(|c: char| c.is_ascii_digit())).unwrap_or_default();
    match super::suggest::nearest(word, words.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("one of {}", ticked(words))),
    }
}

/// The schemas use `oneOf` to list words, and to say which keys exclude each other.
fn one_of(tree: &Tree, kind: schema::Kind, pointer: &str, error: &ValidationError<'_>) -> Diagnostic {
    let branches = kind.schema().pointer(error.schema_path().as_str()).and_then(Value::as_array);
    let constant = |branch: &'static Value| -> Vec<&'static str> {
        let listed = branch.get("enum").and_then(Value::as_array).into_iter().flatten();
        branch.get("const").into_iter().chain(listed).filter_map(Value::as_str).collect()
    };
    let words: Vec<&str> = branches.into_iter().flatten().flat_map(constant).collect();
    if !words.is_empty() {
        return invalid_word(tree, pointer, error.instance(), &words);
    }
    let keys = branch_keys(kind, error);
    Diagnostic::error(codes::INVALID_VALUE, format!("exactly one of {} is needed here", ticked(&keys)))
        .at(tree.key_at(pointer))
}

/// The first key that each branch of the schema asks for, where `error` was found.
fn branch_keys(kind: schema::Kind, error: &ValidationError<'_>) -> Vec<&'static str> {
    let branches = kind.schema().pointer(error.schema_path().as_str()).and_then(Value::as_array);
    branches.into_iter().flatten().filter_map(|branch| branch.pointer("/required/0")?.as_str()).collect()
}

/// The keys that the schema knows where `error` was found.
fn known_keys(kind: schema::Kind, error: &ValidationError<'_>) -> Vec<String> {
    let path = error.schema_path().as_str();
    let owner = path.rsplit_once('/').map_or("", |(owner, _)| owner);
    let properties = kind.schema().pointer(&format!("{owner}/properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

fn ticked(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| format!("`{}`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

fn quoted(pointer: &str, instance: &Value) -> String {
    if mask::is_secret(pointer, instance) {
        return "the value".to_owned();
    }
    match instance {
        Value::String(text) => format!("`{text}`"),
        Value::Array(_) | Value::Object(_) => word_of(instance).to_owned(),
        scalar => format!("`{scalar}`"),
    }
}

fn type_word(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "`true` or `false`",
        JsonType::Integer => "a whole number",
        JsonType::Null => "nothing",
        JsonType::Number => "a number",
        JsonType::Object => "a mapping",
        JsonType::String => "text",
    }
}

fn word_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "`true` or `false`",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
