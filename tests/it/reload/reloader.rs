//! What loads and follows the files, in this process: what is shared between snapshots, and what may happen before anybody
//! watches.

use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use arc_swap::ArcSwap;
use portcullis::engine::clock::SystemClock;
use portcullis::engine::snapshot::Snapshot;
use portcullis::policy::compile::Compiler;
use portcullis::policy::resolve::Overrides;
use portcullis::policy::source::Layout;
use portcullis::reload::{AtStart, Follower, Reloader, Wake};
use portcullis::signin::KeptTokens;

use super::EFFECTIVE;
use crate::own::{allow, bare};
use crate::support::gateway::Setup;
use crate::support::{Gateway, Upstream, eventually};

/// An installation that listens on this port; the binary of the other tests is told its listener by the command line.
fn listening(port: u16) -> String {
    let key = format!("{{ name: k, sha256: \"{}\", expires: \"2099-01-01T00:00:00Z\" }}", "0".repeat(64));
    format!(
        "listeners: [{{ address: \"127.0.0.1:{port}\" }}]\nproviders: {{ own: {{ api_key: {{ keys: [{key}] }} }} }}\n"
    )
}

/// A reloader that has loaded the files of `setup` once, and what it made of them.
fn loaded(setup: &Setup) -> (Reloader, Snapshot) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let compiler = Compiler::new(tokio::runtime::Handle::current(), Arc::new(SystemClock), Arc::new(KeptTokens));
    let layout = Layout::of(&[setup.directory().to_owned()], None);
    let mut reloader = Reloader::new(layout, Overrides::default(), compiler.expect("a compiler"));
    let (snapshot, _) = reloader.start(AtStart::Refuse).expect("a good start");
    (reloader, snapshot)
}

type Watching = (Follower, Receiver<Wake>);

/// Begins to watch.
fn watching(reloader: Reloader) -> Watching {
    let (wake, woken) = channel();
    (Follower::new(reloader, wake), woken)
}

/// What serves while a thread of its own follows the files.
fn follows((follower, woken): Watching, snapshot: Snapshot) -> Arc<ArcSwap<Snapshot>> {
    let current = Arc::new(ArcSwap::from_pointee(snapshot));
    let serving = Arc::clone(&current);
    std::thread::spawn(move || follower.follow(&serving, &woken, || {}));
    current
}

/// Many policies and one change: what the others mean is neither read nor made again.
#[tokio::test]
async fn what_did_not_change_is_shared_with_the_snapshot_before() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let text = |name: &str, tool: &str| bare(name, &upstream, &allow(tool));
    let names: Vec<String> = (0..40).map(|number| format!("story{number}")).collect();
    let setup = Gateway::new().installation(&listening(18080));
    let setup = names.iter().fold(setup, |setup, name| setup.policy(name, &text(name, "a")));
    let (mut reloader, before) = loaded(&setup);
    let setup = setup.policy("story7", &text("story7", "b"));
    fs::remove_file(setup.directory().join("policies/story9.yaml")).expect("removed");
    let _setup = setup.policy("added", &text("added", "a"));
    let (after, report) = reloader.reload();
    assert!(!report.has_errors(), "{report:?}");
    let after = after.expect("a snapshot");
    assert_ne!(before.hash, after.hash);
    for name in &names {
        let (old, new) = (before.service(name).expect("a service"), after.service(name));
        let shared = new.is_some_and(|new| Arc::ptr_eq(old, new));
        assert_eq!(shared, name != "story7" && name != "story9", "{name}");
    }
    assert!(after.service("story7").is_some() && after.service("added").is_some(), "what changed is served anew");
    assert!(after.service("story9").is_none(), "and what was removed is gone");
}

#[tokio::test]
async fn a_changed_listener_is_refused_by_name() {
    let upstream = Upstream::mcp(&["a"]).await;
    let setup = Gateway::new().installation(&listening(18080)).policy("story", &bare("story", &upstream, &allow("a")));
    let (mut reloader, before) = loaded(&setup);
    let without_keys = "listeners: [{ address: \"127.0.0.1:18081\" }]\n";
    let setup = setup.installation(without_keys);
    let (after, report) = reloader.reload();
    let complaint = report.diagnostics().first().expect("a complaint");
    assert_eq!(complaint.code, "needs-restart");
    assert!(complaint.message.contains("`listeners`"), "{complaint:?}");
    assert_eq!(after.map(|snapshot| snapshot.hash), Some(before.hash.clone()), "nothing else of that text counts");
    let _setup = setup.installation(&(listening(18080) + "trusted_proxies: [10.0.0.0/8]\n"));
    let (after, report) = reloader.reload();
    assert!(!report.has_errors(), "{report:?}");
    assert_ne!(after.map(|snapshot| snapshot.hash), Some(before.hash), "with the listener as it was the rest counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_the_first_load_and_the_first_watch_is_served_as_soon_as_any() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let setup = Gateway::new().installation(&listening(18080)).policy("story", &bare("story", &upstream, &allow("a")));
    let (reloader, before) = loaded(&setup);
    let _setup = setup.policy("story", &bare("story", &upstream, &allow("b")));
    let (hash, changed) = (before.hash.clone(), Instant::now());
    let current = follows(watching(reloader), before);
    eventually("the change to be served", || (current.load().hash != hash).then_some(())).await;
    assert!(changed.elapsed() < EFFECTIVE, "{:?}", changed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn n06_a_file_that_is_half_written_as_soon_as_it_is_watched_is_not_taken_over() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let setup = Gateway::new().installation(&listening(18080)).policy("story", &bare("story", &upstream, &allow("a")));
    let (reloader, before) = loaded(&setup);
    let story = Arc::clone(before.service("story").expect("the service"));
    let watching = watching(reloader);
    let path = setup.directory().join("policies/story.yaml");
    let mut half = File::create(path).expect("emptied");
    half.write_all(bare("story", &upstream, "rules: [{ allow: { tools: [\"*\"] } }]\n").as_bytes())
        .expect("half of it");
    let _setup = setup.policy("other", &bare("other", &upstream, &allow("b")));
    let current = follows(watching, before);
    eventually("the file beside it", || current.load().service("other").map(drop)).await;
    let serves = current.load();
    assert!(
        serves.service("story").is_some_and(|service| Arc::ptr_eq(service, &story)),
        "half of it counts for nothing"
    );
    half.write_all(b"  # the end\n").expect("the rest");
    drop(half);
    let is_new = || current.load().service("story").is_some_and(|service| !Arc::ptr_eq(service, &story));
    eventually("the whole file", || is_new().then_some(())).await;
}
