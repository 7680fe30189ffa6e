//! Whom a request is for: one host, one spelling of one path, and nothing else that routes.

use super::{GOOD, INSTALLATION, Scene, Socket};
use crate::support::{Client, Upstream};

const LINE: &str = "POST /wire/mcp HTTP/1.1";
const HOST: &str = "Host: HOST\r\n";

#[tokio::test]
async fn l01_w01_w02_there_is_one_host() {
    let scene = Scene::open().await;
    scene
        .refuses_each(
            400,
            GOOD,
            &[
                (HOST, ""),
                (HOST, "Host:\r\n"),
                (HOST, "Host: \r\n"),
                (HOST, "Host: HOST\r\nHost: HOST\r\n"),
                (HOST, "Host: HOST\r\nhost: evil.example\r\n"),
                (HOST, "Host: HOST, HOST\r\n"),
                (HOST, "Host: HOST, evil.example\r\n"),
                (HOST, "Host: HOST/wire\r\n"),
                (HOST, "Host: HOST?x\r\n"),
                (HOST, "Host: HOST#x\r\n"),
                (HOST, "Host: alice@HOST\r\n"),
                (HOST, "Host: http://HOST\r\n"),
                (HOST, "Host: HOST evil.example\r\n"),
                (HOST, "Host: HOST\\\r\n"),
                (HOST, "Host: HOST:80\r\n"),
                (HOST, "Host: evil.example:\r\n"),
                (HOST, "Host: evil.example:0\r\n"),
                (HOST, "Host: evil.example:65536\r\n"),
                (HOST, "Host: [::1\r\n"),
                (HOST, "Host: \u{e9}\r\n"),
                (HOST, "Host : HOST\r\n"),
            ],
        )
        .await;
    // HTTP/1.0 knows requests without a host; this gateway does not.
    scene.refuses(400, scene.filled(&GOOD.replace("HTTP/1.1", "HTTP/1.0").replace(HOST, ""))).await;
    scene.serves(scene.filled(GOOD)).await;
    scene.serves(scene.spoilt(GOOD, "Host:", "hOST:\t")).await;
}

#[tokio::test]
async fn l01_an_absolute_target_names_the_same_host() {
    let scene = Scene::open().await;
    scene
        .refuses_each(
            400,
            GOOD,
            &[
                (LINE, "POST http://evil.example/wire/mcp HTTP/1.1"),
                (LINE, "POST http://HOST.evil.example/wire/mcp HTTP/1.1"),
                (LINE, "POST http://alice@HOST/wire/mcp HTTP/1.1"),
                (LINE, "POST http:///wire/mcp HTTP/1.1"),
                (LINE, "POST ftp://HOST/wire/mcp HTTP/1.1"),
                (LINE, "POST HOST/wire/mcp HTTP/1.1"),
                (LINE, "POST wire/mcp HTTP/1.1"),
                (HOST, "Host: evil.example\r\nX: y\r\nHost: HOST\r\n"),
            ],
        )
        .await;
    let other_host = GOOD.replace(LINE, "POST http://HOST/wire/mcp HTTP/1.1").replace(HOST, "Host: evil.example\r\n");
    scene.refuses(400, scene.filled(&other_host)).await;
    scene.serves(scene.spoilt(GOOD, LINE, "POST http://HOST/wire/mcp HTTP/1.1")).await;
}

#[tokio::test]
async fn l01_w06_the_target_is_visible_ascii_without_a_fragment() {
    let scene = Scene::open().await;
    scene
        .refuses_each(
            400,
            GOOD,
            &[
                (LINE, "POST /wire/mcp\0 HTTP/1.1"),
                (LINE, "POST /wire\0/mcp HTTP/1.1"),
                (LINE, "POST /wire/mcp?\0 HTTP/1.1"),
                (LINE, "POST /wire/mcp\x7f HTTP/1.1"),
                (LINE, "POST /wire/mcp\x0b HTTP/1.1"),
                (LINE, "POST /wire/mcp\u{e9} HTTP/1.1"),
                (LINE, "POST /wire/mcp#x HTTP/1.1"),
                (LINE, "POST /wire/mcp# HTTP/1.1"),
                (LINE, "POST /wire/mcp?x#y HTTP/1.1"),
                (LINE, "POST #/wire/mcp HTTP/1.1"),
                (LINE, "POST /wire/mcp?\" HTTP/1.1"),
                (LINE, "POST /wire/mcp?<x> HTTP/1.1"),
            ],
        )
        .await;
    let mut raw = scene.filled(GOOD).into_bytes();
    raw.splice(14..14, [0xff, 0xfe]);
    scene.refuses(400, raw).await;
    scene.serves(scene.filled(GOOD)).await;
}

