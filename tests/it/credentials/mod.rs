//! What the gateway shows a server in the place of the client's token, end to end: how it gets it, whose it is, how long it
//! serves, and that a server hears nothing when there is none.

mod assertion;
mod client_credentials;
mod exchange;
mod provider_token;

use serde_json::{Value, json};

use crate::own;
use crate::support::client::Reply;
use crate::support::gateway::Setup;
use crate::support::{Client, Gateway, TokenEndpoint, Upstream};

/// The secret of the gateway at the token endpoint.
const SECRET: &str = "the-gateways-secret-0123456789";

/// A gateway in front of one upstream, with a token endpoint beside it.
struct Scene {
    upstream: Upstream,
    endpoint: TokenEndpoint,
    gateway: Gateway,
}

/// The policy `name` whose upstream gets `credential`, in which `TOKEN_URL` stands for the endpoint.
fn policy(name: &str, upstream: &Upstream, endpoint: &TokenEndpoint, credential: &str) -> String {
    let credential = credential.replace("TOKEN_URL", &endpoint.url());
    let rules = own::allow("echo");
    own::policy(name, upstream, &rules).replace("/mcp\" }", &format!("/mcp\", credential: {{ {credential} }} }}"))
}

fn setup() -> Setup {
    own::setup().installation("limits: { address_failures: 1000000/minute }\n").secret("GATE_SECRET", SECRET)
}

impl Scene {
    /// One service `main`.
    async fn start(credential: &str) -> Self {
        Self::with(Upstream::mcp(&["echo"]).await, &[("main", credential)]).await
    }

    /// Services with their credentials, all in front of `upstream`.
    async fn with(upstream: Upstream, services: &[(&str, &str)]) -> Self {
        let endpoint = TokenEndpoint::start().await;
        let add = |setup: Setup, (name, credential): &(&str, &str)| {
            setup.policy(name, &policy(name, &upstream, &endpoint, credential))
        };
        let gateway = services.iter().fold(setup(), add).start().await;
        Self { upstream, endpoint, gateway }
    }

    /// A client of `service` whose token says `changes`.
    fn client(&self, service: &str, changes: Value) -> Client {
        own::client(&self.gateway, service, changes)
    }

    /// A call that passes; gives what the upstream got as `Authorization`.
    async fn shown(&self, client: &Client) -> String {
        self.upstream.forget();
        let reply = client.call_tool("echo", json!({})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let received = self.upstream.received();
        assert_eq!(received.len(), 1, "one call, one request");
        received[0].header("authorization").join(", ")
    }

    /// A call that is refused for `reason`, and of which the upstream hears nothing.
    async fn refused(&self, client: &Client, status: u16, reason: &str) -> Reply {
        self.upstream.forget();
        let reply = client.call_tool("echo", json!({})).await;
        assert_eq!(reply.status, status, "{reply:?}");
        self.upstream.assert_silent();
        assert_eq!(self.record(&reply).await["reason"], reason);
        assert_eq!(reply.header("www-authenticate"), "", "the client can do nothing about it: {reply:?}");
        reply
    }

    /// The audit record of an answer.
    async fn record(&self, reply: &Reply) -> Value {
        let id = reply.header("x-request-id").to_owned();
        self.gateway.wait_for_log(|record| record["request"] == id.as_str() && record["decision"].is_string()).await
    }

    /// Nothing of this is anywhere in what the gateway printed.
    fn keeps_quiet_about(&self, words: &[&str]) {
        let printed = self.gateway.printed();
        for word in words {
            assert!(!printed.contains(word), "`{word}` was printed");
        }
    }
}
