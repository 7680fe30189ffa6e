//! Both eras on one URL: the body tells which one a message is of, and each is held to its own rules.

use serde_json::{Value, json};

use super::{alice, request, setup};
use crate::support::{Issuer, Upstream};

/// Names with their values.
type Headers = Vec<(&'static str, &'static str)>;

const RULES: &str = r#"
rules:
  - allow: { tools: [echo] }
  - allow: { tools: [issue] }
    arguments: { Region: { one_of: [eu, us] }, count: { max: 5, optional: true } }
  - allow: { methods: ["skills/list"] }
"#;
const MODERN: &str = "2026-07-28";

fn meta(version: &str) -> Value {
    json!({"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}})
}

fn body(method: &str, mut params: Value, meta: Option<Value>) -> Value {
    if let Some(meta) = meta {
        params["_meta"] = meta;
    }
    request(9, method, &params)
}

#[tokio::test]
async fn k08_the_era_is_the_bodys_and_each_has_its_own_errors() {
    let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let call = |meta| body("tools/call", json!({"name": "echo", "arguments": {}}), meta);
    let version = |version: &'static str| ("mcp-protocol-version", version);
    let (method, name) = (("mcp-method", "tools/call"), ("mcp-name", "echo"));
    let modern = Some(meta(MODERN));
    let refused: Vec<(&str, Headers, Value, u16, i64)> = vec![
        ("no version header", vec![method, name], call(modern.clone()), 400, -32020),
        ("another version in the header", vec![version("2025-11-25"), method, name], call(modern.clone()), 400, -32020),
        ("no method header", vec![version(MODERN), name], call(modern.clone()), 400, -32020),
        (
            "another method",
            vec![version(MODERN), ("mcp-method", "tools/list"), name],
            call(modern.clone()),
            400,
            -32020,
        ),
        (
            "a method in upper case",
            vec![version(MODERN), ("mcp-method", "TOOLS/CALL"), name],
            call(modern.clone()),
            400,
            -32020,
        ),
        ("no name", vec![version(MODERN), method], call(modern.clone()), 400, -32020),
        ("another name", vec![version(MODERN), method, ("mcp-name", "drop")], call(modern.clone()), 400, -32020),
        (
            "a broken sentinel",
            vec![version(MODERN), method, ("mcp-name", "=?base64?!?=")],
            call(modern.clone()),
            400,
            -32020,
        ),
        (
            "a sentinel of another name",
            vec![version(MODERN), method, ("mcp-name", "=?base64?ZHJvcA==?=")],
            call(modern.clone()),
            400,
            -32020,
        ),
        ("a header alone", vec![version(MODERN), method, name], call(None), 400, -32602),
        (
            "a version nobody knows",
            vec![version("2031-01-01"), method, name],
            call(Some(meta("2031-01-01"))),
            400,
            -32022,
        ),
        (
            "no capabilities",
            vec![version(MODERN), method, name],
            call(Some(json!({"io.modelcontextprotocol/protocolVersion": MODERN}))),
            400,
            -32602,
        ),
        ("a dead revision", vec![version("2024-11-05")], call(None), 400, -32022),
        ("no revision at all", vec![version("next")], call(None), 400, -32022),
        (
            "a method nobody names",
            vec![version(MODERN), ("mcp-method", "x/y")],
            body("x/y", json!({}), modern.clone()),
            404,
            -32601,
        ),
        ("a legacy method nobody names", vec![version("2025-11-25")], body("x/y", json!({}), None), 403, 403),
        (
            "a level without a rule",
            vec![version(MODERN), ("mcp-method", "logging/setLevel")],
            body("logging/setLevel", json!({"level": "info"}), modern.clone()),
            403,
            403,
        ),
        (
            "a modern response",
            vec![version(MODERN)],
            json!({"jsonrpc": "2.0", "id": 1, "result": {"_meta": meta(MODERN)}}),
            400,
            -32602,
        ),
    ];
    for (why, headers, body, status, code) in refused {
        let reply = client.post(&headers, body.to_string()).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].as_i64()), (status, Some(code)), "{why}: {reply:?}");
        if code == -32022 {
            let supported = &reply.json()["error"]["data"]["supported"];
            assert!(supported.as_array().is_some_and(|list| list.contains(&json!(MODERN))), "{why}: {supported}");
        }
    }
    for twice in [method, name, version(MODERN)] {
        let headers = [version(MODERN), method, name, twice];
        assert_eq!(client.post(&headers, call(modern.clone()).to_string()).await.status, 400, "{} twice", twice.0);
    }
    upstream.assert_silent();

    let accepted: Vec<(&str, Headers, Value)> = vec![
        ("modern", vec![version(MODERN), method, name], call(modern.clone())),
        ("with a sentinel", vec![version(MODERN), method, ("mcp-name", "=?base64?ZWNobw==?=")], call(modern.clone())),
        ("legacy", vec![version("2025-11-25")], call(None)),
        ("legacy without a header", vec![], call(None)),
        (
            "legacy with headers that lie",
            vec![version("2025-06-18"), ("mcp-method", "ping"), ("mcp-name", "drop"), ("mcp-param-a", "b")],
            call(None),
        ),
        (
            "a method that a rule names",
            vec![version(MODERN), ("mcp-method", "skills/list")],
            body("skills/list", json!({}), modern),
        ),
    ];
    for (why, headers, body) in accepted {
        assert_eq!(client.post(&headers, body.to_string()).await.status, 200, "{why}");
        let seen = upstream.received().pop().expect("a request");
        assert_eq!(seen.body, body.to_string().into_bytes(), "{why}: byte for byte");
        let mirrors =
            seen.headers.iter().filter(|(name, _)| name.starts_with("mcp-") && name != "mcp-protocol-version");
        assert_eq!(mirrors.count() == 0, why.starts_with("legacy"), "{why}: legacy traffic has no mirrors: {seen:?}");
    }
}

