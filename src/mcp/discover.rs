//! What a server says about itself to modern clients (`server/discover`, MCP 2026-07-28).

use super::edits::Edits;
use super::era::Revisions;
use super::list::ListError;
use super::members::{Members, Text};

/// The answer with only the versions that are accepted here: what nobody can judge is not offered. `None` when nothing had
/// to change. `text` is strict JSON.
///
/// # Errors
/// The result cannot be read without doubt.
pub fn narrow(text: &str, revisions: &Revisions) -> Result<Option<Vec<u8>>, ListError> {
    let envelope = Members::of(text).ok_or(ListError::Message)?;
    let Some(result) = envelope.value("result") else { return Ok(None) };
    let result = Members::of(result.get()).ok_or(ListError::NoList)?;
    if result.look_alike(&["supportedVersions"]).is_some() {
        return Err(ListError::NoList);
    }
    let Some(list) = result.value("supportedVersions") else { return Ok(None) };
    let offered: Vec<Text<'_>> = serde_json::from_str(list.get()).or(Err(ListError::NoList))?;
    let accepted: Vec<&str> =
        offered.iter().map(|version| version.0.as_ref()).filter(|version| revisions.accepts(version)).collect();
    let mut edits = Edits::of(text);
    if accepted.len() < offered.len() {
        edits.replace(list, serde_json::json!(accepted).to_string());
    }
    Ok(edits.apply())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_accepted_versions_are_offered_and_all_else_is_untouched() {
        let answer = |versions: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"supportedVersions":{versions}, "x": 1.0}}}}"#)
        };
        let only = Revisions::of(&["2025-11-25"]).unwrap();
        let narrowed = |versions: &str, revisions: &Revisions| {
            narrow(&answer(versions), revisions).map(|out| out.map(|out| String::from_utf8(out).unwrap()))
        };
        let both = r#"["2026-07-28", "2025-11-25"]"#;
        assert_eq!(narrowed(both, &only), Ok(Some(answer(r#"["2025-11-25"]"#))));
        assert_eq!(narrowed(both, &Revisions::all()), Ok(None));
        assert_eq!(narrowed(r#"["2031-01-01"]"#, &Revisions::all()), Ok(Some(answer("[]"))), "nobody knows it yet");
        assert!(narrowed("{}", &only).is_err());
        assert_eq!(narrow(r#"{"jsonrpc":"2.0","id":1,"error":{}}"#, &only), Ok(None));
    }
}
