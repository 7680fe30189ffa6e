//! The law of lists: what a list shows is what a call may do, for every policy, caller, era and framing.
//!
//! Without conditions on arguments a tool is listed exactly when its call is permitted. With them a tool whose call is
//! permitted for some arguments is always listed, and one that is not listed is permitted for none.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use portcullis::engine::access::argument::{ArgumentMatcher, Check, Presence};
use portcullis::engine::access::condition::{Condition, Phase};
use portcullis::engine::access::pattern::NamePattern;
use portcullis::engine::access::rule::{Conditions, Effect, Rule, Selector};
use portcullis::engine::access::{AccessTable, ListMode};
use portcullis::mcp::era::Era;
use portcullis::mcp::message::Message;
use portcullis::mcp::operation::ItemKind;
use portcullis::mcp::sse::{EventFilter, EventJudge, Verdict};
use portcullis::mcp::{json, list};
use portcullis::oauth::identity::Identity;
use proptest::prelude::*;
use serde_json::{Value, json};

const TOOLS: [&str; 8] = ["a", "b", "ab", "abc", "read_a", "read_b", "write_a", "Ab"];
const PATTERNS: [&str; 10] = ["a", "b", "ab", "*", "a*", "*_a", "read_*", "write_*", "abc", "Ab"];
const SCOPES: [&str; 3] = ["r", "w", "all"];
/// What `x` may be in a call; `None` leaves it out.
const VALUES: [Option<i64>; 4] = [None, Some(1), Some(2), Some(3)];

/// One random rule, before it is compiled.
#[derive(Debug, Clone)]
struct Written {
    allow: bool,
    patterns: Vec<&'static str>,
    scopes: Vec<&'static str>,
    when: Option<&'static str>,
    argument: Option<(i64, bool)>,
    everyone: bool,
}

fn written(arguments: bool) -> impl Strategy<Value = Written> {
    let when = prop::option::weighted(
        0.3,
        prop::sample::select(vec!["subject == 'alice'", "claims.team == 'x'", "client == 'c'"]),
    );
    let argument = prop::option::of((1_i64..4, any::<bool>())).prop_map(move |argument| argument.filter(|_| arguments));
    (
        any::<bool>(),
        prop::collection::vec(prop::sample::select(PATTERNS.to_vec()), 1..4),
        prop::sample::subsequence(SCOPES.to_vec(), 0..3),
        when,
        argument,
        any::<bool>(),
    )
        .prop_map(|(allow, patterns, scopes, when, argument, everyone)| Written {
            allow,
            patterns,
            scopes,
            when,
            argument,
            everyone,
        })
}

fn compiled(written: &Written) -> Rule {
    let tools = written.patterns.iter().map(|text| NamePattern::glob(text).expect("a glob")).collect();
    let argument = written.argument.map(|(value, optional)| {
        let presence = if optional { Presence::Optional } else { Presence::Required };
        ArgumentMatcher::new("x", vec![Check::equals(json!(value)).expect("a scalar")], presence).expect("a matcher")
    });
    let conditions = Conditions {
        when: written.when.map(|text| Condition::compile(text, Phase::List).expect("CEL")),
        arguments: argument.into_iter().collect(),
        ..Conditions::default()
    };
    let selector = Selector { tools, ..Selector::default() };
    let effect = if written.allow { Effect::Allow } else { Effect::Deny };
    let scopes =
        if written.allow { written.scopes.iter().map(|scope| (*scope).to_owned()).collect() } else { Vec::new() };
    let rule = Rule::new(effect, selector, conditions, scopes).expect("a rule");
    if written.allow && written.everyone && rule.scopes().is_empty() {
        rule.for_everyone().expect("no scopes")
    } else {
        rule
    }
}

/// A caller: nobody, or somebody with some scopes, a team or none, a client or none.
fn caller() -> impl Strategy<Value = Option<(bool, Vec<&'static str>, bool, bool)>> {
    prop::option::weighted(
        0.85,
        (any::<bool>(), prop::sample::subsequence(SCOPES.to_vec(), 0..4), any::<bool>(), any::<bool>()),
    )
}

