//! What the gateway answers by itself: resource metadata and health.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ALLOW, CACHE_CONTROL,
};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;

use crate::engine::decision::Denial;
use crate::engine::service::Service;
use crate::engine::snapshot::Snapshot;
pub use crate::signin::Answer;

/// The RFC 9728 document of a service, readable by any page (it holds nothing secret and takes no credential).
pub fn metadata(request: &RequestHeader, service: &Service) -> Result<Answer, Denial> {
    let mut answer = match request.method {
        Method::GET | Method::HEAD => {
            let mut answer = Answer::json(StatusCode::OK, service.pipeline()?.metadata.clone());
            answer.headers.push((CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")));
            answer
        }
        Method::OPTIONS => {
            let mut answer = Answer::empty(StatusCode::NO_CONTENT);
            answer.headers.extend([
                (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD")),
                (
                    ACCESS_CONTROL_ALLOW_HEADERS,
                    HeaderValue::from_static("authorization, content-type, mcp-protocol-version"),
                ),
                (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
            ]);
            answer
        }
        _ => return Ok(not_offered("GET, HEAD, OPTIONS")),
    };
    answer.headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
    Ok(answer)
}

/// Whether the process serves, for probes. It says nothing that a stranger could use.
pub fn health(request: &RequestHeader, snapshot: &Snapshot) -> Answer {
    if request.method != Method::GET && request.method != Method::HEAD {
        return not_offered("GET, HEAD");
    }
    Answer::json(StatusCode::OK, format!("{{\"status\":\"ok\",\"generation\":{}}}", snapshot.generation))
}

/// 405, with the methods that a document of the gateway's own is for.
fn not_offered(methods: &'static str) -> Answer {
    let mut answer = Answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    answer.headers.push((ALLOW, HeaderValue::from_static(methods)));
    answer
}
