//! Which era of the protocol a message belongs to, told by its body and never by a header alone (MCP 2026-07-28
//! versioning, "Dual-era servers").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::message::{ErrorKind, Kind, Message, MessageError};
use super::operation::Operation;

/// The protocol era of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// With `initialize`: up to 2025-11-25.
    Legacy,
    /// Stateless: 2026-07-28 and later.
    Modern,
}

/// The revisions that the gateway knows, oldest first.
const KNOWN: [&str; 4] = ["2025-03-26", "2025-06-18", "2025-11-25", FIRST_MODERN];
const FIRST_MODERN: &str = "2026-07-28";
/// Had no version header: a legacy request without one belongs to it.
const WITHOUT_HEADER: &str = WITH_BATCHES;
/// The only revision with batches.
pub const WITH_BATCHES: &str = "2025-03-26";
/// Bytes of a revision's name that a session can remember.
const LONGEST_REVISION: usize = 32;
/// HTTP+SSE, which the gateway does not speak.
const HTTP_SSE: &str = "2024-11-05";

/// The revisions that a service accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revisions(Vec<&'static str>);

/// A revision that the gateway does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no revision that the gateway knows")]
pub struct UnknownRevision(pub String);

impl Revisions {
    /// Every revision that the gateway knows.
    #[must_use]
    pub fn all() -> Self {
        Self(KNOWN.to_vec())
    }

    /// Only these.
    ///
    /// # Errors
    /// One of them is not known.
    pub fn of(names: &[&str]) -> Result<Self, UnknownRevision> {
        if let Some(unknown) = names.iter().find(|name| !KNOWN.contains(name)) {
            return Err(UnknownRevision((*unknown).to_owned()));
        }
        Ok(Self(KNOWN.into_iter().filter(|known| names.contains(known)).collect()))
    }

    /// The accepted revisions, oldest first.
    #[must_use]
    pub fn supported(&self) -> &[&'static str] {
        &self.0
    }

    /// Whether this revision is accepted.
    #[must_use]
    pub fn accepts(&self, version: &str) -> bool {
        self.0.contains(&version)
    }

    /// Whether a revision with sessions is accepted.
    #[must_use]
    pub fn accepts_legacy(&self) -> bool {
        self.0.iter().any(|version| !is_modern(version))
    }
}

/// Headers that mirror the body, as they came; each at most once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mirrored<'a> {
    /// `MCP-Protocol-Version`.
    pub protocol_version: Option<&'a [u8]>,
    /// `Mcp-Method`.
    pub method: Option<&'a [u8]>,
    /// `Mcp-Name`.
    pub name: Option<&'a [u8]>,
}

/// What 2026-07-28 has taken away (MCP 2026-07-28 changelog, items 2, 5, 6): its parameters mean nothing any more.
/// `logging/setLevel` is gone too, but a matter of rules in every revision.
const REMOVED: [&str; 6] =
    ["initialize", "ping", "resources/subscribe", "resources/unsubscribe", "tasks/list", "tasks/result"];

/// Whether this method ended with the last legacy revision.
#[must_use]
pub fn is_removed(method: &str) -> bool {
    REMOVED.contains(&method)
}

/// Versions are dates; whatever sorts behind the last legacy one is no legacy version.
pub(super) fn is_modern(version: &str) -> bool {
    version >= FIRST_MODERN
}

/// Tells the era of a message and checks what that era demands of headers and `_meta`.
///
/// # Errors
/// Header and body disagree, the revision is not accepted, or required `_meta` is missing.
pub fn classify(message: &Message<'_>, mirrored: &Mirrored<'_>, revisions: &Revisions) -> Result<Era, MessageError> {
    let header = mirrored.protocol_version.map(<[u8]>::trim_ascii);
    let era = match message.meta.version.as_deref() {
        Some(version) if is_modern(version) => {
            modern(message, mirrored, header, version, revisions).map(|()| Era::Modern)
        }
        _ => legacy(message, mirrored, header, revisions),
    };
    era.map_err(|error| error.with_id(message.kind))
}

fn modern(
    message: &Message<'_>,
    mirrored: &Mirrored<'_>,
    header: Option<&[u8]>,
    version: &str,
    revisions: &Revisions,
) -> Result<(), MessageError> {
    let mismatch = |what: &'static str| MessageError::new(ErrorKind::HeaderMismatch, what);
    if header != Some(version.as_bytes()) {
        return Err(mismatch("MCP-Protocol-Version must be the version in `_meta`"));
    }
    if !revisions.accepts(version) {
        return Err(unsupported_modern(version, revisions));
    }
    if message.kind == Kind::Response {
        return Err(MessageError::new(ErrorKind::InvalidRequest, "clients send no responses in this revision"));
    }
    mirrors_agree(message, mirrored)?;
    let request = matches!(message.kind, Kind::Request { .. });
    if request && !message.meta.has_capabilities {
        return Err(MessageError::new(ErrorKind::InvalidParams, "`_meta` lacks the client's capabilities"));
    }
    Ok(())
}