#[tokio::test]
async fn l02_w07_w12_methods_that_are_no_requests_for_a_path() {
    let scene = Scene::open().await;
    scene
        .refuses_each(
            400,
            GOOD,
            &[
                (LINE, "GET * HTTP/1.1"),
                (LINE, "POST * HTTP/1.1"),
                (LINE, "OPTIONS * HTTP/1.1"),
                (LINE, "POST ** HTTP/1.1"),
            ],
        )
        .await;
    scene.refuses_each(405, GOOD, &[(LINE, "TRACE /wire/mcp HTTP/1.1"), (LINE, "CONNECT HOST HTTP/1.1")]).await;
    let bare = "TRACE /wire/mcp HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\n\r\n";
    let said = scene.refuses(405, scene.filled(bare)).await;
    assert!(!said.0.contains("Bearer"), "nothing of the request comes back: {said:?}");
    for target in ["HOST", "evil.example:443", "/wire/mcp", "http://HOST/wire/mcp"] {
        let bare = format!("CONNECT {target} HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\n\r\n");
        scene.refuses(405, scene.filled(&bare)).await;
    }
    scene.serves(scene.filled(GOOD)).await;
}

#[tokio::test]
async fn l03_w08_a_path_has_one_spelling() {
    let scene = Scene::open().await;
    for path in [
        "/wire/../wire/mcp",
        "/wire/./mcp",
        "/./wire/mcp",
        "/wire/mcp/..",
        "/wire/mcp/.",
        "/..",
        "/wire/%2e%2e/wire/mcp",
        "/wire/.%2E/wire/mcp",
        "/wire/%2e/mcp",
        "//wire/mcp",
        "/wire//mcp",
        "/wire/mcp//",
        "/wire%2fmcp",
        "/wire%2Fmcp",
        "/wire%5cmcp",
        "/wire\\mcp",
        "/wire/mcp;x",
        "/wire;x=1/mcp",
        "/..;/wire/mcp",
        "/wire/mcp%3bx",
        "/wire/mcp%00",
        "/wire/mcp%0d%0aX:y",
        "/wire/mcp%252e",
        "/wire/mcp%",
        "/wire/mcp%2",
        "/wire/mcp%zz",
        "/wire/mcp%u002e",
        "/healthz/../wire/mcp",
        "/.well-known/../wire/mcp",
    ] {
        scene.refuses(400, scene.spoilt(GOOD, "/wire/mcp", path)).await;
    }
    // One spelling: an escape that nothing needs, another case or a longer path is another path.
    for path in ["/wire/%6dcp", "/WIRE/mcp", "/wire/mcp/x", "/wire/mcpx", "/wire", "/", "/%77ire/mcp"] {
        scene.refuses(404, scene.spoilt(GOOD, "/wire/mcp", path)).await;
    }
    scene.serves(scene.filled(GOOD)).await;
    scene.serves(scene.spoilt(GOOD, "/wire/mcp", "/wire/mcp/")).await;
    scene.serves(scene.spoilt(GOOD, "/wire/mcp", "/wire/mcp?x=../%2e%2e//;y")).await;
}

