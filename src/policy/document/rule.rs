//! Rules and limits.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Number, Value};

use super::scalar::{PER, RateText, scalar_schema};

/// One rule: exactly one of `allow` and `deny` selects, the rest narrows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["allow"]}, {"required": ["deny"]}]))]
pub struct RuleDocument {
    /// What is allowed.
    pub allow: Option<SelectorDocument>,
    /// What is denied, whatever allows it.
    pub deny: Option<SelectorDocument>,
    /// Whom the rule is for: `person` or `machine` for such callers alone; `none` for callers without a token too, which goes
    /// with `allow`, without scopes, and where `authentication.optional` lets such callers in. Default: everybody with a
    /// token, and `deny` everybody.
    pub identity: Option<IdentityWord>,
    /// Scopes that a caller needs, all of them. Only with `allow`.
    #[schemars(length(min = 1))]
    pub scopes: Option<Vec<String>>,
    /// A CEL expression over `claims`, `issuer`, `subject`, `client` and `operation`.
    pub when: Option<String>,
    /// Conditions on arguments, by name or JSON Pointer (`/filter/owner`; the segment `*` means every item).
    #[schemars(length(min = 1))]
    pub arguments: Option<BTreeMap<String, MatcherDocument>>,
    /// A CEL expression that also reads `arguments`.
    pub when_arguments: Option<String>,
    /// Whether arguments that the rule does not name are allowed. Default: `allow`. Only with `allow`.
    pub other_arguments: Option<OtherArguments>,
}

/// Whom a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityWord {
    /// Everyone, with or without a token.
    None,
    /// Somebody who signed in.
    Person,
    /// A client that acts for itself: its subject is its own client id, or its provider says so.
    Machine,
}

/// What a rule speaks of. Globs: `*` stops at `/` in URIs, `**` does not, `\` escapes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct SelectorDocument {
    /// Tools by name.
    #[schemars(length(min = 1))]
    pub tools: Option<Vec<PatternDocument>>,
    /// Resources by URI.
    #[schemars(length(min = 1))]
    pub resources: Option<Vec<PatternDocument>>,
    /// Prompts by name.
    #[schemars(length(min = 1))]
    pub prompts: Option<Vec<PatternDocument>>,
    /// Other methods by name, such as `logging/setLevel`.
    #[schemars(length(min = 1))]
    pub methods: Option<Vec<PatternDocument>>,
}

/// A glob, or a regular expression written `{ matches: ... }`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum PatternDocument {
    /// A glob.
    Glob(String),
    /// A regular expression that must fit the whole name.
    Regex {
        /// The expression.
        matches: String,
    },
}

impl JsonSchema for PatternDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "object"],
            "description": "A glob, or a regular expression written `{ matches: ... }`. Both must fit the whole name.",
            "minLength": 1,
            "properties": { "matches": { "type": "string", "description": "A regular expression that must fit the whole name.", "minLength": 1 } },
            "required": ["matches"],
            "additionalProperties": false
        })
    }
}

/// What an argument must be. All that is said must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct MatcherDocument {
    /// Exactly this value.
    #[serde(default)]
    #[schemars(schema_with = "scalar_schema")]
    pub equals: Option<Value>,
    /// One of these values.
    #[serde(default)]
    #[schemars(schema_with = "one_of_schema")]
    pub one_of: Option<Vec<Value>>,
    /// Text that this regular expression fits as a whole.
    pub matches: Option<String>,
    /// Text that this glob fits as a whole; `*` stops at `/`.
    pub glob: Option<String>,
    /// A number that is at least this.
    pub min: Option<Number>,
    /// A number that is at most this.
    pub max: Option<Number>,
    /// Text of at least so many characters.
    pub min_length: Option<u32>,
    /// Text of at most so many characters.
    pub max_length: Option<u32>,
    /// A list of at least so many items.
    pub min_items: Option<u32>,
    /// A list of at most so many items.
    pub max_items: Option<u32>,
    /// A value of this type.
    #[serde(rename = "type")]
    pub kind: Option<TypeWord>,
    /// Whether the argument may be absent. Default: false.
    pub optional: Option<bool>,
}

fn one_of_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "items": scalar_schema(generator) })
}

/// A JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TypeWord {
    /// Text.
    String,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// An object.
    Object,
}

/// What happens to arguments that a rule does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherArguments {
    /// They are allowed.
    Allow,
    /// The rule does not fit.
    Deny,
}

/// One limit: exactly one of `rate` and `concurrent`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["rate"]}, {"required": ["concurrent"]}]))]
pub struct LimitDocument {
    /// A token bucket: `600/minute` lets 600 go at once, then 10 a second.
    pub rate: Option<RateText>,
    /// How many may go at once, if it is not the count of the rate. Only with `rate`.
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
    /// How many may be under way at the same time.
    #[schemars(range(min = 1))]
    pub concurrent: Option<u32>,
    /// Who or what is counted. Default: `subject`.
    pub per: Option<PerDocument>,
    /// Only these tools.
    #[schemars(length(min = 1))]
    pub tools: Option<Vec<PatternDocument>>,
    /// Only these methods.
    #[schemars(length(min = 1))]
    pub methods: Option<Vec<PatternDocument>>,
    /// What happens while the store that counts for all replicas cannot be asked: `local` has every replica count by itself,
    /// `deny` answers 503. Only with a store that replicas share. Default: `local`.
    pub on_store_loss: Option<OnStoreLoss>,
}

/// What a limit does without the store that counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreLoss {
    /// Every replica counts by itself.
    Local,
    /// What it counts is refused.
    Deny,
}

/// What a limit counts by.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum PerDocument {
    /// One part.
    One(PerWord),
    /// Several parts together.
    Several(Vec<PerWord>),
}

impl PerDocument {
    /// The parts.
    #[must_use]
    pub fn parts(&self) -> &[PerWord] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Several(parts) => parts,
        }
    }
}

/// One part of what a limit counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerWord {
    /// The pair of issuer and subject.
    Subject,
    /// The client.
    Client,
    /// The address (IPv6: the /64).
    Address,
    /// The tool.
    Tool,
    /// Everybody together.
    Service,
}

impl JsonSchema for PerDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Per".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "description": "Who or what is counted: one or a list of `subject`, `client`, `address`, `tool` and `service`.",
            "pattern": PER.pattern,
            "items": { "type": "string", "enum": ["subject", "client", "address", "tool", "service"] },
            "minItems": 1,
            "uniqueItems": true
        })
    }
}
