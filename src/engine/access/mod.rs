//! Rules: who may do what. The only place that makes a [`Permit`].
//!
//! Nothing is allowed that no rule allows, a deny rule that fits wins, and the order of rules never matters. A condition
//! that cannot be decided makes an allow rule not fit and a deny rule fit. Lists and calls are judged by [`AccessTable`]'s
//! one function, so that what is listed and what can be called cannot drift apart. Rules are numbered from 0, in the order
//! of the policy. This module knows no YAML, keeps no state and opens nothing.

pub mod argument;
mod automaton;
pub mod condition;
mod facts;
pub mod findings;
mod index;
mod judge;
mod lister;
pub mod pattern;
pub mod rule;
mod scope;

use std::collections::BTreeMap;

use super::decision::{Denial, Permit, Reason};
use crate::mcp::era::Era;
use crate::mcp::operation::Operation;
use crate::oauth::identity::Identity;
use facts::{Facts, Kind, Moment};
use index::Index;
use judge::Verdict;
pub use lister::Lister;
use rule::{Callers, Effect, Rule};
use scope::{Demand, Implications};

/// What lists show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListMode {
    /// What the caller may use as they are.
    #[default]
    Permitted,
    /// Also what only lacks scopes: the call then asks for them.
    Acquirable,
}

/// All rules of a service, compiled.
#[derive(Debug)]
pub struct AccessTable {
    rules: Vec<Rule>,
    /// What each rule demands of scopes, by the rule's number.
    demands: Vec<Demand>,
    /// Every scope that the policy knows, sorted.
    policy_scopes: Vec<String>,
    list: ListMode,
    tools: Indexes,
    prompts: Indexes,
    resources: Indexes,
    methods: Indexes,
    /// Whether some `when` reads `operation.method`: then a list asks for every method that an item can be used by.
    reads_method: bool,
    allows: bool,
    /// Whether some rule is for callers without an identity.
    opens: bool,
}

/// Where the rules of one kind are found.
#[derive(Debug)]
struct Indexes {
    allow: Index,
    deny: Index,
}

impl AccessTable {
    /// A table of `rules`. `scopes` maps every scope that the policy declares to those that it implies.
    #[must_use]
    pub fn new(rules: Vec<Rule>, scopes: &BTreeMap<String, Vec<String>>, list: ListMode) -> Self {
        let implications = Implications::new(scopes);
        let demands = rules.iter().map(|rule| implications.demand(rule.scopes())).collect();
        let mut policy_scopes: Vec<String> = scopes.keys().cloned().collect();
        policy_scopes.extend(rules.iter().flat_map(|rule| rule.scopes().iter().cloned()));
        policy_scopes.sort_unstable();
        policy_scopes.dedup();
        policy_scopes.shrink_to_fit();
        let reads_method =
            rules.iter().any(|rule| rule.conditions().when.as_ref().is_some_and(|when| when.reads().method));
        Self {
            tools: Indexes::new(&rules, Kind::Tool),
            prompts: Indexes::new(&rules, Kind::Prompt),
            resources: Indexes::new(&rules, Kind::Resource),
            methods: Indexes::new(&rules, Kind::Method),
            allows: rules.iter().any(|rule| rule.effect() == Effect::Allow),
            opens: rules.iter().any(|rule| rule.callers() == Callers::Everyone),
            rules,
            demands,
            policy_scopes,
            list,
            reads_method,
        }
    }

