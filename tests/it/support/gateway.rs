//! The built binary as a user runs it: a directory of policies, a free port, a log that can be read.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENCE, eventually, within};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// Whom everybody is stranger to.
const NOBODY: u32 = 65_534;

/// What a gateway is started with.
#[derive(Debug)]
pub struct Setup {
    directory: TempDir,
    secrets: Vec<(String, String)>,
    arguments: Vec<String>,
    serving: String,
    nobody: bool,
    behind: Option<SocketAddr>,
    full_disks: bool,
}

impl Setup {
    /// Adds `policies/NAME.yaml`.
    pub fn policy(self, name: &str, text: &str) -> Self {
        self.file(&format!("policies/{name}.yaml"), text)
    }

    /// Writes `portcullis.yaml`.
    pub fn installation(self, text: &str) -> Self {
        self.file("portcullis.yaml", text)
    }

    /// Adds any file under the installation's directory.
    pub fn file(self, path: &str, text: &str) -> Self {
        write(&self.directory.path().join(path), text);
        self
    }

    /// Sets an environment variable of the gateway.
    pub fn secret(mut self, variable: &str, value: &str) -> Self {
        self.secrets.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument of `serve`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Serves one file of the directory instead of all of it.
    pub fn serving(mut self, path: &str) -> Self {
        path.clone_into(&mut self.serving);
        self
    }

    /// Is reached through `address`, which is its public URL.
    pub fn behind(mut self, address: SocketAddr) -> Self {
        self.behind = Some(address);
        self.argument("--public-url").argument(&format!("http://{address}"))
    }

    /// Runs as a user who may read only what everybody may, also when the tests run as root, whom nothing stops.
    pub fn unprivileged(mut self) -> Self {
        self.nobody = true;
        self
    }

    /// Sees a write beyond the limit of a file's size fail, as on a full disk, instead of being ended by a signal.
    pub fn outlives_full_disks(mut self) -> Self {
        self.full_disks = true;
        self
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the gateway and waits until it listens.
    pub async fn start(self) -> Gateway {
        self.start_at(free_address).await
    }

    async fn start_at(self, address: impl Fn() -> SocketAddr) -> Gateway {
        for _ in 0..5 {
            let address = address();
            let mut running = Running::spawn(self.command(address));
            let ready = within(3 * PATIENCE, "the gateway to listen or to end", || running.outcome()).await;
            if ready {
                return Gateway { setup: self, address, running };
            }
            let said = running.said();
            // Another process may have taken the port between our look and the gateway's.
            assert!(said.contains("in use"), "the gateway did not start:\n{said}");
        }
        panic!("no port stayed free");
    }

    /// Starts the gateway, which must refuse; gives what it said.
    pub async fn refused(self) -> String {
        let mut running = Running::spawn(self.command(free_address()));
        let ready = eventually("the gateway to listen or to end", || running.outcome()).await;
        let said = running.said();
        assert!(!ready, "the gateway must refuse to start, but it listens:\n{said}");
        said
    }

    fn command(&self, address: SocketAddr) -> Command {
        let mut command = if self.full_disks {
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", BINARY]);
            shell
        } else {
            Command::new(BINARY)
        };
        command.arg("serve").arg("--listen").arg(address.to_string()).args(&self.arguments);
        command.arg(self.directory.path().join(&self.serving));
        command.current_dir(self.directory.path());
        command.envs(self.secrets.iter().map(|(name, value)| (name, value)));
        if self.nobody && std::fs::metadata(self.directory.path()).expect("the directory").uid() == 0 {
            let readable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(self.directory.path(), readable).expect("a readable directory");
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

/// The running gateway; it is killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    setup: Setup,
    address: SocketAddr,
    running: Running,
}

impl Gateway {
    /// Begins a gateway with an empty directory.
    #[expect(clippy::new_ret_no_self, reason = "a gateway begins as what it will be started with")]
    pub fn new() -> Setup {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("policies")).expect("a directory of policies");
        Setup {
            directory,
            secrets: Vec::new(),
            arguments: Vec::new(),
            serving: String::new(),
            nobody: false,
            behind: None,
            full_disks: false,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` followed by `path`, through what it is behind; with a route's path also the resource, so the default audience.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.setup.behind.unwrap_or(self.address))
    }

    /// The installation's directory.
    pub fn directory(&self) -> &Path {
        self.setup.directory()
    }

    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Writes another installation in the place of the file.
    pub fn write_installation(&self, text: &str) {
        write(&self.directory().join("portcullis.yaml"), text);
    }

    /// Writes `policies/NAME.yaml` in place.
    pub fn write_policy(&self, name: &str, text: &str) {
        write(&self.policy_path(name), text);
    }

    pub fn remove_policy(&self, name: &str) {
        std::fs::remove_file(self.policy_path(name)).expect("a policy to remove");
    }

    pub fn policy_path(&self, name: &str) -> PathBuf {
        self.directory().join(format!("policies/{name}.yaml"))
    }

    /// Every log record so far.
    pub fn log(&self) -> Vec<Value> {
        self.running.said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything the gateway printed so far, on both of its outputs.
    pub fn printed(&self) -> String {
        self.running.said()
    }

    /// Waits for a log record that fits.
    pub async fn wait_for_log(&self, fits: impl Fn(&Value) -> bool) -> Value {
        eventually("a log record", || self.log().into_iter().find(|record| fits(record))).await
    }

    /// Ends the gateway now, as a crash would, and keeps its directory.
    pub fn stop(self) -> Setup {
        let Self { setup, mut running, .. } = self;
        running.kill();
        setup
    }

    /// Ends the gateway now, as a crash would, and starts it again at the same address.
    pub async fn crash(self) -> Self {
        self.crash_with(|setup| setup).await
    }

    /// The same, with another setup or with what is done in between.
    pub async fn crash_with(self, change: impl FnOnce(Setup) -> Setup) -> Self {
        let address = self.address;
        change(self.stop()).start_at(|| address).await
    }

    /// Sends a signal by its name (`HUP`, `TERM`).
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "the gateway is not there to be signalled");
    }
}

/// A child process whose output is collected line by line.
#[derive(Debug)]
struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the gateway runs");
        let lines = Arc::default();
        let output = collect(child.stdout.take().expect("its output"), &lines);
        let errors = collect(child.stderr.take().expect("its errors"), &lines);
        Self { child, lines, readers: vec![output, errors] }
    }

    /// `true` once it listens, `false` once it ended.
    fn outcome(&mut self) -> Option<bool> {
        if self.said().lines().any(|line| line.starts_with("listening=")) {
            return Some(true);
        }
        self.child.try_wait().expect("its state")?;
        // What it said last may still be on its way.
        self.readers.drain(..).for_each(|reader| reader.join().expect("its last words"));
        Some(false)
    }

    fn said(&self) -> String {
        self.lines.lock().expect("its lines").join("\n")
    }

    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(output: impl std::io::Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            lines.lock().expect("its lines").push(line);
        }
    })
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free loopback port")
}

fn write(path: &Path, text: &str) {
    let parent = path.parent().expect("a parent");
    std::fs::create_dir_all(parent).expect("a directory");
    std::fs::write(path, text).expect("a written file");
}
