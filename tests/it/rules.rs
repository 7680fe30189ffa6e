//! Rules as a client meets them: denials in their three forms, step-up, lists, and URIs that mean one thing only.

use serde_json::{Value, json};

use crate::own::{self, policy};
use crate::support::{Answer, Client, Era, Gateway, Upstream};

async fn serving(services: &[(&str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|request| {
        let message = request.json();
        let items = |key: &str, names: &[&str]| {
            names
                .iter()
                .map(|name| json!({key: name, "name": name, "inputSchema": {"type": "object"}}))
                .collect::<Vec<_>>()
        };
        let result = match message["method"].as_str() {
            Some("tools/list") => {
                json!({"tools": items("title", &["open", "scoped", "some", "shut"]), "nextCursor": "2"})
            }
            Some("prompts/list") => json!({"prompts": items("title", &["review", "shut"])}),
            Some("resources/list") => {
                json!({"resources": items("uri", &["repo://acme/a", "repo://acme/%62", "repo://shut/b"])})
            }
            _ => json!({}),
        };
        Answer::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
    })
    .await;
    let mut setup = own::setup();
    for (name, rest) in services {
        setup = setup.policy(name, &policy(name, &upstream, rest));
    }
    (upstream, setup.start().await)
}

#[tokio::test]
async fn k01_without_rules_everything_is_refused_and_with_one_what_it_names() {
    let open = "rules: [{ allow: { tools: [open] } }]";
    let (upstream, gateway) = serving(&[("none", ""), ("empty", "rules: []"), ("open", open)]).await;
    let initialize =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let asked = [
        ("initialize", initialize),
        ("ping", json!({})),
        ("tools/list", json!({})),
        ("tools/call", json!({"name": "open"})),
        ("resources/read", json!({"uri": "repo://acme/a"})),
        ("acme/run", json!({})),
    ];
    for service in ["none", "empty"] {
        let client = own::client(&gateway, service, json!({})).era(Era::Legacy);
        for (method, params) in &asked {
            let reply = client.request(method, params.clone()).await;
            assert_eq!((reply.status, &reply.json()["error"]["code"]), (403, &json!(403)), "{service}: {method}");
        }
    }
    upstream.assert_silent();
    let client = own::client(&gateway, "open", json!({})).era(Era::Legacy);
    let mut statuses = Vec::new();
    for (method, params) in &asked {
        statuses.push(client.request(method, params.clone()).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 403, 403]);
    assert_eq!(upstream.received().len(), 4, "what was refused never left the gateway");
}

#[tokio::test]
async fn a_final_denial_looks_the_same_whether_the_tool_exists_or_not() {
    let rules = "rules: [{ allow: { tools: [\"s*\", open] } }, { deny: { tools: [shut] } }]";
    let hidden = format!("denials: hidden\n{rules}");
    let result = format!("denials: result\n{rules}");
    let (upstream, gateway) = serving(&[("forbidden", rules), ("hidden", &hidden), ("result", &result)]).await;
    let plain = |reply: &crate::support::client::Reply| {
        let mut body = reply.json();
        body["error"]["data"] = Value::Null;
        body
    };
    for (service, status, looks) in [
        ("forbidden", 403, json!({"code": 403})),
        ("hidden", 200, json!({"code": -32602})),
        ("result", 200, json!({"isError": true})),
    ] {
        let client = own::client(&gateway, service, json!({}));
        let (exists, ghost) = (client.call_tool("shut", json!({})).await, client.call_tool("ghost", json!({})).await);
        assert_eq!((exists.status, plain(&exists)), (ghost.status, plain(&ghost)), "{service}");
        assert_eq!((exists.status, &exists.json()["id"]), (status, &json!(1)), "{service}: the id is echoed");
        let body = exists.json();
        let shown = if service == "result" { &body["result"] } else { &body["error"] };
        for (name, value) in looks.as_object().expect("members") {
            assert_eq!(&shown[name], value, "{service}: {body}");
        }
        upstream.assert_silent();
        assert_eq!(client.call_tool("open", json!({})).await.status, 200, "{service}: what is allowed passes");
        upstream.forget();
    }
}

#[tokio::test]
async fn d01_softened_denials_never_replace_a_challenge() {
    let rest = "denials: hidden\nscopes: { read: { default: true }, write: { implies: [read] } }\n\
                rules: [{ allow: { tools: [scoped] }, scopes: [write] }, { allow: { tools: [open] } }]";
    let (upstream, gateway) = serving(&[("story", rest)]).await;
    let anonymous = Client::new(&gateway.url("/story/mcp")).call_tool("scoped", json!({})).await;
    assert_eq!(anonymous.status, 401);
    let challenge = anonymous.header("www-authenticate");
    assert!(
        challenge.contains("scope=\"read\"") && !challenge.contains("error="),
        "default scopes, no error: {challenge}"
    );
    let lacking = own::client(&gateway, "story", json!({"scope": "read"})).call_tool("scoped", json!({})).await;
    assert_eq!(lacking.status, 403);
    let challenge = lacking.header("www-authenticate");
    assert!(challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope=\"write\""), "{challenge}");
    upstream.assert_silent();
    let holding = own::client(&gateway, "story", json!({"scope": "write"}));
    assert_eq!(holding.call_tool("scoped", json!({})).await.status, 200, "with the scope the same call passes");
}

