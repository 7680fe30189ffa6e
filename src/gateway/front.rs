//! The strict reading of a request's head, the same for HTTP/1 and HTTP/2, before routing and limits.
//!
//! What two readers of one head could understand differently is refused (RFC 9110, RFC 9112, RFC 9113). On HTTP/1 the
//! bytes themselves were judged by [`super::edge`] before a parser saw them.

use http::header::{CONNECTION, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use pingora::http::RequestHeader;

use crate::engine::decision::{Denial, Reason};
use crate::oauth::bearer;

/// Header lines of one request at most.
const MOST_HEADERS: usize = 128;
/// Bytes of a path at most.
const LONGEST_PATH: usize = 2048;
/// Bytes of a query at most: states and codes of several KiB are common.
const LONGEST_QUERY: usize = 24 * 1024;
/// Headers that mean something once.
const SINGLETONS: [&str; 12] = [
    "authorization",
    "proxy-authorization",
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "host",
    "origin",
    "expect",
    "te",
    "upgrade",
    "last-event-id",
];
/// What `Connection` may name: nothing that was judged or that the gateway sets (RFC 9110 section 7.6.1).
const NOMINATED: [&str; 6] = ["keep-alive", "close", "upgrade", "te", "http2-settings", "proxy-connection"];

/// What routing needs of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// The host in lower case, with its port when one is written.
    pub host: String,
    /// The path, free of anything that could be normalised.
    pub path: String,
}

fn malformed(why: &'static str) -> Denial {
    Denial::new(Reason::MalformedRequest).because(why)
}

/// Reads a head strictly.
///
/// # Errors
/// 400 with the rule that is broken, or 405 for methods that are never offered.
pub fn check(request: &RequestHeader) -> Result<Front, Denial> {
    match request.method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {}
        Method::CONNECT | Method::TRACE => return Err(Denial::new(Reason::MethodRefused)),
        _ => return Err(malformed("the method is unknown")),
    }
    check_headers(&request.headers, request.version)?;
    if request.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(malformed("the scheme is neither http nor https"));
    }
    let path = path(request.uri.path())?;
    if let Some(query) = request.uri.query() {
        if query.len() > LONGEST_QUERY {
            return Err(malformed("the query is too long"));
        }
        if bearer::query_has_token(query) {
            return Err(malformed("a token in the query").saying("tokens belong into the Authorization header"));
        }
    }
    Ok(Front { host: host(request)?, path: path.to_owned() })
}

fn check_headers(headers: &HeaderMap, version: Version) -> Result<(), Denial> {
    if headers.len() > MOST_HEADERS {
        return Err(malformed("too many headers"));
    }
    let repeated = headers.keys_len() < headers.len();
    for name in headers.keys().filter(|_| repeated) {
        let single = SINGLETONS.contains(&name.as_str()) || name.as_str().starts_with("mcp-");
        if single && headers.get_all(name).iter().nth(1).is_some() {
            return Err(malformed("a header that must be single occurs twice"));
        }
    }
    for line in headers.get_all(CONNECTION) {
        let line = line.to_str().map_err(|_| malformed("the connection header is no text"))?;
        let mut named = line.split(',').map(str::trim).filter(|name| !name.is_empty());
        if !named.all(|name| NOMINATED.iter().any(|allowed| name.eq_ignore_ascii_case(allowed))) {
            return Err(malformed("the connection header names a header of the message"));
        }
    }
    let is = |name: HeaderName, value: &str| {
        headers.get(name).is_none_or(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    if !is(TE, "trailers") {
        return Err(malformed("te is not `trailers`"));
    }
    if !is(EXPECT, "100-continue") {
        return Err(malformed("expect is not `100-continue`"));
    }
    // Clients of Java offer HTTP/2 so in every first request; that is ignored, which is allowed (RFC 9110 section 7.8).
    if !is(UPGRADE, "h2c") {
        return Err(malformed("an upgrade"));
    }
    let coded = headers.contains_key(TRANSFER_ENCODING);
    if coded && (version != Version::HTTP_11 || !is(TRANSFER_ENCODING, "chunked")) {
        return Err(malformed("transfer-encoding is not `chunked`"));
    }
    Ok(())
}

/// A path that has one reading: no dot or empty segment, nothing encoded that routing would read, no parameters.
fn path(path: &str) -> Result<&str, Denial> {
    if !path.starts_with('/') || path.len() > LONGEST_PATH {
        return Err(malformed("the target is no path, or too long"));
    }
    if path.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b';' | b'#')) {
        return Err(malformed("the path holds a character that must be encoded"));
    }
    if path.contains("//") || path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(malformed("the path holds an empty or dot segment"));
    }
    for (at, _) in path.match_indices('%') {
        let code = path.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        if !code.is_some_and(|code| !matches!(code, b'.' | b'/' | b'\\' | b'%' | b';' | 0..=0x1f | 0x7f)) {
            return Err(malformed("the path holds an encoded separator"));
        }
    }
    Ok(path)
}

