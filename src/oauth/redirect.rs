//! Redirect URIs and the rule by which a presented one is accepted (RFC 8252, RFC 9700 section 4.1.3).
//!
//! Comparison is byte for byte; the one variance, the port on loopback, must be granted by the list's entry.

use url::{Host, Url};

use super::address::{AddressClass, classify};

/// Why a redirect URI is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// Nothing, or only whitespace, is written.
    #[error("the redirect URI is empty")]
    Empty,
    /// Whitespace, a control character, a backslash or a character outside ASCII.
    #[error("the redirect URI contains whitespace, a control character, a backslash or a non-ASCII character")]
    Character,
    /// `#` (RFC 6749 section 3.1.2).
    #[error("the redirect URI contains a fragment")]
    Fragment,
    /// `*`: redirect URIs are exact.
    #[error("the redirect URI contains a wildcard")]
    Wildcard,
    /// User name or password.
    #[error("the redirect URI contains a user name or password")]
    UserInfo,
    /// Not an absolute URI, or one that parsers read differently.
    #[error("the redirect URI is not a well-formed absolute URI")]
    Malformed,
    /// Plain http to another machine.
    #[error("a redirect URI with plain http must be on localhost, 127.0.0.1 or [::1]")]
    PlainHttp,
    /// A private, link-local or otherwise special address.
    #[error("the redirect URI points to a private, link-local or special address")]
    Address,
    /// A scheme that browsers execute or that names no application.
    #[error("the scheme of the redirect URI is not accepted")]
    Scheme,
    /// The gateway's own origin: a code would land on one of its own pages.
    #[error("the redirect URI leads to the gateway itself")]
    Own,
    /// The list does not contain it.
    #[error("the redirect URI is not registered")]
    NotListed,
}

/// What kind of redirect URI it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// https to a name or a public address.
    Https,
    /// http or https to an IP literal of loopback (RFC 8252 section 7.3).
    LoopbackAddress,
    /// http or https to `localhost` (RFC 8252 section 8.3).
    Localhost,
    /// A private-use scheme (RFC 8252 section 7.1).
    PrivateUse,
}

/// One redirect URI, byte for byte as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedirectUri {
    written: String,
    kind: Kind,
}

/// Schemes that are never an application's own: they run, read or relay something.
const REFUSED_SCHEMES: [&str; 20] = [
    "about",
    "blob",
    "cid",
    "chrome",
    "data",
    "feed",
    "file",
    "filesystem",
    "ftp",
    "intent",
    "jar",
    "javascript",
    "mailto",
    "mid",
    "resource",
    "tel",
    "vbscript",
    "view-source",
    "ws",
    "wss",
];

impl RedirectUri {
    /// Reads a redirect URI: https, http on loopback, or a private-use scheme.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(written: &str) -> Result<Self, RedirectError> {
        if written.trim().is_empty() {
            return Err(RedirectError::Empty);
        }
        if !written.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(RedirectError::Character);
        }
        if written.contains('#') {
            return Err(RedirectError::Fragment);
        }
        if written.contains('*') {
            return Err(RedirectError::Wildcard);
        }
        let (scheme, rest) = written.split_once(':').ok_or(RedirectError::Malformed)?;
        let kind = if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") {
            web_kind(written, rest)?
        } else {
            private_use(scheme, rest)?
        };
        Ok(Self { written: written.to_owned(), kind })
    }

    /// The URI as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The host of a web address; an application's own scheme has none that means anything.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        if self.kind == Kind::PrivateUse {
            return None;
        }
        let (_, rest) = self.written.split_once("://")?;
        let authority = rest.split(['/', '?']).next()?;
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => Some(host),
            _ => Some(authority),
        }
    }

    /// What a content security policy calls the place that it leads to: an origin, or the scheme of an application.
    #[must_use]
    pub fn csp_source(&self) -> String {
        match Url::parse(&self.written) {
            Ok(url) if self.kind != Kind::PrivateUse => url.origin().ascii_serialization(),
            _ => self.written.split_once(':').map(|(scheme, _)| format!("{scheme}:")).unwrap_or_default(),
        }
    }

    /// Whether it has the origin of `url`: scheme, host and port. The names of this machine are one host.
    #[must_use]
    pub fn leads_to(&self, url: &str) -> bool {
        let (Ok(own), Ok(other)) = (Url::parse(&self.written), Url::parse(url)) else { return false };
        let is_here = |url: &Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let here = is_here(&own) && is_here(&other) && own.scheme() == other.scheme();
        self.kind != Kind::PrivateUse
            && (own.origin() == other.origin() || here && own.port_or_known_default() == other.port_or_known_default())
    }

    /// Whether it is on this machine: http or https to `localhost`, `127.0.0.1` or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        matches!(self.kind, Kind::LoopbackAddress | Kind::Localhost)
    }
}

