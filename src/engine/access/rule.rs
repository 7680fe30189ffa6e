//! What a rule is: a selector, conditions, scopes. It does not know other rules.

use super::argument::ArgumentMatcher;
use super::condition::Condition;
use super::facts::{Cause, Facts, Fit, Kind, Moment};
use super::pattern::{NamePattern, UriPattern};
use crate::mcp::members::folded_equal;
use crate::oauth::identity::Holder;

/// Methods that `methods:` of a rule does not govern: they follow the other selectors, or need no rule.
const GOVERNED: [&str; 24] = [
    "tools/call",
    "tools/list",
    "prompts/get",
    "prompts/list",
    "resources/read",
    "resources/list",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "subscriptions/listen",
    "completion/complete",
    "initialize",
    "server/discover",
    "ping",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/cancel",
    "tasks/update",
    "notifications/tasks/status",
];

/// Whether a method is one that the specification names, or could be taken for one: what was not judged as that is not let in
/// by its spelling.
pub(super) fn looks_specified(method: &str) -> bool {
    GOVERNED.iter().chain(&["logging/setLevel"]).any(|name| folded_equal(method, name))
}

/// What a rule does when it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Permits, if no deny rule fits.
    Allow,
    /// Refuses, whatever else fits.
    Deny,
}

/// Whom a rule is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Callers {
    /// Callers with an identity.
    #[default]
    Identified,
    /// Callers without one too (`identity: none`).
    Everyone,
    /// Only such callers (`identity: person`, `identity: machine`).
    Only(Holder),
}

/// What is asked for. A rule selects whatever any of the lists names.
#[derive(Debug, Default, PartialEq)]
pub struct Selector {
    /// Tools, by name.
    pub tools: Vec<NamePattern>,
    /// Resources and their subscriptions and completions, by URI.
    pub resources: Vec<UriPattern>,
    /// Prompts and their completions, by name.
    pub prompts: Vec<NamePattern>,
    /// `logging/setLevel` and methods that the specification does not name.
    pub methods: Vec<NamePattern>,
}

/// Whether arguments that no matcher names may be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OtherArguments {
    /// They may.
    #[default]
    Allow,
    /// An allow rule does not fit when there is one.
    Deny,
}

/// What must hold for a rule to fit.
#[derive(Debug, Default, PartialEq)]
pub struct Conditions {
    /// On identity and operation: compiled for [`Phase::List`](super::condition::Phase).
    pub when: Option<Condition>,
    /// On single arguments.
    pub arguments: Vec<ArgumentMatcher>,
    /// On arguments that `arguments` does not name.
    pub other_arguments: OtherArguments,
    /// On arguments too: compiled for [`Phase::Call`](super::condition::Phase).
    pub when_arguments: Option<Condition>,
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Nothing is selected.
    #[error("the rule selects nothing; name tools, resources, prompts or methods")]
    SelectsNothing,
    /// `methods:` names what other selectors govern.
    #[error("`{0}` under `methods` does nothing: that method follows tools, resources and prompts, or needs no rule")]
    MethodGoverned(String),
    /// A deny rule takes no scopes, so that more scopes never deny more.
    #[error("a deny rule takes no scopes")]
    ScopesOnDeny,
    /// `when` reads arguments.
    #[error("`when` reads arguments; use `when_arguments`")]
    WhenReadsArguments,
    /// Resources and methods have no arguments.
    #[error("conditions on arguments need a rule that selects tools or prompts only")]
    NoArguments,
    /// A rule for everyone that demands scopes, or a deny rule that says whom it is for.
    #[error("`identity: none` belongs to allow rules without scopes")]
    NoIdentity,
    /// `other_arguments: deny` in a deny rule.
    #[error("`other_arguments` belongs to allow rules")]
    OthersOnDeny,
    /// Two matchers for one place.
    #[error("the argument `{0}` is named twice")]
    ArgumentTwice(String),
}

