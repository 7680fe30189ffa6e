//! The meaning of `portcullis.yaml`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::admin::admin;
use super::clients::strong;
use super::context::Context;
use super::provider::provider;
use super::store::{control_socket, store};
use crate::diagnostics::Diagnostic;
use crate::oauth::url::EndpointUrl;
use crate::policy::codes;
use crate::policy::document::InstallationDocument;
use crate::policy::document::installation::{ListenerDocument, OnInvalid};
use crate::policy::model::{Egress, Installation, Listener, Log};
use crate::secret::Held;

const CONNECT: Duration = Duration::from_secs(2);
const READ: Duration = Duration::from_secs(300);
const ADDRESS_FAILURES: (u32, Duration) = (300, Duration::from_secs(60));
/// Requests at once, unless the file says otherwise.
const REQUESTS_IN_FLIGHT: u32 = 20_000;

/// What the command line says instead of the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The only listener.
    pub listen: Option<SocketAddr>,
    /// The public URL.
    pub public_url: Option<EndpointUrl>,
    /// The audit log.
    pub log: Option<PathBuf>,
}

/// Resolves `portcullis.yaml`; an absent file is an empty one.
pub fn installation(context: &mut Context<'_>, document: &InstallationDocument, overrides: &Overrides) -> Installation {
    let listeners = listeners(context, document, overrides);
    let public_url = public_url(context, document.public_url.as_deref()).or_else(|| overrides.public_url.clone());
    let mut providers = BTreeMap::new();
    for (name, written) in document.providers.iter().flatten() {
        let (before, known) = (context.report.errors(), context.report.diagnostics().len());
        let provider = provider(context, written, (None, &name.0), &format!("/providers/{}", name.0));
        let errors = context.report.errors() - before;
        let found = context.report.diagnostics().get(known..).unwrap_or_default();
        // A file of users that is there and broken is an edit that went wrong, and its last good version serves on.
        let gone = |found: &Diagnostic| found.code == codes::SECRET_UNREADABLE;
        if written.local.is_none() || found.iter().all(gone) {
            context.provider_errors += errors;
        }
        // A provider that lacks one of its secrets is not the provider that was meant.
        if let Some(provider) = provider.filter(|_| errors == 0) {
            providers.insert(name.0.clone(), provider);
        }
    }
    let reload = document.reload.as_ref();
    let max_stale = reload.and_then(|reload| reload.max_stale.as_ref());
    let limits = document.limits.as_ref();
    let failures = limits.and_then(|limits| limits.address_failures.as_ref());
    let timeouts = document.defaults.as_ref().and_then(|defaults| defaults.timeouts.clone()).unwrap_or_default();
    let store = store(context, document);
    Installation {
        public_url: overrides.public_url.clone().or(public_url),
        listeners,
        trusted_proxies: trusted_proxies(context, document),
        default_service: document.default_service.as_ref().map(|name| name.0.clone()),
        providers,
        control_socket: control_socket(context, document, store.as_ref()),
        store,
        encryption_keys: encryption_keys(context, document),
        egress: egress(context, document),
        name_servers: name_servers(context, document),
        on_invalid: reload.and_then(|reload| reload.on_invalid).unwrap_or(OnInvalid::Keep),
        max_stale: max_stale.map(|text| context.duration(Some(text), "/reload/max_stale", Duration::MAX)),
        address_failures: failures
            .and_then(super::super::document::scalar::RateText::parse)
            .unwrap_or(ADDRESS_FAILURES),
        requests_in_flight: limits.and_then(|limits| limits.requests_in_flight).unwrap_or(REQUESTS_IN_FLIGHT),
        log: log(context, document, overrides),
        admin: document.admin.as_ref().map(|written| admin(context, written)),
        timeouts: (
            context.duration(timeouts.connect.as_ref(), "/defaults/timeouts/connect", CONNECT),
            context.duration(timeouts.read.as_ref(), "/defaults/timeouts/read", READ),
        ),
    }
}

/// Reads a public URL: a bare origin.
pub fn public_url(context: &mut Context<'_>, written: Option<&str>) -> Option<EndpointUrl> {
    let url = context.url("/public_url", EndpointUrl::parse(written?))?;
    if !url.is_origin() {
        context.push(
            Diagnostic::error(codes::UNSAFE_URL, "the public URL is more than scheme, host and port")
                .help(format!("write `{}`; paths belong to the routes of the policies", url.origin())),
            "/public_url",
        );
    }
    Some(url)
}

fn listeners(context: &mut Context<'_>, document: &InstallationDocument, overrides: &Overrides) -> Vec<Listener> {
    let default = || vec![Listener { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), tls: None, h2c: false }];
    let written = document.listeners.as_ref().map(|listeners| {
        listeners.iter().enumerate().filter_map(|(index, written)| listener(context, written, index)).collect()
    });
    let mut listeners: Vec<Listener> = written.unwrap_or_else(default);
    if let Some(address) = overrides.listen {
        let first = listeners.into_iter().next();
        let (tls, h2c) = first.map_or((None, false), |first| (first.tls, first.h2c));
        listeners = vec![Listener { address, tls, h2c }];
    }
    listeners
}

