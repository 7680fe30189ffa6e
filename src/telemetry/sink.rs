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

/// Takes finished lines. Cloning shares the queue and the thread.
#[derive(Debug, Clone)]
pub struct Sink {
    queue: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
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
        if let Err(TrySendError::Full(_)) = self.queue.try_send(line) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::error!(dropped, "audit records dropped: the sink is too slow");
            }
        }
    }
}

fn write(lines: &Receiver<Vec<u8>>, mut out: impl Write) {
    let mut batch = Vec::with_capacity(64 * 1024);
    while let Ok(line) = lines.recv() {
        batch.extend_from_slice(&line);
        while batch.len() < 64 * 1024
            && let Ok(line) = lines.try_recv()
        {
            batch.extend_from_slice(&line);
        }
        if let Err(error) = out.write_all(&batch).and_then(|()| out.flush()) {
            tracing::error!(%error, "audit records could not be written");
        }
        batch.clear();
        std::thread::sleep(GATHERING);
    }
}
