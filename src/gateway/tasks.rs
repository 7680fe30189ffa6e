//! Who made which task, for those who judge messages.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use crate::engine::decision::{Denial, Reason};
use crate::engine::vault::{Vault, VaultError};
use crate::mcp::server::Task;
use crate::oauth::identity::Identity;

/// When a caller may come again.
const AGAIN: Duration = Duration::from_secs(1);

impl Gateway {
    /// Remembers that `identity` made `task`, before the client hears of it: it may ask another replica at once.
    pub(super) async fn made(&self, service: &str, task: &Task<'_>, identity: &Identity) {
        let vault = self.task_vault();
        let kept = self.tasks.made(&vault, service, &task.id, task.lifetime, identity).await;
        if let Err(error) = kept {
            tracing::warn!(event = "task-unkept", service, %error, "a task is known to this process alone");
        }
    }

    /// Whether `identity` made all of `tasks`.
    ///
    /// # Errors
    /// One of them is not known here, and the store cannot be asked.
    pub(super) async fn owns(
        &self,
        service: &str,
        tasks: &[Cow<'_, str>],
        identity: &Identity,
    ) -> Result<bool, Denial> {
        let vault = self.task_vault();
        self.tasks.owns(&vault, service, tasks, identity).await.map_err(|error| lost(&error))
    }

    /// Which of the `tasks` of a list `identity` made.
    ///
    /// # Errors
    /// One of them is not known here, and the store cannot be asked.
    pub(super) async fn owned<'t>(
        &self,
        service: &str,
        tasks: &'t [String],
        identity: &Identity,
    ) -> Result<HashSet<&'t str>, Denial> {
        let vault = self.task_vault();
        self.tasks.owned(&vault, service, tasks, identity).await.map_err(|error| lost(&error))
    }

    /// The newest: a stream may have begun before the keys that seal rows were changed.
    fn task_vault(&self) -> Arc<Vault> {
        Arc::clone(&self.current.load().tasks)
    }
}

fn lost(error: &VaultError) -> Denial {
    Denial::new(Reason::StoreUnavailable).retry_after(AGAIN).because(error.to_string())
}
