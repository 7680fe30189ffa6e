//! The commands as scripts and people use them: exit codes, what goes to which output, what is never printed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::gateway::BINARY;

const SECRET: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0";
const ISSUER: &str = "https://own.example.com";
const NOTES: &str = "http://127.0.0.1:8080/notes/mcp";

/// An installation with two services: `notes` accepts shared secrets, `wiki` a provider that cannot be reached too.
fn installation() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let providers = format!(
        "providers:\n  own: {{ hmac: {{ issuer: \"{ISSUER}\", secrets: [{{ env: OWN_SECRET }}] }} }}\n  \
         corp: {{ oidc: {{ issuer: \"http://127.0.0.1:9\" }} }}\n"
    );
    write(&folder.path().join("portcullis.yaml"), &providers);
    for (service, providers) in [("notes", "own"), ("wiki", "own, corp")] {
        write(&folder.path().join(format!("policies/{service}.yaml")), &policy(service, providers));
    }
    folder
}

fn policy(service: &str, providers: &str) -> String {
    format!(
        "service: {service}\nroute: {{ path: /{service}/mcp }}\nupstream: {{ url: http://127.0.0.1:9000/mcp }}\n\
         authentication: {{ providers: [{providers}], clients: [claude] }}\nrules:\n  - allow: {{ tools: [search] }}\n"
    )
}

/// A whole policy in one file.
fn alone(service: &str) -> String {
    format!("{}providers: {{ corp: {{ oidc: {{ issuer: https://login.example.com }} }} }}\n", policy(service, "corp"))
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(folder: &Path, arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(folder).env("OWN_SECRET", SECRET).env("WEAK_SECRET", "hunter2");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("its input");
    // A command that reads nothing may have ended already.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn check(folder: &Path, arguments: &[&str]) -> Said {
    run(folder, &[&["check"], arguments].concat(), "")
}

#[test]
fn check_ends_with_0_for_good_1_for_findings_and_2_for_a_wrong_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    write(&at.join("good.yaml"), &alone("good"));
    write(&at.join("warned.yaml"), &alone("warned").replace("127.0.0.1:9000", "notes.internal"));
    write(&at.join("broken.yaml"), &alone("broken").replace("rules:", "rulez:"));
    for (arguments, code) in [
        (&["good.yaml"][..], 0),
        (&["warned.yaml"], 0),
        (&["broken.yaml"], 1),
        (&["missing.yaml"], 1),
        (&["good.yaml", "--deny-warnings"], 0),
        (&["warned.yaml", "--deny-warnings"], 1),
        (&["good.yaml", "warned.yaml", "--deny-warnings"], 1),
        (&["good.yaml", "broken.yaml"], 1),
        (&["."], 1),
        (&[], 2),
        (&["good.yaml", "--format", "xml"], 2),
        (&["good.yaml", "--public-url", "ftp://x"], 2),
        (&["good.yaml", "--public-url", "https://mcp.example.com/path"], 2),
    ] {
        let said = check(at, arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {}{}", said.out, said.err);
    }
    let several = check(at, &["broken.yaml", "warned.yaml", "good.yaml"]);
    assert!(several.out.contains("broken.yaml:5") && several.out.contains("warned.yaml:3"), "{}", several.out);
    assert!(several.out.ends_with("1 error, 1 warning\n"), "{}", several.out);
    assert_eq!(check(at, &["good.yaml", "warned.yaml"]).out.lines().last(), Some("good: 2 services"));
    let json = check(at, &["good.yaml", "--format", "json"]);
    assert_eq!(json.out, "[]\n", "a program reads an empty list when nothing was found");
}

#[test]
fn a_secret_older_than_90_days_is_a_warning_and_a_younger_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let provider =
        "providers: { own: { hmac: { issuer: \"https://own.example.com\", secrets: [{ file: secret }] } } }\n";
    write(&folder.path().join("p.yaml"), &format!("{}{provider}", policy("notes", "own")));
    write(&folder.path().join("secret"), SECRET);
    for (days, warned) in [(0, false), (89, false), (91, true), (400, true)] {
        let file = std::fs::File::options().write(true).open(folder.path().join("secret")).expect("the secret");
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).expect("its age");
        let said = check(folder.path(), &["p.yaml"]);
        assert_eq!(said.out.contains("old-secret"), warned, "{days} days: {}", said.out);
        assert_eq!(said.code, Some(0), "an old secret is served");
    }
}

