//! Changes under load: nothing is lost, nothing is judged by two generations, and many policies cost no more than few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{soon, status};
use crate::own::{self, PROVIDER, allow, bare, policy};
use crate::support::{Answer, Client, Gateway, Issuer, PATIENCE, Upstream, eventually};

/// Calls `even` and `odd` in turn for as long as the reloads take, and counts each status.
async fn caller(client: Client, until: Instant) -> BTreeMap<u16, usize> {
    let mut seen = BTreeMap::new();
    for turn in 0..4000 {
        if Instant::now() > until {
            break;
        }
        let status = status(&client, if turn % 2 == 0 { "even" } else { "odd" }).await;
        *seen.entry(status).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn n01_under_load_no_request_is_lost_and_none_sees_two_generations() {
    let upstream = Upstream::mcp(&["even", "odd"]).await;
    let gateway = own::setup().policy("story", &policy("story", &upstream, &allow("even"))).start().await;
    let until = Instant::now() + Duration::from_millis(4500);
    let callers: Vec<_> = (0..4)
        .map(|caller| own::client(&gateway, "story", json!({"sub": format!("caller-{caller}")})))
        .map(|client| tokio::spawn(caller(client, until)))
        .collect();
    for round in 1..=20 {
        gateway.write_policy("story", &policy("story", &upstream, &allow(["even", "odd"][round % 2])));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let last = own::client(&gateway, "story", json!({}));
    soon(&last, "even", 200, "twenty changes under load").await;
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    for caller in callers {
        for (status, count) in caller.await.expect("the caller ends") {
            *seen.entry(status).or_default() += count;
        }
    }
    assert_eq!(
        seen.keys().copied().collect::<Vec<_>>(),
        [200, 403],
        "every request was judged, none was lost: {seen:?}"
    );
    let total: usize = seen.values().sum();
    assert!(total > 200, "there was load: {seen:?}");

    let records = eventually("a record of every request", || {
        let records: Vec<Value> =
            gateway.log().into_iter().filter(|record| record["schema"] == "portcullis.audit/1").collect();
        (records.len() > total).then_some(records)
    })
    .await;
    let mut permitted: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut denied = permitted.clone();
    for record in &records {
        let generation = record["generation"].as_u64().expect("every record names its generation");
        let target = record["target"].as_str().expect("every record names its tool").to_owned();
        let of = if record["decision"] == "permit" { &mut permitted } else { &mut denied };
        of.entry(generation).or_default().insert(target);
    }
    assert!(permitted.len() >= 5, "several generations served: {permitted:?}");
    for (generation, tools) in &permitted {
        assert_eq!(tools.len(), 1, "generation {generation} allows one tool and no other: {tools:?}");
        let both = denied.get(generation).is_some_and(|denied| !denied.is_disjoint(tools));
        assert!(!both, "generation {generation} never denied what it permits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n01_a_request_ends_under_the_generation_under_which_it_began() {
    let upstream = Upstream::start(|request| {
        let message = request.json();
        let answer = match message["method"].as_str() {
            Some("tools/list") => json!({"tools": [{"name": "old"}, {"name": "new"}]}),
            _ => json!({"content": []}),
        };
        let slow = message["params"]["cursor"] == "slow" || message["params"]["arguments"]["slow"] == true;
        let wait = Duration::from_millis(if slow { 1500 } else { 0 });
        Answer::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": answer})).after(wait)
    })
    .await;
    let gateway = own::setup().policy("story", &policy("story", &upstream, &allow("old"))).start().await;
    let [call, list, other] =
        ["call", "list", "other"].map(|subject| own::client(&gateway, "story", json!({"sub": subject})));
    let call = tokio::spawn(async move { call.call_tool("old", json!({"slow": true})).await });
    let list = tokio::spawn(async move { list.request("tools/list", json!({"cursor": "slow"})).await });
    eventually("both requests at the upstream", || (upstream.received().len() == 2).then_some(())).await;
    gateway.write_policy("story", &policy("story", &upstream, &allow("new")));
    soon(&other, "new", 200, "the change").await;
    assert_eq!(status(&other, "old").await, 403, "a new request is judged by the new rules");
    assert!(!call.is_finished() && !list.is_finished(), "the slow ones are still under way");

    assert_eq!(call.await.expect("ended").status, 200, "what was permitted is answered");
    assert_eq!(list.await.expect("ended").names("tools"), ["old"], "and a list is cut by the rules it began under");
    let generation = |subject: &str| {
        gateway
            .log()
            .into_iter()
            .rfind(|record| record["subject"] == subject)
            .map(|record| record["generation"].clone())
    };
    let (call, list) = eventually("the records of the slow ones", || generation("call").zip(generation("list"))).await;
    assert_eq!((&call, &list), (&json!(1), &json!(1)), "the records name the generation that judged");
    assert_ne!(generation("other"), Some(call), "which is not the one after");
}

/// User and system time of a process, in seconds.
fn cpu(gateway: &Gateway) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).expect("its state");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("the fields behind its name").1.split(' ').collect();
    let ticks: f64 = [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum();
    ticks / 100.0
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_policies_load_soon_and_changing_one_costs_one() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let mut setup = own::setup().installation(PROVIDER);
    for number in 0..10_000 {
        let name = format!("p{number:05}");
        setup = setup.policy(&name, &bare(&name, &upstream, &allow("a")));
    }
    let gateway = setup.start().await;
    // CPU and not the clock: the machine may have other work.
    let loading = cpu(&gateway);
    let client = own::client(&gateway, "p04711", json!({}));
    assert_eq!(status(&client, "a").await, 200);
    assert!(loading < 18.0, "ten thousand policies took {loading} s of CPU to load");
    // Files that were written just now are read once more before they are known by their looks.
    let text = |tool: &str| bare("p04711", &upstream, &allow(tool));
    gateway.write_policy("p04711", &text("a, b"));
    soon(&client, "b", 200, "the first change").await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    gateway.write_policy("p04711", &text("b"));
    soon(&client, "a", 403, "the second change").await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let idle = cpu(&gateway);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = cpu(&gateway);
    gateway.write_policy("p04711", &text("a"));
    soon(&client, "a", 200, "the change of one among ten thousand").await;
    let (spent, idle) = (cpu(&gateway) - before, before - idle);
    println!(
        "ten thousand policies, in s of CPU: loading {loading:.2}, one change {spent:.2}, three seconds of none {idle:.2}"
    );
    assert!(spent < 1.0, "changing one policy cost {spent:.2} s of CPU");
    let neighbour = own::client(&gateway, "p00000", json!({}));
    assert_eq!(status(&neighbour, "a").await, 200, "the others serve on");
}

/// One answer over a connection that stays open.
async fn ask(socket: &mut TcpStream, request: &str) -> String {
    socket.write_all(request.as_bytes()).await.expect("an open connection");
    let mut answer = vec![0; 8192];
    let read = tokio::time::timeout(PATIENCE, socket.read(&mut answer)).await.expect("in time").expect("an answer");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn n11_connections_and_fetched_keys_outlive_a_reload() {
    let (upstream, issuer) = (Upstream::mcp(&["a", "b"]).await, Issuer::start().await);
    let provider = format!("providers: {{ own: {{ oidc: {{ issuer: \"{}\" }} }} }}\n", issuer.url());
    let text = |tool: &str| bare("story", &upstream, &allow(tool)) + &provider;
    let gateway = Gateway::new().policy("story", &text("a")).start().await;
    let url = gateway.url("/story/mcp");
    let client = Client::new(&url).token(&issuer.token(&url, json!({})));
    assert_eq!(status(&client, "a").await, 200);
    let (fetches, discoveries) = (issuer.key_fetches(), issuer.discoveries());
    let mut socket = TcpStream::connect(gateway.address()).await.expect("a listening gateway");
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address());
    assert!(ask(&mut socket, &request).await.starts_with("HTTP/1.1 200"));
    for (round, tool) in [(1, "b"), (2, "a"), (3, "b")] {
        gateway.write_policy("story", &text(tool));
        soon(&client, tool, 200, "a change").await;
        let answer = ask(&mut socket, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "change {round}: the connection is the same one: {answer}");
    }
    let now = (issuer.key_fetches(), issuer.discoveries());
    assert_eq!(now, (fetches, discoveries), "an unchanged provider is not asked again");
}
