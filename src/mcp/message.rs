//! One JSON-RPC 2.0 message of MCP, read strictly: kind, id, method and what it asks for.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::era;
use super::json;
use super::members::{Members, Text};
use super::operation::{self, Operation};

/// Messages of a batch at most.
const LARGEST_BATCH: usize = 50;
/// JSON values of a body at most: arguments become values in memory when a rule reads them.
const MOST_VALUES: usize = 100_000;
/// Bytes of an id, as written.
const LONGEST_ID: usize = 512;
/// What the envelope holds (JSON-RPC 2.0 sections 4 and 5).
const ENVELOPE: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
/// What the gateway reads of `_meta` (MCP 2026-07-28 basic, "_meta").
const META: [&str; 3] = [VERSION_KEY, CAPABILITIES_KEY, "progressToken"];
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
/// Under `extensions` of the capabilities (SEP-2663).
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// One message.
#[derive(Debug)]
pub struct Message<'a> {
    /// Request, notification or response.
    pub kind: Kind<'a>,
    /// The method; a response has none.
    pub method: Option<Cow<'a, str>>,
    /// What it asks for.
    pub operation: Operation<'a>,
    /// What `_meta` says of the protocol.
    pub meta: Meta<'a>,
    /// `params.protocolVersion` of `initialize`.
    pub initialize: Option<Cow<'a, str>>,
    /// The tasks that it names: `params.taskId` of `tasks/*`, `params.notifications.taskIds` of `subscriptions/listen`.
    pub tasks: Vec<Cow<'a, str>>,
}

/// What one request body holds.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// One message.
    One(Box<Message<'a>>),
    /// A batch of at least one (JSON-RPC 2.0 section 6, MCP 2025-03-26 only).
    Batch(Vec<Message<'a>>),
}

impl<'a> Incoming<'a> {
    /// The messages, in order.
    #[must_use]
    pub fn messages(&self) -> &[Message<'a>] {
        match self {
            Self::One(message) => std::slice::from_ref(message),
            Self::Batch(messages) => messages,
        }
    }
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Wants an answer under this id, which is kept as written: `9007199254740993` must come back as itself.
    Request {
        /// The id, raw JSON.
        id: &'a str,
    },
    /// Wants no answer.
    Notification,
    /// Answers a request of the server.
    Response,
}

/// What `_meta` says of the protocol.
#[derive(Debug, Default)]
pub struct Meta<'a> {
    /// `io.modelcontextprotocol/protocolVersion`.
    pub version: Option<Cow<'a, str>>,
    /// Whether `io.modelcontextprotocol/clientCapabilities` is an object.
    pub has_capabilities: bool,
    /// Whether the tasks extension is among them.
    pub knows_tasks: bool,
}

/// Why a message is refused.
#[derive(Debug)]
pub struct MessageError {
    /// What kind of thing is wrong.
    pub kind: ErrorKind,
    /// What the client may read.
    pub public: Cow<'static, str>,
    /// The id as written, when it could be read.
    pub id: Option<String>,
    /// `error.data`, when the kind defines one.
    pub data: Option<Box<RawValue>>,
}

/// What kind of thing is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Not strict JSON (`-32700`).
    Parse,
    /// Not a JSON-RPC message (`-32600`).
    InvalidRequest,
    /// Parameters that must be read cannot be (`-32602`).
    InvalidParams,
    /// A batch (`-32600`).
    Batch,
    /// Headers and body disagree (`-32020`).
    HeaderMismatch,
    /// A revision that is not accepted (`-32022`).
    Version,
}

impl MessageError {
    /// An error without id and data.
    #[must_use]
    pub fn new(kind: ErrorKind, public: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, public: public.into(), id: None, data: None }
    }

    /// Adds the id of the request.
    #[must_use]
    pub fn with_id(self, kind: Kind<'_>) -> Self {
        let id = if let Kind::Request { id } = kind { Some(id.to_owned()) } else { None };
        Self { id: self.id.or(id), ..self }
    }
}

fn invalid(public: &'static str) -> MessageError {
    MessageError::new(ErrorKind::InvalidRequest, public)
}

