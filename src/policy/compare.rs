//! Compares the policies of an installation with each other: whoever contradicts another is broken.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::load::{Before, Good, Policy, again};
use super::model::{Installation, Service};
use super::resolve::across::{Claimed, Owner, conflicts};
use super::tree::Tree;
use super::{codes, suggest};
use crate::diagnostics::{Diagnostic, Report};

/// Breaks the policies that contradict others. Who is broken serves its last good version, which has a say too: so it is
/// compared until nobody loses any more.
pub(super) fn compare(
    policies: &mut [Policy],
    against: Option<&Good<Installation>>,
    before: &Before,
    report: &mut Report,
) {
    let Some(against) = against else { return };
    let same = before.installation.as_ref().is_some_and(|before| before.hash == against.hash);
    let mut last: HashMap<usize, Arc<Good<Service>>> = HashMap::new();
    loop {
        for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| policy.good.is_none()) {
            if let Some(running) = before.running.get(&policy.path).filter(|_| !last.contains_key(&index)) {
                let now = if same { None } else { again(&policy.path, running, against) };
                last.insert(index, now.unwrap_or_else(|| Arc::clone(running)));
            }
        }
        let lost = contradictions(policies, before, &last);
        if lost.is_empty() {
            return;
        }
        // One may lose by several things at once.
        let losers: BTreeSet<usize> = lost.iter().map(|(index, _)| *index).collect();
        lost.into_iter().for_each(|(_, diagnostic)| report.push(diagnostic));
        for (_, policy) in policies.iter_mut().enumerate().filter(|(index, _)| losers.contains(index)) {
            policy.closes = policy.good.take().is_none();
        }
    }
}

/// Who contradicts others, by the index of the policy; `last` are the last good versions of those that are broken.
fn contradictions(
    policies: &[Policy],
    before: &Before,
    last: &HashMap<usize, Arc<Good<Service>>>,
) -> Vec<(usize, Diagnostic)> {
    let mut claimed = Vec::with_capacity(policies.len());
    let mut indexes = Vec::with_capacity(policies.len());
    for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| !policy.closes) {
        let Some(good) = policy.good.as_ref().or_else(|| last.get(&index)) else { continue };
        let [name, route, audience] = good.places.as_slice() else { continue };
        let running = before.running.get(&policy.path);
        let is_last = policy.good.is_none();
        let model = running.map(|running| &*running.model);
        let owner = Owner {
            of_name: is_last || model.is_some_and(|running| running.name == good.model.name),
            of_route: is_last || model.is_some_and(|running| running.resource == good.model.resource),
            before: model,
            changed: !is_last && running.is_some_and(|running| running.source != good.source),
        };
        indexes.push(index);
        claimed.push(Claimed { service: &good.model, name, route, audience, owner });
    }
    let found = conflicts(&claimed).into_iter();
    found.filter_map(|(at, diagnostic)| Some((*indexes.get(at)?, diagnostic))).collect()
}

/// Warns of a default service that there is not.
pub(super) fn check_default_service(installation: &Good<Installation>, policies: &[Policy], report: &mut Report) {
    let Some(name) = &installation.model.default_service else { return };
    let names = || policies.iter().filter_map(|policy| Some(policy.good.as_ref()?.model.name.as_str()));
    if names().any(|known| known == name) || policies.iter().any(|policy| policy.good.is_none()) {
        return;
    }
    let Ok(tree) = Tree::parse(&installation.source) else { return };
    let diagnostic = Diagnostic::warning(codes::UNKNOWN_SERVICE, format!("there is no service `{name}`"))
        .at(tree.value_at("/default_service"));
    report.push(match suggest::nearest(name, names()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help("name a service, or remove the key"),
    });
}
