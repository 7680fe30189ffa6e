//! A stream that hands on judged HTTP/1 messages only, and that gives up on whoever takes too long.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::answer::answer;
use super::chunked::{Chunks, Scanned};
use super::due::Due;
use super::head::{self, Framing, LONGEST_HEAD};
use super::{Observer, Settings};

/// What an HTTP/2 connection begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a body for which time is given: no policy takes more.
const LONGEST_BODY: u64 = 64 << 20;
/// Bytes that are read at once.
const PIECE: usize = 16 * 1024;
/// After a refusal: how long, and how much, is read and dropped so that the answer is not lost in a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Guarded {
    inner: Stream,
    settings: Settings,
    observer: Arc<dyn Observer>,
    /// What was read and not handed on. Without memory while nothing is: most connections are silent most of the time.
    held: BytesMut,
    /// How much of it may be handed on.
    judged: usize,
    phase: Phase,
    /// Until when what is awaited must be there.
    due: Due,
    /// Whether anything was answered since the last head: then a refusal can only close.
    answered: bool,
}

#[derive(Debug)]
enum Phase {
    /// A head is read; so many bytes of it hold no end.
    Head(usize),
    /// A body of so many bytes more.
    Length(u64),
    /// A body in chunks.
    Chunked(Chunks),
    /// The preface of HTTP/2.
    Preface,
    /// HTTP/2, judged elsewhere.
    Through,
    /// An answer is written, and the rest is dropped.
    Refused(Refusal),
}

#[derive(Debug)]
struct Refusal {
    answer: Bytes,
    closed: bool,
    dropped: usize,
}

impl Guarded {
    /// Guards a new connection, whose first head is due from now on.
    pub fn new(inner: Stream, settings: Settings, observer: Arc<dyn Observer>) -> Self {
        let http2 = matches!(inner.selected_alpn_proto(), Some(ALPN::H2));
        let phase = if http2 { Phase::Preface } else { Phase::Head(0) };
        let mut due = Due::default();
        due.within(settings.head);
        Self { inner, settings, observer, held: BytesMut::new(), judged: 0, phase, due, answered: false }
    }

