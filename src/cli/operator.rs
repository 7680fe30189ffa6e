//! How an operator's commands reach the state of an installation: through the running gateway, which has the file of its
//! store to itself, or without one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Files, check, runtime};
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::desk::{Desk, Order};
use crate::engine::vault::Vault;
use crate::policy::load::{self, Before};
use crate::policy::model::Installation;
use crate::stores::{self, Settings, file};

/// How long the gateway may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the installation's file. Broken policies beside it are no matter of these commands.
pub(super) fn installation(files: &Files) -> Result<Arc<Installation>, String> {
    let loaded = files.layout().read().map(|read| load::load(&read, &files.overrides(None, None), &Before::default()));
    match loaded {
        Ok(loaded) => loaded.installation.map(|good| Arc::clone(&good.model)).ok_or_else(|| {
            check::explain(&loaded.report);
            "`portcullis.yaml` cannot be used as it is".to_owned()
        }),
        Err(report) => {
            check::explain(&report);
            Err("the files cannot be read".to_owned())
        }
    }
}

/// Carries out an order and hands over every line of its answer.
pub(super) fn perform(files: &Files, order: &Order, mut line: impl FnMut(&str)) -> Result<(), String> {
    let installation = installation(files)?;
    if let Some(path) = &installation.control_socket
        && let Ok(stream) = UnixStream::connect(path)
    {
        return ask(stream, order, line);
    }
    match installation.store.clone().unwrap_or_default() {
        Settings::Memory => Err(match &installation.control_socket {
            Some(path) => {
                format!("the state is in the memory of a gateway, and none listens at `{}`: start it", path.display())
            }
            None => "the state is in the memory of the gateway, which has no `control_socket` in `portcullis.yaml`: name one, \
                     such as `control_socket: run/portcullis.sock`, and restart it"
                .to_owned(),
        }),
        settings => {
            if let Settings::File(path) = &settings {
                expect(path)?;
            }
            block_on(async {
                let vault = vault(&installation, &settings)?;
                at(&vault, order.clone(), &mut line).await
            })
        }
    }
}

/// That there is a store: a command that looks into one shall not make it.
fn expect(path: &Path) -> Result<(), String> {
    match file::look(path) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(format!("there is no store at `{}`: the gateway makes it when it first starts", path.display()))
        }
        Err(error) => Err(format!("{error}; {}", error.help)),
    }
}

/// A vault of this installation over one of its stores. It needs a runtime around it.
pub(super) fn vault(installation: &Installation, settings: &Settings) -> Result<Arc<Vault>, String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = stores::open(settings, Arc::clone(&clock), &Handle::current());
    let store = opened.map_err(|error| format!("{error}; {}", error.help))?.store;
    let keys: Vec<&[u8]> = installation.encryption_keys.iter().map(|held| held.secret.expose()).collect();
    Vault::new(store, clock, &keys).map(Arc::new).map_err(|error| error.to_string())
}

/// Carries out an order at a store that no gateway has.
pub(super) async fn at(vault: &Arc<Vault>, order: Order, line: &mut impl FnMut(&str)) -> Result<(), String> {
    let desk = Desk::new(Arc::default());
    desk.work_with(Arc::clone(vault));
    let (out, mut lines) = mpsc::channel(64);
    let working = tokio::spawn(async move { desk.perform(order, &out).await });
    while let Some(told) = lines.recv().await {
        line(&told);
    }
    working.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Runs work that needs a runtime.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    runtime().map_err(|error| error.to_string())?.block_on(work)
}

/// Has the running gateway do it.
fn ask(mut stream: UnixStream, order: &Order, mut line: impl FnMut(&str)) -> Result<(), String> {
    let lost = |error: std::io::Error| format!("the gateway did not answer: {error}");
    stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
    let order = serde_json::to_string(order).map_err(|error| error.to_string())?;
    stream.write_all(format!("{order}\n").as_bytes()).map_err(lost)?;
    for told in BufReader::new(stream).lines() {
        let told = told.map_err(lost)?;
        if told.is_empty() {
            // It is still at it.
            continue;
        }
        let value: Value = serde_json::from_str(&told).unwrap_or_default();
        if value.get("done").is_some() {
            return Ok(());
        }
        if let Some(error) = value.get("error").and_then(Value::as_str) {
            return Err(format!("the gateway refused: {error}"));
        }
        line(&told);
    }
    Err("the gateway ended before it had answered".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_says_between_its_lines_is_no_line() {
        let (command, mut gateway) = UnixStream::pair().unwrap();
        gateway.write_all(b"\n\n{\"table\":\"keys\"}\n\n{\"done\":true}\n").unwrap();
        let mut lines = Vec::new();
        ask(command, &Order::Check, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, [r#"{"table":"keys"}"#]);
    }
}
