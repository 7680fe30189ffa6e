//! `portcullis revoke` and `portcullis unrevoke`: who or what is no longer accepted, whatever their tokens say.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Files, fail, operator, print};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::engine::desk::Order;
use crate::engine::revocations::{Revoked, Target};
use crate::oauth::jws;
use crate::policy::document::scalar::DurationText;

/// What `until unrevoked` is in the store: longer than anything lives, in seconds.
const ALWAYS: i64 = 100 * 365 * 24 * 3600;
/// Seconds that a token is accepted after its end at most.
const LEEWAY: i64 = 300;

/// `portcullis revoke`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// A subject: nothing in its name is accepted any more, and it gets no new tokens of the gateway.
    Subject(Named),
    /// A client: nothing that it presents is accepted any more, whoever it is for.
    Client(Named),
    /// One sign-in, with every token of it.
    Session(Session),
    /// One token.
    Token(Token),
    /// Tell what operators have revoked.
    List(List),
}

/// `portcullis unrevoke`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Lift {
    /// A subject.
    Subject(Name),
    /// A client.
    Client(Name),
    /// One sign-in.
    Session(Session),
    /// One token.
    Token(Token),
}

/// A name at an issuer.
#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// The name, as the audit record has it (`subject`, `client`).
    name: String,
    /// The issuer that gave it, as the audit record has it; several may be given.
    #[arg(long, required = true, value_name = "URL")]
    issuer: Vec<String>,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    lasting: Lasting,
    /// Only what was issued until now: who signs in again is let in.
    #[arg(long)]
    issued_until_now: bool,
}

#[derive(Debug, clap::Args)]
struct Lasting {
    /// For how long, such as `12h`. Otherwise until it is lifted.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasting: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["id", "stdin"])))]
pub(super) struct Session {
    /// The `sid` of its tokens.
    #[arg(long, value_name = "SID", requires = "issuer")]
    id: Option<String>,
    /// The issuer of its tokens.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Read one of its tokens from standard input.
    #[arg(long, conflicts_with = "issuer")]
    stdin: bool,
    #[command(flatten)]
    lasting: Lasting,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["name", "stdin"])))]
pub(super) struct Token {
    /// The start of its SHA-256, as the audit record has it (`token`): 16 digits.
    #[arg(long, value_name = "HEX", value_parser = token_name)]
    name: Option<String>,
    /// Read the token from standard input.
    #[arg(long)]
    stdin: bool,
    #[command(flatten)]
    lasting: Lasting,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line each.
    Human,
    /// One JSON object each.
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    DurationText(text.to_owned()).parse().ok_or_else(|| "write for example 30m, 12h or 7d".to_owned())
}

fn token_name(text: &str) -> Result<String, String> {
    let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex {
        return Ok(text.to_ascii_lowercase());
    }
    // Nothing of it is said again: it may be a token.
    Err("16 hexadecimal digits are wanted, as the audit record has them; a token itself is read with --stdin"
        .to_owned())
}

pub(super) fn run(command: &Command) -> ExitCode {
    let now = SystemClock.unix();
    let until = |lasting: &Lasting| {
        let seconds = lasting.lasting.map_or(ALWAYS, |lasting| i64::try_from(lasting.as_secs()).unwrap_or(ALWAYS));
        now.saturating_add(seconds)
    };
    let outcome = match command {
        Command::Subject(named) => {
            revoke(&named.name.files, named.name.subjects(), until(&named.lasting), named.before(now))
        }
        Command::Client(named) => {
            revoke(&named.name.files, named.name.clients(), until(&named.lasting), named.before(now))
        }
        Command::Session(session) => {
            session.target().and_then(|target| revoke(&session.files, vec![target], until(&session.lasting), None))
        }
        Command::Token(token) => token.target().and_then(|(target, ends)| {
            let ends = ends.filter(|_| token.lasting.lasting.is_none()).map(|ends| ends.saturating_add(LEEWAY));
            let until = until(&token.lasting);
            revoke(&token.files, vec![target], ends.unwrap_or(until).min(until), None)
        }),
        Command::List(list) => tell(list),
    };
    exit(outcome)
}

pub(super) fn lift(what: &Lift) -> ExitCode {
    let lifted = |files: &Files, targets: Vec<Target>| {
        let mut lacking = 0;
        operator::perform(files, &Order::Lift(targets), |line| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let found = line.get("found") == Some(&Value::Bool(true));
            lacking += usize::from(!found);
            let target = line.get("lifted").cloned().and_then(|target| serde_json::from_value(target).ok());
            let target = target.as_ref().map(shown).unwrap_or_default();
            print(&format!("{} {target}\n", if found { "lifted" } else { "was not revoked:" }));
        })?;
        if lacking > 0 {
            Err("nothing was revoked by that name; `portcullis revoke list` tells what is".to_owned())
        } else {
            Ok(())
        }
    };
    exit(match what {
        Lift::Subject(name) => lifted(&name.files, name.subjects()),
        Lift::Client(name) => lifted(&name.files, name.clients()),
        Lift::Session(session) => session.target().and_then(|target| lifted(&session.files, vec![target])),
        Lift::Token(token) => token.target().and_then(|(target, _)| lifted(&token.files, vec![target])),
    })
}