    /// Ends the connection, with an answer when one can still be given.
    fn refuse(&mut self, cause: &'static str, status: u16) {
        let peer = self
            .inner
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|peer| peer.as_inet().map(|peer| peer.ip())));
        self.observer.refused(peer, cause, status);
        let answer = if self.answered { Bytes::new() } else { answer(status) };
        self.held.clear();
        self.judged = 0;
        self.phase = Phase::Refused(Refusal { answer, closed: false, dropped: 0 });
        self.due.within(LINGER);
    }

    /// Judges what is held. `false` when more is needed.
    fn judge(&mut self) -> bool {
        match &mut self.phase {
            Phase::Head(searched) => {
                // The end may straddle what was searched before.
                let from = searched.saturating_sub(3);
                let end = self.held.get(from..).and_then(end_of_head).map(|at| from + at);
                match end {
                    Some(end) if end <= LONGEST_HEAD => match head::judge(self.held.get(..end).unwrap_or_default()) {
                        Ok(framing) => self.begin(end, framing),
                        Err(cause @ head::NEVER_OFFERED) => self.refuse(cause, 405),
                        Err(cause) => self.refuse(cause, 400),
                    },
                    None if self.held.len() <= LONGEST_HEAD => {
                        *searched = self.held.len();
                        return false;
                    }
                    _ => self.refuse("a head that is too long", 400),
                }
            }
            Phase::Length(0) => self.message_ended(),
            Phase::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.held.len());
                self.judged = here;
                *left -= here as u64;
                return here > 0;
            }
            Phase::Chunked(_) if self.held.is_empty() => return false,
            Phase::Chunked(chunks) => match chunks.scan(&self.held) {
                Ok(Scanned::All) => self.judged = self.held.len(),
                Ok(Scanned::Until(end)) => {
                    self.judged = end;
                    self.message_ended();
                }
                Err(cause) => self.refuse(cause, 400),
            },
            Phase::Preface => match self.held.get(..PREFACE.len()) {
                None => return false,
                Some(preface) if preface == PREFACE => self.through(),
                Some(_) => self.refuse("no HTTP/2 preface", 400),
            },
            Phase::Through | Phase::Refused(_) => return false,
        }
        true
    }

    fn begin(&mut self, end: usize, framing: Framing) {
        self.judged = end;
        self.answered = false;
        match framing {
            Framing::None => self.message_ended(),
            Framing::Length(length) => {
                self.phase = Phase::Length(length);
                let counted = length.min(LONGEST_BODY) / self.settings.slowest.max(1);
                self.due.within(self.settings.body + Duration::from_secs(counted));
            }
            Framing::Chunked => {
                self.phase = Phase::Chunked(Chunks::default());
                self.due.within(self.settings.body);
            }
        }
    }

    fn message_ended(&mut self) {
        self.phase = Phase::Head(0);
        self.due.whenever();
    }

    fn through(&mut self) {
        self.phase = Phase::Through;
        self.due.whenever();
        self.judged = self.held.len();
    }

    /// Reads more; ready with `false` at the end of the stream or when the deadline has passed.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Poll::Ready(read) = self.poll_piece(cx) {
            let more = read? > 0;
            if more && matches!(self.phase, Phase::Head(0)) && !self.due.is_limited() {
                self.due.within(self.settings.head);
            }
            return Poll::Ready(Ok(more));
        }
        ready!(self.due.poll_late(cx));
        if self.held.is_empty() && matches!(self.phase, Phase::Head(_) | Phase::Preface) {
            // Nobody has asked anything: there is nothing to answer.
            self.observer.refused(None, "a connection without a request", 408);
            return Poll::Ready(Ok(false));
        }
        self.refuse("a message that takes too long", 408);
        Poll::Ready(Ok(true))
    }

    /// Reads a piece by way of the stack, so that only bytes that are there take memory, and says how long it is.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut room);
        let read = Pin::new(&mut self.inner).poll_read(cx, &mut piece);
        if read.is_pending() && self.held.is_empty() {
            self.held = BytesMut::new();
        }
        ready!(read)?;
        self.held.extend_from_slice(piece.filled());
        Poll::Ready(Ok(piece.filled().len()))
    }

    /// Ready when the client closes; what it sends meanwhile is held, within the bound of a head.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.len() < LONGEST_HEAD {
            if ready!(self.poll_piece(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Writes the answer, closes, and drops what still comes; then the stream is at its end.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.due.poll_late(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let Phase::Refused(refusal) = &mut self.phase else { return Poll::Ready(Ok(())) };
        while refusal.answer.has_remaining() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &refusal.answer)) {
                Ok(written) if written > 0 => refusal.answer.advance(written),
                _ => return Poll::Ready(Ok(())),
            }
        }
        if !refusal.closed {
            let closed = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
            refusal.closed = true;
            if closed.is_err() {
                return Poll::Ready(Ok(()));
            }
        }
        let mut room = [MaybeUninit::uninit(); PIECE];
        while refusal.dropped < LINGER_BYTES {
            let mut piece = ReadBuf::uninit(&mut room);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece)) {
                Ok(()) if !piece.filled().is_empty() => refusal.dropped += piece.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Behind the empty line that ends a head, however its lines end: lenient ends are found here and refused when judged.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    for at in memchr::memchr_iter(b'\n', bytes) {
        match bytes.get(at + 1..) {
            Some([b'\n', ..]) => return Some(at + 2),
            Some([b'\r', b'\n', ..]) => return Some(at + 3),
            _ => {}
        }
    }
    None
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let probing = out.remaining() == 1;
        loop {
            if this.judged > 0 {
                let count = this.judged.min(out.remaining());
                out.put_slice(this.held.get(..count).unwrap_or_default());
                this.held.advance(count);
                this.judged -= count;
                return Poll::Ready(Ok(()));
            }
            match this.phase {
                Phase::Refused(_) => return this.poll_refused(cx),
                Phase::Through => return Pin::new(&mut this.inner).poll_read(cx, out),
                _ => {}
            }
            // While an answer is on its way, Pingora reads one byte to see whether the client is still there. The next
            // request is not for that reader; the one of heads comes with more room.
            if probing && !this.held.is_empty() && matches!(this.phase, Phase::Head(_)) {
                return this.poll_end(cx);
            }
            if !this.judge() && !ready!(this.poll_more(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if matches!(self.phase, Phase::Refused(_)) {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.answered = true;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.phase, Phase::Refused(_)) {
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        self.answered = true;
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Guarded {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

#[async_trait]
impl Peek for Guarded {
    /// Waits for as many bytes as tell whether HTTP/2 begins here, at most until the head is due.
    async fn try_peek(&mut self, out: &mut [u8]) -> io::Result<bool> {
        let could_be = |held: &[u8]| PREFACE.starts_with(held.get(..held.len().min(PREFACE.len())).unwrap_or_default());
        while self.held.len() < PREFACE.len() && could_be(&self.held) {
            if !std::future::poll_fn(|cx| self.poll_more(cx)).await? || matches!(self.phase, Phase::Refused(_)) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        for (to, from) in out.iter_mut().zip(&self.held) {
            *to = *from;
        }
        if self.held.starts_with(PREFACE) {
            self.through();
        }
        Ok(true)
    }
}

impl UniqueID for Guarded {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Guarded {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Guarded {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Guarded {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Guarded {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use pingora::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[derive(Debug)]
    struct Unobserved;

    impl Observer for Unobserved {
        fn refused(&self, _: Option<std::net::IpAddr>, _: &'static str, _: u16) {}
    }

    /// Looks for a moment whether the client is still there, as is done while an answer is awaited.
    async fn looked(guarded: &mut Guarded) {
        let look = tokio::time::timeout(Duration::from_millis(50), guarded.read(&mut [0; 1])).await;
        assert!(look.is_err(), "the client is there and silent");
    }

    #[tokio::test]
    async fn whoever_waits_in_silence_holds_no_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let observer = Arc::new(Unobserved);
        let mut guarded = Guarded::new(Box::new(L4Stream::from(server)), Settings::default(), observer);
        looked(&mut guarded).await;
        assert_eq!(guarded.held.capacity(), 0, "before the first request");
        let request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde";
        client.write_all(request).await.unwrap();
        let mut read = vec![0; request.len()];
        guarded.read_exact(&mut read).await.unwrap();
        assert_eq!(read, request);
        looked(&mut guarded).await;
        assert_eq!(guarded.held.capacity(), 0, "while its answer is awaited");
        client.write_all(b"GET / HT").await.unwrap();
        looked(&mut guarded).await;
        assert_eq!(guarded.held, "GET / HT", "what was sent of the next is kept");
    }
}
