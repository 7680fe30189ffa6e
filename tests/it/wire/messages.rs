//! One JSON-RPC message with one reading, judged whole and passed on as it was written.

use bytes::Bytes;
use serde_json::json;

use super::{INSTALLATION, Scene};
use crate::support::client::Reply;
use crate::support::{Client, Era, Upstream};

const LEGACY: [(&str, &str); 1] = [("mcp-protocol-version", "2025-11-25")];

/// Posts these bytes as a client of the legacy era.
async fn post(client: &Client, body: impl Into<Bytes>) -> Reply {
    client.post(&LEGACY, body).await
}

/// Each body is refused with 400 and this code, and the upstream sees none.
async fn refuses(scene: &Scene, code: i64, bodies: &[&str]) {
    let client = scene.client();
    for body in bodies {
        let reply = post(&client, (*body).to_owned()).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (400, json!(code)), "{body}: {reply:?}");
        scene.upstream.assert_silent();
    }
}

/// Each body is permitted and reaches the upstream byte for byte.
async fn passes(scene: &Scene, bodies: &[&str]) {
    let client = scene.client();
    for body in bodies {
        let reply = post(&client, (*body).to_owned()).await;
        assert!(matches!(reply.status, 200 | 202), "{body}: {reply:?}");
        let received = scene.upstream.received();
        assert_eq!(received.len(), 1, "{body}");
        assert_eq!(received[0].body, body.as_bytes(), "the bytes judged are the bytes forwarded: {body}");
        assert_eq!(received[0].header("content-length"), [body.len().to_string()], "{body}");
        scene.upstream.forget();
    }
}

#[tokio::test]
async fn k01_what_no_rule_allows_is_refused() {
    let rest = "rules:\n  - { allow: { tools: [echo], resources: [\"repo://**\"], prompts: [review] } }\n\
        \x20 - { deny: { tools: [ec*o, \"delete_*\"] }, when: 'subject == \"mallory\"' }";
    let scene = Scene::with(Upstream::mcp(&["echo", "drop"]).await, rest, INSTALLATION).await;
    for era in [Era::Legacy, Era::Modern] {
        let client = scene.client().era(era);
        for (method, params, status) in [
            ("tools/call", json!({"name": "drop", "arguments": {}}), 403),
            ("tools/call", json!({"name": "none", "arguments": {}}), 403),
            ("tools/call", json!({"name": "echo2", "arguments": {}}), 403),
            ("tools/call", json!({"name": "xecho", "arguments": {}}), 403),
            ("resources/read", json!({"uri": "file:///etc/passwd"}), 403),
            ("resources/read", json!({"uri": "repo:/a"}), 403),
            ("prompts/get", json!({"name": "other"}), 403),
            ("prompts/get", json!({"name": "echo"}), 403),
            ("logging/setLevel", json!({"level": "debug"}), 403),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/prompt", "name": "other"}, "argument": {"name": "a", "value": ""}}),
                403,
            ),
        ] {
            let reply = client.request(method, params.clone()).await;
            assert_eq!(reply.status, status, "{era:?} {method} {params}: {reply:?}");
            scene.upstream.assert_silent();
        }
        for (method, params) in [
            ("tools/call", json!({"name": "echo", "arguments": {}})),
            ("resources/read", json!({"uri": "repo://a/b"})),
            ("prompts/get", json!({"name": "review"})),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/prompt", "name": "review"}, "argument": {"name": "a", "value": ""}}),
            ),
        ] {
            let reply = client.request(method, params).await;
            assert_eq!(reply.status, 200, "{era:?} {method}: {reply:?}");
        }
        assert_eq!(scene.upstream.received().len(), 4, "{era:?}");
        scene.upstream.forget();
    }
    let unknown = scene.client().request("tools/destroy", json!({})).await;
    assert_eq!((unknown.status, unknown.json()["error"]["code"].clone()), (404, json!(-32601)), "{unknown:?}");
    let url = scene.gateway.url("/wire/mcp");
    let mallory = Client::new(&url).token(&scene.issuer.token(&url, json!({"sub": "mallory"})));
    assert_eq!(mallory.call_tool("echo", json!({})).await.status, 403, "deny wins over allow");
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn k01_without_an_allow_rule_everything_is_refused() {
    for rest in ["", "rules: []", "rules: [{ deny: { tools: [drop] } }]"] {
        let scene = Scene::with(Upstream::mcp(&["echo"]).await, rest, INSTALLATION).await;
        let client = scene.client();
        for (method, params) in [
            ("tools/call", json!({"name": "echo", "arguments": {}})),
            ("tools/list", json!({})),
            ("ping", json!({})),
            ("server/discover", json!({})),
        ] {
            let reply = client.request(method, params).await;
            assert_eq!(reply.status, 403, "{rest:?} {method}: {reply:?}");
        }
        scene.upstream.assert_silent();
    }
}