/// Compares what headers mirror with the body. A notification need not mirror anything, but what it does must agree.
fn mirrors_agree(message: &Message<'_>, mirrored: &Mirrored<'_>) -> Result<(), MessageError> {
    let mismatch = |what: &'static str| MessageError::new(ErrorKind::HeaderMismatch, what);
    let request = matches!(message.kind, Kind::Request { .. });
    let method = message.method.as_deref().unwrap_or_default();
    match mirrored.method.map(<[u8]>::trim_ascii) {
        Some(header) if header != method.as_bytes() => {
            return Err(mismatch("Mcp-Method must be the method of the body"));
        }
        None if request => return Err(mismatch("Mcp-Method is missing")),
        _ => {}
    }
    if let Some(name) = named(message) {
        let header = mirrored.name.ok_or(mismatch("Mcp-Name is missing"))?;
        let header = decoded(header.trim_ascii()).ok_or(mismatch("Mcp-Name is malformed"))?;
        if header != name.as_bytes() {
            return Err(mismatch("Mcp-Name must be the name in the body"));
        }
    } else if mirrored.name.is_some() && !is_removed(method) {
        return Err(mismatch("Mcp-Name has nothing in the body to agree with"));
    }
    Ok(())
}

/// What `Mcp-Name` mirrors.
fn named<'m>(message: &'m Message<'_>) -> Option<&'m str> {
    match &message.operation {
        Operation::CallTool { name, .. } | Operation::GetPrompt { name, .. } => Some(name),
        Operation::ReadResource { uri } => Some(uri),
        Operation::Lifecycle { method } if matches!(method.as_ref(), "tasks/get" | "tasks/update" | "tasks/cancel") => {
            message.tasks.first().map(AsRef::as_ref)
        }
        _ => None,
    }
}

/// Decodes a mirrored header: the sentinel `=?base64?...?=`, whose parts are exact; anything else stands for itself.
pub fn decoded(header: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    let coded = header.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?="));
    let Some(coded) = coded else {
        return header.iter().all(|byte| matches!(byte, 0x20..=0x7e)).then_some(header.into());
    };
    let bytes = STANDARD.decode(coded).ok()?;
    std::str::from_utf8(&bytes).is_ok().then_some(bytes.into())
}

fn legacy(
    message: &Message<'_>,
    mirrored: &Mirrored<'_>,
    header: Option<&[u8]>,
    revisions: &Revisions,
) -> Result<Era, MessageError> {
    let header = match header.map(std::str::from_utf8) {
        None => None,
        Some(Ok(header)) => Some(header),
        Some(Err(_)) => return Err(unsupported("", revisions)),
    };
    if let Some(version) = header.filter(|header| is_modern(header)) {
        return if message.kind == Kind::Notification && revisions.accepts(version) {
            mirrors_agree(message, mirrored).map(|()| Era::Modern)
        } else if KNOWN.contains(&version) {
            Err(MessageError::new(ErrorKind::InvalidParams, "`_meta` lacks the protocol version"))
        } else {
            Err(unsupported(version, revisions))
        };
    }
    if message.method.as_deref() == Some("initialize") {
        let version = message.initialize.as_deref().unwrap_or_default();
        let long = version.len() > LONGEST_REVISION;
        let refused = long || version == HTTP_SSE || (KNOWN.contains(&version) && !revisions.accepts(version));
        // Another version is the start of a negotiation, which the server ends.
        return if refused || !revisions.accepts_legacy() {
            Err(unsupported(version, revisions))
        } else {
            Ok(Era::Legacy)
        };
    }
    match header {
        Some(version) if !revisions.accepts(version) => Err(unsupported(version, revisions)),
        None if !revisions.accepts(WITHOUT_HEADER) => Err(unsupported("", revisions)),
        _ => Ok(Era::Legacy),
    }
}

