//! An event stream (WHATWG HTML section 9.2) whose events are judged one by one while it passes.
//!
//! Events that are kept pass byte for byte, however the stream was cut into pieces. An event is judged before its first
//! byte passes; comments pass at once, since they keep connections alive.

use memchr::memchr2;

/// A byte order mark, with which a stream may begin.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes as it is.
    Keep,
    /// It passes with this data instead.
    Replace(Vec<u8>),
    /// It does not pass.
    Drop,
}

/// Says what becomes of events.
pub trait EventJudge: Send {
    /// What becomes of the event with this data, its lines joined by LF.
    fn event(&mut self, data: &[u8]) -> impl Future<Output = Verdict> + Send;
}

/// Why a stream is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One event is larger than the cap.
    #[error("an event of the upstream is too large")]
    TooLarge,
}

/// Judges the events of one stream. Holds at most one event.
#[derive(Debug)]
pub struct EventFilter {
    cap: usize,
    /// The event so far, as it came.
    event: Vec<u8>,
    /// Where the line begins that is being read.
    line: usize,
    /// The last byte was a CR that ended a line: a LF now belongs to it.
    after_cr: AfterCr,
    /// Whether a line has gone: a byte order mark can only stand before the first.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterCr {
    No,
    /// The line is still held.
    Held,
    /// The line has passed: so must its LF.
    Passed,
    /// The line was taken out: so must its LF be.
    Dropped,
}

impl EventFilter {
    /// A filter that holds events of at most `cap` bytes.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self { cap, event: Vec::new(), line: 0, after_cr: AfterCr::No, begun: false }
    }

    /// Takes a piece of the stream and writes what passes to `out`. `judge` may take its time. At the `end` an event that
    /// lacks its blank line is judged too: lenient readers take it.
    ///
    /// # Errors
    /// An event is larger than the cap; nothing of it has passed.
    pub async fn push(
        &mut self,
        piece: &[u8],
        end: bool,
        out: &mut Vec<u8>,
        judge: &mut impl EventJudge,
    ) -> Result<(), SseError> {
        let mut rest = self.linefeed(piece, out);
        while let Some(at) = memchr2(b'\n', b'\r', rest) {
            let (line, behind) = rest.split_at_checked(at + 1).unwrap_or((rest, &[]));
            self.event.extend_from_slice(line);
            if self.event.len() > self.cap {
                return Err(SseError::TooLarge);
            }
            let crlf = line.last() == Some(&b'\r');
            if crlf {
                self.after_cr = AfterCr::Held;
            }
            if self.line_ended(out) {
                self.emit(out, judge).await;
            }
            rest = if crlf { self.linefeed(behind, out) } else { behind };
        }
        self.event.extend_from_slice(rest);
        if self.event.len() > self.cap {
            return Err(SseError::TooLarge);
        }
        if end && !self.event.is_empty() {
            self.emit(out, judge).await;
        }
        Ok(())
    }

    /// Puts a LF that follows a CR where the CR went.
    fn linefeed<'p>(&mut self, piece: &'p [u8], out: &mut Vec<u8>) -> &'p [u8] {
        if piece.is_empty() || self.after_cr == AfterCr::No {
            return piece;
        }
        let before = std::mem::replace(&mut self.after_cr, AfterCr::No);
        let Some(rest) = piece.strip_prefix(b"\n") else { return piece };
        match before {
            AfterCr::Held => {
                self.event.push(b'\n');
                self.line = self.event.len();
            }
            AfterCr::Passed => out.push(b'\n'),
            AfterCr::Dropped | AfterCr::No => {}
        }
        rest
    }

    /// Takes a line to the event. Returns whether that is whole now.
    fn line_ended(&mut self, out: &mut Vec<u8>) -> bool {
        let line = self.event.get(self.line..).unwrap_or_default();
        let blank = matches!(line, b"\n" | b"\r");
        let comment = line.first() == Some(&b':') && self.line == 0;
        if comment {
            out.append(&mut self.event);
            self.pass(AfterCr::Passed);
        } else if !blank {
            self.line = self.event.len();
        }
        blank
    }

    /// Judges the event that is held and writes what passes.
    async fn emit(&mut self, out: &mut Vec<u8>, judge: &mut impl EventJudge) {
        let mut event = std::mem::take(&mut self.event);
        // What the gateway writes itself may come before it, and then a reader would take it for a part of the line.
        if !self.begun && event.starts_with(MARK) {
            event.drain(..MARK.len());
        }
        let verdict = match data(&event) {
            Some(data) => judge.event(&data).await,
            None => Verdict::Keep,
        };
        let passed = match verdict {
            Verdict::Keep => {
                out.extend_from_slice(&event);
                AfterCr::Passed
            }
            Verdict::Replace(data) => {
                replace(&event, &data, out);
                AfterCr::Dropped
            }
            Verdict::Drop => AfterCr::Dropped,
        };
        self.pass(passed);
    }

    fn pass(&mut self, to: AfterCr) {
        self.begun = true;
        self.line = 0;
        if self.after_cr == AfterCr::Held {
            self.after_cr = to;
        }
    }
}

/// The lines of an event without their ends. A byte order mark before the first belongs to no field, to lenient readers
/// even where the stream has begun.
fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = event.strip_prefix(MARK).unwrap_or(event);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(at)?;
        rest = behind.strip_prefix(b"\r\n").or_else(|| behind.get(1..)).unwrap_or_default();
        Some(line)
    })
}

