//! `portcullis demo` as a reader of the README meets it: start, paste the lines, edit the policy, Ctrl-C.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::Reply;
use crate::support::gateway::BINARY;
use crate::support::{Browser, Chromium, Client, Era, PATIENCE, Page, eventually};

/// The promise of the documentation: an edit is served within two seconds.
const EFFECTIVE: Duration = Duration::from_secs(2);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free loopback port").port()
}

/// The repository's demo policy with its server on this port.
fn policy_on(folder: &Path, port: u16) -> PathBuf {
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/demo.yaml");
    let text = std::fs::read_to_string(written).expect("the demo's policy");
    let file = folder.join("demo.yaml");
    std::fs::write(&file, text.replace("127.0.0.1:9000", &format!("127.0.0.1:{port}"))).expect("a copy");
    file
}

struct Demo {
    child: Child,
    said: Arc<Mutex<String>>,
    explained: Arc<Mutex<String>>,
    listen: u16,
}

fn collected(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let all = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&all);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut all = into.lock().expect("what was said");
            all.push_str(&line);
            all.push('\n');
        }
    });
    all
}

impl Demo {
    fn start(policy: Option<&Path>) -> Self {
        let listen = free_port();
        let mut command = Command::new(BINARY);
        command.args(["demo", "--listen", &format!("127.0.0.1:{listen}")]);
        command.args(policy.into_iter().flat_map(|policy| [Path::new("--policy"), policy]));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo runs");
        let said = collected(child.stdout.take().expect("its output"));
        let explained = collected(child.stderr.take().expect("its errors"));
        Self { child, said, explained, listen }
    }

    async fn value(&self, key: &str) -> String {
        let prefix = format!("{key}=");
        let said = || {
            let said = self.said.lock().expect("what was said");
            said.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
        };
        eventually(key, said).await
    }

    /// Everything that it explains.
    async fn explained(&self) -> String {
        eventually("the explanation", || {
            let text = self.explained.lock().expect("what was explained").clone();
            text.contains("# Ctrl-C").then_some(text)
        })
        .await
    }