fn identity(caller: &Option<(bool, Vec<&'static str>, bool, bool)>) -> Identity {
    let Some((alice, scopes, team, client)) = caller else { return Identity::anonymous() };
    let mut claims = serde_json::Map::new();
    if *team {
        claims.insert("team".into(), json!("x"));
    }
    Identity {
        holder: portcullis::oauth::identity::Holder::default(),
        issuer: "https://i.example".into(),
        subject: Some(if *alice { "alice" } else { "bob" }.into()),
        client: client.then(|| "c".into()),
        scopes: scopes.iter().copied().collect(),
        claims,
        ..Identity::anonymous()
    }
}

fn permitted(table: &AccessTable, identity: &Identity, era: Era, tool: &str, x: Option<i64>) -> bool {
    let arguments = x.map_or(json!({"y": 0}), |x| json!({"x": x}));
    let call =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
    let call = call.to_string();
    let message = Message::parse(call.as_bytes()).expect("a call");
    table.decide(identity, &message.operation, era, &mut Vec::new()).is_ok()
}

/// Judges events by cutting the lists that they are.
struct Cut<F>(F);

impl<F: Fn(&[u8]) -> Option<Vec<u8>> + Send> EventJudge for Cut<F> {
    async fn event(&mut self, data: &[u8]) -> Verdict {
        (self.0)(data).map_or(Verdict::Keep, Verdict::Replace)
    }
}

/// The names that a client sees of a list that names all tools, in one of several framings.
fn listed(table: &AccessTable, identity: &Identity, era: Era, framing: usize, cuts: &[usize]) -> BTreeSet<String> {
    let tools: Vec<Value> = TOOLS.iter().map(|name| json!({"name": name, "x": [1, {"name": "hidden"}]})).collect();
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools, "nextCursor": "n"}}).to_string();
    let lister = table.lister(identity, ItemKind::Tool);
    let cut = |data: &[u8]| {
        let text = json::check(data).expect("strict JSON");
        list::filter(text, ItemKind::Tool, era, &mut |name| lister.shows(name)).expect("a list")
    };
    let (ends, comment) = match framing {
        0 => return names(&cut(answer.as_bytes()).unwrap_or(answer.into_bytes())),
        1 => ("\n", ""),
        2 => ("\r\n", ": c\r\n\r\n"),
        _ => ("\r", "id: 1\r"),
    };
    let stream = format!("{comment}data: {answer}{ends}{ends}").into_bytes();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % stream.len()).chain([0, stream.len()]).collect();
    cuts.sort_unstable();
    let (mut filter, mut out, mut judge) = (EventFilter::new(1 << 20), Vec::new(), Cut(cut));
    for pair in cuts.windows(2) {
        let piece = stream.get(pair[0]..pair[1]).expect("in order");
        let last = pair[1] == stream.len();
        let mut pushed = pin!(filter.push(piece, last, &mut out, &mut judge));
        let pushed = pushed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(pushed, Poll::Ready(Ok(())), "a small event, and a judge that does not wait");
    }
    let text = String::from_utf8(out).expect("text");
    let data: String = text.split(['\r', '\n']).filter_map(|line| line.strip_prefix("data: ")).collect();
    names(data.as_bytes())
}

fn names(answer: &[u8]) -> BTreeSet<String> {
    let answer: Value = serde_json::from_slice(answer).expect("JSON");
    assert_eq!(answer["result"]["nextCursor"], "n", "cursors stay");
    let tools = answer["result"]["tools"].as_array().expect("a list");
    tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn k10_without_argument_conditions_a_tool_is_listed_exactly_when_its_call_is_permitted(
        rules in prop::collection::vec(written(false), 0..7),
        caller in caller(),
        modern in any::<bool>(),
        framing in 0_usize..4,
        cuts in prop::collection::vec(0_usize..2000, 0..12),
    ) {
        let table = AccessTable::new(rules.iter().map(compiled).collect(), &BTreeMap::new(), ListMode::Permitted);
        let (identity, era) = (identity(&caller), if modern { Era::Modern } else { Era::Legacy });
        let callable: BTreeSet<String> =
            TOOLS.iter().filter(|tool| permitted(&table, &identity, era, tool, None)).map(|tool| (*tool).to_owned()).collect();
        prop_assert_eq!(listed(&table, &identity, era, framing, &cuts), callable);
    }

    #[test]
    fn k10_with_argument_conditions_what_some_call_may_do_is_listed_and_nothing_hidden_is_callable(
        rules in prop::collection::vec(written(true), 0..7),
        caller in caller(),
        framing in 0_usize..4,
    ) {
        let table = AccessTable::new(rules.iter().map(compiled).collect(), &BTreeMap::new(), ListMode::Permitted);
        let identity = identity(&caller);
        let shown = listed(&table, &identity, Era::Modern, framing, &[]);
        for tool in TOOLS {
            let some = VALUES.iter().any(|x| permitted(&table, &identity, Era::Modern, tool, *x));
            prop_assert!(!some || shown.contains(tool), "{tool} can be called and is not listed");
        }
    }

    #[test]
    fn the_order_of_rules_decides_nothing_and_scopes_never_take_away(
        (rules, shuffled) in prop::collection::vec(written(true), 0..7)
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        caller in caller(),
        x in prop::sample::select(VALUES.to_vec()),
    ) {
        let table = |rules: &[Written]| AccessTable::new(rules.iter().map(compiled).collect(), &BTreeMap::new(), ListMode::Permitted);
        let (one, other) = (table(&rules), table(&shuffled));
        let poor = identity(&caller);
        let rich = identity(&caller.map(|(alice, _, team, client)| (alice, SCOPES.to_vec(), team, client)));
        for tool in TOOLS {
            let before = permitted(&one, &poor, Era::Modern, tool, x);
            prop_assert_eq!(before, permitted(&other, &poor, Era::Modern, tool, x), "{}", tool);
            prop_assert!(!before || permitted(&one, &rich, Era::Modern, tool, x), "more scopes never deny {tool}");
        }
    }
}
