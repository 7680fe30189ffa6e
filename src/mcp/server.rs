//! What a server says beside plain answers: its own requests to the client, in either era, and what they ask for.
//!
//! A legacy server asks by JSON-RPC requests on an event stream; a modern one by `inputRequests` of an `input_required`
//! result (MCP 2026-07-28 patterns, "Multi Round-Trip Requests"). Both are read here as [`Wish`]es, and so is the error
//! `-32042` that sends a person to a URL (MCP 2025-11-25 elicitation).

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::json::{self, JsonError};
use super::members::{Members, Text};

/// A message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromServer<'a> {
    /// What the message is.
    pub kind: FromServerKind<'a>,
    /// What it asks the client for; an answer may ask for several things at once.
    pub wishes: Vec<Wish<'a>>,
    /// The task that it names, in the places where a task is made or reported.
    pub task: Option<Task<'a>>,
}

/// A task as a server tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task<'a> {
    /// Its id.
    pub id: Cow<'a, str>,
    /// How long it is kept from its creation, where it says so: `ttl` (MCP 2025-11-25) or `ttlMs` (MCP 2026-07-28).
    pub lifetime: Option<Duration>,
}

impl<'a> Task<'a> {
    fn of(members: &Members<'a>) -> Option<Self> {
        let id = members.value("taskId").and_then(Text::of)?;
        let milliseconds = members.value("ttlMs").or_else(|| members.value("ttl"));
        let lifetime = milliseconds.and_then(|number| number.get().parse().ok()).map(Duration::from_millis);
        Some(Self { id, lifetime })
    }
}

/// What a server's message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServerKind<'a> {
    /// An answer to a request of the client.
    Answer,
    /// A request to the client.
    Request,
    /// `notifications/resources/updated` of this resource.
    ResourceUpdated(Cow<'a, str>),
    /// A report about tasks.
    TaskStatus,
    /// Any other notification.
    Notification,
}

/// Something that a server wants of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish<'a> {
    /// `sampling/createMessage`.
    Sampling,
    /// `roots/list`.
    Roots,
    /// `elicitation/create` with a form.
    Form,
    /// `elicitation/create` that sends a person to a URL, or tries to without one that can be read.
    Visit(Option<Cow<'a, str>>),
    /// A request that names no known feature.
    Other,
}

impl std::fmt::Display for Wish<'_> {
    /// The name of the feature; a URL belongs to the person it is for and is not told.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sampling => "sampling",
            Self::Roots => "roots",
            Self::Form => "elicitation by form",
            Self::Visit(_) => "elicitation by URL",
            Self::Other => "something else",
        })
    }
}

/// Why a server's message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Not strict JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Not one JSON-RPC message, or one that could be read in two ways.
    #[error("not one clear JSON-RPC message")]
    Message,
}

/// The error code of MCP 2025-11-25 for "a person must first visit a URL".
const VISIT_REQUIRED: f64 = -32042.0;

impl<'a> FromServer<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// It cannot be read without doubt.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ServerError> {
        Self::of(json::check(bytes)?)
    }

    /// Reads one message from text that is strict JSON.
    ///
    /// # Errors
    /// It cannot be read without doubt.
    pub fn of(text: &'a str) -> Result<Self, ServerError> {
        let envelope = Members::of(text).ok_or(ServerError::Message)?;
        if envelope.look_alike(&["jsonrpc", "id", "method", "params", "result", "error"]).is_some() {
            return Err(ServerError::Message);
        }
        // A result beside an error would be judged as one and could be read as the other.
        match (envelope.value("method"), envelope.value("result"), envelope.value("error")) {
            (Some(method), None, None) => {
                let method = Text::of(method).ok_or(ServerError::Message)?;
                asked(&method, &envelope)
            }
            (None, Some(result), None) => answered(result, false),
            (None, None, Some(error)) => answered(error, true),
            _ => Err(ServerError::Message),
        }
    }
}

fn asked<'a>(method: &str, envelope: &Members<'a>) -> Result<FromServer<'a>, ServerError> {
    let params = params_of(envelope)?;
    let text = |name: &str| params.value(name).and_then(Text::of);
    if envelope.value("id").is_some() {
        return Ok(FromServer { kind: FromServerKind::Request, wishes: vec![wish(method, &params)], task: None });
    }
    let plain = |kind| FromServer { kind, wishes: Vec::new(), task: None };
    Ok(match method {
        "notifications/resources/updated" => {
            plain(FromServerKind::ResourceUpdated(text("uri").ok_or(ServerError::Message)?))
        }
        "notifications/tasks" | "notifications/tasks/status" => {
            let task = Some(Task::of(&params).ok_or(ServerError::Message)?);
            FromServer { task, wishes: required(&params)?, ..plain(FromServerKind::TaskStatus) }
        }
        _ => plain(FromServerKind::Notification),
    })
}

