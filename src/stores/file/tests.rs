//! The contract on a file, and what a file alone can get wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicI64, Ordering};

use super::super::contract::{self, SetClock};
use super::*;

/// Opens a file of its own for every store that a contract asks for.
fn made(folder: &tempfile::TempDir) -> impl Fn(Arc<dyn Clock>) -> Arc<dyn Store> {
    let count = AtomicI64::new(0);
    move |clock| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Arc::new(File::open(&folder.path().join(number.to_string()), clock).unwrap())
    }
}

fn clock(now: i64) -> Arc<SetClock> {
    Arc::new(SetClock(AtomicI64::new(now)))
}

fn row(value: &str, expires: i64) -> Row {
    Row { value: value.as_bytes().to_vec(), expires, owner: [9; 32] }
}

#[tokio::test]
async fn c03_g02_it_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract::keeps(made(&folder)).await;
}

#[tokio::test]
async fn c04_a_full_table_forgets_what_has_expired_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    contract::is_bounded(made(&folder)).await;
}

#[tokio::test]
async fn rows_are_renamed_counted_and_read_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let make = made(&folder);
    contract::renames(&make).await;
    contract::gives_shares_back(&make).await;
}

#[tokio::test]
async fn rows_shares_and_ends_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let clock = clock(1_000);
    let open = || File::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let store = open();
    let table = Table::Keys;
    for number in 0..16 {
        let added = store.add(table, &[number; 32], row("a", 1_060 + i64::from(number))).await.unwrap();
        assert_eq!(added, Added::New);
    }
    store.add(Table::Codes, &[1; 32], row("b", 2_000)).await.unwrap();
    drop(store);

    let store = open();
    assert_eq!(store.add(table, &[99; 32], row("a", 2_000)).await.unwrap(), Added::Full, "what is there still counts");
    assert_eq!(store.get(table, &[0; 32]).await.unwrap().as_deref(), Some(b"a".as_slice()));
    clock.0.store(1_059, Ordering::SeqCst);
    assert!(store.get(table, &[0; 32]).await.unwrap().is_some());
    clock.0.store(1_060, Ordering::SeqCst);
    drop(store);
    let store = open();
    assert!(store.get(table, &[0; 32]).await.unwrap().is_none(), "its end came while nobody looked");
    assert!(store.get(table, &[1; 32]).await.unwrap().is_some());
    assert_eq!(store.add(table, &[99; 32], row("a", 2_000)).await.unwrap(), Added::New, "its share is free");
    assert_eq!(store.take(Table::Codes, &[1; 32]).await.unwrap().as_deref(), Some(b"b".as_slice()));
    drop(store);
    let store = open();
    assert_eq!(store.take(Table::Codes, &[1; 32]).await.unwrap(), None, "what was taken stays taken");
}

#[test]
fn the_file_is_its_owners_alone_and_one_processs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let store = File::open(&path, clock(0)).unwrap();
    assert_eq!(mode(), 0o600, "a file that was there");
    let error = File::open(&path, clock(0)).unwrap_err();
    assert!(error.message.ends_with("is in use by another process"), "{error}");
    drop(store);
    let other = folder.path().join("other");
    drop(File::open(&other, clock(0)).unwrap());
    assert_eq!(std::fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600, "a new file");
}

#[test]
fn what_is_no_store_or_a_damaged_one_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = File::open(&path, clock(0)).unwrap_err();
        assert!(error.message.contains("is damaged or none of this program"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing is repaired by guessing");
    };
    refused(&b"a text".repeat(1_000));
    refused(&[0; 8_192]);

    let good = folder.path().join("good");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = File::open(&good, clock(0)).unwrap();
    for number in 0..100 {
        runtime.block_on(store.add(Table::Grants, &[number; 32], row(&"v".repeat(600), 1_000))).unwrap();
    }
    drop(store);
    let bytes = std::fs::read(&good).unwrap();
    let at = bytes.windows(600).position(|window| window == "v".repeat(600).as_bytes()).unwrap();
    let mut flipped = bytes.clone();
    flipped[at] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let error = File::open(&path, clock(0)).unwrap_err();
    assert!(error.message.contains("is damaged"), "one bit: {error}");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = File::open(&path, clock(0)).unwrap_err();
    assert!(error.message.contains("is damaged"), "cut off: {error}");
    std::fs::write(&path, &bytes).unwrap();
    assert!(File::open(&path, clock(0)).is_ok(), "whole");
}

#[test]
fn what_cannot_be_a_file_is_refused_unopened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, says) in [
        (pipe, "it is not a regular file"),
        (folder.path().to_owned(), "it is a folder"),
        (folder.path().join("no/such/folder"), "it does not exist"),
        ("/dev/zero".into(), "it is not a regular file"),
    ] {
        let error = File::open(&path, clock(0)).unwrap_err();
        assert!(error.message.ends_with(says), "{}: {error}", path.display());
    }
}

#[test]
fn a_database_of_another_program_or_version_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let write = |table: &str, value: u64| {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let definition = redb::TableDefinition::<&str, u64>::new(table);
        transaction.open_table(definition).unwrap().insert("format", value).unwrap();
        transaction.commit().unwrap();
    };
    write("theirs", 1);
    let error = File::open(&path, clock(0)).unwrap_err();
    assert!(error.message.ends_with("it is the database of something else"), "{error}");
    std::fs::remove_file(&path).unwrap();
    write("format", 2);
    let error = File::open(&path, clock(0)).unwrap_err();
    assert!(error.message.ends_with("was written by another version of this program"), "{error}");
}

#[tokio::test]
async fn many_writers_share_the_cost_of_a_sync_and_the_runtime_waits_for_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(File::open(&folder.path().join("state"), clock(0)).unwrap());
    let mut adding = tokio::task::JoinSet::new();
    for number in 0..2_000_u32 {
        let store = Arc::clone(&store);
        let mut name = [0; 32];
        name[..4].copy_from_slice(&number.to_be_bytes());
        adding.spawn(async move {
            let row = Row { owner: name, ..row("a", 1_000) };
            store.add(Table::Flows, &name, row).await.unwrap()
        });
    }
    // This runtime has one thread: had a writer blocked it, this would not come through in time.
    let mut longest = Duration::ZERO;
    while !adding.is_empty() {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        longest = longest.max(began.elapsed());
        while let Some(added) = adding.try_join_next() {
            assert_eq!(added.unwrap(), Added::New);
        }
    }
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    assert!(store.changes.of(Table::Flows) == 2_000);
}
