//! Headers that two readers could understand differently, and heads that are too large.

use super::{GOOD, INSTALLATION, Scene};
use crate::support::Upstream;

/// Adds header lines to a good request.
fn with(lines: &str) -> String {
    GOOD.replacen("Accept:", &format!("{lines}\r\nAccept:"), 1)
}

#[tokio::test]
async fn a24_w09_there_is_one_credential() {
    let scene = Scene::open().await;
    let own = "Authorization: Bearer TOKEN\r\n";
    scene
        .refuses_each(
            400,
            GOOD,
            &[
                (own, "Authorization: Bearer TOKEN\r\nAuthorization: Bearer TOKEN\r\n"),
                (own, "Authorization: Bearer TOKEN\r\nauthorization: Basic YTpi\r\n"),
                (own, "Authorization: Basic YTpi\r\nAuthorization: Bearer TOKEN\r\n"),
                (own, "Authorization:\r\nAuthorization: Bearer TOKEN\r\n"),
                (own, "Authorization: Bearer TOKEN\r\nProxy-Authorization: Basic YTpi\r\nProxy-Authorization: Basic YTpi\r\n"),
            ],
        )
        .await;
    scene
        .refuses_each(
            401,
            GOOD,
            &[
                (own, ""),
                (own, "Authorization:\r\n"),
                (own, "Authorization: Bearer\r\n"),
                (own, "Authorization: Bearer TOKEN, Bearer TOKEN\r\n"),
                (own, "Authorization: Bearer TOKEN TOKEN\r\n"),
                (own, "Authorization: Bearer\tTOKEN\r\n"),
                (own, "Authorization: Bearer \"TOKEN\"\r\n"),
                (own, "Authorization: BearerTOKEN\r\n"),
                (own, "Authorization: TOKEN\r\n"),
                (own, "Authorization: Basic TOKEN\r\n"),
                (own, "Authorization: DPoP TOKEN\r\n"),
                (own, "Authorization: Bearer TOKEN=\r\n"),
                (own, "Authorization: Bearer TOKEN.x\r\n"),
                (own, "Authorization: Bearer \u{e9}\r\n"),
            ],
        )
        .await;
    scene.serves(scene.filled(GOOD)).await;
    scene.serves(scene.spoilt(GOOD, own, "authorization: bEARER   TOKEN  \r\n")).await;
}

#[tokio::test]
async fn a24_a_token_in_the_query_is_refused_even_beside_a_good_header() {
    let scene = Scene::open().await;
    for query in [
        "access_token=TOKEN",
        "x=1&access_token=TOKEN",
        "access_token",
        "Access_Token=TOKEN",
        "access%5ftoken=TOKEN",
        "%61ccess_token=TOKEN",
        "access%255ftoken=TOKEN",
        "+access_token=TOKEN",
        "access_token[]=TOKEN",
        "x;access_token=TOKEN",
    ] {
        let target = format!("/wire/mcp?{query}");
        scene.refuses(400, scene.spoilt(GOOD, "/wire/mcp", &target)).await;
        let alone = GOOD.replace("Authorization: Bearer TOKEN\r\n", "").replace("/wire/mcp", &target);
        scene.refuses(400, scene.filled(&alone)).await;
    }
    scene.serves(scene.spoilt(GOOD, "/wire/mcp", "/wire/mcp?access=token&token=x")).await;
}

#[tokio::test]
async fn l12_headers_that_mean_something_once_occur_once() {
    let scene = Scene::open().await;
    for lines in [
        "Content-Type: application/json",
        "content-type: text/plain",
        "Content-Encoding: identity\r\nContent-Encoding: identity",
        "MCP-Protocol-Version: 2025-11-25",
        "mcp-protocol-version: 2026-07-28",
        "Mcp-Method: tools/call\r\nMcp-Method: ping",
        "Mcp-Name: echo\r\nmcp-name: drop",
        "Mcp-Session-Id: a\r\nMcp-Session-Id: a",
        "Mcp-Param-X: a\r\nMcp-Param-X: b",
        "Last-Event-ID: 1\r\nLast-Event-ID: 2",
        "Expect: 100-continue\r\nExpect: 100-continue",
        "Expect: 200-ok",
        "Expect: 100-continue, 100-continue",
        "TE: trailers\r\nTE: trailers",
        "TE: gzip",
        "TE: trailers, deflate",
        "Upgrade: a\r\nUpgrade: b",
    ] {
        scene.refuses(400, scene.filled(&with(lines))).await;
    }
    scene.serves(scene.filled(&with("X-Other: a\r\nX-Other: b\r\nTE: trailers"))).await;
}

