//! Rules that do nothing: found when a policy is loaded, so that nobody relies on them.
//!
//! Only what can be seen for certain is reported.

use super::AccessTable;
use super::pattern::Pattern;
use super::rule::{Callers, Effect, Rule};

/// A rule, or a part of one, that does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRule {
    /// The number of the rule, from 0.
    pub index: usize,
    /// Why, as a lower-case clause.
    pub why: String,
    /// The rule that makes it so, when there is one.
    pub because_of: Option<usize>,
}

impl AccessTable {
    /// Every rule that does nothing, in the order of the policy.
    #[must_use]
    pub fn findings(&self) -> Vec<DeadRule> {
        self.rules.iter().enumerate().flat_map(|(index, rule)| self.judge_rule(index, rule)).collect()
    }

    fn judge_rule(&self, index: usize, rule: &Rule) -> Vec<DeadRule> {
        let finding = |why: String, because_of| DeadRule { index, why, because_of };
        if let Some(why) = rule.contradiction() {
            return vec![finding(format!("the rule never fits: {why}"), None)];
        }
        let others = || self.rules.iter().enumerate().filter(move |(other, _)| *other != index);
        if let Some((other, _)) = others().find(|(other, earlier)| *other < index && *earlier == rule) {
            return vec![finding(format!("the rule repeats rule {other}"), Some(other))];
        }
        let killers: Vec<_> = others().filter(|(_, killer)| kills(killer, rule)).collect();
        let mut dead = Vec::new();
        let patterns = patterns(rule);
        for (kind, pattern) in &patterns {
            let covering = killers.iter().find(|(other, killer)| {
                // Of two rules that make each other superfluous only the later is reported.
                let mutual = |covering: &Pattern| *other > index && kills(rule, killer) && pattern.covers(covering);
                let mut others = self::patterns(killer).into_iter();
                others.any(|(other, covering)| other == *kind && covering.covers(pattern) && !mutual(covering))
            });
            if let Some((other, killer)) = covering {
                dead.push((*kind, pattern.text(), *other, killer.effect()));
            }
        }
        let why = |other, effect: Effect| match (rule.effect(), effect) {
            (Effect::Allow, Effect::Deny) => format!("is always refused by rule {other}"),
            (Effect::Allow, Effect::Allow) => format!("is already allowed by rule {other}, which demands no more"),
            (Effect::Deny, _) => format!("is already refused by rule {other}"),
        };
        match dead.first() {
            Some((_, _, other, effect)) if dead.len() == patterns.len() => {
                vec![finding(format!("everything the rule selects {}", why(*other, *effect)), Some(*other))]
            }
            _ => dead
                .into_iter()
                .map(|(kind, text, other, effect)| {
                    finding(format!("`{text}` under `{kind}` {}", why(other, effect)), Some(other))
                })
                .collect(),
        }
    }
}

fn patterns(rule: &Rule) -> Vec<(&'static str, &Pattern)> {
    let selector = rule.selector();
    let names = [("tools", &selector.tools), ("prompts", &selector.prompts), ("methods", &selector.methods)];
    let names = names.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.pattern())));
    names.chain(selector.resources.iter().map(|uri| ("resources", uri.pattern()))).collect()
}

/// Whether everybody whom `strict` is for is one of those whom `lenient` is for. A deny rule that does not say is for everyone.
fn includes(lenient: &Rule, strict: &Rule) -> bool {
    match lenient.callers() {
        Callers::Everyone => true,
        Callers::Identified => lenient.effect() == Effect::Deny || strict.callers() != Callers::Everyone,
        only @ Callers::Only(_) => strict.callers() == only,
    }
}

/// Whether `rule` does nothing where `killer` selects the same.
fn kills(killer: &Rule, rule: &Rule) -> bool {
    if !includes(killer, rule) {
        return false;
    }
    match (killer.effect(), rule.effect()) {
        (Effect::Deny, Effect::Allow) => killer.conditions().when.is_none() && killer.covers_arguments(rule),
        (Effect::Allow, Effect::Allow) => asks_no_more(killer, rule),
        (Effect::Deny, Effect::Deny) => killer.is_plain(),
        (Effect::Allow, Effect::Deny) => false,
    }
}

/// Whether whoever satisfies `strict` satisfies `lenient`.
fn asks_no_more(lenient: &Rule, strict: &Rule) -> bool {
    let free = lenient.is_plain() || lenient.conditions() == strict.conditions();
    free && lenient.scopes().iter().all(|scope| strict.scopes().contains(scope))
}
