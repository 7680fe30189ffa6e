//! An HTTP client that says exactly what it is told, and the JSON-RPC messages of both eras.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::PATIENCE;

/// Which revision of the protocol the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// 2025-11-25: no envelope, the version in a header.
    Legacy,
    /// 2026-07-28: the envelope in `_meta`, mirrored in headers.
    Modern,
}

impl Era {
    fn version(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Lower-case names in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Reply {
    /// The first value of a header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON: the only message of a JSON answer, the last one of an event stream.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        let message = if self.header("content-type").starts_with("text/event-stream") {
            text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or("null")
        } else {
            &text
        };
        serde_json::from_str(message).unwrap_or(Value::Null)
    }

    /// The `name` of every item of a list result.
    pub fn names(&self, list: &str) -> Vec<String> {
        let items = self.json()["result"][list].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
    }
}

/// A client with one kept-alive connection.
#[derive(Debug)]
pub struct Client {
    authority: String,
    host: String,
    path: String,
    era: Era,
    headers: Vec<(String, String)>,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// A client for one `http://authority/path`, speaking the modern era without a token.
    pub fn new(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("an http URL");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let connection = Mutex::new(None);
        Self {
            authority: authority.to_owned(),
            host: authority.to_owned(),
            path: format!("/{path}"),
            era: Era::Modern,
            headers: Vec::new(),
            connection,
        }
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Names another host than the one it connects to.
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub fn era(mut self, era: Era) -> Self {
        self.era = era;
        self
    }

    /// Adds a header to every request.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `tools/call`.
    pub async fn call_tool(&self, name: &str, arguments: Value) -> Reply {
        self.request("tools/call", json!({"name": name, "arguments": arguments})).await
    }

    /// `tools/list`, `prompts/list`, …
    pub async fn list(&self, what: &str) -> Reply {
        self.request(&format!("{what}/list"), json!({})).await
    }

    /// Any request of the client's era, with the envelope and the mirrored headers that it asks for.
    pub async fn request(&self, method: &str, mut params: Value) -> Reply {
        let version = self.era.version();
        let mut headers = vec![("mcp-protocol-version", version.to_owned())];
        if self.era == Era::Modern {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "portcullis-tests", "version": "1.0.0"}
            });
            headers.push(("mcp-method", method.to_owned()));
            let named = params.get("name").or_else(|| params.get("uri")).and_then(Value::as_str);
            headers.extend(named.map(|name| ("mcp-name", name.to_owned())));
        }
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.post(&headers, message.to_string()).await
    }

    /// POSTs these bytes as JSON, with further headers.
    pub async fn post(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let usual = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        let headers: Vec<_> = usual.iter().chain(headers).copied().collect();
        self.send("POST", &self.path, &headers, body).await
    }

    /// GETs another path of the same server.
    pub async fn fetch(&self, path: &str) -> Reply {
        self.send("GET", path, &[], Bytes::new()).await
    }

    /// One request with the client's headers and these, over the kept-alive connection when there is one.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let mut request = hyper::Request::builder().method(method).uri(path).header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).expect("a well-formed request");
        tokio::time::timeout(PATIENCE, self.exchange(request)).await.expect("an answer in time")
    }

    /// Sends a request over a connection of its own and leaves the answer's body to be read as it comes.
    pub async fn open(&self, method: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Stream {
        let mut request = hyper::Request::builder().method(method).uri(&self.path).header("host", &self.host);
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.iter().copied().chain(own) {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).expect("a well-formed request");
        let mut connection = self.connect().await;
        let answer = tokio::time::timeout(PATIENCE, connection.send_request(request)).await.expect("a head in time");
        let (head, body) = answer.expect("an HTTP answer").into_parts();
        let headers = head.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Stream { status: head.status.as_u16(), headers: headers.collect(), body, text: String::new(), connection }
    }

    /// A legacy request by POST whose answer is read as it comes.
    pub async fn open_call(&self, headers: &[(&str, &str)], message: &Value) -> Stream {
        let usual = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        let headers: Vec<_> = usual.iter().chain(headers).copied().collect();
        self.open("POST", &headers, message.to_string()).await
    }

    async fn exchange(&self, request: hyper::Request<Full<Bytes>>) -> Reply {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(kept) if !kept.is_closed() => kept,
            _ => self.connect().await,
        };
        if connection.ready().await.is_err() {
            connection = self.connect().await;
        }
        let (head, body) = connection.send_request(request).await.expect("an HTTP answer").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        *slot = Some(connection);
        let headers = head.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Reply { status: head.status.as_u16(), headers: headers.collect(), body }
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let socket = TcpStream::connect(&self.authority).await.expect("a listening server");
        let (send, connection) = http1::handshake(TokioIo::new(socket)).await.expect("an HTTP connection");
        tokio::spawn(connection);
        send
    }
}

/// An answer that is still coming. Dropping it closes its connection.
#[derive(Debug)]
pub struct Stream {
    pub status: u16,
    /// Lower-case names in the order of arrival.
    pub headers: Vec<(String, String)>,
    body: Incoming,
    /// What has come so far.
    pub text: String,
    #[expect(dead_code, reason = "the connection lives as long as the stream")]
    connection: SendRequest<Full<Bytes>>,
}

/// How a stream came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Orderly,
    /// The connection broke.
    Broken,
}

impl Stream {
    /// The first value of a header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Reads until `wanted` has come; panics when the stream ends before.
    pub async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let more = tokio::time::timeout(PATIENCE, self.more()).await.expect("more of the stream in time");
            assert!(more.is_none(), "the stream ended before {wanted:?} came: {:?}", self.text);
        }
    }

    /// Reads to the end and tells how it came.
    pub async fn end(&mut self) -> End {
        loop {
            if let Some(end) = tokio::time::timeout(PATIENCE, self.more()).await.expect("the end in time") {
                return end;
            }
        }
    }

    async fn more(&mut self) -> Option<End> {
        match self.body.frame().await {
            None => Some(End::Orderly),
            Some(Err(_)) => Some(End::Broken),
            Some(Ok(frame)) => {
                self.text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
                None
            }
        }
    }
}

/// Sends raw bytes and reads until the other side closes or has been quiet for a second.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.expect("a listening server");
    // The server may refuse and close before it has read everything: its answer is still there to be read.
    drop(socket.write_all(bytes).await);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(Duration::from_secs(1), socket.read(&mut piece)).await {
        answer.extend_from_slice(&piece[..read]);
    }
    answer
}
