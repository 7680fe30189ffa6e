//! `portcullis revoke`: in force everywhere within five seconds, and lifted as fast.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{command, kept, said};
use crate::own;
use crate::signin::{error, json as read};
use crate::support::client::End;
use crate::support::upstream::Request;
use crate::support::{Answer, Browser, Client, Gateway, Issuer, Key, Upstream};

/// What is promised.
const PROMISED: Duration = Duration::from_secs(5);
/// What a busy machine may need besides.
const SLACK: Duration = Duration::from_secs(10);

/// Runs a command of an operator, which must succeed.
fn operate(gateway: &Gateway, arguments: &[&str], input: &str) -> String {
    let output = command(gateway.directory(), arguments, input);
    let said = said(&output);
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

async fn status(client: &Client) -> u16 {
    client.call_tool("read", json!({})).await.status
}

/// Streams for ever, whatever is asked.
fn streams(request: &Request) -> Answer {
    if request.json()["params"]["name"] == "read" {
        return Answer::json(&json!({ "jsonrpc": "2.0", "id": request.json()["id"], "result": { "content": [] } }));
    }
    let event = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "data": "first" } });
    Answer::sse(&[event], Duration::ZERO).then_waits()
}

fn watch() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "watch", "arguments": {} } })
}

const LEGACY: (&str, &str) = ("mcp-protocol-version", "2025-11-25");
const INSTALLATION: &str = "store: memory\ncontrol_socket: control.sock\n";

#[tokio::test]
async fn h10_m04_an_operator_revokes_what_a_provider_vouches_for() {
    let upstream = Upstream::start(streams).await;
    let policy = own::policy("story", &upstream, &own::allow("read, watch"));
    let gateway = own::setup().installation(INSTALLATION).policy("story", &policy).start().await;
    let url = gateway.url("/story/mcp");
    let (alices, bobs) = (json!({ "sid": "s-1", "jti": "a" }), json!({ "sub": "bob", "client_id": "cursor" }));
    let token = own::token(&url, alices);
    let (alice, bob) = (Client::new(&url).token(&token), own::client(&gateway, "story", bobs));
    let name = |record: &Value| record["token"].as_str().filter(|name| name.len() == 16).map(str::to_owned);
    assert_eq!(status(&alice).await, 200);
    let logged = gateway.wait_for_log(|record| name(record).is_some()).await;
    let logged = name(&logged).expect("the token's name");

    let issuer = ["--issuer", own::ISSUER];
    let cases: [(&str, Vec<&str>, &str); 6] = [
        ("a subject", [&["subject", "alice"], issuer.as_slice()].concat(), ""),
        ("a client", [&["client", "claude"], issuer.as_slice()].concat(), ""),
        ("a session", [&["session", "--id", "s-1"], issuer.as_slice()].concat(), ""),
        ("a session by a token", vec!["session", "--stdin"], &token),
        ("a token", vec!["token", "--name", &logged], ""),
        ("a token itself", vec!["token", "--stdin"], &token),
    ];
    for (what, words, input) in cases {
        assert_eq!(status(&alice).await, 200, "{what}: before");
        let mut ending = alice.open_call(&[LEGACY], &watch()).await;
        let mut lasting = bob.open_call(&[LEGACY], &watch()).await;
        ending.until("first").await;
        lasting.until("first").await;
        let said = operate(&gateway, &[&["revoke"], words.as_slice(), &["."]].concat(), input);
        assert!(said.contains("revoked ") && said.contains("after a restart"), "{what}: {said}");
        assert!(!said.contains(&token), "{what}: the token is not said");
        let revoked = Instant::now();
        upstream.forget();
        assert_eq!(status(&alice).await, 401, "{what}: at once, although the token was in the cache");
        upstream.assert_silent();
        assert_eq!(status(&bob).await, 200, "{what}: and nobody else");
        assert_eq!(ending.end().await, End::Orderly, "{what}: its stream ends");
        assert!(revoked.elapsed() < PROMISED + SLACK, "{what}: {:?}", revoked.elapsed());
        let listed = operate(&gateway, &["revoke", "list", "."], "");
        assert_eq!(listed.lines().count(), 1, "{what}: {listed}");
        operate(&gateway, &[&["unrevoke"], words.as_slice(), &["."]].concat(), input);
        assert_eq!(status(&alice).await, 200, "{what}: lifted");
        assert_eq!(operate(&gateway, &["revoke", "list", "."], ""), "", "{what}");
        lasting.text.clear();
        assert!(
            tokio::time::timeout(Duration::from_millis(200), lasting.end()).await.is_err(),
            "{what}: bob's stream lasts"
        );
    }
    gateway.wait_for_log(|record| record["reason"] == "revoked" && record["status"] == 401).await;
    assert!(!gateway.printed().contains(&token), "no token in any log");

    let other = command(gateway.directory(), &["unrevoke", "subject", "alice", "--issuer", own::ISSUER, "."], "");
    assert!(!other.status.success() && said(&other).contains("was not revoked"), "{}", said(&other));
    let clear = command(gateway.directory(), &["revoke", "token", "--name", &token, "."], "");
    assert!(!clear.status.success(), "a token in clear is no argument");
    operate(&gateway, &["revoke", "subject", "alice", "--issuer", "https://elsewhere.example.com", "."], "");
    assert_eq!(status(&alice).await, 200, "a name means something with its issuer only");
    operate(&gateway, &["revoke", "subject", "alice", "--issuer", own::ISSUER, "--for", "2s", "."], "");
    assert_eq!(status(&alice).await, 401);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(status(&alice).await, 200, "for its time");
    operate(&gateway, &["revoke", "subject", "alice", "--issuer", own::ISSUER, "--issued-until-now", "."], "");
    assert_eq!(status(&alice).await, 401);
    let later = own::client(&gateway, "story", json!({ "iat": crate::support::issuer::now() + 3 }));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(status(&later).await, 200, "what was issued since is good");
}

