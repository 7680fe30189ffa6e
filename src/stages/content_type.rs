//! Refuses bodies that are not plain `application/json` (a cross-site form cannot send that type; MCP transports).

use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::engine::decision::{Denial, Reason};
use crate::engine::stage::{Added, Head, Stage, Step};

/// `application/json`, at most with `charset=utf-8`, and no content coding: the bytes judged are the bytes forwarded.
#[derive(Debug)]
pub struct ContentType;

impl Stage for ContentType {
    fn name(&self) -> &'static str {
        "content_type"
    }

    fn enter(&self, head: Head<'_>, _added: &mut Added) -> Result<Step, Denial> {
        // Only POST carries a message; a body of another method is never read.
        if head.method != http::Method::POST {
            return Ok(Step::Continue);
        }
        let json = head.headers.get(CONTENT_TYPE).is_some_and(is_json);
        let plain = head.headers.get_all(CONTENT_ENCODING).iter().all(|coding| coding.as_bytes() == b"identity");
        if json && plain { Ok(Step::Continue) } else { Err(Denial::new(Reason::MediaTypeRefused)) }
    }
}

/// Media types are case-insensitive (RFC 9110 section 8.3.1).
fn is_json(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else { return false };
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let charset = parameters.trim().to_ascii_lowercase();
    essence.trim().eq_ignore_ascii_case("application/json")
        && matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};

    fn enter(content_type: Option<&'static str>, coding: Option<&'static str>) -> Result<Step, Denial> {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        }
        if let Some(value) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        ContentType.enter(Head { method: &Method::POST, headers: &headers }, &mut Vec::new())
    }

    #[test]
    fn k13_k14_only_plain_json_passes() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
            assert!(enter(Some(good), None).is_ok(), "{good}");
        }
        for bad in
            ["text/plain", "application/json; charset=utf-16", "application/json; boundary=x", "application/jsonp", ""]
        {
            assert_eq!(enter(Some(bad), None).unwrap_err().reason, Reason::MediaTypeRefused, "{bad}");
        }
        assert!(enter(None, None).is_err(), "no content type");
        assert!(enter(Some("application/json"), Some("gzip")).is_err(), "a content coding");
        assert!(enter(Some("application/json"), Some("identity")).is_ok());
    }
}
