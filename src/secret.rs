//! Secrets by reference: where a secret is, and its bytes, which nothing prints.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// Bytes of a secret that are read at most.
const LONGEST: u64 = 64 * 1024;

/// Where a secret is. The policy holds this and never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file, as mounted by an orchestrator; read anew when it changes.
    File(PathBuf),
}

/// The bytes of a secret. Has no `Display`, and its `Debug` tells nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A secret with where it came from. Prints as where it came from and the start of its hash, to notice that it changed.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// Where it is.
    pub from: SecretRef,
    /// The bytes.
    pub secret: Secret,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.from)?;
        self.secret.fingerprint().iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Why a secret cannot be had. Tells where it was looked for, never what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, or not UTF-8.
    #[error("environment variable `{0}` is not set")]
    Unset(String),
    /// The file cannot be read.
    #[error("secret file `{}` cannot be read: {}", path.display(), words(*kind))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What happened.
        kind: std::io::ErrorKind,
    },
    /// Nothing but a line end.
    #[error("the secret is empty")]
    Empty,
    /// More than 64 KiB.
    #[error("the secret is larger than 64 KiB")]
    TooLarge,
}

/// Why a file cannot be read, in words for people.
#[must_use]
pub fn words(kind: std::io::ErrorKind) -> String {
    use std::io::ErrorKind as Kind;
    match kind {
        Kind::NotFound => "it does not exist".to_owned(),
        Kind::PermissionDenied => "permission is denied".to_owned(),
        Kind::IsADirectory => "it is a folder".to_owned(),
        Kind::NotADirectory => "its path leads through a file".to_owned(),
        Kind::Unsupported => "it is not a regular file".to_owned(),
        other => other.to_string(),
    }
}

/// Opens what is a regular file, or leads to one: a pipe would wait for its writer, and a device need never end.
///
/// # Errors
/// It is none, or cannot be opened.
pub fn open_regular(path: &Path) -> std::io::Result<std::fs::File> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    std::fs::File::open(path)
}

impl SecretRef {
    /// Reads the secret; one line end at its end is not part of it.
    ///
    /// # Errors
    /// It is not there, empty or too large.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let mut bytes = match self {
            Self::Env(name) => std::env::var(name).map(String::into_bytes).or(Err(SecretError::Unset(name.clone())))?,
            Self::File(path) => {
                let unreadable =
                    |error: std::io::Error| SecretError::Unreadable { path: path.clone(), kind: error.kind() };
                let mut bytes = Vec::new();
                let file = open_regular(path).map_err(unreadable)?;
                file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
                bytes
            }
        };
        if bytes.len() as u64 > LONGEST {
            return Err(SecretError::TooLarge);
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() { Err(SecretError::Empty) } else { Ok(Secret(bytes)) }
    }

    /// When a secret file was last written.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        match self {
            Self::Env(_) => None,
            Self::File(path) => std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok(),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable `{name}`"),
            Self::File(path) => write!(f, "file `{}`", path.display()),
        }
    }
}

impl Secret {
    /// The bytes, for a key or a header.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the secret, to notice that it changed.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_line_end_and_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        for (text, expected) in
            [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), ("abc\n\n", "abc\n"), (" a ", " a ")]
        {
            std::fs::write(&path, text).unwrap();
            let secret = SecretRef::File(path.clone()).read().unwrap();
            assert_eq!(secret.expose(), expected.as_bytes());
            assert_eq!(format!("{secret:?}"), "Secret");
        }
        std::os::unix::fs::symlink("s", directory.path().join("link")).unwrap();
        assert!(SecretRef::File(directory.path().join("link")).read().is_ok(), "a link to a file is one");
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(SecretRef::File(path.clone()).read(), Err(SecretError::Empty));
        std::fs::write(&path, vec![b'a'; 70_000]).unwrap();
        assert_eq!(SecretRef::File(path).read(), Err(SecretError::TooLarge));
        assert!(matches!(SecretRef::Env("PORTCULLIS_NO_SUCH_SECRET".into()).read(), Err(SecretError::Unset(_))));
    }

    #[test]
    fn n10_what_is_no_regular_file_is_refused_unopened() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for (path, says) in [
            (pipe, "it is not a regular file"),
            (link, "it is not a regular file"),
            ("/dev/zero".into(), "it is not a regular file"),
            (directory.path().to_owned(), "it is a folder"),
        ] {
            let error = SecretRef::File(path.clone()).read().unwrap_err();
            assert!(error.to_string().ends_with(says), "{}: {error}", path.display());
        }
    }
}
