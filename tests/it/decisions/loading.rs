//! How strictly policies are read, and what reading them may cost.

use std::time::{Duration, Instant};

use portcullis::mcp::era::Era;
use serde_json::json;

use super::{alice, call, complaints, decision, loaded, rules};

/// What is said about the text that follows the five lines every policy here begins with.
fn places(rest: &str) -> Vec<(&'static str, usize, usize)> {
    let report = loaded(rest).report;
    let errors = report.sorted().into_iter().filter(|diagnostic| diagnostic.code != "no-authorization-server");
    let placed = errors.map(|diagnostic| {
        let (line, column) = diagnostic.place.as_ref().map_or((0, 0), portcullis::diagnostics::Place::start);
        (diagnostic.code, line, column)
    });
    placed.collect()
}

#[test]
fn n07_what_is_not_known_repeated_or_of_another_type_is_an_error_with_its_place() {
    let mut missed = Vec::new();
    for (rest, expected) in [
        ("rulez: []", ("unknown-key", 6, 1)),
        ("rules: [{ allow: { toolz: [a] } }]", ("unknown-key", 6, 20)),
        ("rules: []\nrules: []", ("duplicate-key", 7, 1)),
        ("rules: 5", ("wrong-type", 6, 8)),
        ("list: sometimes", ("invalid-value", 6, 7)),
        ("rules: [{ allow: { tools: [a] }, scopes: [nope] }]", ("unknown-scope", 6, 43)),
        ("limits: [{ rate: often }]\nrules: [{ allow: { tools: [a] } }]", ("invalid-value", 6, 18)),
        ("scopes: { a: { implies: [b] } }\nrules: [{ allow: { tools: [a] } }]", ("unknown-scope", 6, 26)),
        ("rules: [{ allow: { tools: [a] } }]\n---\nservice: other", ("several-documents", 8, 1)),
    ] {
        let found = places(rest);
        missed.extend((!found.contains(&expected)).then(|| format!("{rest:?}: {expected:?} is not among {found:?}")));
        assert!(loaded(rest).policies.iter().all(|policy| policy.good.is_none()), "{rest:?} is not served");
    }
    assert!(missed.is_empty(), "{missed:#?}");
    assert_eq!(places("rules: [{ allow: { tools: [a] } }]"), [], "the same without a mistake is good");
}

#[test]
fn n07_everything_that_is_wrong_is_said_at_once() {
    let rest = "limitz: []\nlist: sometimes\nrules: [{ allow: { toolz: [a] } }]";
    let lines: Vec<usize> = places(rest).into_iter().map(|(_, line, _)| line).collect();
    assert!([6, 7, 8].iter().all(|line| lines.contains(line)), "{lines:?}");
}

#[test]
fn n08_nesting_aliases_and_nodes_are_bounded() {
    let laughs = (1..30).fold("l0: &l0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let before = vec![format!("*l{}", level - 1); 9].join(", ");
        text + &format!("l{level}: &l{level} [{before}]\n")
    });
    for (what, text) in [
        ("a deep list", format!("rules: {}{}", "[".repeat(20_000), "]".repeat(20_000))),
        ("a deep mapping", format!("rules: {}1{}", "{a: ".repeat(5_000), "}".repeat(5_000))),
        ("a billion laughs", laughs),
        ("many values", format!("rules: [{}]", "1, ".repeat(200_000))),
        ("a million dashes", format!("rules:\n{}", "- ".repeat(400_000))),
    ] {
        let started = Instant::now();
        assert!(!complaints(&text).is_empty(), "{what} is refused");
        assert!(started.elapsed() < Duration::from_secs(30), "{what} took {:?}", started.elapsed());
    }
}

#[test]
fn n09_patterns_take_linear_time_and_bounded_memory() {
    for pattern in ["(a+)+b", "(a|a)*b", "(a|aa)+b", "a*a*a*a*a*a*a*a*b"] {
        let rules = rules(&format!(
            "rules:\n  - {{ allow: {{ tools: [{{ matches: \"{pattern}\" }}] }} }}\n  - {{ allow: {{ tools: [t] }}, arguments: {{ x: {{ matches: \"{pattern}\" }} }} }}\n"
        ));
        let (long, started) = ("a".repeat(100_000), Instant::now());
        assert_eq!(call(&rules, &alice("", json!({})), &long, &json!({})), "not-permitted");
        assert_eq!(call(&rules, &alice("", json!({})), "t", &json!({"x": long})), "not-permitted");
        assert_eq!(call(&rules, &alice("", json!({})), "aab", &json!({})), "permit", "{pattern}");
        assert!(started.elapsed() < Duration::from_secs(3), "{pattern} took {:?}", started.elapsed());
    }
    let stars = format!("rules: [{{ allow: {{ resources: [\"a:{}\"] }} }}]", "*x".repeat(60));
    let (stars, started) = (rules(&stars), Instant::now());
    let uri = format!("a:{}", "x".repeat(20_000) + "y");
    let read = decision(&stars, &alice("", json!({})), Era::Modern, "resources/read", &json!({"uri": uri})).0;
    assert_eq!(read, "not-permitted");
    assert!(started.elapsed() < Duration::from_secs(3), "a glob of sixty stars took {:?}", started.elapsed());
    let found = complaints("rules: [{ allow: { tools: [{ matches: \"(a{1000}){1000}\" }] } }]");
    assert_eq!(found, ["invalid-pattern"], "an expression that would take much memory is refused");
}