/// Judges an http or https URI. The parser must read the text exactly as it stands, up to a missing final slash.
fn web_kind(written: &str, rest: &str) -> Result<Kind, RedirectError> {
    let authority =
        rest.strip_prefix("//").ok_or(RedirectError::Malformed)?.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(RedirectError::UserInfo);
    }
    let url = Url::parse(written).or(Err(RedirectError::Malformed))?;
    let read = url.as_str();
    let read_without_slash = read.strip_suffix('/').filter(|_| url.path() == "/" && url.query().is_none());
    if read != written && read_without_slash != Some(written) {
        return Err(RedirectError::Malformed);
    }
    let (kind, class) = match url.host().ok_or(RedirectError::Malformed)? {
        Host::Domain("localhost") => (Kind::Localhost, AddressClass::Loopback),
        Host::Domain(name) if name.ends_with('.') => return Err(RedirectError::Malformed),
        Host::Domain(_) => (Kind::Https, AddressClass::Public),
        Host::Ipv4(address) => (Kind::LoopbackAddress, classify(address.into())),
        Host::Ipv6(address) => (Kind::LoopbackAddress, classify(address.into())),
    };
    let canonical_loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match class {
        AddressClass::Loopback if canonical_loopback => Ok(kind),
        AddressClass::Public if url.scheme() == "https" => Ok(Kind::Https),
        AddressClass::Public => Err(RedirectError::PlainHttp),
        _ => Err(RedirectError::Address),
    }
}

/// Judges a private-use URI: a scheme of RFC 3986 section 3.1 and something after it.
fn private_use(scheme: &str, rest: &str) -> Result<Kind, RedirectError> {
    let well_formed = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if !well_formed || rest.trim_matches('/').is_empty() {
        return Err(RedirectError::Malformed);
    }
    if REFUSED_SCHEMES.iter().any(|refused| refused.eq_ignore_ascii_case(scheme)) {
        return Err(RedirectError::Scheme);
    }
    let authority = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next());
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err(RedirectError::UserInfo);
    }
    Ok(Kind::PrivateUse)
}

/// One entry of a list of redirect URIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedRedirect {
    /// This URI, byte for byte.
    Exact(RedirectUri),
    /// This URI with any port, if it is http on loopback; otherwise byte for byte. RFC 8252 section 7.3 says so of IP
    /// literals; clients register `http://localhost/callback` and come back on a port of their own all the same, and the
    /// name leads to this machine as they do.
    AnyPort(RedirectUri),
    /// Any URI on loopback, whatever its port and path.
    AnyLoopback,
    /// Any https URI on the host of this suffix's own or below it, such as `.example.com`.
    HostSuffix(String),
}

impl AllowedRedirect {
    fn permits(&self, presented: &RedirectUri) -> bool {
        match self {
            Self::Exact(listed) => listed.written == presented.written,
            Self::AnyPort(listed) => {
                listed.written == presented.written
                    || (listed.is_loopback()
                        && presented.is_loopback()
                        && listed.written.starts_with("http:")
                        && without_port(&listed.written) == without_port(&presented.written))
            }
            Self::AnyLoopback => presented.is_loopback(),
            Self::HostSuffix(suffix) => {
                presented.kind == Kind::Https && presented.host().is_some_and(|host| host.ends_with(suffix.as_str()))
            }
        }
    }
}