#[tokio::test]
async fn l07_connection_may_not_name_a_header_of_the_message() {
    let scene = Scene::open().await;
    for named in [
        "Authorization",
        "X-Portcullis-Subject",
        "x-portcullis-subject",
        "keep-alive, X-Portcullis-Scopes",
        "close,X-Portcullis-Issuer",
        "MCP-Protocol-Version",
        "Mcp-Session-Id",
        "Content-Type",
        "Content-Length",
        "Host",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "Cookie",
        "X-Anything",
        "\"close\"",
        "close;x",
        "close X-Portcullis-Subject",
        "\u{e9}",
    ] {
        scene.refuses(400, scene.filled(&with(&format!("Connection: {named}")))).await;
        scene.refuses(400, scene.filled(&with(&format!("Connection: keep-alive\r\nconnection: {named}")))).await;
    }
    for fine in ["keep-alive", "close", "Keep-Alive, TE", ", ,close"] {
        scene.serves(scene.filled(&with(&format!("Connection: {fine}")))).await;
    }
}

#[tokio::test]
async fn l06_w10_names_with_an_underscore_stay_outside() {
    let scene = Scene::open().await;
    let names = [
        "X_Portcullis_Subject",
        "X-Portcullis_Subject",
        "x_portcullis-subject",
        "X_PORTCULLIS_SCOPES",
        "Content_Length",
        "Transfer_Encoding",
        "X_Forwarded_For",
        "MCP_Protocol_Version",
        "Mcp_Session_Id",
        "HTTP_AUTHORIZATION",
        "Anything_Else",
    ];
    let lines: Vec<String> = names.iter().map(|name| format!("{name}: admin")).collect();
    scene.client().call_tool("echo", serde_json::json!({})).await;
    scene.upstream.forget();
    let mut socket = super::Socket::connect(scene.gateway.address()).await;
    socket.send(scene.filled(&with(&format!("{}\r\nAccept-Language: de", lines.join("\r\n")))).as_bytes()).await;
    assert!(socket.answer("underscores").await.is(200), "the request itself is good");
    let received = scene.upstream.received();
    let header = &received[0].headers;
    assert!(header.iter().all(|(name, _)| !name.contains('_')), "no server can take `_` for `-`: {header:#?}");
    assert!(header.iter().all(|(_, value)| value != b"admin"), "no value gets through: {header:#?}");
    assert_eq!(received[0].header("accept-language"), ["de"], "other headers do");
}

#[tokio::test]
async fn w14_heads_are_bounded() {
    let scene = Scene::open().await;
    let many = |count: usize| (0..count).map(|at| format!("X-{at}: y")).collect::<Vec<_>>().join("\r\n");
    let wide = |bytes: usize| format!("X: {}", "y".repeat(bytes));
    let several = |count: usize, bytes: usize| {
        (0..count).map(|at| format!("X-{at}: {}", "y".repeat(bytes))).collect::<Vec<_>>().join("\r\n")
    };
    for lines in [
        // More lines than 128, also when they all have one name.
        many(123),
        many(1000),
        vec!["X: y"; 123].join("\r\n"),
        vec!["X: y"; 5000].join("\r\n"),
        // A line above 32 KiB, a head above 64 KiB.
        wide(32 * 1024 + 1),
        wide(900 * 1024),
        several(3, 30_000),
        format!("{}: y", "X".repeat(33 * 1024)),
    ] {
        scene.refuses(400, scene.filled(&with(&lines))).await;
    }
    for target in
        [format!("/wire/mcp?{}", "x".repeat(24 * 1024 + 1)), format!("/{}", "x".repeat(2048)), "/x".repeat(40_000)]
    {
        scene.refuses(400, scene.spoilt(GOOD, "/wire/mcp", &target)).await;
    }
    let method = "X".repeat(70_000);
    scene.refuses(400, scene.spoilt(GOOD, "POST", &method)).await;
    scene.serves(scene.filled(&with(&many(80)))).await;
    let most = format!("GET /healthz HTTP/1.1\r\nHost: HOST\r\n{}\r\n\r\n", many(127));
    let mut socket = super::Socket::connect(scene.gateway.address()).await;
    socket.send(scene.filled(&most).as_bytes()).await;
    let said = socket.answer("128 headers").await;
    assert!(said.is(200), "128 headers are allowed: {said:?}");
    scene.serves(scene.filled(&with(&wide(30_000)))).await;
    scene.serves(scene.spoilt(GOOD, "/wire/mcp", &format!("/wire/mcp?{}", "x".repeat(24 * 1024)))).await;
}

#[tokio::test]
async fn l08_trailers_never_become_headers() {
    let scene =
        Scene::with(Upstream::mcp(&["echo"]).await, "rules: [{ allow: { tools: [echo] } }]", INSTALLATION).await;
    let trailer = "0\r\nX-Portcullis-Subject: admin\r\nX-Other: y\r\nCookie: a=b\r\n\r\n";
    let mut socket = super::Socket::connect(scene.gateway.address()).await;
    socket.send(scene.spoilt(super::CHUNKED, "0\r\n\r\n", trailer).as_bytes()).await;
    assert!(socket.answer("trailers").await.is(200), "trailers that frame nothing are dropped");
    let received = scene.upstream.received();
    assert_eq!(received[0].header("x-portcullis-subject"), ["alice"], "the gateway's own value alone");
    assert!(received[0].header("x-other").is_empty() && received[0].header("cookie").is_empty(), "{received:#?}");
}
