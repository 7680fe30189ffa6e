//! Puts everything together and runs it: listeners, gateway, background work.

mod control;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::HttpServerOptions;
use pingora::connectors::TransportConnector;
use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::listening::Service;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::runtime::Runtime;

use crate::admin;
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::snapshot::Snapshot;
use crate::gateway::app::App;
use crate::gateway::edge::{Edge, Settings};
use crate::gateway::{EdgeLog, Gateway};
use crate::policy::model::{Installation, Listener};
use crate::reload::{Follower, Reloader, Wake};
use crate::secret::{open_regular, words};
use crate::telemetry::sink::Sink;

/// The version with the commit it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("PORTCULLIS_COMMIT"), ")");
/// Streams of one HTTP/2 connection at the same time.
const STREAMS: u32 = 100;
/// Bytes of the header list of one HTTP/2 request.
const HEADER_LIST: u32 = 64 * 1024;
/// An HTTP/2 connection without streams is closed after this.
const IDLE: Duration = Duration::from_secs(60);
/// Requests of one HTTP/1 connection.
const KEEPALIVE_REQUESTS: u32 = 100_000;
/// Bytes of a record of TLS (RFC 8446 section 5.1): so much is read at once, and kept for every connection.
const RECORD: usize = 16 * 1024;
/// From SIGTERM until open requests are cut.
const GRACE: u64 = 10;

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not this machine's.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The audit log cannot be written.
    #[error("cannot write the audit log {}: {cause}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What happened.
        cause: std::io::Error,
    },
    /// The control socket cannot be made.
    #[error("cannot listen on the control socket {}: {cause}; `control_socket` in `portcullis.yaml` names another", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// What is in the way.
        cause: String,
    },
    /// A certificate or key cannot be used.
    #[error("certificate {}: {cause}", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The system refuses something else.
    #[error("{0}")]
    System(String),
}

/// Runs until a signal ends the process.
///
/// # Errors
/// What keeps it from starting.
pub fn run(reloader: Reloader, snapshot: Snapshot, background: &Runtime) -> Result<(), StartError> {
    let installation =
        Arc::clone(reloader.installation().ok_or_else(|| StartError::System("nothing was loaded".to_owned()))?);
    let sink = match &installation.log.file {
        Some(path) => Sink::to_file(path).map_err(|cause| StartError::Log { path: path.clone(), cause })?,
        None => Sink::to_stdout().map_err(|error| StartError::System(error.to_string()))?,
    };
    // Every connection is a file: the limit that shells hand out is for programs of another kind.
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => tracing::debug!(files, "open files"),
        Err(error) => tracing::warn!(event = "file-limit", %error, "the limit of open files stays as it was"),
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let current = Arc::new(ArcSwap::from_pointee(snapshot));
    let gateway = Gateway::new(Arc::clone(&current), sink.clone(), clock)
        .map_err(|denial| StartError::System(denial.public.into_owned()))?;
    let mut server = Server::new_with_opt_and_conf(None, configuration());
    server.bootstrap();
    let mut certificates = Vec::new();
    for listener in &installation.listeners {
        drop(TcpListener::bind(listener.address).map_err(|error| StartError::Listen(listener.address, error))?);
        server.add_service(service(listener, &gateway, &current, &mut certificates)?);
    }
    if let Some(admin) = &installation.admin {
        let counted = gateway.clone();
        let sources = admin::Sources {
            counters: gateway.counters(),
            health: reloader.health(),
            open: Box::new(move || counted.open()),
        };
        let answers = admin::Admin::new(Arc::clone(&current), sources, VERSION);
        let served =
            TcpListener::bind(admin.address).and_then(|listener| admin::serve(listener, answers, background.handle()));
        served.map_err(|error| StartError::Listen(admin.address, error))?;
    }
    if let Some(path) = &installation.control_socket {
        control::listen(path, reloader.desk(), background)?;
    }
    let (wake, woken) = std::sync::mpsc::channel();
    listen_to_hangups(background, wake.clone());
    let follower = Follower::new(reloader, wake);
    let following = std::thread::Builder::new().name("reload".into()).spawn(move || {
        follower.follow(&current, &woken, || renew(&certificates));
    });
    following.map_err(|error| StartError::System(error.to_string()))?;
    announce(&installation);
    server.run(RunArgs::default());
    sink.flush();
    Ok(())
}

fn configuration() -> ServerConf {
    ServerConf {
        threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(GRACE),
        ..ServerConf::default()
    }
}

type Guarded = Edge<App>;

