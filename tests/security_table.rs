//! SECURITY.md against the sources: every statement names a test, and every named test exists.
//!
//! `UPDATE=1 cargo test --test security_table` adds the tests whose names begin with an id to the row of that id.

#![expect(clippy::expect_used, reason = "a test that fails says where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The ids that the table must have, whatever else it has.
fn required() -> Vec<String> {
    let tokens = (1..=25).map(|number| format!("A{number:02}"));
    let opaque = (1..=7).map(|number| format!("B{number:02}"));
    let wire = (1..=7).chain(9..=10).map(|number| format!("L{number:02}"));
    let messages = (1..=15).chain(17..=17).map(|number| format!("K{number:02}"));
    let streams = (1..=8).map(|number| format!("M{number:02}"));
    let flow = (1..=10).map(|number| format!("E{number:02}"));
    let consent =
        (1..=6).flat_map(|number| [format!("F{number:02}"), format!("G{number:02}"), format!("I{number:02}")]);
    let grants = (1..=10).map(|number| format!("H{number:02}"));
    let servers = (1..=5).flat_map(|number| [format!("D{number:02}"), format!("J{number:02}")]);
    let once = (2..=5).map(|number| format!("C{number:02}"));
    let limits = (1..=8).map(|number| format!("O{number:02}"));
    tokens
        .chain(opaque)
        .chain(servers)
        .chain(once)
        .chain(limits)
        .chain(flow)
        .chain(consent)
        .chain(grants)
        .chain(wire)
        .chain(messages)
        .chain(streams)
        .collect()
}

/// One row: an id or number, what it says, and the tests that prove it.
#[derive(Debug, PartialEq)]
struct Row {
    id: String,
    statement: String,
    tests: Vec<String>,
}

/// Rows of every table whose last column is called `test`.
fn rows(document: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        let Some(cells) = cells(line) else {
            inside = false;
            continue;
        };
        match (cells.first(), cells.get(1), cells.last()) {
            (Some(_), Some(_), Some(&"test")) => inside = true,
            (Some(id), Some(statement), Some(tests)) if inside && !id.starts_with("--") => {
                rows.push(Row { id: (*id).to_owned(), statement: (*statement).to_owned(), tests: names(tests) });
            }
            _ => {}
        }
    }
    rows
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// What stands between backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names of the test functions in a source.
fn tests_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else if let Some(name) = function(line) {
            // A macro of property tests holds functions that are marked inside of it, as all others are.
            if marked {
                found.insert(name.to_owned());
            }
            marked = false;
        } else if !line.starts_with("//") && !line.is_empty() {
            marked = false;
        }
    }
    found
}

fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))?;
    rest.split(['(', '<']).next()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "node_modules") {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
}

fn all_tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    sources(&root().join("tests"), &mut files);
    files.iter().flat_map(|file| tests_in(&std::fs::read_to_string(file).expect("UTF-8"))).collect()
}

/// The ids that a test's name begins with: `k13` and `k14` of `k13_k14_only_plain_json_passes`.
fn ids(test: &str) -> Vec<String> {
    let is_id = |word: &&str| {
        word.len() == 3
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().skip(1).all(|c| c.is_ascii_digit())
    };
    test.split('_').take_while(is_id).map(str::to_uppercase).collect()
}

/// What is wrong with the table.
fn problems(rows: &[Row], tests: &BTreeSet<String>, required: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows {
        let Row { id, statement, tests: named } = row;
        if !seen.insert(id) {
            found.push(format!("{id} stands there twice"));
        }
        if statement.is_empty() {
            found.push(format!("{id} states nothing"));
        }
        if named.is_empty() {
            found.push(format!("{id} has no test: {statement}"));
        }
        found.extend(
            named.iter().filter(|name| !tests.contains(*name)).map(|name| format!("{id}: there is no test `{name}`")),
        );
        if required.contains(id) && !named.iter().any(|name| ids(name).contains(id)) {
            found.push(format!("{id}: no test is named after it"));
        }
    }
    let missing = required.iter().filter(|id| !seen.contains(id));
    found.extend(missing.map(|id| format!("{id} is not in the table")));
    found
}

/// The document with every test that is named after an id in the row of that id.
fn completed(document: &str, tests: &BTreeSet<String>) -> String {
    let mut out = String::with_capacity(document.len());
    for line in document.lines() {
        let row = rows(&format!("| id | statement | test |\n{line}")).pop();
        let missing: Vec<String> = row
            .iter()
            .flat_map(|row| {
                let named = |test: &&String| ids(test).contains(&row.id) && !row.tests.contains(test);
                tests.iter().filter(named).map(|test| format!("`{test}`"))
            })
            .collect();
        match line.trim_end().strip_suffix('|') {
            Some(start) if !missing.is_empty() => {
                let start = start.trim_end();
                let separator = if start.ends_with('|') { " " } else { ", " };
                out.extend([start, separator, missing.join(", ").as_str(), " |"]);
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_statement_of_security_md_has_a_test() {
    let path = root().join("SECURITY.md");
    let mut document = std::fs::read_to_string(&path).expect("SECURITY.md");
    let tests = all_tests();
    if std::env::var_os("UPDATE").is_some() {
        document = completed(&document, &tests);
        std::fs::write(&path, &document).expect("a file that can be written");
    }
    let found = problems(&rows(&document), &tests, &required());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_checker_sees_what_it_looks_for() {
    let document = "# x\n| id | statement | source | test |\n|---|---|---|---|\n| A01 | one | RFC | `a01_x` |\n| A02 | two | RFC | |\n| A03 | three | RFC | `a03_gone` |\n| A04 | four | RFC | `other` |\n\n| A05 | no table | x |\n";
    let sources = "#[test]\nfn a01_x() {}\n#[tokio::test(flavor = \"x\")]\n#[ignore]\nasync fn other() {}\nfn a03_gone() {}\n#[test]\nfn a02_k14_late() {}\n";
    let tests = tests_in(sources);
    let required = ["A01", "A02", "A04", "A05"].map(str::to_owned);
    assert_eq!(
        tests.iter().collect::<Vec<_>>(),
        ["a01_x", "a02_k14_late", "other"],
        "a function without a mark is no test"
    );
    let found = problems(&rows(document), &tests, &required);
    assert_eq!(
        found,
        [
            "A02 has no test: two",
            "A02: no test is named after it",
            "A03: there is no test `a03_gone`",
            "A04: no test is named after it",
            "A05 is not in the table"
        ]
    );
    let better = completed(document, &tests);
    assert!(better.contains("| A02 | two | RFC | `a02_k14_late` |"), "{better}");
    assert!(better.contains("| A01 | one | RFC | `a01_x` |"), "{better}");
    assert_eq!(ids("k13_k14_only_plain_json_passes"), ["K13", "K14"]);
    assert!(ids("only_plain_json_passes").is_empty());
}
