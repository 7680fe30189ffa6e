//! URLs that an operator writes, each kind as a type whose constructor applies its rules.
//!
//! The `url` crate repairs what it can (strips tabs, drops default ports, reads `0x7f.1` as an address). A security
//! gateway must not: what is repaired here may mean something else elsewhere. So the text is judged first, and a URL
//! whose host the parser would change is refused. Nothing here resolves a name.

mod text;

use std::net::IpAddr;

use url::{Host, Url};

pub use text::{UrlError, UrlErrorKind};

/// An issuer identifier (RFC 8414 section 2): https, or http on loopback, without query and fragment.
///
/// Kept byte for byte as written, for `iss` is compared by simple string comparison (RFC 7519 section 4.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IssuerUrl {
    written: String,
    url: Url,
}

impl IssuerUrl {
    /// Reads an issuer.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(written: &str) -> Result<Self, UrlError> {
        let url = text::parse(written)?;
        text::https_or_loopback(&url)?;
        if url.query().is_some() {
            return Err(UrlErrorKind::Query.into());
        }
        Ok(Self { written: written.to_owned(), url })
    }

    /// The issuer as written, for comparison with `iss`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The parsed form, for fetching.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where OpenID Connect Discovery section 4 publishes the metadata of this issuer.
    #[must_use]
    pub fn discovery_url(&self) -> Url {
        let mut url = self.url.clone();
        let path = format!("{}/.well-known/openid-configuration", self.url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }
}

/// An endpoint that the gateway or a client contacts (`public_url`, JWKS, introspection): https with a host name, or http
/// on loopback.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl(Url);

impl EndpointUrl {
    /// Reads an endpoint.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(written: &str) -> Result<Self, UrlError> {
        let url = text::parse(written)?;
        text::https_or_loopback(&url)?;
        Ok(Self(url))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The parsed form.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Scheme, host and port, without a default port and without a trailing slash (RFC 6454 section 6.2).
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Whether the URL is a bare origin: no path and no query.
    #[must_use]
    pub fn is_origin(&self) -> bool {
        self.0.path() == "/" && self.0.query().is_none()
    }

    /// Whether the host is `localhost`, `127.0.0.1` or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        text::is_loopback(&self.0)
    }
}

/// Where an MCP server runs. Addresses are fine here; plain http off loopback deserves a warning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamUrl(Url);

impl UpstreamUrl {
    /// Reads an upstream.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(written: &str) -> Result<Self, UrlError> {
        text::parse(written).map(Self)
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The parsed form.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether the connection is secured.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Plain http to another machine: identity headers and answers can be read and changed on the way.
    #[must_use]
    pub fn is_plain_off_loopback(&self) -> bool {
        let loopback_address = self.address().is_some_and(|address| address.is_loopback());
        !self.is_https() && !loopback_address && !text::is_loopback(&self.0)
    }

    /// https to an address has no name that a certificate could be checked against: it needs a `server_name`.
    #[must_use]
    pub fn needs_server_name(&self) -> bool {
        self.is_https() && self.address().is_some()
    }

    /// The host when it is an address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// The host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, 80 or 443 when none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// The `Host` header: host, and port unless it is the scheme's default (RFC 9110 section 7.2).
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0.authority()
    }

    /// Path and query, as sent in the request line.
    #[must_use]
    pub fn target(&self) -> String {
        match self.0.query() {
            Some(query) => format!("{}?{query}", self.0.path()),
            None => self.0.path().to_owned(),
        }
    }
}

/// The canonical URL of a protected resource (RFC 8707 section 2, RFC 9728 section 1.2): lower-case scheme and host, no
/// default port, no trailing slash, never a bare origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceUrl {
    written: String,
    path_at: usize,
}

impl ResourceUrl {
    /// The resource at `path` of the installation whose public URL is `public`. Trailing slashes of `path` are dropped.
    ///
    /// # Errors
    /// The path is empty or not one that every client would send unchanged.
    pub fn new(public: &EndpointUrl, path: &str) -> Result<Self, UrlError> {
        if !path.starts_with('/') || path.contains(['?', '#']) {
            return Err(UrlErrorKind::Path.into());
        }
        Self::parse(&format!("{}{path}", public.origin()))
    }

