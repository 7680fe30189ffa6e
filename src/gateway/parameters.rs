//! Headers that mirror arguments (`Mcp-Param-*`, MCP 2026-07-28 transports, "Custom Headers"): those that a rule's argument
//! could be read from must agree with the body; all others are nobody's business here.

use std::borrow::Cow;

use http::HeaderMap;
use serde_json::value::RawValue;

use crate::engine::access::AccessTable;
use crate::engine::decision::{Denial, Reason};
use crate::mcp::era::decoded;
use crate::mcp::members::{Members, Text};
use crate::mcp::operation::Operation;

const PREFIX: &str = "mcp-param-";

/// Compares the headers of a tool call with its arguments.
///
/// # Errors
/// [`Reason::HeaderMismatch`].
pub fn check(operation: &Operation<'_>, headers: &HeaderMap, access: &AccessTable) -> Result<(), Denial> {
    let Operation::CallTool { name: tool, arguments } = operation else { return Ok(()) };
    for (name, value) in headers {
        let Some(parameter) = name.as_str().strip_prefix(PREFIX).filter(|name| access.reads_argument(tool, name))
        else {
            continue;
        };
        let header = decoded(value.as_bytes().trim_ascii());
        let header = header.as_deref().and_then(|header| std::str::from_utf8(header).ok());
        let agrees = header.is_some_and(|header| mirrors(*arguments, parameter, header));
        if !agrees {
            return Err(Denial::new(Reason::HeaderMismatch).saying("Mcp-Param must be the argument in the body"));
        }
    }
    Ok(())
}

/// Whether some argument of this name, ignoring case, is what the header says.
fn mirrors(arguments: Option<&RawValue>, parameter: &str, header: &str) -> bool {
    let members = arguments.and_then(|arguments| Members::of(arguments.get())).unwrap_or_default();
    let mut named = members.iter().filter(|(name, _)| name.eq_ignore_ascii_case(parameter)).peekable();
    named.peek().is_some() && named.all(|(_, value)| is_spelt(value, header))
}

/// Texts are equal, numbers are equal as numbers, true and false as words.
fn is_spelt(value: &RawValue, header: &str) -> bool {
    let text: Option<Cow<'_, str>> = Text::of(value);
    match text {
        Some(text) => text == header,
        None => value.get() == header || number(value.get()).is_some_and(|value| number(header) == Some(value)),
    }
}

fn number(text: &str) -> Option<f64> {
    let digits = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    text.bytes().all(digits).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k09_a_header_says_what_the_argument_says() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let agrees = |value: &str, header: &str| is_spelt(&raw(value), header);
        for (value, header) in [("\"a\"", "a"), ("\"\\u0061\"", "a"), ("42", "42.0"), ("4.2e1", "42"), ("true", "true")]
        {
            assert!(agrees(value, header), "{value} {header}");
        }
        for (value, header) in [("\"a\"", "A"), ("\"1\"", "1.0"), ("42", "43"), ("true", "1"), ("null", ""), ("{}", "")]
        {
            assert!(!agrees(value, header), "{value} {header}");
        }
        let arguments = raw(r#"{"repo":"a","Repo":"b"}"#);
        assert!(!mirrors(Some(&arguments), "repo", "a"), "two arguments could be meant");
        assert!(!mirrors(None, "repo", "a"), "there is none");
    }
}