/// A URI on loopback around its port: scheme with host, and what follows the authority.
fn without_port(written: &str) -> Option<(&str, &str)> {
    let authority_at = written.find("//")? + 2;
    let (_, rest) = written.split_at_checked(authority_at)?;
    let authority_end = authority_at + rest.find(['/', '?']).unwrap_or(rest.len());
    let (head, tail) = written.split_at_checked(authority_end)?;
    let host = match head.rsplit_once(':') {
        // The colons of `[::1]` are not a port's.
        Some((host, port)) if !port.contains(']') && host.len() > authority_at => host,
        _ => head,
    };
    Some((host, tail))
}

/// Redirect URIs of well-known clients, by the name that policies use. Version 1, of 2026-11.
#[must_use]
pub fn known(client: &str) -> Option<&'static [&'static str]> {
    KNOWN.iter().find(|(name, _)| *name == client).map(|(_, uris)| *uris)
}

/// The names that [`known`] knows.
pub fn known_clients() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

/// What these clients register, as their documentation and reports of their users show. A port of this machine may vary.
const KNOWN: [(&str, &[&str]); 6] = [
    (
        "claude",
        &[
            "https://claude.ai/api/mcp/auth_callback",
            "https://claude.com/api/mcp/auth_callback",
            "http://localhost/callback",
            "http://127.0.0.1/callback",
        ],
    ),
    ("chatgpt", &["https://chatgpt.com/connector_platform_oauth_redirect"]),
    (
        "cursor",
        &[
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
            "http://localhost:8787/callback",
        ],
    ),
    (
        "vscode",
        &[
            "http://127.0.0.1/",
            "http://127.0.0.1",
            "http://localhost/",
            "http://localhost",
            "https://vscode.dev/redirect",
            "https://insiders.vscode.dev/redirect",
        ],
    ),
    (
        "inspector",
        &[
            "http://localhost:6274/oauth/callback",
            "http://localhost:6274/oauth/callback/debug",
            "http://127.0.0.1:6276/oauth/callback",
        ],
    ),
    ("mcp-remote", &["http://localhost/oauth/callback", "http://127.0.0.1/oauth/callback"]),
];

/// Accepts a presented redirect URI if an entry of the list permits it.
///
/// # Errors
/// It is no acceptable redirect URI at all, or the list does not permit it.
pub fn accept(list: &[AllowedRedirect], presented: &str) -> Result<RedirectUri, RedirectError> {
    let presented = RedirectUri::parse(presented)?;
    if list.iter().any(|entry| entry.permits(&presented)) { Ok(presented) } else { Err(RedirectError::NotListed) }
}

#[cfg(test)]
mod tests {
    use super::{AllowedRedirect, RedirectError, RedirectUri, accept};

    fn uri(written: &str) -> RedirectUri {
        RedirectUri::parse(written).unwrap()
    }

    #[test]
    fn i01_what_leads_to_the_gateway_itself_is_told() {
        let gateway = "https://mcp.example.com/notes/mcp";
        for (written, own) in [
            ("https://mcp.example.com/notes/mcp/callback/okta", true),
            ("https://mcp.example.com", true),
            ("https://mcp.example.com:8443/cb", false),
            ("https://ci.example.com/cb", false),
            ("mcp.example.com:/cb", false),
        ] {
            assert_eq!(uri(written).leads_to(gateway), own, "{written}");
        }
        for here in ["http://127.0.0.1:8080/x", "http://localhost:8080/x", "http://[::1]:8080/x"] {
            assert!(uri(here).leads_to("http://127.0.0.1:8080/mcp"), "{here}");
        }
        assert!(!uri("https://localhost:8080/x").leads_to("http://127.0.0.1:8080/mcp"));
        assert!(!uri("http://127.0.0.1:8081/x").leads_to("http://127.0.0.1:8080/mcp"));
    }