#[tokio::test]
async fn a05_h10_the_other_signature_of_a_revoked_token_is_revoked_too() {
    let (upstream, issuer) = (Upstream::mcp(&["read"]).await, Issuer::publishing(&[("es256", Key::Es256)]).await);
    let policy = format!(
        "service: story\nroute: {{ path: /story/mcp }}\nupstream: {{ url: \"{}\" }}\n\
         providers: {{ corp: {{ oidc: {{ issuer: \"{}\", algorithms: [ES256] }} }} }}\nauthentication: {{ providers: [corp] }}\n\
         rules: [{{ allow: {{ tools: [read] }} }}]\n",
        upstream.url("/mcp"),
        issuer.url()
    );
    let gateway = Gateway::new().installation(INSTALLATION).policy("story", &policy).start().await;
    let url = gateway.url("/story/mcp");
    let token = issuer.token(&url, json!({}));
    let twin = portcullis::oauth::jws::twin(&token).expect("the same token with its other signature");
    let clients = [&token, &twin].map(|token| Client::new(&url).token(token));
    for revoked in [&token, &twin] {
        for client in &clients {
            assert_eq!(status(client).await, 200, "both are good, for the issuer has signed what they say");
        }
        operate(&gateway, &["revoke", "token", "--stdin", "."], revoked);
        upstream.forget();
        for client in &clients {
            assert_eq!(status(client).await, 401, "whoever holds one has the other");
        }
        upstream.assert_silent();
        operate(&gateway, &["unrevoke", "token", "--stdin", "."], revoked);
    }
}

#[tokio::test]
async fn h10_whoever_sends_a_body_slowly_is_looked_at_again_when_it_is_whole() {
    let upstream = Upstream::mcp(&["read"]).await;
    let policy = own::policy("story", &upstream, &own::allow("read"));
    let gateway = own::setup().installation(INSTALLATION).policy("story", &policy).start().await;
    let token = own::token(&gateway.url("/story/mcp"), json!({}));
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read"}}).to_string();
    let (first, rest) = body.split_at(9);
    let head = format!(
        "POST /story/mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{first}",
        gateway.address(),
        body.len()
    );
    for (revoked, status) in [(false, "200"), (true, "401")] {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("a head");
        tokio::time::sleep(Duration::from_secs(3)).await;
        if revoked {
            operate(&gateway, &["revoke", "token", "--stdin", "."], &token);
        }
        stream.write_all(rest.as_bytes()).await.expect("the rest of a body");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(upstream.received().len(), 1, "the first alone reached the server");
    }
}

