//! What one MCP message asks for.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::members::{Members, Text};
use super::message::{ErrorKind, MessageError};

/// What one MCP message asks for, with the name that a policy governs (MCP schema, client requests and notifications).
#[derive(Debug, Clone)]
pub enum Operation<'a> {
    /// `tools/call`.
    CallTool {
        /// `params.name`, unescaped.
        name: Cow<'a, str>,
        /// `params.arguments`, as written.
        arguments: Option<&'a RawValue>,
    },
    /// `prompts/get`.
    GetPrompt {
        /// `params.name`, unescaped.
        name: Cow<'a, str>,
        /// `params.arguments`, as written.
        arguments: Option<&'a RawValue>,
    },
    /// `resources/read`.
    ReadResource {
        /// `params.uri`, unescaped.
        uri: Cow<'a, str>,
    },
    /// `resources/subscribe` and `resources/unsubscribe`: follow the rule of the resource.
    SubscribeResource {
        /// `params.uri`, unescaped.
        uri: Cow<'a, str>,
    },
    /// `completion/complete` on a prompt: follows the rule of the prompt.
    CompletePrompt {
        /// `params.ref.name`, unescaped.
        name: Cow<'a, str>,
    },
    /// `completion/complete` on a resource template: follows the rule of the resource.
    CompleteResource {
        /// `params.ref.uri`, unescaped.
        uri: Cow<'a, str>,
    },
    /// `subscriptions/listen`: each entry follows the rule of the resource that it names.
    Listen {
        /// `params.notifications.resourceSubscriptions`, unescaped.
        uris: Vec<Cow<'a, str>>,
    },
    /// One of the four list methods: needs no rule, its answer is filtered.
    List(ItemKind),
    /// What needs no rule but a valid token: `initialize`, `server/discover`, `ping`, lifecycle, progress and cancel
    /// notifications, and on the caller's own session or task client responses and `tasks/*`.
    Lifecycle {
        /// The method, or `response` for a client's answer to a server request.
        method: Cow<'a, str>,
    },
    /// Everything else, `logging/setLevel` included: needs `methods:` in a rule.
    Method {
        /// The method, unescaped.
        method: Cow<'a, str>,
        /// Whether the specification names it, for 403 and not 404 when no rule does.
        specified: bool,
    },
}

/// The four kinds of item that a server lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// `tools/list`, named by `name`.
    Tool,
    /// `prompts/list`, named by `name`.
    Prompt,
    /// `resources/list`, named by `uri`.
    Resource,
    /// `resources/templates/list`, named by `uriTemplate`.
    ResourceTemplate,
    /// `tasks/list`, named by `taskId`: not a matter of rules, but of who made a task.
    Task,
}

impl ItemKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Tool, Self::Prompt, Self::Resource, Self::ResourceTemplate, Self::Task];
}

/// What the gateway reads of `params`, over all methods.
const PARAMS: [&str; 12] = [
    "name",
    "arguments",
    "uri",
    "ref",
    "_meta",
    "notifications",
    "cursor",
    "taskId",
    "inputResponses",
    "requestState",
    "protocolVersion",
    "level",
];
/// Methods that need no rule but a valid token.
const LIFECYCLE: [&str; 13] = [
    "initialize",
    "server/discover",
    "ping",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/cancel",
    "tasks/update",
];

