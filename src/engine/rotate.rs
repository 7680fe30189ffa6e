//! Seals anew what older keys have sealed, beside gateways that go on serving: every row is moved as a whole.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::store::Table;
use super::vault::{Vault, VaultError};

/// How often a table is gone through at most: rows that were changed meanwhile are looked at again.
const ROUNDS: usize = 4;
/// Rows that are moved at once: they share the cost of a sync or a round trip, and leave room for what is served meanwhile.
const AT_ONCE: usize = 100;

/// What became of the rows of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Rows that the first key seals now and did not before.
    pub moved: usize,
    /// Rows that no key opens, or that stand where they were not put: they count for nothing, and go at their time.
    pub unreadable: usize,
    /// Rows that were changed by others each time they were looked at.
    pub missed: usize,
}

/// Names and seals the rows of a table by the first key.
///
/// # Errors
/// The store cannot be asked, or nothing can be sealed.
pub async fn rotate(vault: &Arc<Vault>, table: Table) -> Result<Rotated, VaultError> {
    let mut moved = 0;
    for round in 1.. {
        let found = go_through(vault, table).await?;
        moved += found.moved;
        if found.missed == 0 || round == ROUNDS {
            return Ok(Rotated { moved, ..found });
        }
    }
    Ok(Rotated::default())
}

/// The rows of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that live.
    pub rows: usize,
    /// Those that an older key names or seals.
    pub older: usize,
    /// Those that no key opens, or that stand where they were not put.
    pub unreadable: usize,
}

/// Counts the rows of a table, and opens each.
///
/// # Errors
/// The store cannot be asked.
pub async fn count(vault: &Vault, table: Table) -> Result<Counts, VaultError> {
    let (mut counts, mut from) = (Counts::default(), None);
    loop {
        let page = vault.store().page(table, from.as_ref()).await?;
        for (name, row) in &page.rows {
            counts.rows += 1;
            if vault.bound(table, name, &row.value).is_none() {
                counts.unreadable += 1;
            } else if !vault.is_current(table, name, &row.value) {
                counts.older += 1;
            }
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(counts),
        }
    }
}

async fn go_through(vault: &Arc<Vault>, table: Table) -> Result<Rotated, VaultError> {
    let (mut found, mut from, mut moving) = (Rotated::default(), None, JoinSet::new());
    loop {
        let page = vault.store().page(table, from.as_ref()).await?;
        for (name, row) in page.rows {
            if vault.is_current(table, &name, &row.value) {
                continue;
            }
            let Some(plain) = vault.bound(table, &name, &row.value) else {
                found.unreadable += 1;
                continue;
            };
            let vault = Arc::clone(vault);
            moving.spawn(async move {
                let (to, sealed) = vault.row(table, &plain)?;
                Ok(vault.store().rename(table, &name, &row.value, &to, sealed).await?)
            });
            if moving.len() == AT_ONCE {
                settle(&mut moving, &mut found).await?;
            }
        }
        settle(&mut moving, &mut found).await?;
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(found),
        }
    }
}

