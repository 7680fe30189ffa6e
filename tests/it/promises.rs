//! The promises that no other suite makes good on: what never crosses the gateway, what is never cached, what is bounded.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::own::{self, PROVIDER, allow, bare, policy};
use crate::support::gateway::BINARY;
use crate::support::{Answer, Client, Era, Gateway, Upstream, eventually};

#[tokio::test]
async fn the_clients_token_stays_behind_and_so_do_the_upstreams_credentials() {
    let upstream = Upstream::start(|request| {
        let message = request.json();
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}});
        let status = match message["params"]["name"].as_str() {
            Some("refuses") => 401,
            Some("forbids") => 403,
            Some("moves") => 302,
            _ => 200,
        };
        Answer::json(&answer)
            .with_status(status)
            .header("www-authenticate", "Bearer resource_metadata=\"http://evil.example.com/\"")
            .header("proxy-authenticate", "Basic realm=\"inner\"")
            .header("location", "http://evil.example.com/")
            .header("set-cookie", "inner=secret")
            .header("authentication-info", "nextnonce=\"1\"")
    })
    .await;
    let gateway = own::setup().policy("story", &policy("story", &upstream, &allow("\"*\""))).start().await;
    let url = gateway.url("/story/mcp");
    let token = own::token(&url, json!({}));
    for era in [Era::Legacy, Era::Modern] {
        for (tool, status) in [("answers", 200), ("refuses", 502), ("forbids", 403), ("moves", 502)] {
            let client = Client::new(&url).token(&token).era(era).header("cookie", "theirs=1");
            let client = client.header("proxy-authorization", "Basic dGhlaXJz");
            let reply = client.call_tool(tool, json!({})).await;
            assert_eq!(reply.status, status, "{era:?} {tool}");
            for name in ["www-authenticate", "proxy-authenticate", "location", "set-cookie", "authentication-info"] {
                assert_eq!(
                    reply.header(name),
                    "",
                    "{era:?} {tool}: `{name}` of the upstream does not reach the client"
                );
            }
        }
    }
    assert_eq!(upstream.received().len(), 8);
    let signature = token.rsplit('.').next().expect("a signature");
    for request in upstream.received() {
        let told = format!("{} {:?}", request.path, request.headers.iter().map(|(name, _)| name).collect::<Vec<_>>());
        for name in ["authorization", "cookie", "proxy-authorization"] {
            assert!(request.header(name).is_empty(), "`{name}` of the client does not reach the upstream: {told}");
        }
        let all = request.headers.iter().flat_map(|(_, value)| value.clone()).collect::<Vec<_>>();
        assert!(!String::from_utf8_lossy(&all).contains(signature), "nor does the token in any other header: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n13_a_change_of_the_rules_counts_for_tokens_that_are_known() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let gateway = own::setup().policy("story", &policy("story", &upstream, &allow("a"))).start().await;
    let client = own::client(&gateway, "story", json!({}));
    let statuses = async || {
        let (a, b) = (client.call_tool("a", json!({})).await.status, client.call_tool("b", json!({})).await.status);
        (a, b)
    };
    assert_eq!(statuses().await, (200, 403), "the token is verified, and what is known of it is kept");
    for (tools, expected) in [("b", (403, 200)), ("a, b", (200, 200)), ("c", (403, 403)), ("a", (200, 403))] {
        gateway.write_policy("story", &policy("story", &upstream, &allow(tools)));
        let changed = async {
            while statuses().await != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let soon = tokio::time::timeout(Duration::from_secs(6), changed).await;
        soon.unwrap_or_else(|_| panic!("[{tools}]: a decision about a known token must follow the rules at once"));
    }
    let reached = upstream.received();
    let passed = |tool| reached.iter().filter(|request| request.json()["params"]["name"] == tool).count();
    assert!(passed("a") > 0 && passed("b") > 0 && passed("c") == 0);
}

#[tokio::test]
async fn a19_what_is_known_about_a_token_opens_no_other_service() {
    let upstream = Upstream::mcp(&["a"]).await;
    let gateway = own::setup()
        .installation(PROVIDER)
        .policy("one", &bare("one", &upstream, &allow("a")))
        .policy("two", &bare("two", &upstream, &allow("a")))
        .policy("three", &bare("three", &upstream, &allow("a")).replace("[own]", "[own], clients: [cursor]"))
        .start()
        .await;
    let [one, two, three] = ["one", "two", "three"].map(|name| gateway.url(&format!("/{name}/mcp")));
    let token = own::token(&one, json!({"aud": [one, three]}));
    let call = async |url: &str| Client::new(url).token(&token).call_tool("a", json!({})).await.status;
    assert_eq!(call(&one).await, 200, "the token is good here, and is kept as verified");
    upstream.forget();
    assert_eq!(call(&two).await, 401, "another audience");
    assert_eq!(call(&three).await, 401, "another client");
    gateway.wait_for_log(|record| record["reason"] == "audience-mismatch").await;
    gateway.wait_for_log(|record| record["reason"] == "client-refused").await;
    upstream.assert_silent();
    assert_eq!(call(&one).await, 200, "and is still good where it was");
}

/// Bytes that a process has in memory.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("its state");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") * 1024
}

/// What a flood consists of: the token of the request with this number, and the status that it gets.
type Flood = (&'static str, fn(&str, usize) -> Option<String>, &'static [u16]);

const FLOODS: [Flood; 4] = [
    ("requests without a token", |_, _| None, &[401]),
    ("tokens that are none", |_, number| Some(format!("{number}.{}", "x".repeat(4000))), &[401]),
    (
        "tokens of a forger",
        |url, number| Some(own::signed(own::OTHER_SECRET, url, json!({"sub": format!("forger-{number}")}))),
        &[401],
    ),
    (
        "users that nobody knew",
        |url, number| Some(own::token(url, json!({"sub": format!("user-{number}")}))),
        &[200, 429],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_under_floods_of_whatever_is_new_each_time() {
    const EACH: usize = 600;
    const BOUND: u64 = 48 << 20;
    let upstream = Upstream::mcp(&["a"]).await;
    let limits = "\nlimits: [{ rate: 2/minute, per: [subject, tool] }, { concurrent: 2, per: subject }]";
    let text = bare("story", &upstream, &(allow("a") + limits));
    let installation = format!("{PROVIDER}\nlimits: {{ address_failures: 1000000/minute }}\n");
    let gateway = own::setup().installation(&installation).policy("story", &text).start().await;
    let url = gateway.url("/story/mcp");
    let flood = async |(what, token, expected): Flood, from: usize, count: usize| {
        let floods: Vec<_> = (0..4)
            .map(|part| {
                let url = url.clone();
                tokio::spawn(async move {
                    // One connection for all: each request brings its own token.
                    let client = Client::new(&url).era(Era::Legacy);
                    let body =
                        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}}).to_string();
                    for number in (from..from + count).filter(|number| number % 4 == part) {
                        let token = token(&url, number).map(|token| format!("Bearer {token}"));
                        let mut headers = vec![("mcp-protocol-version", "2025-11-25")];
                        headers.extend(token.as_deref().map(|token| ("authorization", token)));
                        let status = client.post(&headers, body.clone()).await.status;
                        assert!(expected.contains(&status), "{what}: {status}");
                    }
                })
            })
            .collect();
        for flood in floods {
            flood.await.expect("the flood ends");
        }
    };
    for kind in FLOODS {
        flood(kind, 0, EACH / 5).await;
    }
    let before = resident(&gateway);
    for kind in FLOODS {
        flood(kind, EACH, EACH).await;
    }
    let grown = resident(&gateway).saturating_sub(before);
    println!("{} requests grew the process by {} KiB", FLOODS.len() * EACH, grown / 1024);
    assert!(grown < BOUND, "the floods left {grown} bytes behind");
    let regular = own::client(&gateway, "story", json!({"sub": "regular"}));
    assert_eq!(regular.call_tool("a", json!({})).await.status, 200, "who comes after the flood is served");
}

