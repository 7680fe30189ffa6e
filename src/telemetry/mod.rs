//! What the gateway tells: the audit record of every request, and events for people.
//!
//! Neither knows a token: a token is named by the start of its SHA-256.

pub mod audit;
pub mod sink;

use tracing_subscriber::EnvFilter;

/// Starts event logging to standard error as JSON lines. `RUST_LOG` chooses the level; the default is `info`, with the
/// proxy library's own connection chatter left out.
pub fn start_events() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,pingora_core=error,pingora_proxy=error,hickory_resolver=error"));
    let subscriber = tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_env_filter(filter).finish();
    // A second start in one process (tests) keeps the first subscriber; nothing is lost by that.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        tracing::debug!("event log started");
    }
}
