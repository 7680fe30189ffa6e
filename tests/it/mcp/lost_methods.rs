//! What 2026-07-28 took away from MCP: gone for clients of that revision, and there for all others.

use serde_json::{Value, json};

use crate::support::issuer::now;
use crate::support::{Client, Era, Gateway, Key, Upstream};

const SECRET: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0";
const ISSUER: &str = "https://own.example.com";
const EVERYTHING: &str = r#"[{ allow: { tools: ["*"], resources: ["**"], methods: ["*"] } }]"#;

async fn scene(rules: &str) -> (Upstream, Gateway, String) {
    let upstream = Upstream::mcp(&["echo"]).await;
    let policy = format!(
        r#"
service: lost
route: {{ path: /lost/mcp }}
upstream: {{ url: "{}" }}
providers: {{ own: {{ hmac: {{ issuer: "{ISSUER}", secrets: [{{ env: OWN_SECRET }}] }} }} }}
authentication: {{ providers: [own] }}
rules: {rules}
"#,
        upstream.url("/mcp")
    );
    let gateway = Gateway::new().policy("lost", &policy).secret("OWN_SECRET", SECRET).start().await;
    let audience = gateway.url("/lost/mcp");
    let claims = json!({"iss": ISSUER, "aud": audience, "sub": "alice", "iat": now(), "exp": now() + 60});
    let token = Key::Hs256(SECRET.as_bytes()).sign(br#"{"alg":"HS256"}"#, claims.to_string().as_bytes());
    (upstream, gateway, token)
}

#[tokio::test]
async fn methods_that_the_revision_has_lost_are_not_found_whatever_a_rule_says() {
    let (upstream, gateway, token) = scene(EVERYTHING).await;
    let client = |era| Client::new(&gateway.url("/lost/mcp")).token(&token).era(era);
    for (method, params) in [
        ("ping", json!({})),
        ("resources/subscribe", json!({"uri": "repo://a"})),
        ("resources/subscribe", json!({})),
        ("resources/unsubscribe", json!({"uri": "repo://a"})),
        ("tasks/list", json!({})),
        ("tasks/result", json!({"taskId": "t"})),
        ("initialize", json!({"protocolVersion": "2025-11-25"})),
    ] {
        let lost = client(Era::Modern).request(method, json!({"tool": "hidden"})).await;
        assert_eq!((lost.status, lost.json()["error"]["code"].clone()), (404, json!(-32601)), "{method} {params}");
        assert_eq!(lost.json()["id"], json!(1), "{method}: the refusal names its request");
    }
    upstream.assert_silent();

    for (method, params) in [("ping", json!({})), ("resources/subscribe", json!({"uri": "repo://a"}))] {
        let kept = client(Era::Legacy).request(method, params).await;
        assert_eq!(kept.status, 200, "{method} is there in older revisions: {kept:?}");
    }
    assert_eq!(client(Era::Modern).call_tool("echo", json!({})).await.status, 200, "what is not lost passes");
    assert_eq!(upstream.received().len(), 3, "what passed has reached the server");
}

#[tokio::test]
async fn k03_a_method_that_looks_like_another_is_none_whatever_a_rule_says() {
    let (upstream, gateway, token) = scene(EVERYTHING).await;
    let client = |era| Client::new(&gateway.url("/lost/mcp")).token(&token).era(era);
    let params = json!({"name": "hidden", "arguments": {}});
    for method in [
        "Tools/call",
        "tools/call ",
        "tools/CALL",
        "tools/call\u{0}",
        "tool\u{17f}/call",
        "tools/\u{200b}list",
        "Logging/setLevel",
    ] {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let reply = client(Era::Legacy).post(&[("mcp-protocol-version", "2025-11-25")], message.to_string()).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (403, json!(403)), "{method:?}: {reply:?}");
    }
    for method in ["Tools/call", "tools/CALL", "Prompts/Get"] {
        let reply = client(Era::Modern).request(method, json!({"tool": "hidden"})).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (404, json!(-32601)), "{method}: {reply:?}");
    }
    upstream.assert_silent();
    for era in [Era::Legacy, Era::Modern] {
        let reply = client(era).request("acme/run", json!({})).await;
        assert_eq!(reply.status, 200, "a method of its own is what the rule is for: {reply:?}");
    }
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn k01_without_an_allow_rule_lost_methods_are_refused_like_all_others() {
    let (upstream, gateway, token) = scene("[]").await;
    let client = Client::new(&gateway.url("/lost/mcp")).token(&token);
    for method in ["ping", "resources/subscribe", "server/discover"] {
        let refused = client.request(method, json!({})).await;
        assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (403, json!(403)), "{method}");
    }
    upstream.assert_silent();
}

#[tokio::test]
async fn a_refused_revision_names_those_in_which_the_request_can_be_tried_again() {
    let (upstream, gateway, token) = scene(EVERYTHING).await;
    let client = Client::new(&gateway.url("/lost/mcp")).token(&token);
    let ask = async |version: &str| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {}
        });
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"_meta": meta}});
        let headers = [("mcp-protocol-version", version), ("mcp-method", "tools/list")];
        client.post(&headers, message.to_string()).await
    };
    let long = "9".repeat(100);
    for (version, told) in [("2999-01-01", "2999-01-01"), (long.as_str(), &long[..32])] {
        let refused = ask(version).await;
        let error = refused.json()["error"].clone();
        let data = json!({"supported": ["2026-07-28"], "requested": told, "requestId": error["data"]["requestId"]});
        assert_eq!((refused.status, &error["code"], &error["data"]), (400, &json!(-32022), &data), "{version}");
    }
    upstream.assert_silent();
    assert_eq!(ask("2026-07-28").await.status, 200, "an accepted revision passes");
    assert_eq!(upstream.received().len(), 1, "and reaches the server");
}

#[tokio::test]
async fn a_client_that_does_not_know_tasks_is_told_so_about_tasks_that_are_not_its_own() {
    let (upstream, gateway, token) = scene(EVERYTHING).await;
    let client = Client::new(&gateway.url("/lost/mcp")).token(&token);
    let ask = async |capabilities: Value| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities
        });
        let params = json!({"taskId": "t", "_meta": meta});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": params});
        let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tasks/get"), ("mcp-name", "t")];
        client.post(&headers, message.to_string()).await.json()["error"].clone()
    };
    let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let untold = ask(json!({})).await;
    assert_eq!((&untold["code"], &untold["data"]["requiredCapabilities"]), (&json!(-32021), &tasks), "{untold}");
    assert_eq!(ask(tasks).await["code"], json!(-32602), "a client that knows tasks learns that there is none");
    upstream.assert_silent();
}
