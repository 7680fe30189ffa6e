//! Scalars with a form of their own: what they look like in the schema, and how people are told.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A form of text: its pattern in the schema and its name in messages.
pub struct Form {
    /// The regular expression (ECMA 262, as JSON Schema has it).
    pub pattern: &'static str,
    /// What a person should write.
    pub words: &'static str,
}

/// Durations.
pub const DURATION: Form =
    Form { pattern: "^[1-9][0-9]{0,8}(ms|s|m|h|d)$", words: "a duration such as `500ms`, `30s`, `5m` or `24h`" };
/// Sizes.
pub const SIZE: Form =
    Form { pattern: "^[1-9][0-9]{0,9}(B|KiB|MiB)$", words: "a size such as `512B`, `64KiB` or `4MiB`" };
/// Rates.
pub const RATE: Form =
    Form { pattern: "^[1-9][0-9]{0,8}/(second|minute|hour|day)$", words: "a rate such as `600/minute`" };
/// Names of services and providers.
pub const NAME: Form = Form {
    pattern: "^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$",
    words: "a name of lower-case letters, digits, `-` and `_`",
};
/// SHA-256 in hex.
pub const SHA256: Form = Form { pattern: "^[0-9a-f]{64}$", words: "a SHA-256 in 64 lower-case hex digits" };
/// Ids of clients.
pub const CLIENT_ID: Form = Form {
    pattern: "^[A-Za-z0-9._~-]{1,128}$",
    words: "a client id of letters, digits, `-`, `.`, `_` and `~`, so that none looks like a URL or a person",
};
/// Names of people who sign in at the gateway.
pub const USER: Form = Form {
    pattern: "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$",
    words: "a name of letters, digits, `.`, `_`, `@`, `+` and `-`, such as `alice` or `alice@example.com`",
};
/// The parts of a limit's key, when there is one.
pub const PER: Form = Form {
    pattern: "^(subject|client|address|tool|service)$",
    words: "one or a list of `subject`, `client`, `address`, `tool` and `service`",
};
/// The word that sends no identity headers.
pub const OFF: Form = Form { pattern: "^off$", words: "`off`, or the names of the headers" };
/// The store of the process itself, where others are named by what they are in.
pub const STORE: Form = Form { pattern: "^memory$", words: "`memory`, `{ file: path }` or `{ redis: { url: ... } }`" };

/// Every form, to find the words of a pattern that did not fit.
pub const FORMS: [&Form; 10] = [&DURATION, &SIZE, &RATE, &NAME, &SHA256, &CLIENT_ID, &USER, &PER, &OFF, &STORE];

macro_rules! text {
    ($($(#[doc = $doc:literal])* $name:ident: $form:expr;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $name(pub String);

            impl JsonSchema for $name {
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "type": "string", "pattern": $form.pattern, "description": $form.words })
                }
            }
        )*
    };
}

text! {
    /// A duration.
    DurationText: DURATION;
    /// A size.
    SizeText: SIZE;
    /// A rate.
    RateText: RATE;
    /// A name.
    NameText: NAME;
    /// A SHA-256.
    Sha256Text: SHA256;
    /// The id of a client.
    ClientIdText: CLIENT_ID;
    /// The name of a person.
    UserText: USER;
}

impl DurationText {
    /// The duration; `None` when the text is none.
    #[must_use]
    pub fn parse(&self) -> Option<Duration> {
        let split = self.0.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = self.0.split_at_checked(split)?;
        let number: u64 = number.parse().ok()?;
        let seconds = match unit {
            "ms" => return Some(Duration::from_millis(number)),
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        number.checked_mul(seconds).map(Duration::from_secs)
    }
}

impl SizeText {
    /// The size in bytes; `None` when the text is none.
    #[must_use]
    pub fn parse(&self) -> Option<usize> {
        let split = self.0.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = self.0.split_at_checked(split)?;
        let factor = match unit {
            "B" => 1,
            "KiB" => 1024,
            "MiB" => 1024 * 1024,
            _ => return None,
        };
        number.parse::<usize>().ok()?.checked_mul(factor)
    }
}

impl RateText {
    /// Count and period; `None` when the text is no rate.
    #[must_use]
    pub fn parse(&self) -> Option<(u32, Duration)> {
        let (count, period) = self.0.split_once('/')?;
        let seconds = match period {
            "second" => 1,
            "minute" => 60,
            "hour" => 3600,
            "day" => 86_400,
            _ => return None,
        };
        Some((count.parse().ok()?, Duration::from_secs(seconds)))
    }
}

/// Where a secret is: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct SecretDocument {
    /// The environment variable that holds the secret.
    pub env: Option<String>,
    /// The file that holds the secret, relative to this file. It is read anew when it changes.
    pub file: Option<String>,
}

/// The value of a claim or argument: text, a number, true or false.
pub fn scalar_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"] })
}

/// One scalar or a list of them.
pub fn scalars_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "number", "boolean", "array"],
        "items": { "type": ["string", "number", "boolean"] },
        "minItems": 1
    })
}

/// One value as a list of one.
#[must_use]
pub fn listed(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_rates_are_read_with_their_units() {
        let duration = |text: &str| DurationText(text.into()).parse();
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        assert_eq!((duration("5"), duration("5w"), duration("s")), (None, None, None));
        assert_eq!(SizeText("4MiB".into()).parse(), Some(4 << 20));
        assert_eq!(SizeText("4MB".into()).parse(), None);
        assert_eq!(RateText("600/minute".into()).parse(), Some((600, Duration::from_secs(60))));
        assert_eq!(RateText("600".into()).parse(), None);
    }
}
