//! Event streams through the gateway: opens many that stay silent, says so, waits for a line on standard input, and then
//! measures on one more how long an event takes from the upstream's write to the client's read. Upstream and client are
//! this process, so one clock serves both. Prints one JSON object.
//!
//! `streams LISTEN TARGET COUNT REQUEST_FILE`; LISTEN as TARGET measures the way without a gateway.

use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Events that are measured, a millisecond apart.
const EVENTS: u64 = 2000;
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Every stream is silent until `go`; then each sends events that tell when they were sent, in nanoseconds since `start`.
async fn upstream(mut socket: TcpStream, start: Instant, go: Arc<Notify>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut request = Vec::with_capacity(4096);
    while memchr::memmem::find(&request, b"}}").is_none() {
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    socket.write_all(HEAD).await?;
    go.notified().await;
    for _ in 0..EVENTS {
        let sent = start.elapsed().as_nanos();
        let message =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":"sent={sent}."}}}}"#);
        let event = format!("data: {message}\n\n");
        socket.write_all(format!("{:X}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    socket.write_all(b"0\r\n\r\n").await
}

async fn open(target: &str, request: &[u8]) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(target).await?;
    socket.set_nodelay(true)?;
    socket.write_all(request).await?;
    let mut head = Vec::with_capacity(1024);
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        if socket.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let good = head.starts_with(b"HTTP/1.1 200");
    if good { Ok(socket) } else { Err(io::Error::other(String::from_utf8_lossy(&head).into_owned())) }
}

/// Microseconds that each event took.
async fn latencies(mut socket: TcpStream, start: Instant) -> io::Result<Vec<u64>> {
    let mut waiting = String::new();
    let mut taken = Vec::new();
    let mut piece = [0; 4096];
    while taken.len() < usize::try_from(EVENTS).unwrap_or(usize::MAX) {
        let read = socket.read(&mut piece).await?;
        let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if read == 0 {
            break;
        }
        waiting.push_str(&String::from_utf8_lossy(piece.get(..read).unwrap_or_default()));
        while let Some((_, rest)) = waiting.split_once("sent=") {
            let Some((sent, behind)) = rest.split_once('.') else { break };
            taken.extend(sent.parse::<u64>().ok().map(|sent| now.saturating_sub(sent) / 1000));
            waiting = behind.to_owned();
        }
    }
    taken.sort_unstable();
    Ok(taken)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let (Some(listen), Some(target), Some(count), Some(file)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Ok(());
    };
    let count: usize = count.parse().map_err(io::Error::other)?;
    let request = std::fs::read(file)?;
    let (start, go) = (Instant::now(), Arc::new(Notify::new()));
    let listener = TcpListener::bind(&listen).await?;
    let accepting = Arc::clone(&go);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(upstream(socket, start, Arc::clone(&accepting)));
        }
    });
    let mut silent = Vec::with_capacity(count);
    for _ in 0..count {
        silent.push(open(&target, &request).await?);
    }
    writeln!(io::stdout(), "{{\"opened\":{}}}", silent.len())?;
    tokio::task::spawn_blocking(|| io::stdin().lock().lines().next()).await?;
    drop(silent);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let measured = open(&target, &request).await?;
    // Whoever waits last is woken by `notify_one` only when nobody else waits: the silent ones are gone.
    go.notify_waiters();
    let taken = latencies(measured, start).await?;
    let at = |thousandths: usize| taken.get(taken.len().saturating_sub(1) * thousandths / 1000).copied().unwrap_or(0);
    writeln!(io::stdout(), "{{\"events\":{},\"p50_us\":{},\"p99_us\":{}}}", taken.len(), at(500), at(990))
}
