//! `portcullis schema`: for editors.

use std::process::ExitCode;

use clap::ValueEnum;

use super::print;
use crate::policy::schema::Kind;

/// `portcullis schema`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which kind of file.
    #[arg(value_enum, default_value_t = Which::Policy)]
    kind: Which,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// `policies/*.yaml`
    Policy,
    /// `portcullis.yaml`
    Installation,
    /// The file of a `local` provider
    Users,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let kind = match arguments.kind {
        Which::Policy => Kind::Policy,
        Which::Installation => Kind::Installation,
        Which::Users => Kind::Users,
    };
    print(&format!("{:#}\n", kind.schema()));
    ExitCode::SUCCESS
}
