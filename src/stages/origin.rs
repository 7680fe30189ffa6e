//! Refuses browsers from origins that the service does not list (MCP transports, "Security": DNS rebinding).

use http::header::ORIGIN;

use crate::engine::decision::{Denial, Reason};
use crate::engine::stage::{Added, Head, Stage, Step};

/// An absent `Origin` is no browser and passes; a present one must be listed byte for byte.
#[derive(Debug)]
pub struct Origin {
    allowed: Vec<String>,
}

impl Origin {
    /// `allowed` holds serialised origins such as `https://inspector.example.com`.
    #[must_use]
    pub fn new(allowed: Vec<String>) -> Self {
        Self { allowed }
    }
}

impl Stage for Origin {
    fn name(&self) -> &'static str {
        "origin"
    }

    fn enter(&self, head: Head<'_>, _added: &mut Added) -> Result<Step, Denial> {
        let Some(origin) = head.headers.get(ORIGIN) else { return Ok(Step::Continue) };
        if self.allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
            return Ok(Step::Continue);
        }
        Err(Denial::new(Reason::OriginRefused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue, Method};

    fn enter(origin: Option<&str>) -> Result<Step, Denial> {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        let stage = Origin::new(vec!["https://ok.example".into()]);
        stage.enter(Head { method: &Method::POST, headers: &headers }, &mut Vec::new())
    }

    #[test]
    fn l09_origin_present_and_not_listed_is_refused() {
        for refused in
            ["https://evil.example", "null", "https://ok.example:444", "https://OK.example", "http://ok.example"]
        {
            assert_eq!(enter(Some(refused)).unwrap_err().reason, Reason::OriginRefused, "{refused}");
        }
        assert!(enter(Some("https://ok.example")).is_ok(), "a listed origin passes");
        assert!(enter(None).is_ok(), "no origin is no browser");
    }
}
