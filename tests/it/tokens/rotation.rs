//! Shared secrets, several at once, changed under load in the order of a careful operator.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{INSTALLATION, Scene, until};
use crate::support::issuer::{merged, now};
use crate::support::{Client, Gateway, Key, Upstream, eventually};

const OLD: &[u8] = b"old-Qm9vZ2llIG5pZ2h0cyBhcmUgYmV0dGVyIHRoYW4gbm8gbmlnaHRz";
const NEW: &[u8] = b"new-VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIGEgZG9nIDEyMw";
const NEXT: &[u8] = b"next-TG9yZW0gaXBzdW0gZG9sb3Igc2l0IGFtZXQgY29uc2VjdGV0dXIgOTg3";

fn policy(upstream: &Upstream, secrets: &str) -> String {
    format!(
        r#"
service: main
route: {{ path: /main/mcp }}
upstream: {{ url: "{}" }}
providers: {{ own: {{ hmac: {{ issuer: "https://own.example.com", algorithms: [HS256, HS384], secrets: [{secrets}] }} }} }}
authentication: {{ providers: [own] }}
rules: [{{ allow: {{ tools: [echo] }} }}]
"#,
        upstream.url("/mcp")
    )
}

fn sign(key: Key, audience: &str, changes: Value) -> String {
    let claims = json!({"iss": "https://own.example.com", "aud": audience, "sub": "alice", "exp": now() + 600});
    let header = json!({"alg": key.algorithm(), "typ": "JWT"}).to_string();
    key.sign(header.as_bytes(), merged(claims, changes).to_string().as_bytes())
}

/// A whole new file in one step, as orchestrators write secrets.
fn put(path: &Path, secret: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, secret).expect("a file beside");
    std::fs::rename(beside, path).expect("a file in its place");
}

/// Calls that go on and on with tokens of one secret; how many passed, and every answer that was none.
struct Load {
    passed: Arc<AtomicUsize>,
    failed: Arc<std::sync::Mutex<Vec<u16>>>,
    going: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    /// `sign` makes the token of each number.
    fn start(url: &str, sign: impl Fn(usize) -> String + Send + 'static) -> Self {
        let (passed, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(Vec::new())));
        let going = Arc::new(AtomicBool::new(true));
        let (count, wrong, goes, url) = (Arc::clone(&passed), Arc::clone(&failed), Arc::clone(&going), url.to_owned());
        let task = tokio::spawn(async move {
            let mut number = 0;
            while goes.load(Ordering::SeqCst) {
                // Every second token is new, so that both what is known and what must be verified are under load.
                let token = sign(number / 2);
                let status = Client::new(&url).token(&token).call_tool("echo", json!({})).await.status;
                if status == 200 {
                    count.fetch_add(1, Ordering::SeqCst);
                } else {
                    wrong.lock().expect("the answers").push(status);
                }
                number += 1;
            }
        });
        Self { passed, failed, going, task }
    }

    /// Waits until so many more have passed.
    async fn more(&self, calls: usize) {
        let wanted = self.passed.load(Ordering::SeqCst) + calls;
        eventually("calls to pass", || (self.passed.load(Ordering::SeqCst) >= wanted).then_some(())).await;
    }

    async fn end(self) -> (usize, Vec<u16>) {
        self.going.store(false, Ordering::SeqCst);
        self.task.await.expect("the load");
        let failed = self.failed.lock().expect("the answers").clone();
        (self.passed.load(Ordering::SeqCst), failed)
    }
}

/// Tokens of one secret, each with an id of its own.
fn numbered(key: Key, url: &str) -> impl Fn(usize) -> String + Send + 'static {
    let url = url.to_owned();
    move |number| sign(key, &url, json!({"jti": number.to_string(), "exp": 4_102_444_800_u64}))
}

#[tokio::test]
async fn a01_each_of_several_secrets_verifies_with_each_algorithm_and_no_other_does() {
    let upstream = Upstream::mcp(&["echo"]).await;
    let setup = Gateway::new()
        .installation(INSTALLATION)
        .policy("main", &policy(&upstream, "{ file: ../old }, { file: ../new }"))
        .file("old", std::str::from_utf8(OLD).expect("text"))
        .file("new", std::str::from_utf8(NEW).expect("text"));
    let gateway = setup.start().await;
    let url = gateway.url("/main/mcp");
    let status = async |token: String| Client::new(&url).token(&token).call_tool("echo", json!({})).await.status;
    for key in [Key::Hs256(NEXT), Key::Hs384(NEXT), Key::Hs512(OLD), Key::Hs256(b""), Key::Hs256(&OLD[..32])] {
        assert_eq!(status(sign(key, &url, json!({}))).await, 401, "{}", key.algorithm());
    }
    upstream.assert_silent();
    for key in [Key::Hs256(OLD), Key::Hs256(NEW), Key::Hs384(OLD), Key::Hs384(NEW)] {
        assert_eq!(status(sign(key, &url, json!({}))).await, 200, "{}", key.algorithm());
    }
    assert_eq!(upstream.received().len(), 4);
}

