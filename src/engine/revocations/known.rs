//! What is revoked, as it is looked at on every request: by kind, issuer and name.

use std::collections::HashMap;

use super::{Revoked, Target};

/// How long, and of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    since: i64,
    until: i64,
    issued_before: Option<i64>,
}

impl Extent {
    pub(super) fn covers(&self, issued: Option<i64>, now: i64) -> bool {
        let issued_before = |before| issued.is_none_or(|issued| issued < before);
        now < self.until && self.issued_before.is_none_or(issued_before)
    }
}

/// By issuer, and by the name that it gave.
pub(super) type Names = HashMap<String, HashMap<String, Extent>>;

/// Everything that is revoked, as last read. It is never changed, but replaced.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) ids: HashMap<String, Extent>,
    pub(super) tokens: HashMap<String, Extent>,
    pub(super) subjects: Names,
    pub(super) clients: Names,
    pub(super) sessions: Names,
}

impl Known {
    /// Where a target is known, and by which name.
    fn place<'a>(&mut self, target: &'a Target) -> (&mut HashMap<String, Extent>, &'a String) {
        let (names, issuer, name) = match target {
            Target::Id(name) => return (&mut self.ids, name),
            Target::Token(name) => return (&mut self.tokens, name),
            Target::Subject { issuer, name } => (&mut self.subjects, issuer, name),
            Target::Client { issuer, name } => (&mut self.clients, issuer, name),
            Target::Session { issuer, name } => (&mut self.sessions, issuer, name),
        };
        (names.entry(issuer.clone()).or_default(), name)
    }

    /// Everything that is revoked.
    pub(super) fn all(&self) -> Vec<Revoked> {
        let revoked = |target, extent: &Extent| {
            let Extent { since, until, issued_before } = *extent;
            Revoked { target, since, until, issued_before }
        };
        let mut all: Vec<Revoked> = Vec::new();
        all.extend(self.ids.iter().map(|(name, extent)| revoked(Target::Id(name.clone()), extent)));
        all.extend(self.tokens.iter().map(|(name, extent)| revoked(Target::Token(name.clone()), extent)));
        let mut add = |names: &Names, target: fn(String, String) -> Target| {
            for (issuer, names) in names {
                all.extend(names.iter().map(|(name, extent)| revoked(target(issuer.clone(), name.clone()), extent)));
            }
        };
        add(&self.subjects, |issuer, name| Target::Subject { issuer, name });
        add(&self.clients, |issuer, name| Target::Client { issuer, name });
        add(&self.sessions, |issuer, name| Target::Session { issuer, name });
        all
    }

    pub(super) fn insert(&mut self, revoked: &Revoked) {
        let extent = Extent { since: revoked.since, until: revoked.until, issued_before: revoked.issued_before };
        let (names, name) = self.place(&revoked.target);
        names.insert(name.clone(), extent);
    }

    pub(super) fn remove(&mut self, target: &Target) {
        let (names, name) = self.place(target);
        names.remove(name);
    }
}