fn params_of<'a>(request: &Members<'a>) -> Result<Members<'a>, ServerError> {
    let params = match request.value("params") {
        None => Members::default(),
        Some(params) => Members::of(params.get()).ok_or(ServerError::Message)?,
    };
    let clear = params.look_alike(&["mode", "url", "uri", "taskId", "inputRequests", "task"]).is_none();
    if clear { Ok(params) } else { Err(ServerError::Message) }
}

fn wish<'a>(method: &str, params: &Members<'a>) -> Wish<'a> {
    let text = |name: &str| params.value(name).map(Text::of);
    match (method, text("mode")) {
        ("sampling/createMessage", _) => Wish::Sampling,
        ("roots/list", _) => Wish::Roots,
        ("elicitation/create", None) if params.value("url").is_none() => Wish::Form,
        ("elicitation/create", Some(Some(mode))) if mode == "form" => Wish::Form,
        // A mode that is not known is judged as the stricter one.
        ("elicitation/create", _) => Wish::Visit(text("url").flatten()),
        _ => Wish::Other,
    }
}

fn answered(answer: &RawValue, failed: bool) -> Result<FromServer<'_>, ServerError> {
    let mut read = FromServer { kind: FromServerKind::Answer, wishes: Vec::new(), task: None };
    let Some(members) = Members::of(answer.get()) else { return Ok(read) };
    if failed {
        read.wishes = visits(&members)?;
        return Ok(read);
    }
    if members.look_alike(&["inputRequests", "resultType", "task", "taskId"]).is_some() {
        return Err(ServerError::Message);
    }
    read.wishes = required(&members)?;
    let task = members.value("task").and_then(|task| Members::of(task.get()));
    read.task =
        task.as_ref().filter(|task| task.value("taskId").is_some()).map_or_else(|| Task::of(&members), Task::of);
    Ok(read)
}

/// What a result, or the report of a task, asks for by itself or in the task that it tells of.
fn required<'a>(members: &Members<'a>) -> Result<Vec<Wish<'a>>, ServerError> {
    let mut all = members.value("inputRequests").map_or(Ok(Vec::new()), wishes)?;
    if let Some(task) = members.value("task").and_then(|task| Members::of(task.get())) {
        if task.look_alike(&["inputRequests"]).is_some() {
            return Err(ServerError::Message);
        }
        all.extend(task.value("inputRequests").map_or(Ok(Vec::new()), wishes)?);
    }
    Ok(all)
}

/// The values of `inputRequests`, each a request without an id.
fn wishes(requests: &RawValue) -> Result<Vec<Wish<'_>>, ServerError> {
    let requests = Members::of(requests.get()).ok_or(ServerError::Message)?;
    let mut wishes = Vec::new();
    for request in requests.values() {
        let request = Members::of(request.get()).ok_or(ServerError::Message)?;
        if request.look_alike(&["method", "params"]).is_some() {
            return Err(ServerError::Message);
        }
        let method = request.value("method").and_then(Text::of).ok_or(ServerError::Message)?;
        wishes.push(wish(&method, &params_of(&request)?));
    }
    Ok(wishes)
}

