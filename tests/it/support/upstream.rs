//! An HTTP server inside the test: answers as scripted, over HTTP/1.1 and cleartext HTTP/2, and remembers every request.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One request as it arrived. Header names are lower case; values and their order are as sent.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The values of one header, in order.
    pub fn header(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter().filter(|(found, _)| found == name);
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What the upstream says: a status, headers, and pieces of body, each after a wait.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    wait: Duration,
    pieces: Vec<(Duration, Bytes)>,
    breaks: bool,
}

impl Answer {
    /// A status with neither headers nor body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), wait: Duration::ZERO, pieces: Vec::new(), breaks: false }
    }

    /// 200 with a JSON body.
    pub fn json(value: &Value) -> Self {
        Self::status(200).header("content-type", "application/json").body(value.to_string())
    }

    /// 200 with one server-sent event for each message, `pause` apart.
    pub fn sse(messages: &[Value], pause: Duration) -> Self {
        let start = Self::status(200).header("content-type", "text/event-stream");
        messages
            .iter()
            .fold(start, |answer, message| answer.piece(pause, format!("event: message\ndata: {message}\n\n")))
    }

    /// Changes the status and keeps the rest.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(self, bytes: impl Into<Bytes>) -> Self {
        self.piece(Duration::ZERO, bytes)
    }

    /// Adds a piece of body, sent after a pause.
    pub fn piece(mut self, pause: Duration, bytes: impl Into<Bytes>) -> Self {
        self.pieces.push((pause, bytes.into()));
        self
    }

    /// Waits before the head.
    pub fn after(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Keeps the body open for ever.
    pub fn then_waits(self) -> Self {
        self.piece(Duration::from_secs(3600), "")
    }

    /// Breaks the connection where the body should end.
    pub fn then_breaks(mut self) -> Self {
        self.breaks = true;
        self
    }
}

/// The running server; it ends when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    cut: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Answers each request with what `script` says.
    pub async fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let script = Arc::new(script);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let cut = Arc::new(AtomicUsize::new(0));
        let (record, counter) = (Arc::clone(&seen), Arc::clone(&cut));
        Self::accepting(seen, cut, move |socket| {
            let (script, seen, cut) = (Arc::clone(&script), Arc::clone(&record), Arc::clone(&counter));
            async move {
                let service = hyper::service::service_fn(move |request| {
                    let (script, seen, cut) = (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&cut));
                    async move { respond(request, &*script, &seen, &cut).await }
                });
                // An error here is the other side hanging up, which tests do on purpose.
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await);
            }
        })
        .await
    }

    /// A small MCP server: `tools/list` names `tools`, `tools/call` says its arguments back, other methods answer `{}`.
    pub async fn mcp(tools: &[&str]) -> Self {
        let listed: Vec<Value> =
            tools.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
        Self::start(move |request| {
            let message = request.json();
            let result = match message["method"].as_str() {
                Some("tools/list") => json!({"tools": listed}),
                Some("tools/call") => {
                    json!({"content": [{"type": "text", "text": message["params"]["arguments"].to_string()}]})
                }
                Some(_) => json!({}),
                None => return Answer::status(202),
            };
            match message.get("id") {
                Some(id) => Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": result})),
                None => Answer::status(202),
            }
        })
        .await
    }

    /// Answers whatever arrives with these bytes, HTTP or not, and closes.
    pub async fn garbage(bytes: &'static [u8]) -> Self {
        Self::accepting(Arc::default(), Arc::default(), move |mut socket: TcpStream| async move {
            let mut ignored = [0; 4096];
            drop(socket.read(&mut ignored).await);
            drop(socket.write_all(bytes).await);
        })
        .await
    }

    async fn accepting<F>(
        seen: Arc<Mutex<Vec<Request>>>,
        cut: Arc<AtomicUsize>,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound address");
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket));
            }
        });
        Self { address, seen, cut, task }
    }

    /// `http://127.0.0.1:PORT` followed by `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that arrived so far.
    pub fn received(&self) -> Vec<Request> {
        self.seen.lock().expect("the record").clone()
    }

    /// How many answers were cut off by the other side before their end.
    pub fn cut_off(&self) -> usize {
        self.cut.load(Ordering::SeqCst)
    }

    /// Forgets what arrived.
    pub fn forget(&self) {
        self.seen.lock().expect("the record").clear();
    }

    /// Nothing reached the upstream.
    #[track_caller]
    pub fn assert_silent(&self) {
        let received = self.received();
        assert!(received.is_empty(), "the upstream must see nothing, but it saw {received:#?}");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    script: &(impl Fn(&Request) -> Answer + Send + Sync),
    seen: &Mutex<Vec<Request>>,
    cut: &Arc<AtomicUsize>,
) -> Result<hyper::Response<Pieces>, Infallible> {
    let (head, body) = request.into_parts();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
        body: body.collect().await.map(|all| all.to_bytes().to_vec()).unwrap_or_default(),
    };
    seen.lock().expect("the record").push(request.clone());
    let answer = script(&request);
    tokio::time::sleep(answer.wait).await;
    let mut response = hyper::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        for (pause, bytes) in answer.pieces {
            tokio::time::sleep(pause).await;
            if send.send(Ok(Frame::data(bytes))).await.is_err() {
                return;
            }
        }
        if answer.breaks {
            drop(send.send(Err(std::io::ErrorKind::ConnectionReset.into())).await);
        }
    });
    Ok(response.body(Pieces { receive, ended: false, cut: Arc::clone(cut) }).expect("a well-formed answer"))
}

/// A body whose pieces come from a channel.
struct Pieces {
    receive: mpsc::Receiver<std::io::Result<Frame<Bytes>>>,
    ended: bool,
    cut: Arc<AtomicUsize>,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if !self.ended {
            self.cut.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let next = self.receive.poll_recv(cx);
        self.ended |= matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }
}
