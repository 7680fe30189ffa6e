//! The members of a JSON object in their order, each value as it was written.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, in order. Reads text that [`super::json::check`] has accepted.
#[derive(Debug, Default)]
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads the members of the object that `text` is; `None` when it is none.
    #[must_use]
    pub fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value of the member called exactly `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The values, in order.
    pub fn values(&self) -> impl Iterator<Item = &'a RawValue> + '_ {
        self.0.iter().map(|(_, value)| *value)
    }

    /// The names with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The first member that is none of `names` but could be taken for one: by a parser that ignores case, blanks or
    /// control characters (CVE-2026-27896).
    #[must_use]
    pub fn look_alike(&self, names: &[&str]) -> Option<&str> {
        let suspicious = |key: &str| !names.contains(&key) && names.iter().any(|name| folded_equal(key, name));
        self.0.iter().map(|(key, _)| key.as_ref()).find(|key| suspicious(key))
    }
}

/// Whether `key` is `name` to a parser that ignores case, blanks, control and invisible characters, or that stops at NUL.
#[must_use]
pub fn folded_equal(key: &str, name: &str) -> bool {
    // The common case costs nothing: plain ASCII of another length.
    if key.is_ascii() && key.len() < name.len() {
        return false;
    }
    let cut = key.split('\0').next().filter(|cut| !cut.is_empty() && cut.len() < key.len());
    folded(key).eq(folded(name)) || cut.is_some_and(|cut| folded(cut).eq(folded(name)))
}

/// Upper and then lower case also folds what lower case alone keeps apart, such as the long s and the Kelvin sign.
fn folded(text: &str) -> impl Iterator<Item = char> + '_ {
    let visible = text.chars().filter(|c| !is_invisible(*c));
    visible.flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// Blanks, controls, and what Unicode calls default ignorable (DerivedCoreProperties).
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some(Text(key)) = entries.next_key()? {
            members.push((key, entries.next_value()?));
        }
        Ok(members)
    }
}

/// A string that is borrowed whenever it holds no escape.
#[derive(Debug)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'a> Text<'a> {
    /// The string that `value` is; `None` when it is none.
    #[must_use]
    pub fn of(value: &'a RawValue) -> Option<Cow<'a, str>> {
        serde_json::from_str::<Self>(value.get()).ok().map(|text| text.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Members, folded_equal};

    #[test]
    fn k03_look_alikes_are_seen() {
        for key in [
            "Method",
            "METHOD",
            "method ",
            "\u{0}method",
            "me\u{200b}thod",
            "\u{feff}method",
            "method\0",
            "method\0x",
            "me thod",
            "method\u{fe0f}",
            "\u{202e}method",
            "meth\u{34f}od",
            "method\u{2069}",
            "\u{e0001}method",
        ] {
            assert!(folded_equal(key, "method"), "{key:?}");
        }
        assert!(folded_equal("param\u{17f}", "params"), "long s");
        assert!(folded_equal("to\u{212a}en", "token"), "Kelvin sign");
        for key in ["methods", "metho", "metod", "mét hod"] {
            assert!(!folded_equal(key, "method"), "{key:?}");
        }
        let members = Members::of(r#"{"method":1,"other":2}"#).unwrap();
        assert_eq!(members.look_alike(&["method"]), None);
        let members = Members::of(r#"{"method":1,"\u004dethod":2}"#).unwrap();
        assert_eq!(members.look_alike(&["method"]), Some("Method"));
    }
}
