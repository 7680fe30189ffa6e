//! What every store must do, as tests that every store runs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::engine::clock::Clock;
pub use crate::engine::clock::SetClock;
use crate::engine::store::{Added, Name, Row, Store, Table};

fn name(number: usize) -> Name {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&(number as u64).to_be_bytes());
    name
}

fn row(value: &str, expires: i64, owner: usize) -> Row {
    Row { value: value.as_bytes().to_vec(), expires, owner: name(owner) }
}

/// Adds rows, many at once as from many clients, and tells whether all of them were new.
async fn fill(store: &Arc<dyn Store>, table: Table, numbers: Range<usize>, row: impl Fn(usize) -> Row) -> bool {
    let mut new = true;
    let mut adding = tokio::task::JoinSet::new();
    for number in numbers {
        let (store, row) = (Arc::clone(store), row(number));
        adding.spawn(async move { store.add(table, &name(number), row).await.unwrap() });
        if adding.len() == 500 {
            new &= std::mem::take(&mut adding).join_all().await.iter().all(|added| *added == Added::New);
        }
    }
    new & adding.join_all().await.iter().all(|added| *added == Added::New)
}

/// Every row of a table; none comes twice while nothing changes.
async fn all(store: &dyn Store, table: Table) -> BTreeMap<Name, Row> {
    let (mut found, mut from) = (BTreeMap::new(), None);
    loop {
        let page = store.page(table, from.as_ref()).await.unwrap();
        for (name, row) in page.rows {
            assert!(found.insert(name, row).is_none(), "a row came twice");
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return found,
        }
    }
}

/// Atomic verbs, exact expiry, tables apart.
pub async fn keeps(make: impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let clock = Arc::new(SetClock(AtomicI64::new(1_000)));
    let store = make(Arc::clone(&clock) as Arc<dyn Clock>);
    let get = |table, number| {
        let store = Arc::clone(&store);
        async move { store.get(table, &name(number)).await.unwrap().map(|value| String::from_utf8(value).unwrap()) }
    };
    assert_eq!(store.add(Table::Codes, &name(1), row("a", 1_060, 1)).await.unwrap(), Added::New);
    assert_eq!(store.add(Table::Codes, &name(1), row("b", 1_060, 1)).await.unwrap(), Added::Taken);
    assert_eq!(get(Table::Codes, 1).await.as_deref(), Some("a"));
    assert_eq!(get(Table::Flows, 1).await, None, "tables are apart");
    assert_eq!(get(Table::Codes, 2).await, None);

    assert!(!store.replace(Table::Codes, &name(1), b"other", row("c", 1_060, 1)).await.unwrap());
    assert!(store.replace(Table::Codes, &name(1), b"a", row("c", 1_060, 1)).await.unwrap());
    assert!(!store.replace(Table::Codes, &name(1), b"a", row("d", 1_060, 1)).await.unwrap());
    assert!(!store.replace(Table::Codes, &name(2), b"", row("d", 1_060, 1)).await.unwrap(), "nothing is replaced");
    let listed = all(&*store, Table::Codes).await;
    assert_eq!(listed.keys().copied().collect::<Vec<_>>(), [name(1)]);
    assert_eq!(listed[&name(1)].value, b"c");
    assert_eq!((listed[&name(1)].expires, listed[&name(1)].owner), (1_060, name(1)), "a row is read as it was written");

    clock.0.store(1_059, Ordering::SeqCst);
    assert_eq!(get(Table::Codes, 1).await.as_deref(), Some("c"), "a row lives to its second");
    clock.0.store(1_060, Ordering::SeqCst);
    assert_eq!(get(Table::Codes, 1).await, None, "and no longer");
    assert_eq!(store.take(Table::Codes, &name(1)).await.unwrap(), None);
    assert!(all(&*store, Table::Codes).await.is_empty());
    assert_eq!(store.add(Table::Codes, &name(1), row("e", 1_100, 1)).await.unwrap(), Added::New);

    // C03, G02: of 200 callers at once, one takes a row, one adds it, and one replaces it.
    store.add(Table::Flows, &name(1), row("f", 2_000, 1)).await.unwrap();
    store.add(Table::Flows, &name(2), row("f", 2_000, 1)).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..200_usize {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let taken = store.take(Table::Flows, &name(1)).await.unwrap().is_some();
            let added = store.add(Table::Assertions, &name(1), row("g", 2_000, caller)).await.unwrap() == Added::New;
            let replaced = store.replace(Table::Flows, &name(2), b"f", row("h", 2_000, 1)).await.unwrap();
            (taken, added, replaced)
        });
    }
    let outcomes = callers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.0).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.1).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.2).count(), 1);
}

