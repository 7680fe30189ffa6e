//! A bare Pingora pass-through: what a request costs before Portcullis does anything. The same allocator and the same
//! build profile as the gateway, so that the difference is the gateway's own work.
//!
//! `baseline LISTEN UPSTREAM THREADS`

use std::sync::Arc;

use async_trait::async_trait;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More than the connections of the largest run, so that no run measures reconnecting.
const KEPT_CONNECTIONS: usize = 1024;

struct Bare {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream.as_str(), false, String::new())))
    }
}

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let (Some(listen), Some(upstream), Some(threads)) = (words.next(), words.next(), words.next()) else {
        return;
    };
    let threads = threads.parse().unwrap_or(1);
    let conf = ServerConf { threads, upstream_keepalive_pool_size: KEPT_CONNECTIONS, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), Bare { upstream });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
