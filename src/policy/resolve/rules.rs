//! The meaning of `rules`.

use std::collections::BTreeMap;

use super::context::Context;
use super::expression;
use super::scopes::unknown_scope;
use crate::diagnostics::Diagnostic;
use crate::engine::access::argument::{ArgumentMatcher, Check, JsonType, Presence};
use crate::engine::access::condition::{Condition, Phase};
use crate::engine::access::findings::DeadRule;
use crate::engine::access::pattern::{NamePattern, UriPattern};
use crate::engine::access::rule::{Conditions, Effect, OtherArguments, Rule, RuleError, Selector};
use crate::engine::access::{AccessTable, ListMode};
use crate::oauth::identity::Holder;
use crate::policy::codes;
use crate::policy::document::PolicyDocument;
use crate::policy::document::policy::{ListMode as ListWord, UriMode};
use crate::policy::document::rule::{
    IdentityWord, MatcherDocument, OtherArguments as OthersWord, PatternDocument, RuleDocument, SelectorDocument,
    TypeWord,
};
use crate::policy::tree::escaped;

/// Two spellings of one resource are two names to an opaque service: no pattern could cover them safely.
const NOT_WHOLE: &str = "with `uri_form: opaque` a rule names whole URIs, or all of them with `**`";

/// Compiles the rules; reports what does not compile, and rules that do nothing.
pub fn rules(context: &mut Context<'_>, document: &PolicyDocument) -> Option<AccessTable> {
    let written = document.rules.as_deref().unwrap_or_default();
    if !written.iter().any(|rule| rule.allow.is_some()) {
        let diagnostic = Diagnostic::warning(codes::NO_RULE, "the service permits nothing: it has no `allow` rule");
        context.push_at_key(
            diagnostic.help("add for example `- allow: { tools: [search_*] }`"),
            if document.rules.is_some() { "/rules" } else { "/service" },
        );
    }
    let rules: Vec<Option<Rule>> =
        written.iter().enumerate().map(|(index, written)| rule(context, document, written, index)).collect();
    let rules: Option<Vec<Rule>> = rules.into_iter().collect();
    let implies =
        document.scopes.iter().flatten().map(|(name, scope)| (name.clone(), scope.implies.clone().unwrap_or_default()));
    let implies: BTreeMap<String, Vec<String>> = implies.collect();
    let list = if document.list == Some(ListWord::Acquirable) { ListMode::Acquirable } else { ListMode::Permitted };
    let table = AccessTable::new(rules?, &implies, list);
    for dead in table.findings() {
        let place = dead.because_of.map(|rule| context.tree.line_at(&format!("/rules/{rule}")));
        let diagnostic = Diagnostic::error(codes::DEAD_RULE, one_based(&dead.why, dead.because_of));
        let help = place.map_or("remove it, or change it".to_owned(), |place| {
            format!("that rule is at {place}; remove or narrow one of them")
        });
        let at = dead_part(document, &dead).unwrap_or_else(|| format!("/rules/{}", dead.index));
        context.push(diagnostic.help(help), &at);
    }
    if document.list == Some(ListWord::Acquirable) && table.rules().iter().all(|rule| rule.scopes().is_empty()) {
        let diagnostic =
            Diagnostic::error(codes::USELESS_SETTING, "`list: acquirable` has no effect: no rule asks for scopes");
        context.push_at_key(diagnostic.help("remove it, or name `scopes` in a rule"), "/list");
    }
    Some(table)
}

/// The pattern that does nothing, when the rest of its rule does something.
fn dead_part(document: &PolicyDocument, dead: &DeadRule) -> Option<String> {
    let rule = document.rules.as_ref()?.get(dead.index)?;
    let (word, selector) = match (&rule.allow, &rule.deny) {
        (Some(selector), _) => ("allow", selector),
        (None, selector) => ("deny", selector.as_ref()?),
    };
    let lists = [
        ("tools", &selector.tools),
        ("resources", &selector.resources),
        ("prompts", &selector.prompts),
        ("methods", &selector.methods),
    ];
    lists.into_iter().find_map(|(kind, patterns)| {
        let is_dead = |pattern: &PatternDocument| {
            let (PatternDocument::Glob(text) | PatternDocument::Regex { matches: text }) = pattern;
            dead.why.starts_with(&format!("`{text}` under `{kind}`"))
        };
        let index = patterns.iter().flatten().position(is_dead)?;
        Some(format!("/rules/{}/{word}/{kind}/{index}", dead.index))
    })
}

/// People count rules from 1.
fn one_based(why: &str, rule: Option<usize>) -> String {
    let Some(rule) = rule else { return why.to_owned() };
    why.replace(&format!("rule {rule}"), &format!("rule {}", rule + 1))
}

