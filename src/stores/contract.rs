//! What every store must do, as tests that every store runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::store::{Added, Name, Row, Store, Table};

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct SetClock(pub AtomicI64);

impl Clock for SetClock {
    fn unix(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

fn name(number: usize) -> Name {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&(number as u64).to_be_bytes());
    name
}

fn row(value: &str, expires: i64, owner: usize) -> Row {
    Row { value: value.as_bytes().to_vec(), expires, owner: name(owner) }
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
    assert_eq!(store.list(Table::Codes).await.unwrap(), [b"c".to_vec()]);

    clock.0.store(1_059, Ordering::SeqCst);
    assert_eq!(get(Table::Codes, 1).await.as_deref(), Some("c"), "a row lives to its second");
    clock.0.store(1_060, Ordering::SeqCst);
    assert_eq!(get(Table::Codes, 1).await, None, "and no longer");
    assert_eq!(store.take(Table::Codes, &name(1)).await.unwrap(), None);
    assert!(store.list(Table::Codes).await.unwrap().is_empty());
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
    for number in 0..table.share() {
        assert_eq!(store.add(table, &name(number), row("a", 2_000, 1)).await.unwrap(), Added::New);
    }
    let next = table.share();
    assert_eq!(store.add(table, &name(next), row("a", 2_000, 1)).await.unwrap(), Added::Full, "one owner's share");
    assert_eq!(store.add(table, &name(next), row("a", 2_000, 2)).await.unwrap(), Added::New, "others have room");
    let mut number = next + 1;
    while number < table.most() {
        let owner = 3 + number / table.share();
        assert_eq!(store.add(table, &name(number), row("a", 3_000, owner)).await.unwrap(), Added::New);
        number += 1;
    }
    assert_eq!(store.add(table, &name(number), row("a", 2_000, 9_999)).await.unwrap(), Added::Full);
    assert!(store.get(table, &name(0)).await.unwrap().is_some(), "none is forgotten before its time");
    clock.0.store(2_000, Ordering::SeqCst);
    assert_eq!(store.add(table, &name(number), row("a", 4_000, 9_999)).await.unwrap(), Added::New);
}
