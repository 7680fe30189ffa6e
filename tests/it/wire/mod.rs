//! The wire: what a request has to look like, byte by byte, before anything of it reaches the upstream.
//!
//! Every case spoils a request that passes, so that nothing but the spoilt part can be the reason of the refusal.

mod addresses;
mod answers;
mod arguments;
mod bodies;
mod deadlines;
mod eras;
mod forwarded;
mod frames;
mod http1_framing;
mod http1_headers;
mod http1_targets;
mod http2;
mod lists;
mod messages;
mod metadata;
mod shed;
mod socket;
mod tls;

use serde_json::json;

use crate::support::gateway::Setup;
use crate::support::{Client, Gateway, Issuer, Upstream};
use socket::{Said, Socket};

/// The body of [`GOOD`], as an upstream must see it.
const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
/// A request that passes once `HOST` and `TOKEN` are filled in.
const GOOD: &str = "POST /wire/mcp HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\n\
    Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\nContent-Length: 71\r\n\r\n\
    {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\"}}";
/// The same in chunks.
const CHUNKED: &str = "POST /wire/mcp HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\n\
    Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\nTransfer-Encoding: chunked\r\n\r\n\
    47\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\"}}\r\n0\r\n\r\n";
/// Tests send more bad requests than one address may send by default.
const INSTALLATION: &str = "limits: { address_failures: 1000000/minute }\n";

/// A policy for `upstream`; `rest` holds its rules and whatever else.
fn policy(upstream: &Upstream, issuer: &Issuer, rest: &str) -> String {
    format!(
        "service: wire\nroute: {{ path: /wire/mcp }}\nupstream: {{ url: \"{}\" }}\n\
         providers: {{ corp: {{ oidc: {{ issuer: \"{}\" }} }} }}\nauthentication: {{ providers: [corp] }}\n{rest}\n",
        upstream.url("/mcp"),
        issuer.url()
    )
}

/// A gateway with one service, and a token that it accepts.
struct Scene {
    upstream: Upstream,
    issuer: Issuer,
    gateway: Gateway,
    token: String,
}

impl Scene {
    /// `echo` is allowed, and bad requests are not counted.
    async fn open() -> Self {
        Self::with(Upstream::mcp(&["echo", "drop"]).await, "rules: [{ allow: { tools: [echo] } }]", INSTALLATION).await
    }

    /// Another upstream, rest of the policy, or installation.
    async fn with(upstream: Upstream, rest: &str, installation: &str) -> Self {
        let issuer = Issuer::start().await;
        let text = policy(&upstream, &issuer, rest);
        Self::start(upstream, issuer, Gateway::new().policy("wire", &text).installation(installation)).await
    }

    async fn start(upstream: Upstream, issuer: Issuer, setup: Setup) -> Self {
        let gateway = setup.start().await;
        let token = issuer.token(&gateway.url("/wire/mcp"), json!({}));
        Self { upstream, issuer, gateway, token }
    }

    /// A client with the good token.
    fn client(&self) -> Client {
        Client::new(&self.gateway.url("/wire/mcp")).token(&self.token)
    }

    /// Fills in what only a running gateway knows.
    fn filled(&self, request: &str) -> String {
        request.replace("HOST", &self.gateway.address().to_string()).replace("TOKEN", &self.token)
    }

    /// `request` with `from` replaced by `to`; then what a running gateway knows is filled in.
    #[track_caller]
    fn spoilt(&self, request: &str, from: &str, to: &str) -> String {
        assert!(request.contains(from), "nothing to spoil: {from:?} is not in the request");
        self.filled(&request.replacen(from, to, 1))
    }

    /// Sends `bytes` and, on the same connection, a request that would pass: there is one answer with `status`, the
    /// connection is closed, and the upstream sees neither.
    async fn refuses(&self, status: u16, bytes: impl AsRef<[u8]>) -> Said {
        let bytes = bytes.as_ref();
        let shown: String = String::from_utf8_lossy(bytes).chars().take(400).collect();
        let mut socket = Socket::connect(self.gateway.address()).await;
        socket.send(bytes).await;
        socket.send(self.filled(GOOD).as_bytes()).await;
        let said = socket.until_closed(&shown).await;
        assert!(said.is(status), "{status} was wanted for {shown:?}: {said:?}");
        assert_eq!(said.answers(), 1, "one answer, and none to what follows {shown:?}: {said:?}");
        self.upstream.assert_silent();
        said
    }

    /// Each `(from, to)` spoils `request` so that it is refused.
    async fn refuses_each(&self, status: u16, request: &str, cases: &[(&str, &str)]) {
        for (from, to) in cases {
            self.refuses(status, self.spoilt(request, from, to)).await;
        }
    }

    /// The request is served, and what reached the upstream is forgotten again.
    async fn serves(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let shown: String = String::from_utf8_lossy(bytes).chars().take(400).collect();
        let mut socket = Socket::connect(self.gateway.address()).await;
        socket.send(bytes).await;
        let said = socket.answer(&shown).await;
        assert!(said.is(200), "the positive control must pass: {shown:?}: {said:?}");
        let received = self.upstream.received();
        assert_eq!(received.len(), 1, "the upstream sees the positive control {shown:?}");
        assert_eq!(received[0].body, BODY.as_bytes(), "the body arrives as it was sent: {shown:?}");
        self.upstream.forget();
    }
}
