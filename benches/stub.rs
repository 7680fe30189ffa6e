//! The fastest MCP server there is: it reads a request by its Content-Length and answers from memory, a list of 500 tools
//! (200 KB) to `tools/list` and a short result to everything else. One thread; it must not be what is measured.
//!
//! `stub LISTEN`

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LISTED_TOOLS: usize = 500;
const BYTES_PER_TOOL: usize = 400;

struct Answers {
    call: Vec<u8>,
    list: Vec<u8>,
}

fn answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn tool(index: usize) -> String {
    let kind = if index.is_multiple_of(2) { "search" } else { "delete" };
    let head = format!(r#"{{"name":"{kind}_{index}","inputSchema":{{"type":"object"}},"description":""#);
    let description = "d".repeat(BYTES_PER_TOOL.saturating_sub(head.len() + 3));
    format!(r#"{head}{description}"}}"#)
}

fn answers() -> Answers {
    let tools: Vec<String> = (0..LISTED_TOOLS).map(tool).collect();
    let tools = tools.join(",");
    let list = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tools}]}}}}"#);
    let call = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"done"}]}}"#;
    Answers { call: answer(call), list: answer(&list) }
}

/// The length of the first whole request in `bytes` and whether it asks for the list.
fn request(bytes: &[u8]) -> Option<(usize, bool)> {
    let head_end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(bytes.get(..head_end)?).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let end = head_end + length.unwrap_or(0);
    let body = bytes.get(head_end..end)?;
    Some((end, memchr::memmem::find(body, b"tools/list").is_some()))
}

async fn serve(mut socket: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut waiting = Vec::with_capacity(8192);
    while socket.read_buf(&mut waiting).await? > 0 {
        while let Some((end, lists)) = request(&waiting) {
            waiting.drain(..end);
            socket.write_all(if lists { &answers.list } else { &answers.call }).await?;
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Some(listen) = std::env::args().skip(1).find(|word| !word.starts_with("--")) else {
        return Ok(());
    };
    let answers = Arc::new(answers());
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(serve(socket, Arc::clone(&answers)));
    }
}
