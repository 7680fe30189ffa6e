//! What `check` says of every mistake, word for word: one file for each, the policy above the line and the report below.
//!
//! A file may begin with lines `$ ...`: `export NAME=VALUE`, `mkdir PATH`, `age DAYS FILE`, and the command itself. A line
//! `== PATH` begins a file. `@repeat N LINE`, `@repeat* N TEXT`, `@byte HEX` and `@tab` stand for what would not read well.
//! `UPDATE=1` writes what is said now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::Gateway;
use crate::support::gateway::BINARY;

const LINE: &str = "\n----\n";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What cannot be found by `check`, because it is a change and not a state.
const AT_RELOAD: &str = "needs-restart.txt";

/// One golden file.
struct Case {
    path: PathBuf,
    written: String,
    expected: String,
}

impl Case {
    fn name(&self) -> String {
        self.path.file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// Compares, or rewrites the file when `UPDATE` is set.
    fn settle(&self, said: &str) -> Result<(), String> {
        if said == self.expected {
            return Ok(());
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&self.path, format!("{}{LINE}{said}", self.written)).expect("a written golden");
            return Ok(());
        }
        Err(format!("{}: wanted\n{}\nbut got\n{said}", self.name(), self.expected))
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/policy");
    let entries = std::fs::read_dir(folder).expect("the goldens").map(|entry| entry.expect("an entry").path());
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a golden");
        let (written, expected) = text.split_once(LINE).unwrap_or_else(|| panic!("no line in {}", path.display()));
        Case { written: written.to_owned(), expected: expected.to_owned(), path }
    };
    let mut cases: Vec<Case> = entries.map(read).collect();
    cases.sort_by(|one, other| one.path.cmp(&other.path));
    cases
}

/// What a case is made of: the files, the environment, and the arguments of `check`.
#[derive(Default)]
struct Scene {
    files: Vec<(String, Vec<u8>)>,
    variables: Vec<(String, String)>,
    folders: Vec<String>,
    ages: Vec<(u32, String)>,
    command: Option<String>,
}

impl Scene {
    fn read(written: &str) -> Self {
        let mut scene = Self::default();
        for line in written.lines() {
            if let Some(step) = line.strip_prefix("$ ") {
                scene.step(step);
            } else if let Some(path) = line.strip_prefix("== ") {
                scene.files.push((path.to_owned(), Vec::new()));
            } else {
                if scene.files.is_empty() {
                    scene.files.push(("policy.yaml".to_owned(), Vec::new()));
                }
                scene.files.last_mut().expect("a file").1.extend(unfolded(line));
            }
        }
        scene
    }

    fn step(&mut self, step: &str) {
        let (word, rest) = step.split_once(' ').expect("a step with an argument");
        match word {
            "export" => {
                let (name, value) = rest.split_once('=').expect("NAME=VALUE");
                self.variables.push((name.to_owned(), value.to_owned()));
            }
            "mkdir" => self.folders.push(rest.to_owned()),
            "age" => {
                let (days, file) = rest.split_once(' ').expect("DAYS FILE");
                self.ages.push((days.parse().expect("days"), file.to_owned()));
            }
            "portcullis" => self.command = Some(rest.to_owned()),
            _ => panic!("no such step: {step}"),
        }
    }

    fn build(&self, folder: &Path) {
        for made in &self.folders {
            std::fs::create_dir_all(folder.join(made)).expect("a folder");
        }
        for (path, content) in &self.files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, content).expect("a file");
        }
        for (days, file) in &self.ages {
            let file = std::fs::File::options().write(true).open(folder.join(file)).expect("a file to age");
            file.set_modified(SystemTime::now() - DAY * *days).expect("an older file");
        }
    }

    fn check(&self, folder: &Path, more: &[&str]) -> Output {
        let several = self.files.iter().any(|(path, _)| path.starts_with("policies/"));
        let command = self.command.as_deref().unwrap_or(if several { "check ." } else { "check policy.yaml" });
        let mut check = Command::new(BINARY);
        check.args(command.split(' ')).args(more).current_dir(folder).env_clear();
        check.envs(self.variables.iter().map(|(name, value)| (name, value)));
        check.output().expect("the binary runs")
    }
}