    /// Reads a resource URL.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(written: &str) -> Result<Self, UrlError> {
        let url = text::parse(written)?;
        text::https_or_loopback(&url)?;
        if url.query().is_some() {
            return Err(UrlErrorKind::Query.into());
        }
        let path = url.path().trim_end_matches('/');
        if path.is_empty() {
            return Err(UrlErrorKind::BareOrigin.into());
        }
        if path.contains("//") || path.contains('%') {
            return Err(UrlErrorKind::Path.into());
        }
        let origin = url.origin().ascii_serialization();
        Ok(Self { written: format!("{origin}{path}"), path_at: origin.len() })
    }

    /// The canonical text, compared with `aud` byte for byte.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The path, without a trailing slash.
    #[must_use]
    pub fn path(&self) -> &str {
        self.written.split_at_checked(self.path_at).map_or("", |(_, path)| path)
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.written.split_at_checked(self.path_at).map_or("", |(origin, _)| origin)
    }

    /// The path of the metadata document: the well-known part goes between host and path (RFC 9728 section 3.1).
    #[must_use]
    pub fn metadata_path(&self) -> String {
        format!("/.well-known/oauth-protected-resource{}", self.path())
    }

    /// The URL of the metadata document.
    #[must_use]
    pub fn metadata_url(&self) -> String {
        format!("{}{}", self.origin(), self.metadata_path())
    }
}

#[cfg(test)]
mod tests {
    use super::{EndpointUrl, IssuerUrl, ResourceUrl, UpstreamUrl, UrlErrorKind};

    #[test]
    fn an_issuer_is_kept_as_written() {
        for written in [
            "https://ID.example.com",
            "https://id.example.com/",
            "https://id.example.com:443/realms/a",
            "http://localhost:8080/x",
        ] {
            assert_eq!(IssuerUrl::parse(written).unwrap().as_str(), written);
        }
        let discovery = |written: &str| IssuerUrl::parse(written).unwrap().discovery_url().to_string();
        assert_eq!(discovery("https://a.example"), "https://a.example/.well-known/openid-configuration");
        assert_eq!(discovery("https://a.example/"), "https://a.example/.well-known/openid-configuration");
        assert_eq!(discovery("https://a.example/t/v2.0"), "https://a.example/t/v2.0/.well-known/openid-configuration");
    }

    #[test]
    fn endpoints_are_https_with_a_name_or_http_on_loopback() {
        for written in [
            "https://id.example.com",
            "https://keycloak/realms/a",
            "HTTPS://ID.Example.COM:8443/x?y=1",
            "http://localhost",
            "http://127.0.0.1:8080/",
            "http://[::1]:8080/",
            "https://localhost:8443",
            "https://xn--bcher-kva.example/",
        ] {
            assert!(EndpointUrl::parse(written).is_ok(), "{written}");
        }
        use UrlErrorKind as K;
        for (written, kind) in [
            ("", K::Empty),
            ("   ", K::Character),
            ("id.example.com", K::Scheme),
            ("//id.example.com", K::Scheme),
            ("https:id.example.com", K::Scheme),
            ("https:/id.example.com", K::Scheme),
            ("ftp://id.example.com", K::Scheme),
            ("javascript:alert(1)", K::Scheme),
            ("https://", K::Host),
            ("https:///id.example.com", K::Host),
            ("https://?x", K::Host),
            ("https://:443/", K::Host),
            ("http://id.example.com", K::PlainHttp),
            ("http://localhost.example.com", K::PlainHttp),
            ("http://127.0.0.1.example.com", K::PlainHttp),
            ("http://127.0.0.2", K::Address),
            ("https://10.0.0.1/", K::Address),
            ("https://8.8.8.8/", K::Address),
            ("https://[2606:4700::1111]/", K::Address),
            ("https://[::ffff:127.0.0.1]/", K::Address),
            ("https://169.254.169.254/latest", K::Address),
            ("http://0x7f.0.0.1/", K::Spelling),
            ("http://0177.0.0.1/", K::Spelling),
            ("http://2130706433/", K::Spelling),
            ("http://127.1/", K::Spelling),
            ("http://0x7f000001/", K::Spelling),
            ("http://[0:0:0:0:0:0:0:1]/", K::Spelling),
            ("http://127.0.0.1./", K::TrailingDot),
            ("http://localhost./", K::TrailingDot),
            ("https://id.example.com./", K::TrailingDot),
            ("https://user@id.example.com", K::UserInfo),
            ("https://user:pw@id.example.com", K::UserInfo),
            ("https://@id.example.com", K::UserInfo),
            ("https://id.example.com/#f", K::Fragment),
            ("https://id.example.com#", K::Fragment),
            ("https://id.example.com\\@evil.example", K::Character),
            (" https://id.example.com", K::Character),
            ("https://id.example.com ", K::Character),
            ("https://id.exa\tmple.com", K::Character),
            ("https://id.example.com/\n", K::Character),
            ("https://id.example.com/\u{0}", K::Character),
            ("https://id.example.com/\u{7f}", K::Character),
            ("https://b\u{fc}cher.example", K::Character),
            ("https://id\u{3002}example", K::Character),
            ("https://i%64.example.com", K::Host),
            ("https://[fe80::1%25eth0]/", K::Host),
            ("https://[::1", K::Host),
            ("https://id.example.com:", K::Port),
            ("https://id.example.com:0", K::Port),
            ("https://id.example.com:0443", K::Port),
            ("https://id.example.com:99999", K::Port),
            ("https://id.example.com:x", K::Port),
            ("https://id.example.com/a/../b", K::Path),
            ("https://id.example.com/a/%2e%2E/b", K::Path),
            ("https://id.example.com/.", K::Path),
            ("https://id..example.com/", K::Host),
            ("https://id_x.*.com/", K::Host),
        ] {
            assert_eq!(EndpointUrl::parse(written).unwrap_err().kind, kind, "{written:?}");
            assert_eq!(IssuerUrl::parse(written).unwrap_err().kind, kind, "{written:?}");
        }
        assert!(EndpointUrl::parse("https://id.example.com/?a=b").is_ok());
        assert_eq!(IssuerUrl::parse("https://id.example.com/?a=b").unwrap_err().kind, K::Query);
    }

