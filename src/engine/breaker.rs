//! Leaves alone what does not answer: after failures in a row nobody asks for a while, and then one asks first.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which nobody asks.
const FAILURES: u32 = 5;
/// How long nobody asks.
const REST: Duration = Duration::from_secs(5);

/// Closed at first.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Set while it is open.
    until: Option<Instant>,
}

impl Breaker {
    /// Whether to ask now. After the rest one is let through to try, and the rest begins anew for all others.
    ///
    /// # Errors
    /// How long to wait.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        match state.until {
            Some(until) if now < until => Err(until.saturating_duration_since(now)),
            Some(_) => {
                state.until = Some(now + REST);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// An answer came: everybody may ask.
    pub fn succeeded(&self) {
        *self.state() = State::default();
    }

    /// No answer came. Says for how long nobody asks now.
    pub fn failed(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return None;
        }
        state.until = Some(now + REST);
        Some(REST)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b04_five_failures_in_a_row_open_it_and_one_success_closes_it() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..4 {
            assert_eq!(breaker.failed(start), None);
        }
        breaker.succeeded();
        for _ in 0..4 {
            assert_eq!(
                (breaker.admit(start), breaker.failed(start)),
                (Ok(()), None),
                "a success begins the count anew"
            );
        }
        assert_eq!(breaker.failed(start), Some(REST));
        assert_eq!(breaker.admit(start), Err(REST));
        let soon = start + Duration::from_secs(3);
        assert_eq!(breaker.admit(soon), Err(Duration::from_secs(2)), "the wait is what is left of the rest");

        let later = start + REST;
        assert_eq!(breaker.admit(later), Ok(()), "one tries");
        assert_eq!(breaker.admit(later), Err(REST), "and the others wait for what it finds");
        assert_eq!(breaker.failed(later), Some(REST), "one more failure is enough");
        let latest = later + REST;
        assert_eq!((breaker.admit(latest), breaker.admit(latest)), (Ok(()), Err(REST)));
        breaker.succeeded();
        assert_eq!((breaker.admit(latest), breaker.admit(latest)), (Ok(()), Ok(())), "an answer closes it");
    }
}
