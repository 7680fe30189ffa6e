//! `portcullis store`: look into the store, copy it, and seal it with a new key.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;

use super::{Files, complain, fail, operator, print};
use crate::engine::desk::Order;
use crate::engine::transfer::{Contents, ImportError, import, look};
use crate::engine::vault::Vault;
use crate::stores::{Settings, file};

/// `portcullis store`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Count the rows of every table, and try to open each. Ends with 1 when one cannot be opened.
    Check(Plain),
    /// Write down everything that the store holds, sealed as it is.
    Export(Export),
    /// Fill an empty store with what an export holds: all of it or nothing. No gateway may run.
    Import(Into),
    /// Seal everything with the first of the `encryption_keys`, so that the others can go. The gateway may run on.
    RotateKey(Plain),
}

#[derive(Debug, clap::Args)]
pub(super) struct Plain {
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// The file to write, with mode 0600; it must not be there yet. Otherwise standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, clap::Args)]
pub(super) struct Into {
    /// The export.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    files: Files,
}

pub(super) fn run(command: &Command) -> ExitCode {
    let outcome = match command {
        Command::Check(plain) => check(&plain.files),
        Command::Export(export) => self::export(export),
        Command::Import(from) => bring(from),
        Command::RotateKey(plain) => rotate(&plain.files),
    };
    match outcome {
        Ok(said) => {
            print(&said);
            ExitCode::SUCCESS
        }
        Err(message) => fail(&message),
    }
}

/// A line of an answer: its table, and numbers by their names.
fn numbers<const N: usize>(line: &str, names: [&str; N]) -> (String, [u64; N]) {
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    let table = line.get("table").and_then(Value::as_str).unwrap_or_default().to_owned();
    (table, names.map(|name| line.get(name).and_then(Value::as_u64).unwrap_or_default()))
}

fn check(files: &Files) -> Result<String, String> {
    let (mut older_rows, mut unreadable_rows) = (0, 0);
    operator::perform(files, &Order::Check, |line| {
        let (table, [rows, most, older, unreadable]) = numbers(line, ["rows", "most", "older_key", "unreadable"]);
        older_rows += older;
        unreadable_rows += unreadable;
        print(&format!("{table:<12} {rows:>8} of {most:>8} rows"));
        if older > 0 {
            print(&format!(", {older} sealed with an older key"));
        }
        if unreadable > 0 {
            print(&format!(", {unreadable} that no key opens"));
        }
        print("\n");
    })?;
    if older_rows > 0 {
        complain("note: `portcullis store rotate-key` seals everything with the first key\n");
    }
    if unreadable_rows > 0 {
        return Err(format!(
            "{unreadable_rows} rows count for nothing: put the key that sealed them into `encryption_keys` again, or let \
             them expire"
        ));
    }
    Ok("good\n".to_owned())
}

fn rotate(files: &Files) -> Result<String, String> {
    let (mut moved_rows, mut unreadable_rows, mut missed_rows) = (0, 0, 0);
    operator::perform(files, &Order::RotateKey, |line| {
        let (table, [moved, unreadable, missed]) = numbers(line, ["moved", "unreadable", "missed"]);
        moved_rows += moved;
        unreadable_rows += unreadable;
        missed_rows += missed;
        if moved > 0 {
            print(&format!("{table:<12} {moved:>8} rows sealed with the first key\n"));
        }
    })?;
    if missed_rows > 0 {
        return Err(format!("{missed_rows} rows were changed by others each time: run the command again"));
    }
    if unreadable_rows > 0 {
        complain(&format!(
            "note: {unreadable_rows} rows open by no key that is listed; they count for nothing, and expire\n"
        ));
    }
    Ok(format!(
        "{moved_rows} rows were sealed anew, and nothing in the store needs an older key.\n\
         What the gateway has given away still does: sign-ins on their way, for ten minutes; and the cookie by which a browser's \
         remembered consents are found, as long as it lives: without the older key people are asked once more.\n\
         Wait ten minutes, then take the older keys out of `encryption_keys`. Copies of the store from before need them still.\n"
    ))
}

fn export(export: &Export) -> Result<String, String> {
    let Some(path) = &export.to else {
        return operator::perform(&export.files, &Order::Export, |line| print(&format!("{line}\n")))
            .map(|()| String::new());
    };
    let unwritable = |error: std::io::Error| format!("`{}` cannot be written: {error}", path.display());
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unwritable)?;
    let (mut rows, mut failed) = (0_usize, None);
    let outcome = operator::perform(&export.files, &Order::Export, |line| {
        rows += 1;
        if failed.is_none() {
            failed = out.write_all(format!("{line}\n").as_bytes()).err();
        }
    });
    let written = failed.map_or_else(|| out.sync_all(), Err).map_err(unwritable);
    if let Err(message) = outcome.and(written) {
        // Half a copy is none.
        let _ = std::fs::remove_file(path);
        return Err(message);
    }
    Ok(format!("{} rows are in `{}`\n", rows.saturating_sub(2), path.display()))
}

fn bring(from: &Into) -> Result<String, String> {
    let installation = operator::installation(&from.files)?;
    let settings = installation.store.clone().unwrap_or_default();
    let path = match &settings {
        Settings::Memory => return Err("this installation keeps its state in memory: name a `store` first".to_owned()),
        Settings::File(path) => path.clone(),
        Settings::Redis(_) => {
            let contents = operator::block_on(async {
                let vault = operator::vault(&installation, &settings)?;
                empty(&vault).await?;
                fill(&from.from, &vault).await
            })?;
            return Ok(format!("{} rows are in the store\n", contents.rows));
        }
    };
    if file::look(&path).map_err(|error| format!("{error}; {}", error.help))? {
        operator::block_on(async { empty(&operator::vault(&installation, &settings)?).await })?;
    }
    let mut beside = path.clone().into_os_string();
    beside.push(".import");
    let beside = PathBuf::from(beside);
    let outcome = operator::block_on(async {
        let vault = operator::vault(&installation, &Settings::File(beside.clone()))?;
        fill(&from.from, &vault).await
    });
    let placed = outcome.and_then(|contents| {
        file::place(&beside, &path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        Ok(contents)
    });
    let contents = placed.inspect_err(|_| drop(std::fs::remove_file(&beside)))?;
    let expired = match contents.expired {
        0 => String::new(),
        expired => format!("; {expired} have expired since and were left out"),
    };
    Ok(format!("{} rows are in `{}`{expired}\n", contents.rows, path.display()))
}

/// That the store holds nothing.
async fn empty(vault: &Arc<Vault>) -> Result<(), String> {
    let mut rows = 0;
    operator::at(vault, Order::Check, &mut |line: &str| {
        let (_, [found]) = numbers(line, ["rows"]);
        rows += found;
    })
    .await?;
    if rows == 0 { Ok(()) } else { Err(format!("the store holds {rows} rows: move it away first")) }
}

/// Looks at all of it before anything is added.
async fn fill(from: &Path, vault: &Arc<Vault>) -> Result<Contents, String> {
    let open = || File::open(from).map(BufReader::new).map_err(|error| format!("`{}`: {error}", from.display()));
    let wrong = |error: ImportError| {
        let what = if matches!(error, ImportError::Partly { .. }) {
            "empty the store before you import again"
        } else {
            "nothing was imported"
        };
        format!("`{}`: {error}; {what}", from.display())
    };
    look(open()?, vault).await.map_err(wrong)?;
    import(open()?, vault).await.map_err(wrong)
}
