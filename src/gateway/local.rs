//! What the gateway answers by itself: resource metadata and health.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    CACHE_CONTROL,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;

use crate::engine::decision::{Denial, Reason};
use crate::engine::service::Service;
use crate::engine::snapshot::Snapshot;

/// An answer made here.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Headers beyond those of every local answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// JSON, or nothing.
    pub body: Bytes,
}

impl Answer {
    /// A JSON body.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// No body.
    pub fn empty(status: StatusCode) -> Self {
        Self::json(status, Bytes::new())
    }
}

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
        _ => return Err(Denial::new(Reason::MethodRefused)),
    };
    answer.headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
    Ok(answer)
}

/// Whether the process serves, for probes. It says nothing that a stranger could use.
pub fn health(request: &RequestHeader, snapshot: &Snapshot) -> Result<Answer, Denial> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return Err(Denial::new(Reason::MethodRefused));
    }
    Ok(Answer::json(StatusCode::OK, format!("{{\"status\":\"ok\",\"generation\":{}}}", snapshot.generation)))
}
