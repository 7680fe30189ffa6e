//! The file of a `local` provider, as the command line writes it, and what a password hash must be.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use argon2::password_hash::{PasswordHasher as _, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordHash, Version};

use super::document::UsersDocument;
use super::schema::Kind;
use super::shape;
use super::source::{self, shown};
use super::tree::Tree;
use crate::diagnostics::{Diagnostic, Report};
use crate::engine::vault::random;

/// Memory that a hash costs at least, in KiB: OWASP Password Storage Cheat Sheet, with 2 passes and 1 lane.
const LEAST_MEMORY: u32 = 19 * 1024;
/// Memory that a hash costs at most, in KiB: the first choice of RFC 9106 section 4. Whoever tries a name has one calculated.
const MOST_MEMORY: u32 = 2 * 1024 * 1024;
/// The same in all passes together.
const MOST_WORK: u64 = 8 * 1024 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Characters of a password at least.
pub const SHORTEST_PASSWORD: usize = 12;
/// What stands above the people.
const HEAD: &str = "# Written by `portcullis user`; comments are not kept.\n";

/// Why a hash cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not in PHC form, or of another algorithm.
    #[error("this is no argon2id hash")]
    NotArgon2id,
    /// More than a machine can do for everybody who asks.
    #[error(
        "the hash costs more than 2 GiB of memory or 8 GiB in all passes, and would keep the gateway from its work"
    )]
    Costly,
    /// Cheap to guess against.
    #[error("the hash costs less than 19 MiB of memory and 2 passes (OWASP)")]
    Weak,
}

/// Checks a hash in PHC form: argon2id, version 19, at least 19 MiB and two passes, or more memory and one; and not more than
/// a gateway can calculate.
///
/// # Errors
/// It cannot be used.
pub fn check(phc: &str) -> Result<(), HashError> {
    let hash = PasswordHash::new(phc).or(Err(HashError::NotArgon2id))?;
    let complete = hash.salt.is_some() && hash.hash.is_some_and(|hash| hash.len() >= 16);
    let version = hash.version == Some(u32::from(Version::V0x13));
    if hash.algorithm != Algorithm::Argon2id.ident() || !complete || !version {
        return Err(HashError::NotArgon2id);
    }
    let params = Params::try_from(&hash).or(Err(HashError::NotArgon2id))?;
    if params.m_cost() < LEAST_MEMORY || (params.t_cost() < PASSES && params.m_cost() < 46 * 1024) {
        return Err(HashError::Weak);
    }
    if params.m_cost() > MOST_MEMORY || u64::from(params.m_cost()) * u64::from(params.t_cost()) > MOST_WORK {
        return Err(HashError::Costly);
    }
    Ok(())
}

/// The hash of a password, in PHC form.
///
/// # Errors
/// The random source fails, or the library refuses.
pub fn hashed(password: &str) -> Result<String, String> {
    let salt = random::<16>().map_err(|error| error.to_string())?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
    let params = Params::new(LEAST_MEMORY, PASSES, LANES, None).map_err(|error| error.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.as_bytes(), &salt).map_err(|error| error.to_string())?;
    Ok(hash.to_string())
}

/// Reads a file of users; one that is not there holds nobody.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path) -> Result<UsersDocument, Report> {
    let alone = |diagnostic: Diagnostic| {
        let mut report = Report::default();
        report.push(diagnostic);
        report
    };
    if !path.exists() {
        return Ok(UsersDocument::default());
    }
    let tree = Tree::parse(&source::read(path).map_err(alone)?).map_err(alone)?;
    let report = shape::check(&tree, Kind::Users);
    if report.has_errors() {
        return Err(report);
    }
    let unread = |error: serde_json::Error| {
        alone(Diagnostic::error(super::codes::INVALID_VALUE, error.to_string()).at(tree.value_at("")))
    };
    serde_json::from_value(tree.value.clone()).map_err(unread)
}

/// Writes a file of users at once: who reads it meanwhile sees the old one or the new one. Only its owner may read it.
///
/// # Errors
/// It cannot be written; then it is as it was.
pub fn write(path: &Path, document: &UsersDocument) -> Result<(), String> {
    let text = serde_yaml::to_string(document).map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| format!("`{}` cannot be written: {error}", shown(path));
    let beside = beside(path);
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600).open(&beside);
    let written = file.and_then(|mut file| {
        file.write_all(HEAD.as_bytes())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        // What is half written is nobody's.
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(failed)
}

/// A hidden name in the same folder, which a rename replaces the file from.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o08_a_hash_is_argon2id_and_costs_enough_and_not_too_much() {
        let good = hashed("correct horse battery").unwrap();
        assert_eq!(check(&good), Ok(()));
        assert!(good.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{good}");
        assert_ne!(good, hashed("correct horse battery").unwrap(), "every hash has a salt of its own");
        for (from, to, error) in [
            ("$argon2id$", "$argon2i$", HashError::NotArgon2id),
            ("$argon2id$", "$scrypt$", HashError::NotArgon2id),
            ("v=19$", "", HashError::NotArgon2id),
            ("v=19$", "v=16$", HashError::NotArgon2id),
            ("m=19456", "m=19455", HashError::Weak),
            ("t=2", "t=1", HashError::Weak),
            ("m=19456,t=2", "m=9216,t=4", HashError::Weak),
            ("m=19456", "m=4294967295", HashError::Costly),
            ("m=19456", "m=2097153", HashError::Costly),
            ("t=2", "t=4294967295", HashError::Costly),
        ] {
            assert_eq!(check(&good.replace(from, to)), Err(error), "{to}");
        }
        for choice in ["m=47104,t=1", "m=2097152,t=1", "m=65536,t=3"] {
            assert_eq!(check(&good.replace("m=19456,t=2", choice)), Ok(()), "{choice}");
        }
        for text in ["", "correct horse battery", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ"] {
            assert_eq!(check(text), Err(HashError::NotArgon2id), "{text}");
        }
    }
}
