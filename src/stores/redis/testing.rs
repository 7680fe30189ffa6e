//! Real servers on loopback, for tests.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For a server to answer, or a cluster to agree, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server, which ends with its owner.
#[derive(Debug)]
pub struct Server {
    child: Child,
    program: OsString,
    port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    /// A server that keeps everything in memory, with more arguments.
    pub fn start(more: &[&str]) -> Self {
        Self::of("redis-server".into(), more)
    }

    /// The same of Valkey, which `make test` brings and names in `VALKEY_SERVER`.
    pub fn valkey(more: &[&str]) -> Self {
        Self::of(
            std::env::var_os("VALKEY_SERVER").expect("VALKEY_SERVER is not set: run `make test`, which sets it"),
            more,
        )
    }

    fn of(program: OsString, more: &[&str]) -> Self {
        let port = free_port();
        let port_text = port.to_string();
        let mut arguments = vec!["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"];
        if !more.contains(&"--tls-port") {
            arguments.extend(["--port", &port_text]);
        }
        arguments.extend(more.iter().map(|word| if *word == "PORT" { &*port_text } else { word }));
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        Self::spawn(program, port, arguments, tempfile::tempdir().unwrap())
    }

    /// A sentinel that watches `master` and gives it up after a second.
    pub fn sentinel(master: &Self, more: &str) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor group 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds group 1000\nsentinel failover-timeout group 3000\n{more}\n",
            master.port
        );
        std::fs::write(&file, text).unwrap();
        let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        Self::spawn("redis-server".into(), port, arguments, folder)
    }

    /// Three servers that are a cluster.
    pub fn cluster(more: &[&str]) -> Vec<Self> {
        let words = [&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"], more].concat();
        let nodes: Vec<Self> = (0..3).map(|_| Self::start(&words)).collect();
        for (node, slots) in nodes.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            node.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
            node.ask(&format!("CLUSTER MEET 127.0.0.1 {}", nodes[0].port));
        }
        let agreed = |node: &Self| {
            let told = node.ask("CLUSTER INFO");
            told.contains("cluster_state:ok") && told.contains("cluster_known_nodes:3")
        };
        wait("the cluster agrees", || nodes.iter().all(agreed));
        nodes
    }

    fn spawn(program: OsString, port: u16, arguments: Vec<String>, folder: tempfile::TempDir) -> Self {
        let child = run(&program, &arguments, folder.path());
        let server = Self { child, program, port, arguments, folder };
        server.wait();
        server
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again at the same port; what it held is gone.
    pub fn start_again(&mut self) {
        self.child = run(&self.program, &self.arguments, self.folder.path());
        self.wait();
    }

    fn wait(&self) {
        let tls = self.arguments.iter().any(|word| word == "--tls-port");
        wait("the server answers", || {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
            let Ok(stream) = TcpStream::connect(address) else { return false };
            tls || exchange(stream, "PING").is_ok_and(|told| told.starts_with("+PONG") || told.starts_with("-NOAUTH"))
        });
    }

    /// The answer to commands, one a line, as the server writes it.
    pub fn ask(&self, commands: &str) -> String {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        exchange(TcpStream::connect(address).unwrap(), commands).unwrap()
    }
}

/// Inline commands, and everything that is answered until the server has closed.
fn exchange(mut stream: TcpStream, commands: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("{}\r\n", commands.replace('\n', "\r\n")).as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut told = Vec::new();
    stream.read_to_end(&mut told)?;
    Ok(String::from_utf8_lossy(&told).into_owned())
}

fn run(program: &OsStr, arguments: &[String], folder: &Path) -> Child {
    let log = File::options().append(true).create(true).open(folder.join("log")).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).args(["--dir", &folder.display().to_string()]);
    command
        .stdout(log)
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?}: {error}; run `make test`, which brings it"))
}

/// A port that is free, as is the one 10000 above it, which a cluster uses.
fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 10_000)).is_ok() {
            return port;
        }
    }
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
