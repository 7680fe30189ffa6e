//! Until when something must be there.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A deadline that starts no timer before somebody waits for it: most messages are there when they are looked for.
#[derive(Debug, Default)]
pub struct Due {
    at: Option<Instant>,
    /// Wakes at `at`.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Due {
    /// So long from now.
    pub fn within(&mut self, wait: Duration) {
        self.at = Some(Instant::now() + wait);
    }

    /// Whenever it comes.
    pub fn whenever(&mut self) {
        *self = Self::default();
    }

    /// Whether it is awaited for a limited time.
    pub fn is_limited(&self) -> bool {
        self.at.is_some()
    }

    /// Ready once it is late.
    pub fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut().poll(cx)
    }
}
