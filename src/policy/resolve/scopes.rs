//! The scopes of a service.

use super::context::Context;
use crate::diagnostics::Diagnostic;
use crate::oauth::challenge::is_scope_token;
use crate::policy::document::PolicyDocument;
use crate::policy::{codes, suggest};

/// Checks the scopes and returns those marked default, sorted.
pub fn scopes(context: &mut Context<'_>, document: &PolicyDocument) -> Vec<String> {
    let Some(scopes) = &document.scopes else { return Vec::new() };
    for (name, scope) in scopes {
        let pointer = format!("/scopes/{}", crate::policy::tree::escaped(name));
        if !is_scope_token(name) {
            let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{name}` is no scope"));
            let help = "a scope is visible ASCII without spaces, `\"` and `\\`, such as `notes:read`";
            context.push_at_key(diagnostic.help(help), &pointer);
        }
        if name == "offline_access" {
            // It is no word about what a token opens, and a challenge must not name it (MCP authorization, "Refresh Tokens").
            let diagnostic = Diagnostic::error(codes::INVALID_VALUE, "`offline_access` opens nothing of the service");
            let help = "remove it: clients ask the authorization server for it when they want refresh tokens";
            context.push_at_key(diagnostic.help(help), &pointer);
        }
        for (index, implied) in scope.implies.iter().flatten().enumerate() {
            if !scopes.contains_key(implied) {
                unknown_scope(context, implied, scopes.keys(), &format!("{pointer}/implies/{index}"));
            }
        }
    }
    scopes.iter().filter(|(_, scope)| scope.default == Some(true)).map(|(name, _)| name.clone()).collect()
}

/// Reports a scope that is not declared.
pub fn unknown_scope<'a>(
    context: &mut Context<'_>,
    name: &str,
    known: impl Iterator<Item = &'a String>,
    pointer: &str,
) {
    let near = suggest::nearest(name, known.map(String::as_str));
    let help = near.map_or("declare it under `scopes`".to_owned(), |near| format!("did you mean `{near}`?"));
    context.push(Diagnostic::error(codes::UNKNOWN_SCOPE, format!("there is no scope `{name}`")).help(help), pointer);
}
