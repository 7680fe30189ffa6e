//! Fetches against servers on loopback that answer as badly as they can.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::dns::Resolve as _;

use super::*;

type Found = Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;

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

async fn document(client: &Client, url: &Url) -> Result<Bytes, String> {
    let request = Request::get(url.as_str()).body(Bytes::new()).unwrap();
    answered(client, request, LARGEST).await.map(Response::into_body)
}

async fn as_stranger(url: &str) -> Result<Response<Bytes>, FetchError> {
    egress().send(Target::Stranger, Request::get(url).body(Bytes::new()).unwrap()).await
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
async fn j02_size_and_time_are_bounded() {
    let large: &'static [u8] =
        Box::leak([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'a'; LARGEST + 1]].concat().into_boxed_slice());
    assert!(get(server(large, Duration::ZERO).as_str()).await.unwrap_err().contains("512 KiB"));
    let of_stranger = |body: usize| {
        let answer = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'a'; body]].concat();
        let url = server(Box::leak(answer.into_boxed_slice()), Duration::ZERO);
        let request = Request::get(url.as_str()).body(Bytes::new()).unwrap();
        async move { answered(&egress().operator.0, request, LARGEST_OF_STRANGERS).await }
    };
    assert!(of_stranger(LARGEST_OF_STRANGERS + 1).await.unwrap_err().contains("64 KiB"));
    assert_eq!(of_stranger(LARGEST_OF_STRANGERS).await.unwrap().body().len(), LARGEST_OF_STRANGERS);
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
        assert!(as_stranger(url).await.is_err(), "{url}");
    }
    let by_name = as_stranger("https://localhost:1/").await.unwrap_err();
    assert!(by_name.cause.contains("may be fetched"), "judged where the name is resolved: {by_name}");
    assert!(egress().stranger.1.check(&"https://8.8.8.8/".parse().unwrap()).is_ok());
}

/// A name server that answers one after the other, and counts how often it was asked.
fn changing(answers: &'static [&'static [&'static str]]) -> (impl Fn(String) -> Found + Send + Sync, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let look_up = move |_: String| -> Found {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        let answer = answers[turn.min(answers.len() - 1)];
        Box::pin(async move { Ok(answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()) })
    };
    (look_up, asked)
}

async fn resolved(guard: &Guard) -> Result<Vec<String>, String> {
    let found = guard.resolve("id.example".parse().unwrap()).await.map_err(|error| error.to_string())?;
    Ok(found.map(|address| address.ip().to_string()).collect())
}

