//! `portcullis token`: make one for development, or explain one.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Files, check, fail, print, runtime};
use crate::engine::authentication::Authentication;
use crate::engine::clock::{Clock as _, SystemClock};
use crate::engine::decision::{Denial, Reason};
use crate::engine::service::Service;
use crate::oauth::jws::{self, Algorithm};
use crate::oauth::key::Key;
use crate::policy::compile::Compiler;
use crate::policy::document::scalar::DurationText;
use crate::reload::{AtStart, Reloader};
use crate::secret::SecretRef;
use crate::signin::KeptTokens;

/// How long explaining waits for the keys of providers.
const PATIENCE: Duration = Duration::from_secs(6);

/// `portcullis token`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Sign a token with a shared secret, for development and machines.
    Mint(Mint),
    /// Show header and claims of a token, and for each service and provider whether it is accepted and why not.
    ///
    /// The token is read from standard input, so that no history keeps it:
    ///
    ///   echo "$token" | portcullis token show policies
    ///
    /// Ends with 0 when a service accepts the token, otherwise with 1.
    #[command(verbatim_doc_comment)]
    Show(Show),
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("secret").required(true).args(["secret_env", "secret_file"])))]
pub(super) struct Mint {
    /// The environment variable that holds the secret.
    #[arg(long, value_name = "VARIABLE")]
    secret_env: Option<String>,
    /// The file that holds the secret.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Who issues it (`iss`), exactly as the provider in the policy spells it.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// For whom it is (`aud`): the URL of the service, or one of its audiences; several may be given.
    #[arg(long, required = true, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// Who it is about (`sub`).
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// The client that uses it (`client_id`).
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// What it opens (`scope`), separated by spaces.
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// Another claim, as `name=JSON`; several may be given.
    #[arg(long, value_name = "NAME=JSON", value_parser = claim)]
    claim: Vec<(String, Value)>,
    /// How long it is good.
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration)]
    expires: Duration,
    /// HS256, HS384 or HS512.
    #[arg(long, default_value = "HS256", value_name = "ALGORITHM", value_parser = algorithm)]
    alg: Algorithm,
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

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let algorithm = Algorithm::parse(text).filter(|algorithm| algorithm.as_str().starts_with("HS"));
    algorithm.ok_or_else(|| "write HS256, HS384 or HS512".to_owned())
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
    let algorithm = mint.alg;
    let from = match (&mint.secret_env, &mint.secret_file) {
        (Some(name), _) => SecretRef::Env(name.clone()),
        (None, file) => SecretRef::File(file.clone().unwrap_or_default()),
    };
    let secret = from.read().map_err(|error| error.to_string())?;
    Key::secret(algorithm, secret.expose()).map_err(|error| {
        let (name, bytes) = (algorithm.as_str(), algorithm.hash_length());
        format!("{error}; {name} needs {bytes} random bytes at least: `openssl rand -base64 {bytes}`")
    })?;
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
    let Ok(compiler) = Compiler::new(background.handle().clone(), Arc::new(SystemClock), Arc::new(KeptTokens)) else {
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
    let accepted: Vec<bool> = background.block_on(async {
        let mut accepted = Vec::new();
        for service in &snapshot.services {
            accepted.push(tell(service, token).await);
        }
        accepted
    });
    if accepted.contains(&true) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says whether a service accepts the token, and what each of its providers finds.
async fn tell(service: &Service, token: &str) -> bool {
    let Ok(pipeline) = service.pipeline() else {
        print(&format!("service {}: closed\n", service.name));
        return false;
    };
    let outcome = tokio::time::timeout(PATIENCE, pipeline.authentication.authenticate(token)).await;
    let (verdict, accepted) = match outcome {
        Ok(Ok(_)) => ("accepted".to_owned(), true),
        Ok(Err(denial)) => (format!("refused, {}", why(&denial, &pipeline.authentication)), false),
        Err(_) => ("refused, the keys cannot be had now".to_owned(), false),
    };
    print(&format!("service {}: {verdict}\n", service.name));
    for provider in &pipeline.authentication.providers {
        let provider = &provider.provider;
        let verdict = if provider.answers_for(jws::unverified_issuer(token).as_deref()) {
            match tokio::time::timeout(PATIENCE, provider.verify(token)).await {
                Ok(Ok(_)) => "vouches for the token".to_owned(),
                Ok(Err(denial)) => refusal(&denial),
                Err(_) => "does not answer".to_owned(),
            }
        } else {
            "does not issue such tokens".to_owned()
        };
        // A provider of a policy carries the service's name before its own.
        let name = provider.name().rsplit('/').next().unwrap_or_default();
        print(&format!("  provider {name}: {verdict}\n"));
    }
    accepted
}

/// The reason with what the service would accept instead.
fn why(denial: &Denial, accepts: &Authentication) -> String {
    let instead = match denial.reason {
        Reason::AudienceMismatch => format!(": `aud` must be {}", accepts.audiences.join(" or ")),
        Reason::ClientRefused => {
            format!(
                ": `client_id` or `azp` must be {}",
                accepts.clients.iter().flatten().cloned().collect::<Vec<_>>().join(" or ")
            )
        }
        Reason::IssuerUnknown => ": none of its providers issues such tokens".to_owned(),
        _ => String::new(),
    };
    format!("{}{instead}", refusal(denial))
}

fn refusal(denial: &Denial) -> String {
    let detail = denial.internal.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}", denial.reason.as_str())
}
