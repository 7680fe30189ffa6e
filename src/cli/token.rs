//! `portcullis token`: make one for development, or explain one.

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Files, check, fail, print, runtime};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::oauth::jws::{self, Algorithm};
use crate::oauth::key::Key;
use crate::policy::compile::Compiler;
use crate::policy::document::scalar::DurationText;
use crate::reload::{AtStart, Reloader};
use crate::secret::SecretRef;

/// How long explaining waits for the keys of providers.
const PATIENCE: Duration = Duration::from_secs(6);

/// `portcullis token`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Sign a token with a shared secret.
    Mint(Mint),
    /// Show header and claims of a token, and which services would accept it. Reads the token from standard input.
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(super) struct Mint {
    /// The environment variable that holds the secret.
    #[arg(long, value_name = "VARIABLE")]
    secret_env: String,
    /// `iss`.
    #[arg(long)]
    issuer: String,
    /// `aud`; several may be given.
    #[arg(long, required = true)]
    audience: Vec<String>,
    /// `sub`.
    #[arg(long)]
    subject: String,
    /// `client_id`.
    #[arg(long)]
    client: Option<String>,
    /// `scope`, separated by spaces.
    #[arg(long)]
    scope: Option<String>,
    /// Another claim, as `name=JSON`; several may be given.
    #[arg(long, value_name = "NAME=JSON", value_parser = claim)]
    claim: Vec<(String, Value)>,
    /// How long it is good.
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration)]
    expires: Duration,
    /// HS256, HS384 or HS512.
    #[arg(long, default_value = "HS256")]
    alg: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    files: Files,
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=JSON")?;
    let value = serde_json::from_str(value)
        .map_err(|error| format!("`{name}` is not JSON: {error}; texts need quotes: {name}='\"text\"'"))?;
    Ok((name.to_owned(), value))
}

fn duration(text: &str) -> Result<Duration, String> {
    DurationText(text.to_owned()).parse().ok_or_else(|| "write for example 30s, 5m or 1h".to_owned())
}

pub(super) fn run(command: &Command) -> ExitCode {
    let outcome = match command {
        Command::Mint(mint) => self::mint(mint),
        Command::Show(show) => return self::show(show),
    };
    match outcome {
        Ok(token) => {
            print(&format!("{token}\n"));
            ExitCode::SUCCESS
        }
        Err(message) => fail(&message),
    }
}

fn mint(mint: &Mint) -> Result<String, String> {
    let algorithm = Algorithm::parse(&mint.alg).filter(|algorithm| algorithm.as_str().starts_with("HS"));
    let algorithm = algorithm.ok_or_else(|| format!("`{}` is none of HS256, HS384 and HS512", mint.alg))?;
    let secret = SecretRef::Env(mint.secret_env.clone()).read().map_err(|error| error.to_string())?;
    Key::secret(algorithm, secret.expose()).map_err(|error| error.to_string())?;
    let now = SystemClock.unix();
    let expires = now.saturating_add(i64::try_from(mint.expires.as_secs()).unwrap_or(i64::MAX));
    let audience = if let [only] = mint.audience.as_slice() { json!(only) } else { json!(mint.audience) };
    let mut claims = Map::new();
    claims.extend([
        ("iss".to_owned(), json!(mint.issuer)),
        ("sub".to_owned(), json!(mint.subject)),
        ("aud".to_owned(), audience),
        ("iat".to_owned(), json!(now)),
        ("exp".to_owned(), json!(expires)),
    ]);
    claims.extend(mint.scope.iter().map(|scope| ("scope".to_owned(), json!(scope))));
    claims.extend(mint.client.iter().map(|client| ("client_id".to_owned(), json!(client))));
    claims.extend(mint.claim.iter().cloned());
    jws::sign_with_secret(algorithm, secret.expose(), &claims).map_err(|fault| fault.to_string())
}

fn show(show: &Show) -> ExitCode {
    let mut token = String::new();
    if std::io::stdin().take(64 * 1024).read_to_string(&mut token).is_err() {
        return fail("standard input is not a token");
    }
    let token = token.trim();
    match jws::show_unverified(token) {
        Ok(shown) => {
            let (header, claims) = (Value::Object(shown.header), Value::Object(shown.claims));
            print(&format!("header {header:#}\nclaims {claims:#}\n"));
        }
        Err(fault) => print(&format!("not a JWT: {fault}\n")),
    }
    let Ok(background) = runtime() else { return fail("no runtime") };
    let Ok(compiler) = Compiler::new(background.handle().clone(), Arc::new(SystemClock)) else {
        return fail("no HTTP client");
    };
    let mut reloader = Reloader::new(show.files.layout(), show.files.overrides(None, None), compiler);
    let snapshot = match reloader.start(AtStart::ServeTheRest) {
        Ok((snapshot, _)) => snapshot,
        Err(report) => {
            check::explain(&report);
            return ExitCode::FAILURE;
        }
    };
    let mut accepted = 0;
    for service in &snapshot.services {
        let Ok(pipeline) = service.pipeline() else {
            print(&format!("service {}: closed\n", service.name));
            continue;
        };
        for provider in &pipeline.authentication.providers {
            let provider = &provider.provider;
            let verdict = match background.block_on(tokio::time::timeout(PATIENCE, provider.verify(token))) {
                Ok(Ok(_)) => "verifies it".to_owned(),
                Ok(Err(denial)) => refusal(&denial),
                Err(_) => "does not answer".to_owned(),
            };
            print(&format!("service {}: provider {}: {verdict}\n", service.name, provider.name()));
        }
        match background.block_on(pipeline.authentication.authenticate(token)) {
            Ok(_) => {
                accepted += 1;
                print(&format!("service {}: ACCEPTED\n", service.name));
            }
            Err(denial) => print(&format!("service {}: refused, {}\n", service.name, refusal(&denial))),
        }
    }
    if accepted > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refusal(denial: &crate::engine::decision::Denial) -> String {
    let detail = denial.internal.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}", denial.reason.as_str())
}
