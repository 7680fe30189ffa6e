//! What rules mean, without a socket: policies as people write them, identities and messages in, decisions out.

mod conditions;
mod laws;
mod loading;
mod meaning;

use std::path::PathBuf;
use std::sync::Arc;

use portcullis::diagnostics::Source;
use portcullis::engine::access::AccessTable;
use portcullis::engine::decision::Reason;
use portcullis::mcp::era::Era;
use portcullis::mcp::message::Message;
use portcullis::mcp::operation::ItemKind;
use portcullis::oauth::identity::Identity;
use portcullis::policy::load::{self, Before, Loaded};
use portcullis::policy::resolve::Overrides;
use portcullis::policy::source::{File, Files};
use serde_json::{Value, json};

/// A policy whose rules and whatever else are `rest`.
fn loaded(rest: &str) -> Loaded {
    let key = "0".repeat(64);
    let text = format!(
        "service: s\nroute: {{ path: /s/mcp }}\nupstream: {{ url: \"http://127.0.0.1:9/mcp\" }}\n\
         providers: {{ k: {{ api_key: {{ keys: [{{ name: k, sha256: \"{key}\", expires: \"2099-01-01T00:00:00Z\" }}] }} }} }}\n\
         authentication: {{ providers: [k] }}\n{rest}\n"
    );
    let source = Arc::new(Source { name: "s.yaml".to_owned(), text });
    let policies = vec![File { path: PathBuf::from("s.yaml").into(), text: Ok(source) }];
    load::load(&Files { installation: None, policies }, &Overrides::default(), &Before::default())
}

/// The rules of a good policy.
fn rules(rest: &str) -> Arc<AccessTable> {
    let loaded = loaded(rest);
    let good = loaded.policies.first().and_then(|policy| policy.good.clone());
    let good = good.unwrap_or_else(|| panic!("a good policy: {rest}\n{:?}", loaded.report.diagnostics()));
    Arc::clone(&good.model.access)
}

/// The codes of everything that is wrong with the rules.
fn complaints(rest: &str) -> Vec<&'static str> {
    let codes = loaded(rest).report.sorted().iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>();
    codes.into_iter().filter(|code| *code != "no-authorization-server").collect()
}

/// Alice with these scopes and claims.
fn alice(scopes: &str, claims: Value) -> Identity {
    let Value::Object(claims) = claims else { panic!("claims are an object") };
    Identity {
        holder: portcullis::oauth::identity::Holder::default(),
        issuer: "https://issuer.example.com".into(),
        subject: Some("alice".into()),
        client: Some("claude".into()),
        scopes: scopes.split_whitespace().collect(),
        audiences: Vec::new(),
        expires: i64::MAX,
        not_before: None,
        token_type: None,
        claims,
        token_name: String::new(),
        twin_name: None,
    }
}

/// A decision in one word: `permit`, a reason, or `step-up` with the scopes that are asked for.
fn decision(rules: &AccessTable, identity: &Identity, era: Era, method: &str, params: &Value) -> (String, Vec<String>) {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let message = Message::parse(message.as_bytes()).expect("a message");
    let mut undecided = Vec::new();
    let decided = rules.decide(identity, &message.operation, era, &mut undecided);
    let word = match decided {
        Ok(_) => "permit".to_owned(),
        Err(denial) if denial.reason == Reason::ScopeMissing => format!("step-up {}", denial.scopes.join(" ")),
        Err(denial) => denial.reason.as_str().to_owned(),
    };
    (word, undecided)
}

/// Whether a call of `tool` is permitted, in one word.
fn call(rules: &AccessTable, identity: &Identity, tool: &str, arguments: &Value) -> String {
    decision(rules, identity, Era::Modern, "tools/call", &json!({"name": tool, "arguments": arguments})).0
}

/// Those of `names` that a list shows.
fn listed<'n>(rules: &AccessTable, identity: &Identity, kind: ItemKind, names: &[&'n str]) -> Vec<&'n str> {
    let lister = rules.lister(identity, kind);
    names.iter().copied().filter(|name| lister.shows(name)).collect()
}
