//! What every step of resolving needs: the tree for places, the report, and the files that were read on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::diagnostics::{Diagnostic, Report};
use crate::oauth::url::UrlError;
use crate::policy::codes;
use crate::policy::document::scalar::{DurationText, SecretDocument, SizeText};
use crate::policy::model::Der;
use crate::policy::source::shown;
use crate::policy::tree::Tree;
use crate::secret::{Held, SecretError, SecretRef, open_regular, words};
use crate::shared::Shared;

/// Bytes of a key set or certificate file that are read at most.
const LARGEST_FILE: u64 = 1024 * 1024;
/// After so many days a secret should have been renewed.
const RENEWAL_DAYS: u64 = 90;

/// Something outside of the file that its meaning depends on, with its content at the time. Policies that read the same
/// hold the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Where it is.
    pub from: SecretRef,
    /// SHA-256 of what was there; `None` when nothing could be read.
    pub content: Option<[u8; 32]>,
}

impl Dependency {
    /// Whether the content is still the same.
    #[must_use]
    pub fn is_current(&self) -> bool {
        *Self::of(&self.from) == *self
    }

    /// The folder to watch for changes.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &self.from {
            SecretRef::File(path) => {
                path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
            }
            SecretRef::Env(_) => None,
        }
    }

    fn of(from: &SecretRef) -> Arc<Self> {
        match from {
            SecretRef::Env(name) => Self::with(from, std::env::var(name).ok().as_deref().map(str::as_bytes)),
            SecretRef::File(path) => Self::with(from, read(path).ok().as_deref()),
        }
    }

    fn with(from: &SecretRef, content: Option<&[u8]>) -> Arc<Self> {
        static HELD: Shared<(SecretRef, Option<[u8; 32]>), Dependency> = Shared::new();
        let key = (from.clone(), content.map(|content| Sha256::digest(content).into()));
        let made = HELD.get_or_make(&key, || {
            let (from, content) = key.clone();
            Ok::<_, std::convert::Infallible>(Self { from, content })
        });
        match made {
            Ok(dependency) => dependency,
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut content = Vec::new();
    open_regular(path)?.take(LARGEST_FILE).read_to_end(&mut content)?;
    Ok(content)
}

/// The state of resolving one file.
#[derive(Debug)]
pub struct Context<'a> {
    /// Values and places.
    pub tree: &'a Tree,
    /// What was found wrong.
    pub report: Report,
    /// What was read besides the file.
    pub dependencies: Vec<Arc<Dependency>>,
    /// How many of the errors are about providers alone.
    pub provider_errors: usize,
    folder: PathBuf,
}

impl<'a> Context<'a> {
    /// Begins to resolve the file at `path`; relative paths in it start at its folder.
    #[must_use]
    pub fn new(tree: &'a Tree, path: &Path) -> Self {
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Self { tree, report: Report::default(), dependencies: Vec::new(), provider_errors: 0, folder }
    }

    /// Reports an error at the value of `pointer`.
    pub fn error(&mut self, pointer: &str, code: &'static str, message: impl Into<String>) {
        self.push(Diagnostic::error(code, message), pointer);
    }

    /// Reports a diagnostic at the value of `pointer`.
    pub fn push(&mut self, diagnostic: Diagnostic, pointer: &str) {
        self.report.push(diagnostic.at(self.tree.value_at(pointer)));
    }

    /// Reports a diagnostic at the key of `pointer`.
    pub fn push_at_key(&mut self, diagnostic: Diagnostic, pointer: &str) {
        self.report.push(diagnostic.at(self.tree.key_at(pointer)));
    }

    /// Reads a URL, or reports what is unsafe about it.
    pub fn url<T>(&mut self, pointer: &str, parsed: Result<T, UrlError>) -> Option<T> {
        match parsed {
            Ok(url) => Some(url),
            Err(error) => {
                self.push(Diagnostic::error(codes::UNSAFE_URL, error.to_string()).help(error.help()), pointer);
                None
            }
        }
    }

