//! HTTP/2 by hand (RFC 9113, RFC 7541): well-behaved client libraries refuse to send what is tried here.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With an answer.
    Answered(u16, Vec<u8>),
    /// The stream, or the whole connection, was ended without one.
    Ended(&'static str),
}

impl End {
    /// Refused as malformed: by 400, or by ending stream or connection (RFC 9113 section 8.1.1 leaves the choice).
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Answered(400, _) | Self::Ended(_))
    }
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field block of literals without indexing and without Huffman coding.
pub fn block<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name.as_bytes());
        text(&mut bytes, value);
    }
    bytes
}

/// Length as an integer with a prefix of seven bits, then the octets.
fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        bytes.push(u8::try_from(length).expect("below 127"));
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push(u8::try_from(length % 128).expect("below 128") | 128);
            length /= 128;
        }
        bytes.push(u8::try_from(length).expect("below 128"));
    }
    bytes.extend(text);
}

/// A connection whose preface and settings are exchanged.
pub struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a listening gateway");
        let start = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&start).await.expect("a preface");
        Self { stream, held: Vec::new() }
    }

    /// The other side may have given up on the connection: what it said can still be read.
    pub async fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// Sends the fields as one head, and the body, if there is one, in one frame that ends the stream.
    pub async fn request(&mut self, stream: u32, fields: &[(&str, &[u8])], body: Option<&[u8]>) {
        let flags = if body.is_some() { END_HEADERS } else { END_HEADERS | END_STREAM };
        let fields = block(fields.iter().copied());
        let mut bytes = Vec::new();
        if fields.len() <= 16_384 {
            bytes.extend(frame(HEADERS, flags, stream, &fields));
        } else {
            let mut pieces = fields.chunks(16_384).peekable();
            bytes.extend(frame(HEADERS, flags & !END_HEADERS, stream, pieces.next().expect("a piece")));
            while let Some(piece) = pieces.next() {
                let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
                bytes.extend(frame(CONTINUATION, last, stream, piece));
            }
        }
        if let Some(body) = body {
            bytes.extend(frame(DATA, END_STREAM, stream, body));
        }
        self.send(&bytes).await;
    }

    /// Reads until `stream` has ended in some way.
    pub async fn end(&mut self, stream: u32) -> End {
        timeout(PATIENCE, self.read(stream)).await.expect("the stream ends in time")
    }

    async fn read(&mut self, stream: u32) -> End {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let Some((kind, flags, of, payload)) = self.frame().await else { return End::Ended("closed") };
            match kind {
                SETTINGS if flags & 1 == 0 => self.send(&frame(SETTINGS, 1, 0, &[])).await,
                PING if flags & 1 == 0 => self.send(&frame(PING, 1, 0, &payload)).await,
                GOAWAY if payload.get(4..8) != Some(&[0; 4][..]) => return End::Ended("GOAWAY"),
                RST_STREAM if of == stream && status == 0 => return End::Ended("RST_STREAM"),
                RST_STREAM if of == stream => return End::Answered(status, body),
                HEADERS if of == stream => status = self::status(&payload),
                DATA if of == stream => body.extend(payload),
                _ => continue,
            }
            if of == stream && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return End::Answered(status, body);
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some((head, rest)) = self.held.split_at_checked(9) {
                let length = usize::from(head[0]) * 65_536 + usize::from(head[1]) * 256 + usize::from(head[2]);
                if rest.len() >= length {
                    let stream = u32::from_be_bytes([head[5] & 127, head[6], head[7], head[8]]);
                    let found = (head[3], head[4], stream, rest[..length].to_vec());
                    self.held.drain(..9 + length);
                    return Some(found);
                }
            }
            if !self.stream.read_buf(&mut self.held).await.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }
}

/// The `:status` that a field block begins with.
fn status(block: &[u8]) -> u16 {
    let Some((first, rest)) = block.split_first() else { return 0 };
    match *first {
        // A change of the table's size comes before the fields.
        0x20..=0x3f => status(rest),
        0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
        _ => literal(rest),
    }
}

fn literal(value: &[u8]) -> u16 {
    let Some((length, text)) = value.split_first() else { return 0 };
    let text = &text[..usize::from(length & 127)];
    if length & 128 == 0 {
        return std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    }
    // Digits in the Huffman code: `0` to `2` are five bits, `3` to `9` six.
    let bits = text.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    let mut left = 8 * text.len();
    let mut number = 0;
    for _ in 0..3 {
        let five = u16::try_from((bits >> (left - 5)) & 31).expect("five bits");
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            left -= 6;
            u16::try_from((bits >> left) & 63).expect("six bits") - 22
        };
        number = 10 * number + digit;
    }
    number
}
