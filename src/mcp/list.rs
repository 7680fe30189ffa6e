//! Takes items out of a list answer and leaves everything else as it was, byte for byte.

use serde_json::value::RawValue;

use super::edits::Edits;
use super::era::Era;
use super::members::{Members, Text};
use super::operation::ItemKind;

/// Why an answer cannot be read as a list. What cannot be read is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Not one JSON-RPC message.
    #[error("not one JSON-RPC message")]
    Message,
    /// The result holds no list of the kind that was asked for.
    #[error("the result holds no list")]
    NoList,
    /// An item has no name, or one that could be read differently.
    #[error("an item has no clear name")]
    Item,
}

impl ItemKind {
    /// The member of the result that holds the list, and the member of an item that names it.
    fn members(self) -> (&'static str, &'static str) {
        match self {
            Self::Tool => ("tools", "name"),
            Self::Prompt => ("prompts", "name"),
            Self::Resource => ("resources", "uri"),
            Self::ResourceTemplate => ("resourceTemplates", "uriTemplate"),
            Self::Task => ("tasks", "taskId"),
        }
    }
}

/// Which of several lists the answer holds: where it is not known what was asked for, answers are told apart by what they
/// are.
#[must_use]
pub fn kinds_of(text: &str, kinds: &[ItemKind]) -> Vec<ItemKind> {
    let result = Members::of(text).and_then(|envelope| Members::of(envelope.value("result")?.get()));
    let Some(result) = result else { return Vec::new() };
    let holds = |kind: &&ItemKind| {
        let (list, _) = kind.members();
        result.value(list).is_some() || result.look_alike(&[list]).is_some()
    };
    kinds.iter().filter(holds).copied().collect()
}

/// The message with only the items that `shows` accepts, in their order; `None` when nothing had to change. A modern
/// result is also marked as private to the caller (MCP 2026-07-28 caching, `cacheScope`). Errors, notifications and
/// requests of the server are left alone. `text` is strict JSON.
///
/// # Errors
/// The message cannot be read without doubt.
pub fn filter(
    text: &str,
    kind: ItemKind,
    era: Era,
    shows: &mut dyn FnMut(&str) -> bool,
) -> Result<Option<Vec<u8>>, ListError> {
    let envelope = Members::of(text).ok_or(ListError::Message)?;
    if envelope.look_alike(&["result", "error", "method"]).is_some() {
        return Err(ListError::Message);
    }
    let Some(raw) = envelope.value("result") else {
        let other = envelope.value("error").is_some() || envelope.value("method").is_some();
        return if other { Ok(None) } else { Err(ListError::Message) };
    };
    let (list_name, item_name) = kind.members();
    let result = Members::of(raw.get()).ok_or(ListError::NoList)?;
    if result.look_alike(&[list_name, "cacheScope"]).is_some() {
        return Err(ListError::NoList);
    }
    let list = result.value(list_name).ok_or(ListError::NoList)?;
    let mut edits = Edits::of(text);
    if let Some(kept) = kept(list, item_name, shows)? {
        edits.replace(list, kept);
    }
    if era == Era::Modern {
        match result.value("cacheScope") {
            Some(scope) if scope.get() == "\"private\"" => {}
            Some(scope) => edits.replace(scope, "\"private\"".to_owned()),
            // The list is there, so the result is not empty and a comma is right.
            None => edits.insert(raw, 1, "\"cacheScope\":\"private\",".to_owned()),
        }
    }
    Ok(edits.apply())
}

/// The text of the list with only what is shown; `None` when that is all.
fn kept(list: &RawValue, name: &str, shows: &mut dyn FnMut(&str) -> bool) -> Result<Option<String>, ListError> {
    let items: Vec<&RawValue> = serde_json::from_str(list.get()).or(Err(ListError::NoList))?;
    let mut kept = Vec::with_capacity(items.len());
    for item in &items {
        let members = Members::of(item.get()).ok_or(ListError::Item)?;
        if members.look_alike(&[name]).is_some() {
            return Err(ListError::Item);
        }
        let text = members.value(name).and_then(Text::of).ok_or(ListError::Item)?;
        if shows(&text) {
            kept.push(item.get());
        }
    }
    Ok((kept.len() < items.len()).then(|| format!("[{}]", kept.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::json;

    fn filtered(message: &str, era: Era, shown: &[&str]) -> Result<Option<String>, ListError> {
        let mut shows = |name: &str| shown.contains(&name);
        let text = json::check(message.as_bytes()).or(Err(ListError::Message))?;
        filter(text, ItemKind::Tool, era, &mut shows).map(|out| out.map(|out| String::from_utf8(out).unwrap()))
    }

    #[test]
    fn k10_only_shown_items_remain_and_all_else_is_untouched() {
        let message = concat!(
            r#"{ "jsonrpc":"2.0", "id" : 7,"result":{"x":[1, 2],"tools":[ {"name":"a","n": 1.0} ,{"name":"\u0062"}, "#,
            r#"{"name":"c" , "inputSchema":{}}],"nextCursor":"","_meta":{"t":9007199254740993}}} "#
        );
        let expected = concat!(
            r#"{ "jsonrpc":"2.0", "id" : 7,"result":{"x":[1, 2],"tools":[{"name":"a","n": 1.0},"#,
            r#"{"name":"c" , "inputSchema":{}}],"nextCursor":"","_meta":{"t":9007199254740993}}} "#
        );
        assert_eq!(filtered(message, Era::Legacy, &["a", "c"]).unwrap().as_deref(), Some(expected));
        assert_eq!(filtered(message, Era::Legacy, &["a", "b", "c"]), Ok(None), "nothing to take out");
        let empty = filtered(message, Era::Legacy, &[]).unwrap().unwrap();
        assert!(empty.contains(r#""tools":[],"nextCursor":"""#), "{empty}");
    }

    #[test]
    fn k10_modern_results_are_private() {
        for (result, expected) in [
            (r#"{"tools":[],"cacheScope":"public"}"#, r#"{"tools":[],"cacheScope":"private"}"#),
            (r#"{"tools":[]}"#, r#"{"cacheScope":"private","tools":[]}"#),
        ] {
            let message = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
            assert_eq!(filtered(&message(result), Era::Modern, &[]).unwrap(), Some(message(expected)));
            assert_eq!(filtered(&message(result), Era::Legacy, &[]), Ok(None));
        }
        assert_eq!(
            filtered(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"cacheScope":"private"}}"#, Era::Modern, &[]),
            Ok(None)
        );
    }

    #[test]
    fn other_messages_pass_as_they_are() {
        for message in [
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#,
        ] {
            assert_eq!(filtered(message, Era::Modern, &[]), Ok(None), "{message}");
        }
    }

    #[test]
    fn k10_what_cannot_be_read_as_a_list_is_an_error() {
        for message in [
            "",
            "[]",
            r#"[{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}]"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"Tools":[{"name":"x"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"TOOLS":[{"name":"x"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":["x"]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"title":"x"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":1}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","Name":"x"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","name":"x"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"x"}]},"Result":{}}"#,
        ] {
            assert!(filtered(message, Era::Legacy, &["a"]).is_err(), "{message}");
        }
    }
}
