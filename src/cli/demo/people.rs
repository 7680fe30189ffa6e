//! The person of the demo: in the file of the policy's `local` provider while the demo runs, with a password of its own.

use std::path::{Path, PathBuf};

use serde_json::Map;

use crate::engine::vault::random_text;
use crate::policy::document::UsersDocument;
use crate::policy::document::scalar::UserText;
use crate::policy::document::users::UserDocument;
use crate::policy::users;

/// What the person is called.
pub(super) const NAME: &str = "demo";
/// Characters of the password, each one of 64.
const LENGTH: usize = 16;

/// The person, who is gone when this is dropped.
pub(super) struct Person {
    file: PathBuf,
    pub(super) password: String,
}

impl Person {
    /// Puts the person into `file`, unless people are there already, whom the demo leaves alone.
    pub(super) fn put(file: &Path) -> Result<Option<Self>, String> {
        let document =
            users::read(file).map_err(|report| crate::diagnostics::render::human(&report, super::Style::Plain))?;
        if document.users.iter().any(|user| user.name.0 != NAME) {
            return Ok(None);
        }
        let mut password = random_text().map_err(|error| error.to_string())?;
        password.truncate(LENGTH);
        let user =
            UserDocument { name: UserText(NAME.to_owned()), password: users::hashed(&password)?, claims: Map::new() };
        users::write(file, &UsersDocument { users: vec![user] })?;
        Ok(Some(Self { file: file.to_owned(), password }))
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let ours = users::read(&self.file).is_ok_and(|document| document.users.iter().all(|user| user.name.0 == NAME));
        if ours {
            let _ = std::fs::remove_file(&self.file);
        }
    }
}