#[tokio::test]
async fn q02_a_name_that_changes_its_mind_is_judged_by_the_answer_that_is_connected_to() {
    let (look_up, asked) = changing(&[&["8.8.8.8"], &["127.0.0.1"]]);
    let stranger = Guard::new(Target::Stranger, Vec::new()).asking(look_up);
    assert_eq!(resolved(&stranger).await.unwrap(), ["8.8.8.8"], "the addresses judged are those connected to");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "and nobody asks a second time in between");
    assert!(resolved(&stranger).await.unwrap_err().contains("may be fetched"), "the next answer is judged again");

    // Through the client: the server behind the first answer is reached, with one look-up for the whole fetch.
    let good = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}", Duration::ZERO);
    let url: Url = good.as_str().replace("127.0.0.1", "localhost").parse().unwrap();
    let (look_up, asked) = changing(&[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1", "169.254.169.254"]]);
    let guard = Guard::new(Target::Operator, Vec::new()).asking(look_up);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = client(&EgressSettings::default(), &guard).unwrap();
    assert_eq!(document(&client, &url).await.unwrap(), Bytes::from_static(b"{}"));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the address checked is the address connected to");
    for case in ["an answer that moved to a metadata service", "one bad address among good ones"] {
        assert!(document(&client, &url).await.unwrap_err().contains("may be fetched"), "{case}");
    }
}

#[tokio::test]
async fn q02_each_class_judges_every_kind_of_address_that_a_name_may_have() {
    let judged = |class, allowed: &[&str], ip: &'static str| {
        let guard = Guard::new(class, allowed.iter().map(|host| (*host).to_owned()).collect());
        let look_up =
            move |_: String| -> Found { Box::pin(async move { Ok(vec![SocketAddr::new(ip.parse().unwrap(), 0)]) }) };
        let guard = guard.asking(look_up);
        async move { resolved(&guard).await.is_ok() }
    };
    for (ip, operator) in [
        ("10.1.2.3", true),
        ("172.16.0.1", true),
        ("192.168.1.1", true),
        ("100.64.0.1", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("fd00::1", true),
        ("169.254.169.254", false),
        ("169.254.170.2", false),
        ("100.100.100.200", false),
        ("fd00:ec2::254", false),
        ("fe80::1", false),
        ("::ffff:169.254.169.254", false),
        ("64:ff9b::a9fe:a9fe", false),
        ("0.0.0.0", false),
        ("::", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("192.0.2.1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(judged(Target::Operator, &[], ip).await, operator, "operator: {ip}");
        assert!(judged(Target::Operator, &["id.example"], ip).await, "operator, listed: {ip}");
        assert!(!judged(Target::Stranger, &["id.example"], ip).await, "a stranger reaches no special address: {ip}");
    }
    for ip in ["8.8.8.8", "2606:4700:4700::1111"] {
        assert!(judged(Target::Operator, &[], ip).await && judged(Target::Stranger, &[], ip).await, "public: {ip}");
    }
    let stranger = Guard::new(Target::Stranger, vec!["id.example".into()]);
    for url in ["http://id.example/", "http://localhost/", "http://8.8.8.8/", "ftp://id.example/"] {
        assert!(stranger.check(&url.parse().unwrap()).is_err(), "a stranger's document comes over https: {url}");
    }
    assert!(stranger.check(&"https://id.example/".parse().unwrap()).is_ok());
}

#[tokio::test]
async fn q02_a_stranger_reaches_a_listed_origin_on_a_private_network_and_nothing_beside_it() {
    let origins = |origins: &[&str]| origins.iter().map(|origin| origin.parse().unwrap()).collect::<Vec<Url>>();
    let judged = |ip: &'static str| {
        let look_up =
            move |_: String| -> Found { Box::pin(async move { Ok(vec![SocketAddr::new(ip.parse().unwrap(), 0)]) }) };
        let listed = origins(&["https://id.example:8443"]);
        Guard::new(Target::Stranger, Vec::new()).with_private(listed).asking(look_up)
    };
    for (ip, reached) in [
        ("10.1.2.3", true),
        ("127.0.0.1", true),
        ("fd00::1", true),
        ("8.8.8.8", true),
        ("169.254.169.254", false),
        ("100.100.100.200", false),
        ("0.0.0.0", false),
        ("::ffff:169.254.169.254", false),
    ] {
        assert_eq!(resolved(&judged(ip)).await.is_ok(), reached, "{ip}");
    }
    let guard = judged("10.1.2.3");
    let check = |url: &str| guard.check(&url.parse().unwrap());
    assert!(check("https://id.example:8443/client.json").is_ok());
    for url in ["https://id.example/client.json", "https://id.example:22/", "http://id.example:8443/client.json"] {
        assert!(check(url).is_err(), "another origin of the host: {url}");
    }
    let other = guard.resolve("other.example".parse().unwrap()).await;
    assert!(other.is_err(), "another host at the same address");
    assert!(check("https://other.example/").is_ok(), "which may be anywhere else");
}

async fn send(method: &str, url: &Url) -> Result<Response<Bytes>, String> {
    let request = Request::builder().method(method).uri(url.as_str()).header("x-asked", "yes");
    let request = request.body(Bytes::from_static(b"token=x")).unwrap();
    egress().send(Target::Operator, request).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn q01_any_status_is_an_answer_and_redirects_are_not_followed() {
    let (listener, seen) = (TcpListener::bind("127.0.0.1:0").unwrap(), std::sync::mpsc::channel());
    let url: Url = format!("http://{}/ask?a=b", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"token=x") {
            let mut piece = [0; 1024];
            let length = stream.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..length]);
        }
        stream.write_all(b"HTTP/1.1 418 Teapot\r\nx-said: so\r\ncontent-length: 3\r\n\r\nno!").unwrap();
        seen.0.send(String::from_utf8(request).unwrap().to_lowercase()).unwrap();
    });
    let answer = send("POST", &url).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-said"].to_str().unwrap()), (418, "so"));
    assert_eq!(answer.body(), &Bytes::from_static(b"no!"));
    let asked = seen.1.recv().unwrap();
    assert!(asked.starts_with("post /ask?a=b http/1.1\r\n") && asked.contains("x-asked: yes\r\n"), "{asked}");

    let moved =
        server(b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", Duration::ZERO);
    assert_eq!(send("POST", &moved).await.unwrap().status().as_u16(), 307);
}

#[tokio::test]
async fn j02_an_answer_is_bounded_whatever_its_status() {
    let large: &'static [u8] =
        Box::leak([&b"HTTP/1.1 500 No\r\n\r\n"[..], &vec![b'a'; LARGEST + 1]].concat().into_boxed_slice());
    assert!(send("POST", &server(large, Duration::ZERO)).await.unwrap_err().contains("512 KiB"));
    let slow = server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{", Duration::from_secs(30));
    assert!(send("POST", &slow).await.unwrap_err().contains("5 seconds"));
}
