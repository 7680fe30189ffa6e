//! The time, as something a test can set.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock for claims, the monotonic clock for limits.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Seconds since the epoch.
    fn unix(&self) -> i64;
    /// A clock that never goes back.
    fn monotonic(&self) -> Instant;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix(&self) -> i64 {
        // A clock before 1970 makes every token not yet valid: closed, not open.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that a test sets: seconds since the epoch.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct SetClock(pub std::sync::atomic::AtomicI64);

#[cfg(test)]
impl Clock for SetClock {
    fn unix(&self) -> i64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}