    #[test]
    fn upstreams_may_be_addresses() {
        let upstream = |written: &str| UpstreamUrl::parse(written).unwrap();
        assert!(!upstream("http://127.0.0.1:9000/mcp").is_plain_off_loopback());
        assert!(!upstream("http://localhost:9000/mcp").is_plain_off_loopback());
        assert!(!upstream("https://10.0.0.8/mcp").is_plain_off_loopback());
        assert!(upstream("http://10.0.0.8/mcp").is_plain_off_loopback());
        assert!(upstream("http://server/mcp").is_plain_off_loopback());
        assert!(upstream("https://10.0.0.8/mcp").needs_server_name());
        assert!(upstream("https://[fd00::1]/mcp").needs_server_name());
        assert!(!upstream("https://server/mcp").needs_server_name());
        assert!(!upstream("http://10.0.0.8/mcp").needs_server_name());
        for written in ["http://0x0a.0.0.1/", "http://u@10.0.0.1/", "http://10.0.0.1/#x", "10.0.0.1:80", "unix:///x"] {
            assert!(UpstreamUrl::parse(written).is_err(), "{written}");
        }
        let it = upstream("https://[fd00::1]:8443/a/mcp?x=1");
        assert_eq!(
            (it.host(), it.port(), it.authority(), it.target().as_str()),
            ("fd00::1", 8443, "[fd00::1]:8443", "/a/mcp?x=1")
        );
        let it = upstream("http://Server");
        assert_eq!((it.host(), it.port(), it.authority(), it.target().as_str()), ("server", 80, "server", "/"));
    }

    #[test]
    fn a_resource_is_canonical_and_never_a_bare_origin() {
        let public = EndpointUrl::parse("HTTPS://MCP.Example.com:443/").unwrap();
        for path in ["/github/mcp", "/github/mcp/"] {
            let resource = ResourceUrl::new(&public, path).unwrap();
            assert_eq!(resource.as_str(), "https://mcp.example.com/github/mcp");
            assert_eq!(resource.path(), "/github/mcp");
            assert_eq!(resource.origin(), "https://mcp.example.com");
            assert_eq!(
                resource.metadata_url(),
                "https://mcp.example.com/.well-known/oauth-protected-resource/github/mcp"
            );
        }
        assert_eq!(ResourceUrl::parse("http://localhost:80/MCP/").unwrap().as_str(), "http://localhost/MCP");
        for path in ["", "/", "//", "mcp", "/a/../b", "/a?b", "/a#b", "/a//b", "/a%2fb", "/a b", "@evil.example/"] {
            assert!(ResourceUrl::new(&public, path).is_err(), "{path:?}");
        }
        assert_eq!(ResourceUrl::parse("https://mcp.example.com/").unwrap_err().kind, UrlErrorKind::BareOrigin);
    }

    #[test]
    fn errors_say_what_and_what_to_do() {
        let error = EndpointUrl::parse("http://id.example.com").unwrap_err();
        assert!(error.to_string().contains("https"), "{error}");
        assert!(!error.help().is_empty());
    }
}
