//! How much the process holds of bodies and answers at once: above it new ones are shed, so that no number of large messages
//! uses up the machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::decision::{Denial, Reason};

/// Kibibytes that are held at once: 1 GiB.
const ALL: usize = 1024 * 1024;
/// Bytes that are not counted: most messages, which the bound on requests in flight bounds.
const SMALL: usize = 64 * 1024;

/// The budget of the process.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    #[expect(dead_code, reason = "it is held for as long as it lives")]
    permit: OwnedSemaphorePermit,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL)))
    }
}

impl Budget {
    /// Takes what something of `size` bytes needs; nothing for small things.
    ///
    /// # Errors
    /// [`Reason::Shed`]: too much is held already.
    pub fn take(&self, size: usize) -> Result<Option<Held>, Denial> {
        if size <= SMALL {
            return Ok(None);
        }
        let kibibytes = u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0).try_acquire_many_owned(kibibytes);
        let shed =
            |_| Denial::new(Reason::Shed).retry_after(Duration::from_secs(1)).because("large messages fill memory");
        permit.map(|permit| Some(Held { permit })).map_err(shed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o08_large_messages_are_shed_above_the_budget_and_small_ones_are_not() {
        let budget = Budget::default();
        let held: Vec<_> = (0..16).map(|_| budget.take(64 << 20).unwrap()).collect();
        assert_eq!(budget.take(SMALL + 1).unwrap_err().reason, Reason::Shed);
        assert!(budget.take(SMALL).unwrap().is_none(), "small ones are bounded by the requests in flight");
        drop(held);
        assert!(budget.take(64 << 20).unwrap().is_some(), "what was given back can be taken again");
    }
}