/// A table at its bound, or at an owner's share, takes nothing new and forgets nothing that lives.
pub async fn is_bounded(make: impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let clock = Arc::new(SetClock(AtomicI64::new(1_000)));
    let store = make(Arc::clone(&clock) as Arc<dyn Clock>);
    let table = Table::Clients;
    let share = table.share();
    assert!(fill(&store, table, 0..share, |_| row("a", 2_000, 1)).await);
    assert_eq!(store.add(table, &name(share), row("a", 2_000, 1)).await.unwrap(), Added::Full, "one owner's share");
    assert_eq!(store.add(table, &name(share), row("a", 2_000, 2)).await.unwrap(), Added::New, "others have room");
    let number = table.most();
    assert!(fill(&store, table, share + 1..number, |number| row("a", 3_000, 3 + number / share)).await);
    assert_eq!(store.add(table, &name(number), row("a", 2_000, 9_999)).await.unwrap(), Added::Full);
    assert!(store.get(table, &name(0)).await.unwrap().is_some(), "none is forgotten before its time");
    clock.0.store(2_000, Ordering::SeqCst);
    assert_eq!(store.add(table, &name(number), row("a", 4_000, 9_999)).await.unwrap(), Added::New);
}

/// Rows change their names as a whole, and every change can be noticed.
pub async fn renames(make: impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let clock = Arc::new(SetClock(AtomicI64::new(1_000)));
    let store = make(Arc::clone(&clock) as Arc<dyn Clock>);
    let table = Table::Grants;
    let seen = async || store.changes(table).await.unwrap();
    let mut before = seen().await;
    let mut changed = async || {
        let now = seen().await;
        now != std::mem::replace(&mut before, now)
    };
    store.add(table, &name(1), row("a", 1_060, 1)).await.unwrap();
    assert!(changed().await, "added");
    assert_eq!(store.add(table, &name(1), row("b", 1_060, 1)).await.unwrap(), Added::Taken);
    store.add(Table::Codes, &name(1), row("b", 1_060, 1)).await.unwrap();
    assert!(!changed().await, "nothing was added to this table");

    assert!(!store.rename(table, &name(1), b"other", &name(2), row("c", 1_090, 2)).await.unwrap());
    assert!(!store.rename(table, &name(3), b"a", &name(2), row("c", 1_090, 2)).await.unwrap(), "there is none");
    assert!(!changed().await);
    assert!(store.rename(table, &name(1), b"a", &name(2), row("c", 1_090, 2)).await.unwrap());
    assert!(changed().await, "renamed");
    assert_eq!(store.get(table, &name(1)).await.unwrap(), None, "the old name is free");
    assert_eq!(store.get(table, &name(2)).await.unwrap().as_deref(), Some(b"c".as_slice()));
    store.add(table, &name(1), row("d", 1_060, 1)).await.unwrap();
    assert!(changed().await);
    assert!(!store.rename(table, &name(1), b"d", &name(2), row("e", 1_090, 2)).await.unwrap(), "the name is taken");
    assert!(!changed().await);
    store.replace(table, &name(1), b"d", row("e", 1_060, 1)).await.unwrap();
    assert!(changed().await, "replaced");
    store.take(table, &name(1)).await.unwrap();
    assert!(changed().await, "taken");
    store.take(table, &name(1)).await.unwrap();
    assert!(!changed().await, "there was nothing to take");
    clock.0.store(1_089, Ordering::SeqCst);
    assert!(store.get(table, &name(2)).await.unwrap().is_some(), "the new row's end counts");
    clock.0.store(1_090, Ordering::SeqCst);
    assert!(store.get(table, &name(2)).await.unwrap().is_none());

    // A table of several parts is read whole, and what it held is counted right through every verb.
    assert!(fill(&store, Table::Codes, 10..2_510, |number| row("a", 9_000, number)).await);
    let listed = all(&*store, Table::Codes).await;
    assert_eq!(listed.len(), 2_500, "the rows that live, and no others");
    assert!(store.page(Table::Codes, Some(&b"made up".to_vec())).await.is_err(), "a cursor that is none");
}

/// The share of an owner is given back with every row that goes, however it goes.
pub async fn gives_shares_back(make: impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let clock = Arc::new(SetClock(AtomicI64::new(1_000)));
    let store = make(Arc::clone(&clock) as Arc<dyn Clock>);
    let table = Table::Keys;
    let add = async |number, expires| store.add(table, &name(number), row("a", expires, 1)).await.unwrap();
    for number in 0..table.share() {
        assert_eq!(add(number, 1_100).await, Added::New);
    }
    assert_eq!(add(100, 1_100).await, Added::Full);
    assert!(store.take(table, &name(0)).await.unwrap().is_some());
    assert_eq!(add(100, 1_200).await, Added::New, "taken");
    assert_eq!(add(101, 1_200).await, Added::Full);
    assert!(store.replace(table, &name(1), b"a", row("b", 1_100, 2)).await.unwrap());
    assert_eq!(add(101, 1_200).await, Added::Full, "the table is full, whoever owns it");
    clock.0.store(1_100, Ordering::SeqCst);
    for number in 200..200 + table.share() - 1 {
        assert_eq!(add(number, 1_200).await, Added::New, "expired");
    }
    assert_eq!(add(300, 1_200).await, Added::Full);
}
