//! Several gateways over one Redis, and one gateway whose Redis is lost. The servers are real, what goes wrong is a relay.

mod limits;
mod loss;
mod signin;

use std::net::SocketAddr;

use crate::signin::{Story, policy, prepared};
use crate::support::gateway::Setup;
use crate::support::{Gateway, Provider, Redis, Relay, Upstream};

/// What seals, the same in all replicas.
const SEAL: &str = "a-seal-of-the-installation-0123456789-0123456789";

/// `portcullis.yaml` with a store at `port`.
fn installation(port: u16, more: &str) -> String {
    format!("store: {{ redis: {{ url: 'redis://127.0.0.1:{port}'{more} }} }}\nencryption_keys: [{{ env: SEAL }}]\n")
}

fn over(setup: Setup, port: u16) -> Setup {
    setup.installation(&installation(port, "")).secret("SEAL", SEAL)
}

/// Two gateways that are one to the world, whose requests go where a test says.
struct Replicas {
    /// With the first gateway, at the address that both have.
    story: Story,
    second: Gateway,
    front: Relay,
    redis: Redis,
}

impl Replicas {
    async fn new(change: impl Fn(String) -> String) -> Self {
        let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
        let (redis, front) = (Redis::start(&[]), Relay::to(SocketAddr::from(([127, 0, 0, 1], 1))).await);
        let policy = change(policy(&provider, &upstream));
        let start = async || over(prepared(&policy), redis.port()).behind(front.address()).start().await;
        let (first, second) = (start().await, start().await);
        let replicas = Self { story: Story { gateway: first, provider, upstream }, second, front, redis };
        replicas.to(0).await;
        replicas
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.story.gateway.address(), self.second.address()]
    }

    /// Sends what comes next to the first or the second.
    async fn to(&self, replica: usize) {
        self.front.send_to(&[self.addresses()[replica]]);
        // Callers notice that their connections have ended before they speak again.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }

    /// Sends connections to both in turn.
    fn to_both(&self) {
        self.front.send_to(&self.addresses());
    }
}