/// The one host of a request: `Host`, or `:authority`, or both when they are the same.
fn host(request: &RequestHeader) -> Result<String, Denial> {
    let header = request.headers.get(HOST).map(HeaderValue::to_str);
    let header = header.transpose().map_err(|_| malformed("the host is no text"))?.map(str::to_ascii_lowercase);
    let authority = request.uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    let host = match (header, authority) {
        (Some(header), Some(authority)) if header != authority => {
            return Err(malformed("host and target name different hosts"));
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return Err(malformed("the host is missing")),
    };
    if is_host(&host) { Ok(host) } else { Err(malformed("the host is malformed")) }
}

/// A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port (RFC 3986 section 3.2 without user).
pub(super) fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("ipv6", port)
        }
        None => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
    };
    let name_ok = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let port_ok = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.len() <= 5
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port > 0)
        }
    };
    name_ok && port_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        for (name, value) in headers {
            request.append_header((*name).to_owned(), *value).unwrap();
        }
        request
    }

    fn get(target: &str, headers: &[(&str, &str)]) -> Result<Front, Reason> {
        check(&request("GET", target, headers)).map_err(|denial| denial.reason)
    }

    #[test]
    fn l03_a_path_has_one_reading() {
        let host = [("host", "h")];
        for good in ["/", "/mcp", "/mcp/", "/a-b/c.d_e~f/%41", "/mcp?x=../y"] {
            assert!(get(good, &host).is_ok(), "{good}");
        }
        for bad in [
            "/mcp/../admin",
            "/mcp/./x",
            "/..",
            "/mcp/%2e%2e/admin",
            "/mcp%2fadmin",
            "/mcp%2Fadmin",
            "/mcp%5cadmin",
            "//mcp",
            "/mcp//x",
            "/mcp;x=1",
            "/..;/mcp",
            "/mcp%00",
            "/mcp%0d",
            "/mcp%3bx",
            "/mcp%252e",
            "/mcp%zz",
            "/mcp%2",
        ] {
            assert_eq!(get(bad, &host), Err(Reason::MalformedRequest), "{bad}");
        }
    }

    #[test]
    fn l01_there_is_one_well_formed_host() {
        for (host, expected) in
            [("H.Example", "h.example"), ("h:8443", "h:8443"), ("127.0.0.1:1", "127.0.0.1:1"), ("[::1]:80", "[::1]:80")]
        {
            assert_eq!(get("/", &[("host", host)]).unwrap().host, expected);
        }
        for bad in ["", "a b", "a,b", "a/b", "u@h", "h:", "h:0", "h:99999", "h:8x", "[::1", "[x]", "a\\b", "h:1:2", "é"]
        {
            assert_eq!(get("/", &[("host", bad)]), Err(Reason::MalformedRequest), "{bad}");
        }
        assert_eq!(get("/", &[]), Err(Reason::MalformedRequest));
        assert_eq!(get("/", &[("host", "a"), ("host", "a")]), Err(Reason::MalformedRequest));
    }

    #[test]
    fn l12_singletons_occur_once() {
        for name in
            ["authorization", "content-type", "origin", "mcp-session-id", "mcp-name", "mcp-param-x", "content-length"]
        {
            assert!(get("/", &[("host", "h"), (name, "1")]).is_ok(), "{name}");
            assert_eq!(get("/", &[("host", "h"), (name, "1"), (name, "1")]), Err(Reason::MalformedRequest), "{name}");
        }
        assert!(get("/", &[("host", "h"), ("accept", "a/b"), ("accept", "c/d")]).is_ok());
    }

    #[test]
    fn l07_connection_names_no_header_of_the_message() {
        for good in ["keep-alive", "close", "Upgrade, HTTP2-Settings", ""] {
            assert!(get("/", &[("host", "h"), ("connection", good)]).is_ok(), "{good}");
        }
        for bad in ["authorization", "keep-alive, X-Portcullis-Subject", "mcp-protocol-version", "content-type", "x"] {
            assert_eq!(get("/", &[("host", "h"), ("connection", bad)]), Err(Reason::MalformedRequest), "{bad}");
        }
    }

    #[test]
    fn l02_methods_are_known_ones() {
        let method = |method: &str| check(&request(method, "/", &[("host", "h")])).map_err(|denial| denial.reason);
        assert!(method("POST").is_ok());
        for never in ["CONNECT", "TRACE"] {
            assert_eq!(method(never), Err(Reason::MethodRefused));
        }
        for unknown in ["get", "PROPFIND", "PRI", "X"] {
            assert_eq!(method(unknown), Err(Reason::MalformedRequest), "{unknown}");
        }
    }

    #[test]
    fn l02_an_upgrade_is_refused_or_ignored() {
        assert!(get("/", &[("host", "h"), ("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")]).is_ok());
        for upgrade in ["websocket", "h2c, websocket", "TLS/1.0", ""] {
            assert_eq!(get("/", &[("host", "h"), ("upgrade", upgrade)]), Err(Reason::MalformedRequest), "{upgrade}");
        }
    }

    #[test]
    fn a24_a_token_in_the_query_is_refused() {
        assert_eq!(get("/mcp?access_token=x", &[("host", "h")]), Err(Reason::MalformedRequest));
        assert!(get("/mcp?access=x", &[("host", "h")]).is_ok());
    }
}