/// Reads what `method` with `params` asks for.
pub(super) fn read<'a>(method: &Cow<'a, str>, params: &Members<'a>) -> Result<Operation<'a>, MessageError> {
    if params.look_alike(&PARAMS).is_some() {
        return Err(wrong("a member of `params` looks like another member"));
    }
    let text = |members: &Members<'a>, name: &str, what: &'static str| {
        members.value(name).and_then(Text::of).filter(|text| !text.is_empty()).ok_or(wrong(what))
    };
    let name = || text(params, "name", "`params.name` must be a string");
    let uri = || text(params, "uri", "`params.uri` must be a string");
    Ok(match method.as_ref() {
        "tools/call" => Operation::CallTool { name: name()?, arguments: arguments(params)? },
        "prompts/get" => Operation::GetPrompt { name: name()?, arguments: arguments(params)? },
        "resources/read" => Operation::ReadResource { uri: uri()? },
        "resources/subscribe" | "resources/unsubscribe" => Operation::SubscribeResource { uri: uri()? },
        "completion/complete" => complete(params)?,
        "subscriptions/listen" => Operation::Listen { uris: texts(params, "resourceSubscriptions")? },
        "tools/list" => Operation::List(ItemKind::Tool),
        "prompts/list" => Operation::List(ItemKind::Prompt),
        "resources/list" => Operation::List(ItemKind::Resource),
        "resources/templates/list" => Operation::List(ItemKind::ResourceTemplate),
        known if LIFECYCLE.contains(&known) => Operation::Lifecycle { method: method.clone() },
        other => Operation::Method { specified: other == "logging/setLevel", method: method.clone() },
    })
}

/// The tasks that a message is about.
pub(super) fn tasks<'a>(method: &str, params: &Members<'a>) -> Result<Vec<Cow<'a, str>>, MessageError> {
    match method {
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" | "notifications/tasks/status" => {
            let task = params.value("taskId").and_then(Text::of).filter(|task| !task.is_empty());
            Ok(vec![task.ok_or(wrong("`params.taskId` must be a string"))?])
        }
        "subscriptions/listen" => texts(params, "taskIds"),
        _ => Ok(Vec::new()),
    }
}

fn wrong(what: &'static str) -> MessageError {
    MessageError::new(ErrorKind::InvalidParams, what)
}

/// An object or null: null is judged by the rules that read it, and forwarded as it is.
fn arguments<'a>(params: &Members<'a>) -> Result<Option<&'a RawValue>, MessageError> {
    match params.value("arguments") {
        Some(value) if value.get() != "null" && !value.get().starts_with('{') => {
            Err(wrong("`params.arguments` must be an object"))
        }
        arguments => Ok(arguments),
    }
}

/// `ref/prompt` names a prompt, `ref/resource` a template.
fn complete<'a>(params: &Members<'a>) -> Result<Operation<'a>, MessageError> {
    let of = params.value("ref").and_then(|of| Members::of(of.get())).ok_or(wrong("`params.ref` must be an object"))?;
    if of.look_alike(&["type", "name", "uri"]).is_some() {
        return Err(wrong("a member of `params.ref` looks like another member"));
    }
    let text = |name: &str| {
        of.value(name).and_then(Text::of).filter(|text| !text.is_empty()).ok_or(wrong("`params.ref` is incomplete"))
    };
    match text("type")?.as_ref() {
        "ref/prompt" => Ok(Operation::CompletePrompt { name: text("name")? }),
        "ref/resource" => Ok(Operation::CompleteResource { uri: text("uri")? }),
        _ => Err(wrong("`params.ref.type` must be `ref/prompt` or `ref/resource`")),
    }
}

