//! Which items of a list a caller is shown, by the code that decides their use.

use super::facts::{Facts, Kind, Moment};
use super::judge::Verdict;
use super::{AccessTable, ListMode};
use crate::mcp::operation::ItemKind;
use crate::oauth::identity::Identity;

/// Judges the items of one list for one caller.
#[derive(Debug)]
pub struct Lister<'a> {
    table: &'a AccessTable,
    identity: &'a Identity,
    kind: ItemKind,
}

impl AccessTable {
    /// A judge of the items of a `kind` of list.
    #[must_use]
    pub fn lister<'a>(&'a self, identity: &'a Identity, kind: ItemKind) -> Lister<'a> {
        Lister { table: self, identity, kind }
    }
}

impl Lister<'_> {
    /// Whether the item is shown: it is permitted for some arguments, or, in [`ListMode::Acquirable`], lacks only scopes.
    ///
    /// A resource template is shown when some URI that it may expand to could be permitted, judged by its literal
    /// beginning and end, and no unconditional deny rule covers them all.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        if !self.table.allows {
            return false;
        }
        let (kind, methods): (_, &[&str]) = match self.kind {
            ItemKind::Tool => (Kind::Tool, &["tools/call"]),
            ItemKind::Prompt => (Kind::Prompt, &["prompts/get", "completion/complete"]),
            ItemKind::Resource | ItemKind::ResourceTemplate => (
                Kind::Resource,
                &["resources/read", "resources/subscribe", "subscriptions/listen", "completion/complete"],
            ),
            ItemKind::Task => return false,
        };
        let moment = if self.kind == ItemKind::ResourceTemplate { Moment::Template } else { Moment::List };
        // The ways to use an item differ only for a rule that asks which one it is.
        let ways = if self.table.reads_method { methods.len() } else { 1 };
        methods.iter().take(ways).any(|method| {
            let facts = Facts::new(self.identity, kind, name, method, moment);
            match self.table.judge(&facts, &mut Vec::new()) {
                Verdict::Permitted(_) => true,
                Verdict::Lacking(_) | Verdict::Unidentified => self.table.list == ListMode::Acquirable,
                Verdict::Refused(_) => false,
            }
        })
    }
}