#[tokio::test]
async fn k09_parameters_that_a_rule_reads_agree_with_the_body_and_others_pass() {
    let (upstream, issuer) = (Upstream::mcp(&["issue"]).await, Issuer::start().await);
    let gateway = setup(&upstream, &issuer, RULES).await.start().await;
    let client = alice(&gateway, &issuer);
    let call =
        |arguments: Value| body("tools/call", json!({"name": "issue", "arguments": arguments}), Some(meta(MODERN)));
    let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "issue")];
    let send = |parameter: (&'static str, &'static str), arguments: Value| {
        let (headers, body) = ([headers[0], headers[1], headers[2], parameter], call(arguments).to_string());
        let client = &client;
        async move { client.post(&headers, body).await }
    };
    for (parameter, arguments) in [
        (("mcp-param-region", "us"), json!({"Region": "eu"})),
        (("mcp-param-region", "EU"), json!({"Region": "eu"})),
        (("mcp-param-region", "=?base64?dXM=?="), json!({"Region": "eu"})),
        (("mcp-param-count", "4"), json!({"Region": "eu", "count": 5})),
        (("mcp-param-count", "4"), json!({"Region": "eu"})),
    ] {
        let reply = send(parameter, arguments).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (400, json!(-32020)), "{parameter:?}");
    }
    upstream.assert_silent();
    for (parameter, arguments) in [
        (("mcp-param-region", "eu"), json!({"Region": "eu"})),
        (("mcp-param-region", "=?base64?ZXU=?="), json!({"Region": "eu"})),
        (("mcp-param-count", "5.0"), json!({"Region": "eu", "count": 5})),
        (("mcp-param-other", "anything"), json!({"Region": "eu", "other": "else"})),
    ] {
        assert_eq!(send(parameter, arguments).await.status, 200, "{parameter:?}");
        let seen = upstream.received().pop().expect("a request");
        assert_eq!(seen.header(parameter.0), [parameter.1], "parameters go on as they came");
    }
}