    /// The words of the `curl` command that stands behind this comment, as a shell reads them with `token` set.
    async fn printed_call(&self, comment: &str, token: &str) -> Vec<String> {
        let text = self.explained().await;
        let (_, behind) = text.split_once(comment).unwrap_or_else(|| panic!("no `{comment}` in {text}"));
        let command = behind.lines().skip(1).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}\n{command}\n");
        let words = Command::new("sh").args(["-c", &script]).env("token", token).output().expect("a shell");
        assert!(words.status.success(), "{}", String::from_utf8_lossy(&words.stderr));
        String::from_utf8_lossy(&words.stdout).lines().map(str::to_owned).collect()
    }

    /// Does what `curl` would do with these words.
    async fn call(words: &[String]) -> Reply {
        let url = words.iter().find(|word| word.starts_with("http")).expect("a URL");
        let behind =
            |flag: &'static str| words.windows(2).filter(move |pair| pair[0] == flag).map(|pair| pair[1].clone());
        let headers: Vec<String> = behind("-H").collect();
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|header| header.split_once(": ").expect("a header")).collect();
        let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).expect("a path");
        Client::new(url).send("POST", &path, &headers, behind("-d").next().expect("a body")).await
    }

    /// Sends a signal and waits for the end.
    async fn ends_on(&mut self, signal: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs").success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the demo does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Asked to end, it takes its gateway with it.
        drop(Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).stderr(Stdio::null()).status());
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn the_printed_lines_work_and_an_edit_of_the_policy_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = policy_on(folder.path(), free_port());
    let mut demo = Demo::start(Some(&policy));
    let (resource, token) = (demo.value("resource").await, demo.value("token").await);
    assert_eq!(resource, format!("http://127.0.0.1:{}/mcp", demo.listen));
    let (page, password) = (demo.value("page").await, demo.value("password").await);
    let said = demo.said.lock().expect("what was said").clone();
    let all = format!("resource={resource}\ntoken={token}\npage={page}\nname=demo\npassword={password}\n");
    assert_eq!(said, all, "nothing else stands on standard output");

    let allowed = Demo::call(&demo.printed_call("# Allowed", &token).await).await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert!(allowed.json()["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains("The gate")));

    let step_up = Demo::call(&demo.printed_call("# Step-up", &token).await).await;
    assert_eq!(step_up.status, 403);
    let challenge = step_up.header("www-authenticate");
    assert!(challenge.contains("insufficient_scope") && challenge.contains("notes:write"), "{challenge}");

    let denied_words = demo.printed_call("# Denied", &token).await;
    let denied = Demo::call(&denied_words).await;
    assert_eq!((denied.status, denied.header("www-authenticate")), (403, ""), "no scope opens this");
    let anonymous: Vec<String> = denied_words.iter().map(|word| word.replace(&token, "")).collect();
    assert_eq!(Demo::call(&anonymous).await.status, 401, "without `token` in the shell");

    // What the reader is told to try: edit the file, call again.
    let text = std::fs::read_to_string(&policy).expect("the policy");
    let edited = text.replace("deny: { tools: [delete_*] }", "allow: { tools: [delete_note] }");
    assert_ne!(text, edited, "the rule that the edit changes is there");
    std::fs::write(&policy, edited).expect("an edit");
    let saved = Instant::now();
    while Demo::call(&denied_words).await.status != 200 {
        assert!(saved.elapsed() < 3 * EFFECTIVE, "the edit is not served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let gateway = format!("127.0.0.1:{}", demo.listen);
    assert_eq!(demo.ends_on("INT").await, Some(0));
    assert!(std::net::TcpStream::connect(gateway).is_err(), "its gateway ends with it");
}

/// What a visitor does who is asked: allows the page, and signs in where that is needed.
async fn let_in(browser: &Browser, demo: &Demo, resource: &str, password: &str, from: &str) -> Page {
    let leaving = browser.go(from).await;
    assert_eq!(leaving.status, 303, "{leaving:#?}");
    let asked = browser.go_with(leaving.location(), &[("sec-fetch-site", "cross-site")]).await;
    assert!(asked.body.contains("Allow “The page of the demo” to use Demo Notes?"), "{asked:#?}");
    let request = asked.field("request");
    let form = [("request", request.as_str()), ("provider", "people")];
    let allowed = browser.submit(&format!("{resource}/consent"), &form).await;
    let mut at = browser.go_with(allowed.location(), &[("sec-fetch-site", "same-origin")]).await;
    if at.status == 200 {
        let state = at.field("state");
        let form = [("state", state.as_str()), ("name", "demo"), ("password", password)];
        at = browser.submit(&format!("{resource}/sign-in"), &form).await;
    }
    assert_eq!(at.status, 303, "{at:#?}");
    let back = browser.go(at.location()).await;
    assert_eq!((back.status, back.location()), (303, "/"), "{back:#?}");
    browser.go(&demo.value("page").await).await
}

#[tokio::test]
async fn its_page_signs_a_visitor_in_and_shows_what_the_token_may_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = Demo::start(Some(&policy_on(folder.path(), free_port())));
    let (resource, page) = (demo.value("resource").await, demo.value("page").await);
    let password = demo.value("password").await;
    let explained = demo.explained().await;
    for words in [&*page, &password, "sign in as demo", "claude mcp add", "inspector --cli"] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
    let browser = Browser::new();
    let shown = let_in(&browser, &demo, &resource, &password, &page).await;
    assert_eq!(shown.status, 200, "{shown:#?}");
    for words in ["notes:read", "1: The gate", "only a scope is missing", "No scope opens it", &resource] {
        assert!(shown.body.contains(words), "{words}: {}", shown.body);
    }
    assert!(shown.header("content-security-policy").contains("default-src 'none'"), "{shown:#?}");

    let wider = let_in(&browser, &demo, &resource, &password, &format!("{page}more")).await;
    assert!(wider.body.contains("note 3 written") && !wider.body.contains("only a scope is missing"), "{}", wider.body);
    assert!(wider.body.contains("No scope opens it"), "the deny rule holds: {}", wider.body);

    let forged = browser.go(&format!("{page}callback?code=x&state=y")).await;
    assert_eq!((forged.status, forged.location()), (400, ""), "a sign-in that nobody began");
    let renamed = browser.go_with(&page, &[("host", "rebound.example")]).await;
    assert_eq!(renamed.status, 421, "another name for the page");

    let people = folder.path().join("demo.users");
    assert!(people.exists());
    assert_eq!(demo.ends_on("INT").await, Some(0));
    assert!(!people.exists(), "its person is gone");
}

#[tokio::test]
async fn its_page_is_accessible_and_worked_by_keyboard() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Demo::start(Some(&policy_on(folder.path(), free_port())));
    let chromium = Chromium::start().await;
    let tab = chromium.tab().await;
    tab.go(&demo.value("page").await).await;
    tab.choose("Allow and continue with the demo's password").await;
    tab.fill("Name", "demo").await;
    tab.fill("Password", &demo.value("password").await).await;
    assert_eq!(tab.enter().await.heading(), "You are in");
    tab.looks_right("demo").await;
    tab.choose("Allow that too").await;
    let wider = tab.choose("Allow and continue with the demo's password").await;
    assert!(wider.text().contains("note 3 written"), "{wider:#?}");
}

#[tokio::test]
async fn people_of_the_policy_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = policy_on(folder.path(), free_port());
    let mut command = Command::new(BINARY);
    command.args(["user", "add"]).arg(folder.path().join("demo.users")).args(["alice", "--password-stdin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the command runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("its input"), b"correct horse battery")
        .expect("a password");
    assert!(child.wait().expect("its end").success());
    let before = std::fs::read(folder.path().join("demo.users")).expect("the people");
    let mut demo = Demo::start(Some(&policy));
    assert!(demo.explained().await.contains("one of the people of the policy"));
    assert!(!demo.said.lock().expect("what was said").contains("password="));
    assert_eq!(demo.ends_on("INT").await, Some(0));
    assert_eq!(std::fs::read(folder.path().join("demo.users")).expect("the people"), before);
}

#[tokio::test]
async fn without_a_policy_it_serves_a_copy_of_its_own_and_leaves_nothing_behind() {
    let mut demo = Demo::start(None);
    let (resource, token) = (demo.value("resource").await, demo.value("token").await);
    let client = Client::new(&resource).token(&token).era(Era::Modern);
    assert_eq!(client.call_tool("search_notes", json!({"query": "moat"})).await.status, 200);
    assert_eq!(client.call_tool("delete_note", json!({"id": "1"})).await.status, 403);
    let explained = demo.explained.lock().expect("what was explained").clone();
    let copy = explained.split_once("# Serving ").and_then(|(_, rest)| rest.split_once(": edit")).expect("its place").0;
    assert!(Path::new(copy).exists(), "the copy can be edited");
    let copy = copy.to_owned();
    assert_eq!(demo.ends_on("TERM").await, Some(0));
    assert!(!Path::new(&copy).exists(), "the copy is gone");
}

/// Runs a demo that must not start, and gives what it says.
fn refused(policy: &Path) -> String {
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(BINARY);
    let output = command.args(["demo", "--listen", &listen, "--policy"]).arg(policy).output().expect("the demo runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "no token is printed for what does not run");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_keeps_it_from_starting_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let said = refused(&policy_on(folder.path(), port));
    assert!(said.contains(&format!("127.0.0.1:{port} is in use")) && said.contains("another port"), "{said}");

    let text = std::fs::read_to_string(policy_on(folder.path(), free_port())).expect("the policy");
    let edited = |name: &str, from: &str, to: &str| {
        let file = folder.path().join(name);
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from} is there");
        std::fs::write(&file, changed).expect("a policy");
        file
    };
    let said = refused(&edited("remote.yaml", "url: http://127.0.0.1", "url: http://192.0.2.7"));
    assert!(said.contains("this machine") && said.contains("portcullis serve"), "{said}");
    let said = refused(&edited("broken.yaml", "service: demo", "service: [demo"));
    assert!(said.contains("yaml-syntax"), "{said}");
    let said = refused(&edited("misspelt.yaml", "rules:", "rulez:"));
    assert!(said.contains("did you mean `rules`?"), "{said}");
    let said = refused(&edited("no-hmac.yaml", "secrets: [{ env: PORTCULLIS_DEMO_SECRET }]", "secrets: [{ file: s }]"));
    assert!(said.contains("needs a provider `hmac`"), "{said}");
    let said = refused(&folder.path().join("missing.yaml"));
    assert!(said.contains("missing.yaml"), "{said}");
}
