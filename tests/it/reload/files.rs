//! The file system as it is: editors, orchestrators, and things that are no files.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Regular, complaints, soon, status, two_services, wait_for_complaint};
use crate::own::{self, allow, policy};
use crate::support::Upstream;

/// A way to save a file.
type Save = fn(&Path, &str);

fn in_place(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

fn by_rename(path: &Path, text: &str) {
    let temporary = path.with_file_name(".story.yaml.tmp");
    fs::write(&temporary, text).expect("written");
    fs::rename(temporary, path).expect("renamed");
}

/// What vim does with `backup` and `writebackup`: a swap file, a probe, the old file moved aside, a new one.
fn like_vim(path: &Path, text: &str) {
    let (swap, probe, backup) =
        (path.with_file_name(".story.yaml.swp"), path.with_file_name("4913"), path.with_file_name("story.yaml~"));
    fs::write(&swap, "b0VIM 9.1").expect("a swap file");
    fs::write(&probe, "").expect("a probe");
    fs::remove_file(&probe).expect("no probe");
    fs::rename(path, &backup).expect("a backup");
    std::thread::sleep(Duration::from_millis(20));
    fs::write(path, text).expect("written");
    fs::remove_file(swap).expect("no swap file");
}

/// What Emacs does: a lock that is a link to nowhere, and an autosave.
fn like_emacs(path: &Path, text: &str) {
    let (lock, autosave) = (path.with_file_name(".#story.yaml"), path.with_file_name("#story.yaml#"));
    symlink("somebody@somewhere.4711", &lock).expect("a lock");
    fs::write(&autosave, "service: half").expect("an autosave");
    fs::write(path, text).expect("written");
    fs::remove_file(autosave).expect("no autosave");
    fs::remove_file(lock).expect("no lock");
}

fn byte_by_byte(path: &Path, text: &str) {
    let mut file = File::create(path).expect("emptied");
    for piece in text.as_bytes().chunks(16) {
        file.write_all(piece).expect("a piece");
        file.flush().expect("flushed");
    }
}

/// Deleted, and written anew before anybody can tell.
fn deleted_first(path: &Path, text: &str) {
    fs::remove_file(path).expect("deleted");
    std::thread::sleep(Duration::from_millis(30));
    fs::write(path, text).expect("written");
}

fn by_link(path: &Path, text: &str) {
    let target = path.with_file_name(format!("story.{}", text.len()));
    fs::write(&target, text).expect("written");
    let link = path.with_file_name(".link");
    symlink(target.file_name().expect("a name"), &link).expect("a link");
    fs::rename(link, path).expect("renamed");
}

const WAYS: [(&str, Save); 7] = [
    ("a plain write", in_place),
    ("a rename over the file", by_rename),
    ("vim", like_vim),
    ("Emacs", like_emacs),
    ("a slow writer", byte_by_byte),
    ("delete and write", deleted_first),
    ("a changed link", by_link),
];

#[tokio::test(flavor = "multi_thread")]
async fn n05_every_way_to_save_a_file_is_seen_and_none_removes_the_service() {
    let upstream = Upstream::mcp(&["a", "b", "always"]).await;
    let gateway = own::setup().policy("story", &policy("story", &upstream, &allow("always, a"))).start().await;
    let client = own::client(&gateway, "story", json!({}));
    let path = gateway.policy_path("story");
    let mut allowed = ["a", "b"];
    for (way, save) in WAYS.iter().chain(&WAYS) {
        allowed.reverse();
        let [now, before] = allowed;
        let regular = Regular::calls(&gateway, "story", "always");
        let text = policy("story", &upstream, &allow(&format!("always, {now}")));
        let (save, path) = (*save, path.clone());
        tokio::task::spawn_blocking(move || save(&path, &text)).await.expect("saved");
        soon(&client, now, 200, way).await;
        assert_eq!(status(&client, before).await, 403, "after {way}: what the new text does not allow is gone");
        regular.was_always_served(way).await;
    }
    assert_eq!(
        complaints(&gateway, "story"),
        0,
        "no half of a file was ever taken for a policy: {}",
        gateway.printed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn n04_twenty_configmap_swaps_in_a_row_are_all_seen() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let setup = own::setup();
    let folder = setup.directory().join("policies");
    let publish = |version: usize, tool: &str| {
        let data = folder.join(format!("..2026_{version}"));
        fs::create_dir(&data).expect("a version");
        fs::write(data.join("story.yaml"), policy("story", &upstream, &allow(tool))).expect("a policy");
        let next = folder.join("..data_tmp");
        symlink(data.file_name().expect("a name"), &next).expect("the next link");
        fs::rename(next, folder.join("..data")).expect("the swap");
        if let Some(last) = version.checked_sub(1) {
            fs::remove_dir_all(folder.join(format!("..2026_{last}"))).expect("the last version");
        }
    };
    publish(0, "a");
    symlink("..data/story.yaml", folder.join("story.yaml")).expect("the visible file");
    let gateway = setup.start().await;
    let client = own::client(&gateway, "story", json!({}));
    assert_eq!(status(&client, "a").await, 200);
    for swap in 1..=20 {
        let (now, before) = if swap % 2 == 0 { ("a", "b") } else { ("b", "a") };
        publish(swap, now);
        soon(&client, now, 200, &format!("swap {swap}")).await;
        assert_eq!(status(&client, before).await, 403, "swap {swap} is seen as a whole");
    }
    assert_eq!(complaints(&gateway, "story"), 0, "a swap is no error: {}", gateway.printed());
}

#[tokio::test(flavor = "multi_thread")]
async fn n06_a_half_written_file_is_not_taken_over() {
    let upstream = Upstream::mcp(&["a", "b", "c"]).await;
    let gateway = own::setup().policy("story", &policy("story", &upstream, &allow("a"))).start().await;
    let client = own::client(&gateway, "story", json!({}));
    // The first half is a whole policy that opens `b`; the second half is the rule that denies it.
    let first = policy("story", &upstream, "") + "rules:\n  - allow: { tools: [\"*\"] }\n";
    let mut file = File::create(gateway.policy_path("story")).expect("emptied");
    file.write_all(first.as_bytes()).expect("the first half");
    file.flush().expect("flushed");
    // A new file that is half written, and a whole one beside it.
    let mut new = File::create(gateway.policy_path("late")).expect("a new file");
    new.write_all(policy("late", &upstream, &allow("a")).as_bytes()).expect("its first half");
    new.flush().expect("flushed");
    gateway.write_policy("other", &policy("other", &upstream, &allow("c")));
    let (late, other) = (own::client(&gateway, "late", json!({})), own::client(&gateway, "other", json!({})));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        assert_eq!(status(&client, "a").await, 200, "the version before serves on");
        assert_eq!(status(&client, "b").await, 403, "half of a policy opens nothing");
        assert_eq!(status(&late, "a").await, 404, "and no service");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&other, "c").await, 200, "others are not held up");
    drop(new);
    file.write_all(b"  - deny: { tools: [b] }\n").expect("the second half");
    drop(file);
    soon(&client, "c", 200, "the second half").await;
    assert_eq!(status(&client, "b").await, 403, "the whole policy denies it too");
    let reached = upstream.received();
    assert!(
        reached.iter().all(|request| request.json()["params"]["name"] != "b"),
        "no call of `b` reached the upstream"
    );
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success(), "a pipe is made");
}

