//! A raw connection: sends any bytes, in any pieces, and reads what is said and when it is closed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// What the other side said.
#[derive(Debug, Clone)]
pub struct Said(pub String);

impl Said {
    /// Whether the first answer has this status.
    pub fn is(&self, status: u16) -> bool {
        self.0.starts_with(&format!("HTTP/1.1 {status} ")) || self.0.starts_with(&format!("HTTP/1.0 {status} "))
    }

    /// How many answers there are.
    pub fn answers(&self) -> usize {
        self.0.matches("HTTP/1.1 ").count() + self.0.matches("HTTP/1.0 ").count()
    }

    /// The head of the first answer in lower case.
    pub fn head(&self) -> String {
        self.0.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase()
    }
}

pub struct Socket {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Socket {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a listening gateway"), heard: Vec::new() }
    }

    /// Connects from one of the addresses of this machine.
    pub async fn from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(source, 0)).expect("an address of this machine");
        Self { stream: socket.connect(address).await.expect("a listening gateway"), heard: Vec::new() }
    }

    /// The other side may refuse and close before it has read everything: what it said can still be read.
    pub async fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// Everything that is said until the other side closes.
    pub async fn until_closed(mut self, shown: &str) -> Said {
        self.until_closed_within(PATIENCE, shown).await
    }

    /// The same with another patience.
    pub async fn until_closed_within(&mut self, patience: Duration, shown: &str) -> Said {
        let closed = timeout(patience, async { while self.hear().await {} }).await.is_ok();
        let said = self.said();
        assert!(closed, "the connection must be closed after {shown:?}: {said:?}");
        said
    }

    /// The whole of one answer; the connection may stay open.
    pub async fn answer(&mut self, shown: &str) -> Said {
        timeout(PATIENCE, async { while !self.is_whole() && self.hear().await {} }).await.ok();
        let said = self.said();
        assert!(!said.0.is_empty(), "no answer to {shown:?}");
        self.heard.clear();
        said
    }

    /// Reads until this text has come.
    pub async fn hears(&mut self, text: &str) {
        let heard = timeout(PATIENCE, async { while !self.said().0.contains(text) && self.hear().await {} }).await;
        let said = self.said();
        assert!(heard.is_ok() && said.0.contains(text), "waited in vain for {text:?}: {said:?}");
    }

    /// Whether the other side closes or says anything within `wait`.
    pub async fn stirs_within(&mut self, wait: Duration) -> bool {
        timeout(wait, self.hear()).await.is_ok()
    }

    async fn hear(&mut self) -> bool {
        self.stream.read_buf(&mut self.heard).await.is_ok_and(|read| read > 0)
    }

    fn said(&self) -> Said {
        Said(String::from_utf8_lossy(&self.heard).into_owned())
    }

    fn is_whole(&self) -> bool {
        let text = String::from_utf8_lossy(&self.heard);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        match length.map(|length| length.trim().parse::<usize>().expect("a number")) {
            Some(length) => body.len() >= length,
            None if head.contains("transfer-encoding: chunked") => body.ends_with("0\r\n\r\n"),
            // The close ends it.
            None => false,
        }
    }
}
