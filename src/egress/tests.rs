//! Fetches against servers on loopback that answer as badly as they can.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// A server that answers every connection with these bytes, then waits before it closes.
fn server(answer: &'static [u8], pause: Duration) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(answer);
            std::thread::sleep(pause);
        }
    });
    url
}

fn egress() -> Egress {
    // A second installation in one process is refused, and the first one is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Egress::new(&EgressSettings::default()).unwrap()
}

async fn get(url: &str) -> Result<Bytes, String> {
    egress().get(&url.parse().unwrap()).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn q01_a_document_is_got_and_redirects_are_not_followed() {
    let good = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Duration::ZERO);
    assert_eq!(get(good.as_str()).await.unwrap(), Bytes::from_static(b"{}"));
    let moved =
        server(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", Duration::ZERO);
    assert!(get(moved.as_str()).await.unwrap_err().contains("status 302"));
}

#[tokio::test]
async fn q03_size_and_time_are_bounded() {
    let large: &'static [u8] =
        Box::leak([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'a'; LARGEST + 1]].concat().into_boxed_slice());
    assert!(get(server(large, Duration::ZERO).as_str()).await.unwrap_err().contains("512 KiB"));
    let slow = server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{", Duration::from_secs(30));
    let started = std::time::Instant::now();
    assert!(get(slow.as_str()).await.unwrap_err().contains("5 seconds"));
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn q02_the_operator_reaches_no_metadata_service_and_plain_http_only_here() {
    for url in [
        "https://169.254.169.254/latest",
        "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://100.100.100.200/",
        "https://0.0.0.0/",
        "http://10.0.0.1/",
        "http://id.example/",
        "ftp://id.example/",
    ] {
        let error = get(url).await.unwrap_err();
        assert!(error.contains("may be fetched") || error.contains("https"), "{url}: {error}");
    }
    let listed =
        Egress::new(&EgressSettings { allowed_hosts: vec!["169.254.1.1".into()], ..EgressSettings::default() })
            .unwrap();
    assert!(listed.operator.1.check(&"https://169.254.1.1/".parse().unwrap()).is_ok());
    assert!(
        listed.stranger.1.check(&"https://169.254.1.1/".parse().unwrap()).is_err(),
        "the exception is the operator's"
    );
}

#[tokio::test]
async fn q02_a_stranger_reaches_public_addresses_only() {
    let good = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Duration::ZERO);
    for url in [
        good.as_str(),
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[64:ff9b::a00:1]/",
        "https://192.0.2.1/",
    ] {
        assert!(egress().fetch(Class::Stranger, &url.parse().unwrap()).await.is_err(), "{url}");
    }
    let by_name = egress().fetch(Class::Stranger, &"https://localhost:1/".parse().unwrap()).await.unwrap_err();
    assert!(by_name.cause.contains("may be fetched"), "judged where the name is resolved: {by_name}");
    assert!(egress().stranger.1.check(&"https://8.8.8.8/".parse().unwrap()).is_ok());
}
