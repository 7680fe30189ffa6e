//! Hides what may be a secret in the text that reports quote.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::Value;

use super::tree::Tree;
use crate::diagnostics::Source;

/// Keys under which only references belong, or under which careless people write secrets.
const SECRET_KEYS: [&str; 11] = [
    "secret",
    "secrets",
    "client_secret",
    "client_key",
    "encryption_keys",
    "password",
    "passphrase",
    "token",
    "credential",
    "private_key",
    "api_key",
];
/// Keys below those that hold references and no secrets.
const REFERENCES: [&str; 7] = ["env", "file", "name", "sha256", "header", "prefix", "expires"];

/// User names and passwords in URLs.
static USER_INFO: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"://([^/\s@'"]+)@"#).ok());

/// The source of a tree with every scalar masked that stands where a secret could.
#[must_use]
pub fn secrets(tree: &Tree) -> Arc<Source> {
    let mut ranges: Vec<Range<usize>> =
        tree.scalars().filter(|(pointer, value, _)| is_secret(pointer, value)).map(|(_, _, range)| range).collect();
    ranges.extend(user_info(&tree.source.text));
    if ranges.is_empty() {
        return Arc::clone(&tree.source);
    }
    let text = masked(&tree.source.text, ranges);
    Arc::new(Source { name: tree.source.name.clone(), text })
}

/// Whether the value at `pointer` is a literal where a reference belongs.
#[must_use]
pub fn is_secret(pointer: &str, value: &Value) -> bool {
    let mut segments = pointer.rsplit('/').filter(|segment| segment.parse::<usize>().is_err());
    let last = segments.next().unwrap_or_default();
    let named = |segment: &str| SECRET_KEYS.contains(&segment.to_ascii_lowercase().as_str());
    let inside =
        segments.next().is_some_and(|parent| parent != "providers" && named(parent)) && !REFERENCES.contains(&last);
    !matches!(value, Value::Null | Value::Bool(_)) && (named(last) || inside)
}

/// Masks values behind secret-like keys in a text that could not be parsed.
#[must_use]
pub fn lines(text: &str) -> String {
    let keys = SECRET_KEYS.join("|");
    let Ok(behind_key) = Regex::new(&format!(r#"(?i)\b(?:{keys})["']?\s*:\s*([^\s\{{\[].*)"#)) else {
        return String::new();
    };
    let values = behind_key.captures_iter(text).filter_map(|captures| Some(captures.get(1)?.range()));
    masked(text, values.chain(user_info(text)))
}

fn user_info(text: &str) -> Vec<Range<usize>> {
    let found = USER_INFO.iter().flat_map(|pattern| pattern.captures_iter(text));
    found.filter_map(|captures| Some(captures.get(1)?.range())).collect()
}

/// The text with stars in these ranges; lines stay lines.
fn masked(text: &str, ranges: impl IntoIterator<Item = Range<usize>>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for range in ranges {
        for byte in bytes.get_mut(range).into_iter().flatten().filter(|byte| **byte != b'\n') {
            *byte = b'*';
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let source = Arc::new(Source { name: "p.yaml".into(), text: text.into() });
        Tree::parse(&source).unwrap().source.text.clone()
    }

    #[test]
    fn literals_are_masked_and_references_are_not() {
        assert_eq!(masked("secret: hunter2 # x\n"), "secret: ******* # x\n");
        assert_eq!(masked("secrets: [hunter2, { env: A }]\n"), "secrets: [*******, { env: A }]\n");
        assert_eq!(masked("secrets:\n  - { value: hunter2 }\n"), "secrets:\n  - { value: ******* }\n");
        assert_eq!(masked("secret: { env: OWN_SECRET }\n"), "secret: { env: OWN_SECRET }\n");
        assert_eq!(masked("a: { b: c }\n"), "a: { b: c }\n");
        let several = masked("secret: |\n  one\n  two\na: b\n");
        assert!(!several.contains("one") && !several.contains("two") && several.ends_with("\na: b\n"), "{several}");
        assert_eq!(masked("url: http://me:hunter2@host/x@y\n"), "url: http://**********@host/x@y\n");
    }

    #[test]
    fn a_text_that_is_no_yaml_shows_no_secret_either() {
        assert_eq!(lines("a: [\nsecret: hunter2\nb: c"), "a: [\nsecret: *******\nb: c");
        assert_eq!(lines("secret: { env: A }"), "secret: { env: A }");
    }
}
