//! What an operator does with the state of an installation, at the gateway that has it or without one.
//!
//! An order is answered with lines of JSON: the commands print them, and a running gateway sends them over its control
//! socket. No line holds a secret in clear.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;

use super::revocations::{Revocations, Revoked, Target};
use super::rotate::{self, Rotated};
use super::store::Table;
use super::transfer;
use super::vault::{Vault, VaultError};

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Put revocations in force.
    Revoke(Vec<Revoked>),
    /// Lift them.
    Lift(Vec<Target>),
    /// Tell what is revoked.
    Revocations,
    /// Count the rows of every table, and try to open each.
    Check,
    /// Seal everything with the first key.
    RotateKey,
    /// Write down every row, sealed as it is.
    Export,
}

/// Why an order could not be carried out, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The store refuses.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Nobody listens any more.
    #[error("nobody reads the answer")]
    Gone,
    /// Nothing has been loaded yet.
    #[error("the gateway has no store yet")]
    NoStore,
}

/// Where an operator's orders are carried out, for as long as the process runs.
#[derive(Debug)]
pub struct Desk {
    vault: ArcSwapOption<Vault>,
    revocations: Arc<Revocations>,
}

impl Desk {
    /// A desk that has no vault yet.
    #[must_use]
    pub fn new(revocations: Arc<Revocations>) -> Self {
        Self { vault: ArcSwapOption::empty(), revocations }
    }

    /// Works with this vault from now on.
    pub fn work_with(&self, vault: Arc<Vault>) {
        self.vault.store(Some(vault));
    }

    /// Carries out an order, and sends the lines of its answer.
    ///
    /// # Errors
    /// It cannot be carried out. Of several revocations those before the failure are in force.
    pub async fn perform(&self, order: Order, out: &Sender<String>) -> Result<(), DeskError> {
        let vault = self.vault.load_full().ok_or(DeskError::NoStore)?;
        match order {
            Order::Revoke(revocations) => {
                for revoked in revocations {
                    let target = &revoked.target;
                    tracing::warn!(
                        event = "operator-revoked",
                        ?target,
                        until = revoked.until,
                        "an operator revoked it"
                    );
                    self.revocations.put(&vault, revoked.clone()).await?;
                    say(out, &json!({ "revoked": revoked })).await?;
                }
            }
            Order::Lift(targets) => {
                for target in targets {
                    let found = self.revocations.lift(&vault, &target).await?;
                    tracing::warn!(event = "operator-lifted", ?target, found, "an operator lifted a revocation");
                    say(out, &json!({ "lifted": target, "found": found })).await?;
                }
            }
            Order::Revocations => {
                for revoked in self.revocations.list(&vault).await? {
                    say(out, &json!({ "revocation": revoked })).await?;
                }
            }
            Order::Check => {
                for table in Table::ALL {
                    let counts = rotate::count(&vault, *table).await?;
                    say(
                        out,
                        &json!({
                            "table": table.as_str(), "rows": counts.rows, "most": table.most(),
                            "older_key": counts.older, "unreadable": counts.unreadable,
                        }),
                    )
                    .await?;
                }
            }
            Order::RotateKey => {
                for table in Table::ALL {
                    let Rotated { moved, unreadable, missed } = rotate::rotate(&vault, *table).await?;
                    let name = table.as_str();
                    tracing::info!(event = "operator-rotated", table = name, moved, unreadable, missed, "sealed anew");
                    let line = json!({ "table": name, "moved": moved, "unreadable": unreadable, "missed": missed });
                    say(out, &line).await?;
                }
            }
            Order::Export => transfer::export(&vault, out).await?,
        }
        Ok(())
    }
}

/// Sends one line.
///
/// # Errors
/// Nobody reads it.
pub(super) async fn say(out: &Sender<String>, line: &Value) -> Result<(), DeskError> {
    out.send(line.to_string()).await.or(Err(DeskError::Gone))
}
