//! The commands and their exit codes: 0 is good, 1 is a finding or failure, 2 a wrong command line.

mod check;
mod demo;
mod import;
mod operator;
mod revoke;
mod schema;
mod serve;
mod store;
mod token;
mod user;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::oauth::url::EndpointUrl;
use crate::policy::resolve::Overrides;
use crate::policy::source::Layout;
use crate::server::VERSION;

/// A policy-driven gateway in front of MCP servers.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version = VERSION, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the policies, and follow their changes.
    Serve(serve::Arguments),
    /// Say everything that is wrong with the policies.
    Check(check::Arguments),
    /// Print the JSON Schema of one of the kinds of file.
    Schema(schema::Arguments),
    /// Write the policy that means what the settings of oauth-mcp-proxy meant.
    Import(import::Arguments),
    /// Make a token for development, or explain one.
    #[command(subcommand)]
    Token(token::Command),
    /// Look into the store, copy it, and seal it with a new key.
    #[command(subcommand)]
    Store(store::Command),
    /// Revoke a subject, a client, a session or a token, or tell what is revoked: in force everywhere within five seconds.
    #[command(subcommand)]
    Revoke(revoke::Command),
    /// Lift a revocation.
    #[command(subcommand)]
    Unrevoke(revoke::Lift),
    /// Manage the people of a `local` provider.
    #[command(subcommand)]
    User(user::Command),
    /// Run a gateway with a small MCP server behind it.
    Demo(demo::Arguments),
}

/// Which files are meant.
#[derive(Debug, clap::Args)]
struct Files {
    /// A directory with `portcullis.yaml` and `policies/`, a directory of policies, or single policies.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The installation's file, if it is not in one of the paths.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The origin that clients use, instead of the one in the file.
    #[arg(long, value_name = "URL", value_parser = public_url)]
    public_url: Option<EndpointUrl>,
}

impl Files {
    fn layout(&self) -> Layout {
        Layout::of(&self.paths, self.config.as_deref())
    }

    fn overrides(&self, listen: Option<SocketAddr>, log: Option<PathBuf>) -> Overrides {
        Overrides { listen, public_url: self.public_url.clone(), log }
    }
}

fn public_url(text: &str) -> Result<EndpointUrl, String> {
    let url = EndpointUrl::parse(text).map_err(|error| format!("{error}; {}", error.help()))?;
    if url.is_origin() { Ok(url) } else { Err("write scheme, host and port only".to_owned()) }
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A second provider is refused, and there is none before this line.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return fail("the TLS library could not be set up");
    }
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Token(command) => token::run(&command),
        Command::Store(command) => store::run(&command),
        Command::Revoke(command) => revoke::run(&command),
        Command::Unrevoke(what) => revoke::lift(&what),
        Command::User(command) => user::run(&command),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}

/// Prints to standard output. A reader that has gone away ends the printing and nothing else.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints to standard error.
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn fail(message: &str) -> ExitCode {
    complain(&format!("error: {message}\n"));
    ExitCode::FAILURE
}

/// A runtime for background work.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("background").enable_all().build()
}