#[tokio::test]
async fn h10_an_operator_ends_what_the_gateway_issued_and_it_stays_ended() {
    let story = kept(|policy| policy).await;
    let tokens = story.tokens().await;
    let token = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let (access, refresh) = (token("access_token"), token("refresh_token"));
    let subject = crate::signin::claims(&tokens["access_token"])["sub"].as_str().expect("a subject").to_owned();
    let service =
        [("grant_type", "client_credentials"), ("client_id", "ci"), ("client_secret", crate::signin::CI_SECRET)];
    let service = read(&story.token(&service).await)["access_token"].as_str().expect("a token").to_owned();
    assert_eq!((story.call("read", &access).await, story.call("read", &service).await), (200, 200));
    let issuer = story.issuer();
    let said = operate(&story.gateway, &["revoke", "subject", &subject, "--issuer", &issuer, "."], "");
    assert!(said.contains("until it is lifted") && !said.contains("after a restart"), "{said}");
    let story = super::crashed(story).await;
    story.upstream.forget();
    assert_eq!(story.call("read", &access).await, 401, "after a restart too");
    assert_eq!(error(&story.refresh(&refresh).await), "invalid_grant");
    story.upstream.assert_silent();
    assert_eq!(story.call("read", &service).await, 200, "a machine goes on");
    let page = story.sign_in(&Browser::new(), &[]).await;
    let code = page.parameter("code").expect("a code");
    assert_eq!(error(&story.redeem(&code).await), "invalid_grant", "nothing new is issued");

    // Without a gateway the command works on the file; the next one that starts knows.
    operate(&story.gateway, &["unrevoke", "subject", &subject, "--issuer", &issuer, "."], "");
    assert_eq!(story.call("read", &access).await, 200);
    let crate::signin::Story { gateway, provider, upstream } = story;
    let gateway = gateway
        .crash_with(|setup| {
            let words = ["revoke", "client", "desk", "--issuer", &issuer, "."];
            let output = command(setup.directory(), &words, "");
            assert!(output.status.success(), "{}", super::said(&output));
            setup
        })
        .await;
    let story = crate::signin::Story { gateway, provider, upstream };
    crate::support::eventually("the revocation to be read", || {
        story.gateway.printed().contains("listening=").then_some(())
    })
    .await;
    let began = Instant::now();
    while story.call("read", &access).await != 401 {
        assert!(began.elapsed() < PROMISED + SLACK, "it is read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(story.call("read", &service).await, 200, "another client goes on");
}

#[tokio::test]
async fn h10_whoever_asks_about_a_token_that_an_operator_has_revoked_is_told_so() {
    let story = kept(|policy| policy).await;
    let secret = crate::signin::CI_SECRET;
    let asks = [("grant_type", "client_credentials"), ("client_id", "ci"), ("client_secret", secret)];
    let token = read(&story.token(&asks).await)["access_token"].as_str().expect("a token").to_owned();
    let asks = [("token", token.as_str()), ("client_id", "ci"), ("client_secret", secret)];
    let endpoint = format!("{}/introspect", story.issuer());
    let active = async || read(&Browser::new().submit_with(&endpoint, &asks, &[]).await)["active"].clone();
    assert_eq!((active().await, story.call("read", &token).await), (json!(true), 200));
    story.upstream.forget();
    operate(&story.gateway, &["revoke", "token", "--stdin", "."], &token);
    assert_eq!((active().await, story.call("read", &token).await), (json!(false), 401));
    story.upstream.assert_silent();
    operate(&story.gateway, &["unrevoke", "token", "--stdin", "."], &token);
    assert_eq!((active().await, story.call("read", &token).await), (json!(true), 200));
}

#[tokio::test]
async fn without_a_gateway_to_reach_the_command_says_so() {
    let upstream = Upstream::start(streams).await;
    let policy = own::policy("story", &upstream, &own::allow("read"));
    let words = ["revoke", "subject", "alice", "--issuer", own::ISSUER, "."];
    let setup = own::setup().installation("store: memory\n").policy("story", &policy);
    let output = command(setup.directory(), &words, "");
    assert!(
        !output.status.success() && said(&output).contains("control_socket: run/portcullis.sock"),
        "{}",
        said(&output)
    );
    let setup = setup.installation(INSTALLATION);
    let output = command(setup.directory(), &words, "");
    assert!(!output.status.success() && said(&output).contains("start it"), "{}", said(&output));
    let gateway = setup.start().await;
    let mode = std::fs::metadata(gateway.directory().join("control.sock")).expect("the socket").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    operate(&gateway, &words, "");
    // A socket that a crash left is taken over.
    let gateway = gateway.crash().await;
    assert_eq!(operate(&gateway, &["revoke", "list", "."], ""), "", "memory forgets, as was said");
}
