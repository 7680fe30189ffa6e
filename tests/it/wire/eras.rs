//! The eras of the protocol: what a header repeats of the body is believed in neither, and must agree in the modern one.

use serde_json::json;

use super::Scene;

#[tokio::test]
async fn k08_mirrored_headers_agree_with_the_body_in_the_modern_era() {
    let scene = Scene::open().await;
    let client = scene.client();
    let version = "2026-07-28";
    let meta = format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientCapabilities":{{}}}}"#
    );
    let body = super::BODY.replace(r#""name":"echo""#, &format!(r#""name":"echo",{meta}"#)).replace(":1,", ":7,");
    for headers in [
        vec![],
        vec![("mcp-protocol-version", version)],
        vec![("mcp-protocol-version", version), ("mcp-method", "tools/call")],
        vec![("mcp-protocol-version", version), ("mcp-name", "echo")],
        vec![("mcp-protocol-version", version), ("mcp-method", "tools/list"), ("mcp-name", "echo")],
        vec![("mcp-protocol-version", version), ("mcp-method", "TOOLS/CALL"), ("mcp-name", "echo")],
        vec![("mcp-protocol-version", version), ("mcp-method", "tools/call"), ("mcp-name", "drop")],
        vec![("mcp-protocol-version", version), ("mcp-method", "tools/call"), ("mcp-name", "Echo")],
        vec![("mcp-protocol-version", version), ("mcp-method", "tools/call"), ("mcp-name", "")],
        vec![("mcp-protocol-version", version), ("mcp-method", "tools/call"), ("mcp-name", "=?base64?ZHJvcA==?=")],
        vec![("mcp-protocol-version", version), ("mcp-method", "tools/call"), ("mcp-name", "=?base64?ZWNobw?=")],
        vec![("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/call"), ("mcp-name", "echo")],
        vec![("mcp-protocol-version", "2099-01-01"), ("mcp-method", "tools/call"), ("mcp-name", "echo")],
    ] {
        let reply = client.post(&headers, body.clone()).await;
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].clone()),
            (400, json!(-32020)),
            "{headers:?}: {reply:?}"
        );
        assert_eq!(reply.json()["id"], 7, "the refusal names the request: {headers:?}");
        scene.upstream.assert_silent();
    }
    for name in ["echo", " echo ", "=?base64?ZWNobw==?="] {
        let headers = [("mcp-protocol-version", version), ("mcp-method", "tools/call"), ("mcp-name", name)];
        assert_eq!(client.post(&headers, body.clone()).await.status, 200, "{name}");
        assert_eq!(scene.upstream.received()[0].body, body.as_bytes());
        scene.upstream.forget();
    }
}

#[tokio::test]
async fn k08_in_the_legacy_era_mirrored_headers_decide_nothing() {
    let scene = Scene::open().await;
    let client = scene.client();
    let denied = super::BODY.replace("echo", "drop");
    let headers = [("mcp-protocol-version", "2025-11-25"), ("mcp-method", "ping"), ("mcp-name", "echo")];
    assert_eq!(client.post(&headers, denied).await.status, 403, "a header opens nothing");
    scene.upstream.assert_silent();
    let headers = [("mcp-protocol-version", "2025-11-25"), ("mcp-method", "x"), ("mcp-name", "drop")];
    assert_eq!(client.post(&headers, super::BODY).await.status, 200, "and closes nothing");
}

#[tokio::test]
async fn k08_revisions_that_are_not_spoken_are_refused_by_name() {
    let scene = Scene::open().await;
    for version in ["2024-11-05", "2024-10-07", "1.0", "2099-01-01", "x", ""] {
        let reply = scene.client().post(&[("mcp-protocol-version", version)], super::BODY).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (400, json!(-32022)), "{version}: {reply:?}");
        let supported = reply.json()["error"]["data"]["supported"].clone();
        assert!(supported.as_array().is_some_and(|all| all.contains(&json!("2026-07-28"))), "{version}: {supported}");
        scene.upstream.assert_silent();
    }
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        assert_eq!(
            scene.client().post(&[("mcp-protocol-version", version)], super::BODY).await.status,
            200,
            "{version}"
        );
    }
}
