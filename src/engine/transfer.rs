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

use std::collections::HashSet;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::desk::{DeskError, say};
use super::store::{Added, Name, Row, Table};
use super::vault::{Plain, Vault, VaultError};

/// The version of the format.
const VERSION: u64 = 1;
/// Rows that are added at once.
const AT_ONCE: usize = 500;
/// So often a store that cannot be reached is asked once more, after a second, to take back what was added.
const TRIES: usize = 30;

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
    /// What was added before that could not be taken back.
    #[error("{cause}; {left} rows that were added before could not be taken back")]
    Partly {
        /// What went wrong first.
        cause: Box<ImportError>,
        /// Rows that the store may hold now.
        left: usize,
    },
}

/// Sends every row, sealed.
///
/// # Errors
/// The store cannot be asked, or nobody reads.
pub async fn export(vault: &Vault, out: &Sender<String>) -> Result<(), DeskError> {
    say(out, &json!(Header { portcullis_store: VERSION, exported: vault.now() })).await?;
    let mut rows = 0;
    for table in Table::ALL {
        let (mut from, mut told) = (None, HashSet::new());
        loop {
            let page = vault.store().page(*table, from.as_ref()).await.map_err(VaultError::from)?;
            for (name, row) in page.rows {
                // What no key opens is nothing that could be taken over. While others write, a row may be read twice.
                if vault.bound(*table, &name, &row.value).is_none() || !told.insert(name) {
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

/// Looks whether a copy fits, to its end.
///
/// # Errors
/// A line does not fit.
pub async fn look(text: impl BufRead, vault: &Arc<Vault>) -> Result<Contents, ImportError> {
    each(text, vault, None).await
}

/// Adds everything that a copy holds to a store, sealed by the first key: all of it, or nothing.
///
/// # Errors
/// A line does not fit, or the store refuses; what was added is taken back. Where that cannot be done either it is
/// [`ImportError::Partly`].
pub async fn import(text: impl BufRead, vault: &Arc<Vault>) -> Result<Contents, ImportError> {
    let mut adding = Adding::default();
    let read = each(text, vault, Some(&mut adding)).await;
    let settled = adding.settle().await;
    let outcome = read.and_then(|contents| settled.map(|()| contents));
    match outcome {
        Ok(contents) => Ok(contents),
        Err(cause) => match adding.take_back(vault).await {
            0 => Err(cause),
            left => Err(ImportError::Partly { cause: Box::new(cause), left }),
        },
    }
}

/// Reads every line, and adds its row where there is something to add it with.
async fn each(
    text: impl BufRead,
    vault: &Arc<Vault>,
    mut adding: Option<&mut Adding>,
) -> Result<Contents, ImportError> {
    let mut contents = Contents::default();
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
        if let Some(adding) = &mut adding {
            let vault = Arc::clone(vault);
            adding.last = number;
            adding.on_their_way.spawn(async move { add(&vault, table, &plain).await });
            if adding.on_their_way.len() == AT_ONCE {
                adding.settle().await?;
            }
        }
    }
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

/// The row that may be there now, if any, and what the store said.
type Outcome = (Option<(Table, Name)>, Result<Added, VaultError>);

async fn add(vault: &Vault, table: Table, plain: &Plain) -> Outcome {
    let (name, row) = match vault.row(table, plain) {
        Ok(row) => row,
        Err(error) => return (None, Err(error)),
    };
    match vault.store().add(table, &name, row).await {
        Ok(Added::New) => (Some((table, name)), Ok(Added::New)),
        Ok(added) => (None, Ok(added)),
        Err(error) => (Some((table, name)), Err(error.into())),
    }
}

/// Rows that are being added, and those that were.
#[derive(Debug, Default)]
struct Adding {
    on_their_way: JoinSet<Outcome>,
    added: Vec<(Table, Name)>,
    /// The line of the last one.
    last: usize,
}

impl Adding {
    /// Waits for all that are on their way.
    ///
    /// # Errors
    /// One of them was not added.
    async fn settle(&mut self) -> Result<(), ImportError> {
        let mut outcome = Ok(());
        while let Some(settled) = self.on_their_way.join_next().await {
            let wrong = |what: String| Err(ImportError::Line(self.last, what));
            let one = match settled {
                Err(error) => wrong(error.to_string()),
                Ok((row, said)) => {
                    self.added.extend(row);
                    match said {
                        Ok(Added::New) => Ok(()),
                        Ok(Added::Full) => wrong(format!("the table is full (at this line or up to {AT_ONCE} before)")),
                        Ok(Added::Taken) => {
                            wrong(format!("a row comes twice (at this line or up to {AT_ONCE} before)"))
                        }
                        Err(error) => Err(error.into()),
                    }
                }
            };
            outcome = outcome.and(one);
        }
        outcome
    }

    /// Takes away what was added, with some patience for a store that cannot be reached. Returns how much is left.
    async fn take_back(&mut self, vault: &Vault) -> usize {
        let mut tries = TRIES;
        while let Some((table, name)) = self.added.last() {
            match vault.store().take(*table, name).await {
                Ok(_) => drop(self.added.pop()),
                Err(_) if tries > 0 => {
                    tries -= 1;
                    sleep(Duration::from_secs(1)).await;
                }
                Err(_) => break,
            }
        }
        self.added.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::engine::clock::SystemClock;
    use crate::engine::store::{Page, Store, StoreError};
    use crate::stores::faulty::{Around, Faulty, Verb};
    use crate::stores::memory::Memory;

    /// Loses a store after so many calls, and brings it back after so many more.
    #[derive(Debug)]
    struct Lost {
        within: Arc<Memory>,
        calls: AtomicUsize,
        after: usize,
        until: usize,
    }

    #[async_trait]
    impl Around for Lost {
        fn within(&self) -> Arc<dyn Store> {
            Arc::clone(&self.within) as Arc<dyn Store>
        }

        async fn before(&self, verb: Verb) -> Result<(), StoreError> {
            if verb == Verb::Page {
                return Ok(());
            }
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            if (self.after..self.until).contains(&call) { Err(StoreError("lost".to_owned())) } else { Ok(()) }
        }

        /// As a store may whose rows change meanwhile, it tells of each row twice.
        fn told(&self, mut page: Page) -> Page {
            page.rows.extend_from_within(..);
            page
        }
    }

    fn vault(after: usize, until: usize) -> Arc<Vault> {
        let within = Arc::new(Memory::new(Arc::new(SystemClock)));
        let store = Arc::new(Faulty(Lost { within, calls: AtomicUsize::new(0), after, until }));
        let secret: &[u8] = b"an-installation-secret-0123456789";
        Arc::new(Vault::new(store, Arc::new(SystemClock), &[secret]).unwrap())
    }

    async fn exported(vault: &Vault) -> Vec<String> {
        let (out, mut lines) = channel(10_000);
        export(vault, &out).await.unwrap();
        drop(out);
        let mut text = Vec::new();
        while let Some(line) = lines.recv().await {
            text.push(line);
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_lost_in_the_middle_keeps_nothing_of_a_copy() {
        let never = usize::MAX;
        let full = vault(never, never);
        for number in 0..1200 {
            full.add(Table::Grants, &number.to_string(), &number, 3600, "owner").await.unwrap();
        }
        let copy = exported(&full).await.join("\n");
        let whole = vault(never, never);
        assert_eq!(import(copy.as_bytes(), &whole).await.unwrap().rows, 1200);
        assert_eq!(exported(&whole).await.len(), 1202, "each row, a first and a last line");

        // It comes back while what was added is taken back.
        let heals = vault(700, 1010);
        assert!(matches!(import(copy.as_bytes(), &heals).await, Err(ImportError::Vault(_))));
        assert_eq!(exported(&heals).await.len(), 2, "nothing is left");

        let gone = vault(700, never);
        let said = import(copy.as_bytes(), &gone).await.unwrap_err();
        assert!(matches!(said, ImportError::Partly { left, .. } if left >= 700), "{said}");
        assert!(said.to_string().contains("could not be taken back"), "{said}");
    }
}
