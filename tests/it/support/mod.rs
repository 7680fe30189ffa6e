//! The cast of every story: a [`Gateway`] under test, an [`Upstream`] that remembers what reached it, an [`Issuer`] that
//! signs anything it is asked to, and a [`Client`] that says exactly what it is told.

pub mod authority;
pub mod browser;
pub mod chromium;
pub mod client;
pub mod gateway;
pub mod github;
pub mod introspector;
pub mod issuer;
pub mod keys;
pub mod process;
pub mod provider;
pub mod recorded;
#[path = "../../../src/stores/redis/testing.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it serves the store's own tests too")]
pub mod redis;
pub mod relay;
pub mod token_endpoint;
pub mod upstream;

pub use browser::{Browser, Page};
pub use chromium::Chromium;
pub use client::{Client, Era, raw};
pub use gateway::Gateway;
pub use introspector::Introspector;
pub use issuer::Issuer;
pub use keys::Key;
pub use provider::Provider;
pub use recorded::{Recorded, recording};
pub use redis::Server as Redis;
pub use relay::{Fault, Relay};
pub use token_endpoint::TokenEndpoint;
pub use upstream::{Answer, Upstream};

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. The machine may be busy; no test measures with this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer; panics with `what` when patience ends.
pub async fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask).await
}

/// The same with a patience of choice.
pub async fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < patience, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
