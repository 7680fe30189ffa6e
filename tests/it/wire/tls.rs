//! TLS with HTTP/2 chosen by ALPN.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{BODY, Scene, policy};
use crate::support::{Gateway, Issuer, Upstream};

#[tokio::test]
async fn a_call_over_tls_and_http2_reaches_the_upstream_and_a_denied_one_does_not() {
    let issued = rcgen::generate_simple_self_signed(vec!["mcp.test".to_owned()]).expect("a certificate");
    let installation = "public_url: https://mcp.test\n\
        listeners: [{ address: \"127.0.0.1:1\", tls: { certificate: cert.pem, key: key.pem } }]\n";
    let (upstream, issuer) = (Upstream::mcp(&["echo", "drop"]).await, Issuer::start().await);
    let text = policy(&upstream, &issuer, "rules: [{ allow: { tools: [echo] } }]");
    let setup = Gateway::new()
        .policy("wire", &text)
        .installation(installation)
        .file("cert.pem", &issued.cert.pem())
        .file("key.pem", &issued.signing_key.serialize_pem());
    let scene = Scene::start(upstream, issuer, setup).await;
    let token = scene.issuer.token("https://mcp.test/wire/mcp", json!({}));

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).expect("a root");
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let socket = TcpStream::connect(scene.gateway.address()).await.expect("a listening gateway");
    let name = ServerName::try_from("mcp.test").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("a verified connection");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "HTTP/2 is preferred");

    let (mut send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    for (tool, status) in [("drop", 403), ("echo", 200)] {
        let request = http::Request::post("https://mcp.test/wire/mcp")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25");
        let (answer, mut body) =
            send.send_request(request.body(()).expect("a request"), false).expect("a stream of the connection");
        body.send_data(BODY.replace("echo", tool).into(), true).expect("a body");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), status, "{tool}");
        let mut content = Vec::new();
        let mut pieces = answer.into_body();
        while let Some(piece) = pieces.data().await {
            content.extend_from_slice(&piece.expect("a piece"));
        }
        let content: serde_json::Value = serde_json::from_slice(&content).expect("JSON over HTTP/2");
        assert_eq!(content["id"], 1, "{tool}: {content}");
        if tool == "drop" {
            scene.upstream.assert_silent();
        }
    }
    assert_eq!(scene.upstream.received().len(), 1, "only what is allowed reaches the upstream");
    let clear = super::Socket::connect(scene.gateway.address()).await;
    let mut clear = clear;
    clear.send(scene.filled(super::GOOD).as_bytes()).await;
    let said = clear.until_closed("plain HTTP on a port with TLS").await;
    assert!(!said.0.contains(" 200 "), "nothing is served in clear: {said:?}");
    assert_eq!(scene.upstream.received().len(), 1, "nothing that came in clear reaches the upstream");
}
