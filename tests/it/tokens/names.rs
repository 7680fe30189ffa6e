//! Names of upstreams are looked up again in the background: traffic moves with the answer, and stays when there is none.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{INSTALLATION, Scene, check};
use crate::support::{Client, Gateway, Issuer, Upstream, eventually};

const NAME: &str = "mcp.internal.test";

/// A name server that knows one name, whose address lives for a second.
struct NameServer {
    address: SocketAddr,
    answer: Arc<Mutex<Option<Ipv4Addr>>>,
    asked: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl NameServer {
    async fn start(first: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = socket.local_addr().expect("a bound address");
        let (answer, asked) = (Arc::new(Mutex::new(Some(first))), Arc::new(Mutex::new(0)));
        let (current, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                *count.lock().expect("the count") += 1;
                let now = *current.lock().expect("the answer");
                drop(socket.send_to(&answered(&query[..length], now), from).await);
            }
        });
        Self { address, answer, asked, task }
    }

    /// Another address from now on; `None` fails every query.
    fn answers(&self, address: Option<Ipv4Addr>) {
        *self.answer.lock().expect("the answer") = address;
    }

    fn asked(&self) -> usize {
        *self.asked.lock().expect("the count")
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer to a query (RFC 1035 section 4): one address, nothing for other types, or a failure.
fn answered(query: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("the end of a name") + 1;
    let question = &query[12..name_end + 4];
    let is_address = query[name_end..name_end + 2] == [0, 1];
    let failure: u8 = if address.is_none() { 2 } else { 0 };
    let records: u8 = u8::from(is_address && address.is_some());
    let mut answer = vec![query[0], query[1], 0x81, 0x80 | failure, 0, 1, 0, records, 0, 0, 0, 0];
    answer.extend(question);
    if let Some(address) = address.filter(|_| is_address) {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

/// Listens on another loopback address at the port of `first`, and hands every connection on to `second`.
async fn beside(first: &Upstream, second: &Upstream) {
    let port = |upstream: &Upstream| upstream.url("").rsplit(':').next().map(|port| port.parse::<u16>());
    let (port, target) = (port(first), port(second));
    let port = port.expect("a port").expect("a number");
    let target = target.expect("a port").expect("a number");
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await.expect("the second loopback address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut on = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await.expect("the second upstream");
                drop(tokio::io::copy_bidirectional(&mut socket, &mut on).await);
            });
        }
    });
}

#[tokio::test]
async fn j06_traffic_moves_when_the_name_of_an_upstream_does_and_stays_when_it_is_lost() {
    let names = NameServer::start(Ipv4Addr::LOCALHOST).await;
    let (first, second) = (Upstream::mcp(&["echo"]).await, Upstream::mcp(&["echo"]).await);
    beside(&first, &second).await;
    let scene = scene(&names, first).await;
    let token = scene.token(json!({}));
    scene.accepts("the first address", &token).await;

    let (going, url) = (Arc::new(AtomicBool::new(true)), scene.url("main"));
    let load = (0..2).map(|_| {
        let (going, client) = (Arc::clone(&going), Client::new(&url).token(&token));
        tokio::spawn(async move {
            let (mut passed, mut failed) = (0, Vec::new());
            while going.load(Ordering::SeqCst) {
                let status = client.call_tool("echo", json!({})).await.status;
                if status == 200 { passed += 1 } else { failed.push(status) }
            }
            (passed, failed)
        })
    });
    let load: Vec<_> = load.collect();
    eventually("calls at the first address", || (scene.upstream.received().len() > 20).then_some(())).await;
    second.assert_silent();

    names.answers(Some(Ipv4Addr::new(127, 0, 0, 2)));
    eventually("calls at the second address", || (second.received().len() > 20).then_some(())).await;
    let settled = scene.upstream.received().len();
    let moved = second.received().len() + 100;
    eventually("more calls at the second address", || (second.received().len() > moved).then_some(())).await;
    // A call or two may have been on their way when the answer changed.
    assert!(scene.upstream.received().len() <= settled + 2, "nothing goes to the old address any more");

    names.answers(None);
    let asked = names.asked();
    let lost = |record: &serde_json::Value| record.to_string().contains("name-unresolved");
    scene.gateway.wait_for_log(lost).await;
    assert!(names.asked() > asked, "the server was asked and failed");
    let kept = second.received().len() + 20;
    eventually("calls at the last good address", || (second.received().len() > kept).then_some(())).await;

    going.store(false, Ordering::SeqCst);
    for load in load {
        let (passed, failed) = load.await.expect("the load");
        assert!(failed.is_empty() && passed > 50, "no call fails on the way: {passed} passed, {failed:?}");
    }
}

