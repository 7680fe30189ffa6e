//! `portcullis demo`: a gateway, a small MCP server behind it, a token, and a page that signs its visitor in. Nothing outside
//! of this machine is asked.

mod notes;
mod people;
mod visitor;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::{complain, fail, print, runtime};
use crate::diagnostics::render::{self, Style};
use crate::diagnostics::{Report, Source};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::oauth::jws::{Algorithm, sign_with_secret};
use crate::oauth::url::UpstreamUrl;
use crate::policy::tree::Tree;
use people::Person;
use visitor::Visitor;

const POLICY: &str = include_str!("../../../policies/demo.yaml");
/// What the policy says, where the embedded server is put instead.
const UPSTREAM: &str = "http://127.0.0.1:9000/mcp";
/// How long the gateway may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// `portcullis demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the gateway listens.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))]
    listen: SocketAddr,
    /// The policy to serve; its `upstream.url` says where the demo's MCP server listens. Default: a copy of the one that
    /// the demo was built with.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Ok(runtime) = runtime() else { return fail("no runtime") };
    let folder = std::env::temp_dir().join(format!("portcullis-demo-{}", std::process::id()));
    let outcome = runtime.block_on(serve(arguments, &folder));
    // Only what this run has written.
    let _ = std::fs::remove_dir_all(&folder);
    match outcome {
        Ok(code) => code,
        Err(message) => fail(&message),
    }
}

/// Starts everything, says how to use it, and waits until it is told to end.
async fn serve(arguments: &Arguments, folder: &Path) -> Result<ExitCode, String> {
    let told = |error: std::io::Error| error.to_string();
    // Signals that come while things start must not leave a gateway behind.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(told)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(told)?;
    std::fs::create_dir_all(folder).map_err(told)?;
    let script = match &arguments.policy {
        Some(file) => {
            let script = Script::read(file.clone())?;
            notes::serve(script.listener().await?);
            script
        }
        None => copied(folder).await?,
    };
    let mut secret = [0_u8; 48];
    OsRng.try_fill_bytes(&mut secret).map_err(|error| error.to_string())?;
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let resource = format!("http://{}{}", arguments.listen, script.route.trim_end_matches('/'));
    let token = token(&secret, &script.issuer, &resource)?;
    let person = script.users.as_deref().map_or(Ok(None), Person::put)?;
    let page = match script.users {
        Some(_) => Some(page(&resource, &script.file).await?),
        None => None,
    };
    let installation = folder.join("portcullis.yaml");
    std::fs::write(&installation, "store: memory\n").map_err(told)?;
    let log = folder.join("audit.jsonl");
    let mut gateway = Command::new(std::env::current_exe().map_err(told)?)
        .args(["serve", "--listen", &arguments.listen.to_string(), "--config"])
        .arg(&installation)
        .arg("--log")
        .arg(&log)
        .arg(&script.file)
        .env(&script.variable, secret)
        .env("RUST_LOG", std::env::var_os("RUST_LOG").unwrap_or_else(|| "error".into()))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(told)?;
    let mut output = BufReader::new(gateway.stdout.take().ok_or("the gateway has no output")?).lines();
    loop {
        tokio::select! {
            line = output.next_line() => match line.map_err(told)? {
                Some(line) if line.starts_with("listening=") => break,
                Some(_) => {}
                None => return Err("the gateway did not start".to_owned()),
            },
            _ = interrupt.recv() => return end(gateway).await,
            _ = terminate.recv() => return end(gateway).await,
        }
    }
    print(&format!("resource={resource}\ntoken={token}\n"));
    if let Some(page) = &page {
        print(&format!("page={page}\n"));
    }
    if let Some(person) = &person {
        print(&format!("name={}\npassword={}\n", people::NAME, person.password));
    }
    let running = Running {
        resource: &resource,
        policy: &script.file,
        log: &log,
        page: page.as_deref(),
        person: person.as_ref(),
    };
    complain(&running.explained());
    tokio::select! {
        status = gateway.wait() => {
            status.map_err(told)?;
            Err("the gateway has ended".to_owned())
        }
        _ = interrupt.recv() => end(gateway).await,
        _ = terminate.recv() => end(gateway).await,
    }
}

/// Ends the gateway as an operator would, and waits for it.
async fn end(mut gateway: Child) -> Result<ExitCode, String> {
    if let Some(id) = gateway.id() {
        // In a terminal it has had the same signal already.
        let _ = Command::new("kill").args(["-s", "INT", &id.to_string()]).stderr(Stdio::null()).status().await;
    }
    match tokio::time::timeout(PATIENCE, gateway.wait()).await {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(_) => gateway.kill().await.map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string()),
    }
}

/// What the demo must know of the policy to play the rest.
#[derive(Debug)]
struct Script {
    file: PathBuf,
    upstream: UpstreamUrl,
    route: String,
    issuer: String,
    variable: String,
    /// The file of the people whom the gateway signs in.
    users: Option<PathBuf>,
}

