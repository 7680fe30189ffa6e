//! Addresses of upstreams by name, resolved in the background: the request path never waits for a name server.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::runtime::Handle;

/// The shortest time between two look-ups of one name, whatever its records say.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest: a server that moves must be found again.
const LONGEST: Duration = Duration::from_secs(60);
/// After a look-up that failed; it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a look-up that failed.
const LONGEST_RETRY: Duration = Duration::from_secs(8);
/// How long starting waits for the first answers to all names together.
const PATIENCE: Duration = Duration::from_secs(2);

/// The addresses of one upstream; the last good set is kept.
pub type Addresses = Arc<ArcSwap<Vec<SocketAddr>>>;

/// First look-ups that are under way.
#[derive(Debug, Default)]
pub struct Pending(Vec<(String, Receiver<()>)>);

impl Pending {
    /// Waits for all of them at once: a first request should not fail only because a name server takes a moment, and
    /// slow ones must not hold up a reload, however many there are.
    pub fn wait(self) {
        let began = Instant::now();
        for (host, first) in self.0 {
            if first.recv_timeout(PATIENCE.saturating_sub(began.elapsed())).is_err() {
                tracing::warn!(event = "name-slow", host, "the upstream's name is not resolved yet");
            }
        }
    }
}

/// Follows `host` for as long as the result is held, asking `servers` or, when there are none, those of the system. An
/// address needs no following. The first look-up is added to `pending`.
pub fn follow(host: &str, port: u16, servers: &[SocketAddr], runtime: &Handle, pending: &mut Pending) -> Addresses {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Arc::new(ArcSwap::from_pointee(vec![SocketAddr::new(address, port)]));
    }
    let addresses: Addresses = Arc::default();
    let (ready, first) = sync_channel(1);
    runtime.spawn(renew(Arc::downgrade(&addresses), host.to_owned(), port, servers.to_vec(), ready));
    pending.0.push((host.to_owned(), first));
    addresses
}

async fn renew(
    addresses: Weak<ArcSwap<Vec<SocketAddr>>>,
    host: String,
    port: u16,
    servers: Vec<SocketAddr>,
    ready: SyncSender<()>,
) {
    let resolver = resolver(&servers);
    let mut retry = FIRST_RETRY;
    while let Some(held) = addresses.upgrade() {
        let wait = match look_up(resolver.as_ref(), &host, port).await {
            Ok((found, until)) => {
                held.store(Arc::new(found));
                retry = FIRST_RETRY;
                until.saturating_duration_since(Instant::now()).clamp(SHORTEST, LONGEST)
            }
            Err(cause) => {
                tracing::warn!(event = "name-unresolved", host, cause, "the upstream's name could not be resolved");
                let wait = retry;
                retry = (retry * 2).min(LONGEST_RETRY);
                wait
            }
        };
        drop(held);
        // Whoever waited may be gone.
        let _ = ready.try_send(());
        tokio::time::sleep(wait).await;
    }
}

fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
    if servers.is_empty() {
        return TokioResolver::builder_tokio().and_then(ResolverBuilder::build).ok();
    }
    let at = |server: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.into())
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(at).collect());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().ok()
}

/// The addresses and how long they are good for. The system's own resolver is asked when there is no other configuration.
async fn look_up(
    resolver: Option<&TokioResolver>,
    host: &str,
    port: u16,
) -> Result<(Vec<SocketAddr>, Instant), String> {
    let (mut found, until): (Vec<SocketAddr>, Instant) = match resolver {
        Some(resolver) if host != "localhost" => {
            let looked_up = resolver.lookup_ip(host).await.map_err(|error| error.to_string())?;
            (looked_up.iter().map(|address| SocketAddr::new(address, port)).collect(), looked_up.valid_until())
        }
        _ => {
            let found = tokio::net::lookup_host((host, port)).await.map_err(|error| error.to_string())?;
            (found.collect(), Instant::now() + LONGEST)
        }
    };
    // IPv4 first: a machine without IPv6 would fail every other request.
    found.sort_by_key(SocketAddr::is_ipv6);
    if found.is_empty() { Err("no address".to_owned()) } else { Ok((found, until)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_address_is_itself_and_a_name_is_looked_up() {
        let handle = Handle::current();
        let mut pending = Pending::default();
        let address = follow("127.0.0.1", 80, &[], &handle, &mut pending);
        assert_eq!(**address.load(), ["127.0.0.1:80".parse().unwrap()]);
        let local = follow("localhost", 81, &[], &handle, &mut pending);
        tokio::task::spawn_blocking(|| pending.wait()).await.unwrap();
        assert!(local.load().iter().any(|address| address.ip().is_loopback() && address.port() == 81));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn n05_many_names_wait_for_a_silent_server_no_longer_than_one() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = silent.local_addr().unwrap();
        let (mut pending, handle) = (Pending::default(), Handle::current());
        let mut follow = |host: &str, servers: &[SocketAddr]| follow(host, 80, servers, &handle, &mut pending);
        let found: Vec<_> = (0..20).map(|number| follow(&format!("h{number}.example"), &[server])).collect();
        let local = follow("localhost", &[]);
        let began = Instant::now();
        tokio::task::spawn_blocking(|| pending.wait()).await.unwrap();
        let took = began.elapsed();
        assert!(took >= PATIENCE && took < 2 * PATIENCE, "all of them together waited {took:?}");
        assert!(found.iter().all(|addresses| addresses.load().is_empty()), "nobody answered");
        assert!(!local.load().is_empty(), "another name was looked up meanwhile");
    }
}
