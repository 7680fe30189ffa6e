//! Selectors, scopes, methods and patterns.

use portcullis::mcp::era::Era;
use portcullis::mcp::operation::ItemKind;
use serde_json::{Value, json};

use super::{alice, call, complaints, decision, listed, rules};

const DENY: &str = "not-permitted";

#[test]
fn k01_nothing_is_allowed_that_no_rule_allows() {
    for none in ["", "rules: []", "rules: [{ deny: { tools: [a] } }]"] {
        let rules = rules(none);
        let all = [
            ("tools/call", json!({"name": "a"})),
            ("tools/list", json!({})),
            ("initialize", json!({"protocolVersion": "2025-11-25"})),
            ("ping", json!({})),
            ("resources/read", json!({"uri": "a:b"})),
            ("acme/run", json!({})),
        ];
        for (method, params) in all {
            let decided = decision(&rules, &alice("", json!({})), Era::Legacy, method, &params).0;
            assert_eq!(decided, DENY, "{none:?}: {method}: a service without an allow rule answers 403 to everything");
        }
        assert!(listed(&rules, &alice("", json!({})), ItemKind::Tool, &["a"]).is_empty());
    }
    let everything = rules("rules: [{ allow: { tools: [\"**\"] } }]");
    assert_eq!(call(&everything, &alice("", json!({})), "a", &json!({})), "permit", "\"allow all\" can be written");
}

#[test]
fn k01_a_kind_that_no_rule_names_is_closed_beside_one_that_is_open() {
    let rules = rules("rules: [{ allow: { tools: [\"**\"] } }]");
    for (method, params, expected) in [
        ("tools/call", json!({"name": "review"}), "permit"),
        ("prompts/get", json!({"name": "review"}), DENY),
        ("resources/read", json!({"uri": "repo://review"}), DENY),
        ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "review"}}), DENY),
        ("logging/setLevel", json!({"level": "info"}), DENY),
    ] {
        assert_eq!(decision(&rules, &alice("", json!({})), Era::Modern, method, &params).0, expected, "{method}");
    }
}

#[test]
fn a_deny_rule_that_fits_wins_wherever_it_stands() {
    let allow = "{ allow: { tools: [\"**\"] } }";
    for deny in ["{ deny: { tools: [\"drop_*\"] } }", "{ deny: { tools: [{ matches: \"drop_.*\" }] } }"] {
        for list in [format!("[{allow}, {deny}]"), format!("[{deny}, {allow}]")] {
            let rules = rules(&format!("rules: {list}"));
            assert_eq!(call(&rules, &alice("", json!({})), "drop_all", &json!({})), DENY, "{list}");
            assert_eq!(call(&rules, &alice("", json!({})), "drops", &json!({})), "permit", "{list}");
        }
    }
}

#[test]
fn what_needs_no_rule_needs_a_service_that_allows_anything() {
    let rules = rules("rules: [{ allow: { tools: [a] } }]");
    for method in [
        "initialize",
        "server/discover",
        "ping",
        "notifications/initialized",
        "notifications/progress",
        "notifications/cancelled",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "subscriptions/listen",
        "tasks/get",
    ] {
        let params = json!({"protocolVersion": "2025-11-25", "taskId": "t"});
        assert_eq!(decision(&rules, &alice("", json!({})), Era::Legacy, method, &params).0, "permit", "{method}");
    }
}

#[test]
fn methods_beyond_the_specification_need_a_rule_and_logging_too() {
    let rules =
        rules("rules: [{ allow: { tools: [a] } }, { allow: { methods: [acme/run] }, when: 'client == \"claude\"' }]");
    let judge = |era, method: &str| decision(&rules, &alice("", json!({})), era, method, &json!({"level": "info"})).0;
    assert_eq!(judge(Era::Modern, "acme/run"), "permit");
    assert_eq!(judge(Era::Modern, "acme/walk"), "method-unknown", "what neither specification nor rule names is 404");
    assert_eq!(judge(Era::Legacy, "acme/walk"), DENY, "in the older era it is a denial");
    assert_eq!(
        judge(Era::Modern, "logging/setLevel"),
        DENY,
        "the specification names it: it is a denial and not unknown"
    );
}

