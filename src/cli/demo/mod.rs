//! `portcullis demo`: a gateway, a token, and a small MCP server behind it. Nothing outside of this machine is asked.

mod notes;

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use serde_json::json;

use super::{complain, fail, print, runtime};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::oauth::jws::{Algorithm, sign_with_secret};

const POLICY: &str = include_str!("../../../policies/demo.yaml");
/// What the policy says, where the embedded server is put instead.
const UPSTREAM: &str = "http://127.0.0.1:9000/mcp";
const ISSUER: &str = "https://demo.portcullis.example";
const SECRET: &str = "PORTCULLIS_DEMO_SECRET";

/// `portcullis demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the gateway listens.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))]
    listen: SocketAddr,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match start(arguments) {
        Ok(mut gateway) => match gateway.wait() {
            Ok(status) if status.success() => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        },
        Err(message) => fail(&message),
    }
}

fn start(arguments: &Arguments) -> Result<Child, String> {
    let told = |error: std::io::Error| error.to_string();
    let runtime = runtime().map_err(told)?;
    let upstream = runtime.block_on(notes::serve()).map_err(told)?;
    // The server lives as long as the process.
    std::mem::forget(runtime);
    let folder = std::env::temp_dir().join(format!("portcullis-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(told)?;
    let policy = folder.join("demo.yaml");
    std::fs::write(&policy, POLICY.replace(UPSTREAM, &format!("http://{upstream}/mcp"))).map_err(told)?;
    let mut secret = [0_u8; 48];
    OsRng.try_fill_bytes(&mut secret).map_err(|error| error.to_string())?;
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let resource = format!("http://{}/mcp", arguments.listen);
    let token = token(&secret, &resource)?;

    let program = std::env::current_exe().map_err(told)?;
    let mut gateway = Command::new(program)
        .args(["serve", "--listen", &arguments.listen.to_string()])
        .arg("--log")
        .arg(folder.join("audit.jsonl"))
        .arg(&policy)
        .env(SECRET, secret)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(told)?;
    let Some(output) = gateway.stdout.take() else { return Err("the gateway has no output".to_owned()) };
    let listening = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.starts_with("listening="));
    if !listening {
        return Err("the gateway did not start".to_owned());
    }
    print(&format!("resource={resource}\ntoken={token}\n"));
    complain(&explained(&resource, &policy.display().to_string(), &folder.join("audit.jsonl").display().to_string()));
    Ok(gateway)
}

fn token(secret: &str, resource: &str) -> Result<String, String> {
    let now = SystemClock.unix();
    let claims = json!({
        "iss": ISSUER, "sub": "you", "aud": resource, "client_id": "demo", "scope": "notes:read", "iat": now, "exp": now + 8 * 3600,
    });
    let claims = claims.as_object().cloned().unwrap_or_default();
    sign_with_secret(Algorithm::Hs256, secret.as_bytes(), &claims).map_err(|fault| fault.to_string())
}

fn explained(resource: &str, policy: &str, log: &str) -> String {
    let call = |tool: &str, arguments: &str| {
        format!(
            "  curl -s {resource} -H \"authorization: Bearer $token\" -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' \\\n    \
             -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\"arguments\":{arguments}}}}}'\n"
        )
    };
    format!(
        "\nThe gateway serves {policy}; edit it and the change is in force at once.\nEvery decision is in {log}.\n\n\
         With token=... set as printed above, this is permitted:\n{}this leads to step-up (403, insufficient_scope):\n{}and this never reaches the server:\n{}\nEnd with Ctrl-C.\n",
        call("search_notes", "{\"query\":\"gate\"}"),
        call("create_note", "{\"title\":\"New\",\"text\":\"...\"}"),
        call("delete_note", "{\"id\":\"1\"}"),
    )
}
