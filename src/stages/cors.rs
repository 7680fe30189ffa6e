//! Answers preflights and marks answers for listed origins (Fetch standard, "CORS protocol"; MCP headers of every era).
//!
//! Runs behind `origin`: an origin that arrives here is listed.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};

use crate::engine::decision::Denial;
use crate::engine::stage::{Added, Head, Stage, Step};

/// What a browser client of any MCP revision sends.
const REQUEST_HEADERS: &str =
    "authorization, content-type, accept, mcp-protocol-version, mcp-method, mcp-name, mcp-session-id, last-event-id";
/// What a browser client needs to read.
const RESPONSE_HEADERS: &str = "www-authenticate, mcp-session-id, mcp-protocol-version";

/// Cross-origin access for the origins that the service lists.
#[derive(Debug)]
pub struct Cors {
    methods: &'static str,
}

impl Cors {
    /// `sessions` says whether a revision with sessions is accepted.
    #[must_use]
    pub fn new(sessions: bool) -> Self {
        Self { methods: if sessions { "POST, GET, DELETE" } else { "POST" } }
    }
}

impl Stage for Cors {
    fn name(&self) -> &'static str {
        "cors"
    }

    fn enter(&self, head: Head<'_>, added: &mut Added) -> Result<Step, Denial> {
        let Some(origin) = head.headers.get(ORIGIN) else { return Ok(Step::Continue) };
        added.push((VARY, HeaderValue::from_static("origin")));
        added.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
        if head.method != Method::OPTIONS || !head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            added.push((ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS)));
            return Ok(Step::Continue);
        }
        added.push((ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(self.methods)));
        added.push((ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(head)));
        added.push((ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")));
        Ok(Step::Answer(StatusCode::NO_CONTENT))
    }
}

/// The fixed list, and the `Mcp-Param-*` names that this preflight asks for: their names come from tools, so they cannot
/// be listed ahead, and a literal `*` does not cover `Authorization`.
fn allowed_headers(head: Head<'_>) -> HeaderValue {
    let mut allowed = REQUEST_HEADERS.to_owned();
    let asked = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok()).unwrap_or("");
    for name in asked.split(',').map(str::trim) {
        let parameter = name.get(..10).is_some_and(|prefix| prefix.eq_ignore_ascii_case("mcp-param-"));
        if parameter && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            allowed.push_str(", ");
            allowed.push_str(&name.to_ascii_lowercase());
        }
    }
    HeaderValue::from_str(&allowed).unwrap_or_else(|_| HeaderValue::from_static(REQUEST_HEADERS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn enter(method: &Method, pairs: &[(&'static str, &'static str)]) -> (Step, Added) {
        let headers: HeaderMap =
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
        let mut added = Vec::new();
        let step = Cors::new(true).enter(Head { method, headers: &headers }, &mut added).unwrap();
        (step, added)
    }

    #[test]
    fn a_preflight_is_answered_with_the_mcp_headers_and_the_parameters_asked_for() {
        let (step, added) = enter(
            &Method::OPTIONS,
            &[
                ("origin", "https://ok.example"),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization, Mcp-Param-Repo, x-other, mcp-param-a b"),
            ],
        );
        assert!(matches!(step, Step::Answer(StatusCode::NO_CONTENT)));
        let allowed = &added.iter().find(|(name, _)| name == ACCESS_CONTROL_ALLOW_HEADERS).unwrap().1;
        assert!(allowed.to_str().unwrap().ends_with("last-event-id, mcp-param-repo"), "{allowed:?}");
        assert!(added.iter().any(|(name, value)| name == VARY && value == "origin"));
    }

    #[test]
    fn a_plain_request_is_marked_only_when_it_has_an_origin() {
        assert!(enter(&Method::POST, &[]).1.is_empty());
        let (step, added) = enter(&Method::POST, &[("origin", "https://ok.example")]);
        assert!(matches!(step, Step::Continue));
        assert!(added.iter().any(|(name, value)| name == ACCESS_CONTROL_ALLOW_ORIGIN && value == "https://ok.example"));
    }
}
