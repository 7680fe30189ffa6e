//! The audit record: one line of JSON per request, its schema versioned.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

/// The version of the record's fields. A field is never renamed or given another meaning under one version.
pub const SCHEMA: &str = "portcullis.audit/1";

/// What is told about one request. Absent facts are absent members.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Milliseconds since the epoch when the request began.
    pub time: u64,
    /// The gateway's own id of the request.
    pub request: &'a str,
    /// The trace id of a well-formed `traceparent` (W3C Trace Context section 3.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<&'a str>,
    /// The generation of the snapshot that judged it.
    pub generation: u64,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<&'a str>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<&'a str>,
    /// The issuer of the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    /// The subject, meaningful only together with the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    /// The client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'a str>,
    /// The start of the SHA-256 of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    /// The claims that the installation lists for logging.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
    /// The JSON-RPC method, or its first 1,024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    /// The tool, prompt or resource that the message names, or its first 1,024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<&'a str>,
    /// The arguments that the installation lists for logging.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
    /// `permit`, `deny` or `local` (answered by the gateway itself).
    pub decision: &'static str,
    /// The reason of a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What only the log may know about a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'a, str>>,
    /// The rule that decided, as `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// Rules that could not be decided, with the cause.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub undecided: &'a [String],
    /// The kind of credential that the upstream got, or was to get, from the gateway: `secret`, `client_credentials`,
    /// `exchange`, `provider_token` or `assertion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<&'a str>,
    /// The HTTP status that the client got, 0 when it got none.
    pub status: u16,
    /// Microseconds from the request's head to the end of the answer.
    pub duration: u64,
}

impl Record<'_> {
    /// The record as one line, newline included. Control characters are escaped by JSON.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(512);
        if serde_json::to_writer(&mut line, self).is_err() {
            line.clear();
        }
        line.push(b'\n');
        line
    }
}
