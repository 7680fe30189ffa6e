//! Conditions: what holds, what does not, and what cannot be decided.

use portcullis::mcp::era::Era;
use serde_json::{Value, json};

use super::{alice, call, decision, rules};

const DENY: &str = "not-permitted";

/// Calls `t` under `condition` once as an allow rule and once as a deny rule beside one that allows everything.
fn both(condition: &str, claims: &Value, arguments: &Value) -> [(String, Vec<String>); 2] {
    let allow = rules(&format!("rules:\n  - {{ allow: {{ tools: [t] }}, {condition} }}\n"));
    let deny =
        rules(&format!("rules:\n  - {{ allow: {{ tools: [t] }} }}\n  - {{ deny: {{ tools: [t] }}, {condition} }}\n"));
    let params = json!({"name": "t", "arguments": arguments});
    [allow, deny].map(|rules| decision(&rules, &alice("", claims.clone()), Era::Modern, "tools/call", &params))
}

#[test]
fn a_condition_that_holds_opens_an_allow_rule_and_closes_by_a_deny_rule() {
    for (condition, claims, arguments) in [
        ("when: claims.team == \"eng\"", json!({"team": "eng"}), json!({})),
        ("when: '\"eng\" in claims.groups'", json!({"groups": ["ops", "eng"]}), json!({})),
        ("when: subject == \"alice\" && client == \"claude\"", json!({}), json!({})),
        ("when: issuer == \"https://issuer.example.com\"", json!({}), json!({})),
        ("when: operation.name == \"t\" && operation.kind == \"tool\"", json!({}), json!({})),
        ("arguments: { x: { equals: 1 } }", json!({}), json!({"x": 1})),
        ("arguments: { x: { one_of: [a, b] } }", json!({}), json!({"x": "b"})),
        ("arguments: { x: { matches: \"a+\" } }", json!({}), json!({"x": "aaa"})),
        ("arguments: { x: { min: 1, max: 3 } }", json!({}), json!({"x": 2.5})),
        ("arguments: { x: { min_items: 1, max_items: 2 } }", json!({}), json!({"x": [1]})),
        ("arguments: { /filter/owner: { equals: acme } }", json!({}), json!({"filter": {"owner": "acme"}})),
        ("arguments: { /items/*/id: { min: 1 } }", json!({}), json!({"items": [{"id": 1}, {"id": 2}]})),
        ("when_arguments: arguments.x == subject", json!({}), json!({"x": "alice"})),
        ("arguments: { x: { equals: 0 } }", json!({}), json!({"x": -0.0})),
        ("arguments: { x: { min: 0 } }", json!({}), json!({"x": -0.0})),
        ("when_arguments: arguments.x == null", json!({}), json!({"x": null})),
        ("when_arguments: arguments.x != 'prod'", json!({}), json!({"x": "dev"})),
        ("when_arguments: arguments.x == 1", json!({}), json!({"x": 1.0})),
        ("when_arguments: \"'force' in arguments\"", json!({}), json!({"force": true})),
        ("when_arguments: \"arguments.x in [1, 'a']\"", json!({}), json!({"x": "a"})),
        ("when_arguments: '[1].map(i, arguments)[0].force == true'", json!({}), json!({"force": true})),
    ] {
        let [allow, deny] = both(condition, &claims, &arguments);
        assert_eq!((allow.0.as_str(), deny.0.as_str()), ("permit", DENY), "{condition} holds");
        assert!(allow.1.is_empty() && deny.1.is_empty(), "{condition} is decided");
    }
}

#[test]
fn a_condition_that_does_not_hold_does_neither() {
    for (condition, claims, arguments) in [
        ("when: claims.team == \"eng\"", json!({"team": "Eng"}), json!({})),
        ("when: has(claims.team)", json!({}), json!({})),
        ("arguments: { x: { equals: 1 } }", json!({}), json!({"x": 2})),
        ("arguments: { x: { matches: \"a+\" } }", json!({}), json!({"x": "aaab"})),
        ("arguments: { x: { max: -0.5 } }", json!({}), json!({"x": -0.0})),
        ("when_arguments: arguments.x != null", json!({}), json!({"x": null})),
        ("when_arguments: \"'force' in arguments\"", json!({}), json!({"x": true})),
        ("when_arguments: \"arguments.x in ['a', 'b']\"", json!({}), json!({"x": "c"})),
        ("arguments: { x: { max_items: 2 } }", json!({}), json!({"x": [1, 2, 3]})),
        ("arguments: { /items/*/id: { min: 1 } }", json!({}), json!({"items": [{"id": 1}, {"id": 0}]})),
        ("when_arguments: arguments.x == subject", json!({}), json!({"x": "bob"})),
        ("arguments: { x: { equals: 1 }, y: { equals: 1 } }", json!({}), json!({"x": 1, "y": 2})),
    ] {
        let [allow, deny] = both(condition, &claims, &arguments);
        assert_eq!((allow.0.as_str(), deny.0.as_str()), (DENY, "permit"), "{condition} does not hold");
    }
}

