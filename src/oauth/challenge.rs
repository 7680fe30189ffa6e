//! The `WWW-Authenticate` value of a refusal (RFC 6750 section 3, RFC 9728 section 5.1).
//!
//! Every part is made safe for a quoted string here, so nothing a client or a server named can break out of one.

/// The error code of a challenge (RFC 6750 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeError {
    /// Something is wrong with the token.
    InvalidToken,
    /// The token is good but lacks scopes.
    InsufficientScope,
}

impl ChallengeError {
    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

/// What a challenge says. A request without credentials gets no error code (RFC 6750 section 3.1).
#[derive(Debug, Clone, Copy)]
pub struct Challenge<'a> {
    /// The RFC 9728 metadata URL, from configuration.
    pub metadata_url: &'a str,
    /// Scopes that the client should ask for; none omits the parameter.
    pub scopes: &'a [String],
    /// The error code with a human sentence.
    pub error: Option<(ChallengeError, &'a str)>,
}

impl Challenge<'_> {
    /// The header value: visible ASCII and spaces only.
    #[must_use]
    pub fn value(&self) -> String {
        let mut value = String::with_capacity(160);
        value.push_str("Bearer ");
        if let Some((error, description)) = self.error {
            value.push_str("error=\"");
            value.push_str(error.as_str());
            value.push_str("\", error_description=\"");
            value.extend(description.chars().map(|c| if is_quotable(c) { c } else { '?' }));
            value.push_str("\", ");
        }
        let mut scopes = self.scopes.iter().filter(|scope| is_scope_token(scope)).peekable();
        if scopes.peek().is_some() {
            value.push_str("scope=\"");
            while let Some(scope) = scopes.next() {
                value.push_str(scope);
                if scopes.peek().is_some() {
                    value.push(' ');
                }
            }
            value.push_str("\", ");
        }
        value.push_str("resource_metadata=\"");
        value.extend(self.metadata_url.chars().filter(|c| *c != ' ' && is_quotable(*c)));
        value.push('"');
        value
    }
}

/// `%x20-21 / %x23-5B / %x5D-7E` (RFC 6750 section 3): visible ASCII and space without quote and backslash.
fn is_quotable(c: char) -> bool {
    matches!(c, ' '..='~') && c != '"' && c != '\\'
}

/// `scope-token` of RFC 6749 section 3.3.
#[must_use]
pub fn is_scope_token(scope: &str) -> bool {
    !scope.is_empty() && scope.chars().all(|c| c != ' ' && is_quotable(c))
}

#[cfg(test)]
mod tests {
    use super::{Challenge, ChallengeError};

    const METADATA: &str = "https://m.example/.well-known/oauth-protected-resource/a";

    #[test]
    fn d01_a_challenge_names_metadata_scopes_and_error() {
        let scopes = ["a:read".to_owned(), "a:write".to_owned()];
        let bare = Challenge { metadata_url: METADATA, scopes: &[], error: None };
        assert_eq!(bare.value(), format!("Bearer resource_metadata=\"{METADATA}\""));
        let first = Challenge { scopes: &scopes, ..bare };
        assert_eq!(first.value(), format!("Bearer scope=\"a:read a:write\", resource_metadata=\"{METADATA}\""));
        let step_up = Challenge { error: Some((ChallengeError::InsufficientScope, "insufficient scope")), ..first };
        assert_eq!(
            step_up.value(),
            format!(
                "Bearer error=\"insufficient_scope\", error_description=\"insufficient scope\", \
                 scope=\"a:read a:write\", resource_metadata=\"{METADATA}\""
            )
        );
    }

    #[test]
    fn d05_nothing_breaks_out_of_a_quoted_string() {
        let evil = "x\", realm=\"y\\\r\nSet-Cookie: a=b\u{e9}\u{0}";
        let scopes = [evil.to_owned(), "good".to_owned(), String::new(), "two words".to_owned()];
        let metadata = format!("{METADATA}\"\\\r\n evil");
        let challenge =
            Challenge { metadata_url: &metadata, scopes: &scopes, error: Some((ChallengeError::InvalidToken, evil)) };
        let value = challenge.value();
        assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{value}");
        assert_eq!(value.matches('"').count(), 8, "four quoted strings and no more: {value}");
        assert!(!value.contains('\\'), "{value}");
        assert!(value.contains("scope=\"good\""), "a scope that is no scope token is left out: {value}");
        assert!(http::HeaderValue::from_str(&value).is_ok());
    }
}