#[tokio::test]
async fn k02_k05_a_message_passes_byte_for_byte() {
    let scene = Scene::open().await;
    passes(
        &scene,
        &[
            "  {\t\"jsonrpc\" :\r\n\"2.0\",\"id\":1,\"method\":\"tools/call\", \"params\" : {\"name\":\"echo\"}\n}\n\t ",
            r#"{"params":{"arguments":{"b":1,"a":2},"name":"echo"},"method":"tools/call","id":1,"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"echo","arguments":{"n":123456789012345678901234567890}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"n":[1.0,1e400,-0,0.10,1E+2,-1e-999]}}}"#,
            r#"{"jsonrpc":"2.0","id":"\u0061\/","method":"tools/call","params":{"name":"\u0065cho","arguments":{"\u00e9":"\ud83d\ude00\u0000\b\/"}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"echo","arguments":{"":"","a b":null},"unknown":[{}]},"further":true}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"arguments\":{\"t\":\"\u{feff}\u{2028}\u{7f}\u{fffd}\"}}}",
        ],
    )
    .await;
}

#[tokio::test]
async fn k05_an_id_comes_back_as_it_was_written() {
    let scene = Scene::open().await;
    let client = scene.client();
    for id in ["9007199254740993", "-0", "\"\\u0061\"", "\"1\"", "123456789012345678901234567890", "\"\""] {
        for (tool, status) in [("drop", 403), ("echo", 200)] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
            let reply = post(&client, body).await;
            assert_eq!(reply.status, status, "{id} {tool}: {reply:?}");
            if tool == "drop" {
                let text = String::from_utf8_lossy(&reply.body).into_owned();
                assert!(text.contains(&format!("\"id\":{id},")), "{id}: {text}");
                scene.upstream.assert_silent();
            }
        }
        scene.upstream.forget();
    }
    for id in ["null", "1.5", "1e2", "true", "[1]", "{}"] {
        refuses(
            &scene,
            -32600,
            &[&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo"}}}}"#)],
        )
        .await;
    }
}

#[tokio::test]
async fn k03_what_two_parsers_read_differently_is_refused() {
    let scene = Scene::open().await;
    refuses(
        &scene,
        -32700,
        &[
            // A member twice, at any depth and in any spelling.
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"drop"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","n\u0061me":"drop"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"echo"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"params":{"name":"drop"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{"name":"echo"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":1,"a":2}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":[{"b":[{"c":1,"c":1}]}]}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","_meta":{"a":1,"\u0061":2}}}"#,
            // Not one JSON text.
            "",
            " ",
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}} {}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}x"#,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\"}}\0",
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\"}}",
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo",}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"/* drop */}}"#,
            r#"{'jsonrpc':"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"n":NaN}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"n":-Infinity}}}"#,
            r#"{"jsonrpc":"2.0","id":01,"method":"tools/call","params":{"name":"echo"}}"#,
            r#"{"jsonrpc":"2.0","id":+1,"method":"tools/call","params":{"name":"echo"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"n":.5}}}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"arguments\":{\"a\":\"x\ny\"}}}",
            // Half a character.
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo\ud800"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":"\udc00\ud800"}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"\ud800":1}}}"#,
        ],
    )
    .await;
    passes(&scene, &[super::BODY]).await;
}

#[tokio::test]
async fn k03_other_encodings_are_refused() {
    let scene = Scene::open().await;
    let client = scene.client();
    let utf16 = |order: fn(u16) -> [u8; 2]| super::BODY.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let invalid = |bytes: &[u8]| [&super::BODY.as_bytes()[..66], bytes, &super::BODY.as_bytes()[66..]].concat();
    for body in [
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        [&[0xff, 0xfe][..], &utf16(u16::to_le_bytes)].concat(),
        super::BODY.bytes().flat_map(|byte| [0, 0, 0, byte]).collect(),
        invalid(&[0xff]),
        invalid(&[0xc0, 0xae]),
        invalid(&[0xed, 0xa0, 0x80]),
        invalid(&[0xe9]),
        invalid(&[0xf4, 0x90, 0x80, 0x80]),
    ] {
        let reply = post(&client, body).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (400, json!(-32700)), "{reply:?}");
        scene.upstream.assert_silent();
    }
    passes(&scene, &[super::BODY]).await;
}