/// The elicitations of an error that asks for visits.
fn visits<'a>(error: &Members<'a>) -> Result<Vec<Wish<'a>>, ServerError> {
    if error.look_alike(&["code", "data"]).is_some() {
        return Err(ServerError::Message);
    }
    // By value: `-32042.0` is the same code to a client.
    let code = error.value("code").and_then(|code| code.get().parse::<f64>().ok());
    if code != Some(VISIT_REQUIRED) {
        return Ok(Vec::new());
    }
    let data = error.value("data").and_then(|data| Members::of(data.get())).unwrap_or_default();
    if data.look_alike(&["elicitations"]).is_some() {
        return Err(ServerError::Message);
    }
    let Some(list) = data.value("elicitations") else { return Ok(Vec::new()) };
    let list: Vec<Members<'a>> = serde_json::from_str(list.get()).or(Err(ServerError::Message))?;
    if list.iter().any(|one| one.look_alike(&["url"]).is_some()) {
        return Err(ServerError::Message);
    }
    Ok(list.iter().map(|one| Wish::Visit(one.value("url").and_then(Text::of))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes_of(text: &str) -> Result<Vec<Wish<'static>>, ServerError> {
        FromServer::parse(Box::leak(text.to_owned().into_boxed_str()).as_bytes()).map(|read| read.wishes)
    }

    #[test]
    fn k12_a_servers_wishes_are_read_in_both_eras() {
        let visit = |url: &'static str| Wish::Visit(Some(url.into()));
        let request = |method: &str, params: &str| {
            wishes_of(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#))
        };
        let required = |method: &str, params: &str| {
            let inner = format!(r#"{{"a":{{"method":"{method}","params":{params}}}}}"#);
            wishes_of(&format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"input_required","inputRequests":{inner}}}}}"#
            ))
        };
        for (method, params, wish) in [
            ("sampling/createMessage", "{}", Wish::Sampling),
            ("roots/list", "{}", Wish::Roots),
            ("elicitation/create", r#"{"message":"m","requestedSchema":{}}"#, Wish::Form),
            ("elicitation/create", r#"{"mode":"form"}"#, Wish::Form),
            ("elicitation/create", r#"{"mode":"url","url":"https://a.example/x"}"#, visit("https://a.example/x")),
            ("elicitation/create", r#"{"mode":"URL","url":"https://a.example/x"}"#, visit("https://a.example/x")),
            ("elicitation/create", r#"{"url":"https://a.example/x"}"#, visit("https://a.example/x")),
            ("elicitation/create", r#"{"mode":"url"}"#, Wish::Visit(None)),
            ("elicitation/create", r#"{"mode":5}"#, Wish::Visit(None)),
            ("ping", "{}", Wish::Other),
        ] {
            assert_eq!(request(method, params), Ok(vec![wish.clone()]), "{method} {params}");
            assert_eq!(required(method, params), Ok(vec![wish]), "{method} {params}");
        }
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"https://a.example/x"}]}}}"#;
        assert_eq!(wishes_of(&error.replace("-32042", "-32000")), Ok(Vec::new()), "another error asks for nothing");
        for code in ["-32042", "-32042.0", "-3.2042e4"] {
            assert_eq!(wishes_of(&error.replace("-32042", code)), Ok(vec![visit("https://a.example/x")]), "{code}");
        }
        for params in [
            r#"{"taskId":"t","inputRequests":{"a":{"method":"roots/list"}}}"#,
            r#"{"taskId":"t","task":{"inputRequests":{"a":{"method":"roots/list"}}}}"#,
        ] {
            let report = format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{params}}}"#);
            assert_eq!(wishes_of(&report), Ok(vec![Wish::Roots]), "{params}");
        }
        assert_eq!(wishes_of(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#), Ok(Vec::new()));
    }

    #[test]
    fn k12_a_hidden_wish_is_found_or_refuses_the_message() {
        let escaped = r#"{"jsonrpc":"2.0","id":1,"result":{"input\u0052equests":{"a":{"method":"roots/list"}}}}"#;
        assert_eq!(wishes_of(escaped), Ok(vec![Wish::Roots]));
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"Method":"roots/list","method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"roots/list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"roots/list","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"inputRequests":{"a":{"method":"roots/list"}}},"error":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"},"result":{"inputRequests":{"a":{"method":"roots/list"}}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"InputRequests":{"a":{"method":"roots/list"}}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"inputRequeſts":{"a":{"method":"roots/list"}}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"Code":-32042,"data":{"elicitations":[{"url":"https://a.example"}]}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32042,"data":{"Elicitations":[{"url":"https://a.example"}]}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32042,"data":{"elicitations":[{"Url":"https://a.example"}]}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"inputRequests":{"a":{"method":"roots/list","Method":"ping"}}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"mode":"form","Mode":"url"}}"#,
            "[]",
            "{}",
        ] {
            assert!(wishes_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn resources_and_tasks_are_named() {
        let read = |text: &'static str| FromServer::parse(text.as_bytes()).unwrap();
        let updated =
            read(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:\u0062"}}"#);
        assert_eq!(updated.kind, FromServerKind::ResourceUpdated("a:b".into()));
        for (text, id, lasts) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t1","ttl":60000}}}"#, "t1", Some(60_000)),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t1","ttl":null},"taskId":"t2"}}"#, "t1", None),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"t2","ttlMs":1}}"#, "t2", Some(1)),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"task":{},"taskId":"t2","ttlMs":-1}}"#, "t2", None),
            (r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t3"}}"#, "t3", None),
        ] {
            let task = Task { id: id.into(), lifetime: lasts.map(Duration::from_millis) };
            assert_eq!(read(text).task, Some(task), "{text}");
        }
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#).task, None);
    }
}
