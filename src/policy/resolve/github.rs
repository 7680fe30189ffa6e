//! The meaning of a `github` provider.

use url::Url;

use super::context::Context;
use crate::diagnostics::Diagnostic;
use crate::engine::issuing::{GitHubSignIn, SignIn, SignInKind};
use crate::oauth::challenge::is_scope_token;
use crate::oauth::url::IssuerUrl;
use crate::policy::codes;
use crate::policy::document::provider::GitHubDocument;

/// The GitHub of everybody.
const GITHUB: &str = "https://github.com";
/// What is asked for when nothing is written.
const SCOPES: [&str; 2] = ["read:user", "user:email"];
/// What shows organizations and teams, all of it or more.
const ORGANIZATIONS: [&str; 3] = ["read:org", "write:org", "admin:org"];
/// What shows e-mail addresses.
const EMAILS: [&str; 2] = ["user:email", "user"];

/// Resolves a `github` provider, written at `pointer`.
pub fn github(context: &mut Context<'_>, name: &str, written: &GitHubDocument, pointer: &str) -> Option<SignIn> {
    let base = written.url.as_deref().unwrap_or(GITHUB);
    let issuer = context.url(&format!("{pointer}/url"), IssuerUrl::parse(base));
    let client_secret = context.secret(&written.client_secret, &format!("{pointer}/client_secret"));
    let organizations = organizations(context, written, pointer);
    let groups = written.groups.unwrap_or(false);
    let scopes = scopes(context, written, groups || !organizations.is_empty(), pointer);
    let issuer = issuer?;
    let Some((authorize, token, api)) = endpoints(issuer.url()) else {
        context.error(&format!("{pointer}/url"), codes::INVALID_VALUE, "nothing can be below this URL");
        return None;
    };
    let sign_in = GitHubSignIn {
        issuer,
        authorize,
        token,
        api,
        client_id: written.client_id.clone(),
        client_secret: client_secret?,
        emails: scopes.iter().any(|scope| EMAILS.contains(&scope.as_str())),
        scopes,
        organizations,
        groups,
    };
    let title = written.title.clone().unwrap_or_else(|| name.to_owned());
    Some(SignIn { name: name.to_owned(), title, kind: SignInKind::GitHub(Box::new(sign_in)) })
}

fn organizations(context: &mut Context<'_>, written: &GitHubDocument, pointer: &str) -> Vec<String> {
    let organizations = written.organizations.clone().unwrap_or_default();
    for (index, name) in organizations.iter().enumerate() {
        let good = (1..=39).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !good {
            let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{name}` is no organization"));
            let help = "write its name as it stands in its URL: `acme` for https://github.com/acme";
            context.push(diagnostic.help(help), &format!("{pointer}/organizations/{index}"));
        }
    }
    organizations
}

fn scopes(context: &mut Context<'_>, written: &GitHubDocument, memberships: bool, pointer: &str) -> Vec<String> {
    let pointer = format!("{pointer}/scopes");
    let Some(scopes) = &written.scopes else {
        let more = memberships.then_some("read:org");
        return SCOPES.into_iter().chain(more).map(str::to_owned).collect();
    };
    for (index, scope) in scopes.iter().enumerate().filter(|(_, scope)| !is_scope_token(scope)) {
        context.error(&format!("{pointer}/{index}"), codes::INVALID_VALUE, format!("`{scope}` is no scope"));
    }
    if memberships && !scopes.iter().any(|scope| ORGANIZATIONS.contains(&scope.as_str())) {
        let message = "without `read:org` GitHub does not say who is in which organization or team";
        context.push(Diagnostic::error(codes::INVALID_VALUE, message).help("add `read:org` to the list"), &pointer);
    }
    scopes.clone()
}

/// Pages, token endpoint and API: github.com and `<name>.ghe.com` have their API on a host of its own, an Enterprise Server
/// below `/api/v3` (docs.github.com "Getting started with the REST API").
fn endpoints(base: &Url) -> Option<(Url, Url, Url)> {
    let at = |path: &str| Url::parse(&format!("{}{path}", base.as_str().trim_end_matches('/'))).ok();
    let host = base.host_str()?;
    let api = if host == "github.com" || host.ends_with(".ghe.com") {
        Url::parse(&format!("https://api.{host}")).ok()?
    } else {
        at("/api/v3")?
    };
    Some((at("/login/oauth/authorize")?, at("/login/oauth/access_token")?, api))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_github_has_its_endpoints_where_it_documents_them() {
        for (base, authorize, token, api) in [
            (
                "https://github.com",
                "https://github.com/login/oauth/authorize",
                "https://github.com/login/oauth/access_token",
                "https://api.github.com/",
            ),
            (
                "https://acme.ghe.com/",
                "https://acme.ghe.com/login/oauth/authorize",
                "https://acme.ghe.com/login/oauth/access_token",
                "https://api.acme.ghe.com/",
            ),
            (
                "https://git.example.com",
                "https://git.example.com/login/oauth/authorize",
                "https://git.example.com/login/oauth/access_token",
                "https://git.example.com/api/v3",
            ),
        ] {
            let found = endpoints(&Url::parse(base).unwrap()).unwrap();
            assert_eq!((found.0.as_str(), found.1.as_str(), found.2.as_str()), (authorize, token, api));
        }
    }
}
