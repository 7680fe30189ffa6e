//! JSON objects read strictly: a duplicate member at any depth is an error (RFC 7515 section 4, RFC 7519 section 4).
//!
//! Two readers of one token must not be able to see two different claims, so nothing here picks a winner.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why bytes are not one strict JSON object. Carries no text of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one JSON object without duplicate members")]
pub struct NotStrict;

/// Reads one JSON object with unique members at every depth, and nothing before or after it but whitespace.
///
/// # Errors
/// The bytes are not UTF-8, not JSON, not an object, hold a number outside of a double's range, or a duplicate member.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, NotStrict> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Value::Object(members))) => Ok(members),
        Ok(_) | Err(_) => Err(NotStrict),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> DeserializeSeed<'de> for StrictVisitor {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(StrictVisitor)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(StrictVisitor)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::object;

    #[test]
    fn a10_duplicate_members_are_refused_at_every_depth() {
        assert!(object(br#"{"a":1,"b":{"a":2},"c":[{"a":3}]}"#).is_ok(), "the same name at different depths is fine");
        for text in
            [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"b":{"a":1,"a":2}}"#, r#"{"b":[[{"a":1,"a":2}]]}"#]
        {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn only_one_object_is_read() {
        assert!(object(br#" {"a":1.5,"b":[true,null,"x",-1]} "#).is_ok());
        for text in ["", "[]", "1", "null", "{} {}", "{}x", "{'a':1}", "{\"a\":1,}", "{\"a\":1e400}", "{\"a\":NaN}"] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
        assert!(object(b"\xef\xbb\xbf{}").is_err(), "a byte order mark");
        assert!(object(br#"{"a":"\ud800"}"#).is_err(), "a lone surrogate");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(object(deep.as_bytes()).is_err(), "nesting is bounded");
    }
}
