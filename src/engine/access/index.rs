//! From a name to the rules that select it, without trying every rule.
//!
//! Whole names and globs stand in sorted lists, globs by their literal beginnings; regular expressions in one common
//! automaton. There is an index for every kind and effect of every service, so an empty one allocates nothing.

use std::ops::ControlFlow;

use regex::{RegexSet, RegexSetBuilder};

use super::pattern::Pattern;

/// Regular expressions up to this number are tried one by one: that needs no memory.
const FEW: usize = 8;
/// Bytes of the common automaton at most; above, expressions are tried one by one.
const LARGEST: usize = 64 << 20;

/// An index of patterns by what they match. Each pattern stands with its rule, equal ones in the order of the rules.
#[derive(Debug)]
pub(super) struct Index {
    /// By text.
    whole: Box<[(Pattern, u32)]>,
    /// By beginning.
    globs: Box<[(Pattern, u32)]>,
    /// Every length of such a beginning, in bytes, from the shortest.
    lengths: Box<[u16]>,
    regexes: Box<[(Pattern, u32)]>,
    common: Option<Box<RegexSet>>,
}

impl Index {
    /// An index of `entries`, pairs of a pattern and its rule.
    pub(super) fn new<'p>(entries: impl Iterator<Item = (&'p Pattern, u32)>) -> Self {
        let (mut whole, mut globs, mut regexes) = (Vec::new(), Vec::new(), Vec::new());
        for (pattern, rule) in entries {
            let list = if pattern.only().is_some() {
                &mut whole
            } else if pattern.automaton().is_some() {
                &mut regexes
            } else {
                &mut globs
            };
            list.push((pattern.clone(), rule));
        }
        // Stable: patterns that begin alike stay in the order of the rules.
        whole.sort_by(|(one, _), (other, _)| one.only().cmp(&other.only()));
        globs.sort_by(|(one, _), (other, _)| one.prefix().cmp(other.prefix()));
        let mut lengths: Vec<u16> =
            globs.iter().filter_map(|(glob, _)| u16::try_from(glob.prefix().len()).ok()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let common = (regexes.len() > FEW).then(|| {
            let sources = regexes.iter().filter_map(|(pattern, _)| pattern.automaton());
            RegexSetBuilder::new(sources).size_limit(LARGEST).dfa_size_limit(LARGEST).build().ok().map(Box::new)
        });
        Self {
            whole: whole.into(),
            globs: globs.into(),
            lengths: lengths.into(),
            regexes: regexes.into(),
            common: common.flatten(),
        }
    }

    /// Calls `visit` for each rule with a pattern that matches `name`, perhaps twice for one rule, until it breaks: whole
    /// names first, then globs from the shortest beginning, then regular expressions.
    pub(super) fn visit<B>(&self, name: &str, mut visit: impl FnMut(u32) -> ControlFlow<B>) -> ControlFlow<B> {
        for (_, rule) in equal(&self.whole, name, |pattern| pattern.only().unwrap_or_default()) {
            visit(*rule)?;
        }
        let beginnings = self.lengths.iter().map_while(|length| name.as_bytes().get(..usize::from(*length)));
        for beginning in beginnings {
            for (pattern, rule) in equal(&self.globs, beginning, |pattern| pattern.prefix().as_bytes()) {
                if pattern.matches(name) {
                    visit(*rule)?;
                }
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

/// The entries of a sorted list whose `key` is this one.
fn equal<'e, K: Ord + ?Sized>(
    sorted: &'e [(Pattern, u32)],
    wanted: &'e K,
    key: impl Fn(&Pattern) -> &K + 'e,
) -> impl Iterator<Item = &'e (Pattern, u32)> {
    let first = sorted.partition_point(|(pattern, _)| key(pattern) < wanted);
    sorted.get(first..).unwrap_or_default().iter().take_while(move |(pattern, _)| key(pattern) == wanted)
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Span;
    use super::*;

    fn visited(patterns: &[Pattern], name: &str) -> Vec<u32> {
        let index = Index::new(patterns.iter().zip(0..));
        let mut rules = Vec::new();
        let all = index.visit(name, |rule| {
            rules.push(rule);
            ControlFlow::<()>::Continue(())
        });
        assert!(all.is_continue());
        assert_eq!(index.knows(name), !rules.is_empty());
        rules
    }

    #[test]
    fn every_pattern_that_matches_is_found_and_shorter_beginnings_come_first() {
        let glob = |text| Pattern::glob(text, Span::Any).unwrap();
        let whole = ["get_b", "get_a", "get_a"].map(|text| Pattern::exact(text).unwrap());
        let globs = ["get_*", "*", "get_a*", "get_*a", "put_*", "g*t_a", "getter_*"].map(glob);
        let regexes = ["get_[ab]", "put_.*"].map(|text| Pattern::regex(text).unwrap());
        let patterns: Vec<Pattern> = whole.into_iter().chain(globs).chain(regexes).collect();
        assert_eq!(visited(&patterns, "get_a"), [1, 2, 4, 8, 3, 6, 5, 10]);
        assert_eq!(visited(&patterns, "get_b"), [0, 4, 3, 10]);
        assert_eq!(visited(&patterns, "pu"), [4]);
        assert_eq!(visited(&patterns, ""), [4]);
        assert_eq!(visited(&patterns, "äget_a"), [4], "a beginning may end within a character");
        assert!(visited(&patterns[..3], "get").is_empty());
    }

    #[test]
    fn many_expressions_are_found_as_few_are() {
        let many: Vec<Pattern> = (0..40).map(|n| Pattern::regex(&format!("t{n}_.*")).unwrap()).collect();
        assert_eq!(visited(&many, "t7_x"), [7]);
        assert_eq!(visited(&many[..FEW], "t7_x"), [7]);
    }
}
