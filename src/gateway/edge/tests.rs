//! Raw bytes against the guard, without a proxy behind it: what is handed on, and what is answered.

use std::sync::Mutex;

use pingora::protocols::l4::stream::Stream as L4Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<(&'static str, u16)>>);

impl Observer for Seen {
    fn refused(&self, _peer: Option<IpAddr>, cause: &'static str, status: u16) {
        self.0.lock().unwrap().push((cause, status));
    }
}

/// What was handed on, what was answered, and what the observer saw.
struct Outcome {
    handed_on: Vec<u8>,
    answer: String,
    seen: Vec<(&'static str, u16)>,
}

/// Sends `pieces` one after the other through a guard.
async fn send(pieces: &[&[u8]], settings: Settings) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let seen = Arc::new(Seen::default());
    let mut guarded = Guarded::new(Box::new(L4Stream::from(server)), settings, seen.clone());
    let reader = tokio::spawn(async move {
        let mut handed_on = Vec::new();
        while guarded.read_buf(&mut handed_on).await.is_ok_and(|read| read > 0) {}
        handed_on
    });
    for piece in pieces {
        // The guard hangs up on what it has refused; on a busy machine that is before all is sent.
        client.write_all(piece).await.ok();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    client.shutdown().await.ok();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.ok();
    let handed_on = reader.await.unwrap();
    let seen = seen.0.lock().unwrap().clone();
    Outcome { handed_on, answer: String::from_utf8(answer).unwrap(), seen }
}

async fn refused(request: &[u8]) {
    let shown = String::from_utf8_lossy(request).into_owned();
    let outcome = send(&[request], Settings::default()).await;
    assert!(outcome.answer.starts_with("HTTP/1.1 400 "), "{shown:?} was answered {:?}", outcome.answer);
    assert!(outcome.answer.contains("connection: close"), "{shown:?}");
    assert!(outcome.handed_on.is_empty(), "{shown:?} handed on {:?}", String::from_utf8_lossy(&outcome.handed_on));
    assert_eq!(outcome.seen.len(), 1, "{shown:?}");
}

async fn passes(request: &[u8]) {
    let shown = String::from_utf8_lossy(request).into_owned();
    let outcome = send(&[request], Settings::default()).await;
    assert_eq!(outcome.handed_on, request, "{shown:?}: {:?}", outcome.seen);
    assert!(outcome.answer.is_empty() && outcome.seen.is_empty(), "{shown:?}");
}

#[tokio::test]
async fn l01_well_formed_requests_pass_byte_for_byte() {
    passes(b"GET /mcp HTTP/1.1\r\nHost: h\r\n\r\n").await;
    passes(b"GET /mcp HTTP/1.0\r\nHost: h\r\n\r\n").await;
    passes(b"GET http://h/mcp HTTP/1.1\r\nHost: h\r\n\r\n").await;
    passes(b"POST /mcp HTTP/1.1\r\nHost: h:8080\r\nContent-Length: 2\r\n\r\n{}").await;
    passes(b"POST / HTTP/1.1\r\nHost: [::1]:1\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n").await;
    passes(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b;c=\"d e\"\r\n{}\r\n00\r\nX-T: 1\r\n\r\n").await;
    passes(b"POST / HTTP/1.1\r\nHost: h\r\nX:\tv \xe9\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
}

#[tokio::test]
async fn l01_ambiguous_framing_is_refused() {
    for headers in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 4",
        "Content-Length: +4",
        "Content-Length: -4",
        "Content-Length: 0x4",
        "Content-Length: 4 4",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer-Encoding\r\n : chunked",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X: a\r\n folded",
        "X: a\x0bTransfer-Encoding: chunked",
        "X: a\rTransfer-Encoding: chunked",
        "X: a\0b",
        "X y: a",
        ": a",
        "X",
        "\u{e9}: a",
    ] {
        refused(format!("POST /mcp HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n0\r\n\r\n").as_bytes()).await;
    }
    refused(b"POST /mcp HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn l01_request_line_and_host_are_exact() {
    for head in [
        "GET /mcp HTTP/1.1\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET http://b/mcp HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET mcp HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /mcp#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /m\0cp HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /m\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /m\\x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  /mcp HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /mcp  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\t/mcp HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /mcp HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /mcp HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET /mcp HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /mcp http/1.1\r\nHost: a\r\n\r\n",
        "GET /mcp\r\nHost: a\r\n\r\n",
        "get /mcp HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /mcp HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET /mcp HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /mcp HTTP/1.1\nHost: a\n\n",
        "GET /mcp HTTP/1.1\r\nHost: a\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: a\r\n\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        refused(head.as_bytes()).await;
    }
}

#[tokio::test]
async fn l02_methods_that_are_never_offered_end_the_connection() {
    for head in ["CONNECT h:443", "CONNECT /", "TRACE /"] {
        let outcome = send(&[format!("{head} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()], Settings::default()).await;
        assert!(outcome.answer.starts_with("HTTP/1.1 405 "), "{head}: {}", outcome.answer);
        assert!(outcome.answer.contains("\r\nallow: POST\r\n"), "{head}: {}", outcome.answer);
        assert!(outcome.handed_on.is_empty(), "{head}");
    }
}

#[tokio::test]
async fn l01_heads_are_bounded() {
    let value = "a".repeat(900_000);
    refused(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {value}\r\n\r\n").as_bytes()).await;
    let line = "a".repeat(40_000);
    refused(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {line}\r\n\r\n").as_bytes()).await;
    let many = "X: a\r\n".repeat(200);
    refused(format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n").as_bytes()).await;
}

#[tokio::test]
async fn l01_chunks_are_exact_and_nothing_behind_them_is_taken_for_a_request() {
    for body in [
        "2;\r\n{}\r\n0\r\n\r\n",
        "2;a=\"\x01\"\r\n{}\r\n0\r\n\r\n",
        "2 ;a\r\n{}\r\n0\r\n\r\n",
        "2; a\r\n{}\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "2\r{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "fffffffff\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}x\r\n0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\nX: a\nY: b\r\n\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
        let outcome = send(&[format!("{head}{body}{smuggled}").as_bytes()], Settings::default()).await;
        assert!(outcome.answer.starts_with("HTTP/1.1 400 "), "{body:?}: {:?}", outcome.answer);
        let handed_on = String::from_utf8(outcome.handed_on).unwrap();
        assert!(!handed_on.contains("smuggled"), "{body:?}");
    }
}

#[tokio::test]
async fn l01_how_bytes_are_cut_makes_no_difference() {
    let request = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz";
    let pieces: Vec<&[u8]> = request.chunks(1).collect();
    assert_eq!(send(&pieces, Settings::default()).await.handed_on, request);
    let bad = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nxGET /b HTTP/1.1\r\nHost: h\n\n";
    let pieces: Vec<&[u8]> = bad.chunks(1).collect();
    let outcome = send(&pieces, Settings::default()).await;
    assert!(!String::from_utf8(outcome.handed_on).unwrap().contains("/b"), "the second is never seen");
    assert_eq!(outcome.seen.len(), 1);
}

#[tokio::test]
async fn a_look_whether_the_client_is_there_takes_nothing_of_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let mut guarded = Guarded::new(Box::new(L4Stream::from(server)), Settings::default(), Arc::new(Seen::default()));
    let next = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    client.write_all(next).await.unwrap();
    let look = tokio::time::timeout(Duration::from_millis(100), guarded.read(&mut [0; 1])).await;
    assert!(look.is_err(), "nothing is there for it: {look:?}");
    let mut head = vec![0; 1024];
    let read = guarded.read(&mut head).await.unwrap();
    assert_eq!(head.get(..read), Some(&next[..]), "the reader of heads gets all of it");
    drop(client);
    assert_eq!(guarded.read(&mut [0; 1]).await.unwrap(), 0, "and a client that is gone is seen");
}

#[tokio::test]
async fn l10_heads_and_bodies_have_a_deadline() {
    let settings =
        Settings { head: Duration::from_millis(300), body: Duration::from_millis(300), ..Settings::default() };
    let drip: Vec<&[u8]> = std::iter::once(&b"GET / HTTP/1.1\r\nHost: h\r\n"[..])
        .chain(std::iter::repeat_n(&b"X: a\r\n"[..], 400))
        .collect();
    let outcome = send(&drip, settings).await;
    assert!(
        outcome.answer.starts_with("HTTP/1.1 408 ") || outcome.seen == [("too many header lines", 400)],
        "{:?}",
        outcome.seen
    );
    assert!(outcome.handed_on.is_empty());

    let started = std::time::Instant::now();
    for request in [&b""[..], b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let mut guarded = Guarded::new(Box::new(L4Stream::from(server)), settings, Arc::new(Seen::default()));
        client.write_all(request).await.unwrap();
        let reader = tokio::spawn(async move { while guarded.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} });
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 408 "), !request.is_empty(), "{answer}");
        drop(client);
        reader.await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(9), "three times 0.3 s of deadline, with room");
}
