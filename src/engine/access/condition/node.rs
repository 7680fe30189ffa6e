//! The checked form of a condition.

use std::sync::Arc;

use regex::Regex;

/// What a condition reads, known before it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine::access) struct Reads {
    /// `arguments`.
    pub(in crate::engine::access) arguments: bool,
    /// `operation.name` or `operation.uri`.
    pub(in crate::engine::access) target: bool,
    /// `operation.method`.
    pub(in crate::engine::access) method: bool,
}

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    List(Vec<Self>),
    Root(Root),
    /// A variable of a fold, by its place on the stack.
    Local(usize),
    Select(Box<Member>),
    Has(Box<Member>),
    HasField(Root),
    Index(Box<[Self; 2]>),
    Not(Box<Self>),
    Negate(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Choose(Box<[Self; 3]>),
    Equal(Box<[Self; 2]>),
    Unequal(Box<[Self; 2]>),
    Order(Order, Box<[Self; 2]>),
    In(Box<[Self; 2]>),
    Arithmetic(Arithmetic, Box<[Self; 2]>),
    Call(Function, Vec<Self>),
    Matches(Box<Self>, Arc<Regex>),
    /// True unless its part is decided to be false (CEL `@not_strictly_false`).
    NotFalse(Box<Self>),
    Fold(Box<Fold>),
}

/// A member of an object.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) of: Node,
    pub(super) name: Box<str>,
    pub(super) origin: Origin,
}

/// Where a value comes from. Members of arguments are refused when they have a look-alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Arguments,
    Elsewhere,
}

/// What every comprehension of CEL becomes. The result stands at the next free place of the stack, the item after it.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) range: Node,
    pub(super) start: Node,
    pub(super) condition: Node,
    pub(super) step: Node,
    pub(super) result: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Claims,
    Issuer,
    Subject,
    Client,
    Arguments,
    Kind,
    Method,
    Name,
    Uri,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// The functions that conditions know, beside `matches`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    LowerAscii,
    UpperAscii,
    Int,
    Double,
    String,
    Dyn,
}

/// What can be known of a type before evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Unknown,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    List,
    Map,
}

impl Type {
    pub(super) fn is(self, one: Self) -> bool {
        self == one || self == Self::Unknown
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "an unknown type",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Int | Self::Uint | Self::Double => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "an object",
        }
    }
}
