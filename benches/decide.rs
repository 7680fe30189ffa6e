//! What the gateway's own steps cost, one by one, without sockets. Prints one JSON object of microseconds.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::engine::access::argument::{ArgumentMatcher, Check, Presence};
use portcullis::engine::access::pattern::NamePattern;
use portcullis::engine::access::rule::{Conditions, Rule, Selector};
use portcullis::engine::access::{AccessTable, ListMode};
use portcullis::engine::clock::{Clock, SystemClock};
use portcullis::engine::credential::{Caller, CredentialCache, Credentials, Holder, Kind, Obtain, Obtained, Who};
use portcullis::engine::decision::Denial;
use portcullis::engine::limits::{Key, Limit, LimitKind, LimitSelector, LimitState, Limits};
use portcullis::mcp::era::Era;
use portcullis::mcp::list;
use portcullis::mcp::message::Message;
use portcullis::mcp::operation::ItemKind;
use portcullis::oauth::identity::Identity;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_issue","arguments":{"repo":"acme/site","title":"A title","labels":["bug"]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
/// Repetitions of one measurement, of which the fastest counts.
const ROUNDS: usize = 9;

/// Microseconds that `step` takes, at its best.
fn micros(times: u32, mut step: impl FnMut()) -> f64 {
    let round = |step: &mut dyn FnMut()| {
        let started = Instant::now();
        (0..times).for_each(|_| step());
        started.elapsed().as_secs_f64() * 1e6 / f64::from(times)
    };
    (0..ROUNDS).map(|_| round(&mut step)).fold(f64::INFINITY, f64::min)
}

fn selector(names: &[&str]) -> Option<Selector> {
    let tools: Result<Vec<NamePattern>, _> = names.iter().map(|name| NamePattern::glob(name)).collect();
    Some(Selector { tools: tools.ok()?, ..Selector::default() })
}

/// `count` rules, of which one matches the call by name and argument.
fn table(count: usize) -> Option<AccessTable> {
    let scopes = || vec!["tools:use".to_owned()];
    let plain = |index: usize| {
        let names = [format!("tool_{index}"), format!("other_{index}_*")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Rule::allow(selector(&names)?, Conditions::default(), scopes()).ok()
    };
    let mut rules: Vec<Rule> = (1..count).map(plain).collect::<Option<_>>()?;
    let repo = ArgumentMatcher::new("repo", vec![Check::matches("acme/[a-z-]+").ok()?], Presence::Required).ok()?;
    let conditions = Conditions { arguments: vec![repo], ..Conditions::default() };
    rules.push(Rule::allow(selector(&["create_issue"])?, conditions, scopes()).ok()?);
    Some(AccessTable::new(rules, &BTreeMap::new(), ListMode::Permitted))
}

fn five_hundred_tools() -> String {
    let tool = |index: usize| {
        let kind = if index.is_multiple_of(2) { "tool_1" } else { "delete" };
        format!(r#"{{"name":"{kind}","inputSchema":{{"type":"object"}},"description":"{}"}}"#, "d".repeat(330))
    };
    let tools: Vec<String> = (0..500).map(tool).collect();
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{}]}}}}"#, tools.join(","))
}

/// Gives a credential of usual length.
#[derive(Debug)]
struct Given;

#[async_trait::async_trait]
impl Obtain for Given {
    async fn obtain(&self, _caller: Option<&Caller>) -> Result<Obtained, Denial> {
        Ok(Obtained::lasting("g".repeat(1024), SystemClock.unix(), Some(3600)))
    }
}

fn main() -> io::Result<()> {
    let broken = || io::Error::other("the bench's own rules do not compile");
    let identity = Arc::new(Identity {
        issuer: "https://issuer.example".into(),
        subject: Some("alice".into()),
        scopes: ["tools:use"].into_iter().collect(),
        ..Identity::anonymous()
    });
    let message = Message::parse(CALL.as_bytes()).map_err(|error| io::Error::other(error.public.into_owned()))?;
    let (small, large) = (table(10).ok_or_else(broken)?, table(1000).ok_or_else(broken)?);
    let decide = |table: &AccessTable| {
        let permit = table.decide(&identity, &message.operation, Era::Modern, &mut Vec::new());
        assert!(permit.is_ok(), "the call that is measured is permitted");
        drop(black_box(permit));
    };
    let rate = LimitKind::Rate { count: 1_000_000, period: Duration::from_secs(1), burst: 1_000_000 };
    let limit = Limit::new(rate, vec![Key::Subject], LimitSelector::default(), LimitState::new().into());
    let limits = Limits::new(vec![limit.map_err(io::Error::other)?]);
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let list = five_hundred_tools();
    let lister = small.lister(&identity, ItemKind::Tool);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cache = Arc::new(CredentialCache::new(clock));
    let given: Arc<dyn Obtain> = Arc::new(Given);
    let obtained = |holder, kind| {
        Credentials::new(kind, holder, "Bearer ".to_owned(), Arc::clone(&given), &cache, runtime.handle().clone())
    };
    let (one, each) = (obtained(Holder::Service, Kind::ClientCredentials), obtained(Holder::Caller, Kind::Exchange));
    let token = "t".repeat(1024);
    let shown = |credentials: &Credentials| {
        let who = Who { token: Some(&token), identity: &identity, issuing: None };
        let value = runtime.block_on(credentials.get(who));
        assert!(value.is_ok(), "the credential that is measured is there");
        drop(black_box(value));
    };
    let found = [
        ("parse", micros(20_000, || drop(black_box(Message::parse(CALL.as_bytes()))))),
        ("authorize_10_rules", micros(20_000, || decide(&small))),
        ("authorize_1000_rules", micros(20_000, || decide(&large))),
        (
            "limit",
            micros(20_000, || drop(black_box(limits.take(&identity, address, &message.operation, Instant::now())))),
        ),
        ("credential_of_the_service", micros(20_000, || shown(&one))),
        ("credential_of_the_caller", micros(20_000, || shown(&each))),
        (
            "filter_500_tools",
            micros(200, || {
                let text = portcullis::mcp::json::check(list.as_bytes()).unwrap_or_default();
                let cut = list::filter(text, ItemKind::Tool, Era::Modern, &mut |name| lister.shows(name));
                assert!(cut.is_ok_and(|cut| cut.is_some()), "the list that is measured is cut");
            }),
        ),
    ];
    let members: Vec<String> = found.iter().map(|(name, micros)| format!("\"{name}\":{micros:.3}")).collect();
    writeln!(io::stdout(), "{{{}}}", members.join(","))
}