impl<'a> Incoming<'a> {
    /// Reads a body: one message, or a batch.
    ///
    /// # Errors
    /// What is wrong, with the id when it could be read.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let text = json::check_within(bytes, MOST_VALUES)
            .map_err(|error| MessageError::new(ErrorKind::Parse, format!("parse error: {error}")))?;
        if !text.trim_start().starts_with('[') {
            return Message::of(text).map(|message| Self::One(Box::new(message)));
        }
        let refused = |why: &'static str| MessageError::new(ErrorKind::Batch, why);
        let elements: Vec<&RawValue> = serde_json::from_str(text).or(Err(refused("not a batch")))?;
        if elements.is_empty() || elements.len() > LARGEST_BATCH {
            return Err(refused("a batch holds 1 to 50 messages"));
        }
        let messages: Vec<Message<'a>> =
            elements.into_iter().map(|element| Message::of(element.get())).collect::<Result<_, _>>()?;
        let responses = messages.iter().filter(|message| message.kind == Kind::Response).count();
        if responses > 0 && responses < messages.len() {
            return Err(refused("a batch holds responses only or none"));
        }
        for (place, message) in messages.iter().enumerate() {
            if message.method.as_deref() == Some("initialize") {
                return Err(refused("`initialize` stands alone").with_id(message.kind));
            }
            let again = |earlier: &Message<'_>| earlier.kind == message.kind;
            let asks = matches!(message.kind, Kind::Request { .. });
            if asks && messages.iter().take(place).any(again) {
                return Err(refused("two requests of a batch have one id").with_id(message.kind));
            }
        }
        Ok(Self::Batch(messages))
    }
}

impl<'a> Message<'a> {
    /// Reads one message, and no batch.
    ///
    /// # Errors
    /// What is wrong, with the id when it could be read.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        match Incoming::parse(bytes)? {
            Incoming::One(message) => Ok(*message),
            Incoming::Batch(_) => Err(MessageError::new(ErrorKind::Batch, "batches are not accepted")),
        }
    }

    /// Reads one message from text that is strict JSON.
    fn of(text: &'a str) -> Result<Self, MessageError> {
        let envelope = Members::of(text).ok_or(invalid("a message is an object"))?;
        let kind = kind(&envelope)?;
        Self::read(&envelope, kind).map_err(|error| error.with_id(kind))
    }

    fn read(envelope: &Members<'a>, kind: Kind<'a>) -> Result<Self, MessageError> {
        if envelope.value("jsonrpc").and_then(Text::of).as_deref() != Some("2.0") {
            return Err(invalid("`jsonrpc` must be \"2.0\""));
        }
        if envelope.look_alike(&ENVELOPE).is_some() {
            return Err(invalid("a member looks like another member"));
        }
        if kind == Kind::Response {
            let operation = Operation::Lifecycle { method: Cow::Borrowed("response") };
            return Ok(Self {
                kind,
                method: None,
                operation,
                meta: Meta::default(),
                initialize: None,
                tasks: Vec::new(),
            });
        }
        let method = envelope.value("method").and_then(Text::of).filter(|method| !method.is_empty());
        let method = method.ok_or(invalid("`method` must be a string"))?;
        let params = match envelope.value("params") {
            None => Members::default(),
            Some(params) => Members::of(params.get())
                .ok_or(MessageError::new(ErrorKind::InvalidParams, "`params` must be an object"))?,
        };
        let meta = meta(&params)?;
        if meta.version.as_deref().is_some_and(|version| era::is_modern(version) && era::is_removed(&method)) {
            let operation = Operation::Method { method: method.clone(), specified: false };
            return Ok(Self { kind, operation, meta, initialize: None, tasks: Vec::new(), method: Some(method) });
        }
        let operation = operation::read(&method, &params)?;
        let text = |name: &str| params.value(name).and_then(Text::of);
        let initialize = if method == "initialize" { text("protocolVersion") } else { None };
        let tasks = operation::tasks(&method, &params)?;
        Ok(Self { kind, operation, meta, initialize, tasks, method: Some(method) })
    }
}

fn kind<'a>(envelope: &Members<'a>) -> Result<Kind<'a>, MessageError> {
    let id =
        envelope.value("id").map(|id| read_id(id).ok_or(invalid("`id` must be a string or an integer"))).transpose()?;
    let answer = envelope.value("result").is_some() || envelope.value("error").is_some();
    match (envelope.value("method"), answer) {
        (Some(_), true) => Err(invalid("a message is a request or a response, not both")
            .with_id(id.map_or(Kind::Notification, |id| Kind::Request { id }))),
        (Some(_), false) => Ok(id.map_or(Kind::Notification, |id| Kind::Request { id })),
        (None, true) => {
            let both = envelope.value("result").is_some() && envelope.value("error").is_some();
            if both || id.is_none() {
                Err(invalid("a response has an id and either a result or an error"))
            } else {
                Ok(Kind::Response)
            }
        }
        (None, false) => {
            Err(invalid("`method` is missing").with_id(id.map_or(Kind::Notification, |id| Kind::Request { id })))
        }
    }
}