#[tokio::test]
async fn k03_members_that_look_like_others_are_refused() {
    let scene = Scene::open().await;
    for (code, body) in [
        (-32600, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"x","params":{"name":"echo"}}"#),
        (-32600, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"PARAMS":{"name":"drop"}}"#),
        (
            -32600,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"params ":{"name":"drop"}}"#,
        ),
        (-32600, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"method\u0000":"x"}"#),
        (-32600, r#"{"jsonrpc":"2.0","id":1,"Id":2,"method":"tools/call","params":{"name":"echo"}}"#),
        (-32600, r#"{"jsonrpc":"2.0","JsonRpc":"1.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#),
        (-32600, r#"{"JSONRPC":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#),
        (-32600, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","param\u017f":{},"params":{"name":"echo"}}"#),
        (-32602, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","Name":"drop"}}"#),
        (-32602, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"," name":"drop"}}"#),
        (-32602, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name\u0000":"drop"}}"#),
        (-32602, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","na\u200bme":"drop"}}"#),
        (-32602, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","argument\u017f":{}}}"#),
        (-32602, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"NAME":"echo"}}"#),
    ] {
        refuses(&scene, code, &[body]).await;
    }
    // An argument is the tool's own: only what a rule names has look-alikes.
    passes(
        &scene,
        &[r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":1,"A":2}}}"#],
    )
    .await;
}

#[tokio::test]
async fn k03_nesting_ends_at_64() {
    let scene = Scene::open().await;
    // The message, `params` and `arguments` are three levels.
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 3), "]".repeat(levels - 3));
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"a":{open}{close}}}}}}}"#
        )
    };
    refuses(
        &scene,
        -32700,
        &[&nested(65), &nested(1000), &nested(100_000), &"[".repeat(500_000), &r#"{"a":"#.repeat(100_000)],
    )
    .await;
    passes(&scene, &[&nested(64)]).await;
}

#[tokio::test]
async fn k04_names_are_compared_unescaped_and_byte_by_byte() {
    let rest = "rules: [{ allow: { tools: [echo, \"caf\u{e9}\", \"*_file\"] } }, { deny: { tools: [\"delete_*\"] } }]";
    let scene = Scene::with(Upstream::mcp(&["echo"]).await, rest, INSTALLATION).await;
    let client = scene.client();
    for name in [
        r"\u0064elete_file",
        r"delete\u005ffile",
        "Echo",
        "ECHO",
        " echo",
        "echo ",
        r"echo\u0000",
        r"echo\n",
        r"\ufeffecho",
        r"e\u0441ho",
        r"\uff45cho",
        r"cafe\u0301",
        "caf",
    ] {
        let reply = post(&client, super::BODY.replace("echo", name)).await;
        assert_eq!(reply.status, 403, "{name}: {reply:?}");
        scene.upstream.assert_silent();
    }
    for name in ["echo", "read_file", r"\u0065\u0063\u0068\u006f", "caf\u{e9}", r"caf\u00e9"] {
        passes(&scene, &[&super::BODY.replace("echo", name)]).await;
    }
}

#[tokio::test]
async fn k06_batches_are_refused_whole() {
    let scene = Scene::open().await;
    let one = super::BODY;
    refuses(&scene, -32600, &["[]", &format!("[{one}]"), &format!(" [{one},{one}]"), &format!("[{one},1]")]).await;
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let reply = scene.client().post(&[("mcp-protocol-version", version)], format!("[{one}]")).await;
        assert_eq!(reply.status, 400, "{version}: {reply:?}");
    }
    scene.upstream.assert_silent();
    passes(&scene, &[one]).await;
}

#[tokio::test]
async fn k07_notifications_and_responses_are_judged_as_strictly() {
    let scene = Scene::open().await;
    let client = scene.client();
    for (status, body) in [
        (403, r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"drop"}}"#),
        (403, r#"{"jsonrpc":"2.0","method":"logging/setLevel","params":{"level":"debug"}}"#),
        (400, r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":[]}"#),
        (400, r#"{"jsonrpc":"2.0","method":"notifications/initialized","Method":"tools/call"}"#),
        (400, r#"{"method":"notifications/initialized"}"#),
        (400, r#"{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/call","params":{"name":"echo"}}"#),
        (400, r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}"#),
        (400, r#"{"jsonrpc":"2.0","result":{}}"#),
        (400, r#"{"jsonrpc":"2.0","id":null,"result":{}}"#),
        (400, r#"{"jsonrpc":"2.0","id":1}"#),
        (400, r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}"#),
        (400, r#"{"jsonrpc":"1.0","id":1,"result":{}}"#),
    ] {
        let reply = post(&client, body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        scene.upstream.assert_silent();
    }
    passes(
        &scene,
        &[r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#],
    )
    .await;
    let unknown = post(&client, r#"{"jsonrpc":"2.0","method":"notifications/invented"}"#).await;
    assert!(matches!(unknown.status, 403 | 404), "{unknown:?}");
    scene.upstream.assert_silent();
}
