//! A report as text for people and as JSON for programs, from the same values.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::{Diagnostic, Place, Report, Severity};

/// Whether the text goes to a terminal that shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// No escape codes.
    Plain,
    /// ANSI colours.
    Coloured,
}

/// The report for people: code, place, the line with the offending part underlined, help.
#[must_use]
pub fn human(report: &Report, style: Style) -> String {
    let renderer = if style == Style::Plain { Renderer::plain() } else { Renderer::styled() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for diagnostic in report.sorted() {
        text.push_str(&one(&renderer, diagnostic));
        text.push_str("\n\n");
    }
    text.push_str(&closing(report));
    text
}

fn one(renderer: &Renderer, diagnostic: &Diagnostic) -> String {
    let level = if diagnostic.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let mut group = Group::with_title(title);
    if let Some(Place { source, range }) = &diagnostic.place {
        let annotation = AnnotationKind::Primary.span(range.clone());
        group = group.element(Snippet::source(source.text.as_str()).path(source.name.as_str()).annotation(annotation));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

fn closing(report: &Report) -> String {
    let count = |severity, word: &str| match report.diagnostics().iter().filter(|one| one.severity == severity).count()
    {
        0 => None,
        1 => Some(format!("1 {word}")),
        many => Some(format!("{many} {word}s")),
    };
    let counts: Vec<String> =
        [count(Severity::Error, "error"), count(Severity::Warning, "warning")].into_iter().flatten().collect();
    if counts.is_empty() { String::new() } else { format!("{}\n", counts.join(", ")) }
}

/// The report for programs: one JSON array, lines and columns counted from 1, columns in characters.
#[must_use]
pub fn json(report: &Report) -> Value {
    report.sorted().into_iter().map(as_json).collect()
}

/// The report for code scanning: one SARIF 2.1.0 log of one run, columns in characters. `version` is that of the program.
#[must_use]
pub fn sarif(report: &Report, version: &str) -> Value {
    let found = report.sorted();
    let mut codes: Vec<&str> = found.iter().map(|diagnostic| diagnostic.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules: Value = codes.iter().map(|code| json!({ "id": code })).collect();
    let results: Value = found.into_iter().map(as_result).collect();
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "portcullis", "version": version, "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn as_result(diagnostic: &Diagnostic) -> Value {
    let level = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
    let help = diagnostic.help.iter().map(|help| format!("\n{help}"));
    let text: String = std::iter::once(diagnostic.message.clone()).chain(help).collect();
    let location = diagnostic.place.iter().map(|place| {
        let ((line, column), (end_line, end_column)) = (place.start(), place.end());
        json!({ "physicalLocation": {
            "artifactLocation": { "uri": reference(&place.source.name) },
            "region": { "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column },
        } })
    });
    json!({
        "ruleId": diagnostic.code, "level": level, "message": { "text": text },
        "locations": location.collect::<Value>(),
    })
}

/// A path as a URI reference (RFC 3986): whole paths as `file:` URLs, others relative to wherever the program ran.
fn reference(path: &str) -> String {
    if let Ok(url) = url::Url::from_file_path(path) {
        return url.into();
    }
    let segments = path.split('/').map(|segment| {
        if matches!(segment, "." | "..") {
            return Some(segment.to_owned());
        }
        let mut url = url::Url::parse("x:/").ok()?;
        url.path_segments_mut().ok()?.pop().push(segment);
        Some(url.path().trim_start_matches('/').to_owned())
    });
    segments.collect::<Option<Vec<_>>>().map_or_else(|| path.to_owned(), |segments| segments.join("/"))
}

fn as_json(diagnostic: &Diagnostic) -> Value {
    let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
    let mut value = json!({ "code": diagnostic.code, "severity": severity, "message": diagnostic.message });
    if let (Some(members), Some(place)) = (value.as_object_mut(), &diagnostic.place) {
        let (line, column) = place.start();
        let (end_line, end_column) = place.end();
        members.extend([
            ("file".to_owned(), json!(place.source.name)),
            ("line".to_owned(), json!(line)),
            ("column".to_owned(), json!(column)),
            ("end_line".to_owned(), json!(end_line)),
            ("end_column".to_owned(), json!(end_column)),
        ]);
    }
    if let (Some(members), Some(help)) = (value.as_object_mut(), &diagnostic.help) {
        members.insert("help".to_owned(), json!(help));
    }
    value
}
