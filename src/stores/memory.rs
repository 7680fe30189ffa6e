//! Rows in memory: for trying out, and for tests. What it holds ends with the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::engine::clock::Clock;
use crate::engine::store::{Added, Cursor, Name, Page, Row, Store, StoreError, Table};

/// Rows of one part of a table.
const PAGE: usize = 1_000;

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Name, Row>,
    owners: HashMap<Name, usize>,
    /// The rows by the time of their end, so that a full table costs a flood no more than it costs others.
    ends: BTreeSet<(i64, Name)>,
    changes: u64,
}

/// A store in memory.
#[derive(Debug)]
pub struct Memory {
    clock: Arc<dyn Clock>,
    tables: HashMap<Table, Mutex<Rows>>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tables: Table::ALL.iter().map(|table| (*table, Mutex::default())).collect() }
    }

    fn table(&self, table: Table) -> Result<MutexGuard<'_, Rows>, StoreError> {
        let rows = self.tables.get(&table).ok_or_else(|| StoreError(table.as_str().to_owned()))?;
        // No verb can panic between two changes that belong together.
        Ok(rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rows {
    fn live(&self, name: &Name, now: i64) -> Option<&Row> {
        self.rows.get(name).filter(|row| row.expires > now)
    }

    fn forget(&mut self, name: &Name) -> Option<Row> {
        let row = self.rows.remove(name)?;
        self.ends.remove(&(row.expires, *name));
        if let Some(count) = self.owners.get_mut(&row.owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&row.owner);
            }
        }
        Some(row)
    }

    fn put(&mut self, name: &Name, row: Row) {
        self.forget(name);
        *self.owners.entry(row.owner).or_default() += 1;
        self.ends.insert((row.expires, *name));
        self.rows.insert(*name, row);
        self.changes += 1;
    }

    fn forget_expired(&mut self, now: i64) {
        while let Some((_, name)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.forget(&name);
        }
    }

    fn is_full(&self, table: Table, owner: &Name) -> bool {
        self.rows.len() >= table.most() || self.owners.get(owner).is_some_and(|count| *count >= table.share())
    }
}

#[async_trait]
impl Store for Memory {
    async fn add(&self, table: Table, name: &Name, row: Row) -> Result<Added, StoreError> {
        let now = self.clock.unix();
        let mut rows = self.table(table)?;
        if rows.live(name, now).is_some() {
            return Ok(Added::Taken);
        }
        rows.forget_expired(now);
        if rows.is_full(table, &row.owner) {
            return Ok(Added::Full);
        }
        rows.put(name, row);
        Ok(Added::New)
    }

    async fn get(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        let now = self.clock.unix();
        Ok(self.table(table)?.live(name, now).map(|row| row.value.clone()))
    }

    async fn take(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        let now = self.clock.unix();
        let mut rows = self.table(table)?;
        let row = rows.forget(name);
        rows.changes += u64::from(row.is_some());
        Ok(row.filter(|row| row.expires > now).map(|row| row.value))
    }

    async fn replace(&self, table: Table, name: &Name, before: &[u8], row: Row) -> Result<bool, StoreError> {
        let now = self.clock.unix();
        let mut rows = self.table(table)?;
        let same = rows.live(name, now).is_some_and(|found| found.value == before);
        if same {
            rows.put(name, row);
        }
        Ok(same)
    }

    async fn rename(&self, table: Table, name: &Name, before: &[u8], to: &Name, row: Row) -> Result<bool, StoreError> {
        let now = self.clock.unix();
        let mut rows = self.table(table)?;
        let same = rows.live(name, now).is_some_and(|found| found.value == before) && rows.live(to, now).is_none();
        if same {
            rows.forget(name);
            rows.put(to, row);
        }
        Ok(same)
    }

    async fn page(&self, table: Table, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let now = self.clock.unix();
        let begin = match from {
            None => Bound::Unbounded,
            Some(cursor) => {
                let name: Name = cursor.as_slice().try_into().or(Err(StoreError("an unknown cursor".to_owned())))?;
                Bound::Excluded(name)
            }
        };
        let rows = self.table(table)?;
        let found: Vec<(&Name, &Row)> = rows.rows.range((begin, Bound::Unbounded)).take(PAGE).collect();
        let next = found.last().filter(|_| found.len() == PAGE).map(|(name, _)| name.to_vec());
        let live = found.into_iter().filter(|(_, row)| row.expires > now);
        Ok(Page { rows: live.map(|(name, row)| (*name, row.clone())).collect(), next })
    }

    async fn changes(&self, table: Table) -> Result<u64, StoreError> {
        Ok(self.table(table)?.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        contract::keeps(|clock| Arc::new(Memory::new(clock))).await;
    }

    #[tokio::test]
    async fn c04_a_full_table_forgets_what_has_expired_and_nothing_else() {
        contract::is_bounded(|clock| Arc::new(Memory::new(clock))).await;
    }

    #[tokio::test]
    async fn rows_are_renamed_counted_and_read_in_parts() {
        contract::renames(|clock| Arc::new(Memory::new(clock))).await;
        contract::gives_shares_back(|clock| Arc::new(Memory::new(clock))).await;
    }
}