fn listener(context: &mut Context<'_>, written: &ListenerDocument, index: usize) -> Option<Listener> {
    let pointer = format!("/listeners/{index}");
    let Ok(address) = written.address.parse() else {
        let message = format!("`{}` is not an IP address with a port", written.address);
        context.push(
            Diagnostic::error(codes::INVALID_VALUE, message).help("write for example `0.0.0.0:8443` or `[::]:8443`"),
            &format!("{pointer}/address"),
        );
        return None;
    };
    if let Some(tls) = &written.tls {
        context.certificates(&format!("{pointer}/tls/certificate"), &tls.certificate);
        context.private_key(&format!("{pointer}/tls/key"), &tls.key);
    }
    let tls = written.tls.as_ref().map(|tls| (context.path(&tls.certificate), context.path(&tls.key)));
    if written.h2c == Some(true) && tls.is_some() {
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "`h2c` has no effect on a listener with TLS");
        context.push_at_key(diagnostic.help("HTTP/2 is negotiated in TLS; remove the key"), &format!("{pointer}/h2c"));
    }
    Some(Listener { address, tls, h2c: written.h2c.unwrap_or(false) })
}

fn trusted_proxies(context: &mut Context<'_>, document: &InstallationDocument) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (index, written) in document.trusted_proxies.iter().flatten().enumerate() {
        let pointer = format!("/trusted_proxies/{index}");
        let parsed = written.parse::<IpNet>().or_else(|_| written.parse::<IpAddr>().map(IpNet::from));
        match parsed.map(plain) {
            Ok(network) => {
                networks.push(network);
                // Two halves of all addresses are all of them, too.
                if IpNet::aggregate(&networks).iter().any(|network| network.prefix_len() == 0) {
                    let diagnostic = Diagnostic::error(codes::TRUSTS_EVERYONE, "every peer could choose its address");
                    context.push(diagnostic.help("name the networks of your proxies"), &pointer);
                    networks.pop();
                }
            }
            Err(_) => {
                let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{written}` is not a network"));
                context.push(diagnostic.help("write for example `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`"), &pointer);
            }
        }
    }
    networks
}

/// A network as peers are compared with it: IPv4 addresses in IPv6 form are IPv4 (RFC 4291 section 2.5.5.2).
fn plain(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(network) => network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let mapped = mapped.and_then(|(address, length)| IpNet::new(address.into(), length).ok());
    mapped.unwrap_or(network).trunc()
}

fn encryption_keys(context: &mut Context<'_>, document: &InstallationDocument) -> Vec<Held> {
    let written = document.encryption_keys.iter().flatten().enumerate();
    written.filter_map(|(index, secret)| strong(context, secret, &format!("/encryption_keys/{index}"))).collect()
}

fn egress(context: &mut Context<'_>, document: &InstallationDocument) -> Egress {
    let Some(written) = &document.egress else { return Egress::default() };
    let ca = written.ca_file.as_ref().and_then(|file| context.certificates("/egress/ca_file", file));
    let proxy = written.proxy.as_ref().and_then(|text| match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty() => Some(url),
        _ => {
            let diagnostic = Diagnostic::error(codes::UNSAFE_URL, "this is not the URL of an HTTP proxy");
            context.push(diagnostic.help("write for example `http://proxy.example.com:3128`"), "/egress/proxy");
            None
        }
    });
    let allowed_hosts = written.allowed_hosts.clone().unwrap_or_default();
    let private_clients = private_clients(context, written.private_clients.as_deref().unwrap_or_default());
    Egress { ca: ca.unwrap_or_default(), proxy, allowed_hosts, private_clients }
}

/// Origins by name and https, as a client's id begins: `https://apps.corp.example`.
fn private_clients(context: &mut Context<'_>, written: &[String]) -> Vec<Url> {
    let mut origins = Vec::new();
    for (index, origin) in written.iter().enumerate() {
        let exact = Url::parse(origin).ok().filter(|url| {
            url.scheme() == "https" && url.domain().is_some() && url.origin().ascii_serialization() == *origin
        });
        match exact {
            Some(url) => origins.push(url),
            None => {
                let message = format!("`{origin}` is not the https origin of a client's document");
                let help = "scheme, host name and port only, in lower case: `https://apps.corp.example`";
                let pointer = format!("/egress/private_clients/{index}");
                context.push(Diagnostic::error(codes::UNSAFE_URL, message).help(help), &pointer);
            }
        }
    }
    origins
}

fn name_servers(context: &mut Context<'_>, document: &InstallationDocument) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for (index, written) in document.dns.iter().flat_map(|dns| &dns.servers).enumerate() {
        let pointer = format!("/dns/servers/{index}");
        match written.parse::<SocketAddr>() {
            Ok(server) if server.port() != 0 && !server.ip().is_unspecified() && !server.ip().is_multicast() => {
                servers.push(server);
            }
            _ => {
                let message = format!("`{written}` is not the IP address and port of a name server");
                let diagnostic = Diagnostic::error(codes::INVALID_VALUE, message);
                context.push(diagnostic.help("write for example `10.0.0.53:53` or `[fd00::53]:53`"), &pointer);
            }
        }
    }
    servers
}

fn log(context: &Context<'_>, document: &InstallationDocument, overrides: &Overrides) -> Log {
    let written = document.log.as_ref();
    let file = written.and_then(|log| log.file.as_ref()).map(|file| context.path(file));
    Log {
        file: overrides.log.clone().or(file),
        claims: written.and_then(|log| log.claims.clone()).unwrap_or_default(),
        arguments: written.and_then(|log| log.arguments.clone()).unwrap_or_default(),
    }
}
