//! The control socket of a running gateway: an operator's orders, one a connection, for whoever owns the process.
//!
//! A connection sends one line, an [`Order`] as JSON. The answer is lines of JSON, and last `{"done":true}` or
//! `{"error":"..."}`; empty ones between them say that it goes on. The socket has mode 0600, and who else comes is refused by the system's word about the peer.

use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};

use super::StartError;
use crate::engine::desk::{Desk, Order};

/// Bytes of an order.
const LONGEST: u64 = 1024 * 1024;
/// Orders at the same time.
const AT_ONCE: usize = 4;
/// Lines of an answer that wait for their reader.
const WAITING: usize = 64;
/// How long a peer may take to send its order, or to read a line.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long without a line an empty one is sent: a large table takes its time, and the command shall know that it does.
const SILENCE: Duration = Duration::from_secs(5);

/// Listens at `path` until the process ends.
///
/// # Errors
/// Another gateway listens there, or nobody can.
pub(super) fn listen(path: &Path, desk: Arc<Desk>, background: &Runtime) -> Result<(), StartError> {
    let refused = |cause: String| StartError::Control { path: path.to_owned(), cause };
    let io = |error: std::io::Error| refused(error.to_string());
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(refused("something else has this name".to_owned()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(refused("another gateway listens there".to_owned()));
        }
        // It is what a gateway left that has ended.
        std::fs::remove_file(path).map_err(io)?;
    }
    let _entered = background.enter();
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;
    let owner = std::fs::metadata(path).map_err(io)?.uid();
    background.spawn(accept(listener, owner, desk, path.to_owned()));
    Ok(())
}

async fn accept(listener: UnixListener, owner: u32, desk: Arc<Desk>, path: PathBuf) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((peer, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    let uid = peer.peer_cred().map(|peer| peer.uid());
                    if uid.is_ok_and(|uid| uid == owner || uid == 0) {
                        // A peer that goes away ends its order and nothing else.
                        let _ = serve(peer, &desk).await;
                    } else {
                        tracing::warn!(event = "control-refused", "another user's process came to the control socket");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(event = "control-failed", path = %path.display(), %error, "a connection was lost");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(peer: UnixStream, desk: &Arc<Desk>) -> std::io::Result<()> {
    let (read, mut write) = peer.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(LONGEST));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let order: Order = match serde_json::from_str(&line) {
        Ok(order) => order,
        Err(error) => {
            let answer = json!({ "error": format!("the gateway does not understand the order: {error}") });
            return write.write_all(format!("{answer}\n").as_bytes()).await;
        }
    };
    let (out, mut lines) = mpsc::channel(WAITING);
    let working = {
        let desk = Arc::clone(desk);
        tokio::spawn(async move { desk.perform(order, &out).await })
    };
    loop {
        let line = match tokio::time::timeout(SILENCE, lines.recv()).await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(_) => String::new(),
        };
        tokio::time::timeout(PATIENCE, write.write_all(format!("{line}\n").as_bytes())).await??;
    }
    let last = match working.await {
        Ok(Ok(())) => json!({ "done": true }),
        Ok(Err(error)) => json!({ "error": error.to_string() }),
        Err(_) => json!({ "error": "the order was cut off" }),
    };
    write.write_all(format!("{last}\n").as_bytes()).await
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::engine::clock::SystemClock;
    use crate::engine::store::{Store, StoreError, Table};
    use crate::engine::vault::Vault;
    use crate::stores::faulty::{Around, Faulty, Verb};
    use crate::stores::memory::Memory;

    /// Has a store take half a minute to read a part of a table.
    #[derive(Debug)]
    struct Large(Arc<Memory>);

    #[async_trait]
    impl Around for Large {
        fn within(&self) -> Arc<dyn Store> {
            Arc::clone(&self.0) as Arc<dyn Store>
        }

        async fn before(&self, verb: Verb) -> Result<(), StoreError> {
            if verb == Verb::Page {
                tokio::time::sleep(Duration::from_secs(31)).await;
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_hears_that_a_large_table_is_still_gone_through() {
        let desk = Arc::new(Desk::new(Arc::default()));
        let large = Large(Arc::new(Memory::new(Arc::new(SystemClock))));
        let vault = Vault::new(Arc::new(Faulty(large)), Arc::new(SystemClock), &[b"a-secret-0123456789".as_slice()]);
        desk.work_with(Arc::new(vault.unwrap()));
        let (peer, mut command) = UnixStream::pair().unwrap();
        command.write_all(b"\"check\"\n").await.unwrap();
        serve(peer, &desk).await.unwrap();
        let mut told = String::new();
        command.read_to_string(&mut told).await.unwrap();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.iter().position(|line| !line.is_empty()), Some(6), "one every five seconds: {told:?}");
        assert_eq!(lines.iter().filter(|line| line.contains("\"rows\":0")).count(), Table::ALL.len());
        assert_eq!(lines.last(), Some(&r#"{"done":true}"#));
    }
}
