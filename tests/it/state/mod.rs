//! State that outlives the process, in the file of one machine, and what an operator does with it.

mod commands;
mod crash;
mod loss;
mod revoke;
mod tasks;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::signin::{self, Story};
use crate::support::gateway::{BINARY, Setup};
use crate::support::{Provider, Upstream};

/// The secret that seals.
pub const SEAL: &str = "seal-0123456789-0123456789-0123456789";
/// The installation of these stories.
pub const INSTALLATION: &str = "store: { file: state/portcullis.redb }\nencryption_keys: [{ env: SEAL }]\n";

/// A story whose state is kept in a file.
pub async fn kept(change: impl Fn(String) -> String) -> Story {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
    let setup = prepared(&change(signin::policy(&provider, &upstream)));
    Story { gateway: setup.start().await, provider, upstream }
}

pub fn prepared(policy: &str) -> Setup {
    signin::prepared(policy).installation(INSTALLATION).file("state/.keep", "").secret("SEAL", SEAL)
}

/// The same story after a crash of its gateway.
pub async fn crashed(story: Story) -> Story {
    let Story { gateway, provider, upstream } = story;
    Story { gateway: gateway.crash().await, provider, upstream }
}

/// A command of an operator in the directory of an installation.
pub fn command(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .current_dir(directory)
        .env("SEAL", SEAL)
        .env("NEW_SEAL", "new-seal-0123456789-0123456789-0123456789");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // It need not read what it does not ask for.
    drop(child.stdin.take().expect("its input").write_all(input.as_bytes()));
    child.wait_with_output().expect("its end")
}

/// Everything that a command said.
pub fn said(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat()
}
