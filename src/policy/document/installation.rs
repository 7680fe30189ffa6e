//! `portcullis.yaml`: what belongs to the installation and not to one service.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::provider::ProviderDocument;
use super::scalar::{DurationText, NameText, RateText, SecretDocument};
use super::store::StoreDocument;
use super::upstream::TimeoutsDocument;

/// The installation: public URL, listeners, trusted proxies, shared providers and defaults. Every key may be left out.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portcullis installation")]
pub struct InstallationDocument {
    /// The origin under which clients reach the gateway, such as `https://mcp.example.com`. Every URL that the gateway
    /// emits starts with it. Default: the first listener, if that is on loopback.
    pub public_url: Option<String>,
    /// Where the gateway listens. Default: `127.0.0.1:8080` without TLS. A change needs a restart.
    #[schemars(length(min = 1))]
    pub listeners: Option<Vec<ListenerDocument>>,
    /// Networks of proxies whose `X-Forwarded-For` is believed, such as `10.0.0.0/8`. Never everything.
    pub trusted_proxies: Option<Vec<String>>,
    /// The service that serves the root well-known documents. Default: the only service of a host.
    pub default_service: Option<NameText>,
    /// Providers that every policy may name.
    pub providers: Option<BTreeMap<NameText, ProviderDocument>>,
    /// Where clients, consents, grants and revocations are kept. `memory` forgets them when the process ends: everybody
    /// signs in again. `{ file: state/portcullis.redb }` keeps them in a file of this machine, for one gateway; `{ redis:
    /// { url: ... } }` in Redis or Valkey for several replicas, which then count limits together too. Both are sealed with
    /// `encryption_keys`. Default: `memory`. A change needs a restart.
    pub store: Option<StoreDocument>,
    /// A Unix socket at which `portcullis revoke` and `portcullis store` reach the running gateway, relative to this file.
    /// It has mode 0600. Default: beside the file of the store, with `.sock` at the end of its name; none with
    /// `store: memory`. A change needs a restart.
    #[schemars(length(min = 1))]
    pub control_socket: Option<String>,
    /// Secrets that seal what is stored and what browsers carry; the first seals, all open, so that a new one is put before
    /// the old one for a while. Each of at least 32 bytes. Needed for a store that outlives the process. Default: a random
    /// one, which ends with the process.
    #[schemars(length(min = 1))]
    pub encryption_keys: Option<Vec<SecretDocument>>,
    /// How the gateway fetches keys and discovery documents.
    pub egress: Option<EgressDocument>,
    /// How names of upstreams become addresses.
    pub dns: Option<DnsDocument>,
    /// What happens when a policy that was good becomes broken.
    pub reload: Option<ReloadDocument>,
    /// Limits before authentication, for the process as a whole.
    pub limits: Option<InstallationLimitsDocument>,
    /// The audit log.
    pub log: Option<LogDocument>,
    /// A listener of its own for metrics and status. Default: none.
    pub admin: Option<AdminDocument>,
    /// What a policy that does not say otherwise has.
    pub defaults: Option<DefaultsDocument>,
}

/// One listener.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerDocument {
    /// IP address and port, such as `0.0.0.0:8443` or `[::]:8443`.
    pub address: String,
    /// Certificate and key; without them the listener speaks plain HTTP.
    pub tls: Option<ListenerTlsDocument>,
    /// Whether HTTP/2 without TLS is spoken. Default: false.
    pub h2c: Option<bool>,
}

/// Certificate and key of a listener. Both files are read anew when they change.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTlsDocument {
    /// PEM file with the certificate chain, relative to this file.
    pub certificate: String,
    /// PEM file with the private key, relative to this file.
    pub key: String,
}

/// How the gateway fetches keys and discovery documents.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EgressDocument {
    /// PEM file of certificate authorities that are trusted besides the system's, relative to this file.
    pub ca_file: Option<String>,
    /// An HTTP proxy for all fetches, such as `http://proxy.example.com:3128`. The environment is never asked.
    pub proxy: Option<String>,
    /// Hosts that may be fetched although their address is link-local or a cloud metadata service.
    pub allowed_hosts: Option<Vec<String>>,
    /// Origins at which metadata documents and keys of clients may be although their address is private or this machine's,
    /// such as `https://apps.corp.example`. Clients of all other origins must be public. Default: none.
    #[schemars(length(min = 1))]
    pub private_clients: Option<Vec<String>>,
}

/// How names of upstreams become addresses. They are looked up again in the background when their records run out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsDocument {
    /// The name servers to ask, by IP address and port, such as `10.0.0.53:53`. Default: the system's.
    #[schemars(length(min = 1))]
    pub servers: Vec<String>,
}

/// What happens when a policy that was good becomes broken.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadDocument {
    /// `keep` serves the last good version, `close` answers 503. Default: `keep`.
    pub on_invalid: Option<OnInvalid>,
    /// How long a last good version may serve. Default: for ever.
    pub max_stale: Option<DurationText>,
}

/// What a broken policy does to its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// The last good version serves on.
    Keep,
    /// The service answers 503.
    Close,
}

/// Limits before authentication.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstallationLimitsDocument {
    /// Failed requests per address (IPv6: per /64) before more are refused unread. Default: `300/minute`.
    pub address_failures: Option<RateText>,
    /// Requests at once, streams included, before more are refused with 503 unread. Default: 20000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_in_flight: Option<u32>,
}

/// The audit log: one JSON line per request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogDocument {
    /// The file, relative to this file. Default: standard output. A change needs a restart.
    pub file: Option<String>,
    /// Claims that may be logged. Default: none.
    pub claims: Option<Vec<String>>,
    /// Tool arguments that may be logged. Default: none.
    pub arguments: Option<Vec<String>>,
}

/// The admin listener: `/metrics` for Prometheus, `/status` as JSON, and a page for people at `/`. It changes nothing.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminDocument {
    /// IP address and port. Default: `127.0.0.1:9464`. A change needs a restart.
    pub address: Option<String>,
    /// What callers must show, as a bearer token or as the password of basic authentication with any name; at least 32
    /// bytes. Needed unless the address is on loopback; there it should be reached over a private network only, because
    /// the listener speaks plain HTTP.
    pub token: Option<SecretDocument>,
    /// Host names under which it may be asked, such as `metrics.internal`. IP addresses and `localhost` always may: other
    /// names could be a web page's trick to reach it through a browser.
    pub hosts: Option<Vec<String>>,
}

/// What a policy that does not say otherwise has.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultsDocument {
    /// Time limits of upstreams.
    pub timeouts: Option<TimeoutsDocument>,
}