/// A list of texts in `params.notifications` of `subscriptions/listen`.
fn texts<'a>(params: &Members<'a>, list: &str) -> Result<Vec<Cow<'a, str>>, MessageError> {
    let Some(wanted) = params.value("notifications") else { return Ok(Vec::new()) };
    let wanted = Members::of(wanted.get()).ok_or(wrong("`params.notifications` must be an object"))?;
    if wanted.look_alike(&["resourceSubscriptions", "taskIds"]).is_some() {
        return Err(wrong("a member of `params.notifications` looks like another member"));
    }
    let Some(texts) = wanted.value(list) else { return Ok(Vec::new()) };
    let texts: Vec<Text<'a>> =
        serde_json::from_str(texts.get()).or(Err(wrong("what to listen to must be a list of strings")))?;
    Ok(texts.into_iter().map(|text| text.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::Message;

    fn operation(method: &str, params: &str) -> Result<String, ErrorKind> {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        Message::parse(text.as_bytes()).map(|message| format!("{:?}", message.operation)).map_err(|error| error.kind)
    }

    #[test]
    fn every_method_is_an_operation_with_its_governed_name() {
        for (method, params, expected) in [
            ("tools/call", r#"{"name":"a","arguments":{}}"#, r#"CallTool { name: "a""#),
            ("prompts/get", r#"{"name":"a"}"#, r#"GetPrompt { name: "a""#),
            ("resources/read", r#"{"uri":"a:b"}"#, r#"ReadResource { uri: "a:b""#),
            ("resources/subscribe", r#"{"uri":"a:b"}"#, r#"SubscribeResource { uri: "a:b""#),
            ("resources/unsubscribe", r#"{"uri":"a:b"}"#, r#"SubscribeResource { uri: "a:b""#),
            ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"p"}}"#, r#"CompletePrompt { name: "p""#),
            (
                "completion/complete",
                r#"{"ref":{"type":"ref/resource","uri":"r:{x}"}}"#,
                r#"CompleteResource { uri: "r:{x}""#,
            ),
            (
                "subscriptions/listen",
                r#"{"notifications":{"resourceSubscriptions":["a:b","c:d"]}}"#,
                r#"Listen { uris: ["a:b", "c:d"]"#,
            ),
            ("tools/list", "{}", "List(Tool)"),
            ("resources/templates/list", "{}", "List(ResourceTemplate)"),
            ("ping", "{}", "Lifecycle"),
            ("tasks/get", r#"{"taskId":"t"}"#, "Lifecycle"),
            ("logging/setLevel", r#"{"level":"info"}"#, r#"Method { method: "logging/setLevel", specified: true"#),
            ("skills/list", "{}", r#"Method { method: "skills/list", specified: false"#),
            ("Tools/call", r#"{"name":"a"}"#, r#"Method { method: "Tools/call", specified: false"#),
        ] {
            assert!(
                operation(method, params).unwrap().starts_with(expected),
                "{method} {params}: {:?}",
                operation(method, params)
            );
        }
    }

    #[test]
    fn k04_names_are_compared_unescaped_and_otherwise_as_they_are() {
        assert!(operation("tools/call", r#"{"name":"\u0064elete"}"#).unwrap().contains("\"delete\""));
        assert!(operation("tools/call", r#"{"name":" delete"}"#).unwrap().contains("\" delete\""));
    }

    #[test]
    fn k03_parameters_that_must_be_read_are_there_and_not_ambiguous() {
        for (method, params) in [
            ("tools/call", "{}"),
            ("tools/call", r#"{"name":1}"#),
            ("tools/call", r#"{"name":""}"#),
            ("tools/call", r#"{"name":["a"]}"#),
            ("tools/call", r#"{"name":"a","Name":"b"}"#),
            ("tools/call", r#"{"name":"a","arguments":[]}"#),
            ("tools/call", r#"{"name":"a","arguments":"x"}"#),
            ("tools/call", r#"{"name":"a","Arguments":{}}"#),
            ("resources/read", r#"{"url":"a:b"}"#),
            ("resources/read", r#"{"uri":"a:b","URI":"c:d"}"#),
            ("completion/complete", r#"{"ref":{"type":"ref/other","name":"p"}}"#),
            ("completion/complete", r#"{"ref":{"type":"ref/prompt","uri":"p"}}"#),
            ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"p","Name":"q"}}"#),
            ("subscriptions/listen", r#"{"notifications":{"resourceSubscriptions":[1]}}"#),
            ("subscriptions/listen", r#"{"notifications":{"ResourceSubscriptions":["a:b"]}}"#),
        ] {
            assert_eq!(operation(method, params), Err(ErrorKind::InvalidParams), "{method} {params}");
        }
    }
}
