//! The contract against real servers, of every kind.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::testing::Server;
use super::*;
use crate::engine::clock::Clock;
use crate::engine::keyring::Keyring;
use crate::engine::revocations::Revocations;
use crate::engine::vault::Vault;
use crate::oauth::jws::Algorithm;
use crate::secret::{Held, SecretRef};
use crate::stores::contract::{self, SetClock};

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

fn held(folder: &tempfile::TempDir, text: &str) -> Held {
    let path = folder.path().join("secret");
    std::fs::write(&path, text).unwrap();
    let from = SecretRef::File(path);
    Held { secret: from.read().unwrap(), from }
}

/// A store whose server is told the time before every verb.
#[derive(Debug)]
struct Clocked {
    redis: Redis,
    clock: Arc<dyn Clock>,
}

impl Clocked {
    fn make(server: &Server) -> impl Fn(Arc<dyn Clock>) -> Arc<dyn Store> {
        move |clock| {
            server.ask("FLUSHALL");
            let mut redis = Redis::new(one(server), &Handle::current());
            redis.scripts = Scripts::new(SET_TIME);
            Arc::new(Self { redis, clock })
        }
    }

    async fn now(&self) -> &Redis {
        let now = self.clock.unix();
        let set =
            async |connection: &mut dial::Connection| cmd("SET").arg("clock").arg(now).exec_async(connection).await;
        self.redis.link.ask(ANSWER, set).await.unwrap();
        &self.redis
    }
}