    /// The duration written at `pointer`, or the default.
    pub fn duration(&mut self, text: Option<&DurationText>, pointer: &str, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|| {
            self.error(pointer, codes::INVALID_VALUE, format!("`{}` is too long a duration", text.0));
            default
        })
    }

    /// The size written at `pointer`, or the default.
    pub fn size(&mut self, text: Option<&SizeText>, pointer: &str, default: usize) -> usize {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|| {
            self.error(pointer, codes::INVALID_VALUE, format!("`{}` is too large a size", text.0));
            default
        })
    }

    /// The path that a file names.
    #[must_use]
    pub fn path(&self, written: &str) -> PathBuf {
        // Without `./` before it, which nobody wrote.
        self.folder.strip_prefix(".").unwrap_or(&self.folder).join(written)
    }

    /// Reads a file that the policy names.
    pub fn file(&mut self, pointer: &str, written: &str) -> Option<Vec<u8>> {
        let path = self.path(written);
        let content = read(&path);
        let dependency = Dependency::with(&SecretRef::File(path.clone()), content.as_deref().ok());
        self.dependencies.push(dependency);
        match content {
            Ok(content) => Some(content),
            Err(error) => {
                let message = format!("`{}` cannot be read: {}", shown(&path), words(error.kind()));
                let help = "paths start at the folder of the file that names them";
                self.push(Diagnostic::error(codes::SECRET_UNREADABLE, message).help(help), pointer);
                None
            }
        }
    }

    /// Reads the certificates of a PEM file.
    pub fn certificates(&mut self, pointer: &str, written: &str) -> Option<Vec<Der>> {
        let content = self.file(pointer, written)?;
        let blocks: Result<Vec<_>, _> = x509_parser::pem::Pem::iter_from_buffer(&content).collect();
        let certificates: Vec<Der> = blocks
            .unwrap_or_default()
            .into_iter()
            .filter(|block| block.label == "CERTIFICATE" && block.parse_x509().is_ok())
            .map(|block| Der(block.contents))
            .collect();
        if certificates.is_empty() {
            let diagnostic = Diagnostic::error(codes::INVALID_CERTIFICATE, "the file holds no certificate in PEM");
            self.push(diagnostic.help("it must hold a block `-----BEGIN CERTIFICATE-----`"), pointer);
            return None;
        }
        Some(certificates)
    }

    /// Reads the private key of a PEM file.
    pub fn private_key(&mut self, pointer: &str, written: &str) -> Option<Der> {
        let content = self.file(pointer, written)?;
        let blocks: Result<Vec<_>, _> = x509_parser::pem::Pem::iter_from_buffer(&content).collect();
        let key = blocks.unwrap_or_default().into_iter().find(|block| block.label.ends_with("PRIVATE KEY"));
        if key.is_none() {
            let diagnostic = Diagnostic::error(codes::INVALID_CERTIFICATE, "the file holds no private key in PEM");
            self.push(diagnostic.help("it must hold a block `-----BEGIN PRIVATE KEY-----`"), pointer);
        }
        key.map(|block| Der(block.contents))
    }

    /// Reads a secret by its reference.
    pub fn secret(&mut self, document: &SecretDocument, pointer: &str) -> Option<Held> {
        let from = match (&document.env, &document.file) {
            (Some(name), _) => SecretRef::Env(name.clone()),
            (None, Some(path)) => SecretRef::File(self.path(path)),
            (None, None) => return None,
        };
        self.depend(&from);
        let age = from.modified().and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > Duration::from_secs(RENEWAL_DAYS * 24 * 3600)) {
            let message = format!("the secret was not renewed for more than {RENEWAL_DAYS} days");
            self.push(
                Diagnostic::warning(codes::OLD_SECRET, message)
                    .help("add a new one, wait until it is used, remove this one"),
                pointer,
            );
        }
        match from.read() {
            Ok(secret) => Some(Held { from, secret }),
            Err(error) => {
                let help = match &error {
                    SecretError::Unset(name) => format!("set `{name}` where the gateway runs, and for this check"),
                    SecretError::Unreadable { .. } => {
                        "paths start at the folder of the file that names them".to_owned()
                    }
                    SecretError::Empty | SecretError::TooLarge => {
                        "it must hold the secret and at most one line end".to_owned()
                    }
                };
                self.push(Diagnostic::error(codes::SECRET_UNREADABLE, error.to_string()).help(help), pointer);
                None
            }
        }
    }

    fn depend(&mut self, from: &SecretRef) {
        self.dependencies.push(Dependency::of(from));
    }
}
