//! What rules are judged on: identity, target and arguments of one message, read once and only when a rule asks.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::oauth::identity::Identity;
use crate::oauth::strict;

/// Why something could not be decided: a clause for the log, without any value of a claim or an argument.
pub(super) type Cause = Cow<'static, str>;

/// The outcome of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// It holds.
    Yes,
    /// It does not hold.
    No,
    /// The value is not there; what that means depends on who asks.
    Absent,
    /// It cannot be decided.
    Undecided(Cause),
}

impl Fit {
    /// Both must hold. `No` is stronger than everything: a conjunction with it is decided, whatever the rest may be.
    pub(super) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => other(),
            Self::No => Self::No,
            Self::Absent => match other() {
                Self::Yes => Self::Absent,
                other => other,
            },
            Self::Undecided(cause) => {
                if other() == Self::No {
                    Self::No
                } else {
                    Self::Undecided(cause)
                }
            }
        }
    }
}

impl From<bool> for Fit {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// What is asked for, as selectors know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tool,
    Prompt,
    Resource,
    Method,
}

impl Kind {
    /// The word that `operation.kind` has in conditions.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Method => "method",
        }
    }
}

/// When a rule is judged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment<'a> {
    /// For a message, with its arguments as written.
    Call(Option<&'a RawValue>),
    /// For an item of a list: arguments are not known yet.
    List,
    /// For a resource template of a list: the URI is not known yet either.
    Template,
}

/// One message or list item to judge.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) identity: &'a Identity,
    pub(super) kind: Kind,
    /// Name, URI or method.
    pub(super) name: &'a str,
    pub(super) method: &'a str,
    pub(super) moment: Moment<'a>,
    parsed: OnceCell<Result<Value, Cause>>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(identity: &'a Identity, kind: Kind, name: &'a str, method: &'a str, moment: Moment<'a>) -> Self {
        Self { identity, kind, name, method, moment, parsed: OnceCell::new() }
    }

    /// The arguments, always an object; a message without arguments has none of them.
    ///
    /// # Errors
    /// They are not an object, or not known yet.
    pub(super) fn arguments(&self) -> Result<&Value, Cause> {
        let parsed = self.parsed.get_or_init(|| match self.moment {
            Moment::Call(None) => Ok(Value::Object(serde_json::Map::new())),
            Moment::Call(Some(raw)) if !raw.get().starts_with('{') => {
                Err(Cause::Borrowed("the arguments are not an object"))
            }
            // Not by `Value` itself: it reads an object whose one member is called `$serde_json::private::RawValue` as the
            // text of that member, which is not what a server reads, and which nobody has bounded.
            Moment::Call(Some(raw)) => strict::object(raw.get().as_bytes())
                .map(Value::Object)
                .or(Err(Cause::Borrowed("the arguments cannot be read"))),
            Moment::List | Moment::Template => Err(Cause::Borrowed("the arguments are not known yet")),
        });
        parsed.as_ref().map_err(Clone::clone)
    }
}
