//! The shape of the sources, checked on the sources: floors, sizes, who may name what. It reads text and builds nothing.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that fails says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The floors, lowest first. A module uses lower floors only.
const FLOORS: [&[&str]; 7] = [
    &["diagnostics", "secret", "shared", "telemetry"],
    &["mcp", "oauth"],
    &["engine"],
    &["stages", "providers", "credentials", "stores", "egress"],
    &["policy", "signin"],
    &["admin", "gateway", "reload", "server"],
    &["cli"],
];
/// `server` wires its own floor together; nothing else looks sideways.
const WIRING: [(&str, &str); 3] = [("server", "admin"), ("server", "gateway"), ("server", "reload")];
/// Crates that only some modules may name.
const RESERVED: [(&str, &[&str]); 3] =
    [("reqwest", &["egress"]), ("pingora", &["gateway", "reload", "server", "cli"]), ("serde_yaml", &["policy"])];
/// Macros that write to the terminal, which only commands do.
const TERMINAL: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];
/// Lines of a file before its tests.
const LONGEST_FILE: usize = 400;
/// Characters of a line: rustfmt breaks code at 120, but no literals.
const LONGEST_LINE: usize = 180;

/// One source file.
#[derive(Debug)]
struct Source {
    /// The path below `src`, such as `engine/stage.rs`.
    path: String,
    text: String,
}

impl Source {
    /// The module of the top level that the file belongs to; `lib` and `main` are none.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "lib" | "main")).then_some(name)
    }

    /// The path of the module within the crate, one name a level.
    fn levels(&self) -> Vec<&str> {
        let trimmed = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let mut levels: Vec<&str> = trimmed.split('/').collect();
        if levels.last() == Some(&"mod") || matches!(levels.as_slice(), ["lib" | "main"]) {
            levels.pop();
        }
        levels
    }

    /// The text before the inline tests, which stand last.
    fn before_tests(&self) -> &str {
        let mut from = 0;
        while let Some(found) = self.text[from..].find("#[cfg(test)]") {
            let at = from + found;
            let rest = self.text[at + "#[cfg(test)]".len()..].trim_start();
            if rest.starts_with("mod tests") && !rest.starts_with("mod tests;") {
                return &self.text[..at];
            }
            from = at + 1;
        }
        &self.text
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code with comments and the content of literals taken out, so that a word in a sentence is no use of it.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let fresh = i == 0 || !is_word(at(i - 1));
        if at(i) == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if at(i) == '/' && at(i + 1) == '*' {
            i = after_comment(&chars, i);
        } else if let Some(hashes) = raw_string(&chars, i).filter(|_| fresh) {
            let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            i += chars[i..].iter().position(|c| *c == '"').unwrap_or(0) + 1;
            while i < chars.len() && !(at(i) == '"' && chars[i..].iter().take(end.len()).collect::<String>() == end) {
                i += 1;
            }
            i += end.len();
            out.push_str("\"\"");
        } else if at(i) == '"' {
            i += 1;
            while i < chars.len() && at(i) != '"' {
                i += if at(i) == '\\' { 2 } else { 1 };
            }
            i += 1;
            out.push_str("\"\"");
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < chars.len() && at(i) != '\'' {
                i += 1;
            }
            i += 1;
            out.push_str("' '");
        } else {
            out.push(at(i));
            i += 1;
        }
    }
    out
}

fn after_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

/// How many `#` a raw string that begins here has.
fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    let start = start + usize::from(chars.get(start) == Some(&'b'));
    if chars.get(start) != Some(&'r') {
        return None;
    }
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(start + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// The words of code, each with the text behind it.
fn words(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c| !is_word(c));
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        rest = behind;
        (!word.is_empty()).then_some((word, behind))
    })
}

/// The names directly below a path: `a` for `::a::b`, `a` and `c` for `::{a::b, c}`.
fn below(behind: &str) -> Vec<&str> {
    let Some(rest) = behind.strip_prefix("::") else { return Vec::new() };
    let first = |text: &'_ str| text.find(|c| !is_word(c)).unwrap_or(text.len());
    let Some(group) = rest.strip_prefix('{') else { return vec![&rest[..first(rest)]] };
    let (mut depth, mut begins, mut names) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && is_word(c) => {
                names.push(&group[at..at + first(&group[at..])]);
                begins = false;
            }
            _ => {}
        }
    }
    names
}

