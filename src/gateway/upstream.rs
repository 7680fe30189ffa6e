//! The request as the upstream sees it: the client's credentials removed, the gateway's own attached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, COOKIE, EXPECT, FORWARDED, HOST, ORIGIN, PROXY_AUTHORIZATION, REFERER,
};
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509};

use super::exchange::{Exchange, Target};
use super::front;
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::{Transport, Upstream};
use crate::oauth::identity::Identity;

/// Headers of the client that never go further.
const WITHHELD: [HeaderName; 8] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    ORIGIN,
    REFERER,
    FORWARDED,
    HeaderName::from_static("dpop"),
    HeaderName::from_static("x-api-key"),
];
/// Below the keep-alive of common servers (Node and uvicorn close after 5 s): a POST on a connection that the upstream
/// has just closed cannot be retried.
const POOLED: Duration = Duration::from_secs(4);

/// What a connection to an upstream needs, prepared once per service.
struct Prepared {
    next: AtomicUsize,
    ca: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
}

/// The peer for one request: the next address, with the service's time limits. No name is resolved here.
pub fn peer(upstream: &Upstream, exchange: &Exchange) -> Result<HttpPeer, Denial> {
    let prepared =
        upstream.prepared.or_make(|| prepare(&upstream.transport)).ok_or_else(|| Denial::new(Reason::Internal))?;
    let addresses = upstream.addresses.load();
    let turn = prepared.next.fetch_add(1, Ordering::Relaxed);
    let address: &SocketAddr = addresses
        .get(turn.checked_rem(addresses.len()).unwrap_or_default())
        .ok_or_else(|| Denial::new(Reason::UpstreamUnreachable).because("no address known for the upstream's name"))?;
    let mut peer = match &upstream.transport {
        Transport::Plain => HttpPeer::new(address, false, String::new()),
        Transport::Tls { server_name, .. } => HttpPeer::new(address, true, server_name.clone()),
    };
    let tool = exchange.asked.target.as_deref().filter(|_| exchange.asked.kind == Target::Tool);
    let options = &mut peer.options;
    options.connection_timeout = Some(upstream.timeouts.connect);
    options.total_connection_timeout = Some(upstream.timeouts.connect);
    options.read_timeout = Some(upstream.timeouts.read_of(tool));
    options.write_timeout = Some(Duration::from_secs(30));
    options.idle_timeout = Some(POOLED);
    options.ca.clone_from(&prepared.ca);
    peer.client_cert_key.clone_from(&prepared.identity);
    Ok(peer)
}

fn prepare(transport: &Transport) -> Prepared {
    let Transport::Tls { ca, identity, .. } = transport else {
        return Prepared { next: AtomicUsize::new(0), ca: None, identity: None };
    };
    let wrap = |certificate: &Vec<u8>| WrappedX509::new(certificate.clone(), pingora::utils::tls::parse_x509);
    Prepared {
        next: AtomicUsize::new(0),
        ca: ca.as_ref().map(|certificates| certificates.iter().map(wrap).collect()),
        identity: identity.as_ref().map(|(chain, key)| Arc::new(CertKey::new(chain.clone(), key.clone()))),
    }
}

/// Writes the head of the upstream request. Runs in `upstream_request_filter`: a client can strip anything set earlier by
/// naming it in `Connection` (RFC 9110 section 7.6.1).
pub fn head(request: &mut RequestHeader, upstream: &Upstream, exchange: &Exchange) -> Result<(), Denial> {
    let internal = |error: Box<pingora::Error>| Denial::new(Reason::Internal).because(error.to_string());
    for name in &WITHHELD {
        request.remove_header(name);
    }
    for name in
        ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "last-event-id", "mcp-session-id"]
    {
        request.remove_header(name);
    }
    request.remove_header(&EXPECT);
    front::strip(request, &upstream.reserved_headers);
    let target = upstream.target.parse().map_err(|_| Denial::new(Reason::Internal).because("upstream target"))?;
    request.set_uri(target);
    request.insert_header(HOST, &upstream.authority).map_err(internal)?;
    // Answers are judged as they are, so they must not be coded.
    request.insert_header(ACCEPT_ENCODING, "identity").map_err(internal)?;
    if let Some(session) = &exchange.session {
        request.insert_header("mcp-session-id", session.as_slice()).map_err(internal)?;
    }
    if let Some(identity) = &exchange.identity {
        for (name, value) in identity_headers(upstream, identity) {
            request.insert_header(name, value).map_err(internal)?;
        }
    }
    if let Some(credential) = &upstream.credential {
        request.insert_header(&credential.header, credential.value.clone()).map_err(internal)?;
    }
    Ok(())
}

/// Who asks, as headers; an absent fact is an absent header.
fn identity_headers(upstream: &Upstream, identity: &Identity) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let names = &upstream.identity_headers;
    let scopes = identity.scopes.iter().collect::<Vec<_>>().join(" ");
    let facts = [
        (names.issuer.clone(), Some(encoded(&identity.issuer))),
        (names.subject.clone(), identity.subject.as_deref().map(encoded)),
        (names.client.clone(), identity.client.as_deref().map(encoded)),
        (names.scopes.clone(), (!scopes.is_empty()).then(|| encoded(&scopes))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name?, HeaderValue::from_str(&value?).ok()?)))
}

/// Percent-encodes what is not visible ASCII, and the percent sign itself; the space between scopes stays.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (byte.is_ascii_graphic() && byte != b'%') || byte == b' ' {
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
        assert_eq!(encoded("a\r\nx: y%é"), "a%0D%0Ax: y%25%C3%A9");
    }
}
