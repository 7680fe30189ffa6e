//! What the process has done, counted. Counting takes no lock and looks nothing up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::decision::Reason;

/// Upper bounds of the buckets of durations, in microseconds; above the last there is one more.
const BOUNDS: [u64; 13] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000, 300_000_000];

/// What became of the requests to one service. They outlive a reload.
#[derive(Debug, Default)]
pub struct ServiceCounts {
    permitted: AtomicU64,
    denied: AtomicU64,
    answered: AtomicU64,
}

/// How a request ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was forwarded.
    Permitted,
    /// It was refused.
    Denied(Reason),
    /// The gateway answered by itself.
    Answered,
}

/// What became of all requests.
#[derive(Debug)]
pub struct Counters {
    reasons: Vec<AtomicU64>,
    malformed: AtomicU64,
    durations: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            reasons: Reason::ALL.iter().map(|_| AtomicU64::default()).collect(),
            malformed: AtomicU64::default(),
            durations: Default::default(),
            microseconds: AtomicU64::default(),
        }
    }
}

impl ServiceCounts {
    /// Requests permitted, denied, and answered by the gateway itself.
    #[must_use]
    pub fn read(&self) -> [u64; 3] {
        [&self.permitted, &self.denied, &self.answered].map(read)
    }
}

impl Counters {
    /// Counts a request of `service`, if it belonged to one, that took so long from its head to the end of its answer.
    pub fn count(&self, service: Option<&ServiceCounts>, ended: Ended, took: Duration) {
        if let Some(service) = service {
            add(match ended {
                Ended::Permitted => &service.permitted,
                Ended::Denied(_) => &service.denied,
                Ended::Answered => &service.answered,
            });
        }
        if let Ended::Denied(reason) = ended
            && let Some(count) =
                Reason::ALL.iter().position(|known| *known == reason).and_then(|at| self.reasons.get(at))
        {
            add(count);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.durations.get(bucket).into_iter().for_each(add);
        self.microseconds.fetch_add(micros, Ordering::Relaxed);
    }

    /// Counts what was no well-formed HTTP, and so no request.
    pub fn malformed(&self) {
        add(&self.malformed);
    }

    /// How much was no well-formed HTTP.
    #[must_use]
    pub fn read_malformed(&self) -> u64 {
        read(&self.malformed)
    }

    /// Every reason with the number of its refusals.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().copied().zip(self.reasons.iter().map(read))
    }

    /// The sum of all durations in seconds, and for each bucket its upper bound in seconds and the number of its requests.
    #[must_use]
    pub fn durations(&self) -> (f64, Vec<(f64, u64)>) {
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::MAX]);
        (seconds(read(&self.microseconds)), bounds.zip(self.durations.iter().map(read)).collect())
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_one_bucket_and_every_refusal_has_its_reason() {
        let (counters, service) = (Counters::default(), ServiceCounts::default());
        let millis = Duration::from_millis;
        counters.count(Some(&service), Ended::Permitted, millis(1));
        counters.count(Some(&service), Ended::Denied(Reason::TokenMissing), millis(2));
        counters.count(None, Ended::Answered, millis(400_000));
        assert_eq!(service.read(), [1, 1, 0]);
        let (sum, buckets) = counters.durations();
        assert!((sum - 400.003).abs() < 1e-6);
        let filled: Vec<_> = buckets.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [&(0.001, 1), &(0.0025, 1), &(f64::MAX, 1)], "a bound belongs to its bucket");
        let refused: Vec<_> = counters.reasons().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [(Reason::TokenMissing, 1)]);
    }
}
