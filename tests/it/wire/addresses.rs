//! Who is calling from where: only trusted proxies may say, and an address that keeps failing is no longer listened to.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};

use super::{GOOD, INSTALLATION, Scene, Socket, policy};
use crate::support::{Client, Gateway, Issuer, PATIENCE, Upstream};

const RULES: &str = "rules: [{ allow: { tools: [echo] } }]";

async fn scene(installation: &str) -> Scene {
    Scene::with(Upstream::mcp(&["echo"]).await, RULES, installation).await
}

/// The address in the audit record of a request with these header lines, sent from `source`.
async fn recorded(scene: &Scene, source: &str, lines: &str) -> (u16, Value) {
    let known = scene.gateway.log().len();
    let source: IpAddr = source.parse().expect("an address");
    let mut socket = Socket::from(source, scene.gateway.address()).await;
    socket.send(scene.spoilt(GOOD, "Accept:", &format!("{lines}Accept:")).as_bytes()).await;
    let said = socket.answer(lines).await;
    let status = said.0.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    let record = crate::support::eventually("the audit record", || {
        scene.gateway.log().into_iter().skip(known).find(|record| record["schema"] == "portcullis.audit/1")
    });
    (status, record.await["address"].clone())
}

#[tokio::test]
async fn l05_only_a_trusted_proxy_says_where_a_client_is() {
    let installation = format!("{INSTALLATION}trusted_proxies: [127.0.0.2, 10.0.0.0/8, \"2001:db8:ffff::/48\"]\n");
    let scene = scene(&installation).await;
    for (source, lines, address) in [
        // A peer that is not trusted is the client, whatever it says.
        ("127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "127.0.0.1"),
        ("127.0.0.3", "X-Forwarded-For: 192.0.2.1\r\n", "127.0.0.3"),
        ("127.0.0.1", "X-Forwarded-For: garbage\r\n", "127.0.0.1"),
        ("127.0.0.1", "X-Forwarded-For: 127.0.0.2\r\n", "127.0.0.1"),
        // A trusted peer names it: the right-most that is no proxy, over all lines.
        ("127.0.0.2", "", "127.0.0.2"),
        ("127.0.0.2", "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
        ("127.0.0.2", "X-Forwarded-For: 198.51.100.9, 192.0.2.1\r\n", "192.0.2.1"),
        ("127.0.0.2", "X-Forwarded-For: 198.51.100.9, 192.0.2.1, 10.1.2.3\r\n", "192.0.2.1"),
        ("127.0.0.2", "X-Forwarded-For: 198.51.100.9, 192.0.2.1,10.1.2.3 , 127.0.0.2\r\n", "192.0.2.1"),
        ("127.0.0.2", "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.1.2.3\r\n", "192.0.2.1"),
        ("127.0.0.2", "X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
        ("127.0.0.2", "X-Forwarded-For: garbage, 192.0.2.1\r\n", "192.0.2.1"),
        ("127.0.0.2", "X-Forwarded-For: 10.9.9.9, 10.1.2.3\r\n", "10.9.9.9"),
        ("127.0.0.2", "X-Forwarded-For: 2001:db8::1, 2001:db8:ffff::1\r\n", "2001:db8::1"),
        ("127.0.0.2", "X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1"),
        // Other headers say nothing.
        ("127.0.0.2", "X-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nTrue-Client-IP: 192.0.2.1\r\n", "127.0.0.2"),
        ("127.0.0.2", "X_Forwarded_For: 192.0.2.1\r\n", "127.0.0.2"),
    ] {
        let found = recorded(&scene, source, lines).await;
        assert_eq!(found, (200, json!(address)), "from {source} with {lines:?}");
    }
    for seen in scene.upstream.received() {
        for name in ["x-forwarded-for", "x-real-ip", "forwarded"] {
            assert!(seen.header(name).is_empty(), "{name} of a client goes no further: {seen:?}");
        }
    }
    scene.upstream.forget();
    // What a trusted proxy says must be addresses: a guess would be a way around every limit by address.
    for lines in
        ["X-Forwarded-For: unknown\r\n", "X-Forwarded-For: 192.0.2.1, \r\n", "X-Forwarded-For: 192.0.2.1:80\r\n"]
    {
        assert_eq!(recorded(&scene, "127.0.0.2", lines).await.0, 400, "{lines:?}");
    }
    scene.upstream.assert_silent();
}

#[tokio::test]
async fn l05_nobody_can_trust_everybody() {
    let (upstream, issuer) = (Upstream::mcp(&["echo"]).await, Issuer::start().await);
    let text = policy(&upstream, &issuer, RULES);
    for everybody in [
        "0.0.0.0/0",
        "'::/0'",
        "10.0.0.0/0",
        "10.0.0.0/8, 0.0.0.0/0",
        "128.0.0.0/1, 0.0.0.0/1",
        "'8000::/1', '::/2', '4000::/2'",
        "'::ffff:0.0.0.0/96'",
    ] {
        let installation = format!("trusted_proxies: [{everybody}]\n");
        let said = Gateway::new().policy("wire", &text).installation(&installation).refused().await;
        assert!(said.contains("trusts-everyone") && said.contains("portcullis.yaml:1"), "{everybody}: {said}");
    }
    let started =
        Gateway::new().policy("wire", &text).installation("trusted_proxies: [10.0.0.0/8, 128.0.0.0/1]\n").start().await;
    assert_eq!(Client::new(&started.url("/")).fetch("/healthz").await.status, 200, "networks of proxies are fine");
}

#[tokio::test]
async fn o02_an_address_that_keeps_failing_is_shut_out_until_refilled_and_no_other() {
    let scene = scene("limits: { address_failures: 20/minute }\ntrusted_proxies: [127.0.0.2]\n").await;
    let from = |client: &str, token: &str| {
        let line = format!("X-Forwarded-For: {client}\r\nAccept:");
        let request = scene.spoilt(GOOD, "Accept:", &line).replace(&scene.token, token);
        let address = scene.gateway.address();
        async move {
            let mut socket = Socket::from([127, 0, 0, 2].into(), address).await;
            socket.send(request.as_bytes()).await;
            socket.answer("a request by way of the proxy").await
        }
    };
    let good = scene.token.clone();
    assert!(from("192.0.2.1", &good).await.is(200), "a good token from there passes before");
    scene.upstream.forget();
    let mut failures = 0;
    let limited = loop {
        let said = from("192.0.2.1", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA").await;
        if !said.is(401) {
            break said;
        }
        failures += 1;
        assert!(failures < 60, "a third as many failures are allowed");
    };
    assert!(failures >= 20, "twenty may fail at once, but only {failures} did");
    assert!(limited.is(429), "{limited:?}");
    let wait = limited.head();
    let wait = wait.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("when to come back");
    assert!((1..=3).contains(&wait.parse::<u64>().expect("seconds")), "one of twenty refills in three seconds: {wait}");
    assert!(from("192.0.2.1", &good).await.is(429), "a good token from there is not looked at");
    scene.upstream.assert_silent();

    assert!(from("192.0.2.2", &good).await.is(200), "another address by way of the same proxy is another");
    let direct = scene.client().call_tool("echo", json!({})).await;
    assert_eq!(direct.status, 200, "and so is one that comes without a proxy");

    let started = Instant::now();
    while !from("192.0.2.1", &good).await.is(200) {
        assert!(started.elapsed() < PATIENCE, "refilled in vain");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn o02_malformed_requests_count_and_missing_tokens_do_not() {
    let scene = scene("limits: { address_failures: 10/day }\n").await;
    for _ in 0..15 {
        let anonymous = Client::new(&scene.gateway.url("/wire/mcp")).call_tool("echo", json!({})).await;
        assert_eq!(anonymous.status, 401, "a client that only asks where to sign in is no attacker");
    }
    assert_eq!(scene.client().call_tool("echo", json!({})).await.status, 200);
    scene.upstream.forget();
    for _ in 0..10 {
        scene.refuses(400, scene.spoilt(GOOD, "Content-Length: 71", "Content-Length: 71, 71")).await;
    }
    assert_eq!(scene.client().call_tool("echo", json!({})).await.status, 429, "ten smuggling attempts are enough");
    scene.upstream.assert_silent();
}
