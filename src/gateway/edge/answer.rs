//! What the edge answers by itself, before there is a request that anything else could answer.

use bytes::Bytes;

use crate::gateway::reply::SECURITY;

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
    let security: String = SECURITY.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    Bytes::from(format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n{security}x-request-id: {id}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e08_an_answer_of_the_edge_carries_the_headers_of_every_other() {
        for status in [400, 405, 408] {
            let text = String::from_utf8(answer(status).to_vec()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            for (name, value) in SECURITY {
                assert!(head.contains(&format!("\r\n{name}: {value}\r\n")), "{name}: {head}");
            }
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{text}");
        }
    }
}