fn exit(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

impl Name {
    fn subjects(&self) -> Vec<Target> {
        self.each(|issuer, name| Target::Subject { issuer, name })
    }

    fn clients(&self) -> Vec<Target> {
        self.each(|issuer, name| Target::Client { issuer, name })
    }

    fn each(&self, target: impl Fn(String, String) -> Target) -> Vec<Target> {
        self.issuer.iter().map(|issuer| target(issuer.clone(), self.name.clone())).collect()
    }
}

impl Named {
    fn before(&self, now: i64) -> Option<i64> {
        // What was issued in this second counts as issued until now.
        self.issued_until_now.then(|| now.saturating_add(1))
    }
}

impl Session {
    fn target(&self) -> Result<Target, String> {
        if let (Some(name), Some(issuer)) = (&self.id, &self.issuer) {
            return Ok(Target::Session { issuer: issuer.clone(), name: name.clone() });
        }
        let claims = jws::show_unverified(&from_input()?).map_err(|fault| format!("not a JWT: {fault}"))?.claims;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("iss"), text("sid")) {
            (Some(issuer), Some(name)) => Ok(Target::Session { issuer, name }),
            _ => Err("the token names no session: it has no `sid`; revoke the token or the subject".to_owned()),
        }
    }
}

impl Token {
    /// The token, and when it ends, if it is a JWT.
    fn target(&self) -> Result<(Target, Option<i64>), String> {
        if let Some(name) = &self.name {
            return Ok((Target::Token(name.clone()), None));
        }
        let token = from_input()?;
        let ends = jws::show_unverified(&token).ok().and_then(|shown| shown.claims.get("exp")?.as_i64());
        let name = Sha256::digest(&token).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok((Target::Token(name), ends))
    }
}

fn from_input() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin().take(64 * 1024).read_to_string(&mut text).map_err(|_| "standard input is not text".to_owned())?;
    let token = text.trim();
    if token.is_empty() { Err("there is no token on standard input".to_owned()) } else { Ok(token.to_owned()) }
}

fn revoke(files: &Files, targets: Vec<Target>, until: i64, issued_before: Option<i64>) -> Result<(), String> {
    let since = SystemClock.unix();
    let revoked = targets.into_iter().map(|target| Revoked { target, since, until, issued_before }).collect();
    operator::perform(files, &Order::Revoke(revoked), |line| {
        if let Some(revoked) = read(line, "revoked") {
            print(&format!("revoked {}\n", sentence(&revoked)));
        }
    })?;
    if operator::installation(files)?.store.clone().unwrap_or_default().is_durable() {
        return Ok(());
    }
    super::complain("note: the gateway keeps it in memory: after a restart it must be revoked again\n");
    Ok(())
}

fn tell(list: &List) -> Result<(), String> {
    let mut found: Vec<(Revoked, String)> = Vec::new();
    operator::perform(&list.files, &Order::Revocations, |line| {
        // What clients have revoked of their own is many, random, and soon over.
        found.extend(read(line, "revocation").filter(|one| !matches!(one.target, Target::Id(_))).map(|one| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            (one, value.get("revocation").map(Value::to_string).unwrap_or_default())
        }));
    })?;
    found.sort_by_key(|(one, _)| (one.since, shown(&one.target)));
    for (revoked, json) in found {
        match list.format {
            Format::Human => print(&format!("{}\n", sentence(&revoked))),
            Format::Json => print(&format!("{json}\n")),
        }
    }
    Ok(())
}

fn read(line: &str, member: &str) -> Option<Revoked> {
    let mut line: Value = serde_json::from_str(line).ok()?;
    serde_json::from_value(line.get_mut(member)?.take()).ok()
}

fn shown(target: &Target) -> String {
    match target {
        Target::Subject { issuer, name } => format!("subject {name} of {issuer}"),
        Target::Client { issuer, name } => format!("client {name} of {issuer}"),
        Target::Session { issuer, name } => format!("session {name} of {issuer}"),
        Target::Token(name) => format!("token {name}"),
        Target::Id(name) => format!("id {name}"),
    }
}

fn sentence(revoked: &Revoked) -> String {
    let issued = if revoked.issued_before.is_some() { ", what was issued before" } else { "" };
    let until = match revoked.until.saturating_sub(revoked.since) {
        lasting if lasting >= ALWAYS => "until it is lifted".to_owned(),
        _ => format!("until {}", moment(revoked.until)),
    };
    format!("{} since {}{issued}, {until}", shown(&revoked.target), moment(revoked.since))
}

/// A time in UTC (RFC 3339).
fn moment(unix: i64) -> String {
    let Ok(time) = time::OffsetDateTime::from_unix_timestamp(unix) else { return unix.to_string() };
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}