#[test]
fn serve_check_does_everything_up_to_listening() {
    let folder = installation();
    let good = run(folder.path(), &["serve", "--check", "."], "");
    assert_eq!(good.code, Some(0), "{}", good.err);
    assert!(good.out.starts_with("good: 2 services, snapshot "), "{}", good.out);
    assert!(!good.out.contains("listening="), "{}", good.out);
    write(&folder.path().join("policies/broken.yaml"), &policy("broken", "crop"));
    let broken = run(folder.path(), &["serve", "--check", "."], "");
    assert_eq!((broken.code, broken.out.as_str()), (Some(1), ""));
    assert!(broken.err.contains("policies/broken.yaml:4") && broken.err.contains("unknown-provider"), "{}", broken.err);
}

fn mint(folder: &Path, more: &[&str]) -> Said {
    let usual = ["token", "mint", "--secret-env", "OWN_SECRET", "--issuer", ISSUER, "--subject", "alice"];
    run(folder, &[&usual, more].concat(), "")
}

fn show(folder: &Path, token: &str) -> Said {
    run(folder, &["token", "show", "."], token)
}

#[test]
fn a_minted_token_is_shown_as_accepted_by_its_service_alone() {
    let folder = installation();
    let minted = mint(folder.path(), &["--audience", NOTES, "--client", "claude", "--claim", "groups=[\"staff\"]"]);
    assert_eq!((minted.code, minted.err.as_str()), (Some(0), ""));
    let shown = show(folder.path(), &minted.out);
    assert_eq!(shown.code, Some(0), "{}{}", shown.out, shown.err);
    for line in ["\"alg\": \"HS256\"", "\"staff\"", "service notes: accepted", "  provider own: vouches for the token"]
    {
        assert!(shown.out.contains(line), "`{line}` is missing: {}", shown.out);
    }
    assert!(shown.out.contains("service wiki: refused, audience-mismatch"), "another audience: {}", shown.out);
    assert!(shown.out.contains("  provider corp: does not issue such tokens"), "no network is asked: {}", shown.out);
    assert!(!shown.out.contains(SECRET) && !shown.out.contains(minted.out.trim()), "{}", shown.out);
}