#[test]
fn subscriptions_and_completions_follow_the_rule_of_what_they_name() {
    let rules = rules(
        "rules: [{ allow: { resources: [\"repo://acme/**\"], prompts: [review] } }, { deny: { resources: [\"repo://acme/secret/**\"] } }]",
    );
    let prompt = |name| json!({"ref": {"type": "ref/prompt", "name": name}});
    let resource = |uri| json!({"ref": {"type": "ref/resource", "uri": uri}});
    let listen = |uris: &[&str]| json!({"notifications": {"resourceSubscriptions": uris}});
    for (method, params, expected) in [
        ("resources/subscribe", json!({"uri": "repo://acme/x"}), "permit"),
        ("resources/subscribe", json!({"uri": "repo://acme/secret/x"}), DENY),
        ("resources/unsubscribe", json!({"uri": "repo://other/x"}), DENY),
        ("completion/complete", prompt("review"), "permit"),
        ("completion/complete", prompt("other"), DENY),
        ("completion/complete", resource("repo://acme/x"), "permit"),
        ("completion/complete", resource("repo://acme/secret/x"), DENY),
        ("subscriptions/listen", listen(&["repo://acme/x", "repo://acme/y"]), "permit"),
        ("subscriptions/listen", listen(&["repo://acme/x", "repo://acme/secret/y"]), DENY),
        ("subscriptions/listen", listen(&["repo://acme/x", "repo://other/y"]), DENY),
    ] {
        let decided = decision(&rules, &alice("", json!({})), Era::Modern, method, &params).0;
        assert_eq!(decided, expected, "{method} {params}");
    }
}

const SCOPES: &str =
    "scopes: { all: { implies: [write, extra] }, write: { implies: [read] }, read: {}, extra: {}, audit: {} }\n";

#[test]
fn missing_scopes_ask_for_the_rule_that_lacks_the_fewest() {
    let ways = "rules:
  - { allow: { tools: [t] }, scopes: [write, audit] }
  - { allow: { tools: [t] }, scopes: [extra, audit, read] }
  - { allow: { tools: [one] }, scopes: [all] }
  - { allow: { tools: [one] }, scopes: [write] }
  - { allow: { tools: [one] }, scopes: [audit] }
  - { allow: { tools: [two] }, scopes: [read] }
  - { allow: { tools: [two] }, scopes: [audit] }
";
    let rules = rules(&format!("{SCOPES}{ways}"));
    for (held, tool, expected) in [
        ("", "t", "step-up audit write"),
        ("extra read", "t", "step-up audit extra read"),
        ("write", "t", "step-up audit write"),
        ("write audit", "t", "permit"),
        ("all", "t", "step-up audit extra read"),
        ("all audit", "t", "permit"),
        ("read", "one", "step-up audit"),
        ("", "two", "step-up audit"),
        ("write", "two", "permit"),
        ("all", "two", "permit"),
        ("READ", "two", "step-up audit"),
    ] {
        assert_eq!(call(&rules, &alice(held, json!({})), tool, &json!({})), expected, "{tool} with `{held}`");
    }
    let legacy =
        |held: &str| decision(&rules, &alice(held, json!({})), Era::Legacy, "tools/call", &json!({"name": "two"})).0;
    assert_eq!(
        legacy("extra unknown"),
        "step-up audit extra",
        "older clients are told what of the policy they hold too"
    );
}

