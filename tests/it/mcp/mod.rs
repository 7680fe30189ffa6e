//! The protocol in full, over real sockets: sessions, streams, batches, what servers ask for, callers without a token.

mod anonymous;
mod batches;
mod browsers;
mod eras;
mod lists;
mod lost_methods;
mod server_requests;
mod sessions;
mod streams;
pub mod tasks;

use serde_json::{Value, json};

use crate::support::gateway::Setup;
use crate::support::{Client, Gateway, Issuer, Upstream};

/// The session id of the upstream, which no client ever sees.
const UPSTREAM_SESSION: &str = "upstream-session-1";

/// A gateway before `upstream` with this end of the policy.
async fn setup(upstream: &Upstream, issuer: &Issuer, rest: &str) -> Setup {
    Gateway::new().policy("story", &policy(upstream, issuer, rest))
}

fn policy(upstream: &Upstream, issuer: &Issuer, rest: &str) -> String {
    let authentication = if rest.contains("authentication:") { "" } else { "authentication: { providers: [corp] }" };
    format!(
        r#"
service: story
route: {{ path: /story/mcp }}
upstream: {{ url: "{}" }}
providers: {{ corp: {{ oidc: {{ issuer: "{}" }} }} }}
{authentication}
{rest}
"#,
        upstream.url("/mcp"),
        issuer.url()
    )
}

/// A client with a token of alice's.
fn alice(gateway: &Gateway, issuer: &Issuer) -> Client {
    with(gateway, issuer, json!({}))
}

fn with(gateway: &Gateway, issuer: &Issuer, changes: Value) -> Client {
    let url = gateway.url("/story/mcp");
    Client::new(&url).token(&issuer.token(&url, changes))
}

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn initialize(version: &str) -> String {
    let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    request(0, "initialize", &params).to_string()
}

/// Initialises a session and gives the id that the gateway gave.
async fn session(client: &Client, version: &str) -> String {
    let reply = client.post(&[], initialize(version)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let id = reply.header("mcp-session-id").to_owned();
    assert!(!id.is_empty() && id != UPSTREAM_SESSION, "the id is sealed: {id}");
    id
}