/// The line with what it stands for.
fn unfolded(line: &str) -> Vec<u8> {
    let written = line.replace("@tab", "\t");
    let mut line = written.clone();
    if let Some((before, rest)) = written.split_once("@repeat") {
        let (how, rest) = rest.split_once(' ').expect("a count");
        let (count, text) = rest.split_once(' ').expect("a text");
        let unit = if how == "*" { text.to_owned() } else { format!("{text}\n") };
        line = format!("{before}{}", unit.repeat(count.parse().expect("a number")));
        if how.is_empty() {
            line.pop();
        }
    }
    line.push('\n');
    let Some((before, rest)) = line.split_once("@byte ") else { return line.into_bytes() };
    let (hex, after) = rest.split_at(2);
    [before.as_bytes(), &[u8::from_str_radix(hex, 16).expect("hex")], after.as_bytes()].concat()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_report_reads_as_it_is_written_down() {
    let mut wrong = Vec::new();
    for case in cases().into_iter().filter(|case| case.name() != AT_RELOAD) {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Scene::read(&case.written);
        scene.build(folder.path());
        let output = scene.check(folder.path(), &[]);
        let said = text(&output.stdout);
        assert_eq!(text(&output.stderr), "", "{}: the report goes to standard output alone", case.name());
        let failed = said.contains("error[");
        assert_eq!(output.status.code(), Some(i32::from(failed)), "{}: errors decide the exit code", case.name());
        if !failed {
            let strict = scene.check(folder.path(), &["--deny-warnings"]).status.code();
            assert_eq!(strict, Some(1), "{}: with `--deny-warnings` every finding fails", case.name());
        }
        wrong.extend(case.settle(&said).err());
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE=1 writes what is said now)", wrong.join("\n"));
}

#[test]
fn every_code_has_a_golden() {
    let cases = cases();
    for code in portcullis::policy::codes::ALL {
        let found = cases.iter().any(|case| case.expected.contains(&format!("[{code}]: ")));
        assert!(found, "no file in tests/golden/policy shows `{code}`");
        let named = cases.iter().any(|case| {
            let name = case.name();
            name.strip_prefix(code).is_some_and(|rest| rest == ".txt" || rest.starts_with('-'))
        });
        assert!(named, "no file in tests/golden/policy is named after `{code}`");
    }
}

/// The same findings for programs: every member that an editor or a pipeline needs, at the same place.
#[test]
fn the_json_report_says_the_same() {
    for case in cases().into_iter().filter(|case| case.name() != AT_RELOAD) {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Scene::read(&case.written);
        scene.build(folder.path());
        let output = scene.check(folder.path(), &["--format", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{}: {error} in {}", case.name(), text(&output.stdout)));
        let found = report.as_array().expect("a list");
        let headings = case.expected.lines().filter(|line| line.starts_with("error[") || line.starts_with("warning["));
        assert_eq!(found.len(), headings.clone().count(), "{}: {report:#}", case.name());
        for (finding, heading) in found.iter().zip(headings) {
            let word = |key: &str| finding[key].as_str().unwrap_or_else(|| panic!("no {key} in {finding}"));
            assert_eq!(format!("{}[{}]: {}", word("severity"), word("code"), word("message")), heading);
            if finding.get("file").is_none() {
                continue;
            }
            let number = |key: &str| finding[key].as_u64().unwrap_or_else(|| panic!("no {key} in {finding}"));
            let place = format!("--> {}:{}:{}\n", word("file"), number("line"), number("column"));
            assert!(case.expected.contains(&place), "{}: {place}", case.name());
            let (start, end) = ((number("line"), number("column")), (number("end_line"), number("end_column")));
            assert!(start <= end, "{}: {finding}", case.name());
        }
    }
}

#[test]
fn the_report_for_code_scanning_says_the_same() {
    for case in cases().into_iter().filter(|case| case.name() != AT_RELOAD) {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Scene::read(&case.written);
        scene.build(folder.path());
        let read = |format: &str| -> Value {
            let output = scene.check(folder.path(), &["--format", format]);
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{}: {error}", case.name()))
        };
        let (plain, log) = (read("json"), read("sarif"));
        assert_eq!((&log["version"], &log["runs"][0]["columnKind"]), (&json!("2.1.0"), &json!("unicodeCodePoints")));
        let results = log["runs"][0]["results"].as_array().expect("results");
        assert_eq!(results.len(), plain.as_array().expect("findings").len(), "{}", case.name());
        for (result, finding) in results.iter().zip(plain.as_array().expect("findings")) {
            assert_eq!((&result["ruleId"], &result["level"]), (&finding["code"], &finding["severity"]));
            let said = result["message"]["text"].as_str().expect("a text");
            assert!(said.starts_with(finding["message"].as_str().expect("a message")), "{said}");
            let place = &result["locations"][0]["physicalLocation"];
            assert_eq!(place["region"]["startLine"], finding["line"], "{}", case.name());
            assert_eq!(place["region"]["endColumn"], finding["end_column"], "{}", case.name());
            if let Some(file) = finding["file"].as_str() {
                assert_eq!(place["artifactLocation"]["uri"], file, "these names need no escape");
            }
        }
    }
}

#[test]
fn n10_no_literal_secret_is_printed_in_any_form() {
    let secret = "hunter2";
    for case in
        cases().into_iter().filter(|case| case.written.contains(secret) && !case.written.starts_with("$ export"))
    {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Scene::read(&case.written);
        scene.build(folder.path());
        for format in ["human", "json", "sarif"] {
            let output = scene.check(folder.path(), &["--format", format]);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(!said.contains(secret), "{} as {format}:\n{said}", case.name());
        }
        let served = Command::new(BINARY).args(["serve", "--check", "policy.yaml"]).current_dir(folder.path()).output();
        let served = served.expect("the binary runs");
        let said = text(&served.stdout) + &text(&served.stderr);
        assert!(!said.contains(secret), "{} when served:\n{said}", case.name());
    }
}

/// Serves every case that shows one of these codes: none starts, and each finding names its file.
fn none_is_served(codes: &[&str]) {
    for code in codes {
        let shown = format!("error[{code}]: ");
        let cases: Vec<Case> = cases().into_iter().filter(|case| case.expected.contains(&shown)).collect();
        assert!(!cases.is_empty(), "a golden for {code}");
        for case in cases {
            let folder = tempfile::tempdir().expect("a folder");
            let mut scene = Scene::read(&case.written);
            scene.build(folder.path());
            let several = scene.files.iter().any(|(path, _)| path.starts_with("policies/"));
            let served = if several { "serve --check ." } else { "serve --check policy.yaml" };
            scene.command = Some(served.to_owned());
            let output = scene.check(folder.path(), &[]);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{}: {said}", case.name());
            let (_, behind) = said.split_once(&shown).unwrap_or_else(|| panic!("{}: {said}", case.name()));
            assert!(behind.contains(".yaml"), "{} names its file: {said}", case.name());
        }
    }
}

/// The policy of most goldens without its mistake.
fn good(more: &str) -> String {
    format!(
        "service: notes\nroute: {{ path: /notes/mcp }}\nupstream: {{ url: http://127.0.0.1:9000/mcp }}\n\
         providers: {{ corp: {{ oidc: {{ issuer: https://login.example.com }} }} }}\n{more}\n"
    )
}

fn is_good(policy: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let scene = Scene { files: vec![("policy.yaml".to_owned(), policy.as_bytes().to_vec())], ..Scene::default() };
    scene.build(folder.path());
    let output = scene.check(folder.path(), &["--deny-warnings"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "good: 1 service\n"));
}

const RULES: &str = "rules:\n  - allow: { tools: [search_notes] }";

#[test]
fn n07_unknown_keys_wrong_types_and_unresolved_names_start_nothing() {
    none_is_served(&["unknown-key", "duplicate-key", "missing-key", "wrong-type", "not-a-boolean", "invalid-value"]);
    none_is_served(&["unknown-provider", "unknown-scope", "yaml-syntax", "several-documents"]);
    is_good(&good(&format!("authentication: {{ providers: [corp] }}\n{RULES}")));
}

#[test]
fn n08_size_nesting_and_aliases_beyond_the_bounds_start_nothing() {
    none_is_served(&["yaml-budget", "file-too-large"]);
    let aliases = ", *c".repeat(30);
    is_good(&good(&format!("authentication: {{ providers: [corp], clients: [&c claude{aliases}] }}\n{RULES}")));
    let comment = "# a long story\n".repeat(60_000);
    is_good(&format!("{comment}{}", good(&format!("authentication: {{ providers: [corp] }}\n{RULES}"))));
}

#[test]
fn n09_patterns_and_conditions_that_do_not_compile_start_nothing() {
    none_is_served(&["invalid-pattern", "invalid-expression", "invalid-matcher"]);
    let rules =
        "rules:\n  - allow: { tools: [{ matches: \"search_[a-z]+\" }] }\n    when: claims.department == \"eng\"";
    is_good(&good(&format!("authentication: {{ providers: [corp] }}\n{rules}")));
}

/// Its golden is `every-item-in-deny.txt`; here is what it must not be said of.
#[test]
fn k17_only_a_deny_rule_on_every_item_is_warned_of() {
    for rule in [
        "allow: { tools: [t] }\n    arguments: { /items/*/folder: { equals: shared } }",
        "deny: { tools: [t] }\n    arguments: { /items/0/folder: { equals: secret } }",
        "deny: { tools: [t] }\n    arguments: { '*': { equals: secret } }",
        "deny: { tools: [t] }\n    when_arguments: arguments.items.exists(i, i.folder == \"secret\")",
        "deny: { tools: [t] }\n    when_arguments: arguments.items.all(i, i.folder == \"secret\")",
    ] {
        let rules = format!("rules:\n  - allow: {{ tools: [t, u] }}\n    scopes: [x]\n  - {rule}");
        is_good(&good(&format!(
            "authentication: {{ providers: [corp] }}\nscopes: {{ x: {{ describe: X }} }}\n{rules}"
        )));
    }
}

/// Listeners, the log and the store are told to need a restart, in the log of the running gateway, which serves on as it was.
#[tokio::test]
async fn what_needs_a_restart_is_named_in_the_log() {
    let case = cases().into_iter().find(|case| case.name() == AT_RELOAD).expect("its golden");
    let files: BTreeMap<String, String> =
        Scene::read(&case.written).files.into_iter().map(|(path, content)| (path, text(&content))).collect();
    let file = |path: &str| files.get(path).unwrap_or_else(|| panic!("no {path}")).as_str();
    let setup = Gateway::new().installation(file("portcullis.yaml")).policy("notes", file("policies/notes.yaml"));
    let gateway = setup.start().await;
    let mut said = String::new();
    let edits = [
        ("portcullis.yaml (edited)", "listeners"),
        ("portcullis.yaml (edited again)", "log.file"),
        ("portcullis.yaml (edited once more)", "admin.address"),
        ("portcullis.yaml (edited at last)", "store"),
    ];
    for (edited, wanted) in edits {
        gateway.write_installation(file(edited));
        let told = |record: &Value| {
            let fields = &record["fields"];
            fields["code"] == "needs-restart"
                && fields["message"].as_str().is_some_and(|text| text.contains(&format!("`{wanted}`")))
        };
        let record = gateway.wait_for_log(told).await;
        let word = |key: &str| record["fields"][key].as_str().expect("text").to_owned();
        let message = word("message").replace(gateway.directory().to_str().expect("UTF-8"), "DIRECTORY");
        said.push_str(&format!("error[{}]: {message}\n |\n = help: {}\n\n", word("code"), word("help")));
    }
    case.settle(&said).unwrap_or_else(|wrong| panic!("{wrong}"));
}
