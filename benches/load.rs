//! The load generator: keep-alive HTTP/1 connections that each send the same bytes and wait for the answer, on one thread.
//! Prints one JSON object; anything but a 200 counts as a failure.
//!
//! `load TARGET CONNECTIONS SECONDS REQUEST_FILE`

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Default)]
struct Seen {
    micros: Vec<u64>,
    failures: u64,
}

/// The end of the first whole answer in `bytes`, by Content-Length or by the last chunk.
fn answer_end(bytes: &[u8]) -> Option<usize> {
    let head_end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(bytes.get(..head_end)?).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => (bytes.len() >= head_end + length).then_some(head_end + length),
        None => bytes.ends_with(b"0\r\n\r\n").then_some(bytes.len()),
    }
}

async fn one(socket: &mut TcpStream, request: &[u8], answer: &mut Vec<u8>) -> io::Result<bool> {
    answer.clear();
    socket.write_all(request).await?;
    while answer_end(answer).is_none() {
        if socket.read_buf(answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

async fn connection(target: String, request: Arc<Vec<u8>>, until: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut answer = Vec::with_capacity(16 * 1024);
    while Instant::now() < until {
        let Ok(mut socket) = TcpStream::connect(&target).await else {
            seen.failures += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        drop(socket.set_nodelay(true));
        while Instant::now() < until {
            let started = Instant::now();
            match one(&mut socket, &request, &mut answer).await {
                Ok(true) => seen.micros.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)),
                Ok(false) => seen.failures += 1,
                Err(_) => {
                    seen.failures += 1;
                    break;
                }
            }
        }
    }
    seen
}

fn quantile(sorted: &[u64], thousandths: usize) -> u64 {
    let index = sorted.len().saturating_sub(1) * thousandths / 1000;
    sorted.get(index).copied().unwrap_or(0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let (Some(target), Some(connections), Some(seconds), Some(file)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Ok(());
    };
    let connections: usize = connections.parse().map_err(io::Error::other)?;
    let seconds: f64 = seconds.parse().map_err(io::Error::other)?;
    let request = Arc::new(std::fs::read(file)?);
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> =
        (0..connections).map(|_| tokio::spawn(connection(target.clone(), Arc::clone(&request), until))).collect();
    let mut all = Seen::default();
    for task in tasks {
        let seen = task.await?;
        all.micros.extend(seen.micros);
        all.failures += seen.failures;
    }
    let elapsed = started.elapsed().as_secs_f64();
    all.micros.sort_unstable();
    let (requests, failures) = (all.micros.len(), all.failures);
    let (p50, p99) = (quantile(&all.micros, 500), quantile(&all.micros, 990));
    writeln!(
        io::stdout(),
        r#"{{"requests":{requests},"failures":{failures},"seconds":{elapsed:.3},"p50_us":{p50},"p99_us":{p99}}}"#
    )
}
