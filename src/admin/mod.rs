//! A listener of its own for operators: metrics, status, and a page that shows it. It reads and changes nothing.
//!
//! It is no part of the gateway's path: it has its own socket, on loopback unless the installation says otherwise, and
//! answers only those who may ask ([`AdminAccess`](crate::engine::snapshot::AdminAccess)). A web page cannot reach it through a
//! browser: whatever has an `Origin` or a host name that is not listed is refused.

mod access;
mod metrics;
mod status;

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use crate::engine::counters::Counters;
use crate::engine::health::Health;
use crate::engine::snapshot::Snapshot;
use access::Refusal;

/// Connections at the same time.
const CONNECTIONS: usize = 256;
/// For the head of a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is told, where it comes from.
pub struct Sources {
    /// What became of requests.
    pub counters: Arc<Counters>,
    /// How the files are.
    pub health: Arc<Health>,
    /// Requests in flight, and streams that wait among them.
    pub open: Box<dyn Fn() -> (usize, usize) + Send + Sync>,
}

/// Answers on the admin listener.
pub struct Admin {
    current: Arc<ArcSwap<Snapshot>>,
    sources: Sources,
    version: &'static str,
    started: SystemTime,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Admin {
    /// Tells of whatever snapshot is current.
    #[must_use]
    pub fn new(current: Arc<ArcSwap<Snapshot>>, sources: Sources, version: &'static str) -> Self {
        Self { current, sources, version, started: SystemTime::now() }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let snapshot = self.current.load();
        let Some(access) = &snapshot.admin else { return refused(Refusal::Host) };
        if let Err(refusal) = access::check(access, request.headers(), request.method()) {
            return refused(refusal);
        }
        match request.uri().path() {
            "/" => match status::page(self, &snapshot) {
                Ok(page) => told("text/html; charset=utf-8", page),
                Err(error) => {
                    tracing::error!(%error, "the admin page could not be written");
                    plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be written")
                }
            },
            "/style.css" => told("text/css; charset=utf-8", status::STYLE),
            "/status" => told("application/json", status::json(self, &snapshot).to_string()),
            "/metrics" => match metrics::text(self, &snapshot) {
                Ok(text) => told("application/openmetrics-text; version=1.0.0; charset=utf-8", text),
                Err(error) => {
                    tracing::error!(%error, "the metrics could not be written");
                    plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written")
                }
            },
            "/healthz" => told("application/json", r#"{"status":"ok"}"#),
            _ => plain(StatusCode::NOT_FOUND, "here are /, /status, /metrics and /healthz"),
        }
    }
}

/// Serves `admin` on `listener` until the process ends.
///
/// # Errors
/// The system refuses the listener.
pub fn serve(listener: TcpListener, admin: Admin, runtime: &tokio::runtime::Handle) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (admin, places) = (Arc::new(admin), Arc::new(Semaphore::new(CONNECTIONS)));
    runtime.spawn(async move {
        loop {
            // Nobody is accepted for whom there is no place.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(event = "admin-accept", %error, "a connection to the admin listener failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let admin = Arc::clone(&admin);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = admin.answer(&request);
                    async { Ok::<_, Infallible>(answer) }
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 * 1024);
                if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, "a connection to the admin listener broke");
                }
                drop(place);
            });
        }
    });
    Ok(())
}

fn told(kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, kind, body)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    answer.headers_mut().extend([
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
    ]);
    answer
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    let mut answer = match refusal {
        Refusal::Host => plain(StatusCode::MISDIRECTED_REQUEST, "this name is not in `admin.hosts`"),
        Refusal::Origin => plain(StatusCode::FORBIDDEN, "no web page may ask"),
        Refusal::Method => plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered"),
        Refusal::Token => plain(StatusCode::UNAUTHORIZED, "the admin token is needed"),
    };
    let more = match refusal {
        Refusal::Method => Some((ALLOW, HeaderValue::from_static("GET, HEAD"))),
        Refusal::Token => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"portcullis admin\""))),
        Refusal::Host | Refusal::Origin => None,
    };
    answer.headers_mut().extend(more);
    answer
}
