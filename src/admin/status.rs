//! The status: which services are open, and what is wrong with the files. As JSON, and as a page.

use std::time::{SystemTime, UNIX_EPOCH};

use askama::Template;
use serde_json::{Value, json};

use super::Admin;
use crate::engine::health::Problem;
use crate::engine::service::{Service, State};
use crate::engine::snapshot::Snapshot;

/// The style of the page.
pub const STYLE: &str = include_str!("pages/admin.css");

/// The status as JSON. Times are seconds since 1970.
pub fn json(admin: &Admin, snapshot: &Snapshot) -> Value {
    let found = admin.sources.health.read();
    let (requests, streams) = (admin.sources.open)();
    let services = snapshot.services.iter().map(|service| {
        let [permitted, denied, answered] = service.counts.read();
        json!({
            "name": &*service.name, "host": service.host, "path": service.path,
            "open": is_open(service), "reason": closed(service),
            "requests": { "permit": permitted, "deny": denied, "local": answered },
        })
    });
    let problems = found.errors.iter().map(|problem| {
        let place = problem.place.as_ref();
        json!({
            "code": problem.code, "message": problem.message, "help": problem.help,
            "file": place.map(|(file, _, _)| file), "line": place.map(|(_, line, _)| line),
            "column": place.map(|(_, _, column)| column),
        })
    });
    let stale = found.stale.iter().map(|(file, since)| json!({ "file": file, "seconds": since.elapsed().as_secs() }));
    json!({
        "version": admin.version,
        "started": seconds(admin.started),
        "generation": snapshot.generation,
        "hash": snapshot.hash,
        "read": seconds(found.at),
        "requests_in_flight": requests,
        "streams_open": streams,
        "store": { "reached": snapshot.store.trouble().is_none(), "trouble": snapshot.store.trouble() },
        "services": services.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "stale": stale.collect::<Vec<_>>(),
    })
}

#[derive(Template)]
#[template(path = "admin.html")]
struct Page<'a> {
    version: &'a str,
    snapshot: &'a Snapshot,
    hash: &'a str,
    services: Vec<Row<'a>>,
    problems: &'a [Problem],
    stale: Vec<(&'a str, u64)>,
    store: Option<String>,
    requests: usize,
    streams: usize,
}

struct Row<'a> {
    name: &'a str,
    route: String,
    closed: Option<&'static str>,
    counts: [u64; 3],
}

/// The status as a page.
///
/// # Errors
/// Never with a text to write into; the template's type says so.
pub fn page(admin: &Admin, snapshot: &Snapshot) -> askama::Result<String> {
    let found = admin.sources.health.read();
    let (requests, streams) = (admin.sources.open)();
    let services = snapshot.services.iter().map(|service| Row {
        name: &service.name,
        route: format!("{}{}", service.host, service.path),
        closed: closed(service),
        counts: service.counts.read(),
    });
    Page {
        version: admin.version,
        snapshot,
        hash: snapshot.hash.get(..12).unwrap_or(&snapshot.hash),
        services: services.collect(),
        problems: &found.errors,
        stale: found.stale.iter().map(|(file, since)| (file.as_str(), since.elapsed().as_secs())).collect(),
        store: snapshot.store.trouble(),
        requests,
        streams,
    }
    .render()
}

/// Whether requests go through.
pub fn is_open(service: &Service) -> bool {
    matches!(service.state, State::Open(_))
}

fn closed(service: &Service) -> Option<&'static str> {
    match &service.state {
        State::Open(_) => None,
        State::Closed(reason) => Some(reason.as_str()),
    }
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
