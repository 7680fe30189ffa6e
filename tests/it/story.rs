//! The straight path as an operator lives it: start, call, be refused, edit the policy, make a mistake, restart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::gateway::Setup;
use crate::support::issuer::{merged, now};
use crate::support::{Answer, Client, Era, Gateway, Issuer, Key, PATIENCE, Upstream, raw};

const SECRET: &[u8] = b"9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0";
/// The promise of the documentation: an edit is served within two seconds.
const EFFECTIVE: Duration = Duration::from_secs(2);

fn policy(upstream: &Upstream, issuer: &Issuer, allowed: &str) -> String {
    format!(
        r#"
service: story
route: {{ path: /story/mcp }}
upstream: {{ url: "{}" }}
providers: {{ corp: {{ oidc: {{ issuer: "{}" }} }} }}
authentication: {{ providers: [corp] }}
rules:
  - allow: {{ tools: [{allowed}] }}
"#,
        upstream.url("/mcp"),
        issuer.url()
    )
}

async fn scene(allowed: &str) -> (Upstream, Issuer, Setup) {
    let (upstream, issuer) = (Upstream::mcp(&["echo", "drop"]).await, Issuer::start().await);
    let setup = Gateway::new().policy("story", &policy(&upstream, &issuer, allowed));
    (upstream, issuer, setup)
}

fn client(gateway: &Gateway, issuer: &Issuer) -> Client {
    let url = gateway.url("/story/mcp");
    Client::new(&url).token(&issuer.token(&url, json!({})))
}

