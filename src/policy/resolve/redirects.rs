//! Where clients may be sent back to.

use super::context::Context;
use crate::diagnostics::Diagnostic;
use crate::oauth::redirect::{self, AllowedRedirect, RedirectError, RedirectUri};
use crate::oauth::url::ResourceUrl;
use crate::policy::codes;
use crate::policy::document::authorization_server::RedirectsDocument;

/// Where the list stands.
const POINTER: &str = "/authorization_server/redirects";

/// Resolves the one list of a service at `resource`.
pub fn redirects(
    context: &mut Context<'_>,
    written: &RedirectsDocument,
    resource: Option<&ResourceUrl>,
) -> Vec<AllowedRedirect> {
    let before = context.report.errors();
    let mut list = Vec::new();
    for name in written.known.iter().flatten() {
        // The schema knows the names, and a test reads the URIs.
        let uris = redirect::known(name).unwrap_or_default().iter();
        list.extend(uris.filter_map(|uri| RedirectUri::parse(uri).ok()).map(AllowedRedirect::AnyPort));
    }
    for (index, uri) in written.exact.iter().flatten().enumerate() {
        let pointer = format!("{POINTER}/exact/{index}");
        list.extend(self::uri(context, uri, resource, &pointer).map(AllowedRedirect::Exact));
    }
    if written.loopback == Some(true) {
        list.push(AllowedRedirect::AnyLoopback);
    }
    for (index, pattern) in written.hosts.iter().flatten().enumerate() {
        list.extend(suffix(context, pattern, &format!("{POINTER}/hosts/{index}")).map(AllowedRedirect::HostSuffix));
    }
    if list.is_empty() && context.report.errors() == before {
        let diagnostic = Diagnostic::error(codes::NO_REDIRECT, "no client could be sent back after sign-in");
        let help = "name well-known clients (`known: [claude]`) or URIs (`exact`), or write `loopback: true`";
        context.push_at_key(diagnostic.help(help), POINTER);
    }
    list
}

/// Reads one redirect URI, or reports which rule it breaks.
pub fn uri(
    context: &mut Context<'_>,
    written: &str,
    resource: Option<&ResourceUrl>,
    pointer: &str,
) -> Option<RedirectUri> {
    let parsed = RedirectUri::parse(written).and_then(|uri| {
        if resource.is_some_and(|resource| uri.leads_to(resource.as_str())) { Err(RedirectError::Own) } else { Ok(uri) }
    });
    match parsed {
        Ok(uri) => Some(uri),
        Err(error) => {
            let help = match error {
                RedirectError::Wildcard => "write the whole URI; subdomains go under `hosts`",
                RedirectError::PlainHttp => "write https",
                RedirectError::Own => "name where the client waits; the gateway's own callbacks need no entry",
                RedirectError::Scheme | RedirectError::Malformed => {
                    "write for example `https://app.example.com/cb`, `http://127.0.0.1/cb` or `com.example.app:/cb`"
                }
                _ => "write the URI exactly as the client sends it",
            };
            context.push(Diagnostic::error(codes::UNSAFE_REDIRECT, error.to_string()).help(help), pointer);
            None
        }
    }
}

/// `*.example.com` as `.example.com`: never below a name under which anybody can have one.
fn suffix(context: &mut Context<'_>, written: &str, pointer: &str) -> Option<String> {
    let name = written.strip_prefix("*.").filter(|name| {
        let clean = url::Url::parse(&format!("https://{name}/")).is_ok_and(|url| url.host_str() == Some(name));
        // A redirect URI whose host ends in a dot is none.
        clean
            && !name.contains('*')
            && !name.ends_with('.')
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
    });
    let Some(name) = name else {
        let diagnostic = Diagnostic::error(codes::UNSAFE_REDIRECT, format!("`{written}` is no domain"));
        context.push(diagnostic.help("write `*.` and a domain in lower case: `*.example.com`"), pointer);
        return None;
    };
    // The Public Suffix List: `com`, but `github.io` as well.
    if name.parse::<std::net::IpAddr>().is_ok() || psl::domain_str(name).is_none() {
        let message = format!("anybody can have a name below `{name}`");
        let diagnostic = Diagnostic::error(codes::UNSAFE_REDIRECT, message);
        context.push(diagnostic.help("name a domain of your own: `*.example.com`"), pointer);
        return None;
    }
    Some(format!(".{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_redirect_uris_of_every_known_client_are_ones() {
        for name in redirect::known_clients() {
            let uris = redirect::known(name).unwrap();
            assert!(!uris.is_empty(), "{name}");
            for uri in uris {
                assert!(RedirectUri::parse(uri).is_ok(), "{name}: {uri}");
            }
        }
    }
}
