//! The file of a `local` provider: people with passwords.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::scalar::UserText;

/// People who sign in with a password. `portcullis user` writes this file.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portcullis users")]
pub struct UsersDocument {
    /// The people.
    pub users: Vec<UserDocument>,
}

/// A person.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserDocument {
    /// The name, in whatever case people write it.
    pub name: UserText,
    /// The argon2id hash of the password, in PHC form.
    pub password: String,
    /// What is known about the person, such as `groups: [staff]`. Default: nothing.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
}
