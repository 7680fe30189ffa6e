//! What the documents say against what the code and the repository have.

#![expect(clippy::expect_used, reason = "a test that fails says where")]

use std::path::{Path, PathBuf};

use portcullis::engine::decision::Reason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(next) = waiting.pop() {
        for path in std::fs::read_dir(&next).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|own| own == end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_reason_is_documented_as_it_is() {
    let document = read(&root().join("docs/reasons.md"));
    let written: Vec<(String, String, String)> = document
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix('|')?.split('|').map(str::trim).collect();
            let [name, status, code, meaning, advice] = cells.as_slice() else { return None };
            assert!(meaning.len() > 10 && advice.len() > 10, "{name} tells what it means and what to do");
            Some((name.trim_end_matches('`').to_owned(), (*status).to_owned(), (*code).to_owned()))
        })
        .collect();
    let wanted: Vec<(String, String, String)> = Reason::ALL
        .iter()
        .map(|reason| (reason.as_str().to_owned(), reason.status().to_string(), reason.code().to_string()))
        .collect();
    assert_eq!(written, wanted, "docs/reasons.md (left) and Reason::ALL (right) differ");
}

#[test]
fn every_yaml_file_names_its_schema_and_every_example_explains_itself() {
    let yaml = [files("examples", "yaml"), files("policies", "yaml")].concat();
    assert!(yaml.len() >= 9, "{yaml:?}");
    for file in &yaml {
        let text = read(file);
        let schema = text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
        let kind = match file.file_name().and_then(|name| name.to_str()) {
            Some("portcullis.yaml") => "portcullis",
            Some("users.yaml") => "users",
            _ => "policy",
        };
        let wanted = root().join("schema").join(format!("{kind}.schema.json"));
        let mut resolved = file.parent().expect("a folder").to_owned();
        for part in schema.unwrap_or_default().split('/') {
            if part == ".." {
                resolved.pop();
            } else {
                resolved.push(part);
            }
        }
        assert_eq!(resolved, wanted, "{} names its schema in its first line", file.display());
    }
    for entry in std::fs::read_dir(root().join("examples")).expect("a folder") {
        let readme = read(&entry.expect("an entry").path().join("README.md"));
        assert!(readme.starts_with("# ") && readme.lines().count() <= 30, "a short README: {readme}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = [files("docs", "md"), files("examples", "md")].concat();
    documents.extend(["README.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root().join(name)));
    for document in documents {
        for target in read(&document).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let linked = document.parent().expect("a folder").join(path);
            assert!(linked.exists(), "{} links to {target}", document.display());
        }
    }
}