    #[test]
    fn https_loopback_and_private_use_are_redirect_uris() {
        for written in [
            "https://ci.example.com/cb",
            "https://ci.example.com",
            "https://ci.example.com:8443/cb?x=1",
            "https://8.8.8.8/cb",
            "http://localhost:3000/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:9/cb",
            "https://localhost:3000/cb",
            "cursor://anysphere.cursor-retrieval/oauth/cb",
            "com.example.app:/cb",
            "vscode://vscode.github-authentication/did-authenticate",
        ] {
            assert_eq!(uri(written).as_str(), written);
        }
    }

    #[test]
    fn e07_everything_else_is_refused() {
        use RedirectError as E;
        for (written, error) in [
            ("", E::Empty),
            (" \t ", E::Empty),
            ("https://a.example/c b", E::Character),
            ("https://a.example/cb\n", E::Character),
            ("https://a.example\\@evil.example/", E::Character),
            ("https://b\u{fc}cher.example/", E::Character),
            ("https://a.example/cb#x", E::Fragment),
            ("https://a.example/cb#", E::Fragment),
            ("com.example.app:/cb#x", E::Fragment),
            ("https://*.example/cb", E::Wildcard),
            ("http://localhost:*/cb", E::Wildcard),
            ("https://a.example/*", E::Wildcard),
            ("https://u@a.example/cb", E::UserInfo),
            ("https://a.example:pw@evil.example/cb", E::UserInfo),
            ("app://u:p@host/cb", E::UserInfo),
            ("http://a.example/cb", E::PlainHttp),
            ("http://localhost.evil.example/cb", E::PlainHttp),
            ("http://127.0.0.1.evil.example/cb", E::PlainHttp),
            ("http://8.8.8.8/cb", E::PlainHttp),
            ("https://10.0.0.1/cb", E::Address),
            ("https://192.168.0.1/cb", E::Address),
            ("https://169.254.169.254/cb", E::Address),
            ("http://169.254.169.254/cb", E::Address),
            ("https://[fe80::1]/cb", E::Address),
            ("https://[fd00::1]/cb", E::Address),
            ("https://[::ffff:a00:1]/cb", E::Address),
            ("https://100.64.0.1/cb", E::Address),
            ("http://127.0.0.2/cb", E::Address),
            ("http://0.0.0.0/cb", E::Address),
            ("http://0x7f.1/cb", E::Malformed),
            ("http://2130706433/cb", E::Malformed),
            ("http://localhost./cb", E::Malformed),
            ("https://a.example./cb", E::Malformed),
            ("HTTPS://a.example/cb", E::Malformed),
            ("https://A.example/cb", E::Malformed),
            ("https://a.example:443/cb", E::Malformed),
            ("https://a.example/x/../cb", E::Malformed),
            ("https:a.example/cb", E::Malformed),
            ("https:///a.example/cb", E::Malformed),
            ("/cb", E::Malformed),
            ("//a.example/cb", E::Malformed),
            ("a.example", E::Malformed),
            ("app:", E::Malformed),
            ("app://", E::Malformed),
            ("1app:/cb", E::Malformed),
            ("javascript:alert(1)", E::Scheme),
            ("JavaScript://a/%0aalert(1)", E::Scheme),
            ("data:text/html,x", E::Scheme),
            ("file:///etc/passwd", E::Scheme),
            ("vbscript:x", E::Scheme),
            ("ws://a.example/", E::Scheme),
        ] {
            assert_eq!(RedirectUri::parse(written).unwrap_err(), error, "{written:?}");
        }
    }

