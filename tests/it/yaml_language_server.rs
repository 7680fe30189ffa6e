//! What an editor underlines is what `check` refuses: same verdict, same line, for every example and every broken file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::gateway::BINARY;
use crate::support::process::node;

/// Long and irregular enough for every hash.
const SECRET: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a0-Zq3vX8kT1mW6yR4uP7sN2cL5hJ9gF0dB";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every YAML file below a directory of the repository, in order.
fn yaml_files(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(directory)];
    while let Some(next) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            match path.extension().and_then(|end| end.to_str()) {
                _ if path.is_dir() => waiting.push(path),
                Some("yaml" | "yml") => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The first line that the language server underlines in red, per file.
fn editor_verdicts(files: &[PathBuf]) -> BTreeMap<PathBuf, Option<u64>> {
    let output = node("yamlls.mjs").args(files).output().expect("node runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: BTreeMap<PathBuf, Vec<Value>> = serde_json::from_slice(&output.stdout).expect("JSON");
    let first = |problems: Vec<Value>| {
        problems.iter().filter(|problem| problem["severity"] == 1).filter_map(|problem| problem["line"].as_u64()).min()
    };
    found.into_iter().map(|(file, problems)| (file, first(problems))).collect()
}

/// What `check` must be given for a file: the installation that it belongs to, or the file alone.
fn installation_of(file: &Path) -> &Path {
    let directory = file.parent().expect("a directory");
    if directory.join("portcullis.yaml").exists() {
        return directory;
    }
    let above = directory.parent().expect("a directory");
    if above.join("portcullis.yaml").exists() { above } else { file }
}

/// The first line that `check` refuses in the file, after it agreed with its own exit code.
fn check_verdict(file: &Path) -> Option<u64> {
    let checked = installation_of(file);
    let mut command = Command::new(BINARY);
    command.args(["check", "--format", "json"]).arg(checked).current_dir(root());
    // A secret that one of the files names is there, as it is where they are served.
    let files = if checked.is_dir() { yaml_files(checked) } else { vec![checked.to_owned()] };
    for file in files {
        let text = std::fs::read_to_string(file).expect("a file");
        for variable in text.split("env:").skip(1).filter_map(|rest| rest.split_whitespace().next()) {
            command.env(variable.trim_matches(|c: char| !c.is_alphanumeric() && c != '_'), SECRET);
        }
    }
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value =
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{}: {error} in {said}", file.display()));
    let problems = report.as_array().or_else(|| report["diagnostics"].as_array()).expect("a list of diagnostics");
    let errors = || problems.iter().filter(|problem| problem["severity"] == "error");
    assert_eq!(output.status.code(), Some(i32::from(errors().next().is_some())), "{}: {said}", file.display());
    // No editor can see a file that is there only while it is used, as the people of the demo are.
    let seen = errors().filter(|problem| problem["code"] != "secret-unreadable");
    seen.map(|problem| problem["line"].as_u64().unwrap_or_else(|| panic!("no line: {problem}"))).min()
}

#[track_caller]
fn agree(files: &[PathBuf]) -> BTreeMap<PathBuf, Option<u64>> {
    let editor = editor_verdicts(files);
    assert_eq!(editor.len(), files.len(), "the language server answers for every file");
    for (file, line) in &editor {
        assert_eq!(check_verdict(file), *line, "`check` (left) and the editor (right) differ on {}", file.display());
    }
    editor
}

#[test]
fn examples_and_policies_are_clean_in_editor_and_check() {
    let files = [yaml_files("examples"), yaml_files("policies")].concat();
    assert!(!files.is_empty(), "the repository ships policies");
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a file");
        assert!(text.starts_with("# yaml-language-server: $schema="), "{} names its schema first", file.display());
    }
    let verdicts = agree(&files);
    assert!(verdicts.values().all(Option::is_none), "{verdicts:#?}");
}

#[test]
fn broken_files_are_refused_on_the_line_that_the_editor_underlines() {
    let files = yaml_files("tests/broken");
    assert!(files.len() >= 10, "ten ways to break a policy");
    let verdicts = agree(&files);
    assert!(verdicts.values().all(Option::is_some), "{verdicts:#?}");
}