/// Top-level modules that the code names, by `crate::` or by enough `super::` to reach the top.
fn used<'c>(source: &Source, code: &'c str) -> BTreeSet<&'c str> {
    let depth = source.levels().len();
    let mut found = BTreeSet::new();
    for (word, behind) in words(code) {
        if word == "crate" {
            found.extend(below(behind));
        }
        if word == "super" {
            let mut supers = 1;
            let mut rest = behind;
            while let Some(next) = rest.strip_prefix("::super") {
                (supers, rest) = (supers + 1, next);
            }
            if supers == depth {
                found.extend(below(rest));
            }
        }
    }
    found
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// What is wrong with one file.
fn problems(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: String| found.push(format!("src/{}: {what}", source.path));
    for (number, line) in source.text.lines().enumerate() {
        let length = line.chars().count();
        if length > LONGEST_LINE {
            say(format!("line {} has {length} characters, {LONGEST_LINE} are the most", number + 1));
        }
    }
    let before = source.before_tests();
    let lines = before.lines().count();
    if lines > LONGEST_FILE {
        say(format!("{lines} lines before the tests, {LONGEST_FILE} are the most"));
    }
    if words(&code(&source.text)).any(|(word, _)| word == "unsafe") {
        say("`unsafe`".to_owned());
    }
    let code = code(before);
    if code.contains("::*") {
        say("a glob import outside of tests".to_owned());
    }
    for (word, behind) in words(&code) {
        let prints = TERMINAL.contains(&word) && behind.starts_with('!');
        if prints && source.module().is_some_and(|module| module != "cli") {
            say(format!("`{word}!` outside of cli"));
        }
        for (name, modules) in RESERVED {
            let names = word == name || word.strip_prefix(name).is_some_and(|end| end.starts_with('_'));
            if names && !source.module().is_some_and(|module| modules.contains(&module)) {
                say(format!("names {name}, which only {} may", modules.join(", ")));
            }
        }
    }
    let Some(own) = source.module() else { return found };
    let Some(own_floor) = floor(own) else {
        say(format!("`{own}` stands on no floor"));
        return found;
    };
    for module in used(source, &code) {
        let Some(other) = floor(module).filter(|_| module != own) else { continue };
        let wired = WIRING.contains(&(own, module));
        if other > own_floor {
            say(format!("looks up from {own} (floor {own_floor}) to {module} (floor {other})"));
        } else if other == own_floor && !wired {
            say(format!("looks sideways from {own} to {module} (floor {other})"));
        }
    }
    found
}

/// Files that are compiled for tests only: those that `#[cfg(test)] mod NAME;` declares, and all below them.
fn test_only(sources: &[Source]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for source in sources {
        for behind in source.text.split("#[cfg(test)]").skip(1) {
            let item = behind.trim_start().split(';').next().unwrap_or_default();
            let Some((visibility, name)) = item.rsplit_once("mod ") else { continue };
            if visibility.contains(['{', '}']) || !name.chars().all(is_word) {
                continue;
            }
            let mut levels = source.levels();
            levels.push(name);
            paths.insert(levels.join("/"));
        }
    }
    paths
}

/// Files that no `mod` declares: never compiled, so never true.
fn undeclared(sources: &[Source]) -> Vec<String> {
    let mut declared: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let code = code(&source.text);
        let names = words(&code).zip(words(&code).skip(1)).filter(|((word, _), _)| *word == "mod");
        let names = names.map(|(_, (name, _))| name.to_owned());
        declared.entry(source.levels().join("/")).or_default().extend(names);
    }
    let orphans = sources.iter().filter(|source| {
        let mut levels = source.levels();
        let Some(name) = levels.pop() else { return false };
        !declared.get(&levels.join("/")).is_some_and(|names| names.contains(name))
    });
    orphans.map(|source| format!("src/{}: no `mod` declares it", source.path)).collect()
}

fn read(folder: &Path, root: &Path, into: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read(&path, root, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            into.push(Source { path: name, text: std::fs::read_to_string(&path).expect("UTF-8") });
        }
    }
}

