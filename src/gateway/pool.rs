//! Connections to one upstream that wait for their next request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::Instant;

/// Connections that wait at the same time.
const MOST: usize = 1024;

/// The connections of one upstream that wait.
pub struct Pool {
    longest: Duration,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Of each address, the newest last.
    streams: HashMap<SocketAddr, Vec<(Instant, Stream)>>,
    count: usize,
    /// Whether a task closes those that wait too long.
    swept: bool,
}

impl Pool {
    /// A pool whose connections wait for no longer than `longest`.
    pub fn new(longest: Duration) -> Arc<Self> {
        Arc::new(Self { longest, waiting: Mutex::default() })
    }

    /// The connection to `address` that has waited the shortest, and on which nothing has come: what comes before a
    /// request belongs to none, and is mostly the end.
    pub fn take(&self, address: &SocketAddr) -> Option<Stream> {
        loop {
            let (since, mut stream) = {
                let mut waiting = self.waiting();
                let newest = waiting.streams.get_mut(address)?.pop()?;
                waiting.count -= 1;
                newest
            };
            if since.elapsed() < self.longest && is_silent(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection on which the last answer is whole. Above the bound it is closed.
    pub fn keep(self: &Arc<Self>, address: SocketAddr, stream: Stream) {
        let mut waiting = self.waiting();
        if waiting.count >= MOST {
            return;
        }
        waiting.count += 1;
        waiting.streams.entry(address).or_default().push((Instant::now(), stream));
        if !std::mem::replace(&mut waiting.swept, true) {
            tokio::spawn(swept(Arc::downgrade(self), self.longest));
        }
    }

    /// Closes what has waited too long. `false` when nothing is left.
    fn sweep(&self) -> bool {
        let mut old = Vec::new();
        let mut waiting = self.waiting();
        for streams in waiting.streams.values_mut() {
            let good = streams.iter().position(|(since, _)| since.elapsed() < self.longest).unwrap_or(streams.len());
            old.extend(streams.drain(..good));
        }
        waiting.streams.retain(|_, streams| !streams.is_empty());
        waiting.count -= old.len();
        waiting.swept = waiting.count > 0;
        waiting.swept
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs for as long as connections wait: each is closed within `longest` and a quarter.
async fn swept(pool: Weak<Pool>, longest: Duration) {
    loop {
        tokio::time::sleep(longest / 4).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}

/// Whether there is nothing to read, not even an end.
fn is_silent(stream: &mut Stream) -> bool {
    let mut byte = [0];
    Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte)).is_pending()
}

#[cfg(test)]
mod tests {
    use pingora::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A connection as the gateway holds it, and the upstream's end of it.
    async fn connection(listener: &TcpListener) -> (Stream, TcpStream) {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Box::new(L4Stream::from(ours)), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_connection_serves_again_and_only_one_at_a_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pool = Pool::new(LONG);
        let (ours, mut theirs) = connection(&listener).await;
        pool.keep(address, ours);
        assert!(pool.take(&"127.0.0.1:1".parse().unwrap()).is_none(), "another address");
        let mut again = pool.take(&address).unwrap();
        assert!(pool.take(&address).is_none(), "it is in use");
        again.write_all(b"x").await.unwrap();
        again.flush().await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_or_speaks_unasked_serves_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pool = Pool::new(LONG);
        let (good, _theirs) = connection(&listener).await;
        let good_id = good.id();
        pool.keep(address, good);
        let (ended, theirs) = connection(&listener).await;
        drop(theirs);
        pool.keep(address, ended);
        let (speaks, mut theirs) = connection(&listener).await;
        theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        pool.keep(address, speaks);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(pool.take(&address).unwrap().id(), good_id, "the others are closed");
        assert!(pool.take(&address).is_none());
    }

    #[tokio::test]
    async fn whoever_waits_too_long_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pool = Pool::new(Duration::from_millis(40));
        let (ours, mut theirs) = connection(&listener).await;
        pool.keep(address, ours);
        let end = tokio::time::timeout(Duration::from_secs(10), theirs.read(&mut [0; 1])).await;
        assert_eq!(end.unwrap().unwrap(), 0, "closed without anybody asking for it");
        assert!(pool.take(&address).is_none());
        assert!(!pool.waiting().swept, "nothing is left to do");
        let (ours, mut theirs) = connection(&listener).await;
        pool.keep(address, ours);
        drop(pool);
        assert_eq!(theirs.read(&mut [0; 1]).await.unwrap(), 0, "a pool that is gone keeps nothing open");
    }
}
