//! The rules that all URLs of an operator share, applied to the text before the parser may repair it.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Which rule a URL breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlErrorKind {
    /// Nothing is written.
    Empty,
    /// Whitespace, a control character, a backslash or a character outside ASCII.
    Character,
    /// Neither `http://` nor `https://`.
    Scheme,
    /// No host, or not a host name.
    Host,
    /// A port that is empty, 0, not canonical or too large.
    Port,
    /// User name or password.
    UserInfo,
    /// `#`.
    Fragment,
    /// `?` where none may be.
    Query,
    /// A path with dot segments, or one that different readers would normalise differently.
    Path,
    /// A raw IP address where a name is needed.
    Address,
    /// An address in an unusual spelling, such as `0x7f.1` or `2130706433`.
    Spelling,
    /// A host name that ends in a dot.
    TrailingDot,
    /// Plain http to another machine.
    PlainHttp,
    /// A resource without a path.
    BareOrigin,
}

/// Why a URL is refused. Holds no part of the URL: a password in it must not reach a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.kind.sentence())]
pub struct UrlError {
    /// Which rule it breaks.
    pub kind: UrlErrorKind,
}

impl UrlError {
    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.kind.help()
    }
}

impl From<UrlErrorKind> for UrlError {
    fn from(kind: UrlErrorKind) -> Self {
        Self { kind }
    }
}

impl UrlErrorKind {
    fn sentence(self) -> &'static str {
        match self {
            Self::Empty => "the URL is empty",
            Self::Character => "the URL contains whitespace, a control character, a backslash or a non-ASCII character",
            Self::Scheme => "the URL does not start with `https://` or `http://`",
            Self::Host => "the URL has no valid host",
            Self::Port => "the port is not a number from 1 to 65535 without leading zeros",
            Self::UserInfo => "the URL contains a user name or password",
            Self::Fragment => "the URL contains a fragment",
            Self::Query => "the URL contains a query",
            Self::Path => "the path contains dot segments or an ambiguous spelling",
            Self::Address => "the host is an IP address where a host name is needed",
            Self::Spelling => "the host is an IP address in an unusual spelling",
            Self::TrailingDot => "the host name ends in a dot",
            Self::PlainHttp => "plain `http` is only accepted on loopback; https is needed",
            Self::BareOrigin => "a resource needs a path; a bare origin is not one",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Empty | Self::Scheme | Self::Host => "write a full URL such as `https://id.example.com/realms/main`",
            Self::Character => "write internationalised host names as `xn--...` and percent-encode other characters",
            Self::Port => "leave the port out for the scheme's default",
            Self::UserInfo => "give credentials by reference to an environment variable or a file",
            Self::Fragment => "remove `#` and what follows it",
            Self::Query => "remove `?` and what follows it",
            Self::Path => "write the path as clients will send it, without `.`, `..`, `//` or percent-encoding",
            Self::Address => "use the host name that the certificate names",
            Self::Spelling => "write the address in its usual form, such as `127.0.0.1` or `[::1]`",
            Self::TrailingDot => "remove the dot at the end of the host name",
            Self::PlainHttp => "use `https://`; `http://` works for localhost, 127.0.0.1 and [::1]",
            Self::BareOrigin => "add a path such as `/mcp`",
        }
    }
}

/// Reads an absolute http or https URL whose text means the same to every parser.
pub(super) fn parse(written: &str) -> Result<Url, UrlError> {
    if written.is_empty() {
        return Err(UrlErrorKind::Empty.into());
    }
    if !written.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(UrlErrorKind::Character.into());
    }
    let (scheme, rest) = written.split_once("://").ok_or(UrlErrorKind::Scheme)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(UrlErrorKind::Scheme.into());
    }
    if rest.contains('#') {
        return Err(UrlErrorKind::Fragment.into());
    }
    let (authority, path) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len())).unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(UrlErrorKind::UserInfo.into());
    }
    let host = host_of(authority)?;
    if path.split(['?']).next().is_some_and(has_dot_segment) {
        return Err(UrlErrorKind::Path.into());
    }
    let url = Url::parse(written).or(Err(UrlErrorKind::Host))?;
    same_host(&url, host)?;
    Ok(url)
}

/// The host text of an authority, its port checked.
fn host_of(authority: &str) -> Result<&str, UrlError> {
    let end = match authority.strip_prefix('[') {
        Some(inside) => inside.find(']').ok_or(UrlErrorKind::Host)? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(end).ok_or(UrlErrorKind::Host)?;
    if let Some(port) = port.strip_prefix(':') {
        let number = port.parse::<u16>().or(Err(UrlErrorKind::Port))?;
        // Before the canonical comparison an empty host is the greater mistake.
        if !host.is_empty() && (number == 0 || number.to_string() != port) {
            return Err(UrlErrorKind::Port.into());
        }
    } else if !port.is_empty() {
        return Err(UrlErrorKind::Host.into());
    }
    if host.ends_with('.') {
        return Err(UrlErrorKind::TrailingDot.into());
    }
    if host.is_empty() {
        return Err(UrlErrorKind::Host.into());
    }
    Ok(host)
}

/// The parser must have read the very host that is written, up to letter case.
fn same_host(url: &Url, written: &str) -> Result<(), UrlError> {
    match url.host().ok_or(UrlErrorKind::Host)? {
        Host::Domain(name) if name.eq_ignore_ascii_case(written) && is_host_name(name) => Ok(()),
        Host::Domain(_) => Err(UrlErrorKind::Host.into()),
        Host::Ipv4(address) if address.to_string() == written => Ok(()),
        Host::Ipv6(address) if is_written_as(address, written) => Ok(()),
        Host::Ipv4(_) | Host::Ipv6(_) => Err(UrlErrorKind::Spelling.into()),
    }
}

/// RFC 5952, or the dotted form that the standard library prints for mapped addresses.
fn is_written_as(address: Ipv6Addr, written: &str) -> bool {
    written.eq_ignore_ascii_case(&format!("[{address}]"))
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63 bytes.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Dot segments in every spelling that the parser would remove.
fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    })
}

/// https with a name, or loopback over either scheme.
pub(super) fn https_or_loopback(url: &Url) -> Result<(), UrlError> {
    if is_loopback(url) {
        return Ok(());
    }
    match url.host() {
        Some(Host::Domain(_)) if url.scheme() == "https" => Ok(()),
        Some(Host::Domain(_)) => Err(UrlErrorKind::PlainHttp.into()),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => Err(UrlErrorKind::Address.into()),
        None => Err(UrlErrorKind::Host.into()),
    }
}

/// `localhost`, `127.0.0.1` or `[::1]`, and nothing else.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address == Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == Ipv6Addr::LOCALHOST,
        None => false,
    }
}
