//! The strict edge: what reaches Pingora's parser has been judged byte by byte, and nothing may take for ever.
//!
//! Every connection is wrapped in `guarded::Guarded`. HTTP/1 is handed on one judged head at a time and never past the
//! end of the message it belongs to; a message that breaks a rule is answered here and its connection closed. HTTP/2 has
//! a deadline for its preface and is otherwise bounded by the options in [`Settings`].

mod addresses;
mod answer;
mod chunked;
mod guarded;
mod head;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;

use addresses::Addresses;
use guarded::Guarded;

use super::{PATIENCE, SLOWEST};

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
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Edge<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        // Above the bound a connection is closed at once: waiting would hold what it is made of.
        let _place = self.connections.try_acquire().ok()?;
        let digest = stream.get_socket_digest();
        let peer = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet().map(|peer| peer.ip()));
        // Nor may one address hold more than half of them, so that it cannot shut out all others.
        let _own = self.addresses.enter(peer, self.settings.connections / 2)?;
        let guarded = Guarded::new(stream, self.settings, Arc::clone(&self.observer));
        // A guarded stream is never given back for another round: it ends with its connection.
        self.app.process_new(Box::new(guarded), shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}

#[cfg(test)]
mod tests;
