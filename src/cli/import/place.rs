//! Where clients find the service, and where the server is.

use super::page::{Note, Page, quoted};
use super::variables::Variables;
use crate::oauth::url::{EndpointUrl, ResourceUrl, UrlErrorKind};

/// Where the server listens behind the gateway, until somebody says otherwise.
const UPSTREAM: &str = "http://127.0.0.1:9000/mcp";
/// Where clients found MCP.
const ENDPOINT: &str = "/mcp";

/// Where clients find the service.
#[derive(Debug)]
pub(super) struct Place {
    /// The origin, when it can be told.
    pub(super) origin: Option<String>,
    /// The path.
    pub(super) path: String,
}

impl Place {
    /// The URL of the service, when it can be told.
    pub(super) fn resource(&self) -> Option<String> {
        self.origin.as_ref().map(|origin| format!("{origin}{}", self.path))
    }
}

/// Writes `public_url`, `route` and `upstream`.
pub(super) fn write(page: &mut Page, variables: &Variables) -> Place {
    let server = address(variables);
    let tls = tls(page, variables);
    let place = match variables.get("MCP_URL") {
        Some(url) => given(page, url),
        None => derived(page, &server, tls),
    };
    if let Some(origin) = &place.origin {
        page.line(format!("public_url: {}", quoted(origin)));
    }
    page.line(format!("route: {{ path: {} }}", quoted(&place.path)));
    let told = format!(
        "the server itself was at {}. Take oauth-mcp-proxy out of it, let it listen where only the gateway reaches it, write that \
         address here, and serve this file where the server was: `portcullis serve --listen ADDRESS:PORT FILE`.",
        quoted(&server)
    );
    page.note(Note::UpstreamMoves, &told);
    page.line(format!("upstream: {{ url: {UPSTREAM} }}"));
    place
}

/// Host and port as the library had them.
fn address(variables: &Variables) -> String {
    let host = variables.get("MCP_HOST").unwrap_or("localhost");
    format!("{host}:{}", variables.get("MCP_PORT").unwrap_or("8080"))
}

/// Whether TLS was meant.
fn tls(page: &mut Page, variables: &Variables) -> bool {
    match (variables.get("HTTPS_CERT_FILE"), variables.get("HTTPS_KEY_FILE")) {
        (Some(certificate), Some(key)) => {
            let told = "HTTPS_CERT_FILE and HTTPS_KEY_FILE: certificate and key belong to the installation. Put this file into \
                        `policies/`, and beside that folder a `portcullis.yaml` with the following lines and the address of your \
                        choice. Remove them here if a load balancer ends TLS.";
            page.note(Note::TlsFiles, told);
            page.line("#   listeners:");
            page.line(format!(
                "#     - {{ address: \"0.0.0.0:8443\", tls: {{ certificate: {}, key: {} }} }}",
                quoted(certificate),
                quoted(key)
            ));
            true
        }
        (None, None) => false,
        (certificate, _) => {
            let (set, unset) = if certificate.is_some() {
                ("HTTPS_CERT_FILE", "HTTPS_KEY_FILE")
            } else {
                ("HTTPS_KEY_FILE", "HTTPS_CERT_FILE")
            };
            let told = format!(
                "{set} is set and {unset} is not, so TLS was off without a word. The gateway refuses one without the other."
            );
            page.note(Note::TlsHalf, &told);
            false
        }
    }
}

/// From MCP_URL.
fn given(page: &mut Page, written: &str) -> Place {
    let (head, path) = match written.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/') {
            Some((authority, path)) => (format!("{scheme}://{authority}"), format!("/{path}")),
            None => (written.to_owned(), String::new()),
        },
        None => (written.to_owned(), String::new()),
    };
    let trimmed = path.trim_end_matches('/');
    let path = if trimmed.ends_with(ENDPOINT) { trimmed.to_owned() } else { format!("{trimmed}{ENDPOINT}") };
    if ResourceUrl::parse(&format!("https://localhost{path}")).is_err() {
        unknown(page, written, "MCP_URL");
        return Place { origin: None, path: ENDPOINT.to_owned() };
    }
    let origin = origin(page, &head, "MCP_URL");
    let tidied = origin.as_ref().is_some_and(|origin| !head.eq_ignore_ascii_case(origin) && !head.starts_with("http:"));
    if tidied || written.ends_with('/') {
        let told = "MCP_URL named its default port or ended in a slash, which made two spellings of one place, such as \
                    `//oauth/token`. The gateway has one.";
        page.note(Note::UrlTidied, told);
    }
    Place { origin, path }
}

/// Without MCP_URL.
fn derived(page: &mut Page, server: &str, tls: bool) -> Place {
    let scheme = if tls { "https" } else { "http" };
    let origin = origin(page, &format!("{scheme}://{server}"), "MCP_HOST and MCP_PORT");
    if origin.is_some() {
        let told = "MCP_URL is not set, so MCP_HOST and MCP_PORT were given out as the address (and the challenge of native mode \
                    held no URL at all). If clients use another address, write it here.";
        page.note(Note::PublicUrlDerived, told);
    }
    Place { origin, path: ENDPOINT.to_owned() }
}

/// The origin of a URL that clients can use, with https where the machine is another.
fn origin(page: &mut Page, written: &str, from: &str) -> Option<String> {
    match EndpointUrl::parse(written) {
        Ok(url) => return Some(url.origin()),
        Err(error) if error.kind == UrlErrorKind::PlainHttp => {
            let secured = EndpointUrl::parse(&written.replacen("http:", "https:", 1)).ok().map(|url| url.origin());
            if let Some(origin) = secured {
                let told = format!(
                    "{from} says plain http, where everybody on the way reads tokens. Written as https: end TLS in a load balancer, \
                     or in the gateway (`listeners` with `tls` in `portcullis.yaml`)."
                );
                page.note(Note::PlainHttp, &told);
                return Some(origin);
            }
        }
        Err(_) => {}
    }
    unknown(page, written, from);
    None
}

fn unknown(page: &mut Page, written: &str, from: &str) {
    let told = format!(
        "{} (from {from}) is no address that clients could check a certificate against. Write the one that they use, such as \
         `public_url: https://mcp.example.com`. Until then the gateway serves this machine alone.",
        quoted(written)
    );
    page.note(Note::PublicUrlUnknown, &told);
}
