//! The meaning of `upstream`.

use std::time::Duration;

use http::HeaderName;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};

use super::context::Context;
use super::credential::credential;
use crate::diagnostics::Diagnostic;
use crate::engine::service::{DEFAULT_IDENTITY_HEADERS, IdentityHeaders};
use crate::oauth::url::{ResourceUrl, UpstreamUrl, UrlErrorKind};
use crate::policy::codes;
use crate::policy::document::PolicyDocument;
use crate::policy::document::upstream::{IdentityHeadersDocument, UpstreamTlsDocument};
use crate::policy::model::{Der, Upstream};
use crate::policy::tree::escaped;

const RESPONSE: usize = 16 << 20;
const LIST: usize = 4 << 20;
/// Headers that frame, route or describe a message, that the gateway writes itself, or that clients' own go on under: where
/// the gateway has nothing to say, a client would say it.
const TAKEN: [HeaderName; 21] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    USER_AGENT,
    HeaderName::from_static("baggage"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];
/// What headers of the protocol begin with.
const PROTOCOL: &str = "mcp-";

/// Resolves the upstream of the service at `resource`; `defaults` are the connect and read limits of the installation.
pub fn upstream(
    context: &mut Context<'_>,
    document: &PolicyDocument,
    resource: Option<&ResourceUrl>,
    defaults: (Duration, Duration),
) -> Option<Upstream> {
    let written = &document.upstream;
    let url = match UpstreamUrl::parse(&written.url) {
        Err(error) if error.kind == UrlErrorKind::Scheme => {
            let help = "write a full URL such as `http://127.0.0.1:9000/mcp`";
            context.push(Diagnostic::error(codes::UNSAFE_URL, error.to_string()).help(help), "/upstream/url");
            return None;
        }
        parsed => context.url("/upstream/url", parsed)?,
    };
    if url.is_plain_off_loopback() {
        let diagnostic = Diagnostic::warning(
            codes::PLAIN_UPSTREAM,
            "plain HTTP to another machine: what is sent can be read and changed on the way",
        );
        context.push(diagnostic.help("use https, or a proxy on the same machine"), "/upstream/url");
    }
    let tls = tls(context, written.tls.as_ref(), &url);
    let timeouts = written.timeouts.clone().unwrap_or_default();
    let tools = timeouts.tools.iter().flatten().map(|(tool, text)| {
        let pointer = format!("/upstream/timeouts/tools/{}", escaped(tool));
        (tool.clone(), context.duration(Some(text), &pointer, defaults.1))
    });
    let tools = tools.collect();
    let limits = written.limits.as_ref();
    let server_name =
        written.tls.as_ref().and_then(|tls| tls.server_name.clone()).unwrap_or_else(|| url.host().to_owned());
    let credential = self::credential(context, document, (resource, &url));
    let used = credential.as_ref().map_or(AUTHORIZATION, |credential| credential.header.clone());
    let identity_headers = identity_headers(context, written.identity_headers.as_ref(), used);
    let IdentityHeaders { issuer, subject, client, scopes } = &identity_headers;
    let own = [issuer, subject, client, scopes].into_iter().flatten().cloned();
    let own: Vec<HeaderName> = own.chain(credential.iter().map(|credential| credential.header.clone())).collect();
    Some(Upstream {
        server_name,
        ca: tls.ca,
        identity: tls.identity,
        connect: context.duration(timeouts.connect.as_ref(), "/upstream/timeouts/connect", defaults.0),
        read: context.duration(timeouts.read.as_ref(), "/upstream/timeouts/read", defaults.1),
        tools,
        credential,
        identity_headers,
        forward_headers: forward_headers(context, written.forward_headers.as_deref(), &own),
        response_limit: context.size(
            limits.and_then(|limits| limits.response.as_ref()),
            "/upstream/limits/response",
            RESPONSE,
        ),
        list_limit: context.size(limits.and_then(|limits| limits.list.as_ref()), "/upstream/limits/list", LIST),
        url,
    })
}

#[derive(Default)]
struct Tls {
    ca: Option<Vec<Der>>,
    identity: Option<(Vec<Der>, Der)>,
}