#[test]
fn a_refused_token_is_shown_with_the_reason_for_each_service_and_provider() {
    let folder = installation();
    let audience = ["--audience", NOTES, "--client", "claude"];
    let token = |more: &[&str]| mint(folder.path(), &[&audience[..], more].concat()).out;
    let good = token(&[]);
    let (head, _) = good.trim().rsplit_once('.').expect("three segments");
    for (name, token, reason) in [
        ("expired", token(&["--claim", "exp=1000000000"]), "token-expired"),
        (
            "other-client",
            token(&["--claim", "client_id=\"other\""]),
            "client-refused: `client_id` or `azp` must be claude",
        ),
        (
            "other-audience",
            token(&["--claim", "aud=\"https://other.example.com\""]),
            "audience-mismatch: `aud` must be http://127.0.0.1:8080/notes/mcp",
        ),
        (
            "other-issuer",
            token(&["--claim", "iss=\"https://other.example.com\""]),
            "provider own: does not issue such tokens",
        ),
        ("forged", format!("{head}.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "provider own: signature-invalid"),
        ("no-jwt", "abc".to_owned(), "not a JWT"),
        ("empty", String::new(), "not a JWT"),
    ] {
        let shown = show(folder.path(), &token);
        assert_eq!(shown.code, Some(1), "{name}: no service accepts it: {}{}", shown.out, shown.err);
        assert!(shown.out.contains("service notes: refused, "), "{name}: {}", shown.out);
        assert!(shown.out.contains(reason), "{name} is refused for `{reason}`: {}", shown.out);
    }
}

#[test]
fn mint_refuses_what_nobody_should_sign_with_and_prints_no_secret() {
    let folder = installation();
    let file = folder.path().join("secret");
    write(&file, SECRET);
    let base = ["--issuer", ISSUER, "--subject", "alice", "--audience", NOTES];
    for (arguments, code, words) in [
        (&["--secret-env", "WEAK_SECRET"][..], 1, "32 random bytes"),
        (&["--secret-env", "NO_SUCH_SECRET"], 1, "`NO_SUCH_SECRET` is not set"),
        (&["--secret-file", "missing"], 1, "it does not exist"),
        (&["--secret-env", "OWN_SECRET", "--secret-file", "secret"], 2, "cannot be used with"),
        (&[], 2, "--secret-env"),
        (&["--secret-env", "OWN_SECRET", "--alg", "RS256"], 2, "HS256, HS384 or HS512"),
        (&["--secret-env", "OWN_SECRET", "--alg", "none"], 2, "HS256, HS384 or HS512"),
        (&["--secret-env", "OWN_SECRET", "--expires", "soon"], 2, "5m or 1h"),
        (&["--secret-env", "OWN_SECRET", "--claim", "a=b"], 2, "texts need quotes"),
    ] {
        let said = run(folder.path(), &[&["token", "mint"], &base[..], arguments].concat(), "");
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
        assert!(!said.err.contains("hunter2") && !said.err.contains(SECRET), "{}", said.err);
    }
    let by_file = run(folder.path(), &[&["token", "mint", "--secret-file", "secret"], &base[..]].concat(), "");
    assert_eq!(by_file.out.matches('.').count(), 2, "{}", by_file.err);
}

#[test]
fn schema_prints_what_the_repository_carries() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (arguments, file) in [
        (&["schema"][..], "policy"),
        (&["schema", "policy"], "policy"),
        (&["schema", "installation"], "portcullis"),
        (&["schema", "users"], "users"),
    ] {
        let said = run(here, arguments, "");
        let committed = std::fs::read_to_string(here.join(format!("schema/{file}.schema.json"))).expect("the schema");
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        assert!(said.out == committed, "{arguments:?} and schema/{file}.schema.json differ");
        let undescribed: Vec<_> = committed.matches("\"description\": \"\"").collect();
        assert!(undescribed.is_empty(), "every description says something");
    }
    assert_eq!(run(here, &["schema", "rules"], "").code, Some(2));
}

#[test]
fn the_version_carries_the_commit_and_every_command_has_help() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let version = run(here, &["--version"], "").out;
    let commit = version.trim().strip_prefix(&format!("portcullis {} (", env!("CARGO_PKG_VERSION")));
    let commit = commit.and_then(|rest| rest.strip_suffix(')')).unwrap_or_else(|| panic!("{version}"));
    let hex = commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(hex || commit == "unknown", "a commit, or `unknown` outside of a repository: {version}");
    for command in [
        "serve",
        "check",
        "schema",
        "import",
        "token mint",
        "token show",
        "user add",
        "user list",
        "user remove",
        "demo",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let said = run(here, &words, "");
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{command}");
        assert!(said.out.contains("Usage: portcullis"), "{command}: {}", said.out);
        let bare = said.out.lines().any(|line| line.trim_start().starts_with("--") && line.trim_end().ends_with('>'));
        let described = said.out.lines().zip(said.out.lines().skip(1)).all(|(line, next)| {
            !(line.trim_start().starts_with("--") && line.trim_end().ends_with('>')) || next.starts_with("          ")
        });
        assert!(!bare || described, "every option of `{command}` says what it does: {}", said.out);
    }
    let nothing = run(here, &[], "");
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(2), ""));
    assert!(nothing.err.contains("Usage: portcullis <COMMAND>"), "{}", nothing.err);
}