#[test]
fn the_sources_keep_their_shape() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read(&root, &root, &mut sources);
    assert!(sources.len() > 30, "the sources were found: {} files", sources.len());
    let tests = test_only(&sources);
    let mut found = undeclared(&sources);
    for source in &sources {
        let module = source.levels().join("/");
        let for_tests = tests.iter().any(|path| module == *path || module.starts_with(&format!("{path}/")));
        if !for_tests {
            found.extend(problems(source));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// What the checker says of a file that does not exist.
fn said(path: &str, text: &str) -> String {
    problems(&Source { path: path.to_owned(), text: text.to_owned() }).join("\n")
}

#[test]
fn the_checker_sees_what_it_looks_for() {
    let long_file = "//! x\n".repeat(LONGEST_FILE + 1);
    let long_line = format!("// {}", "x".repeat(LONGEST_LINE));
    for (path, text, wanted) in [
        ("engine/x.rs", "use crate::policy::Model;", "looks up from engine (floor 2) to policy (floor 4)"),
        ("engine/x.rs", "fn f() { crate::gateway::run() }", "looks up from engine (floor 2) to gateway"),
        ("engine/x.rs", "use crate::{\n    mcp::Era,\n    cli::Args,\n};", "to cli (floor 6)"),
        ("engine/x.rs", "use super::super::stages::build;", "to stages (floor 3)"),
        ("secret.rs", "use super::engine::X;", "to engine (floor 2)"),
        ("oauth/x.rs", "use crate::mcp::Era;", "looks sideways from oauth to mcp"),
        ("providers/x.rs", "use crate::egress::Client;", "looks sideways from providers to egress"),
        ("reload.rs", "use crate::server::Server;", "looks sideways from reload to server"),
        ("extra/mod.rs", "", "`extra` stands on no floor"),
        ("mcp/x.rs", &long_file, "lines before the tests"),
        ("mcp/x.rs", &long_line, "characters"),
        ("mcp/x.rs", "fn f() { unsafe { g() } }", "`unsafe`"),
        ("mcp/x.rs", "fn f() { println!(\"x\") }", "`println!` outside of cli"),
        ("mcp/x.rs", "use std::fmt::*;", "a glob import"),
        ("providers/x.rs", "use reqwest::Client;", "names reqwest"),
        ("engine/x.rs", "use pingora::proxy::Session;", "names pingora"),
        ("cli/x.rs", "fn f() { serde_yaml::from_str(t) }", "names serde_yaml"),
    ] {
        let said = said(path, text);
        assert!(said.contains(wanted), "{path} with `{text}` must say `{wanted}`, and says: {said:?}");
    }
}

#[test]
fn the_checker_lets_pass_what_is_allowed() {
    for (path, text) in [
        (
            "engine/x.rs",
            "use crate::mcp::{era::Era, operation};\nuse super::access::Table;\nuse crate::engine::limits;",
        ),
        ("server.rs", "use crate::gateway::Gateway;\nuse crate::reload::Reload;\nuse pingora::server::Server;"),
        (
            "engine/x.rs",
            "// unsafe, crate::cli and println! in a comment\n/* reqwest /* pingora */ */ const A: &str = \"use crate::cli;\";",
        ),
        (
            "mcp/x.rs",
            "const A: &str = r#\"unsafe \"println!\" reqwest\"#; const B: char = '\"'; fn f<'a>(a: &'a str) {}",
        ),
        ("mcp/x.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use super::*;\n    fn f() { println!(\"x\") }\n}\n"),
        ("cli/x.rs", "use crate::policy::load;\nfn f() { println!(\"x\") }"),
        ("egress/mod.rs", "use reqwest::Client;"),
        ("lib.rs", "pub mod cli;"),
    ] {
        assert_eq!(said(path, text), "", "{path} with `{text}`");
    }
}

#[test]
fn a_file_outside_the_tree_and_a_file_for_tests_are_told_apart() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let sources = [
        source("lib.rs", "pub mod mcp;"),
        source("mcp/mod.rs", "pub mod era;\n#[cfg(test)]\nmod testing;"),
        source("mcp/era.rs", ""),
        source("mcp/testing.rs", ""),
        source("mcp/forgotten.rs", ""),
    ];
    assert_eq!(undeclared(&sources), ["src/mcp/forgotten.rs: no `mod` declares it"]);
    assert_eq!(test_only(&sources), BTreeSet::from(["mcp/testing".to_owned()]));
}