fn rule(context: &mut Context<'_>, document: &PolicyDocument, written: &RuleDocument, index: usize) -> Option<Rule> {
    let pointer = format!("/rules/{index}");
    let (effect, selector, key) = match (&written.allow, &written.deny) {
        (Some(selector), _) => (Effect::Allow, selector, "allow"),
        (None, Some(selector)) => (Effect::Deny, selector, "deny"),
        (None, None) => return None,
    };
    let errors = context.report.diagnostics().len();
    let selector = self::selector(context, document, selector, &format!("{pointer}/{key}"));
    let conditions = Conditions {
        when: condition(context, written.when.as_ref(), Phase::List, &format!("{pointer}/when")),
        arguments: arguments(context, written, &pointer),
        other_arguments: if written.other_arguments == Some(OthersWord::Deny) {
            OtherArguments::Deny
        } else {
            OtherArguments::Allow
        },
        when_arguments: condition(
            context,
            written.when_arguments.as_ref(),
            Phase::Call,
            &format!("{pointer}/when_arguments"),
        ),
    };
    let scopes = written.scopes.clone().unwrap_or_default();
    for (place, scope) in scopes.iter().enumerate() {
        let declared = document.scopes.iter().flatten().any(|(name, _)| name == scope);
        if !declared {
            unknown_scope(
                context,
                scope,
                document.scopes.iter().flatten().map(|(name, _)| name),
                &format!("{pointer}/scopes/{place}"),
            );
        }
    }
    if context.report.diagnostics().len() > errors && context.report.has_errors() {
        return None;
    }
    let rule = Rule::new(effect, selector, conditions, scopes);
    let for_whom = |rule: Rule| match written.identity {
        None => Ok(rule),
        Some(IdentityWord::None) => rule.for_everyone(),
        Some(IdentityWord::Person) => Ok(rule.only_for(Holder::Person)),
        Some(IdentityWord::Machine) => Ok(rule.only_for(Holder::Machine)),
    };
    match rule.and_then(for_whom) {
        Ok(rule) => Some(rule),
        Err(error) => {
            let at = match &error {
                RuleError::ScopesOnDeny => format!("{pointer}/scopes"),
                RuleError::NoIdentity => format!("{pointer}/identity"),
                RuleError::OthersOnDeny => format!("{pointer}/other_arguments"),
                RuleError::MethodGoverned(_) => format!("{pointer}/{key}/methods"),
                RuleError::WhenReadsArguments => format!("{pointer}/when"),
                _ => pointer,
            };
            let help = match &error {
                RuleError::ScopesOnDeny => "remove `scopes`: whoever is refused stays refused with any scope",
                RuleError::NoArguments => "give tools and prompts a rule of their own",
                _ => "remove it",
            };
            context.push_at_key(Diagnostic::error(codes::INVALID_VALUE, error.to_string()).help(help), &at);
            None
        }
    }
}

fn selector(
    context: &mut Context<'_>,
    document: &PolicyDocument,
    written: &SelectorDocument,
    pointer: &str,
) -> Selector {
    let opaque = document.uri_form == Some(UriMode::Opaque);
    let mut names = |list: &Option<Vec<PatternDocument>>, key: &str| -> Vec<NamePattern> {
        patterns(context, list.as_deref(), &format!("{pointer}/{key}"), NamePattern::glob, NamePattern::regex)
    };
    let (tools, prompts, methods) =
        (names(&written.tools, "tools"), names(&written.prompts, "prompts"), names(&written.methods, "methods"));
    let at = format!("{pointer}/resources");
    let resources = if opaque {
        patterns(context, written.resources.as_deref(), &at, whole_uri, |_| Err(NOT_WHOLE.to_owned()))
    } else {
        patterns(context, written.resources.as_deref(), &at, UriPattern::glob, UriPattern::regex)
    };
    Selector { tools, resources, prompts, methods }
}

/// With `uri_form: opaque` a rule names whole URIs, or all of them.
fn whole_uri(text: &str) -> Result<UriPattern, String> {
    let pattern = UriPattern::glob(text).map_err(|error| error.to_string())?;
    if pattern.is_whole() || text == "**" { Ok(pattern) } else { Err(NOT_WHOLE.to_owned()) }
}