#[tokio::test]
async fn l04_nothing_but_the_exact_path_needs_no_token() {
    let scene = Scene::open().await;
    let well_known = "/.well-known/oauth-protected-resource/wire/mcp";
    let anonymous = GOOD.replace("Authorization: Bearer TOKEN\r\n", "");
    for header in [
        "X-Original-URL: /healthz",
        "X-Rewrite-URL: /healthz",
        "X-Forwarded-Uri: /healthz",
        "X-Forwarded-Prefix: /healthz",
        "X-HTTP-Method-Override: OPTIONS",
        "X-Method-Override: GET",
        "User-Agent: kube-probe/1.30",
        "X-Portcullis-Subject: alice",
        "X-Portcullis-Scopes: admin",
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "Proxy-Authorization: Bearer TOKEN",
        "X-Authorization: Bearer TOKEN",
        "Cookie: access_token=TOKEN",
        "X-Api-Key: TOKEN",
        "Access-Control-Request-Method: POST",
        "Mcp-Method: ping",
    ] {
        scene.refuses(401, scene.filled(&anonymous.replace("Accept:", &format!("{header}\r\nAccept:")))).await;
    }
    for query in ["healthz", "path=/healthz", ".well-known/oauth-protected-resource", "skip_auth=1"] {
        scene.refuses(401, scene.filled(&anonymous.replace("/wire/mcp", &format!("/wire/mcp?{query}")))).await;
    }
    // What needs no token answers there only, and only to reading methods; it never leads on to the upstream.
    let client = Client::new(&scene.gateway.url("/wire/mcp"));
    for (method, path, status) in [
        ("GET", "/healthz", 200),
        ("GET", "/healthz?x=1", 200),
        ("POST", "/healthz", 405),
        ("GET", "/healthz/", 404),
        ("GET", "/healthz/wire/mcp", 404),
        ("GET", "/Healthz", 404),
        ("GET", well_known, 200),
        ("POST", well_known, 405),
        ("GET", "/.well-known/oauth-protected-resource/wire", 404),
        ("GET", "/wire/mcp/.well-known/oauth-protected-resource", 404),
        ("OPTIONS", "/wire/mcp", 405),
    ] {
        assert_eq!(client.send(method, path, &[], "").await.status, status, "{method} {path}");
    }
    scene.upstream.assert_silent();
    scene.serves(scene.filled(GOOD)).await;
}

#[tokio::test]
async fn l09_unknown_hosts_and_origins_are_refused() {
    let rest = "rules: [{ allow: { tools: [echo] } }]\norigins: [\"https://ok.example\"]";
    let scene = Scene::with(Upstream::mcp(&["echo"]).await, rest, INSTALLATION).await;
    for host in ["evil.example", "localhost", "127.0.0.1", "127.0.0.1.evil.example", "[::1]", "0.0.0.0"] {
        scene.refuses(421, scene.spoilt(GOOD, HOST, &format!("Host: {host}\r\n"))).await;
    }
    for origin in [
        "https://evil.example",
        "null",
        "",
        "http://ok.example",
        "https://ok.example:8443",
        "https://ok.example.evil.example",
        "https://OK.example",
        "https://ok.example/",
        "https://ok.example, https://evil.example",
        "http://HOST",
    ] {
        scene.refuses(403, scene.spoilt(GOOD, "Accept:", &format!("Origin: {origin}\r\nAccept:"))).await;
    }
    scene.refuses_each(400, GOOD, &[("Accept:", "Origin: https://ok.example\r\nOrigin: null\r\nAccept:")]).await;
    scene.serves(scene.filled(GOOD)).await;
    scene.serves(scene.spoilt(GOOD, "Accept:", "Origin: https://ok.example\r\nAccept:")).await;
}

#[tokio::test]
async fn l02_an_upgrade_is_never_made_and_nothing_behind_it_is_read() {
    let scene = Scene::open().await;
    for upgrade in ["websocket", "WebSocket", "foo", "TLS/1.0", "HTTP/2.0", "h2c, websocket", ""] {
        let headers = format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\nAccept:");
        scene.refuses(400, scene.spoilt(GOOD, "Accept:", &headers)).await;
        scene.refuses(400, scene.spoilt(GOOD, "Accept:", &format!("Upgrade: {upgrade}\r\nAccept:"))).await;
    }
    let socket = "GET /wire/mcp HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    scene.refuses(400, scene.filled(socket)).await;

    // The offer of HTTP/2 that some clients make with every first request is ignored, and goes no further.
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\nAccept:";
    let mut socket = Socket::connect(scene.gateway.address()).await;
    socket.send(scene.spoilt(GOOD, "Accept:", offer).as_bytes()).await;
    let said = socket.answer("an offer of h2c").await;
    assert!(said.is(200), "{said:?}");
    let received = scene.upstream.received();
    assert!(
        received[0].header("upgrade").is_empty() && received[0].header("http2-settings").is_empty(),
        "{received:#?}"
    );
}
