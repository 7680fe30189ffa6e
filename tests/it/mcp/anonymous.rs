//! Services that are partly open: lists and some tools for everyone, the rest for those who sign in.

use serde_json::json;

use super::setup;
use crate::support::{Client, Era, Issuer, Upstream};

const POLICY: &str = "
authentication: { providers: [corp], optional: true }
scopes: { use: { describe: Use, default: true } }
rules:
  - allow: { tools: [search] }
    identity: none
  - allow: { tools: [write] }
  - allow: { tools: [admin] }
    scopes: [use]
  - deny: { tools: [drop] }
limits: [{ rate: 3/hour, per: subject }]
";

#[tokio::test]
async fn a_partly_open_service_lists_what_is_open_and_asks_for_the_rest() {
    for (list, listed) in [("", vec!["search"]), ("list: acquirable\n", vec!["search", "write", "admin"])] {
        let (upstream, issuer) = (Upstream::mcp(&["search", "write", "admin", "drop"]).await, Issuer::start().await);
        let gateway = setup(&upstream, &issuer, &format!("{list}{POLICY}")).await.start().await;
        let url = gateway.url("/story/mcp");
        for era in [Era::Legacy, Era::Modern] {
            let anyone = Client::new(&url).era(era);
            assert_eq!(anyone.list("tools").await.names("tools"), listed, "{era:?}");
            upstream.forget();
            for tool in ["write", "admin", "drop", "nothing"] {
                let reply = anyone.call_tool(tool, json!({})).await;
                assert_eq!(reply.status, 401, "{tool}: a real 401, the same whatever is asked for");
                let challenge = reply.header("www-authenticate");
                assert!(challenge.contains("resource_metadata=") && challenge.contains("scope=\"use\""), "{challenge}");
                assert!(!challenge.contains("error="), "no token was presented: {challenge}");
            }
            upstream.assert_silent();
            let forged = Client::new(&url).era(era).token("a.b.c").call_tool("search", json!({})).await;
            assert_eq!(forged.status, 401, "a token that is not good is refused even where none is needed");
            let basic = Client::new(&url).era(era).header("authorization", "Basic YTpi");
            assert_eq!(basic.call_tool("search", json!({})).await.status, 401, "and so is another credential");
            upstream.assert_silent();
        }
        let anyone = Client::new(&url);
        assert_eq!(anyone.call_tool("search", json!({})).await.status, 200);
        let seen = upstream.received();
        let identity = |name: &str| seen[0].headers.iter().any(|(found, _)| found.starts_with(name));
        assert!(!identity("x-portcullis-"), "an absent fact is an absent header: {seen:#?}");
        let alice = Client::new(&url).token(&issuer.token(&url, json!({"scope": "use"})));
        for tool in ["search", "write", "admin"] {
            assert_eq!(alice.call_tool(tool, json!({})).await.status, 200, "{tool}");
        }
        assert_eq!(alice.call_tool("drop", json!({})).await.status, 403, "who signed in is told the truth");
        assert_eq!(anyone.call_tool("search", json!({})).await.status, 200);
        assert_eq!(anyone.call_tool("search", json!({})).await.status, 200);
        assert_eq!(anyone.call_tool("search", json!({})).await.status, 429, "nobody counts by address");
    }
}
