//! Optional steps at the edge of a service, before authentication.
//!
//! A stage sees the head of a request and may refuse it, answer it, or add headers to whatever answer follows. It knows
//! no identity: authentication and authorization are not stages, so that nobody can leave them out or reorder them.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::decision::Denial;

/// The head of a request, as the front filter accepted it.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The HTTP method.
    pub method: &'a Method,
    /// The headers; singletons occur at most once.
    pub headers: &'a HeaderMap,
}

/// What a stage wants.
#[derive(Debug)]
pub enum Step {
    /// Go on.
    Continue,
    /// Answer with this status and no body; nothing behind the stage runs.
    Answer(StatusCode),
}

/// Headers that the answer carries, whoever writes it.
pub type Added = Vec<(HeaderName, HeaderValue)>;

/// One optional step.
pub trait Stage: Send + Sync + std::fmt::Debug {
    /// The name in the list of stages, for logs.
    fn name(&self) -> &'static str;

    /// Looks at a head.
    ///
    /// # Errors
    /// The refusal.
    fn enter(&self, head: Head<'_>, added: &mut Added) -> Result<Step, Denial>;
}
