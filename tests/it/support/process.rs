//! Real processes of the official SDKs: servers that say where they listen, clients that print one JSON line a step.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use super::PATIENCE;

/// `tests/sdk`, where the scripts and their packages are.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// A Node script of `tests/sdk`.
pub fn node(script: &str) -> Command {
    let home = scripts();
    assert!(home.join("node_modules").is_dir(), "the SDKs are not installed: run `make test`, which installs them");
    let mut command = Command::new("node");
    command.arg(home.join(script));
    command
}

/// A Python script of `tests/sdk`, run by the interpreter that `make test` prepared and named in `SDK_PYTHON`.
pub fn python(script: &str) -> Command {
    let interpreter = std::env::var("SDK_PYTHON").expect("SDK_PYTHON is not set: run `make test`, which sets it");
    let mut command = Command::new(interpreter);
    command.arg(scripts().join(script));
    command
}

/// Runs a client to its end; each line it printed is one step.
pub async fn steps(mut command: Command) -> Vec<Value> {
    let run = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().expect("the client runs"));
    let output = tokio::time::timeout(3 * PATIENCE, run).await.expect("the client ends").expect("the client's output");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the client failed: {complaint}");
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}\n{complaint}")))
        .collect()
}

/// Runs a client to its end; wherever it would open a browser it prints `{"browse": URL}`, and `browse` goes there. The
/// other lines that it printed are its steps.
pub async fn browsing(mut command: Command, browse: impl AsyncFn(&str)) -> Vec<Value> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the client runs");
    let mut child = Ended(child);
    let lines = BufReader::new(child.0.stdout.take().expect("its output")).lines();
    let (say, mut hear) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
    let mut said = Vec::new();
    while let Some(line) = tokio::time::timeout(3 * PATIENCE, hear.recv()).await.expect("the client goes on") {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        match line["browse"].as_str() {
            Some(url) => browse(url).await,
            None => said.push(line),
        }
    }
    assert!(child.0.wait().expect("its end").success(), "the client failed: {said:#?}");
    said
}

/// Runs a client to its end that tells a person on standard error where to go; `browse` goes there. Gives its exit code
/// and what it said last in JSON.
pub async fn navigating(mut command: Command, browse: impl AsyncFn(&str)) -> (Option<i32>, Value) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Ended(command.spawn().expect("the client runs"));
    let (say, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let outputs: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(child.0.stdout.take().expect("its output")), Box::new(child.0.stderr.take().expect("its errors"))];
    for output in outputs {
        let say = say.clone();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
    }
    drop(say);
    let mut said = Value::Null;
    while let Some(line) = tokio::time::timeout(3 * PATIENCE, hear.recv()).await.expect("the client goes on") {
        match line.strip_prefix("Please navigate to: ") {
            Some(url) => browse(url).await,
            None => said = serde_json::from_str(&line).unwrap_or(said),
        }
    }
    (child.0.wait().expect("its end").code(), said)
}

/// A client that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An official MCP server in a process of its own, with the file in which it records every request.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
    record: tempfile::TempDir,
}

impl Server {
    /// A server on the official TypeScript SDK that speaks both eras; `mode` is `json` or `sse`.
    pub fn dual_era(mode: &str) -> Self {
        let mut command = node("dual-era-server.mjs");
        command.args(["--mode", mode]);
        Self::start(command)
    }

    /// `@modelcontextprotocol/server-everything` behind a recording proxy.
    pub fn everything() -> Self {
        let mut command = node("witness-proxy.mjs");
        command.arg("--everything");
        Self::start(command)
    }

    /// A certified OpenID provider whose one client has this redirect URI and secret; it records the tokens it issues.
    pub fn openid_provider(redirect: &str, secret: &str, more: &[&str]) -> Self {
        let mut command = node("openid-provider.mjs");
        command.args(["--redirect", redirect, "--secret", secret]).args(more).stderr(Stdio::null());
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let record = tempfile::tempdir().expect("a temporary directory");
        command.arg("--record").arg(record.path().join("requests"));
        // The server ends when its standard input closes, and that happens however this process ends.
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node runs");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (say, hear) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        let first = hear.recv_timeout(PATIENCE).expect("the server says where it listens");
        let url = first.strip_prefix("listening=").unwrap_or_else(|| panic!("unexpected: {first}")).to_owned();
        Self { child, url, record }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every HTTP request that reached the server, as it wrote them down. A line without its end is still being written.
    pub fn received(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.record.path().join("requests")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).expect("a line of the record")).collect()
    }

    /// The JSON-RPC messages with this method that reached the server.
    pub fn messages(&self, method: &str) -> Vec<Value> {
        let bodies = self.received().into_iter().filter_map(|seen| seen["body"].as_str().map(str::to_owned));
        let messages = bodies.filter_map(|body| serde_json::from_str::<Value>(&body).ok());
        messages.filter(|message| message["method"] == method).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The closed input ends it and what it started; the kill is for a server that hangs.
        drop(self.child.stdin.take());
        for _ in 0..100 {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