/// Runs a program whose system calls for random bytes fail from its start, as on a machine that is ill.
const WITHOUT_RANDOM: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
GETRANDOM, EIO = 318, 5
program = op(0x20, 0, 0, 0) + op(0x15, 0, 1, GETRANDOM) + op(0x06, 0, 0, 0x00050000 | EIO) + op(0x06, 0, 0, 0x7fff0000)
class Program(ctypes.Structure): _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(Program(4, program)), 0, 0): sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[tokio::test]
async fn without_random_bytes_the_process_does_not_start() {
    let upstream = Upstream::mcp(&["a"]).await;
    let setup = own::setup().policy("story", &policy("story", &upstream, &allow("a")));
    let python = std::env::var("SDK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut ill = Command::new(python);
    ill.args(["-c", WITHOUT_RANDOM, BINARY, "serve", "--listen", "127.0.0.1:0"]).arg(setup.directory());
    ill.env("OWN_SECRET", own::SECRET).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ill.spawn().expect("it runs");
    let ended = eventually("the process to end", || child.try_wait().expect("its state")).await;
    let mut said = String::new();
    child.stderr.take().expect("its errors").read_to_string(&mut said).expect("text");
    assert!(!ended.success() && ended.code() != Some(77), "without random bytes nothing is served: {ended} {said}");
    assert!(!said.is_empty(), "it says why");
    upstream.assert_silent();
    let gateway = setup.start().await;
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(client.call_tool("a", json!({})).await.status, 200, "with them the same starts");
}
