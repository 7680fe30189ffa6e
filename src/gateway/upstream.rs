//! The request as the upstream sees it: the client's credentials removed, the gateway's own attached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509};

use super::exchange::{Exchange, Target};
use super::pool::Pool;
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::{Transport, Upstream};
use crate::mcp::era::Era;
use crate::oauth::identity::Identity;

/// Headers of the client that go on, besides `Mcp-Param-*` and those that the policy names: what MCP and tracing speak of
/// (MCP transports; W3C Trace Context). Credentials, claims about where a request came from, and whatever a server may
/// route by stay here because they are not listed.
const FORWARDED: [HeaderName; 10] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    CONTENT_TYPE,
    USER_AGENT,
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("mcp-method"),
    HeaderName::from_static("mcp-name"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];
/// Those of them that go on only when the trace is well-formed.
const TRACE: [HeaderName; 2] = [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
const SESSION_ID: &str = "mcp-session-id";
const LAST_EVENT_ID: &str = "last-event-id";
/// Headers of a usual request, and bytes of one with a short body.
const USUAL_HEADERS: usize = 12;
const USUAL_HEAD: usize = 2048;
/// Bytes of an event id that a client may resume from.
const LONGEST_EVENT_ID: usize = 1024;
/// Below the keep-alive of common servers (Node and uvicorn close after 5 s): a POST on a connection that the upstream
/// has just closed cannot be sent again.
const KEPT: Duration = Duration::from_secs(4);

/// What connections to an upstream need, prepared once per service.
struct Prepared {
    next: AtomicUsize,
    pool: Arc<Pool>,
    ca: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
}

/// An address at which an upstream may be reached.
pub struct Place {
    address: SocketAddr,
    prepared: Arc<Prepared>,
}

impl Place {
    /// A connection that waits for its next request.
    pub fn kept(&self) -> Option<Stream> {
        self.prepared.pool.take(&self.address)
    }

    /// Keeps a connection for the next request.
    pub fn keep(&self, stream: Stream) {
        self.prepared.pool.keep(self.address, stream);
    }

    /// What a new connection is made from.
    pub fn peer(&self, upstream: &Upstream) -> HttpPeer {
        let mut peer = match &upstream.transport {
            Transport::Plain => HttpPeer::new(self.address, false, String::new()),
            Transport::Tls { server_name, .. } => HttpPeer::new(self.address, true, server_name.clone()),
        };
        let options = &mut peer.options;
        options.connection_timeout = Some(upstream.timeouts.connect);
        options.total_connection_timeout = Some(upstream.timeouts.connect);
        options.ca.clone_from(&self.prepared.ca);
        peer.client_cert_key.clone_from(&self.prepared.identity);
        peer
    }
}

/// The addresses of an upstream, beginning with the one whose turn it is. No name is resolved here.
pub fn places(upstream: &Upstream) -> Result<impl Iterator<Item = Place> + Send, Denial> {
    let prepared = upstream.prepared.or_make(|| prepare(&upstream.transport));
    let prepared = prepared.ok_or_else(|| Denial::new(Reason::Internal))?;
    let addresses = upstream.addresses.load_full();
    let turn = prepared.next.fetch_add(1, Ordering::Relaxed);
    Ok((0..addresses.len()).filter_map(move |offset| {
        let place = turn.wrapping_add(offset).checked_rem(addresses.len())?;
        Some(Place { address: *addresses.get(place)?, prepared: Arc::clone(&prepared) })
    }))
}

fn prepare(transport: &Transport) -> Prepared {
    let (ca, identity) = match transport {
        Transport::Plain => (&None, &None),
        Transport::Tls { ca, identity, .. } => (ca, identity),
    };
    let wrap = |certificate: &Vec<u8>| WrappedX509::new(certificate.clone(), pingora::utils::tls::parse_x509);
    Prepared {
        next: AtomicUsize::new(0),
        pool: Pool::new(KEPT),
        ca: ca.as_ref().map(|certificates| certificates.iter().map(wrap).collect()),
        identity: identity.as_ref().map(|(chain, key)| Arc::new(CertKey::new(chain.clone(), key.clone()))),
    }
}

/// How long the upstream may be silent before the head of its answer and between two reads of it.
pub fn silence(upstream: &Upstream, exchange: &Exchange) -> Duration {
    upstream.timeouts.read_of(exchange.asked.target.as_deref().filter(|_| exchange.asked.kind == Target::Tool))
}

/// The head of the upstream request, as it is sent. It is written anew, so that nothing a client says about its connection can take
/// away what the gateway adds (RFC 9110 section 7.6.1). `credential` is the value of the gateway's own.
pub fn head(
    client: &RequestHeader,
    upstream: &Upstream,
    exchange: &Exchange,
    credential: Option<&HeaderValue>,
) -> Result<Vec<u8>, Denial> {
    let full = |_| Denial::new(Reason::Internal).because("more headers than a head takes");
    let mut head = HeaderMap::with_capacity(USUAL_HEADERS);
    for (name, value) in &client.headers {
        let listed = FORWARDED.contains(name) || upstream.forward_headers.contains(name);
        let mirror = is_mirror(name);
        if TRACE.contains(name) && exchange.trace.is_none() {
            continue;
        }
        if (listed || mirror) && !(mirror && exchange.era == Era::Legacy) {
            head.try_append(name, value.clone()).map_err(full)?;
        }
    }
    let mut insert = |name: HeaderName, value: HeaderValue| head.try_insert(name, value).map(drop).map_err(full);
    insert(HOST, value_of(&upstream.authority)?)?;
    // Answers are judged as they are, so they need not be coded.
    insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    match client.method {
        Method::POST => insert(CONTENT_LENGTH, exchange.body.len().into())?,
        Method::GET => {
            insert(ACCEPT, HeaderValue::from_static("text/event-stream"))?;
            if let Some(id) = client.headers.get(LAST_EVENT_ID) {
                let whole = id.len() <= LONGEST_EVENT_ID;
                let id = whole.then(|| id.clone()).ok_or_else(|| Denial::new(Reason::MalformedRequest))?;
                insert(HeaderName::from_static(LAST_EVENT_ID), id)?;
            }
        }
        _ => {}
    }
    if let Some(session) = &exchange.session {
        let id = HeaderValue::from_bytes(&session.upstream_id).or(Err(Denial::new(Reason::Internal)))?;
        insert(HeaderName::from_static(SESSION_ID), id)?;
    }
    if let Some(identity) = exchange.identity.as_ref().filter(|identity| !identity.is_anonymous()) {
        for (name, value) in identity_headers(upstream, identity) {
            insert(name, value)?;
        }
    }
    if let (Some(own), Some(value)) = (&upstream.credential, credential) {
        insert(own.header.clone(), value.clone())?;
    }
    wire(&client.method, &upstream.target, &head)
}

/// A head of HTTP/1.1 (RFC 9112 section 2.1).
fn wire(method: &Method, target: &str, headers: &HeaderMap) -> Result<Vec<u8>, Denial> {
    if target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Denial::new(Reason::Internal).because("the upstream's path is no request target"));
    }
    let mut head = Vec::with_capacity(USUAL_HEAD);
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// Headers that mirror a modern body. Legacy traffic has none, so there they could only mislead whoever reads them.
fn is_mirror(name: &HeaderName) -> bool {
    matches!(name.as_str(), "mcp-method" | "mcp-name") || name.as_str().starts_with("mcp-param-")
}

fn value_of(text: &str) -> Result<HeaderValue, Denial> {
    HeaderValue::from_str(text).map_err(|error| Denial::new(Reason::Internal).because(error.to_string()))
}

/// Who asks, as headers; an absent fact is an absent header.
fn identity_headers(upstream: &Upstream, identity: &Identity) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let names = &upstream.identity_headers;
    let scopes = identity.scopes.iter().map(encoded).collect::<Vec<_>>().join(" ");
    let facts = [
        (names.issuer.clone(), Some(encoded(&identity.issuer))),
        (names.subject.clone(), identity.subject.as_deref().map(encoded)),
        (names.client.clone(), identity.client.as_deref().map(encoded)),
        (names.scopes.clone(), (!scopes.is_empty()).then_some(scopes)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name?, HeaderValue::from_str(&value?).ok()?)))
}

/// Percent-encodes what is not visible ASCII, the space too, which parsers of headers take off at both ends, and the percent
/// sign itself.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l06_identity_values_cannot_break_a_header() {
        assert_eq!(encoded("alice@example.com"), "alice@example.com");
        assert_eq!(encoded("a\r\nx: y%é"), "a%0D%0Ax:%20y%25%C3%A9");
    }
}