/// Checks the version header of a GET or DELETE, which only sessions of legacy revisions have.
///
/// # Errors
/// The header names a revision that is not accepted, or a modern one.
pub fn check_session_version(header: Option<&[u8]>, revisions: &Revisions) -> Result<(), MessageError> {
    let version = header.map_or(Some(WITHOUT_HEADER), |header| std::str::from_utf8(header.trim_ascii()).ok());
    match version {
        Some(version) if revisions.accepts(version) && !is_modern(version) => Ok(()),
        // A client of another revision that sends none has negotiated it in its session.
        Some(WITHOUT_HEADER) if header.is_none() && revisions.accepts_legacy() => Ok(()),
        version => Err(unsupported(version.unwrap_or_default(), revisions)),
    }
}

fn unsupported(requested: &str, revisions: &Revisions) -> MessageError {
    unsupported_beside(requested, revisions.supported())
}

/// A request without a session can only be tried again in a revision without sessions; where none is accepted, the client
/// learns that it has to begin one.
fn unsupported_modern(requested: &str, revisions: &Revisions) -> MessageError {
    let modern: Vec<_> = revisions.supported().iter().copied().filter(|version| is_modern(version)).collect();
    if modern.is_empty() { unsupported(requested, revisions) } else { unsupported_beside(requested, &modern) }
}

