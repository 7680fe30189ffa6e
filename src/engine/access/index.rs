//! From a name to the rules that select it, without trying every rule.
//!
//! Whole names stand in a hash map, globs in a tree of their literal beginnings, regular expressions in one common automaton.

use std::collections::HashMap;
use std::ops::ControlFlow;

use regex::{RegexSet, RegexSetBuilder};

use super::pattern::Pattern;

/// Regular expressions up to this number are tried one by one: that needs no memory.
const FEW: usize = 8;
/// Bytes of the common automaton at most; above, expressions are tried one by one.
const LARGEST: usize = 64 << 20;

/// An index of patterns by what they match.
#[derive(Debug)]
pub(super) struct Index {
    whole: HashMap<Box<str>, Vec<u32>>,
    tree: Vec<Branch>,
    globs: Vec<(Pattern, u32)>,
    regexes: Vec<(Pattern, u32)>,
    common: Option<RegexSet>,
}

#[derive(Debug, Default)]
struct Branch {
    /// Sorted by byte.
    next: Vec<(u8, usize)>,
    globs: Vec<usize>,
}

impl Index {
    /// An index of `entries`, pairs of a pattern and its rule.
    pub(super) fn new<'p>(entries: impl Iterator<Item = (&'p Pattern, u32)>) -> Self {
        let mut index = Self {
            whole: HashMap::new(),
            tree: vec![Branch::default()],
            globs: Vec::new(),
            regexes: Vec::new(),
            common: None,
        };
        for (pattern, rule) in entries {
            if let Some(text) = pattern.only() {
                index.whole.entry(text.into()).or_default().push(rule);
            } else if pattern.automaton().is_some() {
                index.regexes.push((pattern.clone(), rule));
            } else {
                let branch = index.grow(pattern.prefix());
                let glob = index.globs.len();
                index.globs.push((pattern.clone(), rule));
                if let Some(branch) = index.tree.get_mut(branch) {
                    branch.globs.push(glob);
                }
            }
        }
        if index.regexes.len() > FEW {
            let sources = index.regexes.iter().filter_map(|(pattern, _)| pattern.automaton());
            index.common = RegexSetBuilder::new(sources).size_limit(LARGEST).dfa_size_limit(LARGEST).build().ok();
        }
        index
    }

    /// The branch for `prefix`, made where it is missing.
    fn grow(&mut self, prefix: &str) -> usize {
        let mut at = 0;
        for byte in prefix.bytes() {
            let fresh = self.tree.len();
            let Some(branch) = self.tree.get_mut(at) else { return at };
            match branch.next.binary_search_by_key(&byte, |(byte, _)| *byte) {
                Ok(found) => at = branch.next.get(found).map_or(at, |(_, next)| *next),
                Err(place) => {
                    branch.next.insert(place, (byte, fresh));
                    self.tree.push(Branch::default());
                    at = fresh;
                }
            }
        }
        at
    }

    /// Calls `visit` for each rule with a pattern that matches `name`, perhaps twice for one rule, until it breaks.
    pub(super) fn visit<B>(&self, name: &str, mut visit: impl FnMut(u32) -> ControlFlow<B>) -> ControlFlow<B> {
        for rule in self.whole.get(name).into_iter().flatten() {
            visit(*rule)?;
        }
        if !self.globs.is_empty() {
            let mut bytes = name.bytes();
            let mut branch = self.tree.first();
            while let Some(here) = branch {
                for (pattern, rule) in here.globs.iter().filter_map(|glob| self.globs.get(*glob)) {
                    if pattern.matches(name) {
                        visit(*rule)?;
                    }
                }
                branch = bytes.next().and_then(|byte| {
                    let found = here.next.binary_search_by_key(&byte, |(byte, _)| *byte).ok()?;
                    here.next.get(found).and_then(|(_, next)| self.tree.get(*next))
                });
            }
        }
        if let Some(common) = &self.common {
            for (_, rule) in common.matches(name).into_iter().filter_map(|found| self.regexes.get(found)) {
                visit(*rule)?;
            }
        } else {
            for (_, rule) in self.regexes.iter().filter(|(pattern, _)| pattern.matches(name)) {
                visit(*rule)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether any pattern matches `name`.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.visit(name, |_| ControlFlow::Break(())).is_break()
    }
}