/// Compiles patterns one by one, so that every one that is wrong is reported.
pub(super) fn patterns<P, E: std::fmt::Display>(
    context: &mut Context<'_>,
    written: Option<&[PatternDocument]>,
    pointer: &str,
    glob: impl Fn(&str) -> Result<P, E>,
    regex: impl Fn(&str) -> Result<P, E>,
) -> Vec<P> {
    let mut compiled = Vec::new();
    for (index, pattern) in written.unwrap_or_default().iter().enumerate() {
        let (pointer, result) = match pattern {
            PatternDocument::Glob(text) => (format!("{pointer}/{index}"), glob(text)),
            PatternDocument::Regex { matches } => (format!("{pointer}/{index}/matches"), regex(matches)),
        };
        match result {
            Ok(pattern) => compiled.push(pattern),
            Err(error) => {
                let diagnostic = Diagnostic::error(codes::INVALID_PATTERN, error.to_string());
                let diagnostic = match pattern {
                    PatternDocument::Glob(text) if text.ends_with('\\') => {
                        diagnostic.help("write `\\\\` for a backslash")
                    }
                    PatternDocument::Glob(_) => diagnostic,
                    PatternDocument::Regex { .. } => {
                        diagnostic.help("it must fit the whole name; for a simple `*` write a glob, without `matches`")
                    }
                };
                context.push(diagnostic, &pointer);
            }
        }
    }
    compiled
}

fn condition(context: &mut Context<'_>, written: Option<&String>, phase: Phase, pointer: &str) -> Option<Condition> {
    let expression = written?;
    match Condition::compile(expression, phase) {
        Ok(condition) => Some(condition),
        Err(error) => {
            expression::refuse(context, &error, expression, pointer);
            None
        }
    }
}

fn arguments(context: &mut Context<'_>, written: &RuleDocument, pointer: &str) -> Vec<ArgumentMatcher> {
    let mut matchers = Vec::new();
    for (key, matcher) in written.arguments.iter().flatten() {
        let pointer = format!("{pointer}/arguments/{}", escaped(key));
        let presence = if matcher.optional == Some(true) { Presence::Optional } else { Presence::Required };
        let checks = checks(context, matcher, &pointer);
        match checks.map(|checks| ArgumentMatcher::new(key, checks, presence)) {
            Some(Ok(matcher)) => {
                if written.deny.is_some() && matcher.is_plural() {
                    every_item(context, key, &pointer);
                }
                matchers.push(matcher);
            }
            Some(Err(error)) => {
                context.push_at_key(Diagnostic::error(codes::INVALID_MATCHER, error.to_string()), &pointer)
            }
            None => {}
        }
    }
    matchers
}

/// Warns of a deny rule that the caller evades by one harmless item beside the harmful one.
fn every_item(context: &mut Context<'_>, key: &str, pointer: &str) {
    let said =
        format!("the rule denies only when every item of `{key}` matches: one that does not lets all others pass");
    let diagnostic = Diagnostic::warning(codes::EVERY_ITEM_IN_DENY, said).help(
        "to deny when any item matches, write a condition such as `when_arguments: arguments.items.exists(i, i.x == \"a\")`; \
         if every item is meant, say so with `all` in place of `exists`",
    );
    context.push_at_key(diagnostic, pointer);
}

/// Everything that a matcher demands; `None` when a part of it is wrong.
fn checks(context: &mut Context<'_>, written: &MatcherDocument, pointer: &str) -> Option<Vec<Check>> {
    let length = |bound: u32| usize::try_from(bound).unwrap_or(usize::MAX);
    let tried = [
        ("equals", written.equals.clone().map(Check::equals)),
        ("one_of", written.one_of.clone().map(Check::one_of)),
        ("matches", written.matches.as_deref().map(Check::matches)),
        ("glob", written.glob.as_deref().map(Check::glob)),
    ];
    let mut checks = Vec::new();
    let mut whole = true;
    for (key, result) in tried {
        match result {
            None => {}
            Some(Ok(check)) => checks.push(check),
            Some(Err(error)) => {
                context.error(&format!("{pointer}/{key}"), codes::INVALID_MATCHER, error.to_string());
                whole = false;
            }
        }
    }
    checks.extend(written.min.clone().map(Check::min));
    checks.extend(written.max.clone().map(Check::max));
    checks.extend(written.min_length.map(length).map(Check::min_length));
    checks.extend(written.max_length.map(length).map(Check::max_length));
    checks.extend(written.min_items.map(length).map(Check::min_items));
    checks.extend(written.max_items.map(length).map(Check::max_items));
    checks.extend(written.kind.map(json_type).map(Check::json_type));
    whole.then_some(checks)
}

fn json_type(word: TypeWord) -> JsonType {
    match word {
        TypeWord::String => JsonType::String,
        TypeWord::Number => JsonType::Number,
        TypeWord::Integer => JsonType::Integer,
        TypeWord::Boolean => JsonType::Boolean,
        TypeWord::Array => JsonType::Array,
        TypeWord::Object => JsonType::Object,
    }
}
