//! What the gateway fetches by itself: with the proxy and the authorities of its configuration, and no others.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::{INSTALLATION, Scene, check};
use crate::support::{Answer, Gateway, Issuer, Key, Upstream};

fn policy(upstream: &Upstream, issuer: &str, url: &str) -> String {
    format!(
        "service: main\nroute: {{ path: /main/mcp }}\nupstream: {{ url: \"{}\" }}\n\
         providers: {{ corp: {{ jwks: {{ issuer: \"{issuer}\", algorithms: [RS256], url: \"{url}\" }} }} }}\n\
         authentication: {{ providers: [corp] }}\nrules: [{{ allow: {{ tools: [echo] }} }}]\n",
        upstream.url("/mcp")
    )
}

/// Answers everything, absolute-form requests too, with the issuer's key set.
async fn keys() -> Upstream {
    let set = json!({"keys": [Key::Rs256.jwk("rs256")]});
    Upstream::start(move |_| Answer::json(&set)).await
}

#[tokio::test]
async fn q01_a_proxy_of_the_environment_is_never_used() {
    let (upstream, issuer, trap) = (Upstream::mcp(&["echo"]).await, Issuer::start().await, keys().await);
    let mut setup =
        Gateway::new().installation(INSTALLATION).policy("main", &policy(&upstream, &issuer.url(), &issuer.jwks_url()));
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        setup = setup.secret(variable, &trap.url(""));
    }
    let scene = Scene { gateway: setup.start().await, upstream, issuer };
    scene.accepts("keys that came from the issuer itself", &scene.token(json!({}))).await;
    assert!(scene.issuer.key_fetches() > 0, "the issuer was asked");
    trap.assert_silent();
}

#[tokio::test]
async fn q01_the_proxy_of_the_configuration_gets_every_fetch() {
    let (upstream, issuer, proxy) = (Upstream::mcp(&["echo"]).await, Issuer::start().await, keys().await);
    let installation = format!("{INSTALLATION}egress: {{ proxy: \"{}\" }}\n", proxy.url(""));
    let setup = Gateway::new()
        .installation(&installation)
        .policy("main", &policy(&upstream, &issuer.url(), &issuer.jwks_url()));
    let scene = Scene { gateway: setup.start().await, upstream, issuer };
    scene.accepts("keys that came through the proxy", &scene.token(json!({}))).await;
    assert_eq!(scene.issuer.key_fetches(), 0, "nothing goes past the proxy");
    assert!(proxy.received().iter().all(|request| request.path.ends_with("/jwks")), "{:?}", proxy.received());
}

/// An https server on `localhost` that answers everything with `body`; no public authority knows its certificate, which is
/// given in PEM.
pub async fn private_https(body: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
    let port = listener.local_addr().expect("a bound address").port();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate hangs up, which is what half of the test is about.
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                drop(stream.read(&mut [0; 4096]).await);
                drop(stream.write_all(answer.as_bytes()).await);
                drop(stream.shutdown().await);
                // What is left unread would break off the answer.
                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
            });
        }
    });
    (format!("https://localhost:{port}/keys"), made.cert.pem())
}

#[tokio::test]
async fn q01_a_private_authority_is_trusted_when_the_configuration_names_it() {
    let (url, pem) = private_https(&json!({"keys": [Key::Rs256.jwk("rs256")]}).to_string()).await;
    for (case, installation) in [
        ("nothing is named", INSTALLATION.to_owned()),
        ("the authority is named", format!("{INSTALLATION}egress: {{ ca_file: ca.pem }}\n")),
    ] {
        let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
        let setup = Gateway::new()
            .installation(&installation)
            .file("ca.pem", &pem)
            .policy("main", &policy(&upstream, &issuer.url(), &url));
        let scene = Scene { gateway: setup.start().await, upstream, issuer };
        let token = scene.token(json!({}));
        if installation == INSTALLATION {
            let reply = scene.call("main", &token).await;
            assert_eq!(reply.status, 503, "{case}: {reply:?}");
            assert_eq!(scene.reason(&reply).await, "provider-unavailable", "{case}");
            scene.upstream.assert_silent();
        } else {
            scene.accepts(case, &token).await;
        }
    }
}

#[tokio::test]
async fn q02_bare_addresses_and_plain_http_are_no_places_for_keys() {
    let upstream = Upstream::mcp(&["echo"]).await;
    let said = |url: &str| check(&Gateway::new().policy("main", &policy(&upstream, "https://id.example.com", url)));
    for url in [
        "https://169.254.169.254/latest/keys",
        "https://100.100.100.200/keys",
        "https://[::ffff:169.254.169.254]/keys",
        "https://[fe80::1]/keys",
        "https://0.0.0.0/keys",
        "https://10.0.0.1/keys",
        "https://2852039166/keys",
        "https://0xa9fea9fe/keys",
        "http://id.example.com/keys",
        "file:///etc/keys",
    ] {
        let (content, report) = said(url);
        assert!(!content && report.contains("unsafe-url"), "{url}: {report}");
    }
    for url in ["https://keys.example.com/keys", "http://127.0.0.1:9/keys"] {
        let (content, report) = said(url);
        assert!(content, "{url}: {report}");
    }
    upstream.assert_silent();
}