/// Waits for all that are being moved.
async fn settle(moving: &mut JoinSet<Result<bool, VaultError>>, found: &mut Rotated) -> Result<(), VaultError> {
    while let Some(moved) = moving.join_next().await {
        if moved.unwrap_or(Ok(false))? {
            found.moved += 1;
        } else {
            found.missed += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::clock::{Clock, SystemClock};
    use crate::engine::store::{Row, Store, StoreError};
    use crate::stores::faulty::{Around, Faulty, Verb};
    use crate::stores::memory::Memory;

    const OLD: &[u8] = &[1; 32];
    const NEW: &[u8] = &[2; 32];

    fn vault<S: Store + 'static>(store: &Arc<S>, keys: &[&[u8]]) -> Arc<Vault> {
        Arc::new(Vault::new(Arc::clone(store) as Arc<dyn Store>, Arc::new(SystemClock), keys).unwrap())
    }

    async fn value(vault: &Vault, name: &str) -> Option<String> {
        vault.get::<String>(Table::Grants, name).await.unwrap().map(|entry| entry.value)
    }

    #[tokio::test]
    async fn after_a_rotation_the_old_key_can_go() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(Memory::new(Arc::clone(&clock)));
        let (old, both, new) = (vault(&store, &[OLD]), vault(&store, &[NEW, OLD]), vault(&store, &[NEW]));
        for number in 0..2_500 {
            old.add(Table::Grants, &number.to_string(), &"kept", 600, &number.to_string()).await.unwrap();
        }
        both.add(Table::Grants, "new", &"kept", 600, "").await.unwrap();
        // What was replaced since has the name of the old key and the seal of the new one.
        let entry = both.get::<String>(Table::Grants, "7").await.unwrap().unwrap();
        assert!(both.replace(Table::Grants, &entry, &"replaced".to_owned(), 600, "7").await.unwrap());
        // And what a stranger wrote opens by no key.
        let strange = Row { value: vec![1; 90], expires: clock.unix() + 600, owner: [3; 32] };
        store.add(Table::Grants, &[9; 32], strange).await.unwrap();
        assert_eq!(value(&new, "8").await, None, "before");

        let first = rotate(&both, Table::Grants).await.unwrap();
        assert_eq!(first, Rotated { moved: 2_500, unreadable: 1, missed: 0 });
        let second = rotate(&both, Table::Grants).await.unwrap();
        assert_eq!(second, Rotated { moved: 0, unreadable: 1, missed: 0 }, "nothing is left to do");
        for (name, text) in [("0", "kept"), ("7", "replaced"), ("2499", "kept"), ("new", "kept")] {
            assert_eq!(value(&new, name).await.as_deref(), Some(text), "{name} by the new key alone");
            assert_eq!(value(&old, name).await, None, "{name} by the old key alone");
        }
    }

    #[tokio::test]
    async fn a_row_that_is_moved_while_somebody_holds_it_is_still_his() {
        let store = Arc::new(Memory::new(Arc::new(SystemClock)));
        let (old, both) = (vault(&store, &[OLD]), vault(&store, &[NEW, OLD]));
        for name in ["a", "b"] {
            old.add(Table::Grants, name, &"before", 600, "").await.unwrap();
        }
        let held = both.get::<String>(Table::Grants, "a").await.unwrap().unwrap();
        let late = both.get::<String>(Table::Grants, "b").await.unwrap().unwrap();
        let again = both.get::<String>(Table::Grants, "b").await.unwrap().unwrap();
        rotate(&both, Table::Grants).await.unwrap();
        assert!(both.replace(Table::Grants, &held, &"after".to_owned(), 600, "").await.unwrap());
        assert_eq!(value(&both, "a").await.as_deref(), Some("after"));
        assert!(both.replace(Table::Grants, &again, &"mine".to_owned(), 600, "").await.unwrap());
        assert!(!both.replace(Table::Grants, &late, &"his".to_owned(), 600, "").await.unwrap(), "only one of two");
        assert_eq!(value(&both, "b").await.as_deref(), Some("mine"));
        assert_eq!(both.take::<String>(Table::Grants, "a").await.unwrap().as_deref(), Some("after"));
        assert_eq!(both.take::<String>(Table::Grants, "a").await.unwrap(), None, "and it is taken once");
    }

    /// Has those that add wait for each other, and takes its time to rename.
    #[derive(Debug)]
    struct Together(Arc<Memory>, tokio::sync::Barrier);

    fn together(many: usize) -> Arc<Faulty<Together>> {
        let rows = Arc::new(Memory::new(Arc::new(SystemClock)));
        Arc::new(Faulty(Together(rows, tokio::sync::Barrier::new(many))))
    }

    #[async_trait::async_trait]
    impl Around for Together {
        fn within(&self) -> Arc<dyn Store> {
            Arc::clone(&self.0) as Arc<dyn Store>
        }

        async fn before(&self, verb: Verb) -> Result<(), StoreError> {
            match verb {
                Verb::Add => {
                    self.1.wait().await;
                }
                Verb::Rename => tokio::time::sleep(Duration::from_millis(10)).await,
                _ => {}
            }
            Ok(())
        }

        async fn after(&self, verb: Verb, _: Table) {
            if verb == Verb::Add {
                self.1.wait().await;
            }
        }
    }

    #[tokio::test]
    async fn c03_what_is_used_once_is_used_once_while_replicas_change_their_keys() {
        let store = together(2);
        let (before, after) = (vault(&store, &[OLD, NEW]), vault(&store, &[NEW, OLD]));
        let use_once =
            async |vault: &Vault, name: &str| vault.add(Table::Assertions, name, &(), 600, "").await.unwrap();
        let (one, other) = tokio::join!(use_once(&before, "a"), use_once(&after, "a"));
        assert!(!(one && other), "the one of two names, and the other of the other");
        let (one, other) = tokio::join!(use_once(&before, "b"), use_once(&after, "c"));
        assert!(one && other, "the positive control");
        for (vault, name) in [(&before, "c"), (&after, "b")] {
            assert!(!use_once(vault, name).await, "the other replica knows, whichever key is first");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_moved_many_at_a_time() {
        let store = together(1);
        let (old, both) = (vault(&store, &[OLD]), vault(&store, &[NEW, OLD]));
        for number in 0..2_000 {
            old.add(Table::Grants, &number.to_string(), &"kept", 600, "").await.unwrap();
        }
        let began = tokio::time::Instant::now();
        assert_eq!(rotate(&both, Table::Grants).await.unwrap().moved, 2_000);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_row_counts_at_its_own_place_and_until_its_own_end_only() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(Memory::new(Arc::clone(&clock)));
        let vault = vault(&store, &[NEW]);
        vault.add(Table::Grants, "a", &"mine", 600, "").await.unwrap();
        vault.add(Table::Grants, "b", &"yours", 600, "").await.unwrap();
        vault.add(Table::Grants, "ended", &"mine", 0, "").await.unwrap();
        let rows = store.page(Table::Grants, None).await.unwrap().rows;
        assert_eq!(rows.len(), 2);
        let [(one, first), (other, second)] = rows.as_slice() else { panic!("two rows") };
        let later = Row { expires: i64::MAX, ..first.clone() };
        assert!(store.replace(Table::Grants, one, &first.value, later).await.unwrap());
        assert!(value(&vault, "a").await.is_some() && value(&vault, "b").await.is_some(), "what is sealed is true");
        // Whoever may write to the store swaps two rows, or copies one into another table.
        assert!(store.replace(Table::Grants, one, &first.value, second.clone()).await.unwrap());
        assert!(store.replace(Table::Grants, other, &second.value, first.clone()).await.unwrap());
        assert_eq!((value(&vault, "a").await, value(&vault, "b").await), (None, None));
        assert_eq!(vault.list::<String>(Table::Grants).await.unwrap(), Vec::<String>::new());
        store.add(Table::Codes, one, first.clone()).await.unwrap();
        assert!(vault.list::<String>(Table::Codes).await.unwrap().is_empty());
    }
}