/// A gateway in front of an upstream that it knows by name.
async fn scene(names: &NameServer, first: Upstream) -> Scene {
    let issuer = Issuer::start().await;
    let policy = format!(
        "service: main\nroute: {{ path: /main/mcp }}\nupstream: {{ url: \"{}\" }}\n\
         providers: {{ corp: {{ oidc: {{ issuer: \"{}\" }} }} }}\n\
         authentication: {{ providers: [corp] }}\nrules: [{{ allow: {{ tools: [echo] }} }}]\n",
        first.url("/mcp").replace("127.0.0.1", NAME),
        issuer.url()
    );
    let setup = Gateway::new().installation(&installation(names.address)).policy("main", &policy);
    Scene { gateway: setup.start().await, upstream: first, issuer }
}

fn installation(server: SocketAddr) -> String {
    format!("{INSTALLATION}dns: {{ servers: [\"{server}\"] }}\n")
}

#[tokio::test]
async fn j06_a_name_that_cannot_be_resolved_at_start_is_found_later() {
    let names = NameServer::start(Ipv4Addr::LOCALHOST).await;
    names.answers(None);
    let scene = scene(&names, Upstream::mcp(&["echo"]).await).await;
    let token = scene.token(json!({}));
    let reply = scene.call("main", &token).await;
    assert_eq!(reply.status, 502, "there is nobody to ask yet: {reply:?}");
    assert_eq!(scene.reason(&reply).await, "upstream-unreachable");
    scene.upstream.assert_silent();
    names.answers(Some(Ipv4Addr::LOCALHOST));
    scene.until("main", &token, 200).await;
    assert_eq!(scene.upstream.received().len(), 1, "and then the call arrives");
}

#[tokio::test]
async fn j06_other_name_servers_take_over_and_dead_ones_lose_nothing() {
    let names = NameServer::start(Ipv4Addr::LOCALHOST).await;
    let (first, second) = (Upstream::mcp(&["echo"]).await, Upstream::mcp(&["echo"]).await);
    beside(&first, &second).await;
    let scene = scene(&names, first).await;
    let token = scene.token(json!({}));
    scene.accepts("the first name server", &token).await;

    let dead = NameServer::start(Ipv4Addr::LOCALHOST).await;
    dead.answers(None);
    let write = |server: SocketAddr| {
        scene.gateway.write_installation(&installation(server));
    };
    write(dead.address);
    eventually("the new name server to be asked", || (dead.asked() > 0).then_some(())).await;
    scene.gateway.wait_for_log(|record| record["event"] == "reloaded" || record.to_string().contains("reloaded")).await;
    scene.accepts("a name server that fails takes no address away", &token).await;

    let other = NameServer::start(Ipv4Addr::new(127, 0, 0, 2)).await;
    write(other.address);
    eventually("the third name server to be asked", || (other.asked() > 0).then_some(())).await;
    let started = std::time::Instant::now();
    while second.received().is_empty() {
        assert_eq!(scene.call("main", &token).await.status, 200, "no call fails on the way");
        assert!(started.elapsed() < crate::support::PATIENCE, "calls go to the address of the new name server");
    }
}

#[test]
fn j06_name_servers_are_addresses_with_ports() {
    let policy = "service: main\nroute: { path: /main/mcp }\nupstream: { url: \"http://127.0.0.1:9/mcp\" }\n\
                  providers: { corp: { oidc: { issuer: \"https://id.example.com\" } } }\n\
                  authentication: { providers: [corp] }\nrules: [{ allow: { tools: [echo] } }]\n";
    let said = |servers: &str| {
        check(
            &Gateway::new()
                .policy("main", policy)
                .installation(&format!("public_url: https://mcp.example.com\ndns: {{ servers: {servers} }}\n")),
        )
    };
    for servers in [
        "[\"10.0.0.53\"]",
        "[\"ns.example.com:53\"]",
        "[\"10.0.0.53:0\"]",
        "[\"0.0.0.0:53\"]",
        "[\"224.0.0.1:53\"]",
        "[]",
    ] {
        let (content, report) = said(servers);
        assert!(!content && report.contains("portcullis.yaml:2"), "{servers} is no list of name servers: {report}");
    }
    let (content, report) = said("[\"10.0.0.53:53\", \"[fd00::53]:53\"]");
    assert!(content, "{report}");
}