#[test]
fn k17_what_cannot_be_decided_never_opens_a_door() {
    let long: Vec<u32> = (0..200).collect();
    for (condition, claims, arguments) in [
        ("when: claims.team == \"eng\"", json!({}), json!({})),
        ("when: claims.level > 3", json!({"level": "9"}), json!({})),
        ("when: claims.team", json!({"team": "true"}), json!({})),
        ("when: 'claims.l.all(x, claims.l.all(y, claims.l.all(z, true)))'", json!({"l": long}), json!({})),
        ("arguments: { x: { equals: 1 } }", json!({}), json!({})),
        ("arguments: { x: { equals: 1 } }", json!({}), json!({"x": null})),
        ("arguments: { x: { min: 1 } }", json!({}), json!({"x": "1"})),
        ("arguments: { x: { matches: \".*\" } }", json!({}), json!({"x": ["a"]})),
        ("arguments: { x: { max_items: 3 } }", json!({}), json!({"x": "abc"})),
        ("arguments: { /filter/owner: { equals: acme } }", json!({}), json!({"filter": "acme"})),
        ("arguments: { /filter/owner: { equals: acme } }", json!({}), json!({"filter": {}})),
        ("when_arguments: arguments.x == subject", json!({}), json!({})),
        ("when_arguments: arguments.x > 3", json!({}), json!({"x": null})),
        ("when_arguments: arguments.x == subject", json!({}), json!({"x": null})),
        ("when_arguments: arguments.x == 'prod'", json!({}), json!({"x": ["prod"]})),
        ("when_arguments: arguments.x != 'prod'", json!({}), json!({"x": ["prod"]})),
        ("when_arguments: arguments.x != 'prod'", json!({}), json!({"x": null})),
        ("when_arguments: arguments.x == arguments.y", json!({}), json!({"x": null, "y": null})),
        ("when: claims.dept != 'contractor'", json!({"dept": ["contractor"]}), json!({})),
        ("when_arguments: \"arguments.x in ['a', 'b']\"", json!({}), json!({"x": ["a"]})),
        ("when_arguments: \"'force' in arguments\"", json!({}), json!({"Force": true})),
        ("when_arguments: '[1].map(i, arguments)[0].force == true'", json!({}), json!({"force": true, "Force": false})),
        ("when_arguments: arguments.x > 3", json!({}), json!({"x": "4"})),
    ] {
        let [allow, deny] = both(condition, &claims, &arguments);
        let case = format!("{condition} with {claims} and {arguments}");
        assert_eq!((allow.0.as_str(), deny.0.as_str()), (DENY, DENY), "{case}");
        assert!(allow.1.len() == 1 && allow.1[0].starts_with("rule 0: "), "{case}: rule and cause are told: {allow:?}");
        assert!(deny.1.len() == 1 && deny.1[0].starts_with("rule 1: "), "{case}: rule and cause are told: {deny:?}");
    }
}

#[test]
fn a_cause_tells_no_value() {
    let [allow, _] = both("when: claims.level > 3", &json!({"level": "s3cret"}), &json!({}));
    let [_, deny] = both("arguments: { x: { min: 1 } }", &json!({}), &json!({"x": "s3cret"}));
    assert!(!format!("{allow:?}{deny:?}").contains("s3cret"), "neither claim nor argument: {allow:?} {deny:?}");
}

#[test]
fn an_optional_argument_may_be_absent_and_nothing_else() {
    let condition = "arguments: { x: { equals: 1, optional: true } }";
    for (arguments, expected) in [
        (json!({}), ["permit", "permit"]),
        (json!({"y": 1}), ["permit", "permit"]),
        (json!({"x": 1}), ["permit", DENY]),
        (json!({"x": 2}), [DENY, "permit"]),
        (json!({"x": null}), [DENY, DENY]),
        (json!({"x": []}), [DENY, DENY]),
    ] {
        let decided = both(condition, &json!({}), &arguments).map(|decided| decided.0);
        assert_eq!(decided, expected, "{arguments}: null is not absence, and another type decides nothing");
    }
}

/// What `every-item-in-deny` warns of, and that its help helps.
#[test]
fn k17_a_deny_rule_on_every_item_is_evaded_by_one_and_a_condition_on_any_is_not() {
    let every = "arguments: { /items/*/x: { equals: a } }";
    let any = "when_arguments: 'arguments.items.exists(i, i.x == \"a\")'";
    for (items, expected) in [
        (json!([{"x": "a"}, {"x": "a"}]), [DENY, DENY]),
        (json!([{"x": "b"}, {"x": "a"}]), ["permit", DENY]),
        (json!([{"x": "b"}, {"x": "b"}]), ["permit", "permit"]),
        (json!([{"x": "b"}, {}]), ["permit", DENY]),
        (json!("a"), [DENY, DENY]),
    ] {
        let arguments = json!({"items": items});
        let decided = [every, any].map(|condition| both(condition, &json!({}), &arguments)[1].0.clone());
        assert_eq!(decided, expected, "{arguments}");
    }
}

#[test]
fn arguments_that_a_rule_does_not_name_are_allowed_unless_it_says_otherwise() {
    let rule = |more: &str| {
        rules(&format!("rules: [{{ allow: {{ tools: [t] }}, arguments: {{ x: {{ equals: 1 }} }}{more} }}]"))
    };
    let judge = |rules, arguments| call(rules, &alice("", json!({})), "t", &arguments);
    let (open, closed) = (rule(""), rule(", other_arguments: deny"));
    assert_eq!(judge(&open, json!({"x": 1, "y": 2})), "permit");
    assert_eq!(judge(&closed, json!({"x": 1})), "permit");
    assert_eq!(judge(&closed, json!({"x": 1, "y": 2})), DENY);
    assert_eq!(judge(&closed, json!({"x": 1, "": null})), DENY);
}

#[test]
fn without_arguments_there_is_none_and_null_is_no_object() {
    let rules = rules("rules: [{ allow: { tools: [t] }, arguments: { x: { equals: 1, optional: true } } }]");
    let judge = |params| decision(&rules, &alice("", json!({})), Era::Modern, "tools/call", &params).0;
    assert_eq!(judge(json!({"name": "t"})), "permit");
    assert_eq!(judge(json!({"name": "t", "arguments": null})), DENY, "null arguments cannot be judged");
}
