//! Scopes that rules demand, and scopes that stand for others.

use std::collections::{BTreeMap, BTreeSet};

use crate::oauth::identity::Scopes;

/// Which scopes stand for which, over any number of steps.
pub(super) struct Implications<'p> {
    direct: &'p BTreeMap<String, Vec<String>>,
}

/// What one rule demands.
#[derive(Debug)]
pub(super) struct Demand {
    /// For each demanded scope, itself first, every scope that stands for it.
    any_of: Box<[Box<[String]>]>,
    implied: usize,
}

impl<'p> Implications<'p> {
    pub(super) fn new(direct: &'p BTreeMap<String, Vec<String>>) -> Self {
        Self { direct }
    }

    /// What `scopes` demand, all of them.
    pub(super) fn demand(&self, scopes: &[String]) -> Demand {
        let any_of = scopes.iter().map(|scope| {
            let standing =
                self.direct.keys().filter(|other| *other != scope && self.reach(other).contains(scope.as_str()));
            std::iter::once(scope).chain(standing).cloned().collect()
        });
        let all: BTreeSet<&str> = scopes.iter().flat_map(|scope| self.reach(scope)).collect();
        let implied = all.iter().filter(|scope| !scopes.iter().any(|own| own == *scope)).count();
        Demand { any_of: any_of.collect(), implied }
    }

    /// Everything that `scope` stands for, itself included. A circle ends where it began.
    fn reach<'s>(&'s self, scope: &'s str) -> BTreeSet<&'s str> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![scope]);
        while let Some(scope) = open.pop() {
            if reached.insert(scope) {
                open.extend(self.direct.get(scope).into_iter().flatten().map(String::as_str));
            }
        }
        reached
    }
}

impl Demand {
    /// How many of the demanded scopes are not held.
    pub(super) fn lacking(&self, held: &Scopes) -> usize {
        self.any_of.iter().filter(|any| !any.iter().any(|scope| held.contains(scope))).count()
    }

    /// How many further scopes the demanded ones stand for.
    pub(super) fn implied(&self) -> usize {
        self.implied
    }
}
