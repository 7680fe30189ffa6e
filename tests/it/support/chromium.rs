//! A real Chromium, driven by keyboard through `tests/sdk/browser.mjs`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use super::PATIENCE;
use super::process::node;

/// Where Debian puts it.
const PROGRAM: &str = "/usr/bin/chromium";

/// Where a tab is and what it shows.
#[derive(Debug, Clone)]
pub struct Shown(Value);

impl Shown {
    pub fn url(&self) -> &str {
        self.0["url"].as_str().unwrap_or_default()
    }

    pub fn status(&self) -> u64 {
        self.0["status"].as_u64().unwrap_or_default()
    }

    pub fn heading(&self) -> &str {
        self.0["heading"].as_str().unwrap_or_default()
    }

    /// Everything that a person reads.
    pub fn text(&self) -> &str {
        self.0["text"].as_str().unwrap_or_default()
    }

    /// Another member of the answer.
    pub fn member(&self, name: &str) -> &Value {
        &self.0[name]
    }
}

/// The browser; it ends when it is dropped.
#[derive(Debug)]
pub struct Chromium {
    wire: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _child: Child,
}

impl Chromium {
    /// A browser with an empty profile, that trusts what the system does.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same, whose person has imported the authority in this file.
    pub async fn trusting(authority: &Path) -> Self {
        Self::with(&["--trust", &authority.display().to_string()]).await
    }

    async fn with(options: &[&str]) -> Self {
        assert!(Path::new(PROGRAM).exists(), "Chromium is not installed: run `make test`, which says how");
        let mut command = Command::from(node("browser.mjs"));
        command.args(["--chromium", PROGRAM, "--pictures"]).arg(pictures()).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("node runs");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output")).lines();
        let chromium = Self { wire: Mutex::new((input, output)), _child: child };
        chromium.heard().await;
        chromium
    }

    async fn heard(&self) -> Value {
        let (_, output) = &mut *self.wire.lock().await;
        let line = tokio::time::timeout(3 * PATIENCE, output.next_line()).await.expect("Chromium answers");
        let line = line.expect("its output").expect("Chromium lives");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    }

    /// What became of a command; an error says what did not work.
    async fn asked(&self, command: Value) -> Result<Shown, String> {
        self.wire.lock().await.0.write_all(format!("{command}\n").as_bytes()).await.expect("its input");
        let answer = self.heard().await;
        if answer["ok"] == true { Ok(Shown(answer)) } else { Err(answer["error"].to_string()) }
    }

    /// Opens a tab.
    pub async fn tab(&self) -> Tab<'_> {
        let opened = self.asked(json!({"do": "open"})).await.expect("a tab");
        Tab { chromium: self, number: opened.member("tab").as_u64().expect("its number") }
    }
}

/// A tab of the browser.
#[derive(Debug, Clone, Copy)]
pub struct Tab<'a> {
    chromium: &'a Chromium,
    number: u64,
}

impl Tab<'_> {
    async fn ask(&self, mut command: Value) -> Result<Shown, String> {
        command["tab"] = self.number.into();
        self.chromium.asked(command).await
    }

    /// The same for what must work and must not upset the browser: no error on its console.
    async fn does(&self, command: Value) -> Shown {
        let shown = self.ask(command.clone()).await.unwrap_or_else(|error| panic!("{command}: {error}"));
        assert_eq!(*shown.member("problems"), json!([]), "{command}: {shown:#?}");
        shown
    }

    /// Goes to an address.
    pub async fn go(&self, url: &str) -> Shown {
        self.does(json!({"do": "go", "url": url})).await
    }

    /// The same for an address that the browser must refuse; gives its word for why.
    pub async fn refuses(&self, url: &str) -> String {
        self.ask(json!({"do": "go", "url": url})).await.expect_err("an address that is refused")
    }

    /// Goes back.
    pub async fn back(&self) -> Shown {
        self.does(json!({"do": "back"})).await
    }

    /// Presses Tab until the focus is on what is called so; whoever has it on the way must show it.
    pub async fn reach(&self, name: &str) {
        self.does(json!({"do": "reach", "name": name})).await;
    }

    /// Presses Tab until the focus is on the button that is called so, and Enter.
    pub async fn choose(&self, name: &str) -> Shown {
        self.reach(name).await;
        self.enter().await
    }

    /// Types into the field that is called so.
    pub async fn fill(&self, name: &str, text: &str) {
        self.reach(name).await;
        self.does(json!({"do": "write", "text": text})).await;
    }

    /// Presses Enter, and waits for the page that it leads to.
    pub async fn enter(&self) -> Shown {
        self.does(json!({"do": "press", "key": "Enter", "leaves": true})).await
    }

    /// Judges the page in two sizes and both colour schemes, and takes its pictures under this name.
    pub async fn looks_right(&self, name: &str) {
        let shown = self.does(json!({"do": "look", "name": name})).await;
        assert_eq!(*shown.member("found"), json!([]), "{name}: axe-core, or what is wider than its place");
    }

    /// Tries what an attacker would who got words into the page: nothing works, and the browser says that its content
    /// security policy is why.
    pub async fn stands_tampering(&self) {
        let shown = self.does(json!({"do": "tamper"})).await;
        assert_eq!(*shown.member("worked"), json!([]), "{shown:#?}");
        assert!(shown.member("stopped").as_u64() >= Some(5), "{shown:#?}");
    }

    /// The cookies of the browser.
    pub async fn cookies(&self) -> Vec<Value> {
        let shown = self.does(json!({"do": "cookies"})).await;
        shown.member("cookies").as_array().cloned().unwrap_or_default()
    }
}

/// Where the pictures of pages go: beside what was built.
pub fn pictures() -> PathBuf {
    let built = Path::new(super::gateway::BINARY).ancestors().nth(2).expect("the target directory");
    built.join("pages")
}
