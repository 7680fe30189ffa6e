//! Everything that a store holds, as text: to keep a copy of it, and to bring it into another store.
//!
//! One JSON value a line. First `{"portcullis_store": 1, "exported": SECONDS}`, then one line for each row, and last
//! `{"rows": COUNT}`, by which a file that was cut off is known:
//!
//! ```text
//! {"table":"grants","name":"BASE64URL","expires":SECONDS,"value":"BASE64URL"}
//! ```
//!
//! Values are sealed as they are in the store, so a copy is worth nothing without one of the `encryption_keys`.

use std::io::BufRead;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use super::desk::{DeskError, say};
use super::store::{Added, Name, Row, Table};
use super::vault::{Vault, VaultError};

/// The version of the format.
const VERSION: u64 = 1;
/// Rows that are added at once.
const AT_ONCE: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    portcullis_store: u64,
    exported: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    table: String,
    name: String,
    expires: i64,
    value: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    rows: usize,
}

/// What a copy holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Rows that live.
    pub rows: usize,
    /// Rows that have expired since, which are left out.
    pub expired: usize,
}

/// Why a copy does not fit.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not what it should be.
    #[error("line {0}: {1}")]
    Line(usize, String),
    /// The store refuses.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Sends every row, sealed.
///
/// # Errors
/// The store cannot be asked, or nobody reads.
pub async fn export(vault: &Vault, out: &Sender<String>) -> Result<(), DeskError> {
    say(out, &json!(Header { portcullis_store: VERSION, exported: vault.now() })).await?;
    let mut rows = 0;
    for table in Table::ALL {
        let mut from = None;
        loop {
            let page = vault.store().page(*table, from.as_ref()).await.map_err(VaultError::from)?;
            for (name, row) in page.rows {
                // What no key opens is nothing that could be taken over.
                if vault.bound(*table, &name, &row.value).is_none() {
                    continue;
                }
                let line = Line {
                    table: table.as_str().to_owned(),
                    name: URL_SAFE_NO_PAD.encode(name),
                    expires: row.expires,
                    value: URL_SAFE_NO_PAD.encode(row.value),
                };
                say(out, &json!(line)).await?;
                rows += 1;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
    }
    say(out, &json!(Trailer { rows })).await
}

/// What is done with the rows of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// Nothing but looking whether all of them fit.
    Look,
    /// They are added, sealed by the first key.
    Add,
}

/// Reads a copy to its end.
///
/// # Errors
/// A line does not fit: nothing is concluded from those before it, and what was added must not be used.
pub async fn import(text: impl BufRead, vault: &Arc<Vault>, what: Import) -> Result<Contents, ImportError> {
    let mut contents = Contents::default();
    let mut adding: JoinSet<Result<Added, VaultError>> = JoinSet::new();
    let mut trailer = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let wrong = |what: &str| ImportError::Line(number, what.to_owned());
        let line = line.map_err(|error| wrong(&error.to_string()))?;
        if number == 1 {
            let header: Header = serde_json::from_str(&line).or(Err(wrong("this is no export of a store")))?;
            if header.portcullis_store != VERSION {
                return Err(wrong("the export has another version than this program reads"));
            }
            continue;
        }
        if trailer.is_some() {
            return Err(wrong("there is something behind the last line"));
        }
        if let Ok(found) = serde_json::from_str::<Trailer>(&line) {
            trailer = Some((number, found.rows));
            continue;
        }
        let Some((table, name, row)) = serde_json::from_str::<Line>(&line).ok().and_then(read) else {
            return Err(wrong("this is no row"));
        };
        if row.expires <= vault.now() {
            contents.expired += 1;
            continue;
        }
        let plain = vault.bound(table, &name, &row.value).filter(|plain| plain.expires == row.expires);
        let plain = plain.ok_or_else(|| {
            wrong("no key of `encryption_keys` opens this row, or it is not as it was written; name the keys that sealed it")
        })?;
        contents.rows += 1;
        if what == Import::Add {
            let vault = Arc::clone(vault);
            adding.spawn(async move {
                let (name, row) = vault.row(table, &plain)?;
                Ok(vault.store().add(table, &name, row).await?)
            });
            if adding.len() == AT_ONCE {
                settle(&mut adding, number).await?;
            }
        }
    }
    settle(&mut adding, contents.rows).await?;
    match trailer {
        Some((_, rows)) if rows == contents.rows + contents.expired => Ok(contents),
        Some((number, _)) => Err(ImportError::Line(number, "there are fewer rows than it says, or more".to_owned())),
        None => Err(ImportError::Line(contents.rows + 2, "the export is cut off: its last line is missing".to_owned())),
    }
}

fn read(line: Line) -> Option<(Table, Name, Row)> {
    let table = *Table::ALL.iter().find(|table| table.as_str() == line.table)?;
    let name: Name = URL_SAFE_NO_PAD.decode(line.name).ok()?.try_into().ok()?;
    let value = URL_SAFE_NO_PAD.decode(line.value).ok()?;
    Some((table, name, Row { value, expires: line.expires, owner: Name::default() }))
}

async fn settle(adding: &mut JoinSet<Result<Added, VaultError>>, number: usize) -> Result<(), ImportError> {
    while let Some(added) = adding.join_next().await {
        let added = added.map_err(|error| ImportError::Line(number, error.to_string()))??;
        if added != Added::New {
            let what = if added == Added::Full { "the table is full" } else { "a row comes twice" };
            return Err(ImportError::Line(number, format!("{what} (at this line or up to {AT_ONCE} before)")));
        }
    }
    Ok(())
}
