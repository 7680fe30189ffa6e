//! Refuses HTTP methods that the MCP endpoint does not offer (MCP transports: POST carries every message).

use http::Method as HttpMethod;

use crate::engine::decision::{Denial, Reason};
use crate::engine::stage::{Added, Head, Stage, Step};

/// Only POST is offered; GET and DELETE of a legacy session are answered 405, which clients take for "not supported".
#[derive(Debug)]
pub struct Method;

impl Stage for Method {
    fn name(&self) -> &'static str {
        "method"
    }

    fn enter(&self, head: Head<'_>, _added: &mut Added) -> Result<Step, Denial> {
        if head.method == HttpMethod::POST { Ok(Step::Continue) } else { Err(Denial::new(Reason::MethodRefused)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    #[test]
    fn only_post_is_offered() {
        let headers = HeaderMap::new();
        let enter = |method| Method.enter(Head { method: &method, headers: &headers }, &mut Vec::new());
        for refused in [HttpMethod::GET, HttpMethod::DELETE, HttpMethod::PUT, HttpMethod::OPTIONS, HttpMethod::HEAD] {
            assert_eq!(enter(refused.clone()).unwrap_err().reason, Reason::MethodRefused, "{refused}");
        }
        assert!(enter(HttpMethod::POST).is_ok());
    }
}
