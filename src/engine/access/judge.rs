//! The one function that lists and calls are decided by.

use std::ops::ControlFlow;

use super::AccessTable;
use super::facts::{Facts, Fit, Kind, Moment};
use super::rule::{Callers, Effect, Rule};

/// What the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This allow rule fits with its scopes held, and no deny rule fits.
    Permitted(u32),
    /// This deny rule fits, or no allow rule does.
    Refused(Option<u32>),
    /// Only scopes are missing; this is the rule to ask for.
    Lacking(u32),
    /// Some rule is for callers with an identity, and this one has none.
    Unidentified,
}

impl AccessTable {
    /// Judges `facts`. Allocates nothing unless a condition cannot be decided.
    pub(super) fn judge(&self, facts: &Facts<'_>, undecided: &mut Vec<String>) -> Verdict {
        let refused = self.visit(facts, Effect::Deny, |index, rule| match rule.judge(facts) {
            Fit::No | Fit::Absent => ControlFlow::Continue(()),
            Fit::Yes => ControlFlow::Break(index),
            Fit::Undecided(cause) => {
                tell(undecided, rule.describe(&cause, index));
                ControlFlow::Break(index)
            }
        });
        if let ControlFlow::Break(rule) = refused {
            return Verdict::Refused(Some(rule));
        }
        let (mut lacking, mut unidentified): (Option<u32>, bool) = (None, false);
        let permitted = self.visit(facts, Effect::Allow, |index, rule| {
            if facts.identity.is_anonymous() && rule.callers() != Callers::Everyone {
                unidentified = true;
                return ControlFlow::Continue(());
            }
            match rule.judge(facts) {
                Fit::Yes if self.is_dead(facts, rule) => {}
                Fit::Yes if self.holds(facts, index) => return ControlFlow::Break(index),
                Fit::Yes => lacking = Some(self.cheaper(facts, lacking, index)),
                Fit::No | Fit::Absent => {}
                Fit::Undecided(cause) => tell(undecided, rule.describe(&cause, index)),
            }
            ControlFlow::Continue(())
        });
        match (permitted, lacking) {
            (ControlFlow::Break(rule), _) => Verdict::Permitted(rule),
            _ if unidentified => Verdict::Unidentified,
            (_, Some(rule)) => Verdict::Lacking(rule),
            _ => Verdict::Refused(None),
        }
    }

    fn visit(
        &self,
        facts: &Facts<'_>,
        effect: Effect,
        mut visit: impl FnMut(u32, &Rule) -> ControlFlow<u32>,
    ) -> ControlFlow<u32> {
        if matches!(facts.moment, Moment::Template) {
            let rules = (0..).zip(&self.rules).filter(|(_, rule)| rule.effect() == effect);
            for (index, rule) in rules.filter(|(_, rule)| rule.selects_template(facts.name)) {
                visit(index, rule)?;
            }
            return ControlFlow::Continue(());
        }
        let indexes = self.indexes(facts.kind);
        let index = if effect == Effect::Allow { &indexes.allow } else { &indexes.deny };
        index.visit(facts.name, |index| match self.rule(index) {
            Some(rule) => visit(index, rule),
            None => ControlFlow::Continue(()),
        })
    }

    fn holds(&self, facts: &Facts<'_>, rule: u32) -> bool {
        self.demand(rule).is_some_and(|demand| demand.lacking(&facts.identity.scopes) == 0)
    }

    /// Which of two rules is asked for when only scopes are missing.
    fn cheaper(&self, facts: &Facts<'_>, known: Option<u32>, new: u32) -> u32 {
        let Some(known) = known else { return new };
        let cost = |rule: u32| {
            let lacking = self.demand(rule).map(|demand| (demand.lacking(&facts.identity.scopes), demand.implied()));
            (lacking, self.rule(rule).map(Rule::scopes), rule)
        };
        if cost(new) < cost(known) { new } else { known }
    }

    fn demand(&self, rule: u32) -> Option<&super::scope::Demand> {
        usize::try_from(rule).ok().and_then(|rule| self.demands.get(rule))
    }

    /// Whether an allow rule that a list takes for satisfiable is not: its argument conditions contradict themselves, or one
    /// deny rule that selects this very item refuses whatever they accept.
    fn is_dead(&self, facts: &Facts<'_>, allow: &Rule) -> bool {
        if matches!(facts.moment, Moment::Call(_)) || !matches!(facts.kind, Kind::Tool | Kind::Prompt) {
            return false;
        }
        if !allow.reads_arguments() {
            return false;
        }
        allow.contradiction().is_some()
            || self
                .visit(facts, Effect::Deny, |index, deny| {
                    let covered = deny.covers_arguments(allow) && deny.when(facts) != Fit::No;
                    if covered { ControlFlow::Break(index) } else { ControlFlow::Continue(()) }
                })
                .is_break()
    }
}

fn tell(undecided: &mut Vec<String>, text: String) {
    // A rule with two patterns for one name is visited twice.
    if !undecided.contains(&text) {
        undecided.push(text);
    }
}
