//! `portcullis user`: the people of a `local` provider.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::{check, fail, print};
use crate::policy::document::UsersDocument;
use crate::policy::document::scalar::{USER, UserText};
use crate::policy::document::users::UserDocument;
use crate::policy::users::{self, SHORTEST_PASSWORD};

/// Bytes of a password at most.
const LONGEST_PASSWORD: u64 = 1024;

/// `portcullis user`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Add a person, asking for the password.
    Add(Add),
    /// Print the names.
    List(List),
    /// Remove a person.
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The file that the provider names; it is made when it is not there.
    file: PathBuf,
    /// The name, such as `alice` or `alice@example.com`.
    #[arg(value_parser = name)]
    name: UserText,
    /// What is known about the person, as `name=value`; the value is JSON or text, and several may be given.
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    claim: Vec<(String, Value)>,
    /// Read the password from standard input instead of the terminal.
    #[arg(long)]
    password_stdin: bool,
    /// Give a person who is there a new password, and new claims if any are named.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The file that the provider names.
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// The file that the provider names.
    file: PathBuf,
    /// The name.
    name: String,
}

fn name(text: &str) -> Result<UserText, String> {
    let form = regex::Regex::new(USER.pattern).map_err(|error| error.to_string())?;
    if form.is_match(text) { Ok(UserText(text.to_owned())) } else { Err(format!("write {}", USER.words)) }
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

pub(super) fn run(command: &Command) -> ExitCode {
    let file = match command {
        Command::Add(Add { file, .. }) | Command::List(List { file }) | Command::Remove(Remove { file, .. }) => file,
    };
    let document = match users::read(file) {
        Ok(document) => document,
        Err(report) => {
            check::explain(&report);
            return ExitCode::FAILURE;
        }
    };
    let outcome = match command {
        Command::Add(add) => self::add(add, document),
        Command::List(_) => Ok(document.users.iter().map(|user| format!("{}\n", user.name.0)).collect()),
        Command::Remove(remove) => self::remove(remove, document),
    };
    match outcome {
        Ok(said) => {
            print(&said);
            ExitCode::SUCCESS
        }
        Err(message) => fail(&message),
    }
}

fn add(add: &Add, mut document: UsersDocument) -> Result<String, String> {
    let name = &add.name.0;
    let known = position(&document, name);
    if known.is_some() && !add.replace {
        return Err(format!("`{name}` is in {} already; `--replace` gives a new password", shown(&add.file)));
    }
    let password = if add.password_stdin { from_input()? } else { from_terminal(name)? };
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(format!(
            "the password has less than {SHORTEST_PASSWORD} characters: take a few words, or a generated one"
        ));
    }
    let claims: Map<String, Value> = add.claim.iter().cloned().collect();
    let mut user = UserDocument { name: add.name.clone(), password: users::hashed(&password)?, claims };
    match known.and_then(|at| document.users.get_mut(at)) {
        Some(before) => {
            if add.claim.is_empty() {
                user.claims = std::mem::take(&mut before.claims);
            }
            *before = user;
        }
        None => document.users.push(user),
    }
    users::write(&add.file, &document)?;
    Ok(format!("{name} {} {}\n", if known.is_some() { "has a new password in" } else { "is in" }, shown(&add.file)))
}

fn remove(remove: &Remove, mut document: UsersDocument) -> Result<String, String> {
    let at = position(&document, &remove.name);
    let at = at.ok_or_else(|| format!("there is no `{}` in {}", remove.name, shown(&remove.file)))?;
    let gone = document.users.remove(at);
    users::write(&remove.file, &document)?;
    Ok(format!("{} is out of {}\n", gone.name.0, shown(&remove.file)))
}

fn position(document: &UsersDocument, name: &str) -> Option<usize> {
    document.users.iter().position(|user| user.name.0.eq_ignore_ascii_case(name))
}

fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}

/// The first line of standard input.
fn from_input() -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST_PASSWORD + 2).read_to_string(&mut text);
    read.map_err(|_| "standard input is not text".to_owned())?;
    let line = text.lines().next().unwrap_or_default();
    if line.len() as u64 > LONGEST_PASSWORD {
        return Err(format!("the password is longer than {LONGEST_PASSWORD} bytes"));
    }
    Ok(line.to_owned())
}

/// Asked twice, without showing it.
fn from_terminal(name: &str) -> Result<String, String> {
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map_err(|error| {
            format!("no terminal to ask at ({error}); `--password-stdin` reads the password from a pipe")
        })
    };
    let password = ask(&format!("Password for {name}: "))?;
    if ask("Again: ")? == password { Ok(password) } else { Err("the two are not the same".to_owned()) }
}
