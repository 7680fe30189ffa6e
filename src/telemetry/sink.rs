//! Where audit records go: a file or standard output, written by a thread of its own so that no request waits for a disk.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Records that may wait for the disk before new ones are dropped and counted.
const QUEUE: usize = 65_536;
/// Between two writes: records of a busy moment go out together, and nobody is woken for each.
const GATHERING: Duration = Duration::from_millis(2);
/// Bytes after which a batch is written although more lines wait.
const LARGEST_BATCH: usize = 64 * 1024;
/// How long the end of the process waits for the disk.
const LAST: Duration = Duration::from_secs(5);

/// Takes finished lines. Cloning shares the queue and the thread.
#[derive(Debug, Clone)]
pub struct Sink {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before it is to be written, and then it is told.
    Flush(SyncSender<()>),
}

impl Sink {
    /// Appends to a file, made when absent.
    ///
    /// # Errors
    /// When the file cannot be opened or no thread can be started.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Self::start(OpenOptions::new().create(true).append(true).open(path)?)
    }

    /// Writes to standard output.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn to_stdout() -> io::Result<Self> {
        Self::start(io::stdout())
    }

    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new().name("audit".into()).spawn(move || write(&lines, out))?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    /// Queues one line, newline included. A full queue drops it and counts: a slow disk must not stop the gateway.
    pub fn line(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Entry::Line(line)) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::error!(dropped, "audit records dropped: the sink is too slow");
            }
        }
    }

    /// Waits until what was queued is written, for the end of the process.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Entry::Flush(done)).is_err() || written.recv_timeout(LAST).is_err() {
            tracing::error!("the last audit records may not have been written");
        }
    }
}

fn write(entries: &Receiver<Entry>, mut out: impl Write) {
    let mut batch = Vec::with_capacity(LARGEST_BATCH);
    while let Ok(first) = entries.recv() {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => batch.extend_from_slice(&line),
                Entry::Flush(done) => waiting.push(done),
            }
            next = if batch.len() < LARGEST_BATCH { entries.try_recv().ok() } else { None };
        }
        if let Err(error) = out.write_all(&batch).and_then(|()| out.flush()) {
            tracing::error!(%error, "audit records could not be written");
        }
        batch.clear();
        for done in waiting {
            // Whoever asked may have given up.
            let _ = done.send(());
        }
        std::thread::sleep(GATHERING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_lost_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let sink = Sink::to_file(&path).unwrap();
        (0..10_000).for_each(|number| sink.line(format!("{number}\n").into_bytes()));
        sink.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().map(|line| line.parse::<usize>().unwrap()).eq(0..10_000), "each line once, in order");
    }
}
