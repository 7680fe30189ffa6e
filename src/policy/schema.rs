//! The JSON Schemas of the kinds of file, and checking against them.

use std::sync::LazyLock;

use jsonschema::Validator;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::document::{InstallationDocument, PolicyDocument, UsersDocument};

/// Which of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `portcullis.yaml`.
    Installation,
    /// `policies/*.yaml`.
    Policy,
    /// The file of a `local` provider.
    Users,
}

impl Kind {
    /// The JSON Schema (draft 2020-12), as committed in `schema/`.
    #[must_use]
    pub fn schema(self) -> &'static Value {
        match self {
            Self::Installation => &INSTALLATION.0,
            Self::Policy => &POLICY.0,
            Self::Users => &USERS.0,
        }
    }

    /// The schema, compiled. `None` would be a defect of this crate; a test holds it off.
    #[must_use]
    pub fn validator(self) -> Option<&'static Validator> {
        match self {
            Self::Installation => INSTALLATION.1.as_ref(),
            Self::Policy => POLICY.1.as_ref(),
            Self::Users => USERS.1.as_ref(),
        }
    }
}

type Compiled = (Value, Option<Validator>);

static INSTALLATION: LazyLock<Compiled> = LazyLock::new(compiled::<InstallationDocument>);
static POLICY: LazyLock<Compiled> = LazyLock::new(compiled::<PolicyDocument>);
static USERS: LazyLock<Compiled> = LazyLock::new(compiled::<UsersDocument>);

fn compiled<T: JsonSchema>() -> Compiled {
    let settings = SchemaSettings::draft2020_12().with_transform(WithoutNull);
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    let validator = jsonschema::options().build(&schema).ok();
    (schema, validator)
}

/// A key is written with a value or not at all: the null that comes with `Option` is no value.
#[derive(Clone)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
            branches.retain(|branch| branch.get("type").is_none_or(|kind| kind != "null"));
            if let [Value::Object(only)] = branches.as_slice() {
                let only = only.clone();
                object.remove("anyOf");
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
        }
        if let Some(Value::Array(values)) = object.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
        // The range of an integer type is no news to a person, and editors show it.
        if object
            .get("format")
            .and_then(Value::as_str)
            .is_some_and(|format| format.starts_with("uint") || format == "double")
        {
            object.remove("format");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_compiles_and_knows_no_null() {
        for kind in [Kind::Installation, Kind::Policy, Kind::Users] {
            assert!(kind.validator().is_some());
            let text = kind.schema().to_string();
            assert!(!text.contains("\"null\""), "{text}");
        }
    }

    /// Editors show these words; they come from the comments of the types.
    #[test]
    fn every_key_says_what_it_is() {
        fn look(schema: &Value, at: &str) {
            for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let words = property.get("description").and_then(Value::as_str).unwrap_or_default();
                assert!(words.len() > 3, "{at}/{key} says nothing");
            }
            for (key, below) in schema.as_object().into_iter().flatten() {
                look(below, &format!("{at}/{key}"));
            }
            for (index, below) in schema.as_array().into_iter().flatten().enumerate() {
                look(below, &format!("{at}/{index}"));
            }
        }
        for kind in [Kind::Installation, Kind::Policy, Kind::Users] {
            look(kind.schema(), "");
        }
        let comment =
            include_str!("document/policy.rs").lines().any(|line| line.trim() == "/// Where clients find it.");
        assert!(comment && POLICY.0.to_string().contains("Where clients find it."));
    }

    #[test]
    fn the_committed_schemas_are_current() {
        for (kind, name) in [(Kind::Installation, "portcullis"), (Kind::Policy, "policy"), (Kind::Users, "users")] {
            let path = format!("{}/schema/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
            let wanted = format!("{:#}\n", kind.schema());
            if std::env::var_os("UPDATE").is_some() {
                std::fs::create_dir_all(format!("{}/schema", env!("CARGO_MANIFEST_DIR"))).unwrap();
                std::fs::write(&path, &wanted).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == wanted, "{path} is not current: run UPDATE=1 cargo test --lib schema");
        }
    }
}
