//! Conditions on arguments: what is missing, null or of another type opens nothing and evades nothing.

use serde_json::{Value, json};

use super::{BODY, INSTALLATION, Scene};
use crate::support::Upstream;

const RULES: &str = r#"rules:
  - allow: { tools: [write] }
    arguments: { repo: { matches: "acme/[a-z-]+" }, count: { max: 5, optional: true } }
  - allow: { tools: [nested] }
    arguments: { /filter/owner: { equals: acme }, "/items/*/kind": { one_of: [a, b] } }
  - allow: { tools: [closed] }
    arguments: { path: { glob: "docs/*" } }
    other_arguments: deny
  - allow: { tools: [remove] }
  - deny: { tools: [remove] }
    arguments: { target: { equals: prod } }
"#;

#[tokio::test]
async fn k17_an_argument_that_does_not_fit_opens_no_allow_rule() {
    let scene = Scene::with(Upstream::mcp(&["write"]).await, RULES, INSTALLATION).await;
    let client = scene.client();
    let cases: [(&str, Value, u16); 37] = [
        ("write", json!({"repo": "acme/site"}), 200),
        ("write", json!({"repo": "acme/site", "other": null}), 200),
        ("write", json!({"repo": "acme/site", "count": 5}), 200),
        ("write", json!({}), 403),
        ("write", json!({"repo": null}), 403),
        ("write", json!({"repo": ["acme/site"]}), 403),
        ("write", json!({"repo": {"0": "acme/site"}}), 403),
        ("write", json!({"repo": 7}), 403),
        ("write", json!({"repo": true}), 403),
        ("write", json!({"repo": ""}), 403),
        ("write", json!({"repo": "acme/site\n"}), 403),
        ("write", json!({"repo": "evil\nacme/site"}), 403),
        ("write", json!({"repo": "xacme/site"}), 403),
        ("write", json!({"repo": "acme/site/../../evil"}), 403),
        ("write", json!({"repo": "ACME/site"}), 403),
        ("write", json!({"repo": "acme/site", "count": 6}), 403),
        ("write", json!({"repo": "acme/site", "count": 5.5}), 403),
        ("write", json!({"repo": "acme/site", "count": null}), 403),
        ("write", json!({"repo": "acme/site", "count": "1"}), 403),
        ("write", json!({"repo": "acme/site", "count": [1]}), 403),
        ("nested", json!({"filter": {"owner": "acme"}, "items": [{"kind": "a"}, {"kind": "b"}]}), 200),
        ("nested", json!({"filter": {"owner": "acme"}, "items": [{"kind": "a"}, {"kind": "c"}]}), 403),
        ("nested", json!({"filter": {"owner": "acme"}, "items": [{"kind": "a"}, {}]}), 403),
        ("nested", json!({"filter": {"owner": "acme"}, "items": [{"kind": "a"}, null]}), 403),
        ("nested", json!({"filter": {"owner": "acme"}, "items": {"kind": "a"}}), 403),
        ("nested", json!({"filter": {"owner": "acme"}}), 403),
        ("nested", json!({"filter": [{"owner": "acme"}], "items": [{"kind": "a"}]}), 403),
        ("nested", json!({"filter": "acme", "items": [{"kind": "a"}]}), 403),
        ("nested", json!({"/filter/owner": "acme", "items": [{"kind": "a"}]}), 403),
        ("closed", json!({"path": "docs/a"}), 200),
        ("closed", json!({"path": "docs/a", "extra": null}), 403),
        ("closed", json!({"path": "docs/a/b"}), 403),
        ("closed", json!({"path": "docs/../a"}), 403),
        ("remove", json!({"target": "test"}), 200),
        ("remove", json!({"target": "prod"}), 403),
        ("remove", json!({"target": null}), 403),
        ("remove", json!({}), 403),
    ];
    for (tool, arguments, status) in cases {
        let reply = client.call_tool(tool, arguments.clone()).await;
        assert_eq!(reply.status, status, "{tool} {arguments}: {reply:?}");
        let received = scene.upstream.received();
        assert_eq!(received.len(), usize::from(status == 200), "{tool} {arguments}: what is denied reaches nobody");
        scene.upstream.forget();
    }
}