    #[test]
    fn e03_comparison_is_byte_for_byte() {
        let list = [
            AllowedRedirect::Exact(uri("https://ci.example.com/cb")),
            AllowedRedirect::Exact(uri("http://127.0.0.1:3000/cb")),
            AllowedRedirect::Exact(uri("com.example.app:/cb")),
        ];
        for presented in ["https://ci.example.com/cb", "http://127.0.0.1:3000/cb", "com.example.app:/cb"] {
            assert_eq!(accept(&list, presented).unwrap().as_str(), presented);
        }
        for presented in [
            "https://ci.example.com/cb/",
            "https://ci.example.com/CB",
            "https://ci.example.com/cb?x=1",
            "https://ci.example.com/c%62",
            "https://ci.example.com:8443/cb",
            "https://ci.example.com.evil.example/cb",
            "http://127.0.0.1:3001/cb",
            "http://[::1]:3000/cb",
            "com.example.app:/cb2",
            "com.example.app2:/cb",
        ] {
            assert_eq!(accept(&list, presented).unwrap_err(), RedirectError::NotListed, "{presented}");
        }
    }

    #[test]
    fn e03_the_port_varies_on_loopback_literals_that_say_so() {
        let list =
            [AllowedRedirect::AnyPort(uri("http://127.0.0.1/cb")), AllowedRedirect::AnyPort(uri("http://[::1]:1/cb"))];
        for presented in
            ["http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", "http://[::1]/cb", "http://[::1]:65535/cb"]
        {
            assert!(accept(&list, presented).is_ok(), "{presented}");
        }
        for presented in [
            "http://127.0.0.1:49152/other",
            "http://127.0.0.1:49152/cb?x=1",
            "https://127.0.0.1:49152/cb",
            "http://localhost:49152/cb",
        ] {
            assert_eq!(accept(&list, presented).unwrap_err(), RedirectError::NotListed, "{presented}");
        }
        let names = [
            AllowedRedirect::AnyPort(uri("https://a.example/cb")),
            AllowedRedirect::AnyPort(uri("http://localhost/cb")),
        ];
        assert!(accept(&names, "https://a.example/cb").is_ok());
        assert!(accept(&names, "http://localhost/cb").is_ok());
        assert!(accept(&names, "https://a.example:8443/cb").is_err(), "a name's port never varies");
        assert!(accept(&names, "http://localhost:1/cb").is_ok(), "but that of this machine's own name");
        for other in ["http://127.0.0.1:1/cb", "https://localhost:1/cb", "http://localhost:1/cb2"] {
            assert!(accept(&names, other).is_err(), "{other}");
        }
    }

    #[test]
    fn e03_a_private_use_uri_is_exact_whatever_its_entry_grants() {
        for list in [
            [AllowedRedirect::Exact(uri("com.example.app:/cb"))],
            [AllowedRedirect::AnyPort(uri("com.example.app:/cb"))],
        ] {
            assert!(accept(&list, "com.example.app:/cb").is_ok());
            for presented in
                ["COM.example.app:/cb", "com.example.app:/cb/", "com.example.app:/cb?x=1", "com.example.app:9/cb"]
            {
                assert_eq!(accept(&list, presented).unwrap_err(), RedirectError::NotListed, "{presented}");
            }
        }
    }

    #[test]
    fn e07_a_list_of_nothing_but_blanks_is_no_list() {
        for list in ["", " ", "\t", " , ", "\n"] {
            for entry in list.split(',') {
                assert_eq!(RedirectUri::parse(entry).unwrap_err(), RedirectError::Empty, "{list:?}");
            }
        }
        assert_eq!(RedirectUri::parse(" https://a.example/cb").unwrap_err(), RedirectError::Character);
    }

    #[test]
    fn any_loopback_means_this_machine_only() {
        let list = [AllowedRedirect::AnyLoopback];
        for presented in ["http://localhost:5000/callback", "http://127.0.0.1:1/", "http://[::1]:1/x"] {
            assert!(accept(&list, presented).is_ok(), "{presented}");
        }
        for presented in ["https://a.example/cb", "app://x/cb", "http://10.0.0.1/cb"] {
            assert!(accept(&list, presented).is_err(), "{presented}");
        }
        assert_eq!(
            accept(&[], "http://localhost/cb").unwrap_err(),
            RedirectError::NotListed,
            "an empty list permits nothing"
        );
    }
}