#[tokio::test]
async fn n10_a_secret_is_rotated_under_load_without_one_failure() {
    let upstream = Upstream::mcp(&["echo"]).await;
    let setup = Gateway::new()
        .installation(INSTALLATION)
        .policy("main", &policy(&upstream, "{ file: ../old }"))
        .file("old", std::str::from_utf8(OLD).expect("text"));
    let gateway = setup.start().await;
    let url = gateway.url("/main/mcp");
    let (old, new) = (sign(Key::Hs256(OLD), &url, json!({})), sign(Key::Hs256(NEW), &url, json!({})));
    let load = Load::start(&url, numbered(Key::Hs256(OLD), &url));
    load.more(50).await;
    assert_eq!(Client::new(&url).token(&new).call_tool("echo", json!({})).await.status, 401, "not yet");

    // The new secret is there before the policy names it, and it is accepted before anybody signs with it.
    put(&gateway.directory().join("new"), NEW);
    gateway.write_policy("main", &policy(&upstream, "{ file: ../old }, { file: ../new }"));
    until(&url, &new, 200).await;
    load.more(50).await;
    let signers = Load::start(&url, numbered(Key::Hs256(NEW), &url));
    signers.more(50).await;
    let (passed, failed) = load.end().await;
    assert!(failed.is_empty(), "the old secret serves until it is taken away: {passed} passed, {failed:?}");

    // Nobody signs with the old one any more: it goes from the policy first, then from the disk.
    gateway.write_policy("main", &policy(&upstream, "{ file: ../new }"));
    until(&url, &old, 401).await;
    std::fs::remove_file(gateway.directory().join("old")).expect("the old secret");
    signers.more(50).await;

    // A file that is replaced in place is read anew, as a mounted secret is.
    let next = sign(Key::Hs256(NEXT), &url, json!({}));
    let (passed, failed) = signers.end().await;
    assert!(failed.is_empty(), "the new secret serves from its first token on: {passed} passed, {failed:?}");
    put(&gateway.directory().join("new"), NEXT);
    until(&url, &next, 200).await;
    upstream.forget();
    for (case, token) in [("old", &old), ("new", &new)] {
        let status = Client::new(&url).token(token).call_tool("echo", json!({})).await.status;
        assert_eq!(status, 401, "the {case} secret is history, although its token was known");
    }
    upstream.assert_silent();
    assert!(passed >= 100, "the load was one: {passed}");
    let printed = gateway.printed();
    for secret in [OLD, NEW, NEXT] {
        assert!(!printed.contains(std::str::from_utf8(secret).expect("text")), "no secret is printed");
    }
}

#[tokio::test]
async fn j04_a_published_key_is_rotated_under_load_without_one_failure() {
    let scene = Scene::with(&[("old", Key::Es256)], |scenery| {
        let provider = scenery.oidc(", keys: { refresh: 1s, cool_down: 1s }");
        scenery.service("main", &provider, "", "")
    })
    .await;
    let (url, claims) = (scene.url("main"), scene.claims());
    let numbered = |kid: &'static str, key: Key| {
        let claims = claims.clone();
        move |number: usize| {
            let header = json!({"alg": key.algorithm(), "typ": "at+jwt", "kid": kid}).to_string();
            let claims = merged(claims.clone(), json!({"jti": number.to_string()}));
            key.sign(header.as_bytes(), claims.to_string().as_bytes())
        }
    };
    let (old, new) = (numbered("old", Key::Es256), numbered("new", Key::EdDsa));
    let (an_old_one, a_new_one) = (old(0), new(0));
    let load = Load::start(&url, old);
    load.more(50).await;

    // The issuer publishes the new key beside the old one, then signs with it: its first token finds it.
    scene.issuer.rotate(&[("old", Key::Es256), ("new", Key::EdDsa)]);
    let signers = Load::start(&url, new);
    signers.more(50).await;
    load.more(50).await;
    let (passed, failed) = load.end().await;
    assert!(failed.is_empty(), "the old key serves as long as it is published: {passed} passed, {failed:?}");

    scene.issuer.rotate(&[("new", Key::EdDsa)]);
    until(&url, &an_old_one, 401).await;
    signers.more(50).await;
    let (passed, failed) = signers.end().await;
    assert!(failed.is_empty(), "the new key serves from its first token on: {passed} passed, {failed:?}");
    scene.upstream.forget();
    scene.refuses("a token of the old key, which was known", &an_old_one, &["key-unknown"]).await;
    scene.accepts("a token of the new key", &a_new_one).await;
}