#[tokio::test]
async fn k10_lists_are_cut_to_what_the_caller_may_use() {
    let rules = "scopes: { s: {} }\nrules:\n  - { allow: { tools: [open], prompts: [review], resources: [\"repo://acme/**\"] } }\n  \
                 - { allow: { tools: [scoped] }, scopes: [s] }\n  - { allow: { tools: [some] }, arguments: { x: { equals: 1 } } }\n";
    let acquirable = format!("list: acquirable\n{rules}");
    let (upstream, gateway) = serving(&[("permitted", rules), ("acquirable", &acquirable)]).await;
    for (service, scope, tools) in [
        ("permitted", "", vec!["open", "some"]),
        ("permitted", "s", vec!["open", "scoped", "some"]),
        ("acquirable", "", vec!["open", "scoped", "some"]),
    ] {
        let client = own::client(&gateway, service, json!({"scope": scope}));
        let list = client.list("tools").await;
        assert_eq!(list.names("tools"), tools, "{service} with `{scope}`: the order is kept");
        assert_eq!(list.json()["result"]["nextCursor"], "2", "and the cursor");
        assert_eq!(client.list("prompts").await.names("prompts"), ["review"]);
        assert_eq!(client.list("resources").await.names("resources"), ["repo://acme/a"]);
    }
    upstream.forget();
    let client = own::client(&gateway, "acquirable", json!({}));
    assert_eq!(client.call_tool("scoped", json!({})).await.status, 403, "what is shown for its scopes steps up");
    assert_eq!(client.call_tool("some", json!({"x": 2})).await.status, 403);
    upstream.assert_silent();
    assert_eq!(client.call_tool("some", json!({"x": 1})).await.status, 200);
}

#[tokio::test]
async fn uris_that_could_mean_something_else_are_refused_before_they_are_matched() {
    let strict = "rules: [{ allow: { resources: [\"**\"] } }]";
    let opaque =
        "uri_form: opaque\nrules: [{ allow: { resources: [\"odd:/a/../b\", \"ODD:x\", \"repo://acme/%62\"] } }]";
    let (upstream, gateway) = serving(&[("strict", strict), ("opaque", opaque)]).await;
    // A name in headers would be compared first: the older era has none.
    let client = own::client(&gateway, "strict", json!({})).era(Era::Legacy);
    for uri in [
        "repo://a/../b",
        "repo://a/./b",
        "repo://../b",
        "repo://a/%2e%2e/b",
        "repo://a/%2fb",
        "repo://a/%5cb",
        "repo://a/%252e",
        "repo://a/secre%74",
        "repo://a\\b",
        "repo://a/\u{e9}",
        "repo://a/ b",
        "repo://user@a/b",
        "REPO://a/b",
        "no-scheme",
    ] {
        for method in ["resources/read", "resources/subscribe"] {
            let reply = client.request(method, json!({"uri": uri})).await;
            assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!(-32602)), "{method} {uri:?}");
        }
    }
    upstream.assert_silent();
    assert_eq!(client.request("resources/read", json!({"uri": "repo://a/b%20c"})).await.status, 200);
    let listed = client.list("resources").await.names("resources");
    assert_eq!(listed, ["repo://acme/a", "repo://shut/b"], "what nobody may read is not listed");
    upstream.forget();
    let opaque = own::client(&gateway, "opaque", json!({}));
    assert_eq!(opaque.list("resources").await.names("resources"), ["repo://acme/%62"]);
    upstream.forget();
    for (uri, status) in [("odd:/a/../b", 200), ("ODD:x", 200), ("odd:/b", 403), ("odd:x", 403)] {
        assert_eq!(opaque.request("resources/read", json!({"uri": uri})).await.status, status, "opaque: {uri}");
    }
    assert_eq!(upstream.received().len(), 2, "whole URIs only, byte by byte");
}

#[tokio::test]
async fn methods_that_nobody_names_are_unknown_and_those_a_rule_names_pass() {
    let (upstream, gateway) =
        serving(&[("story", "rules: [{ allow: { methods: [acme/run] } }, { allow: { tools: [open] } }]")]).await;
    let client = own::client(&gateway, "story", json!({}));
    let unknown = client.request("acme/walk", json!({})).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!(-32601)));
    assert_eq!(client.request("logging/setLevel", json!({"level": "info"})).await.status, 403);
    upstream.assert_silent();
    assert_eq!(client.request("acme/run", json!({})).await.status, 200);
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn a_rule_that_cannot_be_decided_is_named_in_the_record_with_its_cause() {
    let rest = "rules:\n  - { allow: { tools: [open] } }\n  - { deny: { tools: [open] }, when: claims.level > 3 }\n";
    let (upstream, gateway) = serving(&[("story", rest)]).await;
    let unsure = own::client(&gateway, "story", json!({"level": "high"}));
    assert_eq!(unsure.call_tool("open", json!({})).await.status, 403, "a deny rule that cannot be decided fits");
    let record = gateway.wait_for_log(|record| record["reason"] == "not-permitted").await;
    assert!(record["undecided"][0].as_str().is_some_and(|cause| cause.starts_with("rule 1: ")), "{record}");
    assert!(record["rule"].as_str().is_some_and(|place| place.ends_with("story.yaml:7")), "its place: {record}");
    upstream.assert_silent();
    let sure = own::client(&gateway, "story", json!({"level": 3}));
    assert_eq!(sure.call_tool("open", json!({})).await.status, 200, "decided, it does not fit");
}
