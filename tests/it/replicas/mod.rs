//! Several gateways over one Redis, and one gateway whose Redis is lost. The servers are real, what goes wrong is a relay.

mod limits;
mod loss;
mod operator;
mod signin;
mod tasks;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;

use crate::own;
use crate::signin::{Story, policy, prepared};
use crate::state::SEAL;
use crate::support::gateway::Setup;
use crate::support::{Client, Gateway, Provider, Redis, Relay, Upstream};

/// `portcullis.yaml` with a store at `port`.
fn installation(port: u16, more: &str) -> String {
    format!("store: {{ redis: {{ url: 'redis://127.0.0.1:{port}'{more} }} }}\nencryption_keys: [{{ env: SEAL }}]\n")
}

fn over(setup: Setup, port: u16) -> Setup {
    setup.installation(&installation(port, "")).secret("SEAL", SEAL)
}

/// The policy with another upstream.
fn before(upstream: &Upstream, policy: &str) -> String {
    let place = policy.find("upstream: {").expect("an upstream");
    let end = place + policy[place..].find('\n').expect("a line");
    format!("{}upstream: {{ url: '{}' }}{}", &policy[..place], upstream.url("/mcp"), &policy[end..])
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
        let policy = change(policy(&provider, &upstream));
        Self::of(|| prepared(&policy), provider, upstream).await
    }

    /// Two gateways of the same files.
    async fn of(setup: impl Fn() -> Setup, provider: Provider, upstream: Upstream) -> Self {
        let (redis, front) = (Redis::start(&[]), Relay::to(SocketAddr::from(([127, 0, 0, 1], 1))).await);
        let start = async || over(setup(), redis.port()).behind(front.address()).start().await;
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

fn upstream_address(upstream: &Upstream) -> std::net::SocketAddr {
    upstream.url("").trim_start_matches("http://").parse().expect("an address")
}

/// A client of one replica, which it reaches by its own address.
fn client(gateway: &Gateway, front: &Relay, subject: &str) -> Client {
    let resource = gateway.url("/story/mcp");
    let token = own::token(&resource, json!({"sub": subject}));
    Client::new(&format!("http://{}/story/mcp", gateway.address())).host(&front.address().to_string()).token(&token)
}

/// What a server is asked, as its MONITOR tells: each gateway also reads by itself what is revoked.
struct Watching(BufReader<TcpStream>, Vec<String>);

impl Watching {
    fn of(redis: &Redis) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", redis.port())).expect("the server");
        socket.write_all(b"MONITOR\r\n").expect("asked");
        let mut lines = BufReader::new(socket);
        lines.read_line(&mut String::new()).expect("it watches");
        Self(lines, Vec::new())
    }

    /// How many scripts about keys like this there were up to now.
    fn scripts(&mut self, redis: &Redis, key: &str) -> usize {
        let mark = format!("mark-{}", self.1.len());
        redis.ask(&format!("ECHO {mark}"));
        while !self.1.last().is_some_and(|line| line.contains(&mark)) {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("it goes on");
            self.1.push(line);
        }
        let is_script = |line: &&String| line.to_ascii_lowercase().contains("\"evalsha\"") && line.contains(key);
        self.1.iter().filter(is_script).count()
    }
}
