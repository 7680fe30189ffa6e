//! Limits with their fill, counted in the process or with all replicas.

use std::sync::Arc;

use super::Compiler;
use crate::engine::decision::{Denial, Reason};
use crate::engine::limits::{Limit, Limits};
use crate::policy::model::Service as Model;

impl Compiler {
    /// A limit with the same keys and selector as before keeps its fill.
    pub(super) fn limits(&mut self, model: &Model) -> Result<Limits, Denial> {
        let before = self.limits.remove(&model.name).unwrap_or_default();
        let mut after = Vec::with_capacity(model.limits.len());
        let mut limits = Vec::with_capacity(model.limits.len());
        for spec in &model.limits {
            let same = before.iter().find(|(old, _)| {
                old.per == spec.per
                    && old.selector == spec.selector
                    && std::mem::discriminant(&old.kind) == std::mem::discriminant(&spec.kind)
            });
            let state = same.map_or_else(Arc::default, |(_, state)| Arc::clone(state));
            let limit = Limit::new(spec.kind, spec.per.clone(), spec.selector.clone(), Arc::clone(&state));
            let limit = limit.map_err(|error| Denial::new(Reason::Internal).because(error.to_string()))?;
            limits.push(limit.on_loss(spec.on_loss));
            after.push((spec.clone(), state));
        }
        self.limits.insert(model.name.clone(), after);
        let shared = self.workshop.shared(&model.name);
        let shared = shared.map_err(|error| Denial::new(Reason::RandomFailed).because(error.to_string()))?;
        Ok(shared.into_iter().fold(Limits::new(limits), Limits::shared_by))
    }
}
