//! The meaning of `limits`.

use std::sync::Arc;

use super::context::Context;
use super::rules::patterns;
use crate::diagnostics::Diagnostic;
use crate::engine::access::AccessTable;
use crate::engine::access::pattern::NamePattern;
use crate::engine::access::rule::{Effect, Selector};
use crate::engine::limits::{Key, Limit, LimitError, LimitKind, LimitSelector, OnLoss};
use crate::policy::document::PolicyDocument;
use crate::policy::document::rule::{LimitDocument, OnStoreLoss, PatternDocument, PerDocument, PerWord};
use crate::policy::model::LimitSpec;
use crate::policy::{codes, suggest};

/// Methods that limits count without a rule that names them.
const COUNTED: [&str; 4] = ["tools/call", "prompts/get", "resources/read", "completion/complete"];

/// Resolves the limits; reports those that can never apply.
///
/// `table` tells what is permitted at all; without it, because a rule is wrong, nothing is said about that.
/// `shared` says whether the installation's replicas count together.
pub fn limits(
    context: &mut Context<'_>,
    document: &PolicyDocument,
    table: Option<&AccessTable>,
    shared: bool,
) -> Vec<LimitSpec> {
    let mut limits: Vec<LimitSpec> = Vec::new();
    for (index, written) in document.limits.iter().flatten().enumerate() {
        let pointer = format!("/limits/{index}");
        let Some(limit) = limit(context, written, &pointer) else { continue };
        let same_kind = |other: &LimitSpec| std::mem::discriminant(&other.kind) == std::mem::discriminant(&limit.kind);
        if limits.iter().any(|other| other.per == limit.per && other.selector == limit.selector && same_kind(other)) {
            let diagnostic = Diagnostic::error(codes::DEAD_LIMIT, "an earlier limit counts the same");
            let help = "keep one of them, or give them different `per`, `tools` or `methods`";
            context.push(diagnostic.help(help), &pointer);
        }
        if written.on_store_loss.is_some() && !shared {
            let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "every limit is counted in the process itself");
            let help = "remove the key; it belongs to a store that replicas share";
            context.push_at_key(diagnostic.help(help), &format!("{pointer}/on_store_loss"));
        }
        if let Some(table) = table {
            unpermitted(context, table, written, &pointer);
        }
        limits.push(limit);
    }
    limits
}

/// One list of a rule's selector.
type Patterns = fn(&Selector) -> &[NamePattern];

/// Reports what a limit names although no rule permits it. Only whole names can be told for certain.
fn unpermitted(context: &mut Context<'_>, table: &AccessTable, written: &LimitDocument, pointer: &str) {
    let allowing = || table.rules().iter().filter(|rule| rule.effect() == Effect::Allow).map(|rule| rule.selector());
    let kinds: [(&str, Option<&[PatternDocument]>, Patterns); 2] = [
        ("tools", written.tools.as_deref(), |selector| &selector.tools),
        ("methods", written.methods.as_deref(), |selector| &selector.methods),
    ];
    for (kind, names, patterns) in kinds {
        for (index, name) in names.unwrap_or_default().iter().enumerate() {
            let PatternDocument::Glob(name) = name else { continue };
            let counted = kind == "methods" && COUNTED.contains(&name.as_str());
            let permitted = allowing().any(|selector| patterns(selector).iter().any(|pattern| pattern.matches(name)));
            if name.contains(['*', '?', '[', '\\']) || counted || permitted {
                continue;
            }
            let message = format!("no rule allows `{name}`: there is nothing to count");
            let known = allowing().flat_map(patterns).map(NamePattern::text);
            let help = suggest::nearest(name, known)
                .map_or("allow it in a rule, or remove it here".to_owned(), |near| format!("did you mean `{near}`?"));
            context
                .push(Diagnostic::error(codes::DEAD_LIMIT, message).help(help), &format!("{pointer}/{kind}/{index}"));
        }
    }
}

fn limit(context: &mut Context<'_>, written: &LimitDocument, pointer: &str) -> Option<LimitSpec> {
    let kind = match (&written.rate, written.concurrent) {
        (Some(rate), _) => {
            let Some((count, period)) = rate.parse() else {
                context.error(&format!("{pointer}/rate"), codes::INVALID_VALUE, format!("`{}` is no rate", rate.0));
                return None;
            };
            LimitKind::Rate { count, period, burst: written.burst.unwrap_or(count) }
        }
        (None, Some(count)) => LimitKind::Concurrent { count },
        (None, None) => return None,
    };
    if written.burst.is_some() && written.rate.is_none() {
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "`burst` belongs to rates");
        context.push_at_key(diagnostic.help("remove it, or write `rate`"), &format!("{pointer}/burst"));
    }
    let per = written.per.as_ref().map_or(&[PerWord::Subject][..], PerDocument::parts);
    let mut per: Vec<Key> = per.iter().copied().map(key).collect();
    per.sort_unstable();
    let mut names = |list: &Option<Vec<PatternDocument>>, key: &str| -> Vec<NamePattern> {
        patterns(context, list.as_deref(), &format!("{pointer}/{key}"), NamePattern::glob, NamePattern::regex)
    };
    let selector = LimitSelector { tools: names(&written.tools, "tools"), methods: names(&written.methods, "methods") };
    // The limit is built for good when the service is compiled, with the fill that it had before.
    match Limit::new(kind, per.clone(), selector.clone(), Arc::default()) {
        Ok(_) => Some(LimitSpec { kind, per, selector, on_loss: on_loss(written.on_store_loss) }),
        Err(error) => {
            let (key, help) = match &error {
                LimitError::NeverCounted(_) => {
                    ("/methods", "limits count tool calls, prompts, resources, completions and methods named in rules")
                }
                LimitError::NoTool => ("/per", "count by `subject` or `client`, or add `tools/call` to `methods`"),
                LimitError::KeyTwice => ("/per", "`service` counts everybody together and stands alone"),
                _ => ("", "change it, or remove it"),
            };
            let diagnostic = Diagnostic::error(codes::DEAD_LIMIT, error.to_string());
            context.push_at_key(diagnostic.help(help), &format!("{pointer}{key}"));
            None
        }
    }
}

fn on_loss(word: Option<OnStoreLoss>) -> OnLoss {
    match word {
        None | Some(OnStoreLoss::Local) => OnLoss::Local,
        Some(OnStoreLoss::Deny) => OnLoss::Deny,
    }
}

fn key(word: PerWord) -> Key {
    match word {
        PerWord::Subject => Key::Subject,
        PerWord::Client => Key::Client,
        PerWord::Address => Key::Address,
        PerWord::Tool => Key::Tool,
        PerWord::Service => Key::Service,
    }
}
