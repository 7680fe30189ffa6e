//! The admin listener: what it tells, and whom.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::own::{PROVIDER, allow, bare, client, setup};
use crate::support::{Gateway, Upstream, eventually};

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

/// A gateway with one service and an admin listener of which `more` is said.
async fn scene(more: &str) -> (Upstream, Gateway, SocketAddr) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let installation = format!("admin: {{ address: \"{free}\"{more} }}\n{PROVIDER}\n");
    let setup = setup().secret("ADMIN_TOKEN", TOKEN).installation(&installation);
    let gateway = setup.policy("story", &bare("story", &upstream, &allow("a"))).start().await;
    (upstream, gateway, free)
}

pub async fn ask(admin: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = reqwest::Client::new().get(format!("http://{admin}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("its body"))
}

pub async fn status(admin: SocketAddr) -> Value {
    serde_json::from_str(&ask(admin, "/status", &[]).await.1).expect("the status is JSON")
}

#[tokio::test]
async fn what_became_of_requests_is_counted_by_service_and_reason() {
    let (upstream, gateway, admin) = scene("").await;
    let caller = client(&gateway, "story", json!({}));
    assert_eq!(caller.call_tool("a", json!({})).await.status, 200);
    assert_eq!(upstream.received().len(), 1);
    upstream.forget();
    assert_eq!(caller.call_tool("b", json!({})).await.status, 403);
    upstream.assert_silent();
    // A request is counted once its answer has ended, which the client may see a moment before.
    let wanted = [
        "portcullis_requests_total{service=\"story\",decision=\"permit\"} 1",
        "portcullis_requests_total{service=\"story\",decision=\"deny\"} 1",
        "portcullis_denials_total{reason=\"not-permitted\"} 1",
        "portcullis_request_duration_seconds_count 2",
        "portcullis_service_open{service=\"story\"} 1",
        "portcullis_requests_in_flight 0",
    ];
    let mut text = String::new();
    for _ in 0..100 {
        text = ask(admin, "/metrics", &[]).await.1;
        if wanted.iter().all(|line| text.contains(line)) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for line in wanted {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "the format is OpenMetrics:\n{text}");
    let service = &status(admin).await["services"][0];
    assert_eq!((&service["name"], &service["open"]), (&json!("story"), &json!(true)));
    assert_eq!(service["requests"], json!({ "permit": 1, "deny": 1, "local": 0 }));
}

#[tokio::test]
async fn r02_a_broken_policy_is_told_with_its_place_and_its_words_are_text() {
    let (upstream, gateway, admin) = scene("").await;
    assert_eq!(status(admin).await["problems"], json!([]));
    let broken = bare("story", &upstream, &allow("a")) + "\"<script>alert(1)</script>\": 1\n";
    gateway.write_policy("story", &broken);
    let mut told = Value::Null;
    for _ in 0..200 {
        told = status(admin).await;
        if told["problems"] != json!([]) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let problem = &told["problems"][0];
    assert_eq!((&problem["code"], &problem["line"]), (&json!("unknown-key"), &json!(6)), "{told}");
    assert!(told["stale"][0]["file"].as_str().is_some_and(|file| file.ends_with("story.yaml")), "{told}");
    let (_, page) = ask(admin, "/", &[]).await;
    assert!(page.contains("unknown-key") && page.contains("&#60;script&#62;"), "r02: {page}");
    assert!(!page.contains("<script"), "r02: nothing of a file is markup: {page}");
    let caller = client(&gateway, "story", json!({}));
    assert_eq!(caller.call_tool("a", json!({})).await.status, 200, "the last good version serves");
    gateway.write_policy("story", &bare("story", &upstream, &allow("a, b")));
    let mended = || gateway.log().into_iter().find(|record| record["fields"]["event"] == "reloaded");
    eventually("the mended policy", mended).await;
    assert_eq!(status(admin).await["problems"], json!([]));
    assert_eq!(caller.call_tool("b", json!({})).await.status, 200);
}

#[tokio::test]
async fn r01_a_web_page_does_not_reach_it_and_nothing_can_be_changed() {
    let (_upstream, _gateway, admin) = scene("").await;
    assert_eq!(ask(admin, "/status", &[]).await.0, 200);
    assert_eq!(ask(admin, "/status", &[("host", "rebound.example.com")]).await.0, 421);
    assert_eq!(ask(admin, "/status", &[("origin", "https://evil.example.com")]).await.0, 403);
    let image = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    assert_eq!(ask(admin, "/status", &image).await.0, 403);
    for path in ["/", "/status", "/metrics", "/load"] {
        let posted = reqwest::Client::new().post(format!("http://{admin}{path}")).body("{}").send().await;
        assert_eq!(posted.expect("an answer").status(), 405, "{path}");
    }
    assert_eq!(ask(admin, "/no/such/thing", &[]).await.0, 404);
}

#[tokio::test]
async fn r03_without_its_token_nothing_is_told_and_no_secret_ever_is() {
    let (_upstream, gateway, admin) = scene(", token: { env: ADMIN_TOKEN }").await;
    let bearer = format!("Bearer {TOKEN}");
    for path in ["/", "/status", "/metrics", "/healthz"] {
        assert_eq!(ask(admin, path, &[]).await.0, 401, "{path}");
        assert_eq!(ask(admin, path, &[("authorization", "Bearer wrong")]).await.0, 401, "{path}");
        let (status, told) = ask(admin, path, &[("authorization", &bearer)]).await;
        assert_eq!(status, 200, "{path}");
        assert!(!told.contains(TOKEN) && !told.contains(crate::own::SECRET), "{path}: {told}");
    }
    assert!(!gateway.printed().contains(TOKEN));
    // The gateway's own listener knows none of this.
    let outside = reqwest::get(gateway.url("/metrics")).await.expect("an answer");
    assert_ne!(outside.status(), 200);
}
