//! `portcullis serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::{Files, check, fail, print, runtime};
use crate::engine::clock::SystemClock;
use crate::policy::compile::Compiler;
use crate::reload::{self, AtStart, Reloader};
use crate::signin::KeptTokens;
use crate::{server, telemetry};

/// `portcullis serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Listen here only, whatever the file says.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Write the audit log here, whatever the file says.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Do everything up to listening, then end: 0 when it would serve. The store is left to the gateway that has it.
    #[arg(long)]
    check: bool,
    /// Serve the good policies even when others are broken at the start.
    #[arg(long)]
    serve_the_rest: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let background = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let compiler = match Compiler::new(background.handle().clone(), Arc::new(SystemClock), Arc::new(KeptTokens)) {
        Ok(compiler) if arguments.check => compiler,
        Ok(compiler) => compiler.with_store(),
        Err(error) => return fail(&error.to_string()),
    };
    let overrides = arguments.files.overrides(arguments.listen, arguments.log.clone());
    let mut reloader = Reloader::new(arguments.files.layout(), overrides, compiler);
    let broken = if arguments.serve_the_rest { AtStart::ServeTheRest } else { AtStart::Refuse };
    let (snapshot, report) = match reloader.start(broken) {
        Ok(started) => started,
        Err(report) => {
            check::explain(&report);
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        check::explain(&report);
        let count = snapshot.services.len();
        let word = if count == 1 { "service" } else { "services" };
        print(&format!("good: {count} {word}, snapshot {}\n", snapshot.hash));
        return ExitCode::SUCCESS;
    }
    telemetry::start_events();
    reload::tell(&report);
    match server::run(reloader, snapshot, &background) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}
