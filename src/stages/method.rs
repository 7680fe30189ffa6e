//! Refuses HTTP methods that the MCP endpoint does not offer (MCP transports: POST carries every message, and in legacy
//! revisions GET opens a stream of a session and DELETE ends it).

use http::Method as HttpMethod;

use crate::engine::decision::{Denial, Reason};
use crate::engine::stage::{Added, Head, Stage, Step};

/// POST, and GET and DELETE where a revision with sessions is accepted.
#[derive(Debug)]
pub struct Method {
    sessions: bool,
}

impl Method {
    /// `sessions` says whether a revision with sessions is accepted.
    #[must_use]
    pub fn new(sessions: bool) -> Self {
        Self { sessions }
    }
}

impl Stage for Method {
    fn name(&self) -> &'static str {
        "method"
    }

    fn enter(&self, head: Head<'_>, _added: &mut Added) -> Result<Step, Denial> {
        match *head.method {
            HttpMethod::POST => Ok(Step::Continue),
            HttpMethod::GET | HttpMethod::DELETE if self.sessions => Ok(Step::Continue),
            _ => Err(Denial::new(Reason::MethodRefused)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    #[test]
    fn post_is_offered_and_get_and_delete_for_sessions_only() {
        let headers = HeaderMap::new();
        let enter = |method, sessions| {
            Method::new(sessions).enter(Head { method: &method, headers: &headers }, &mut Vec::new())
        };
        for refused in [HttpMethod::PUT, HttpMethod::PATCH, HttpMethod::OPTIONS, HttpMethod::HEAD] {
            assert_eq!(enter(refused.clone(), true).unwrap_err().reason, Reason::MethodRefused, "{refused}");
        }
        for session in [HttpMethod::GET, HttpMethod::DELETE] {
            assert!(enter(session.clone(), true).is_ok(), "{session}");
            assert_eq!(enter(session.clone(), false).unwrap_err().reason, Reason::MethodRefused, "{session}");
        }
        assert!(enter(HttpMethod::POST, false).is_ok());
    }
}
