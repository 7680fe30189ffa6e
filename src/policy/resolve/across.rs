//! What no single file can tell: names, routes and audiences that several files claim.

use std::hash::Hash;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use crate::diagnostics::{Diagnostic, Place};
use crate::engine::routes::{JWKS, endpoint_above};
use crate::policy::codes;
use crate::policy::model::Service;

/// One service with where it was written.
#[derive(Debug)]
pub struct Claimed<'a> {
    /// What it means.
    pub service: &'a Service,
    /// The place of its name.
    pub name: &'a Place,
    /// The place of its route.
    pub route: &'a Place,
    /// The place of its audiences or, without such, of `authentication`.
    pub audience: &'a Place,
    /// What this file ran under before: the owner stays, the newcomer is broken.
    pub owner: Owner<'a>,
}

/// What a file ran under before it was read again.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Its name.
    pub of_name: bool,
    /// Its route.
    pub of_route: bool,
    /// All that it meant.
    pub before: Option<&'a Service>,
    /// Whether its text is another now.
    pub changed: bool,
}

/// Finds what services contradict each other in. The result names the losers by their index.
#[must_use]
pub fn conflicts(claimed: &[Claimed<'_>]) -> Vec<(usize, Diagnostic)> {
    let mut found = Vec::new();
    let names = claimed.iter().map(|claim| claim.service.name.as_str());
    twice(
        claimed,
        names,
        |owner| owner.of_name,
        &mut found,
        |claim, other| {
            let message = format!("the service `{}` is also defined in {}", claim.service.name, written_in(other.name));
            Diagnostic::error(codes::DUPLICATE_SERVICE, message)
                .at(claim.name.clone())
                .help("give one of them another name")
        },
    );
    let routes = claimed.iter().map(|claim| (claim.service.host.as_str(), claim.service.resource.path()));
    twice(
        claimed,
        routes,
        |owner| owner.of_route,
        &mut found,
        |claim, other| {
            let message =
                format!("the route `{}` is also claimed by {}", claim.service.resource.path(), written_in(other.route));
            Diagnostic::error(codes::DUPLICATE_ROUTE, message)
                .at(claim.route.clone())
                .help("give one of them another path or host")
        },
    );
    among_endpoints(claimed, &mut found);
    audiences(claimed, &mut found);
    found
}

/// A service among the endpoints of another would answer in their place. Who was there first stays; at start it is the one
/// that issues.
fn among_endpoints(claimed: &[Claimed<'_>], found: &mut Vec<(usize, Diagnostic)>) {
    let issues = |claim: &Claimed<'_>| claim.service.has_keys();
    let issuers: HashMap<(&str, &str), (usize, &Claimed<'_>)> = claimed
        .iter()
        .enumerate()
        .filter(|(_, claim)| issues(claim))
        .map(|(index, claim)| ((claim.service.host.as_str(), claim.service.resource.path()), (index, claim)))
        .collect();
    for (index, claim) in claimed.iter().enumerate().filter(|_| !issuers.is_empty()) {
        let path = claim.service.resource.path();
        let fronts = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        for front in fronts {
            let above = issuers.get(&(claim.service.host.as_str(), front));
            let Some((of, other)) = above else { continue };
            let Some(endpoint) = endpoint_above(path, front).filter(|name| has(other.service, name)) else { continue };
            let before = other.owner.before;
            let issued = other.owner.of_route && before.is_some_and(|before| has(before, endpoint));
            let error = |message: String, at: &Place| Diagnostic::error(codes::ENDPOINT_ROUTE, message).at(at.clone());
            if claim.owner.of_route && !issued {
                let name = &claim.service.name;
                let message = format!("the endpoint `{endpoint}` of this service is the route of the service `{name}`");
                found.push((*of, error(message, other.route).help("give this service another path")));
            } else {
                let name = &other.service.name;
                let message = format!("the route `{path}` is at the endpoint `{endpoint}` of the service `{name}`");
                let help = "choose a path that is not at or below an endpoint of another service";
                found.push((index, error(message, claim.route).help(help)));
            }
        }
    }
}

/// Whether a service has this endpoint: one that only signs assertions publishes keys and no more.
fn has(service: &Service, endpoint: &str) -> bool {
    service.authorization_server.is_some() || (service.has_keys() && endpoint == JWKS)
}

/// Of several that share a key the running owner stays; without one, all lose.
fn twice<K: Hash + Eq + Copy>(
    claimed: &[Claimed<'_>],
    keys: impl Iterator<Item = K> + Clone,
    stays: impl Fn(Owner<'_>) -> bool,
    found: &mut Vec<(usize, Diagnostic)>,
    told: impl Fn(&Claimed<'_>, &Claimed<'_>) -> Diagnostic,
) {
    let mut seen = HashSet::with_capacity(claimed.len());
    let several: HashSet<K> = keys.clone().filter(|key| !seen.insert(*key)).collect();
    for key in several {
        let group: Vec<usize> = keys.clone().enumerate().filter(|(_, other)| *other == key).map(|(at, _)| at).collect();
        for index in &group {
            let other = group.iter().find(|other| *other != index).and_then(|other| claimed.get(*other));
            if let (Some(claim), Some(other)) = (claimed.get(*index), other)
                && !stays(claim.owner)
            {
                found.push((*index, told(claim, other)));
            }
        }
    }
}

/// Two services that accept one provider and share an audience: a token for one opens the other.
fn audiences(claimed: &[Claimed<'_>], found: &mut Vec<(usize, Diagnostic)>) {
    let mut users: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (index, claim) in claimed.iter().enumerate() {
        for issuer in claim.service.issuers() {
            for audience in &claim.service.audiences {
                let users = users.entry((issuer, audience)).or_default();
                // Two providers of one service may have one issuer.
                if users.last() != Some(&index) {
                    users.push(index);
                }
            }
        }
    }
    for ((issuer, audience), group) in users.into_iter().filter(|(_, group)| group.len() > 1) {
        let shared = group.iter().all(|index| claimed.get(*index).is_some_and(|claim| claim.service.shared_audience));
        if shared {
            continue;
        }
        let all_own = group.iter().filter_map(|index| claimed.get(*index)).all(|claim| owns(claim, issuer, audience));
        for index in &group {
            let other = group.iter().find(|other| *other != index).and_then(|other| claimed.get(*other));
            if let (Some(claim), Some(other)) = (claimed.get(*index), other)
                && if all_own { claim.owner.changed } else { !owns(claim, issuer, audience) }
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

/// Whether the file ran with this audience under this issuer, and said the same about sharing it.
fn owns(claim: &Claimed<'_>, issuer: &str, audience: &str) -> bool {
    claim.owner.before.is_some_and(|before| {
        before.shared_audience == claim.service.shared_audience
            && before.audiences.iter().any(|known| known == audience)
            && before.issuers().any(|known| known == issuer)
    })
}

fn written_in(place: &Place) -> String {
    format!("{}:{}", place.source.name, place.start().0)
}
