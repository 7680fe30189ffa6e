//! Origins of browser clients.

use super::context::Context;
use crate::diagnostics::Diagnostic;
use crate::policy::codes;
use crate::policy::document::PolicyDocument;

/// Checks that every listed origin is written as browsers write it (RFC 6454 section 6.2).
pub fn origins(context: &mut Context<'_>, document: &PolicyDocument) {
    for (index, origin) in document.origins.iter().flatten().enumerate() {
        let exact = url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
        if !exact {
            let diagnostic =
                Diagnostic::error(codes::INVALID_VALUE, format!("`{origin}` is no origin as browsers write it"));
            context.push(
                diagnostic.help("scheme, host and port only, in lower case: `https://inspector.example.com`"),
                &format!("/origins/{index}"),
            );
        }
    }
}