#[async_trait]
impl Store for Clocked {
    async fn add(&self, table: Table, name: &Name, row: Row) -> Result<Added, StoreError> {
        self.now().await.add(table, name, row).await
    }
    async fn get(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.now().await.get(table, name).await
    }
    async fn take(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.now().await.take(table, name).await
    }
    async fn replace(&self, table: Table, name: &Name, before: &[u8], row: Row) -> Result<bool, StoreError> {
        self.now().await.replace(table, name, before, row).await
    }
    async fn rename(&self, table: Table, name: &Name, before: &[u8], to: &Name, row: Row) -> Result<bool, StoreError> {
        self.now().await.rename(table, name, before, to, row).await
    }
    async fn page(&self, table: Table, from: Option<&Cursor>) -> Result<Page, StoreError> {
        self.now().await.page(table, from).await
    }
    async fn changes(&self, table: Table) -> Result<u64, StoreError> {
        self.now().await.changes(table).await
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

fn name(number: u8) -> Name {
    [number; 32]
}

fn row(value: &str, lives: u64) -> Row {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Row { value: value.into(), expires: i64::try_from(now + lives).unwrap(), owner: name(0) }
}

/// A row can be written, read and taken.
async fn works(store: &Redis) {
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

#[tokio::test(flavor = "multi_thread")]
async fn installations_share_a_server_and_see_nothing_of_each_other() {
    let server = Server::start(&[]);
    let store = |namespace: &str| {
        Redis::new(RedisSettings { namespace: namespace.to_owned(), ..one(&server) }, &Handle::current())
    };
    let (first, second) = (store("first"), store("second"));
    first.add(Table::Codes, &name(1), row("a", 60)).await.unwrap();
    assert_eq!(second.get(Table::Codes, &name(1)).await.unwrap(), None);
    works(&second).await;
    assert!(first.get(Table::Codes, &name(1)).await.unwrap().is_some());
    let keys = server.ask("KEYS *");
    assert!(keys.contains("{first:codes}:rows") && keys.contains("{second:codes}:changes"), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_a_user_and_a_database_are_used() {
    let server = Server::start(&["--requirepass", "default-secret"]);
    server.ask("AUTH default-secret\nACL SETUSER gateway on >gateway-secret ~{portcullis:* &* +@all -@dangerous +info");
    let folder = tempfile::tempdir().unwrap();
    let login = |username: Option<&str>, password: &str| Login {
        username: username.map(str::to_owned),
        password: Some(held(&folder, password)),
    };
    for login in [login(None, "default-secret"), login(Some("gateway"), "gateway-secret")] {
        let store = Redis::new(RedisSettings { login, database: 3, ..one(&server) }, &Handle::current());
        works(&store).await;
        store.add(Table::Codes, &name(7), row("a", 60)).await.unwrap();
        assert!(server.ask("AUTH default-secret\nSELECT 3\nKEYS *").contains("{portcullis:codes}:rows"));
        store.take(Table::Codes, &name(7)).await.unwrap();
    }
    for login in [Login::default(), login(None, "wrong"), login(Some("gateway"), "default-secret")] {
        let store = Redis::new(RedisSettings { login, ..one(&server) }, &Handle::current());
        let refused = store.get(Table::Codes, &name(1)).await.unwrap_err();
        assert!(!refused.0.contains("secret") && !refused.0.contains("wrong"), "{refused}");
        assert!(refused.0.to_lowercase().contains("auth"), "{refused}");
    }
}

/// A certificate authority, and a server's certificate and key as it signed them, in files.
fn certificates(folder: &std::path::Path) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&own, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), own.serialize_pem()).unwrap();
    authority.der().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_against_the_named_authority() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let authority = certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let tls = ["--port", "0", "--tls-port", "PORT", "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let tls = [&tls[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]].concat();
    let server = Server::start(&tls);
    for host in ["127.0.0.1", "localhost"] {
        let servers = Servers::One(Address { host: host.to_owned(), port: server.port() });
        let trusting = RedisSettings { tls: true, ca: Some(vec![authority.clone()]), ..settings(servers) };
        works(&Redis::new(trusting, &Handle::current())).await;
    }
    let elsewhere = certificates(tempfile::tempdir().unwrap().path());
    for ca in [None, Some(vec![elsewhere])] {
        let distrusting = RedisSettings { tls: true, ca, ..one(&server) };
        let refused = Redis::new(distrusting, &Handle::current()).get(Table::Codes, &name(1)).await.unwrap_err();
        assert!(refused.0.contains("certificate"), "{refused}");
    }
    let plain = Redis::new(one(&server), &Handle::current());
    assert!(plain.get(Table::Codes, &name(1)).await.is_err(), "a server with TLS speaks nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_has_every_table_somewhere() {
    let nodes = Server::cluster(&[]);
    let store = Redis::new(settings(Servers::Cluster(vec![address(&nodes[0])])), &Handle::current());
    works(&store).await;
    for table in Table::ALL {
        store.add(*table, &name(2), row("a", 60)).await.unwrap();
    }
    let used = nodes.iter().filter(|node| !node.ask("DBSIZE").starts_with(":0")).count();
    assert!(used > 1, "the tables are spread");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_nothing_leaves_the_machine_whatever_servers_are_named() {
    let at = |announced: &'static str| {
        let node = Server::start(&["--cluster-enabled", "yes", "--cluster-announce-ip", announced]);
        node.ask("CLUSTER ADDSLOTSRANGE 0 16383");
        while !node.ask("CLUSTER INFO").contains("cluster_state:ok") {
            std::thread::sleep(Duration::from_millis(20));
        }
        node
    };
    let store = |node: &Server| Redis::new(settings(Servers::Cluster(vec![address(node)])), &Handle::current());
    let here = at("127.0.0.1");
    works(&store(&here)).await;
    let elsewhere = at("192.0.2.1");
    let began = Instant::now();
    assert!(store(&elsewhere).get(Table::Codes, &name(1)).await.is_err(), "the node names one elsewhere");
    assert!(began.elapsed() < Duration::from_secs(1), "nobody was even called: {:?}", began.elapsed());
    let master = Server::start(&[]);
    let sentinel = Server::sentinel(&master, "sentinel announce-ip 127.0.0.1");
    sentinel.ask("SENTINEL remove group\nSENTINEL monitor group 192.0.2.1 6379 1");
    let sentinels = vec![address(&sentinel)];
    let found = Servers::Sentinel { master: "group".to_owned(), sentinels, login: Login::default() };
    let refused = Redis::new(settings(found), &Handle::current()).get(Table::Codes, &name(1)).await.unwrap_err();
    assert!(refused.0.contains("no TLS"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_name_the_master_and_the_next_one() {
    let mut first = Server::start(&[]);
    let port = first.port().to_string();
    let second = Server::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
    let sentinel = Server::sentinel(&first, "");
    let deaf = Address { host: "127.0.0.1".to_owned(), port: 1 };
    let sentinels = vec![deaf, address(&sentinel)];
    let found = Servers::Sentinel { master: "group".to_owned(), sentinels: sentinels.clone(), login: Login::default() };
    let store = Redis::new(settings(found), &Handle::current());
    works(&store).await;
    let unknown = Servers::Sentinel { master: "other".to_owned(), sentinels, login: Login::default() };
    let refused = Redis::new(settings(unknown), &Handle::current()).get(Table::Codes, &name(1)).await.unwrap_err();
    assert!(refused.0.contains("sentinel"), "{refused}");

    store.add(Table::Codes, &name(1), row("kept", 600)).await.unwrap();
    let copied = async || second.ask("HLEN {portcullis:codes}:rows").starts_with(":1");
    while !copied().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The sentinel knows of the second server by now, or will within ten seconds.
    while !sentinel.ask("SENTINEL replicas group").contains(&second.port().to_string()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    first.stop();
    let found = async {
        loop {
            if let Ok(found) = store.take(Table::Codes, &name(1)).await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), found).await.expect("the second server took over");
    assert_eq!(found.as_deref(), Some(b"kept".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_gone_is_found_again_soon() {
    let mut server = Server::start(&[]);
    let store = Redis::new(one(&server), &Handle::current());
    works(&store).await;
    server.stop();
    let began = Instant::now();
    assert!(store.get(Table::Codes, &name(1)).await.is_err());
    assert!(store.get(Table::Codes, &name(1)).await.is_err());
    assert!(began.elapsed() < ANSWER * 2, "nobody waits for it: {:?}", began.elapsed());
    server.start_again();
    let began = Instant::now();
    while store.get(Table::Codes, &name(1)).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    works(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_forget_keys_is_none() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let store = Redis::new(one(&server), &Handle::current());
    let refused = store.get(Table::Codes, &name(1)).await.unwrap_err();
    assert!(refused.0.contains("noeviction"), "{refused}");
    server.ask("CONFIG SET maxmemory-policy noeviction");
    let began = Instant::now();
    while store.get(Table::Codes, &name(1)).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_may_forget_keys_are_no_cluster() {
    let nodes = Server::cluster(&["--maxmemory", "100mb", "--maxmemory-policy", "noeviction"]);
    let store = || Redis::new(settings(Servers::Cluster(vec![address(&nodes[0])])), &Handle::current());
    works(&store()).await;
    nodes[2].ask("CONFIG SET maxmemory-policy allkeys-random");
    let refused = store().get(Table::Codes, &name(1)).await.unwrap_err();
    assert!(refused.0.contains("noeviction"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_copies_another_is_none() {
    let first = Server::start(&[]);
    let copy = Server::start(&["--replicaof", "127.0.0.1", &first.port().to_string()]);
    let store = Redis::new(one(&copy), &Handle::current());
    let refused = store.changes(Table::Codes).await.unwrap_err();
    assert!(refused.0.contains("copies another one"), "{refused}");
    copy.ask("REPLICAOF NO ONE");
    let began = Instant::now();
    while store.get(Table::Codes, &name(1)).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5), "it takes writes now");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    works(&store).await;
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
