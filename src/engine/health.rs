//! How the files are, for whoever asks: what is wrong with them, and which last good versions serve in their place.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;

use crate::diagnostics::{Place, Report, Severity};

/// What was found when the files were read last. Readers never wait.
#[derive(Debug)]
pub struct Health(ArcSwap<Found>);

/// One finding about all files.
#[derive(Debug, Clone)]
pub struct Found {
    /// When they were read.
    pub at: SystemTime,
    /// What is wrong with them.
    pub errors: Vec<Problem>,
    /// Broken files whose last good version serves, and since when.
    pub stale: Vec<(String, Instant)>,
    /// How often they were read.
    pub reads: u64,
    /// How often something was wrong.
    pub failures: u64,
}

/// An error in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable word such as `unknown-provider`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The file, with line and column from 1, unless it concerns no text.
    pub place: Option<(String, usize, usize)>,
    /// What to do.
    pub help: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        let none = Found { at: SystemTime::UNIX_EPOCH, errors: Vec::new(), stale: Vec::new(), reads: 0, failures: 0 };
        Self(ArcSwap::from_pointee(none))
    }
}

impl Health {
    /// What was found last.
    #[must_use]
    pub fn read(&self) -> Arc<Found> {
        self.0.load_full()
    }

    /// Notes a finding; there is one writer.
    pub fn found(&self, report: &Report, stale: Vec<(String, Instant)>) {
        let last = self.0.load();
        let errors: Vec<Problem> = report
            .sorted()
            .into_iter()
            .filter(|found| found.severity == Severity::Error)
            .map(|found| Problem {
                code: found.code,
                message: found.message.clone(),
                place: found.place.as_ref().map(|place: &Place| {
                    let (line, column) = place.start();
                    (place.source.name.clone(), line, column)
                }),
                help: found.help.clone(),
            })
            .collect();
        self.0.store(Arc::new(Found {
            at: SystemTime::now(),
            failures: last.failures + u64::from(!errors.is_empty()),
            errors,
            stale,
            reads: last.reads + 1,
        }));
    }
}
