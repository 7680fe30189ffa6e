//! What the edge answers by itself, before there is a request that anything else could answer.

use bytes::Bytes;

/// A whole answer of 400, 405 or 408, after which the connection is closed.
pub(super) fn answer(status: u16) -> Bytes {
    let (reason, message) = match status {
        405 => ("Method Not Allowed\r\nallow: POST", "method not allowed"),
        408 => ("Request Timeout", "request timeout"),
        _ => ("Bad Request", "malformed request"),
    };
    let id = format!("{:032x}", rand::random::<u128>());
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{status},"message":"{message}","data":{{"requestId":"{id}"}}}}}}"#
    );
    let length = body.len();
    Bytes::from(format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n\
         x-request-id: {id}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    ))
}