impl Script {
    fn read(file: PathBuf) -> Result<Self, String> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).map_err(|error| format!("`{name}`: {error}"))?;
        let source = Arc::new(Source { name: name.clone(), text });
        let tree = Tree::parse(&source).map_err(|diagnostic| {
            let mut report = Report::default();
            report.push(diagnostic);
            render::human(&report, Style::Plain)
        })?;
        let text = |pointer: &str| tree.value.pointer(pointer).and_then(Value::as_str);
        let hmac = tree.value.pointer("/providers").and_then(Value::as_object).into_iter().flatten();
        let hmac = hmac
            .filter_map(|(_, provider)| provider.get("hmac"))
            .find_map(|hmac| Some((hmac.get("issuer")?.as_str()?, hmac.pointer("/secrets/0/env")?.as_str()?)));
        let (issuer, variable) = hmac.ok_or_else(|| {
            format!("the demo signs its token itself: {name} needs a provider `hmac` with `secrets: [{{ env: NAME }}]`")
        })?;
        let url = text("/upstream/url").ok_or_else(|| format!("{name} has no `upstream.url`"))?;
        let upstream = UpstreamUrl::parse(url).map_err(|error| format!("`upstream.url` of {name}: {error}"))?;
        let (issuer, variable) = (issuer.to_owned(), variable.to_owned());
        let sign_in =
            tree.value.pointer("/authorization_server/sign_in").and_then(Value::as_array).into_iter().flatten();
        let users = sign_in.filter_map(Value::as_str).find_map(|name| text(&format!("/providers/{name}/local/users")));
        let users = users.map(|users| file.parent().unwrap_or(Path::new("")).join(users));
        Ok(Self { upstream, route: text("/route/path").unwrap_or("/mcp").to_owned(), issuer, variable, users, file })
    }

    /// The place where the policy looks for its server.
    async fn listener(&self) -> Result<TcpListener, String> {
        let (url, file) = (self.upstream.as_str(), self.file.display());
        let address = self
            .upstream
            .address()
            .or((self.upstream.host() == "localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let Some(address) = address.filter(|address| address.is_loopback() && !self.upstream.is_https()) else {
            return Err(format!(
                "the demo's MCP server is on this machine, and {file} names {url}; write `http://127.0.0.1:9000/mcp`, or run \
                 `portcullis serve {file}` to use your own server"
            ));
        };
        let address = SocketAddr::new(address, self.upstream.port());
        TcpListener::bind(address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "{address} is in use, and {file} says that the demo's MCP server listens there; end what uses it, or write \
                 another port into `upstream.url`"
            ),
            _ => format!("the demo's MCP server cannot listen on {address}: {error}"),
        })
    }
}

/// A copy of the policy that the program carries, with the server on a free port.
async fn copied(folder: &Path) -> Result<Script, String> {
    let told = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(told)?;
    let address = listener.local_addr().map_err(told)?;
    let file = folder.join("demo.yaml");
    std::fs::write(&file, POLICY.replace(UPSTREAM, &format!("http://{address}/mcp"))).map_err(told)?;
    notes::serve(listener);
    Script::read(file)
}

fn token(secret: &str, issuer: &str, resource: &str) -> Result<String, String> {
    let now = SystemClock.unix();
    let claims = json!({
        "iss": issuer, "sub": "you", "aud": resource, "client_id": "demo", "scope": "notes:read", "iat": now, "exp": now + 8 * 3600,
    });
    let claims = claims.as_object().cloned().unwrap_or_default();
    sign_with_secret(Algorithm::Hs256, secret.as_bytes(), &claims).map_err(|fault| fault.to_string())
}

/// The page of the demo, on a free port.
async fn page(resource: &str, policy: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(told)?;
    let own = format!("http://{}", listener.local_addr().map_err(told)?);
    Visitor::new(resource.to_owned(), policy.display().to_string(), own.clone())?.serve(listener);
    Ok(format!("{own}/"))
}

/// What is running.
struct Running<'a> {
    resource: &'a str,
    policy: &'a Path,
    log: &'a Path,
    page: Option<&'a str>,
    person: Option<&'a Person>,
}

impl Running<'_> {
    /// What to do with it.
    fn explained(&self) -> String {
        let Self { resource, policy, log, .. } = self;
        let (policy, log) = (policy.display(), log.display());
        let call = |tool: &str, arguments: &str| {
            format!(
                "curl -si {resource} -H \"authorization: Bearer $token\" -H 'content-type: application/json' \\\n  \
                 -H 'accept: application/json, text/event-stream' \\\n  \
                 -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\"arguments\":{arguments}}}}}'\n"
            )
        };
        let who = match self.person {
            Some(person) => format!("sign in as {} with {}", people::NAME, person.password),
            None => "sign in as one of the people of the policy".to_owned(),
        };
        let browser = self.page.map(|page| {
            format!(
                "# In a browser: open this page, allow it, and {who}. It shows what a client then may do.\n{page}\n\n\
                 # A client of your own finds the same sign-in by the URL alone:\n\
                 claude mcp add --transport http demo {resource}\n\
                 npx @modelcontextprotocol/inspector --cli {resource} --method tools/list\n\n"
            )
        });
        format!(
            "\n# Serving {policy}: edit it, and the change is in force at once. Decisions: {log}\n\n{}\
             # Without a browser: paste the line token=... from above into a shell, and then these.\n\n\
             # Allowed: the token holds notes:read.\n{}\n\
             # Step-up: only a scope is missing, and the answer names it (403, insufficient_scope).\n{}\n\
             # Denied: this never reaches the server (403).\n{}\n\
             # Ctrl-C ends the demo.\n",
            browser.unwrap_or_default(),
            call("search_notes", "{\"query\":\"gate\"}"),
            call("create_note", "{\"title\":\"New\",\"text\":\"...\"}"),
            call("delete_note", "{\"id\":\"1\"}"),
        )
    }
}