#[test]
fn step_up_is_offered_only_when_nothing_but_scopes_is_missing() {
    let text = "scopes: { s: {} }
rules:
  - { allow: { tools: [a, \"b*\"] }, scopes: [s] }
  - { deny: { tools: [b] } }
  - { allow: { tools: [d] }, scopes: [s], when: claims.team == \"eng\" }
";
    let rules = rules(text);
    let judge = |tool, team: &str| call(&rules, &alice("", json!({"team": team})), tool, &json!({}));
    assert_eq!(judge("a", "eng"), "step-up s");
    assert_eq!(judge("b", "eng"), DENY, "a deny rule is not overcome by scopes");
    assert_eq!(judge("d", "eng"), "step-up s");
    assert_eq!(judge("d", "ops"), DENY, "nor is a condition");
    assert_eq!(judge("x", "eng"), DENY, "nor the absence of a rule");
}

#[test]
fn lists_show_what_is_permitted_and_on_request_what_scopes_would_permit() {
    let text = "scopes: { s: {} }
rules:
  - { allow: { tools: [open] } }
  - { allow: { tools: [scoped, refused] }, scopes: [s] }
  - { allow: { tools: [some] }, arguments: { x: { equals: 1 } } }
  - { allow: { tools: [never] }, arguments: { x: { equals: 1 } } }
  - { deny: { tools: [never] }, when: client == \"claude\" }
  - { deny: { tools: [refused] }, when: client == \"claude\" }
  - { deny: { tools: [open] }, when_arguments: arguments.x == 9 }
";
    let names = ["open", "scoped", "refused", "some", "never", "unknown"];
    for (mode, held, expected) in [
        ("permitted", "", vec!["open", "some"]),
        ("permitted", "s", vec!["open", "scoped", "some"]),
        ("acquirable", "", vec!["open", "scoped", "some"]),
    ] {
        let rules = rules(&format!("list: {mode}\n{text}"));
        assert_eq!(listed(&rules, &alice(held, json!({})), ItemKind::Tool, &names), expected, "{mode} with `{held}`");
    }
}

#[test]
fn n09_patterns_fit_the_whole_name_byte_by_byte() {
    for (pattern, fits, fits_not) in [
        ("get_*", vec!["get_", "get_x", "get_a/b"], vec!["get", "Get_x", "xget_x", " get_x"]),
        ("\"a\\\\*\"", vec!["a*"], vec!["ab", "a"]),
        ("\"*\"", vec!["a", "a/b"], vec![]),
        ("{ matches: \"a|bc\" }", vec!["a", "bc"], vec!["ac", "abc", "a\n", "bcx"]),
        ("{ matches: \"x.z\" }", vec!["xyz"], vec!["xz", "wxyz"]),
        ("caf\u{e9}", vec!["caf\u{e9}"], vec!["cafe", "cafe\u{301}"]),
    ] {
        let rules = rules(&format!("rules: [{{ allow: {{ tools: [{pattern}] }} }}]"));
        for (names, expected) in [(fits, "permit"), (fits_not, DENY)] {
            for name in names {
                assert_eq!(call(&rules, &alice("", json!({})), name, &json!({})), expected, "{pattern} and {name:?}");
            }
        }
    }
    for (pattern, fits, fits_not) in [
        ("repo://a/*", vec!["repo://a/b"], vec!["repo://a/b/c", "repo://a"]),
        ("repo://a/**", vec!["repo://a/b", "repo://a/b/c"], vec!["repo://b/a", "xrepo://a/b"]),
        ("repo://*/x", vec!["repo://a/x"], vec!["repo://a/b/x"]),
    ] {
        let rules = rules(&format!("rules: [{{ allow: {{ resources: [\"{pattern}\"] }} }}]"));
        for (uris, expected) in [(fits, "permit"), (fits_not, DENY)] {
            for uri in uris {
                let read =
                    decision(&rules, &alice("", json!({})), Era::Modern, "resources/read", &json!({"uri": uri})).0;
                assert_eq!(read, expected, "{pattern} and {uri}");
            }
        }
    }
}

#[test]
fn what_contradicts_the_meaning_of_rules_does_not_load() {
    let rule = |text: &str| format!("scopes: {{ s: {{}} }}\nrules: [{{ allow: {{ tools: [z] }} }}, {{ {text} }}]");
    for (text, code) in [
        ("allow: { tools: [a] }, when: arguments.x == 1", "invalid-expression"),
        ("allow: { tools: [a] }, when: '\"s\" in scopes'", "invalid-expression"),
        ("allow: { tools: [a] }, when_arguments: claims.x == 1", "invalid-expression"),
        ("allow: { tools: [a] }, when: nonsense(", "invalid-expression"),
        ("allow: { tools: [{ matches: \"(\" }] }", "invalid-pattern"),
        ("allow: { tools: [a] }, scopes: [unknown]", "unknown-scope"),
        ("allow: { tools: [a] }, arguments: { x: { equals: 1, one_of: [2] } }", "dead-rule"),
        ("allow: { tools: [z] }", "dead-rule"),
        ("deny: { tools: [\"**\"] }", "dead-rule"),
        ("allow: { tools: [a] }, wenn: true", "unknown-key"),
    ] {
        let found = complaints(&rule(text));
        assert!(found.contains(&code), "{text}: {found:?}");
    }
    assert!(!complaints(&rule("deny: { tools: [a] }, scopes: [s]")).is_empty(), "a deny rule takes no scopes");
    assert!(!complaints(&rule("allow: { resources: [\"a:**\"] }, arguments: { x: { equals: 1 } }")).is_empty());
    assert!(!complaints(&rule("deny: { tools: [a] }, other_arguments: deny")).is_empty());
    assert_eq!(complaints(&rule("allow: { tools: [a] }, scopes: [s], when: 'claims.x == 1'")), Vec::<&str>::new());
}

#[test]
fn a_denial_tells_nothing_of_what_exists() {
    let rules =
        rules("rules: [{ allow: { tools: [\"*\"] } }, { deny: { tools: [exists] } }, { deny: { tools: [ghost] } }]");
    let params: Vec<Value> = ["exists", "ghost"].iter().map(|name| json!({"name": name})).collect();
    let words =
        params.iter().map(|params| decision(&rules, &alice("", json!({})), Era::Modern, "tools/call", params).0);
    assert_eq!(words.collect::<Vec<_>>(), [DENY, DENY]);
}
