//! The MCP server of the demo: a few notes in memory, both protocol eras, JSON answers.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Title and text of every note.
type Notes = Arc<Mutex<Vec<(String, String)>>>;

/// Serves what comes in at `listener` for as long as the runtime lives.
pub(super) fn serve(listener: TcpListener) {
    let first =
        [("The gate", "A portcullis is a gate that falls when it is let go."), ("The moat", "Water around a wall.")];
    let notes: Notes = Arc::new(Mutex::new(first.map(|(title, text)| (title.to_owned(), text.to_owned())).to_vec()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let notes = Arc::clone(&notes);
            let answer = service_fn(move |request| respond(request, Arc::clone(&notes)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
}

async fn respond(request: Request<Incoming>, notes: Notes) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::POST {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    }
    let body = Limited::new(request.into_body(), 1 << 20).collect().await.map(http_body_util::Collected::to_bytes);
    let Some(message) = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok()) else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    let Some(id) = message.get("id") else { return Ok(status(StatusCode::ACCEPTED)) };
    let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
    let params = message.get("params").cloned().unwrap_or_default();
    let answer = match result(method, &params, &notes) {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err((code, text)) => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } }),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn result(method: &str, params: &Value, notes: &Notes) -> Result<Value, (i32, &'static str)> {
    let server = json!({ "name": "demo-notes", "version": env!("CARGO_PKG_VERSION") });
    match method {
        "initialize" => {
            let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
            let version =
                if matches!(asked, "2025-03-26" | "2025-06-18" | "2025-11-25") { asked } else { "2025-11-25" };
            Ok(json!({ "protocolVersion": version, "capabilities": { "tools": {} }, "serverInfo": server }))
        }
        "server/discover" => Ok(json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"],
            "capabilities": { "tools": {} }, "serverInfo": server, "ttlMs": 0, "cacheScope": "private",
        })),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({ "resultType": "complete", "tools": tools(), "ttlMs": 0, "cacheScope": "private" })),
        "tools/call" => call(params, notes),
        _ => Err((-32601, "method not found")),
    }
}

fn tools() -> Value {
    let tool = |name: &str, description: &str, properties: Value| {
        let required: Vec<&String> =
            properties.as_object().into_iter().flat_map(|properties| properties.keys()).collect();
        json!({ "name": name, "description": description, "inputSchema": { "type": "object", "properties": properties, "required": required } })
    };
    let text = json!({ "type": "string" });
    json!([
        tool("search_notes", "Find notes by a word.", json!({ "query": text })),
        tool("read_note", "Read one note.", json!({ "id": text })),
        tool("create_note", "Write a new note.", json!({ "title": text, "text": text })),
        tool("delete_note", "Delete a note.", json!({ "id": text })),
    ])
}

fn call(params: &Value, notes: &Notes) -> Result<Value, (i32, &'static str)> {
    let argument = |name: &str| {
        params.pointer(&format!("/arguments/{name}")).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    let place = || argument("id").parse::<usize>().ok().and_then(|id| id.checked_sub(1));
    let text = match params.get("name").and_then(Value::as_str).unwrap_or_default() {
        "search_notes" => {
            let query = argument("query").to_lowercase();
            let found = notes
                .iter()
                .enumerate()
                .filter(|(_, (title, text))| format!("{title} {text}").to_lowercase().contains(&query));
            found.map(|(index, (title, _))| format!("{}: {title}", index + 1)).collect::<Vec<_>>().join("\n")
        }
        "read_note" => place()
            .and_then(|place| notes.get(place))
            .map_or_else(|| "no such note".to_owned(), |(_, text)| text.clone()),
        "create_note" => {
            notes.push((argument("title"), argument("text")));
            format!("note {} written", notes.len())
        }
        "delete_note" => match place().filter(|place| *place < notes.len()) {
            Some(place) => format!("deleted {}", notes.remove(place).0),
            None => "no such note".to_owned(),
        },
        _ => return Err((-32602, "unknown tool")),
    };
    Ok(json!({ "resultType": "complete", "content": [{ "type": "text", "text": text }], "isError": false }))
}
