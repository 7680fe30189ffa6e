//! The people of a `local` provider, read from a file of their own.

use std::collections::HashMap;
use std::sync::Arc;

use super::context::Context;
use crate::diagnostics::{Diagnostic, Source};
use crate::engine::issuing::User;
use crate::policy::document::UsersDocument;
use crate::policy::schema::Kind;
use crate::policy::source::shown;
use crate::policy::tree::Tree;
use crate::policy::{codes, shape, users};

/// Reads the file named `written` at `pointer`. What is wrong in it is reported where it stands.
pub fn users(context: &mut Context<'_>, written: &str, pointer: &str) -> Vec<User> {
    let Some(content) = context.file(pointer, written) else { return Vec::new() };
    let name = shown(&context.path(written));
    let Ok(text) = String::from_utf8(content) else {
        context.error(pointer, codes::NOT_UTF8, format!("`{name}` is not UTF-8"));
        return Vec::new();
    };
    let source = Arc::new(Source { name, text });
    let tree = match Tree::parse(&source) {
        Ok(tree) => tree,
        Err(diagnostic) => {
            context.report.push(diagnostic);
            return Vec::new();
        }
    };
    let shape = shape::check(&tree, Kind::Users);
    let wrong = shape.has_errors();
    context.report.extend(shape);
    if wrong {
        return Vec::new();
    }
    let Ok(document) = serde_json::from_value::<UsersDocument>(tree.value.clone()) else {
        context.report.push(Diagnostic::error(codes::INVALID_VALUE, "this is no list of users").at(tree.value_at("")));
        return Vec::new();
    };
    people(context, &tree, document)
}

fn people(context: &mut Context<'_>, tree: &Tree, document: UsersDocument) -> Vec<User> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut people = Vec::with_capacity(document.users.len());
    for (index, user) in document.users.into_iter().enumerate() {
        let name = user.name.0.to_ascii_lowercase();
        if let Some(other) = seen.insert(name.clone(), index) {
            let message = format!("`{name}` is the {} and the {} of the users", nth(other), nth(index));
            let diagnostic = Diagnostic::error(codes::INVALID_USER, message);
            let diagnostic = diagnostic.at(tree.value_at(&format!("/users/{index}/name")));
            context.report.push(diagnostic.help("names are the same in lower and upper case: remove one of them"));
        }
        if let Err(error) = users::check(&user.password) {
            let diagnostic = Diagnostic::error(codes::INVALID_USER, format!("the password of `{name}`: {error}"));
            let diagnostic = diagnostic.at(tree.value_at(&format!("/users/{index}/password")));
            let help = format!("`portcullis user add FILE {name} --replace` asks for a password and writes its hash");
            context.report.push(diagnostic.help(help));
        }
        people.push(User { name, password: user.password, claims: user.claims });
    }
    people
}

fn nth(index: usize) -> String {
    match index {
        0 => "first".to_owned(),
        1 => "second".to_owned(),
        2 => "third".to_owned(),
        other => format!("{}th", other + 1),
    }
}