fn tls(context: &mut Context<'_>, written: Option<&UpstreamTlsDocument>, url: &UpstreamUrl) -> Tls {
    let named = written.is_some_and(|tls| tls.server_name.is_some());
    if url.needs_server_name() && !named {
        let diagnostic = Diagnostic::error(
            codes::UNSAFE_URL,
            "an https upstream by address has no name that its certificate could be checked against",
        );
        context.push(diagnostic.help("use its name, or set `tls.server_name`"), "/upstream/url");
    }
    let Some(written) = written else { return Tls::default() };
    if !url.is_https() {
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "`tls` has no effect on an http upstream");
        context.push_at_key(diagnostic.help("write the URL with https, or remove `tls`"), "/upstream/tls");
    }
    if let Some(name) = &written.server_name
        && rustls::pki_types::DnsName::try_from(name.as_str()).is_err()
    {
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{name}` is no host name"));
        context.push(diagnostic.help("write the name alone, such as `mcp.internal`"), "/upstream/tls/server_name");
    }
    let ca = written.ca_file.as_ref().and_then(|file| context.certificates("/upstream/tls/ca_file", file));
    let identity = match (&written.certificate, &written.key) {
        (Some(certificate), Some(key)) => {
            let chain = context.certificates("/upstream/tls/certificate", certificate);
            let key = context.private_key("/upstream/tls/key", key);
            chain.zip(key)
        }
        (None, None) => None,
        _ => {
            let diagnostic = Diagnostic::error(codes::MISSING_KEY, "`certificate` and `key` belong together");
            context.push_at_key(diagnostic.help("name both, or none"), "/upstream/tls");
            None
        }
    };
    Tls { ca, identity }
}

/// The header called `name`, unless it is taken.
pub(super) fn header(context: &mut Context<'_>, name: &str, pointer: &str) -> Option<HeaderName> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        context.error(pointer, codes::INVALID_VALUE, format!("`{name}` is no header name"));
        return None;
    };
    let (message, help) = if TAKEN.contains(&header) || header.as_str().starts_with(PROTOCOL) {
        let help = "choose a name that neither HTTP nor MCP uses, such as `X-User`";
        (format!("the header `{name}` belongs to the message itself"), help)
    } else if header.as_str().contains('_') {
        // Many servers read `_` and `-` as one; of clients no such name is let through.
        (format!("the header `{name}` has a `_`, which servers confuse with `-`"), "write `-` instead")
    } else {
        return Some(header);
    };
    context.push(Diagnostic::error(codes::INVALID_VALUE, message).help(help), pointer);
    None
}

/// The names of identity headers, each of them another than the rest and than `credential`, which carries a token.
fn identity_headers(
    context: &mut Context<'_>,
    written: Option<&IdentityHeadersDocument>,
    credential: HeaderName,
) -> IdentityHeaders {
    let names = match written {
        Some(IdentityHeadersDocument::Off(_)) => return IdentityHeaders::default(),
        Some(IdentityHeadersDocument::Names(names)) => {
            [&names.issuer, &names.subject, &names.client, &names.scopes].map(Clone::clone)
        }
        None => [const { None }; 4],
    };
    let keys = ["issuer", "subject", "client", "scopes"];
    let defaults = DEFAULT_IDENTITY_HEADERS.map(HeaderName::from_static);
    // What is not renamed keeps its name, whatever stands before it.
    let mut used = vec![AUTHORIZATION, credential];
    used.extend(names.iter().zip(&defaults).filter(|(name, _)| name.is_none()).map(|(_, default)| default.clone()));
    let mut headers = Vec::with_capacity(keys.len());
    for ((name, default), key) in names.into_iter().zip(defaults).zip(keys) {
        let Some(name) = name else {
            headers.push(Some(default));
            continue;
        };
        let pointer = format!("/upstream/identity_headers/{key}");
        let header = header(context, &name, &pointer);
        if let Some(header) = &header {
            if used.contains(header) {
                let message = format!("the header `{name}` carries something else already");
                let diagnostic = Diagnostic::error(codes::INVALID_VALUE, message);
                context.push(diagnostic.help("give each its own name"), &pointer);
            }
            used.push(header.clone());
        }
        headers.push(header);
    }
    let mut headers = headers.into_iter();
    let mut next = || headers.next().flatten();
    IdentityHeaders { issuer: next(), subject: next(), client: next(), scopes: next() }
}

/// Headers that carry credentials or say who asks: a client's own never go on.
const NEVER: [&str; 6] = ["authorization", "proxy-authorization", "cookie", "dpop", "forwarded", "x-api-key"];

/// `own` are the headers that the gateway writes: where it has nothing to say a client must not say it instead.
fn forward_headers(context: &mut Context<'_>, written: Option<&[String]>, own: &[HeaderName]) -> Vec<HeaderName> {
    let mut headers = Vec::new();
    for (index, name) in written.unwrap_or_default().iter().enumerate() {
        let pointer = format!("/upstream/forward_headers/{index}");
        let Some(header) = header(context, name, &pointer) else { continue };
        let text = header.as_str();
        let never = NEVER.contains(&text) || text.starts_with("x-portcullis-") || text.starts_with("x-forwarded-");
        if never || text.contains('_') || own.contains(&header) {
            let message = format!("the header `{name}` of a client never reaches a server");
            let diagnostic = Diagnostic::error(codes::INVALID_VALUE, message);
            context.push(
                diagnostic.help("it carries a credential, says who asks, or could be taken for one that does"),
                &pointer,
            );
            continue;
        }
        headers.push(header);
    }
    headers
}
