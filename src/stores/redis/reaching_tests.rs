//! How servers of every kind are reached, and which are refused.

use std::time::{Duration, Instant};

use super::testing::Server;
use super::tests::{address, name, one, row, settings, works};
use super::*;
use crate::secret::{Held, SecretRef};

fn held(folder: &tempfile::TempDir, text: &str) -> Held {
    let path = folder.path().join("secret");
    std::fs::write(&path, text).unwrap();
    let from = SecretRef::File(path);
    Held { secret: from.read().unwrap(), from }
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