/// Calls until the status is the one wanted; tells how long that took.
async fn until_status(client: &Client, tool: &str, wanted: u16) -> Duration {
    let started = Instant::now();
    loop {
        let reply = client.call_tool(tool, json!({})).await;
        if reply.status == wanted {
            return started.elapsed();
        }
        assert!(started.elapsed() < PATIENCE, "still {} for {tool}, and {wanted} was wanted", reply.status);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_permitted_call_passes_and_a_denied_one_never_leaves_the_gateway() {
    let (upstream, issuer, setup) = scene("echo").await;
    let gateway = setup.start().await;
    for era in [Era::Legacy, Era::Modern] {
        let client = client(&gateway, &issuer).era(era);
        let denied = client.call_tool("drop", json!({"a": 1})).await;
        assert_eq!((denied.status, denied.json()["error"]["code"].clone()), (403, json!(403)), "{era:?}");
        upstream.assert_silent();

        let permitted = client.call_tool("echo", json!({"a": 1})).await;
        assert_eq!(permitted.json()["result"]["content"][0]["text"], r#"{"a":1}"#, "{era:?}");
        assert_eq!(client.list("tools").await.names("tools"), ["echo"], "{era:?}");
        assert_eq!(upstream.received().len(), 2, "{era:?}");
        upstream.forget();
    }
}

#[tokio::test]
async fn without_a_token_the_challenge_leads_to_metadata() {
    let (upstream, issuer, setup) = scene("echo").await;
    let gateway = setup.start().await;
    let anonymous = Client::new(&gateway.url("/story/mcp")).call_tool("echo", json!({})).await;
    let metadata_url = gateway.url("/.well-known/oauth-protected-resource/story/mcp");
    assert_eq!(anonymous.status, 401);
    assert!(anonymous.header("www-authenticate").contains(&metadata_url), "{anonymous:?}");
    let metadata = Client::new(&metadata_url).fetch("/.well-known/oauth-protected-resource/story/mcp").await.json();
    assert_eq!(metadata["resource"], gateway.url("/story/mcp"));
    assert_eq!(metadata["authorization_servers"], json!([issuer.url()]));
    upstream.assert_silent();
}

#[tokio::test]
async fn an_edited_policy_is_served_and_a_broken_one_is_not() {
    let (upstream, issuer, setup) = scene("echo").await;
    let gateway = setup.start().await;
    let client = client(&gateway, &issuer);
    assert_eq!(client.call_tool("drop", json!({})).await.status, 403);

    gateway.write_policy("story", &policy(&upstream, &issuer, "drop"));
    let took = until_status(&client, "drop", 200).await;
    assert!(took < EFFECTIVE, "the edit took {took:?}");
    assert_eq!(client.call_tool("echo", json!({})).await.status, 403, "the old rule is gone with the old policy");

    gateway.write_policy("story", "service: story\nrulez: []\n");
    gateway.signal("HUP");
    gateway.wait_for_log(|record| record.to_string().contains("rulez")).await;
    assert_eq!(client.call_tool("drop", json!({})).await.status, 200, "the last good policy is still served");
}

#[tokio::test]
async fn a_policy_that_is_removed_is_no_longer_served() {
    let (upstream, issuer, setup) = scene("echo").await;
    let other = policy(&upstream, &issuer, "echo").replace("story", "other");
    let gateway = setup.policy("other", &other).start().await;
    let client = client(&gateway, &issuer);
    assert_eq!(client.call_tool("echo", json!({})).await.status, 200);
    gateway.remove_policy("story");
    assert!(until_status(&client, "echo", 404).await < EFFECTIVE);
    let url = gateway.url("/other/mcp");
    let neighbour = Client::new(&url).token(&issuer.token(&url, json!({})));
    assert_eq!(neighbour.call_tool("echo", json!({})).await.status, 200, "the other service stays");
}

#[tokio::test]
async fn a_broken_policy_does_not_start() {
    let (upstream, issuer, setup) = scene("echo").await;
    let said = setup.policy("story", &policy(&upstream, &issuer, "echo").replace("rules:", "rulez:")).refused().await;
    assert!(said.contains("rulez") && said.contains("story.yaml:7"), "{said}");
    assert!(said.contains("`rules`"), "the nearest key is offered: {said}");
}

#[tokio::test]
async fn a_restart_with_a_public_url_serves_the_new_resource() {
    let (_upstream, issuer, setup) = scene("echo").await;
    let gateway = setup.start().await;
    assert_eq!(client(&gateway, &issuer).call_tool("echo", json!({})).await.status, 200);
    let log = gateway.directory().join("audit.jsonl");
    let setup = gateway.stop().installation("public_url: https://mcp.example.com\n");
    let gateway = setup.argument("--log").argument(log.to_str().expect("a path in UTF-8")).start().await;
    let old = client(&gateway, &issuer);
    assert_eq!(old.call_tool("echo", json!({})).await.status, 421, "the old host is none of the gateway's");
    let old = old.host("mcp.example.com").call_tool("echo", json!({})).await;
    assert_eq!(old.status, 401, "the old audience is not this one");
    let token = issuer.token("https://mcp.example.com/story/mcp", json!({}));
    let reply = Client::new(&gateway.url("/story/mcp"))
        .host("mcp.example.com")
        .token(&token)
        .call_tool("echo", json!({}))
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let record = std::fs::read_to_string(log).expect("the log that was asked for");
    assert!(!record.contains(&token), "a token is never logged");
}

#[tokio::test]
async fn a_secret_comes_from_the_environment_and_is_never_printed() {
    let upstream = Upstream::start(|_| Answer::json(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}))).await;
    let policy = format!(
        r#"
service: story
route: {{ path: /story/mcp }}
upstream: {{ url: "{}" }}
providers: {{ own: {{ hmac: {{ issuer: "https://own.example.com", algorithms: [HS256], secrets: [{{ env: OWN_SECRET }}] }} }} }}
authentication: {{ providers: [own] }}
rules:
  - allow: {{ tools: [echo] }}
"#,
        upstream.url("/mcp")
    );
    let secret = std::str::from_utf8(SECRET).expect("text");
    let gateway = Gateway::new().policy("story", &policy).secret("OWN_SECRET", secret).start().await;
    let url = gateway.url("/story/mcp");
    let claims = json!({"iss": "https://own.example.com", "aud": url, "sub": "alice", "iat": now(), "exp": now() + 60});
    let sign = |key: Key, changes: Value| {
        key.sign(br#"{"alg":"HS256","typ":"at+jwt"}"#, merged(claims.clone(), changes).to_string().as_bytes())
    };
    let forged = sign(Key::Hs256(b"another secret of thirty-two bytes or more"), json!({}));
    assert_eq!(Client::new(&url).token(&forged).call_tool("echo", json!({})).await.status, 401);
    upstream.assert_silent();
    let good = sign(Key::Hs256(SECRET), json!({}));
    assert_eq!(Client::new(&url).token(&good).call_tool("echo", json!({})).await.status, 200);
    gateway.wait_for_log(|record| record.to_string().contains("alice")).await;
    let printed = gateway.printed();
    assert!(!printed.contains(secret) && !printed.contains(&good), "{printed}");
}

#[tokio::test]
async fn a_smuggled_request_is_refused_and_the_connection_closed() {
    let (upstream, _issuer, setup) = scene("echo").await;
    let gateway = setup.start().await;
    let request = b"POST /story/mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let answer = raw(gateway.address(), request).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "the second request is never answered: {answer}");
    upstream.assert_silent();
}