#[tokio::test]
async fn k17_a_deny_rule_is_not_evaded_by_another_type_or_spelling() {
    let scene = Scene::with(Upstream::mcp(&["write"]).await, RULES, INSTALLATION).await;
    let client = scene.client();
    let call = |arguments: &str| BODY.replace(r#""name":"echo""#, &format!(r#""name":"remove"{arguments}"#));
    for (arguments, statuses) in [
        (r#","arguments":{"target":"pr\u006fd"}"#, vec![403]),
        (r#","arguments":{"t\u0061rget":"prod"}"#, vec![403]),
        (r#","arguments":{"target":["prod"]}"#, vec![403]),
        (r#","arguments":{"target":{"a":"prod"}}"#, vec![403]),
        (r#","arguments":{"target":7}"#, vec![403]),
        (r#","arguments":{"target":true}"#, vec![403]),
        // Look-alikes of an argument that a rule names are refused as such or denied.
        (r#","arguments":{"target":"test","Target":"prod"}"#, vec![400, 403]),
        (r#","arguments":{"target":"test","target ":"prod"}"#, vec![400, 403]),
        (r#","arguments":{"target":"test","target\u0000":"prod"}"#, vec![400, 403]),
        (r#","arguments":{"TARGET":"prod"}"#, vec![400, 403]),
        (r#","arguments":{"target":"test","target":"prod"}"#, vec![400]),
        (r#","arguments":null"#, vec![400, 403]),
        (r#","arguments":[]"#, vec![400, 403]),
        (r#","arguments":"target=test""#, vec![400, 403]),
        (r#","Arguments":{"target":"test"}"#, vec![400]),
        ("", vec![403]),
    ] {
        let reply = client.post(&[("mcp-protocol-version", "2025-11-25")], call(arguments)).await;
        assert!(statuses.contains(&reply.status), "{arguments}: {reply:?}");
        scene.upstream.assert_silent();
    }
    let good = call(r#","arguments":{"target":"te\u0073t"}"#);
    assert_eq!(client.post(&[("mcp-protocol-version", "2025-11-25")], good.clone()).await.status, 200);
    assert_eq!(scene.upstream.received()[0].body, good.as_bytes(), "as it was written");
}

/// A member that a library of the gateway's gives a meaning of its own.
const MARKER: &str = "$serde_json::private::RawValue";

#[tokio::test]
async fn k17_no_member_stands_for_the_value_that_its_text_would_be() {
    let scene = Scene::with(Upstream::mcp(&["write"]).await, RULES, INSTALLATION).await;
    let client = scene.client();
    assert_eq!(client.call_tool("write", json!({"repo": "acme/site"})).await.status, 200);
    assert_eq!(client.call_tool("remove", json!({"target": "test"})).await.status, 200);
    scene.upstream.forget();
    for (tool, arguments) in [
        ("write", json!({MARKER: r#"{"repo":"acme/site"}"#})),
        ("write", json!({"repo": {MARKER: r#""acme/site""#}})),
        ("write", json!({"repo": "acme/site", "count": {MARKER: "1"}})),
        ("nested", json!({"filter": {MARKER: r#"{"owner":"acme"}"#}, "items": []})),
        ("closed", json!({MARKER: r#"{"path":"docs/a"}"#})),
        ("remove", json!({MARKER: r#"{"target":"test"}"#})),
        ("remove", json!({"target": {MARKER: r#""test""#}})),
    ] {
        let reply = client.call_tool(tool, arguments.clone()).await;
        assert_eq!(reply.status, 403, "{tool} {arguments}: {reply:?}");
        scene.upstream.assert_silent();
    }
}

#[tokio::test]
async fn k15_k17_what_text_in_an_argument_nests_is_not_followed() {
    let scene = Scene::with(Upstream::mcp(&["write"]).await, RULES, INSTALLATION).await;
    let client = scene.client();
    let mut nested = json!(1).to_string();
    for _ in 0..16 {
        nested = format!("{}{}{}", "[".repeat(120), json!({ MARKER: nested }), "]".repeat(120));
    }
    let reply = client.call_tool("write", json!({"repo": "other/site", "other": {MARKER: nested}})).await;
    assert_eq!(reply.status, 403, "it is a text like any other: {reply:?}");
    scene.upstream.assert_silent();
    assert_eq!(client.call_tool("write", json!({"repo": "acme/site"})).await.status, 200, "the gateway goes on");
}
