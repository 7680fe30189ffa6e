//! Laws that hold for every set of rules, tried on random ones.

use std::collections::BTreeMap;

use portcullis::engine::access::argument::{ArgumentMatcher, Check, Presence};
use portcullis::engine::access::condition::{Condition, Phase};
use portcullis::engine::access::pattern::NamePattern;
use portcullis::engine::access::rule::{Conditions, Effect, Rule, Selector};
use portcullis::engine::access::{AccessTable, ListMode};
use portcullis::mcp::operation::ItemKind;
use proptest::prelude::*;
use serde_json::json;

use super::{alice, call};

const PATTERNS: [&str; 6] = ["a1", "a2", "a*", "b1", "*1", "**"];
const NAMES: [&str; 5] = ["a1", "a2", "b1", "b2", "c"];
const SCOPES: [&str; 3] = ["r", "w", "x"];
const CONDITIONS: [&str; 4] =
    ["claims.team == \"eng\"", "claims.level > 3", "client == \"claude\"", "operation.name == \"a1\""];

/// A rule before it is built: rules cannot be copied.
#[derive(Debug, Clone)]
struct Plan {
    denies: bool,
    pattern: usize,
    scopes: Vec<usize>,
    when: Option<usize>,
    argument: Option<i64>,
}

impl Plan {
    fn rule(&self) -> Rule {
        let tools = vec![NamePattern::glob(PATTERNS[self.pattern]).expect("a pattern")];
        let when = self.when.map(|when| Condition::compile(CONDITIONS[when], Phase::List).expect("a condition"));
        let matcher = |value: i64| {
            let check = Check::equals(json!(value)).expect("a check");
            ArgumentMatcher::new("x", vec![check], Presence::Required).expect("a matcher")
        };
        let conditions =
            Conditions { when, arguments: self.argument.map(matcher).into_iter().collect(), ..Conditions::default() };
        let scopes = self.scopes.iter().filter(|_| !self.denies).map(|scope| SCOPES[*scope].to_owned()).collect();
        let effect = if self.denies { Effect::Deny } else { Effect::Allow };
        Rule::new(effect, Selector { tools, ..Selector::default() }, conditions, scopes).expect("a rule")
    }
}

fn table(plans: &[Plan], list: ListMode) -> AccessTable {
    let implies: BTreeMap<String, Vec<String>> = [("r", vec![]), ("w", vec!["r".to_owned()]), ("x", vec![])]
        .map(|(name, implied)| (name.to_owned(), implied))
        .into();
    AccessTable::new(plans.iter().map(Plan::rule).collect(), &implies, list)
}

fn plans(arguments: bool) -> impl Strategy<Value = Vec<Plan>> {
    let argument = if arguments { prop::option::of(1..4_i64).boxed() } else { Just(None).boxed() };
    let plan = (
        prop::bool::weighted(0.3),
        0..PATTERNS.len(),
        prop::collection::vec(0..SCOPES.len(), 0..3),
        prop::option::weighted(0.4, 0..CONDITIONS.len()),
        argument,
    );
    let plan =
        plan.prop_map(|(denies, pattern, scopes, when, argument)| Plan { denies, pattern, scopes, when, argument });
    prop::collection::vec(plan, 1..7)
}

/// Who asks: scopes, and claims of which some are missing or of another type.
fn who() -> impl Strategy<Value = (Vec<usize>, usize)> {
    (prop::collection::vec(0..SCOPES.len(), 0..4), 0..4_usize)
}

fn identity((scopes, claims): &(Vec<usize>, usize)) -> portcullis::oauth::identity::Identity {
    let claims = [
        json!({"team": "eng", "level": 4}),
        json!({"team": "ops", "level": "high"}),
        json!({"team": "eng"}),
        json!({}),
    ][*claims]
        .clone();
    alice(&scopes.iter().map(|scope| SCOPES[*scope]).collect::<Vec<_>>().join(" "), claims)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// The order of rules is no part of their meaning.
    #[test]
    fn the_order_of_rules_decides_nothing(
        (plans, shuffled) in plans(true).prop_flat_map(|plans| (Just(plans.clone()), Just(plans).prop_shuffle())),
        who in who(),
    ) {
        let (one, other) = (table(&plans, ListMode::Permitted), table(&shuffled, ListMode::Permitted));
        for name in NAMES {
            for x in 1..4 {
                let arguments = json!({"x": x});
                let (first, second) = (call(&one, &identity(&who), name, &arguments), call(&other, &identity(&who), name, &arguments));
                prop_assert_eq!(first, second, "{} with x = {}: {:?}", name, x, plans);
            }
        }
    }

    /// Without conditions on arguments a name is listed exactly when it is permitted.
    #[test]
    fn k10_without_argument_conditions_listed_means_permitted(plans in plans(false), who in who()) {
        for mode in [ListMode::Permitted, ListMode::Acquirable] {
            let table = table(&plans, mode);
            let identity = identity(&who);
            let lister = table.lister(&identity, ItemKind::Tool);
            for name in NAMES {
                let decided = call(&table, &identity, name, &json!({}));
                let expected = decided == "permit" || (mode == ListMode::Acquirable && decided.starts_with("step-up"));
                prop_assert_eq!(lister.shows(name), expected, "{:?} {} is {}: {:?}", mode, name, decided, plans);
            }
        }
    }

    /// With them, what is permitted for some arguments is listed, and what no rule allows is not.
    #[test]
    fn k10_with_argument_conditions_a_list_hides_nothing_that_can_be_called(plans in plans(true), who in who()) {
        let table = table(&plans, ListMode::Permitted);
        let identity = identity(&who);
        let lister = table.lister(&identity, ItemKind::Tool);
        for name in NAMES {
            let callable = (0..5).any(|x| call(&table, &identity, name, &json!({"x": x})) == "permit");
            prop_assert!(!callable || lister.shows(name), "{} can be called and is not listed: {:?}", name, plans);
            let selected = plans.iter().any(|plan| !plan.denies && plan.rule().selector().tools[0].matches(name));
            prop_assert!(selected || !lister.shows(name), "{} is listed and no rule allows it: {:?}", name, plans);
        }
    }

    /// More scopes never deny more.
    #[test]
    fn more_scopes_never_deny_more(plans in plans(true), who in who(), more in prop::collection::vec(0..SCOPES.len(), 0..4)) {
        let table = table(&plans, ListMode::Permitted);
        let richer = ([who.0.clone(), more].concat(), who.1);
        for name in NAMES {
            for x in 1..4 {
                let arguments = json!({"x": x});
                let before = call(&table, &identity(&who), name, &arguments);
                let after = call(&table, &identity(&richer), name, &arguments);
                prop_assert!(before != "permit" || after == "permit", "{}: {} became {}: {:?}", name, before, after, plans);
            }
        }
    }
}
