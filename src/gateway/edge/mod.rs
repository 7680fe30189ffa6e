//! The strict edge: what reaches Pingora's parser has been judged byte by byte, and nothing may take for ever.
//!
//! Every connection is wrapped in `guarded::Guarded`. HTTP/1 is handed on one judged head at a time and never past the
//! end of the message it belongs to; a message that breaks a rule is answered here and its connection closed. HTTP/2 has
//! a deadline for its preface and is otherwise bounded by the options in [`Settings`].

mod addresses;
mod answer;
mod chunked;
mod due;
mod guarded;
mod head;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;

use addresses::Addresses;
use guarded::Guarded;

use super::{PATIENCE, SLOWEST};

/// Seconds that an HTTP/1 connection may be silent between two requests.
const KEPT: u64 = 60;

/// Bounds of the edge.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// From the first byte of a head (of a connection: from its start) to its end.
    pub head: Duration,
    /// For a body, besides the time that its size takes at `slowest`.
    pub body: Duration,
    /// Bytes of body per second below which a client is given up.
    pub slowest: u64,
    /// Connections of one listener at the same time.
    pub connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), body: PATIENCE, slowest: SLOWEST, connections: 20_000 }
    }
}

/// Is told what the edge refuses before there is a request.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// `status` is 400, 405 or 408.
    fn refused(&self, peer: Option<IpAddr>, cause: &'static str, status: u16);
}

/// An application behind the strict edge.
#[derive(Debug)]
pub struct Edge<A> {
    app: Arc<A>,
    settings: Settings,
    observer: Arc<dyn Observer>,
    connections: Semaphore,
    addresses: Addresses,
}

impl<A> Edge<A> {
    /// Puts `app` behind the edge.
    pub fn new(app: A, settings: Settings, observer: Arc<dyn Observer>) -> Self {
        Self {
            app: Arc::new(app),
            settings,
            observer,
            connections: Semaphore::new(settings.connections),
            addresses: Addresses::default(),
        }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Edge<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        // The task that has accepted the connection has room for a handshake, and keeps it for as long as it lives: the
        // connection gets a small task of its own, and never comes back for another round.
        tokio::spawn(Arc::clone(self).serve(stream, shutdown.clone()));
        None
    }

    async fn cleanup(&self) {
        self.app.http_cleanup().await;
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> Edge<A> {
    async fn serve(self: Arc<Self>, stream: Stream, shutdown: ShutdownWatch) {
        // Above the bound a connection is closed at once: waiting would hold what it is made of.
        let Ok(_place) = self.connections.try_acquire() else { return };
        let peer = peer(&stream);
        // Nor may one address hold more than half of them, so that it cannot shut out all others.
        let Some(_own) = self.addresses.enter(peer, self.settings.connections / 2) else { return };
        let maybe_http2 = self.maybe_http2(&stream);
        let guarded: Stream = Box::new(Guarded::new(stream, self.settings, Arc::clone(&self.observer)));
        if maybe_http2 {
            self.app.process_new(guarded, &shutdown).await;
            return;
        }
        let keeps = !*shutdown.borrow();
        let mut next = self.app.process_new_http(self.first(guarded, keeps), &shutdown).await;
        while let Some((stream, settings)) = next.map(ReusedHttpStream::consume) {
            next = self.app.process_new_http(following(stream, settings), &shutdown).await;
        }
    }

    /// Whether the connection has agreed on HTTP/2, or may begin with it.
    fn maybe_http2(&self, stream: &Stream) -> bool {
        let cleartext = stream.get_ssl_digest().is_none();
        let offered = self.app.server_options().is_some_and(|options| options.h2c);
        matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) || (cleartext && offered)
    }

    /// The first request of an HTTP/1 connection.
    fn first(&self, stream: Stream, keeps: bool) -> ServerSession {
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(keeps.then_some(KEPT));
        session.set_keepalive_reuses_remaining(self.app.server_options().and_then(|all| all.keepalive_request_limit));
        session
    }
}

/// The next request of an HTTP/1 connection.
fn following(stream: Stream, settings: Option<HttpPersistentSettings>) -> ServerSession {
    let mut session = ServerSession::new_http1(stream);
    if let Some(settings) = settings {
        settings.apply_to_session(&mut session);
    }
    session
}

fn peer(stream: &Stream) -> Option<IpAddr> {
    stream.get_socket_digest()?.peer_addr()?.as_inet().map(|peer| peer.ip())
}

#[cfg(test)]
mod tests;
