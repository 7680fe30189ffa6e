//! How rows lie in the file, and the verbs on them within one transaction.
//!
//! ```text
//! format         "format" → the version of this layout
//! TABLE          name → when it ends, its owner, its value
//! TABLE ends     when it ends, name → nothing; so that what has expired is found without looking for it
//! TABLE owners   owner → how many rows it has
//! ```

use std::ops::Bound;

use redb::{
    Database, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};

use crate::engine::store::{Added, Name, Page, Row, Table};

/// The version of the layout.
const FORMAT: u64 = 1;
/// Where it stands.
const FORMATS: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
/// Rows of one part of a table.
const PAGE: usize = 1_000;
/// Rows that have expired and are cleared away with one that is added.
const SWEPT: usize = 16;

type Rows<'a> = TableDefinition<'a, &'static Name, &'static [u8]>;
type Ends<'a> = TableDefinition<'a, (i64, &'static Name), ()>;
type Owners<'a> = TableDefinition<'a, &'static Name, u64>;

fn rows(table: Table) -> Rows<'static> {
    TableDefinition::new(table.as_str())
}

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A store of this version.
    Store,
    /// A store of another version.
    OtherVersion,
    /// The database of another program.
    Foreign,
}

/// Looks at what the file is, and makes the tables that it lacks.
pub(super) fn prepare(database: &Database) -> Result<Found, redb::Error> {
    let transaction = database.begin_write()?;
    let is_new = transaction.list_tables()?.next().is_none();
    {
        if !is_new && !transaction.list_tables()?.any(|table| redb::TableHandle::name(&table) == "format") {
            return Ok(Found::Foreign);
        }
        let mut formats = transaction.open_table(FORMATS)?;
        let version = formats.get("format")?.map(|version| version.value());
        match version {
            None => drop(formats.insert("format", FORMAT)?),
            Some(FORMAT) => {}
            Some(_) => return Ok(Found::OtherVersion),
        }
        for table in Table::ALL {
            Writing::open(&transaction, *table, 0)?;
        }
    }
    transaction.commit()?;
    Ok(Found::Store)
}

fn encoded(row: &Row) -> Vec<u8> {
    [&row.expires.to_be_bytes(), row.owner.as_slice(), &row.value].concat()
}

fn decoded(bytes: &[u8]) -> Option<Row> {
    let (expires, rest) = bytes.split_first_chunk()?;
    let (owner, value) = rest.split_first_chunk()?;
    Some(Row { value: value.to_vec(), expires: i64::from_be_bytes(*expires), owner: *owner })
}

/// One table within a transaction that writes.
pub(super) struct Writing<'t> {
    table: Table,
    now: i64,
    rows: redb::Table<'t, &'static Name, &'static [u8]>,
    ends: redb::Table<'t, (i64, &'static Name), ()>,
    owners: redb::Table<'t, &'static Name, u64>,
}

impl<'t> Writing<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, table: Table, now: i64) -> Result<Self, redb::Error> {
        let (ends, owners) = (format!("{} ends", table.as_str()), format!("{} owners", table.as_str()));
        Ok(Self {
            table,
            now,
            rows: transaction.open_table(rows(table))?,
            ends: transaction.open_table(Ends::new(&ends))?,
            owners: transaction.open_table(Owners::new(&owners))?,
        })
    }

    pub(super) fn add(&mut self, name: &Name, row: &Row) -> Result<Added, redb::Error> {
        if self.live(name)?.is_some() {
            return Ok(Added::Taken);
        }
        self.sweep(SWEPT)?;
        while self.is_full(&row.owner)? {
            if !self.forget_first_expired()? {
                return Ok(Added::Full);
            }
        }
        self.put(name, row)?;
        Ok(Added::New)
    }

    pub(super) fn take(&mut self, name: &Name) -> Result<Option<Vec<u8>>, redb::Error> {
        let now = self.now;
        Ok(self.forget(name)?.filter(|row| row.expires > now).map(|row| row.value))
    }

    pub(super) fn replace(&mut self, name: &Name, before: &[u8], to: &Name, row: &Row) -> Result<bool, redb::Error> {
        let same = self.live(name)?.is_some_and(|found| found.value == before);
        if !same || (name != to && self.live(to)?.is_some()) {
            return Ok(false);
        }
        self.forget(name)?;
        self.put(to, row)?;
        Ok(true)
    }

    /// Forgets some of what has expired, the oldest first. Returns how many.
    pub(super) fn sweep(&mut self, most: usize) -> Result<usize, redb::Error> {
        for count in 0..most {
            if !self.forget_first_expired()? {
                return Ok(count);
            }
        }
        Ok(most)
    }

    fn live(&self, name: &Name) -> Result<Option<Row>, redb::Error> {
        let row = self.rows.get(name)?.and_then(|bytes| decoded(bytes.value()));
        Ok(row.filter(|row| row.expires > self.now))
    }

    fn forget_first_expired(&mut self) -> Result<bool, redb::Error> {
        let first = self.ends.first()?.map(|(key, _)| {
            let (end, name) = key.value();
            (end, *name)
        });
        let Some((end, name)) = first.filter(|(end, _)| *end <= self.now) else { return Ok(false) };
        self.forget(&name)?;
        self.ends.remove((end, &name))?;
        Ok(true)
    }

    fn forget(&mut self, name: &Name) -> Result<Option<Row>, redb::Error> {
        let Some(row) = self.rows.remove(name)?.and_then(|bytes| decoded(bytes.value())) else { return Ok(None) };
        self.ends.remove((row.expires, name))?;
        let left = self.count(&row.owner)?.saturating_sub(1);
        if left == 0 {
            self.owners.remove(&row.owner)?;
        } else {
            self.owners.insert(&row.owner, left)?;
        }
        Ok(Some(row))
    }

    fn put(&mut self, name: &Name, row: &Row) -> Result<(), redb::Error> {
        self.forget(name)?;
        self.rows.insert(name, encoded(row).as_slice())?;
        self.ends.insert((row.expires, name), ())?;
        let count = self.count(&row.owner)? + 1;
        self.owners.insert(&row.owner, count)?;
        Ok(())
    }

    fn count(&self, owner: &Name) -> Result<u64, redb::Error> {
        Ok(self.owners.get(owner)?.map_or(0, |count| count.value()))
    }

    fn is_full(&self, owner: &Name) -> Result<bool, redb::Error> {
        let (most, share) = (self.table.most() as u64, self.table.share() as u64);
        Ok(self.rows.len()? >= most || self.count(owner)? >= share)
    }
}

/// What was committed last, as of now.
pub(super) struct Snapshot {
    pub(super) transaction: ReadTransaction,
    pub(super) now: i64,
}

impl Snapshot {
    pub(super) fn value(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, redb::Error> {
        let row = self.transaction.open_table(rows(table))?.get(name)?.and_then(|bytes| decoded(bytes.value()));
        Ok(row.filter(|row| row.expires > self.now).map(|row| row.value))
    }

    pub(super) fn page(&self, table: Table, after: Option<Name>) -> Result<Page, redb::Error> {
        let begin = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let table = self.transaction.open_table(rows(table))?;
        let (mut page, mut read, mut last) = (Page::default(), 0, None);
        for entry in table.range::<&Name>((begin, Bound::Unbounded))?.take(PAGE) {
            let (name, bytes) = entry?;
            let name = *name.value();
            (read, last) = (read + 1, Some(name));
            page.rows.extend(decoded(bytes.value()).filter(|row| row.expires > self.now).map(|row| (name, row)));
        }
        page.next = last.filter(|_| read == PAGE).map(|name| name.to_vec());
        Ok(page)
    }
}
