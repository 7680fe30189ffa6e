//! What is wrong with a condition, in words for people and at its place within the expression.

use std::ops::Range;

use super::context::Context;
use crate::diagnostics::Diagnostic;
use crate::engine::access::condition::ConditionError;
use crate::policy::{codes, suggest};

const NAMES: [&str; 6] = ["claims", "issuer", "subject", "client", "operation", "arguments"];
const FUNCTIONS: [&str; 17] = [
    "size",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "lowerAscii",
    "upperAscii",
    "int",
    "double",
    "string",
    "dyn",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
];
const FIELDS: [&str; 4] = ["kind", "method", "name", "uri"];

/// Reports why the expression at `pointer` does not compile.
pub(super) fn refuse(context: &mut Context<'_>, error: &ConditionError, expression: &str, pointer: &str) {
    let (message, help) = explained(error, expression);
    let diagnostic = Diagnostic::error(codes::INVALID_EXPRESSION, message);
    let diagnostic = match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    };
    let place = spot(error, expression).and_then(|spot| {
        let line = line_around(expression, spot.start);
        let word = expression.get(spot.clone())?;
        let by_line = context.tree.within(pointer, expression.get(line.clone())?, spot.start - line.start, word.len());
        // A folded text has other lines than its value; a name is found in it all the same.
        by_line.or_else(|| context.tree.within(pointer, word, 0, word.len()).filter(|_| word.len() > 1))
    });
    match place {
        Some(place) => context.report.push(diagnostic.at(place)),
        None => context.push(diagnostic, pointer),
    }
}

fn explained(error: &ConditionError, expression: &str) -> (String, Option<String>) {
    let near = |word: &str, known: &[&'static str]| {
        suggest::nearest(word, known.iter().copied()).map(|near| format!("did you mean `{near}`?"))
    };
    let listed = |known: &[&str]| Some(format!("known are {}", known.join(", ")));
    match error {
        ConditionError::Syntax { message, .. } => {
            let (message, help) = syntax(message, word_at(error, expression));
            (message, help.map(str::to_owned))
        }
        ConditionError::UnknownVariable(name) => {
            (format!("`{name}` is not known"), near(name, &NAMES).or_else(|| listed(&NAMES)))
        }
        ConditionError::UnknownFunction(name) => {
            (format!("the function `{name}` is not known"), near(name, &FUNCTIONS).or_else(|| listed(&FUNCTIONS)))
        }
        ConditionError::UnknownField(name) => {
            (format!("`operation` has no `{name}`"), near(name, &FIELDS).or_else(|| listed(&FIELDS)))
        }
        ConditionError::Scopes => {
            ("conditions cannot see scopes".into(), Some("name them under `scopes` of the rule".into()))
        }
        ConditionError::Arguments => (
            "`when` cannot read arguments, for it is decided for lists too".into(),
            Some("write `when_arguments`, or a matcher under `arguments`".into()),
        ),
        ConditionError::NoArguments => {
            ("`when_arguments` does not read `arguments`".into(), Some("write `when`: it counts for lists too".into()))
        }
        other => (other.to_string(), None),
    }
}

/// The words of the generated parser, made readable.
fn syntax(said: &str, word: &str) -> (String, Option<&'static str>) {
    let help = match word.trim() {
        "=" => Some("compare with `==`"),
        "and" => Some("write `&&`"),
        "or" => Some("write `||`"),
        "not" => Some("write `!`"),
        "&" => Some("write `&&`"),
        "|" => Some("write `||`"),
        _ => None,
    };
    let said = said.trim_start_matches("Syntax error: ");
    if let Some(missing) = said.strip_prefix("missing ").and_then(|rest| rest.split(" at ").next()) {
        return (format!("{} is missing", missing.replace('\'', "`")), help);
    }
    if said.starts_with("mismatched input '<EOF>'") || said.starts_with("Incomplete") || word.is_empty() {
        return ("the expression ends too early".to_owned(), help);
    }
    (format!("`{}` is not expected here", word.trim()), help)
}

/// The part of the expression that is wrong, when the error tells.
fn spot(error: &ConditionError, expression: &str) -> Option<Range<usize>> {
    let named = |name: &str| {
        let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        expression.match_indices(name).map(|(at, _)| at..at + name.len()).find(|found| {
            let before = expression.get(..found.start).and_then(|text| text.chars().next_back());
            let after = expression.get(found.end..).and_then(|text| text.chars().next());
            !part(before) && !part(after)
        })
    };
    match error {
        ConditionError::UnknownVariable(name)
        | ConditionError::UnknownFunction(name)
        | ConditionError::UnknownField(name) => named(name),
        ConditionError::Scopes => named("scopes"),
        ConditionError::Arguments => named("arguments"),
        ConditionError::Syntax { message, .. } if message.starts_with("Incomplete") => {
            Some(expression.trim_end().len()..expression.trim_end().len())
        }
        ConditionError::Syntax { line, column, .. } => {
            let start: usize = expression.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
            let rest = expression.get(start..)?;
            let start = start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
            let start = start.min(expression.trim_end().len());
            let rest = expression.get(start..)?;
            let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let first = rest.chars().next().map_or(0, char::len_utf8);
            Some(start..start + word.max(first))
        }
        _ => None,
    }
}

fn word_at<'e>(error: &ConditionError, expression: &'e str) -> &'e str {
    spot(error, expression).and_then(|spot| expression.get(spot)).unwrap_or_default()
}

fn line_around(expression: &str, at: usize) -> Range<usize> {
    let start = expression.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let end = expression.get(at..).and_then(|after| after.find('\n')).map_or(expression.len(), |length| at + length);
    start..end
}
