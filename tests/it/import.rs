//! `portcullis import`: every variable and every unsafe setting of oauth-mcp-proxy, as settings, a line, and the policy.
//!
//! `UPDATE=1` writes the policies anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::gateway::BINARY;

const LINE: &str = "----\n";

struct Case {
    path: PathBuf,
    settings: String,
    expected: String,
}

impl Case {
    fn name(&self) -> String {
        self.path.file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// The variables as a shell would have them; goldens quote only where a line end is meant.
    fn variables(&self) -> Vec<(String, String)> {
        let pairs = self.settings.lines().filter_map(|line| line.split_once('='));
        let plain = |value: &str| value.trim_matches('"').replace("\\n", "\n").replace("\\\"", "\"");
        pairs.map(|(name, value)| (name.to_owned(), plain(value))).collect()
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/import");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the goldens").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a golden");
        let (settings, expected) = text.split_once(LINE).unwrap_or_else(|| panic!("no line in {}", path.display()));
        Case { settings: settings.to_owned(), expected: expected.to_owned(), path }
    };
    paths.into_iter().map(read).collect()
}

fn import(folder: &Path, arguments: &[&str], variables: &[(String, String)]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("import").args(arguments).current_dir(folder).env_clear();
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The codes that a report holds.
fn reported(folder: &Path, variables: &[(String, String)]) -> BTreeSet<String> {
    let mut check = Command::new(BINARY);
    check.args(["check", "policy.yaml", "--deny-warnings", "--format", "json"]).current_dir(folder).env_clear();
    check.envs(variables.iter().map(|(name, value)| (name, value)));
    let output = check.output().expect("the binary runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let codes: BTreeSet<String> = report
        .as_array()
        .expect("a list")
        .iter()
        .map(|finding| finding["code"].as_str().expect("a code").to_owned())
        .collect();
    assert_eq!(output.status.success(), codes.is_empty(), "{report:#}");
    codes
}

/// The codes of which a policy says that they are reported.
fn foretold(policy: &str) -> BTreeSet<String> {
    let says = "#   `portcullis check --deny-warnings` reports `";
    policy.lines().filter_map(|line| line.strip_prefix(says)?.split('`').next().map(str::to_owned)).collect()
}

#[test]
fn every_setting_becomes_a_policy_that_passes_or_says_why_not() {
    let mut wrong = Vec::new();
    for case in cases() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("settings.env"), &case.settings).expect("the settings");
        let output = import(folder.path(), &["--env-file", "settings.env"], &[]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let said = if output.status.success() { &out } else { &err };
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&case.path, format!("{}{LINE}{said}", case.settings)).expect("a written golden");
        } else if *said != case.expected {
            wrong.push(format!("{}: wanted\n{}\nbut got\n{said}", case.name(), case.expected));
        }
        let variables = case.variables();
        let secrets = variables.iter().filter(|(name, _)| name.contains("SECR"));
        for (name, secret) in secrets {
            assert!(!out.contains(secret) && !err.contains(secret), "{}: {name} is written", case.name());
        }
        if !output.status.success() {
            assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{}: all or nothing", case.name());
            continue;
        }
        assert_eq!(err.lines().count(), 1, "{}: {err}", case.name());
        let from_environment = import(folder.path(), &[], &variables);
        assert_eq!(text(&from_environment.stdout), out, "{}: the environment says the same", case.name());
        std::fs::write(folder.path().join("policy.yaml"), &out).expect("the policy");
        assert_eq!(reported(folder.path(), &variables), foretold(&out), "{}:\n{out}", case.name());
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE=1 writes what is made now)", wrong.join("\n"));
}

#[test]
fn a_policy_is_written_once_and_a_file_that_is_there_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let settings =
        "OAUTH_PROVIDER=okta\nOIDC_ISSUER=https://dev-1.okta.com/oauth2/default\nOIDC_AUDIENCE=api://notes\n";
    std::fs::write(at.join("settings.env"), settings).expect("the settings");
    let arguments = ["--env-file", "settings.env", "--out", "mcp.yaml"];
    let first = import(at, &arguments, &[]);
    assert!(first.status.success() && first.stdout.is_empty(), "{}", text(&first.stderr));
    let written = std::fs::read_to_string(at.join("mcp.yaml")).expect("the policy");
    assert!(written.starts_with("# yaml-language-server: $schema="), "{written}");
    assert_eq!(text(&import(at, &arguments[..2], &[]).stdout), written, "the same as on standard output");
    std::fs::write(at.join("mcp.yaml"), "mine").expect("an edited policy");
    let second = import(at, &arguments, &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("`mcp.yaml` cannot be written"), "{}", text(&second.stderr));
    assert_eq!(std::fs::read_to_string(at.join("mcp.yaml")).expect("the policy"), "mine");

    std::fs::write(at.join("broken.env"), "OAUTH_PROVIDER=okta\nhunter2\n").expect("the settings");
    for (file, says) in [("broken.env", "line 2 is no `NAME=value`"), ("missing.env", "`missing.env`: ")] {
        let output = import(at, &["--env-file", file], &[]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
        assert!(said.contains(says) && !said.contains("hunter2"), "{said}");
    }
    assert_eq!(import(at, &["--file", "x"], &[]).status.code(), Some(2), "a wrong command line");
}