    /// The rules, in the order of the policy.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether some rule that selects `tool` reads its argument `name`, ignoring case: then a header that mirrors it must
    /// agree.
    #[must_use]
    pub fn reads_argument(&self, tool: &str, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.reads_argument(tool, name))
    }

    /// Whether `identity` may read or be told of this resource, now and without arguments.
    #[must_use]
    pub fn permits_resource(&self, identity: &Identity, uri: &str) -> bool {
        let facts = Facts::new(identity, Kind::Resource, uri, "resources/read", Moment::Call(None));
        matches!(self.judge(&facts, &mut Vec::new()), Verdict::Permitted(_))
    }

    /// Whether some rule is for callers without an identity.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.opens
    }

    /// Judges `operation`. Conditions that could not be decided and mattered are told to `undecided`, as `rule N: cause`.
    ///
    /// # Errors
    /// [`Reason::NotPermitted`], the same whether what is asked for exists or not; [`Reason::ScopeMissing`] with the
    /// scopes to ask for; [`Reason::MethodUnknown`] for a method that neither the specification nor a rule names.
    pub fn decide(
        &self,
        identity: &Identity,
        operation: &Operation<'_>,
        era: Era,
        undecided: &mut Vec<String>,
    ) -> Result<Permit, Denial> {
        if !self.allows {
            return Err(Denial::new(Reason::NotPermitted).because("the service has no allow rule"));
        }
        let decided = self.decide_for(identity, operation, era, undecided);
        // Whoever has not said who they are is asked to: what they may then do is not told before.
        decided.map_err(|denial| if identity.is_anonymous() { unidentified().by_rule(denial.rule) } else { denial })
    }

    fn decide_for(
        &self,
        identity: &Identity,
        operation: &Operation<'_>,
        era: Era,
        undecided: &mut Vec<String>,
    ) -> Result<Permit, Denial> {
        let mut judge = |kind, name: &str, method: &str, moment: Moment<'_>| {
            let facts = Facts::new(identity, kind, name, method, moment);
            match self.judge(&facts, undecided) {
                Verdict::Permitted(rule) => Ok(Permit::by_rule(Some(rule))),
                Verdict::Refused(rule) => Err(refusal(rule)),
                Verdict::Lacking(rule) => Err(self.step_up(identity, &[rule], era)),
                Verdict::Unidentified => Err(unidentified()),
            }
        };
        let none = Moment::Call(None);
        match operation {
            Operation::List(_) | Operation::Lifecycle { .. } if identity.is_anonymous() && !self.opens => {
                Err(unidentified())
            }
            Operation::List(_) | Operation::Lifecycle { .. } => Ok(Permit::by_rule(None)),
            Operation::CallTool { name, arguments } => judge(Kind::Tool, name, "tools/call", Moment::Call(*arguments)),
            Operation::GetPrompt { name, arguments } => {
                judge(Kind::Prompt, name, "prompts/get", Moment::Call(*arguments))
            }
            Operation::CompletePrompt { name } => judge(Kind::Prompt, name, "completion/complete", none),
            Operation::ReadResource { uri } => judge(Kind::Resource, uri, "resources/read", none),
            Operation::SubscribeResource { uri } => judge(Kind::Resource, uri, "resources/subscribe", none),
            Operation::CompleteResource { uri } => judge(Kind::Resource, uri, "completion/complete", none),
            Operation::Listen { uris } => self.listen(identity, uris, era, undecided),
            // What a revision has lost, or another spelling of what there is, no rule brings back: nothing would judge the
            // tool, resource or task that it names.
            Operation::Method { method, specified: false }
                if era == Era::Modern && (rule::looks_specified(method) || !self.methods.know(method)) =>
            {
                Err(Denial::new(Reason::MethodUnknown))
            }
            Operation::Method { method, specified: false } if rule::looks_specified(method) => Err(refusal(None)),
            Operation::Method { method, .. } => judge(Kind::Method, method, method, none),
        }
    }

    /// Every entry must be permitted. A final refusal of one outweighs missing scopes of another; the scopes of all entries
    /// that lack some are asked for together, so that one step up is enough.
    fn listen<S: AsRef<str>>(
        &self,
        identity: &Identity,
        uris: &[S],
        era: Era,
        undecided: &mut Vec<String>,
    ) -> Result<Permit, Denial> {
        let (mut permitted, mut lacking) = (None, Vec::new());
        for uri in uris {
            let moment = Moment::Call(None);
            let facts = Facts::new(identity, Kind::Resource, uri.as_ref(), "subscriptions/listen", moment);
            match self.judge(&facts, undecided) {
                Verdict::Permitted(rule) => permitted = permitted.or(Some(rule)),
                Verdict::Refused(rule) => return Err(refusal(rule)),
                Verdict::Lacking(rule) => lacking.push(rule),
                Verdict::Unidentified => return Err(unidentified()),
            }
        }
        if lacking.is_empty() { Ok(Permit::by_rule(permitted)) } else { Err(self.step_up(identity, &lacking, era)) }
    }

    /// The challenge for the scopes of `rules`: whole lists, and for legacy clients, which ask for nothing else, also the
    /// policy's scopes that the caller already holds.
    fn step_up(&self, identity: &Identity, rules: &[u32], era: Era) -> Denial {
        let mut scopes: Vec<String> = Vec::new();
        let demanded = rules.iter().filter_map(|rule| self.rule(*rule)).flat_map(|rule| rule.scopes().iter());
        let held = self.policy_scopes.iter().filter(|scope| era == Era::Legacy && identity.scopes.contains(scope));
        for scope in demanded.chain(held) {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        let mut denial = Denial::new(Reason::ScopeMissing).by_rule(rules.first().copied());
        denial.scopes = scopes;
        denial
    }

    fn rule(&self, index: u32) -> Option<&Rule> {
        usize::try_from(index).ok().and_then(|index| self.rules.get(index))
    }

    fn indexes(&self, kind: Kind) -> &Indexes {
        match kind {
            Kind::Tool => &self.tools,
            Kind::Prompt => &self.prompts,
            Kind::Resource => &self.resources,
            Kind::Method => &self.methods,
        }
    }
}

impl Indexes {
    fn new(rules: &[Rule], kind: Kind) -> Self {
        let of = |effect| {
            let rules = (0_u32..).zip(rules).filter(move |(_, rule)| rule.effect() == effect);
            Index::new(rules.flat_map(move |(index, rule)| {
                let selector = rule.selector();
                let (names, uris) = match kind {
                    Kind::Tool => (selector.tools.as_slice(), None),
                    Kind::Prompt => (selector.prompts.as_slice(), None),
                    Kind::Method => (selector.methods.as_slice(), None),
                    Kind::Resource => (&[][..], Some(&selector.resources)),
                };
                let uris = uris.into_iter().flatten().map(pattern::UriPattern::pattern);
                names.iter().map(pattern::NamePattern::pattern).chain(uris).map(move |pattern| (pattern, index))
            }))
        };
        Self { allow: of(Effect::Allow), deny: of(Effect::Deny) }
    }

    fn know(&self, name: &str) -> bool {
        self.allow.knows(name) || self.deny.knows(name)
    }
}

/// What a caller without an identity is told, whatever was asked for.
fn unidentified() -> Denial {
    Denial::new(Reason::TokenMissing).because("no rule is for callers without an identity")
}

/// The same public text whatever was asked for and whichever rule refused it.
fn refusal(rule: Option<u32>) -> Denial {
    let cause = if rule.is_some() { "a deny rule fits" } else { "no allow rule fits" };
    Denial::new(Reason::NotPermitted).by_rule(rule).because(cause)
}
