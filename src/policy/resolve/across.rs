//! What no single file can tell: names, routes and audiences that several files claim.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostics::{Diagnostic, Place};
use crate::policy::codes;
use crate::policy::model::Service;

/// One service with where it was written.
#[derive(Debug)]
pub struct Claimed {
    /// What it means.
    pub service: Arc<Service>,
    /// The place of its name.
    pub name: Place,
    /// The place of its route.
    pub route: Place,
    /// The place of its audiences or, without such, of `authentication`.
    pub audience: Place,
    /// Whether this file ran under this name and route before: the owner stays, the newcomer is broken.
    pub owner: bool,
}

/// Finds what services contradict each other in. The result names the losers by their index.
#[must_use]
pub fn conflicts(claimed: &[Claimed]) -> Vec<(usize, Diagnostic)> {
    let mut found = Vec::new();
    let by_name = |claim: &Claimed| claim.service.name.clone();
    let by_route = |claim: &Claimed| format!("{}{}", claim.service.host, claim.service.resource.path());
    twice(claimed, by_name, &mut found, |claim, other| {
        let message = format!("the service `{}` is also defined in {}", claim.service.name, written_in(&other.name));
        Diagnostic::error(codes::DUPLICATE_SERVICE, message)
            .at(claim.name.clone())
            .help("give one of them another name")
    });
    twice(claimed, by_route, &mut found, |claim, other| {
        let message =
            format!("the route `{}` is also claimed by {}", claim.service.resource.path(), written_in(&other.route));
        Diagnostic::error(codes::DUPLICATE_ROUTE, message)
            .at(claim.route.clone())
            .help("give one of them another path or host")
    });
    audiences(claimed, &mut found);
    found
}

/// Of several that share a key the running owner stays; without one, all lose.
fn twice(
    claimed: &[Claimed],
    key: impl Fn(&Claimed) -> String,
    found: &mut Vec<(usize, Diagnostic)>,
    told: impl Fn(&Claimed, &Claimed) -> Diagnostic,
) {
    let mut groups: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, claim) in claimed.iter().enumerate() {
        groups.entry(key(claim)).or_default().push(index);
    }
    for group in groups.into_values().filter(|group| group.len() > 1) {
        for index in &group {
            let other = group.iter().find(|other| *other != index).and_then(|other| claimed.get(*other));
            if let (Some(claim), Some(other)) = (claimed.get(*index), other)
                && !claim.owner
            {
                found.push((*index, told(claim, other)));
            }
        }
    }
}

/// Two services that accept one provider and share an audience: a token for one opens the other.
fn audiences(claimed: &[Claimed], found: &mut Vec<(usize, Diagnostic)>) {
    let mut users: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (index, claim) in claimed.iter().enumerate() {
        let issuers = claim.service.providers.iter().filter_map(|provider| provider.issuer());
        for issuer in issuers {
            for audience in &claim.service.audiences {
                users.entry((issuer, audience)).or_default().push(index);
            }
        }
    }
    for ((_, audience), group) in users.into_iter().filter(|(_, group)| group.len() > 1) {
        let shared = group.iter().all(|index| claimed.get(*index).is_some_and(|claim| claim.service.shared_audience));
        if shared {
            continue;
        }
        for index in &group {
            let other = group.iter().find(|other| *other != index).and_then(|other| claimed.get(*other));
            if let (Some(claim), Some(other)) = (claimed.get(*index), other)
                && !claim.owner
            {
                let message = format!(
                    "the audience `{audience}` is also accepted by the service `{}`: a token for one opens the other",
                    other.service.name
                );
                let help = "give each its own audience, or write `shared_audience: true` in both";
                found.push((
                    *index,
                    Diagnostic::error(codes::SHARED_AUDIENCE, message).at(claim.audience.clone()).help(help),
                ));
            }
        }
    }
}

fn written_in(place: &Place) -> String {
    format!("{}:{}", place.source.name, place.start().0)
}
