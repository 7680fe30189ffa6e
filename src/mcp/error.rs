//! JSON-RPC errors as the gateway writes them (JSON-RPC 2.0 section 5.1).

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

#[derive(Serialize)]
struct Envelope<'a, T> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    #[serde(flatten)]
    body: T,
}

/// An error answer. `id` is the request's, as written; without one it is null. The gateway's `request_id` stands in
/// `data`, beside what `data` holds already.
#[must_use]
pub fn error_body(id: Option<&str>, code: i32, message: &str, data: Option<&RawValue>, request_id: &str) -> Vec<u8> {
    let mut members =
        data.and_then(|data| serde_json::from_str::<Map<String, Value>>(data.get()).ok()).unwrap_or_default();
    members.insert("requestId".to_owned(), json!(request_id));
    written(id, json!({ "error": { "code": code, "message": message, "data": members } }))
}

/// A tool's result that says that the call failed (MCP tools, "Error Handling").
#[must_use]
pub fn tool_error(id: &str, text: &str) -> Vec<u8> {
    written(Some(id), json!({ "result": { "content": [{ "type": "text", "text": text }], "isError": true } }))
}

fn written(id: Option<&str>, body: Value) -> Vec<u8> {
    let id = id.and_then(|id| RawValue::from_string(id.to_owned()).ok());
    let envelope = Envelope { jsonrpc: "2.0", id: id.as_deref().unwrap_or(RawValue::NULL), body };
    serde_json::to_vec(&envelope).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k05_an_error_echoes_the_id_as_written() {
        let body = error_body(Some("9007199254740993"), 403, "no", None, "r1");
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"jsonrpc":"2.0","id":9007199254740993,"error":{"code":403,"data":{"requestId":"r1"},"message":"no"}}"#
        );
        let data = RawValue::from_string(r#"{"supported":["x"]}"#.to_owned()).unwrap();
        let body: Value = serde_json::from_slice(&error_body(None, -32022, "v", Some(&data), "r2")).unwrap();
        assert_eq!(body["id"], Value::Null);
        assert_eq!(body["error"]["data"], json!({ "supported": ["x"], "requestId": "r2" }));
        let body: Value = serde_json::from_slice(&tool_error("\"a\"", "refused")).unwrap();
        assert_eq!((&body["id"], &body["result"]["isError"]), (&json!("a"), &json!(true)));
    }
}
