//! The contract against real servers, and what replicas share in one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::testing::Server;
use super::*;
use crate::engine::clock::Clock;
use crate::engine::keyring::Keyring;
use crate::engine::revocations::Revocations;
use crate::engine::vault::Vault;
use crate::oauth::jws::Algorithm;
use crate::stores::contract::{self, SetClock};
use crate::stores::faulty::{Around, Faulty, Verb};

/// What a test says the time is, so that nobody waits for minutes.
const SET_TIME: &str = "local now = tonumber(redis.call('GET', 'clock'))\n";

pub(super) fn address(server: &Server) -> Address {
    Address { host: "127.0.0.1".to_owned(), port: server.port() }
}

pub(super) fn settings(servers: Servers) -> RedisSettings {
    let (login, namespace) = (Login::default(), "portcullis".to_owned());
    RedisSettings { servers, tls: false, ca: None, login, database: 0, namespace }
}

pub(super) fn one(server: &Server) -> RedisSettings {
    settings(Servers::One(address(server)))
}

/// Tells the server the time before every verb.
#[derive(Debug)]
struct Clocked {
    redis: Arc<Redis>,
    clock: Arc<dyn Clock>,
}

impl Clocked {
    fn make(server: &Server) -> impl Fn(Arc<dyn Clock>) -> Arc<dyn Store> {
        move |clock| {
            server.ask("FLUSHALL");
            let mut redis = Redis::new(one(server), &Handle::current());
            redis.scripts = Scripts::new(SET_TIME);
            Arc::new(Faulty(Self { redis: Arc::new(redis), clock }))
        }
    }
}

#[async_trait]
impl Around for Clocked {
    fn within(&self) -> Arc<dyn Store> {
        Arc::clone(&self.redis) as Arc<dyn Store>
    }

    async fn before(&self, _: Verb) -> Result<(), StoreError> {
        let now = self.clock.unix();
        let set =
            async |connection: &mut dial::Connection| cmd("SET").arg("clock").arg(now).exec_async(connection).await;
        self.redis.link.ask(ANSWER, set).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    for server in [Server::start(&[]), Server::valkey(&[])] {
        contract::keeps(Clocked::make(&server)).await;
        contract::renames(Clocked::make(&server)).await;
        contract::gives_shares_back(Clocked::make(&server)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c04_a_full_table_forgets_what_has_expired_and_nothing_else() {
    for server in [Server::start(&[]), Server::valkey(&[])] {
        contract::is_bounded(Clocked::make(&server)).await;
    }
}

pub(super) fn name(number: u8) -> Name {
    [number; 32]
}

pub(super) fn row(value: &str, lives: u64) -> Row {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Row { value: value.into(), expires: i64::try_from(now + lives).unwrap(), owner: name(0) }
}

/// A row can be written, read and taken.
pub(super) async fn works(store: &Redis) {
    for table in Table::ALL {
        assert_eq!(store.add(*table, &name(1), row("a", 60)).await.unwrap(), Added::New);
        assert_eq!(store.page(*table, None).await.unwrap().rows.len(), 1);
        assert_ne!(store.changes(*table).await.unwrap(), 0);
        assert_eq!(store.take(*table, &name(1)).await.unwrap().as_deref(), Some(b"a".as_slice()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_ends_at_its_second_by_the_servers_time() {
    let server = Server::start(&[]);
    let store = Redis::new(one(&server), &Handle::current());
    let row = row("a", 2);
    let last = Duration::from_secs(row.expires.unsigned_abs());
    store.add(Table::Codes, &name(1), row).await.unwrap();
    loop {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let found = store.get(Table::Codes, &name(1)).await.unwrap();
        let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(found.is_some() || after >= last, "it ended {:?} too early", last - after);
        assert!(found.is_none() || before < last, "it is there {:?} too long", before - last);
        if found.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The ids of published keys.
async fn published(keyring: &Keyring, vault: &Vault) -> Vec<String> {
    let set: serde_json::Value = serde_json::from_slice(&keyring.jwks(vault).await.unwrap()).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_of_replicas_rotate_without_an_invalid_moment() {
    const STEP: i64 = 6 * 3600;
    let server = Server::start(&[]);
    let clock = Arc::new(SetClock(1_800_000_000.into()));
    let store = Clocked::make(&server)(Arc::clone(&clock) as Arc<dyn Clock>);
    let replica = || {
        let secrets: &[&[u8]] = &[b"a-secret-of-the-installation-0123456789"];
        let vault = Vault::new(Arc::clone(&store), Arc::clone(&clock) as Arc<dyn Clock>, secrets).unwrap();
        (vault, Keyring::new(Algorithm::Es256))
    };
    let replicas = [replica(), replica()];
    // What each published six hours ago, and the keys of tokens of the last day.
    let (mut before, mut living): (Vec<String>, Vec<(i64, String)>) = (Vec::new(), Vec::new());
    let mut used = std::collections::BTreeSet::new();
    for step in 0..(100 * 24 * 3600 / STEP) {
        let now = clock.unix();
        let (signs, verifies) = if step % 2 == 0 { (&replicas[0], &replicas[1]) } else { (&replicas[1], &replicas[0]) };
        let token = signs.1.sign(&signs.0, "at+jwt", &serde_json::Map::new()).await.unwrap();
        let head = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
        let kid = head["kid"].as_str().unwrap().to_owned();
        assert!(before.is_empty() || before.contains(&kid), "whoever read the keys six hours ago knows this one");
        living.push((now + 24 * 3600, kid.clone()));
        living.retain(|(end, _)| *end > now);
        for (_, kid) in &living {
            assert!(verifies.1.key(&verifies.0, kid).await.unwrap().is_some(), "a token of the last day is known");
        }
        before = published(&verifies.1, &verifies.0).await;
        assert_eq!(before, published(&signs.1, &signs.0).await);
        used.insert(kid);
        clock.0.fetch_add(STEP, std::sync::atomic::Ordering::SeqCst);
    }
    assert!((3..=5).contains(&used.len()), "in a hundred days there are a few keys: {}", used.len());
    assert!(before.len() < 4, "and old ones are not published for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_emptied_revives_nothing() {
    let server = Server::start(&[]);
    let clock = Arc::new(SetClock(1_800_000_000.into()));
    let store = Clocked::make(&server)(Arc::clone(&clock) as Arc<dyn Clock>);
    let secrets: &[&[u8]] = &[b"a-secret-of-the-installation-0123456789"];
    let vault = Vault::new(store, Arc::clone(&clock) as Arc<dyn Clock>, secrets).unwrap();
    let (keyring, revocations) = (Keyring::new(Algorithm::Es256), Revocations::default());
    let keys = published(&keyring, &vault).await;
    revocations.revoke(&vault, "grant", 3600).await.unwrap();
    revocations.refresh(&vault).await.unwrap();
    assert!(!keyring.refresh(&vault).await.unwrap(), "nothing was forgotten");
    server.ask("FLUSHALL");
    assert!(keyring.refresh(&vault).await.unwrap(), "everything was");
    assert_ne!(published(&keyring, &vault).await, keys, "tokens of before are nobody's");
    revocations.refresh(&vault).await.unwrap();
    assert!(revocations.contains("grant"), "and what a process knows to be revoked stays so");
    clock.0.fetch_add(3600, std::sync::atomic::Ordering::SeqCst);
    revocations.reread(&vault).await.unwrap();
    assert!(!revocations.contains("grant"), "for as long as it matters");
}