/// What takes the place of a policy, and how.
type Place = (&'static str, fn(&Path));

const PLACES: [Place; 10] = [
    ("a folder", |path| fs::create_dir(path).expect("a folder")),
    ("a pipe", pipe),
    ("a link to nowhere", |path| symlink("nowhere.yaml", path).expect("a link")),
    ("a link to itself", |path| symlink(path, path).expect("a link")),
    ("a link to endless zeros", |path| symlink("/dev/zero", path).expect("a link")),
    ("a link to a folder", |path| symlink("..", path).expect("a link")),
    ("an empty file", |path| in_place(path, "")),
    ("a file that is cut off", |path| in_place(path, "service: story\nroute: { path: /story/mcp }\nupstr")),
    ("a file of two megabytes", |path| in_place(path, &"# padding\n".repeat(200_000))),
    ("a file that is no text", |path| fs::write(path, [0xff, 0xfe, 0x00]).expect("written")),
];

fn remove(path: &Path) {
    let is_folder = fs::symlink_metadata(path).expect("something there").is_dir();
    if is_folder { fs::remove_dir(path).expect("removed") } else { fs::remove_file(path).expect("removed") }
}

#[tokio::test(flavor = "multi_thread")]
async fn n05_what_takes_the_place_of_a_policy_neither_stops_nor_empties_it() {
    let (upstream, gateway) = two_services("").await;
    let (story, neighbour) = (own::client(&gateway, "story", json!({})), own::client(&gateway, "neighbour", json!({})));
    let mut allowed = ["a", "b"];
    for (place, take) in PLACES {
        let [now, next] = allowed;
        let before = complaints(&gateway, "story.yaml");
        remove(&gateway.policy_path("story"));
        take(&gateway.policy_path("story"));
        wait_for_complaint(&gateway, before, "story.yaml").await;
        assert_eq!(status(&story, now).await, 200, "{place}: the last good version serves on");
        assert_eq!(status(&story, next).await, 403, "{place}: and opens nothing else");
        gateway.write_policy("neighbour", &own::bare("neighbour", &upstream, &allow(next)));
        soon(&neighbour, next, 200, &format!("{place} beside it")).await;

        remove(&gateway.policy_path("story"));
        gateway.write_policy("story", &own::bare("story", &upstream, &allow(next)));
        soon(&story, next, 200, &format!("{place} gave way to a policy")).await;
        allowed.reverse();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n05_a_file_that_may_not_be_read_keeps_its_last_good_version() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let setup = own::setup().unprivileged().policy("story", &policy("story", &upstream, &allow("a")));
    let gateway = setup.start().await;
    let client = own::client(&gateway, "story", json!({}));
    let path = gateway.policy_path("story");
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed permissions");
    mode(0o000);
    wait_for_complaint(&gateway, 0, "story.yaml").await;
    assert_eq!(status(&client, "a").await, 200, "the last good version serves on");
    mode(0o644);
    gateway.write_policy("story", &policy("story", &upstream, &allow("b")));
    soon(&client, "b", 200, "the file may be read again").await;

    let folder = gateway.directory().join("policies");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).expect("a closed folder");
    gateway.signal("HUP");
    wait_for_complaint(&gateway, 0, "cannot be read").await;
    assert_eq!(status(&client, "b").await, 200, "a folder that may not be read changes nothing");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("an open folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn n05_a_folder_that_is_emptied_or_missing_changes_nothing() {
    let (upstream, gateway) = two_services("").await;
    let client = own::client(&gateway, "story", json!({}));
    for name in ["story", "neighbour"] {
        gateway.remove_policy(name);
    }
    wait_for_complaint(&gateway, 0, "no policy in").await;
    assert_eq!(status(&client, "a").await, 200, "an emptied folder is a mistake and not a decision");
    gateway.write_policy("neighbour", &own::bare("neighbour", &upstream, &allow("a")));
    soon(&client, "a", 404, "one policy is back, and the other is really gone").await;

    let (folder, away) = (gateway.directory().join("policies"), gateway.directory().join("away"));
    fs::rename(&folder, &away).expect("moved away");
    wait_for_complaint(&gateway, 0, "cannot be read").await;
    let client = own::client(&gateway, "neighbour", json!({}));
    assert_eq!(status(&client, "a").await, 200, "a missing folder changes nothing");
    fs::write(away.join("neighbour.yaml"), own::bare("neighbour", &upstream, &allow("b"))).expect("written");
    fs::rename(&away, &folder).expect("moved back");
    soon(&client, "b", 200, "the folder came back").await;
    gateway.write_policy("neighbour", &own::bare("neighbour", &upstream, &allow("a")));
    soon(&client, "a", 200, "an edit in the folder that came back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n05_a_rename_is_no_removal_and_a_removal_is_one() {
    let (_upstream, gateway) = two_services("").await;
    let client = own::client(&gateway, "story", json!({}));
    let regular = Regular::calls(&gateway, "story", "a");
    let moved = gateway.directory().join("policies/moved.yml");
    fs::rename(gateway.policy_path("story"), &moved).expect("renamed");
    gateway
        .wait_for_log(|record| record["service"] == "story" && record["rule"].to_string().contains("moved.yml"))
        .await;
    regular.was_always_served("a rename").await;

    fs::remove_file(moved).expect("removed");
    soon(&client, "a", 404, "the removal").await;
    let neighbour = own::client(&gateway, "neighbour", json!({}));
    assert_eq!(status(&neighbour, "a").await, 200, "the other service stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn n05_what_is_removed_only_to_be_replaced_is_no_removal_in_a_folder_that_is_never_quiet() {
    // Files are read within a second although the folder is busy: at whatever moment that is.
    let (_upstream, gateway) = two_services("").await;
    let path = gateway.policy_path("story");
    let text = fs::read(&path).expect("the policy");
    let client = own::client(&gateway, "story", json!({}));
    let mut refused = Vec::new();
    for _ in 0..40 {
        soon(&client, "a", 200, "an attempt that could not tell").await;
        let regular = Regular::calls(&gateway, "story", "a");
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_millis(2200) {
            let removed = Instant::now();
            fs::remove_file(&path).expect("removed");
            tokio::time::sleep(Duration::from_millis(10)).await;
            fs::write(&path, &text).expect("replaced");
            tokio::time::sleep(Duration::from_millis(5)).await;
            longest = longest.max(removed.elapsed());
        }
        let answers = regular.refused().await;
        // A busy machine may have left the file away, or the gateway asleep, for as long as a removal lasts: one attempt
        // of those that look good may be such a one.
        match (longest < Duration::from_millis(80), answers.is_empty()) {
            (false, _) => {}
            (true, true) => return,
            (true, false) if refused.is_empty() => refused = answers,
            (true, false) => panic!("calls were refused while a file was replaced: {refused:?}, and again {answers:?}"),
        }
    }
    panic!("no file was replaced quickly enough to tell");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_is_followed_too() {
    let upstream = Upstream::mcp(&["a", "b"]).await;
    let setup = own::setup().file("one.yaml", &policy("story", &upstream, &allow("a"))).serving("one.yaml");
    let gateway = setup.start().await;
    let client = own::client(&gateway, "story", json!({}));
    let path = gateway.directory().join("one.yaml");
    by_rename(&path, &policy("story", &upstream, &allow("b")));
    soon(&client, "b", 200, "the edit").await;
    fs::remove_file(&path).expect("removed");
    wait_for_complaint(&gateway, 0, "one.yaml").await;
    assert_eq!(status(&client, "b").await, 200, "without its only file the gateway serves on and complains");
    in_place(&path, &policy("story", &upstream, &allow("a")));
    soon(&client, "a", 200, "the file is back").await;
}
