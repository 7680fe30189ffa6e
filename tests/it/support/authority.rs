//! A certificate authority of the tests, and what it vouches for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority, and a certificate that it signed.
pub struct Authority {
    /// Its own certificate, in PEM.
    pub ca: String,
    pub chain: String,
    pub key: String,
    server: Arc<ServerConfig>,
}

impl Authority {
    /// A new authority that vouches for one host.
    pub fn of(host: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than that of what it signs, which would look signed by itself.
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        let own = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, own).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![host.to_owned()]).expect("a host");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let server = ServerConfig::builder().with_no_client_auth();
        let server =
            server.with_single_cert(vec![certificate.der().clone()], secret).expect("a certificate and its key");
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        Self { ca: authority.pem(), chain, key, server: Arc::new(server) }
    }
}

/// A host on this machine that has one JSON document, over TLS.
#[derive(Debug)]
pub struct DocumentHost {
    /// `https://localhost:PORT`.
    pub origin: String,
    connections: Arc<AtomicUsize>,
}

impl DocumentHost {
    /// Serves what `document` makes of the origin, under every path.
    pub async fn start(authority: &Authority, document: impl Fn(&str) -> Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("https://localhost:{}", listener.local_addr().expect("its address").port());
        let body = document(&origin).to_string();
        let head = format!("content-type: application/json\r\ncontent-length: {}\r\nconnection: close", body.len());
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let acceptor = TlsAcceptor::from(Arc::clone(&authority.server));
        let connections: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    let mut request = vec![0; 8192];
                    drop(stream.read(&mut request).await);
                    drop(stream.write_all(answer.as_bytes()).await);
                    drop(stream.shutdown().await);
                });
            }
        });
        Self { origin, connections }
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