fn unsupported_beside(requested: &str, supported: &[&str]) -> MessageError {
    let mut error = MessageError::new(ErrorKind::Version, "unsupported protocol version");
    // The requested version comes from the client: it goes back only when it is short.
    let requested: String = requested.chars().take(32).collect();
    let data = serde_json::json!({ "supported": supported, "requested": requested });
    error.data = RawValue::from_string(data.to_string()).ok();
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(method: &str, params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    }

    fn meta(version: &str) -> String {
        format!(
            r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientCapabilities":{{}}}}"#
        )
    }

    fn judge(body: &str, headers: [Option<&str>; 3], revisions: &Revisions) -> Result<Era, ErrorKind> {
        let message = Message::parse(body.as_bytes()).unwrap();
        let [protocol_version, method, name] = headers.map(|header| header.map(str::as_bytes));
        classify(&message, &Mirrored { protocol_version, method, name }, revisions).map_err(|error| error.kind)
    }

    #[test]
    fn k08_the_era_is_told_by_the_body() {
        let all = Revisions::all();
        let call = body("tools/call", r#"{"name":"a"}"#);
        let modern = body("tools/call", &format!(r#"{{"name":"a",{}}}"#, meta(FIRST_MODERN)));
        assert_eq!(judge(&modern, [Some(FIRST_MODERN), Some("tools/call"), Some("a")], &all), Ok(Era::Modern));
        assert_eq!(judge(&call, [None; 3], &all), Ok(Era::Legacy));
        assert_eq!(judge(&call, [Some("2025-11-25"), None, None], &all), Ok(Era::Legacy));
        assert_eq!(
            judge(&call, [Some("2025-11-25"), Some("ping"), Some("b")], &all),
            Ok(Era::Legacy),
            "spoofed headers say nothing"
        );
        assert_eq!(
            judge(&call, [Some(FIRST_MODERN), Some("tools/call"), Some("a")], &all),
            Err(ErrorKind::InvalidParams),
            "a header alone"
        );
        assert_eq!(judge(&call, [Some("2031-01-01"), None, None], &all), Err(ErrorKind::Version));
        assert_eq!(judge(&call, [Some("2024-11-05"), None, None], &all), Err(ErrorKind::Version));
        assert_eq!(judge(&call, [Some("nonsense"), None, None], &all), Err(ErrorKind::Version));
    }

    #[test]
    fn k08_modern_headers_agree_with_the_body() {
        let all = Revisions::all();
        let modern = |name: &str| body("tools/call", &format!(r#"{{"name":"{name}",{}}}"#, meta(FIRST_MODERN)));
        let name = |header: &str, name: &str| {
            judge(&modern(name), [Some(FIRST_MODERN), Some("tools/call"), Some(header)], &all)
        };
        assert_eq!(name("a", "a"), Ok(Era::Modern));
        assert_eq!(name("=?base64?w6k=?=", "é"), Ok(Era::Modern));
        assert_eq!(name("=?BASE64?YQ==?=", "=?BASE64?YQ==?="), Ok(Era::Modern), "another case is a literal");
        for (header, body) in [
            ("A", "a"),
            ("b", "a"),
            ("=?base64?YQ?=", "a"),
            ("=?base64?!!?=", "a"),
            ("=?base64?Yg==?=", "a"),
            ("é", "é"),
            ("a, a", "a"),
        ] {
            assert_eq!(name(header, body), Err(ErrorKind::HeaderMismatch), "{header} {body}");
        }
        for headers in [
            [None, Some("tools/call"), Some("a")],
            [Some("2025-11-25"), Some("tools/call"), Some("a")],
            [Some(FIRST_MODERN), None, Some("a")],
            [Some(FIRST_MODERN), Some("TOOLS/CALL"), Some("a")],
            [Some(FIRST_MODERN), Some("tools/call"), None],
        ] {
            assert_eq!(judge(&modern("a"), headers, &all), Err(ErrorKind::HeaderMismatch), "{headers:?}");
        }
        let list = body("tools/list", &format!("{{{}}}", meta(FIRST_MODERN)));
        assert_eq!(judge(&list, [Some(FIRST_MODERN), Some("tools/list"), None], &all), Ok(Era::Modern));
        assert_eq!(
            judge(&list, [Some(FIRST_MODERN), Some("tools/list"), Some("x")], &all),
            Err(ErrorKind::HeaderMismatch)
        );
    }

    #[test]
    fn unaccepted_revisions_are_refused_with_those_that_are() {
        let only = Revisions::of(&["2025-11-25"]).unwrap();
        let modern = body("tools/list", &format!("{{{}}}", meta(FIRST_MODERN)));
        assert_eq!(judge(&modern, [Some(FIRST_MODERN), Some("tools/list"), None], &only), Err(ErrorKind::Version));
        assert_eq!(judge(&body("ping", "{}"), [None; 3], &only), Err(ErrorKind::Version), "no header is 2025-03-26");
        let initialize = |version: &str| body("initialize", &format!(r#"{{"protocolVersion":"{version}"}}"#));
        assert_eq!(judge(&initialize("2025-11-25"), [None; 3], &only), Ok(Era::Legacy));
        assert_eq!(judge(&initialize("2025-06-18"), [None; 3], &only), Err(ErrorKind::Version));
        assert_eq!(judge(&initialize("2024-11-05"), [None; 3], &Revisions::all()), Err(ErrorKind::Version));
        assert_eq!(
            judge(&initialize("2025-11-25"), [None; 3], &Revisions::of(&[FIRST_MODERN]).unwrap()),
            Err(ErrorKind::Version)
        );
        let future = body("tools/list", &format!("{{{}}}", meta("2030-01-01")));
        let message = Message::parse(future.as_bytes()).unwrap();
        let mirrored = Mirrored { protocol_version: Some(b"2030-01-01"), method: Some(b"tools/list"), name: None };
        let error = classify(&message, &mirrored, &Revisions::all()).unwrap_err();
        assert_eq!((error.kind, error.id.as_deref()), (ErrorKind::Version, Some("1")));
        assert_eq!(
            error.data.unwrap().get(),
            r#"{"requested":"2030-01-01","supported":["2026-07-28"]}"#,
            "a request without a session cannot be tried again in a revision with sessions"
        );
        let error = classify(&message, &mirrored, &only).unwrap_err();
        assert!(error.data.unwrap().get().contains("2025-11-25"), "where no other is left, those with sessions");
    }

    #[test]
    fn methods_that_the_revision_has_lost_are_no_operation_of_it_whatever_their_parameters() {
        let all = Revisions::all();
        for method in REMOVED {
            for more in ["", r#""uri":"a:b","taskId":"t","protocolVersion":"2025-11-25","#] {
                let text = body(method, &format!("{{{more}{}}}", meta(FIRST_MODERN)));
                let message = Message::parse(text.as_bytes()).unwrap();
                let unknown = matches!(message.operation, Operation::Method { specified: false, .. });
                assert!(unknown && message.tasks.is_empty(), "{method} {more}: {message:?}");
                for name in [None, Some("a:b")] {
                    assert_eq!(
                        judge(&text, [Some(FIRST_MODERN), Some(method), name], &all),
                        Ok(Era::Modern),
                        "{method}"
                    );
                }
            }
        }
        let subscribe = body("resources/subscribe", r#"{"uri":"a:b"}"#);
        let message = Message::parse(subscribe.as_bytes()).unwrap();
        assert!(matches!(message.operation, Operation::SubscribeResource { .. }), "older revisions have it still");
    }

    #[test]
    fn modern_requests_name_their_capabilities_and_clients_send_no_responses() {
        let without = body("tools/list", r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#);
        assert_eq!(
            judge(&without, [Some(FIRST_MODERN), Some("tools/list"), None], &Revisions::all()),
            Err(ErrorKind::InvalidParams)
        );
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        assert_eq!(judge(response, [Some("2025-11-25"), None, None], &Revisions::all()), Ok(Era::Legacy));
        assert_eq!(judge(response, [Some(FIRST_MODERN), None, None], &Revisions::all()), Err(ErrorKind::InvalidParams));
    }
}