/// The value of a line's field if it is `data`.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', rest @ ..] => Some(rest.strip_prefix(b" ").unwrap_or(rest)),
        _ => None,
    }
}

/// The data of an event; `None` when it has none.
fn data(event: &[u8]) -> Option<Vec<u8>> {
    let mut lines = lines(event).filter_map(data_of);
    let mut data = lines.next()?.to_vec();
    for line in lines {
        data.push(b'\n');
        data.extend_from_slice(line);
    }
    Some(data)
}

/// Writes the event with other data; its other fields stay.
fn replace(event: &[u8], data: &[u8], out: &mut Vec<u8>) {
    for line in lines(event).filter(|line| !line.is_empty() && data_of(line).is_none()) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    for line in lines(data) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    /// Pushes with a judge that does not wait.
    fn push(filter: &mut EventFilter, piece: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), SseError> {
        let pushed = pin!(filter.push(piece, end, out, &mut Judge)).poll(&mut Context::from_waker(Waker::noop()));
        match pushed {
            Poll::Ready(pushed) => pushed,
            Poll::Pending => panic!("nothing waits"),
        }
    }

    /// Drops events whose data is `drop`, replaces `replace`, keeps the others.
    struct Judge;

    impl EventJudge for Judge {
        async fn event(&mut self, data: &[u8]) -> Verdict {
            match data {
                b"drop" => Verdict::Drop,
                b"replace" | b"re\nplace" => Verdict::Replace(b"new\nlines".to_vec()),
                _ => Verdict::Keep,
            }
        }
    }

    fn run<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
        let (mut filter, mut out) = (EventFilter::new(1 << 20), Vec::new());
        for piece in pieces {
            push(&mut filter, piece, false, &mut out).unwrap();
        }
        push(&mut filter, &[], true, &mut out).unwrap();
        out
    }

    fn whole(stream: &str) -> String {
        String::from_utf8(run([stream.as_bytes()])).unwrap()
    }

    #[test]
    fn k10_events_are_kept_replaced_and_dropped() {
        assert_eq!(whole("data: a\n\ndata: drop\n\ndata: b\n\n"), "data: a\n\ndata: b\n\n");
        assert_eq!(
            whole("id: 1\nevent: message\ndata: replace\nretry: 5\n\n"),
            "id: 1\nevent: message\nretry: 5\ndata: new\ndata: lines\n\n"
        );
        assert_eq!(
            whole("data:re\ndata: place\n\n"),
            "data: new\ndata: lines\n\n",
            "lines are joined before they are judged"
        );
        assert_eq!(whole("data: a\r\n\r\ndata: drop\r\n\r\n: c\r\ndata: b\r\r"), "data: a\r\n\r\n: c\r\ndata: b\r\r");
        assert_eq!(whole("data: drop\r\r\ndata: x\r\n\r\n"), "data: x\r\n\r\n");
        assert_eq!(whole("\u{feff}data: drop\n\nid: 3\n\n"), "id: 3\n\n");
        assert_eq!(whole("\u{feff}data: a\n\n\u{feff}data: b\n\n"), "data: a\n\n\u{feff}data: b\n\n");
        assert_eq!(whole("\u{feff}: c\ndata: a\n\n"), ": c\ndata: a\n\n");
        assert_eq!(whole("data: drop"), "", "an unfinished event is judged too");
        assert_eq!(whole("data: a"), "data: a");
        assert_eq!(whole("datadrop: drop\ndata\n\n"), "datadrop: drop\ndata\n\n");
    }

    #[test]
    fn comments_pass_at_once() {
        let (mut filter, mut out) = (EventFilter::new(100), Vec::new());
        push(&mut filter, b": ping\n", false, &mut out).unwrap();
        assert_eq!(out, b": ping\n");
        push(&mut filter, b"data: drop\n: not before\n", false, &mut out).unwrap();
        assert_eq!(out, b": ping\n", "within an event nothing passes unjudged");
    }

    #[test]
    fn an_event_that_is_too_large_ends_the_stream() {
        for piece in ["data: 0123456789", "data: 0123456789\n\n"] {
            let (mut filter, mut out) = (EventFilter::new(10), Vec::new());
            assert_eq!(push(&mut filter, piece.as_bytes(), false, &mut out), Err(SseError::TooLarge));
            assert!(out.is_empty());
        }
        let (mut filter, mut out) = (EventFilter::new(10), Vec::new());
        for _ in 0..1000 {
            push(&mut filter, b"data: 1\n\n", false, &mut out).unwrap();
        }
        assert_eq!(out.len(), 9000);
    }

    proptest! {
        #[test]
        fn k10_how_a_stream_is_cut_makes_no_difference(
            parts in prop::collection::vec(prop::sample::select(vec![
                "data: a", "data: drop", "data: replace", "data:re", "data: place", "id: 1", ": c", "event: é😀", "\u{feff}", "\n", "\r", "\r\n", "\n\n", "x",
            ]), 0..40),
            cuts in prop::collection::vec(0_usize..200, 0..40),
        ) {
            let stream = parts.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < stream.len()).chain([0, stream.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(run(pieces), run([stream.as_slice()]));
        }
    }
}
