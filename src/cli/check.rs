//! `portcullis check`: everything that is wrong, at once.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::ValueEnum;

use super::{Files, print};
use crate::diagnostics::Report;
use crate::diagnostics::render::{self, Style};
use crate::policy::load::{self, Before};
use crate::server::VERSION;

/// `portcullis check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    files: Files,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Fail on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// With the lines in question.
    Human,
    /// One JSON array.
    Json,
    /// SARIF 2.1.0, which code hosts show beside the lines.
    Sarif,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let overrides = arguments.files.overrides(None, None);
    let (report, services) = match arguments.files.layout().read() {
        Ok(files) => {
            let loaded = load::load(&files, &overrides, &Before::default());
            (loaded.report, loaded.policies.iter().filter(|policy| policy.good.is_some()).count())
        }
        Err(report) => (report, 0),
    };
    match arguments.format {
        Format::Human => print(&render::human(&report, style())),
        Format::Json => print(&format!("{:#}\n", render::json(&report))),
        Format::Sarif => print(&format!("{:#}\n", render::sarif(&report, VERSION))),
    }
    if report.has_errors() || (arguments.deny_warnings && !report.is_empty()) {
        return ExitCode::FAILURE;
    }
    if arguments.format == Format::Human {
        print(&format!("good: {services} {}\n", if services == 1 { "service" } else { "services" }));
    }
    ExitCode::SUCCESS
}

fn style() -> Style {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        Style::Coloured
    } else {
        Style::Plain
    }
}

/// The report for people, on standard error.
pub(super) fn explain(report: &Report) {
    super::complain(&render::human(
        report,
        if std::io::stderr().is_terminal() { Style::Coloured } else { Style::Plain },
    ));
}