fn service(
    listener: &Listener,
    gateway: &Gateway,
    current: &Arc<ArcSwap<Snapshot>>,
    certificates: &mut Vec<Arc<Certificate>>,
) -> Result<Service<Guarded>, StartError> {
    let mut options = HttpServerOptions::default();
    options.h2c = listener.h2c;
    options.keepalive_request_limit = Some(KEEPALIVE_REQUESTS);
    options.h2_idle_timeout = Some(IDLE);
    let mut h2 = H2Options::new();
    h2.max_concurrent_streams(STREAMS).max_header_list_size(HEADER_LIST);
    let connector = TransportConnector::new(None);
    let app = App::new(gateway.clone(), connector, options, h2);
    let edge = Edge::new(app, Settings::default(), Arc::new(EdgeLog::new(Arc::clone(current), gateway.counters())));
    let mut service = Service::new("gateway".to_owned(), edge);
    let address = listener.address.to_string();
    match &listener.tls {
        // The guarded stream reads ahead by itself: a buffer below it would only be 64 KiB more for every connection.
        None => service.add_listener(ListenerConfig::tcp(address).l4_buffer(L4BufferSettings::default().read(0))),
        Some((certificate, key)) => {
            let resolver = Arc::new(Certificate::read(certificate, key)?);
            certificates.push(Arc::clone(&resolver));
            let unusable = |error: Box<pingora::Error>| StartError::System(error.to_string());
            let mut settings =
                TlsSettings::intermediate(&certificate.to_string_lossy(), &key.to_string_lossy()).map_err(unusable)?;
            settings.set_cert_resolver(resolver);
            settings.enable_h2();
            let buffer = L4BufferSettings::default().read(RECORD);
            service.add_listener(ListenerConfig::tcp(address).tls(settings).l4_buffer(buffer));
        }
    }
    Ok(service)
}

/// Certificate and key of a listener, read anew when the files change.
#[derive(Debug)]
struct Certificate {
    files: (PathBuf, PathBuf),
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    fn read(certificate: &Path, key: &Path) -> Result<Self, StartError> {
        let files = (certificate.to_owned(), key.to_owned());
        let current =
            ArcSwap::new(certified(&files).map_err(|cause| StartError::Certificate { path: files.0.clone(), cause })?);
        Ok(Self { files, current })
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn certified((certificate, key): &(PathBuf, PathBuf)) -> Result<Arc<CertifiedKey>, String> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    // They are read again at every reload, which must not wait for the writer of a pipe.
    let open = |path: &PathBuf| open_regular(path).map_err(|error| words(error.kind()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(open(certificate)?).collect();
    let key = PrivateKeyDer::from_pem_reader(open(key)?).map_err(|error| error.to_string())?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain.map_err(|error| error.to_string())?, key, &provider);
    certified.map(Arc::new).map_err(|error| error.to_string())
}

/// A file that cannot be used leaves the certificate as it was.
fn renew(certificates: &[Arc<Certificate>]) {
    for certificate in certificates {
        match certified(&certificate.files) {
            Ok(new) if new.cert != certificate.current.load().cert => {
                tracing::info!(event = "certificate-renewed", file = %certificate.files.0.display(), "a new certificate serves");
                certificate.current.store(new);
            }
            Ok(_) => {}
            Err(cause) => {
                tracing::error!(event = "certificate-refused", file = %certificate.files.0.display(), cause, "the certificate stays as it was")
            }
        }
    }
}

fn listen_to_hangups(background: &Runtime, wake: Sender<Wake>) {
    background.spawn(async move {
        let hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        let Ok(mut hangups) = hangups.inspect_err(|error| tracing::warn!(%error, "SIGHUP is not heard")) else {
            return;
        };
        while hangups.recv().await.is_some() && wake.send(Wake::Asked).is_ok() {}
    });
}

/// Says on standard output where the gateway listens, once it does.
fn announce(installation: &Installation) {
    let listeners = installation.listeners.clone();
    let announcing = std::thread::Builder::new().name("announce".into()).spawn(move || {
        for listener in listeners {
            let mut address = listener.address;
            if address.ip().is_unspecified() {
                address.set_ip(if address.is_ipv4() {
                    [127, 0, 0, 1].into()
                } else {
                    std::net::Ipv6Addr::LOCALHOST.into()
                });
            }
            while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            // Nobody may be reading; that is no reason to stop.
            let _ = writeln!(std::io::stdout(), "listening={scheme}://{}", listener.address);
        }
    });
    if let Err(error) = announcing {
        tracing::warn!(%error, "the listeners are not announced");
    }
}
