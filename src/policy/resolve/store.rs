//! The meaning of `store`.

use std::path::PathBuf;

use url::Url;

use super::context::Context;
use crate::diagnostics::Diagnostic;
use crate::policy::codes;
use crate::policy::document::InstallationDocument;
use crate::policy::document::scalar::SecretDocument;
use crate::policy::document::store::{RedisDocument, StoreDocument};
use crate::stores::redis::{Address, Login, RedisSettings, Servers};
use crate::stores::{Settings, file};

/// Where the settings of Redis stand.
const REDIS: &str = "/store/redis";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
const NAMESPACE: &str = "portcullis";

/// Resolves `store`; `None` when the file does not say.
pub fn store(context: &mut Context<'_>, document: &InstallationDocument) -> Option<Settings> {
    let settings = match document.store.as_ref()? {
        StoreDocument::Memory => Settings::Memory,
        StoreDocument::File(path) => Settings::File(context.path(path)),
        StoreDocument::Redis(written) => redis(context, written).map_or(Settings::Memory, Settings::from),
    };
    if settings.is_durable() && document.encryption_keys.is_none() {
        let message = "what this store keeps is sealed, and there is no key that outlives the process";
        let help = "write `encryption_keys: [{ file: seal.key }]`; `openssl rand -base64 32 > seal.key` makes one";
        context.push_at_key(Diagnostic::error(codes::MISSING_KEY, message).help(help), "/store");
    }
    // Whether it is there and free is for the gateway to say: a check may run elsewhere, or beside it.
    if let Settings::File(path) = &settings
        && let Err(error) = file::look(path)
    {
        context.push(Diagnostic::error(codes::STORE_UNUSABLE, error.message).help(error.help), "/store/file");
    }
    Some(settings)
}

/// The control socket that is written, or that belongs to the file of the store.
pub fn control_socket(
    context: &Context<'_>,
    document: &InstallationDocument,
    store: Option<&Settings>,
) -> Option<PathBuf> {
    let written = document.control_socket.as_ref().map(|path| context.path(path));
    written.or_else(|| match store? {
        Settings::File(path) => {
            let mut name = path.clone().into_os_string();
            name.push(".sock");
            Some(name.into())
        }
        Settings::Memory | Settings::Redis(_) => None,
    })
}

/// `None` when something of it is wrong, which is reported.
fn redis(context: &mut Context<'_>, written: &RedisDocument) -> Option<RedisSettings> {
    let before = context.report.errors();
    let (urls, port) = servers(context, written)?;
    let read = urls.iter().filter_map(|(at, url)| server(context, url, at, port).map(|(tls, found)| (at, tls, found)));
    let read: Vec<(&String, bool, Address)> = read.collect();
    let tls = read.first().is_some_and(|(_, tls, _)| *tls);
    for (at, found, address) in &read {
        if *found != tls {
            let diagnostic = Diagnostic::error(codes::UNSAFE_URL, "one server is reached with TLS and another without");
            context.push(diagnostic.help("write `rediss://` everywhere"), at);
        } else if !found && !address.is_loopback() {
            let message = format!("passwords and counts would go to {address} in the clear");
            let diagnostic = Diagnostic::error(codes::PLAIN_STORE, message);
            context.push(diagnostic.help("write `rediss://`, or run the server on this machine"), at);
        }
    }
    let mut addresses: Vec<Address> = read.into_iter().map(|(_, _, address)| address).collect();
    let servers = match (&written.sentinel, &written.cluster) {
        (Some(sentinel), _) => Servers::Sentinel {
            master: sentinel.master.clone(),
            sentinels: addresses,
            login: login(context, sentinel.username.as_ref(), sentinel.password.as_ref(), &format!("{REDIS}/sentinel")),
        },
        (None, Some(_)) => Servers::Cluster(addresses),
        (None, None) => Servers::One(addresses.pop()?),
    };
    if written.database.is_some() && written.cluster.is_some() {
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "a cluster has one database");
        context.push_at_key(diagnostic.help("remove the key"), &format!("{REDIS}/database"));
    }
    if written.ca_file.is_some() && !tls {
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "`ca_file` has no effect without TLS");
        context.push_at_key(diagnostic.help("write `rediss://`, or remove the key"), &format!("{REDIS}/ca_file"));
    }
    let ca = written.ca_file.as_ref().and_then(|file| context.certificates(&format!("{REDIS}/ca_file"), file));
    let settings = RedisSettings {
        servers,
        tls,
        ca: ca.map(|ca| ca.into_iter().map(|der| der.0).collect()),
        login: login(context, written.username.as_ref(), written.password.as_ref(), REDIS),
        database: written.database.unwrap_or_default(),
        namespace: written.namespace.as_ref().map_or(NAMESPACE, |name| &name.0).to_owned(),
    };
    (context.report.errors() == before).then_some(settings)
}

/// The URLs with where they stand, and the port of those that name none.
fn servers(context: &mut Context<'_>, written: &RedisDocument) -> Option<(Vec<(String, String)>, u16)> {
    let list = |urls: &[String], key: &str| {
        urls.iter().enumerate().map(|(index, url)| (format!("{REDIS}/{key}/{index}"), url.clone())).collect()
    };
    match (&written.url, &written.cluster, &written.sentinel) {
        (Some(url), None, None) => Some((vec![(format!("{REDIS}/url"), url.clone())], PORT)),
        (None, Some(nodes), None) => Some((list(nodes, "cluster"), PORT)),
        (None, None, Some(sentinel)) => Some((list(&sentinel.urls, "sentinel/urls"), SENTINEL_PORT)),
        (None, None, None) => {
            let diagnostic = Diagnostic::error(codes::MISSING_KEY, "no server is named");
            context.push_at_key(diagnostic.help("write one of `url`, `cluster` and `sentinel`"), REDIS);
            None
        }
        _ => {
            let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "servers are named in more than one way");
            context.push_at_key(diagnostic.help("keep one of `url`, `cluster` and `sentinel`"), REDIS);
            None
        }
    }
}

/// Whether TLS is spoken, and where.
fn server(context: &mut Context<'_>, written: &str, pointer: &str, default_port: u16) -> Option<(bool, Address)> {
    let refuse = |context: &mut Context<'_>, message: &str, help: &str| {
        context.push(Diagnostic::error(codes::UNSAFE_URL, message).help(help), pointer);
        None
    };
    let form = "write for example `rediss://redis.example.com:6379`";
    let Ok(url) = Url::parse(written) else { return refuse(context, "this is not a URL", form) };
    let tls = match url.scheme() {
        "rediss" | "valkeys" => true,
        "redis" | "valkey" => false,
        _ => return refuse(context, "this is not the URL of a Redis or Valkey server", form),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse(context, "the URL holds credentials", "write `username` and `password` beside it");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return refuse(context, "the URL is more than scheme, host and port", "a database is named by `database`");
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return refuse(context, "the URL names no host", form);
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Some((tls, Address { host, port: url.port().unwrap_or(default_port) }))
}

fn login(
    context: &mut Context<'_>,
    username: Option<&String>,
    password: Option<&SecretDocument>,
    pointer: &str,
) -> Login {
    if username.is_some() && password.is_none() {
        let diagnostic = Diagnostic::error(codes::MISSING_KEY, "the user has no password");
        context.push_at_key(diagnostic.help("write `password: { file: path }`"), &format!("{pointer}/username"));
    }
    let password = password.and_then(|secret| context.secret(secret, &format!("{pointer}/password")));
    Login { username: username.cloned(), password }
}
