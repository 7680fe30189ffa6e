//! The HTTP application that Pingora runs: one exchange after another on every connection.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::connectors::TransportConnector;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;

use super::exchange::{Exchange, Outcome};
use super::forward::Stop;
use super::{Gateway, admit::Admitted, reply};
use crate::engine::decision::Denial;

/// The gateway on one listener, and what makes connections to upstreams.
pub struct App {
    gateway: Gateway,
    connector: TransportConnector,
    options: HttpServerOptions,
    h2: H2Options,
}

impl App {
    /// Serves `gateway` with these options of HTTP/1 and HTTP/2.
    #[must_use]
    pub fn new(gateway: Gateway, connector: TransportConnector, options: HttpServerOptions, h2: H2Options) -> Self {
        Self { gateway, connector, options, h2 }
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let mut closing = shutdown.clone();
        let read = tokio::select! {
            biased;
            read = session.read_request() => read,
            _ = closing.changed() => return None,
        };
        match read {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                // The edge has judged HTTP/1 already: only torn connections come here.
                tracing::debug!(%error, "a request could not be read");
                session.shutdown().await;
                return None;
            }
        }
        if *closing.borrow() {
            session.set_keepalive(None);
        }
        // While an answer is awaited the connection is watched: what comes then is the next request and not noise.
        session.set_pipelining_enabled(true);
        let mut exchange = Exchange::begin(self.gateway.current.load_full(), &self.gateway.in_flight);
        let connection = self.serve(&mut session, &mut exchange, &mut closing).await;
        self.gateway.ended(&exchange);
        drop(exchange);
        if connection == Connection::Broken {
            session.shutdown().await;
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.h2.clone())
    }
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// The answer is whole.
    Good,
    /// It is not: nothing may follow it.
    Broken,
}

impl App {
    async fn serve(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        closing: &mut ShutdownWatch,
    ) -> Connection {
        let outcome = match self.gateway.admit(session, exchange).await {
            Ok(Admitted::Forward(permit)) => {
                self.gateway.forward(permit, &self.connector, session, exchange, closing).await
            }
            Ok(Admitted::Answer(answer)) => reply::write(session, exchange, answer).await.or(Err(Stop::Gone)),
            Err(denial) => Err(Stop::Refused(Box::new(denial))),
        };
        // Places in concurrency limits are free again before the client can ask for them.
        exchange.tickets.clear();
        match outcome {
            Ok(()) => Connection::Good,
            Err(Stop::Refused(denial)) => match reply::refuse(session, exchange, *denial).await {
                Ok(()) => Connection::Good,
                Err(error) => {
                    tracing::debug!(%error, "refusal could not be written");
                    Connection::Broken
                }
            },
            Err(Stop::Broken(denial)) => {
                let Denial { reason, internal, .. } = *denial;
                exchange.outcome = Outcome::Deny(reason, internal.map(std::borrow::Cow::into_owned));
                Connection::Broken
            }
            Err(Stop::Gone) => Connection::Broken,
        }
    }
}