/// One rule. Built once, it is valid: what does nothing or contradicts the meaning of rules is refused here.
#[derive(Debug, PartialEq)]
pub struct Rule {
    effect: Effect,
    selector: Selector,
    conditions: Conditions,
    scopes: Vec<String>,
    callers: Callers,
}

impl Rule {
    /// A rule that permits what `selector` names when `conditions` hold and all of `scopes` are held.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub fn allow(selector: Selector, conditions: Conditions, scopes: Vec<String>) -> Result<Self, RuleError> {
        Self { effect: Effect::Allow, selector, conditions, scopes, callers: Callers::default() }.checked()
    }

    /// A rule that refuses what `selector` names when `conditions` hold or cannot be decided.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub fn deny(selector: Selector, conditions: Conditions) -> Result<Self, RuleError> {
        Self { effect: Effect::Deny, selector, conditions, scopes: Vec::new(), callers: Callers::default() }.checked()
    }

    /// As [`allow`](Self::allow) or [`deny`](Self::deny), with the effect as a value.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub fn new(
        effect: Effect,
        selector: Selector,
        conditions: Conditions,
        scopes: Vec<String>,
    ) -> Result<Self, RuleError> {
        match effect {
            Effect::Allow => Self::allow(selector, conditions, scopes),
            Effect::Deny if scopes.is_empty() => Self::deny(selector, conditions),
            Effect::Deny => Err(RuleError::ScopesOnDeny),
        }
    }

    /// The rule, for callers without an identity too.
    ///
    /// # Errors
    /// It is a deny rule, which is for everyone anyway, or demands scopes, which nobody without an identity holds.
    pub fn for_everyone(mut self) -> Result<Self, RuleError> {
        if self.effect == Effect::Deny || !self.scopes.is_empty() {
            return Err(RuleError::NoIdentity);
        }
        self.callers = Callers::Everyone;
        Ok(self)
    }

    /// The rule, for persons or machines alone.
    #[must_use]
    pub fn only_for(mut self, holder: Holder) -> Self {
        self.callers = Callers::Only(holder);
        self
    }

    fn checked(mut self) -> Result<Self, RuleError> {
        let Selector { tools, resources, prompts, methods } = &self.selector;
        if tools.is_empty() && resources.is_empty() && prompts.is_empty() && methods.is_empty() {
            return Err(RuleError::SelectsNothing);
        }
        let governed =
            |method: &&NamePattern| !method.is_catch_all() && GOVERNED.iter().any(|name| method.matches(name));
        if let Some(method) = methods.iter().find(governed) {
            return Err(RuleError::MethodGoverned(method.text().to_owned()));
        }
        let Conditions { when, arguments, other_arguments, .. } = &self.conditions;
        if when.as_ref().is_some_and(|when| when.reads().arguments) {
            return Err(RuleError::WhenReadsArguments);
        }
        if self.effect == Effect::Deny && *other_arguments == OtherArguments::Deny {
            return Err(RuleError::OthersOnDeny);
        }
        if self.reads_arguments() && !(resources.is_empty() && methods.is_empty()) {
            return Err(RuleError::NoArguments);
        }
        for (place, matcher) in arguments.iter().enumerate() {
            if arguments.iter().take(place).any(|other| other.same_place(matcher)) {
                return Err(RuleError::ArgumentTwice(matcher.key().to_owned()));
            }
        }
        self.scopes.sort_unstable();
        self.scopes.dedup();
        Ok(self)
    }

    /// What the rule does.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// What it selects.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// What must hold.
    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// The scopes that must be held, sorted.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Whom the rule is for.
    #[must_use]
    pub fn callers(&self) -> Callers {
        self.callers
    }

    /// Whether the rule, when it selects `tool`, reads the argument `name`; a CEL expression may read any.
    pub(super) fn reads_argument(&self, tool: &str, name: &str) -> bool {
        let selects = || self.selector.tools.iter().any(|pattern| pattern.matches(tool));
        let reads = || {
            self.conditions.when_arguments.is_some()
                || self.conditions.arguments.iter().any(|matcher| matcher.top().eq_ignore_ascii_case(name))
        };
        selects() && reads()
    }

    /// Whether arguments take part in the rule.
    pub(super) fn reads_arguments(&self) -> bool {
        let Conditions { arguments, other_arguments, when_arguments, .. } = &self.conditions;
        !arguments.is_empty() || *other_arguments == OtherArguments::Deny || when_arguments.is_some()
    }

    /// Whether the rule has no condition at all.
    pub(super) fn is_plain(&self) -> bool {
        self.conditions.when.is_none() && !self.reads_arguments()
    }

    /// Whether the selector names the resource template of the facts.
    pub(super) fn selects_template(&self, template: &str) -> bool {
        self.selector.resources.iter().any(|pattern| match self.effect {
            Effect::Allow => pattern.meets_template(template),
            Effect::Deny => pattern.covers_template(template),
        })
    }

    /// Whether the conditions hold. What is not known yet at list time counts as satisfiable in an allow rule and as not
    /// fitting in a deny rule.
    pub(super) fn judge(&self, facts: &Facts<'_>) -> Fit {
        let open = || Fit::from(self.effect == Effect::Allow);
        self.when(facts).and(|| match facts.moment {
            _ if !self.reads_arguments() => Fit::Yes,
            Moment::Call(_) => self.arguments(facts),
            Moment::List | Moment::Template => open(),
        })
    }

    /// The part that is decided for lists too.
    pub(super) fn when(&self, facts: &Facts<'_>) -> Fit {
        let identity = facts.identity;
        let is_for = |holder| !identity.is_anonymous() && identity.holder == holder;
        if matches!(self.callers, Callers::Only(holder) if !is_for(holder)) {
            return Fit::No;
        }
        match &self.conditions.when {
            None => Fit::Yes,
            Some(when) if matches!(facts.moment, Moment::Template) && when.reads().target => {
                Fit::from(self.effect == Effect::Allow)
            }
            Some(when) => when.judge(facts),
        }
    }

    fn arguments(&self, facts: &Facts<'_>) -> Fit {
        if !matches!(facts.kind, Kind::Tool | Kind::Prompt) {
            return Fit::Yes;
        }
        let arguments = match facts.arguments() {
            Ok(arguments) => arguments,
            Err(cause) => return Fit::Undecided(cause),
        };
        let Conditions { arguments: matchers, other_arguments, when_arguments, .. } = &self.conditions;
        let absence = |fit| match fit {
            Fit::Absent => Fit::from(self.effect == Effect::Allow),
            fit => fit,
        };
        let named = matchers.iter().fold(Fit::Yes, |fit, matcher| fit.and(|| absence(matcher.judge(arguments))));
        named
            .and(|| match other_arguments {
                OtherArguments::Allow => Fit::Yes,
                OtherArguments::Deny => {
                    let known = |name: &String| matchers.iter().any(|matcher| matcher.top() == name);
                    arguments.as_object().is_some_and(|all| all.keys().all(known)).into()
                }
            })
            .and(|| when_arguments.as_ref().map_or(Fit::Yes, |condition| condition.judge(facts)))
    }

    /// Why the conditions can never hold, when that can be seen.
    pub(super) fn contradiction(&self) -> Option<String> {
        self.conditions.arguments.iter().find_map(ArgumentMatcher::contradiction)
    }

    /// Whether this deny rule, if it selects and its `when` holds, fits whatever arguments `allowed` accepts.
    pub(super) fn covers_arguments(&self, allowed: &Self) -> bool {
        let Conditions { arguments, when_arguments, .. } = &self.conditions;
        when_arguments.is_none()
            && arguments.iter().all(|mine| allowed.conditions.arguments.iter().any(|accepted| mine.covers(accepted)))
    }

    pub(super) fn describe(&self, cause: &Cause, index: u32) -> String {
        format!("rule {index}: {cause}")
    }
}
