//! State that outlives the process, in the file of one machine.

mod crash;

use crate::signin::{self, Story};
use crate::support::gateway::Setup;
use crate::support::{Provider, Upstream};

/// A story whose state is kept in a file.
pub async fn kept(change: impl Fn(String) -> String) -> Story {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
    let setup = prepared(&change(signin::policy(&provider, &upstream)));
    Story { gateway: setup.start().await, provider, upstream }
}

/// The installation of these stories.
pub fn prepared(policy: &str) -> Setup {
    signin::prepared(policy)
        .installation("store: { file: state/portcullis.redb }\nencryption_keys: [{ env: SEAL }]\n")
        .file("state/.keep", "")
        .secret("SEAL", "seal-0123456789-0123456789-0123456789")
}

/// The same story after a crash of its gateway.
pub async fn crashed(story: Story) -> Story {
    let Story { gateway, provider, upstream } = story;
    Story { gateway: gateway.crash().await, provider, upstream }
}
