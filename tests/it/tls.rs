//! Upstreams by https: verified by name and authority, and told who the gateway is when they ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Client, Gateway, Issuer};

/// An authority and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Signed {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
    key_der: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn signs(&self, name: &str) -> Signed {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key_der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Signed { chain: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone(), key_der }
    }
}

/// A server that answers every request on a good connection with one result, and counts them.
async fn server(certificate: Signed, clients: Option<&Authority>) -> (u16, Arc<AtomicUsize>) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let builder = ServerConfig::builder();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("an authority");
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().expect("a verifier"))
        }
    };
    let config =
        builder.with_single_cert(vec![certificate.der], certificate.key_der).expect("a certificate and its key");
    let (acceptor, served) = (TlsAcceptor::from(Arc::new(config)), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
    let port = listener.local_addr().expect("a bound address").port();
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let mut request = vec![0; 16 * 1024];
                loop {
                    let Ok(read @ 1..) = stream.read(&mut request).await else { return };
                    // Head and body may come apart: the answer is to the head.
                    if !request[..read].starts_with(b"POST ") {
                        continue;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let body = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}}).to_string();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    drop(stream.write_all((head + &body).as_bytes()).await);
                }
            });
        }
    });
    (port, served)
}

/// What a call through the gateway is answered, and how many requests the server has seen.
async fn call(port: u16, tls: &str, files: &[(&str, &str)], served: &AtomicUsize) -> (u16, usize) {
    let issuer = Issuer::start().await;
    let policy = format!(
        r#"
service: story
route: {{ path: /story/mcp }}
upstream: {{ url: "https://localhost:{port}/mcp", {tls} }}
providers: {{ corp: {{ oidc: {{ issuer: "{}" }} }} }}
authentication: {{ providers: [corp] }}
rules: [{{ allow: {{ tools: [echo] }} }}]
"#,
        issuer.url()
    );
    let setup = files.iter().fold(Gateway::new(), |setup, (path, text)| setup.file(&format!("policies/{path}"), text));
    let gateway = setup.policy("story", &policy).start().await;
    let url = gateway.url("/story/mcp");
    let reply = Client::new(&url).token(&issuer.token(&url, json!({}))).call_tool("echo", json!({})).await;
    if reply.status != 200 {
        let told = reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(["upstream unreachable", "invalid upstream answer"].contains(&&*told), "no cause is told: {told}");
    }
    (reply.status, served.load(Ordering::SeqCst))
}

#[tokio::test]
async fn an_https_upstream_is_verified_by_its_name_and_authority() {
    let authority = Authority::new();
    let ca = authority.0.pem();
    let files = [("ca.pem", ca.as_str())];
    let (port, served) = server(authority.signs("localhost"), None).await;
    assert_eq!(call(port, "", &files, &served).await, (502, 0), "an authority that nobody named");
    assert_eq!(call(port, "tls: { ca_file: ca.pem }", &files, &served).await, (200, 1));
    let stranger = Authority::new().0.pem();
    let files = [("ca.pem", stranger.as_str())];
    assert_eq!(call(port, "tls: { ca_file: ca.pem }", &files, &served).await, (502, 1), "another authority");

    let (port, served) = server(authority.signs("mcp.internal"), None).await;
    let files = [("ca.pem", ca.as_str())];
    assert_eq!(call(port, "tls: { ca_file: ca.pem }", &files, &served).await, (502, 0), "another name");
    let named = "tls: { ca_file: ca.pem, server_name: mcp.internal }";
    assert_eq!(call(port, named, &files, &served).await, (200, 1), "the name that the policy says");
}

#[tokio::test]
async fn an_upstream_that_asks_is_shown_the_gateways_certificate() {
    let (servers, gateways) = (Authority::new(), Authority::new());
    let ca = servers.0.pem();
    let (port, served) = server(servers.signs("localhost"), Some(&gateways)).await;
    let own = gateways.signs("gateway");
    let files = [("ca.pem", ca.as_str()), ("own.pem", own.chain.as_str()), ("own.key", own.key.as_str())];
    assert_eq!(call(port, "tls: { ca_file: ca.pem }", &files, &served).await.1, 0, "nobody has shown anything");
    let shown = "tls: { ca_file: ca.pem, certificate: own.pem, key: own.key }";
    assert_eq!(call(port, shown, &files, &served).await, (200, 1));
}