/// A string or an integer (MCP basic, "Requests"): no null, no fraction, no exponent.
fn read_id(id: &RawValue) -> Option<&str> {
    let text = id.get();
    let integer = || {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    (text.len() <= LONGEST_ID && (text.starts_with('"') || integer())).then_some(text)
}

fn meta<'a>(params: &Members<'a>) -> Result<Meta<'a>, MessageError> {
    let wrong = |what: &'static str| MessageError::new(ErrorKind::InvalidParams, what);
    let Some(meta) = params.value("_meta") else { return Ok(Meta::default()) };
    let meta = Members::of(meta.get()).ok_or(wrong("`_meta` must be an object"))?;
    if meta.look_alike(&META).is_some() {
        return Err(wrong("a member of `_meta` looks like another member"));
    }
    let version = match meta.value(VERSION_KEY) {
        None => None,
        Some(version) => Some(Text::of(version).ok_or(wrong("the protocol version in `_meta` must be a string"))?),
    };
    let within = |value: Option<&'a RawValue>| value.and_then(|value| Members::of(value.get()));
    let capabilities = within(meta.value(CAPABILITIES_KEY));
    let extensions = capabilities.as_ref().and_then(|capabilities| within(capabilities.value("extensions")));
    let knows_tasks = extensions.is_some_and(|extensions| extensions.value(TASKS_EXTENSION).is_some());
    Ok(Meta { version, has_capabilities: capabilities.is_some(), knows_tasks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> ErrorKind {
        Message::parse(text.as_bytes()).map(|message| format!("{message:?}")).expect_err(text).kind
    }

    #[test]
    fn k07_requests_notifications_and_responses_are_told_apart() {
        let kind = |text: &'static str| Message::parse(text.as_bytes()).unwrap().kind;
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#), Kind::Request { id: "7" });
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#), Kind::Request { id: "\"a\"" });
        assert_eq!(kind(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), Kind::Notification);
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Kind::Response);
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#), Kind::Response);
    }

    #[test]
    fn clients_that_know_tasks_say_so_among_their_capabilities() {
        for (capabilities, knows) in [
            (r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#, true),
            (r#"{"extensions":{}}"#, false),
            (r#"{"extensions":[]}"#, false),
            (r#"{"tasks":{}}"#, false),
            ("{}", false),
            ("null", false),
        ] {
            let meta = format!(r#"{{"io.modelcontextprotocol/clientCapabilities":{capabilities}}}"#);
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{{"taskId":"t","_meta":{meta}}}}}"#);
            assert_eq!(Message::parse(text.as_bytes()).unwrap().meta.knows_tasks, knows, "{capabilities}");
        }
    }

    #[test]
    fn k05_an_id_is_kept_as_written() {
        for id in ["9007199254740993", "-1", "0", "\"\"", "\"\\u0061\"", "123456789012345678901234567890"] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            assert_eq!(Message::parse(text.as_bytes()).unwrap().kind, Kind::Request { id });
        }
        for id in ["null", "1.0", "1e3", "true", "{}", "[1]"] {
            assert_eq!(
                error(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)),
                ErrorKind::InvalidRequest,
                "{id}"
            );
        }
        let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "a".repeat(600));
        assert_eq!(error(&long), ErrorKind::InvalidRequest);
    }

    #[test]
    fn k03_ambiguous_envelopes_are_refused() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params ":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","ID":2}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":""}"#,
            "\"ping\"",
            "null",
        ] {
            assert_eq!(error(text), ErrorKind::InvalidRequest, "{text}");
        }
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":1,"method":"ping","id":2}"#), ErrorKind::Parse);
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#), ErrorKind::InvalidParams);
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":1}}"#), ErrorKind::InvalidParams);
    }

    #[test]
    fn k06_a_batch_is_one_message_after_another() {
        let ping = |id: usize| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let batch = |elements: &[String]| format!(" [{}]", elements.join(","));
        let parsed = |text: &str| Incoming::parse(text.as_bytes()).map(|incoming| incoming.messages().len());
        let read = |elements: &[String]| parsed(&batch(elements)).map_err(|error| error.kind);
        assert_eq!(read(&[ping(1)]), Ok(1));
        assert_eq!(read(&(0..50).map(ping).collect::<Vec<_>>()), Ok(50));
        assert_eq!(error(&batch(&[ping(1)])), ErrorKind::Batch, "where one message is expected");
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned();
        assert_eq!(read(&[response.clone(), response.clone()]), Ok(2), "responses may stand together");
        let initialize = r#"{"jsonrpc":"2.0","id":9,"method":"initialize","params":{}}"#.to_owned();
        for refused in [
            vec![],
            (0..51).map(ping).collect(),
            vec![ping(1), ping(1)],
            vec![ping(2), response],
            vec![ping(1), initialize],
        ] {
            assert_eq!(read(&refused), Err(ErrorKind::Batch), "{refused:?}");
        }
        assert_eq!(read(&[ping(1), "7".to_owned()]), Err(ErrorKind::InvalidRequest));
        assert_eq!(read(&[ping(1), "[]".to_owned()]), Err(ErrorKind::InvalidRequest));
    }

    #[test]
    fn an_error_names_the_request_when_it_can() {
        let text = br#"{"jsonrpc":"2.0","id":"x1","method":"tools/call","params":{}}"#;
        assert_eq!(Message::parse(text).unwrap_err().id.as_deref(), Some("\"x1\""));
    }
}
