//! `portcullis user`: what it writes, what it refuses, and that it shows no password.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::gateway::BINARY;

const PASSWORD: &str = "correct horse battery";

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(folder: &Path, arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("its input");
    // A command that reads nothing may have ended already.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let said = Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!said.out.contains(PASSWORD) && !said.err.contains(PASSWORD), "no password is shown");
    said
}

fn add(folder: &Path, name: &str, more: &[&str], password: &str) -> Said {
    run(folder, &[&["user", "add", "users.yaml", name, "--password-stdin"], more].concat(), password)
}

fn written(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("users.yaml")).expect("the file")
}

#[test]
fn people_are_added_listed_and_removed_and_the_others_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let claims = ["--claim", "groups=[\"staff\"]", "--claim", "department=eng"];
    let said = add(at, "Alice", &claims, &format!("{PASSWORD}\n"));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "Alice is in `users.yaml`\n", ""));
    assert_eq!(add(at, "bob@example.com", &[], &format!("{PASSWORD}\r\n")).code, Some(0));
    let text = written(at);
    assert_eq!(text.matches("$argon2id$v=19$m=19456,t=2,p=1$").count(), 2, "{text}");
    assert!(text.contains("staff") && text.contains("department: eng") && !text.contains(PASSWORD), "{text}");
    let mode = std::fs::metadata(at.join("users.yaml")).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
    let listed = run(at, &["user", "list", "users.yaml"], "");
    assert_eq!((listed.code, listed.out.as_str()), (Some(0), "Alice\nbob@example.com\n"));

    // In any case it is the same person.
    let twice = add(at, "alice", &[], PASSWORD);
    assert_eq!((twice.code, twice.out.as_str()), (Some(1), ""));
    assert!(twice.err.contains("--replace"), "{}", twice.err);
    assert_eq!(written(at), text);
    assert_eq!(add(at, "alice", &["--replace"], "another good password").code, Some(0));
    let replaced = written(at);
    assert!(replaced != text && replaced.contains("staff"), "a new password leaves the claims: {replaced}");

    let removed = run(at, &["user", "remove", "users.yaml", "ALICE"], "");
    assert_eq!((removed.code, removed.out.as_str()), (Some(0), "alice is out of `users.yaml`\n"));
    assert_eq!(run(at, &["user", "list", "users.yaml"], "").out, "bob@example.com\n");
    let nobody = run(at, &["user", "remove", "users.yaml", "alice"], "");
    assert_eq!((nobody.code, nobody.err.as_str()), (Some(1), "error: there is no `alice` in `users.yaml`\n"));
    let names: Vec<_> =
        std::fs::read_dir(at).expect("the folder").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(names, ["users.yaml"], "nothing is left beside it");
}

#[test]
fn what_is_written_loads_and_what_is_refused_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    std::fs::write(
        at.join("policy.yaml"),
        "service: notes\nroute: { path: /notes/mcp }\nupstream: { url: http://127.0.0.1:9000/mcp }\n\
         providers: { people: { local: { users: users.yaml } } }\n\
         authorization_server: { sign_in: [people], redirects: { loopback: true } }\n\
         rules:\n  - allow: { tools: [search] }\n",
    )
    .expect("a policy");
    let check = || run(at, &["check", "policy.yaml"], "");
    assert!(check().out.contains("[secret-unreadable]"), "there is no file yet: {}", check().out);
    for (name, password, code, words) in [
        ("alice", "short", 1, "less than 12 characters"),
        ("alice", "", 1, "less than 12 characters"),
        ("alice", &*"x".repeat(2000), 1, "longer than 1024 bytes"),
        ("mallory:x", PASSWORD, 2, "a name of letters"),
        ("", PASSWORD, 2, "a name of letters"),
    ] {
        let said = add(at, name, &[], password);
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{name}: {}", said.err);
        assert!(said.err.contains(words), "{name}: {}", said.err);
        assert!(!at.join("users.yaml").exists());
    }
    assert_eq!(add(at, "alice", &["--claim", "=x"], PASSWORD).code, Some(2));
    assert_eq!(add(at, "alice", &[], PASSWORD).code, Some(0));
    let good = check();
    assert!(good.code == Some(0) && good.out.contains("good: 1 service"), "{}", good.out);

    // A file that somebody broke is neither overwritten nor guessed at.
    std::fs::write(at.join("users.yaml"), "users: [{ name: alice }]\n").expect("a broken file");
    for arguments in [&["user", "list", "users.yaml"][..], &["user", "remove", "users.yaml", "alice"]] {
        let said = run(at, arguments, "");
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
        assert!(said.err.contains("[missing-key]"), "{}", said.err);
    }
    assert_eq!(add(at, "bob", &[], PASSWORD).code, Some(1));
    assert_eq!(written(at), "users: [{ name: alice }]\n");
}

/// Without a terminal there is nobody to ask.
#[test]
fn a_password_is_asked_for_at_a_terminal_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("setsid");
    command.args(["--wait", BINARY, "user", "add", "users.yaml", "alice"]).current_dir(folder.path());
    let output = command.stdin(Stdio::null()).output().expect("setsid runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--password-stdin"), "{said}");
    assert!(!folder.path().join("users.yaml").exists());
}
