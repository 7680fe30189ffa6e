//! What happens while it runs: files change, break, vanish and come back, and requests go on.

mod files;
mod load;
mod meaning;
mod owners;
mod reloader;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::own;
use crate::support::{Client, Gateway, PATIENCE, Upstream};

/// The promise of the documentation, that an edit is served within two seconds, three times over: the machine may be busy.
pub const EFFECTIVE: Duration = Duration::from_secs(6);

/// Calls `tool` until the status is the one wanted, which must be within the promise.
pub async fn soon(client: &Client, tool: &str, wanted: u16, after: &str) {
    let started = Instant::now();
    loop {
        let status = client.call_tool(tool, json!({})).await.status;
        if status == wanted {
            break;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "after {after}: `{tool}` still answers {status}, and {wanted} was wanted"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = started.elapsed();
    assert!(took < EFFECTIVE, "after {after}: effective only after {took:?}");
}

/// The status of one call.
pub async fn status(client: &Client, tool: &str) -> u16 {
    client.call_tool(tool, json!({})).await.status
}

/// One call is refused, and the upstream hears nothing of it.
pub async fn refused(client: &Client, upstream: &Upstream, tool: &str, wanted: u16, why: &str) {
    upstream.forget();
    assert_eq!(status(client, tool).await, wanted, "{why}");
    upstream.assert_silent();
}

/// Waits for one more `policy-error` than there were, in a record that mentions `word`.
pub async fn wait_for_complaint(gateway: &Gateway, before: usize, word: &str) -> Value {
    gateway.wait_for_log(|_| complaints(gateway, word) > before).await;
    gateway.log().into_iter().rev().find(|record| is_complaint(record, word)).expect("the complaint that was counted")
}

/// How often the log has complained about `word`.
pub fn complaints(gateway: &Gateway, word: &str) -> usize {
    gateway.log().iter().filter(|record| is_complaint(record, word)).count()
}

fn is_complaint(record: &Value, word: &str) -> bool {
    record["fields"]["event"] == "policy-error" && record.to_string().contains(word)
}

/// Somebody who goes on calling a tool that is always allowed, and remembers every answer that was not 200.
pub struct Regular {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<u16>)>,
}

impl Regular {
    pub fn calls(gateway: &Gateway, service: &str, tool: &'static str) -> Self {
        let client = own::client(gateway, service, json!({"sub": "regular"}));
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut calls, mut refused) = (0, Vec::new());
            while !until.load(Ordering::Relaxed) {
                calls += 1;
                refused.extend(Some(status(&client, tool).await).filter(|status| *status != 200));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (calls, refused)
        });
        Self { stop, task }
    }

    /// Asserts that every call was answered well.
    pub async fn was_always_served(self, during: &str) {
        let refused = self.refused().await;
        assert!(refused.is_empty(), "during {during} some calls were refused: {refused:?}");
    }

    /// What was answered to calls that were refused.
    pub async fn refused(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        let (calls, refused) = self.task.await.expect("the regular ends");
        assert!(calls > 0, "it called at all");
        refused
    }
}

/// Two services, `story` and `neighbour`, with one provider in `portcullis.yaml`.
pub async fn two_services(rest: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let gateway = own::setup()
        .installation(&format!("{}\n{rest}\n", own::PROVIDER))
        .policy("story", &own::bare("story", &upstream, &own::allow("a")))
        .policy("neighbour", &own::bare("neighbour", &upstream, &own::allow("a")))
        .start()
        .await;
    (upstream, gateway)
}
