//! What ended the parsing of a file, in words for people and at its place.
//!
//! The text is masked by lines here: the tree that tells where a secret stands does not exist yet.

use std::ops::Range;
use std::sync::Arc;

use serde_yaml::Error;
use serde_yaml::budget::BudgetBreach;

use super::tree::{DEEPEST, MOST_ALIASES, MOST_NODES};
use super::{codes, mask};
use crate::diagnostics::{Diagnostic, Place, Source};

/// The one problem for which `source` is no tree.
pub(super) fn refusal(error: &Error, source: &Source) -> Diagnostic {
    let masked = Arc::new(Source { name: source.name.clone(), text: mask::lines(&source.text) });
    let range = place(error, &masked.text);
    let word = masked.text.get(range.clone()).unwrap_or_default().to_owned();
    explained(original(error), &word).at(Place { source: masked, range })
}

/// The error itself, without what the parser wraps around it.
fn original(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    error
}

fn explained(error: &Error, word: &str) -> Diagnostic {
    let budget = |message: String| Diagnostic::error(codes::BUDGET, message);
    match error {
        Error::DuplicateMappingKey { .. } => {
            Diagnostic::error(codes::DUPLICATE_KEY, format!("the key `{word}` occurs twice")).help("keep one of them")
        }
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            Diagnostic::error(codes::SEVERAL_DOCUMENTS, "the file holds more than one YAML document")
                .help("write one policy per file, without `---` between")
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            budget(format!("the file nests deeper than {DEEPEST} levels")).help("no policy needs so many")
        }
        Error::Budget { breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. }, .. } => {
            budget(format!("the file uses more than {MOST_ALIASES} anchors or aliases")).help("write the values out")
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            budget("the aliases of the file unfold to far more than it says".to_owned()).help("write the values out")
        }
        Error::Budget { .. } => budget(format!("the file holds more than {MOST_NODES} values")),
        Error::UnknownAnchor { .. } => Diagnostic::error(
            codes::SYNTAX,
            "a text that begins with `*` without quotes is an alias, and it names nothing",
        )
        .help("write patterns in quotes: `\"*_notes\"`"),
        Error::MergeKeyNotAllowed { .. } => {
            Diagnostic::error(codes::SYNTAX, "merge keys (`<<`) are not read").help("write the keys out")
        }
        Error::UnsupportedTag { tag, .. } => {
            Diagnostic::error(codes::SYNTAX, format!("the tag `{tag}` means nothing here")).help("remove it")
        }
        _ => syntax(error),
    }
}

/// What the parser says, without the place that the report gives by itself; with help where people often go wrong.
fn syntax(error: &Error) -> Diagnostic {
    let text = error.render();
    let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let text = text.split(" at line ").next().unwrap_or(text).replace('\'', "`");
    let text = text.rsplit_once("mapping, ").map_or(text.as_str(), |(_, end)| end);
    let known = [
        ("tabs disallowed", "a tab cannot indent", Some("indent with spaces")),
        (
            "mapping values are not allowed",
            "a `:` is not expected here",
            Some("check the indentation of this line and of the one above; a text with `: ` in it needs quotes"),
        ),
        ("did not find expected `,` or `}`", "a mapping in braces has no end", Some("`,` or `}` is missing")),
        ("did not find expected `,` or `]`", "a list in brackets has no end", Some("`,` or `]` is missing")),
        ("unclosed bracket", text, Some("close it, or put the text into quotes")),
        ("mismatched bracket", text, Some("every `[` ends with `]` and every `{` with `}`")),
    ];
    let (message, help) = known
        .into_iter()
        .find(|(said, _, _)| text.contains(said))
        .map_or((text, None), |(_, message, help)| (message, help));
    let diagnostic = Diagnostic::error(codes::SYNTAX, message);
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// The word at which the parser stopped.
fn place(error: &Error, text: &str) -> Range<usize> {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let start = error.location().map_or(0, |location| match location.span().byte_offset() {
        Some(byte) if byte > 0 => number(byte),
        _ => byte_of(text, number(location.line()), number(location.column())),
    });
    let start = start.min(text.len());
    let rest = text.get(start..).unwrap_or_default();
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let word = rest.find(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ']' | '}')).unwrap_or(rest.len());
    start..start + word.max(first)
}

/// The byte at a line and column, both from 1; columns count characters.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(byte, _)| byte)
}
