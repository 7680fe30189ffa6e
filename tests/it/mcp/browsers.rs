//! Browsers: preflights come before authentication, origins are listed one by one, and nothing is shared with credentials.

use serde_json::json;

use super::{alice, setup};
use crate::support::client::Reply;
use crate::support::{Client, Issuer, Upstream};

const POLICY: &str = "rules: [{ allow: { tools: [echo] } }]\norigins: [\"https://app.example.com\"]";
const LISTED: (&str, &str) = ("origin", "https://app.example.com");

fn list(reply: &Reply, header: &str) -> Vec<String> {
    reply.header(header).split(',').map(|item| item.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn l09_a_preflight_needs_no_token_and_a_listed_origin() {
    let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, POLICY).await.start().await;
    let browser = Client::new(&gateway.url("/story/mcp"));
    let wanted = ("access-control-request-headers", "authorization, content-type, mcp-param-region, x-other");
    let asked = [("access-control-request-method", "POST"), wanted];
    let preflight = browser.send("OPTIONS", "/story/mcp", &[LISTED, asked[0], asked[1]], "").await;
    assert_eq!(preflight.status, 204, "{preflight:?}");
    assert_eq!(preflight.header("access-control-allow-origin"), LISTED.1, "the one origin, never a star");
    assert_eq!(preflight.header("access-control-allow-credentials"), "", "no credentials of a browser's own");
    assert!(list(&preflight, "vary").contains(&"origin".to_owned()));
    let allowed = list(&preflight, "access-control-allow-headers");
    for name in [
        "authorization",
        "content-type",
        "accept",
        "mcp-protocol-version",
        "mcp-method",
        "mcp-name",
        "mcp-session-id",
        "last-event-id",
        "mcp-param-region",
    ] {
        assert!(allowed.contains(&name.to_owned()), "{name} in {allowed:?}");
    }
    assert!(!allowed.contains(&"x-other".to_owned()) && !allowed.contains(&"*".to_owned()), "{allowed:?}");
    assert_eq!(list(&preflight, "access-control-allow-methods"), ["post", "get", "delete"]);
    for origin in
        ["https://evil.example", "null", "https://app.example.com:8443", "https://app.example.com.evil.example"]
    {
        let refused = browser.send("OPTIONS", "/story/mcp", &[("origin", origin), asked[0]], "").await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""), "{origin}");
        let call = alice(&gateway, &issuer).header("origin", origin).call_tool("echo", json!({})).await;
        assert_eq!((call.status, call.header("access-control-allow-origin")), (403, ""), "{origin} with a good token");
    }
    upstream.assert_silent();
    let call = alice(&gateway, &issuer).header(LISTED.0, LISTED.1).call_tool("echo", json!({})).await;
    assert_eq!((call.status, call.header("access-control-allow-origin")), (200, LISTED.1));
    let exposed = list(&call, "access-control-expose-headers");
    for name in ["www-authenticate", "mcp-session-id", "mcp-protocol-version"] {
        assert!(exposed.contains(&name.to_owned()), "{name} in {exposed:?}");
    }
    assert!(upstream.received().iter().all(|request| request.header("origin").is_empty()), "the origin stays here");
    let challenged = browser.send("POST", "/story/mcp", &[LISTED, ("content-type", "application/json")], "{}").await;
    assert_eq!((challenged.status, challenged.header("access-control-allow-origin")), (401, LISTED.1));
}

#[tokio::test]
async fn l09_metadata_is_for_every_page_and_unknown_hosts_are_misdirected() {
    let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, POLICY).await.start().await;
    let browser = Client::new(&gateway.url("/story/mcp"));
    let metadata = "/.well-known/oauth-protected-resource/story/mcp";
    let evil = ("origin", "https://any.example");
    let document = browser.send("GET", metadata, &[evil], "").await;
    assert_eq!((document.status, document.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(document.header("access-control-allow-credentials"), "");
    let wanted = ("access-control-request-headers", "mcp-protocol-version");
    let preflight =
        browser.send("OPTIONS", metadata, &[evil, ("access-control-request-method", "GET"), wanted], "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "*"));
    assert!(list(&preflight, "access-control-allow-headers").contains(&"mcp-protocol-version".to_owned()));

    for host in ["evil.example", "127.0.0.1:1", "localhost"] {
        let misdirected = alice(&gateway, &issuer).host(host).call_tool("echo", json!({})).await;
        assert_eq!(misdirected.status, 421, "{host}");
        assert_eq!(browser_at(&gateway.url("/story/mcp"), host).fetch(metadata).await.status, 421, "{host}");
    }
    upstream.assert_silent();
    assert_eq!(alice(&gateway, &issuer).call_tool("echo", json!({})).await.status, 200);
}

fn browser_at(url: &str, host: &str) -> Client {
    Client::new(url).host(host)
}
