//! The meaning of a provider.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::context::Context;
use super::preset::Preset;
use super::{github, sign_in};
use crate::diagnostics::Diagnostic;
use crate::oauth::claims::{Profile, ScopeClaim, TokenType};
use crate::oauth::jwk::KeySetError;
use crate::oauth::jws::Algorithm;
use crate::oauth::key::{Key, KeyError};
use crate::oauth::url::{EndpointUrl, IssuerUrl};
use crate::policy::codes;
use crate::policy::document::provider::{
    ApiKeysDocument, HmacDocument, IntrospectionDocument, JwksDocument, KeysDocument, OidcDocument, ProviderDocument,
    ScopeClaimWord, TokenTypeWord, TokensWord,
};
use crate::policy::document::scalar::DurationText;
use crate::policy::model::Provider;
use crate::providers::api_key::ApiKey;
use crate::providers::hmac::HmacSettings;
use crate::providers::introspection::{IntrospectionSettings, Tokens};
use crate::providers::jwks::{FixedKeys, JwksSettings, KeySource};
use crate::providers::keys::KeyTimes;
use crate::providers::oidc::OidcSettings;
use crate::providers::{Definition, Settings};

const LEEWAY: Duration = Duration::from_secs(60);
/// A clock that is off by more is broken, and expired tokens would live on.
const LONGEST_LEEWAY: Duration = Duration::from_secs(300);
/// The shortest time between two fetches that may be written.
const SHORTEST_TIME: Duration = Duration::from_secs(1);
/// How long answers about tokens are kept.
const CACHE: Duration = Duration::from_secs(60);
/// Nothing about a token is kept for longer.
const LONGEST_CACHE: Duration = Duration::from_secs(300);
/// What public providers sign with.
const OIDC_ALGORITHMS: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Ps256, Algorithm::EdDsa];

/// Resolves the provider called `name`, written at `pointer`; that of a policy has the name of its `service` before its own.
pub fn provider(
    context: &mut Context<'_>,
    written: &ProviderDocument,
    (service, name): (Option<&str>, &str),
    pointer: &str,
) -> Option<Provider> {
    if let Some(local) = &written.local {
        let sign_in = sign_in::local(context, name, local, &format!("{pointer}/local"));
        return Some(Provider { definition: None, sign_in: Some(sign_in), id_tokens: None });
    }
    if let Some(github) = &written.github {
        let sign_in = github::github(context, name, github, &format!("{pointer}/github"))?;
        return Some(Provider { definition: None, sign_in: Some(sign_in), id_tokens: None });
    }
    let full_name = service.map_or_else(|| name.to_owned(), |service| format!("{service}/{name}"));
    let definition = definition(context, written, full_name, pointer)?;
    let (Some(oidc), Settings::Oidc(settings)) = (&written.oidc, &definition.settings) else {
        return Some(Provider { definition: Some(Arc::new(definition)), sign_in: None, id_tokens: None });
    };
    let signs_in = oidc
        .sign_in
        .as_ref()
        .map(|sign_in| sign_in::oidc(context, (name, oidc, sign_in), settings, &format!("{pointer}/oidc/sign_in")));
    let (sign_in, id_tokens) = signs_in.unzip();
    // The tokens of a multi-tenant issuer name the tenant and never that issuer.
    let several = Preset::of(oidc.preset).multi_tenant(&settings.issuer).is_some();
    Some(Provider { definition: (!several).then(|| Arc::new(definition)), sign_in, id_tokens })
}

fn definition(
    context: &mut Context<'_>,
    written: &ProviderDocument,
    name: String,
    pointer: &str,
) -> Option<Definition> {
    let (kind, leeway, settings) = if let Some(oidc) = &written.oidc {
        ("oidc", oidc.leeway.as_ref(), Settings::Oidc(self::oidc(context, oidc, &format!("{pointer}/oidc"))?))
    } else if let Some(jwks) = &written.jwks {
        ("jwks", jwks.leeway.as_ref(), Settings::Jwks(self::jwks(context, jwks, &format!("{pointer}/jwks"))?))
    } else if let Some(hmac) = &written.hmac {
        ("hmac", hmac.leeway.as_ref(), Settings::Hmac(self::hmac(context, hmac, &format!("{pointer}/hmac"))?))
    } else if let Some(introspection) = &written.introspection {
        let settings = self::introspection(context, introspection, &format!("{pointer}/introspection"))?;
        ("introspection", introspection.leeway.as_ref(), Settings::Introspection(settings))
    } else {
        let keys = written.api_key.as_ref()?;
        ("api_key", None, Settings::ApiKey(api_keys(context, keys, &format!("{pointer}/api_key"))))
    };
    let leeway = self::leeway(context, leeway, &format!("{pointer}/{kind}/leeway"));
    Some(Definition { name, leeway, settings })
}

fn leeway(context: &mut Context<'_>, text: Option<&DurationText>, pointer: &str) -> i64 {
    let leeway = context.duration(text, pointer, LEEWAY);
    if leeway > LONGEST_LEEWAY {
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, "with so much leeway expired tokens would live on");
        context.push(diagnostic.help("at most `5m`; clocks that are off by more need repair"), pointer);
    }
    i64::try_from(leeway.min(LONGEST_LEEWAY).as_secs()).unwrap_or_default()
}

fn oidc(context: &mut Context<'_>, written: &OidcDocument, pointer: &str) -> Option<OidcSettings> {
    let issuer = context.url(&format!("{pointer}/issuer"), IssuerUrl::parse(&written.issuer));
    let uri = written.jwks_uri.as_ref().map(|uri| context.url(&format!("{pointer}/jwks_uri"), EndpointUrl::parse(uri)));
    let algorithms = written.algorithms.as_ref().map(|names| algorithms(names.iter().map(|name| name.as_str())));
    let keys = times(context, written.keys.as_ref(), pointer);
    let issuer = issuer?;
    let preset = Preset::of(written.preset);
    preset.check(context, &issuer, &format!("{pointer}/issuer"));
    let hosts = written.allowed_hosts.iter().flatten().map(String::as_str).chain(preset.hosts.iter().copied());
    Some(OidcSettings {
        profile: Profile {
            issuer: issuer.as_str().into(),
            token_type: token_type(written.token_type),
            scope_claim: scope_claim(written.scope_claim),
            sign_in_clients: written.sign_in_clients.clone().unwrap_or_default(),
            machines: written.holders.is_some(),
        },
        algorithms: algorithms.unwrap_or_else(|| OIDC_ALGORITHMS.to_vec()),
        jwks_uri: match uri {
            Some(uri) => Some(uri?),
            None => None,
        },
        allowed_hosts: hosts.map(str::to_owned).collect(),
        issuer,
        keys,
    })
}

fn jwks(context: &mut Context<'_>, written: &JwksDocument, pointer: &str) -> Option<JwksSettings> {
    let issuer = context.url(&format!("{pointer}/issuer"), IssuerUrl::parse(&written.issuer));
    let algorithms = algorithms(written.algorithms.iter().map(|name| name.as_str()));
    let source = key_source(context, written, &algorithms, pointer);
    if written.keys.is_some() && written.url.is_none() {
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "`keys` has no effect on keys that are not fetched");
        context.push_at_key(diagnostic.help("remove it; files are watched anyway"), &format!("{pointer}/keys"));
    }
    Some(JwksSettings {
        profile: Profile {
            issuer: issuer?.as_str().into(),
            token_type: token_type(written.token_type),
            scope_claim: scope_claim(written.scope_claim),
            sign_in_clients: written.sign_in_clients.clone().unwrap_or_default(),
            machines: written.holders.is_some(),
        },
        algorithms,
        source: source?,
    })
}

fn key_source(
    context: &mut Context<'_>,
    written: &JwksDocument,
    algorithms: &[Algorithm],
    pointer: &str,
) -> Option<KeySource> {
    if let Some(url) = &written.url {
        let url = context.url(&format!("{pointer}/url"), EndpointUrl::parse(url));
        let times = times(context, written.keys.as_ref(), pointer);
        return Some(KeySource::Url(url?, times));
    }
    let (pointer, text) = match &written.file {
        Some(file) => {
            let pointer = format!("{pointer}/file");
            let text = context.file(&pointer, file)?;
            (pointer, text)
        }
        None => (format!("{pointer}/inline"), serde_json::to_vec(written.inline.as_ref()?).ok()?),
    };
    let keys = key_set(context, &text, algorithms, &pointer);
    // A set that is broken breaks its file, and the rest of it is still to be judged.
    Some(KeySource::Fixed(keys.unwrap_or_default()))
}

/// Reads a set of public keys, or reports what is wrong with it and with each of its keys.
pub(super) fn key_set(
    context: &mut Context<'_>,
    text: &[u8],
    algorithms: &[Algorithm],
    pointer: &str,
) -> Option<Arc<FixedKeys>> {
    let keys = match FixedKeys::read(text, algorithms) {
        Ok(keys) => keys,
        Err(error) => {
            let diagnostic = Diagnostic::error(codes::INVALID_KEY, error.to_string());
            let help = if error == KeySetError::SharedSecret {
                "secrets are named under `hmac`; a key set holds public keys"
            } else {
                "write a JWK Set (`{ \"keys\": [...] }`) or PEM blocks of public keys or certificates"
            };
            context.push(diagnostic.help(help), pointer);
            return None;
        }
    };
    let set = keys.set();
    for left_out in set.left_out() {
        let kid = left_out.kid.as_ref().map(|kid| format!(" `{kid}`")).unwrap_or_default();
        context.error(pointer, codes::INVALID_KEY, format!("key{kid}: {}", left_out.error));
    }
    if set.keys().is_empty() && set.left_out().is_empty() {
        context.error(pointer, codes::INVALID_KEY, "the set holds no key");
    }
    Some(keys)
}

fn hmac(context: &mut Context<'_>, written: &HmacDocument, pointer: &str) -> Option<HmacSettings> {
    let issuer = context.url(&format!("{pointer}/issuer"), IssuerUrl::parse(&written.issuer));
    let names = written.algorithms.as_ref().map(|names| algorithms(names.iter().map(|name| name.as_str())));
    let algorithms = names.unwrap_or_else(|| vec![Algorithm::Hs256]);
    let mut secrets = Vec::new();
    for (index, reference) in written.secrets.iter().enumerate() {
        let pointer = format!("{pointer}/secrets/{index}");
        let Some(shared) = context.secret(reference, &pointer) else { continue };
        for algorithm in &algorithms {
            if let Err(error) = Key::secret(*algorithm, shared.secret.expose()) {
                let message = if error == KeyError::SecretLength {
                    format!("{error} ({}, {} bytes at least)", algorithm.as_str(), algorithm.hash_length())
                } else {
                    error.to_string()
                };
                let diagnostic = Diagnostic::error(codes::WEAK_SECRET, message);
                context.push(diagnostic.help("make one with `openssl rand -base64 64`"), &pointer);
                break;
            }
        }
        secrets.push(shared);
    }
    Some(HmacSettings {
        profile: Profile {
            issuer: issuer?.as_str().into(),
            token_type: token_type(written.token_type),
            scope_claim: scope_claim(written.scope_claim),
            sign_in_clients: Vec::new(),
            machines: written.holders.is_some(),
        },
        algorithms,
        secrets,
    })
}

fn introspection(
    context: &mut Context<'_>,
    written: &IntrospectionDocument,
    pointer: &str,
) -> Option<IntrospectionSettings> {
    let issuer = context.url(&format!("{pointer}/issuer"), IssuerUrl::parse(&written.issuer));
    let url = context.url(&format!("{pointer}/url"), EndpointUrl::parse(&written.url));
    let secret = context.secret(&written.client_secret, &format!("{pointer}/client_secret"));
    let cache = context.duration(written.cache.as_ref(), &format!("{pointer}/cache"), CACHE);
    if cache > LONGEST_CACHE {
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, "nothing about a token is kept for longer than `5m`");
        context
            .push(diagnostic.help("a shorter time means that a revocation counts sooner"), &format!("{pointer}/cache"));
    }
    Some(IntrospectionSettings {
        profile: Profile {
            issuer: issuer?.as_str().into(),
            token_type: TokenType::Jwt,
            scope_claim: scope_claim(written.scope_claim),
            sign_in_clients: written.sign_in_clients.clone().unwrap_or_default(),
            machines: written.holders.is_some(),
        },
        url: url?,
        client_id: written.client_id.clone(),
        client_secret: secret?,
        tokens: match written.tokens {
            None | Some(TokensWord::All) => Tokens::All,
            Some(TokensWord::Opaque) => Tokens::Opaque,
            Some(TokensWord::Jwt) => Tokens::Jwt,
        },
        cache,
    })
}

fn api_keys(context: &mut Context<'_>, written: &ApiKeysDocument, pointer: &str) -> Vec<ApiKey> {
    let mut keys: Vec<ApiKey> = Vec::new();
    for (index, key) in written.keys.iter().enumerate() {
        let pointer = format!("{pointer}/keys/{index}");
        let Some(expires) = utc_seconds(&key.expires) else {
            let message = format!("`{}` is not a time such as `2027-01-31T00:00:00Z`", key.expires);
            context.error(&format!("{pointer}/expires"), codes::INVALID_VALUE, message);
            continue;
        };
        let sha256 = sha256(&key.sha256.0);
        if keys.iter().any(|other| other.sha256 == sha256 || other.name == key.name.0) {
            context.error(&pointer, codes::INVALID_VALUE, "another key has the same name or hash");
        }
        keys.push(ApiKey {
            name: key.name.0.clone(),
            sha256,
            expires,
            scopes: key.scopes.clone().unwrap_or_default(),
            client: key.client.clone(),
        });
    }
    keys
}

/// The bytes of a hash in hex; the schema has checked its form.
fn sha256(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or_default();
    }
    bytes
}

/// Seconds since the epoch of a time in UTC (RFC 3339 section 5.6).
fn utc_seconds(text: &str) -> Option<i64> {
    let parsed = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    (parsed.offset().is_utc() && parsed.unix_timestamp() > 0).then(|| parsed.unix_timestamp())
}

fn times(context: &mut Context<'_>, written: Option<&KeysDocument>, pointer: &str) -> KeyTimes {
    let written = written.cloned().unwrap_or_default();
    let mut time = |text: Option<&DurationText>, key: &str, default| {
        let pointer = format!("{pointer}/keys/{key}");
        let time = context.duration(text, &pointer, Duration::from_secs(default));
        if time < SHORTEST_TIME {
            context.error(
                &pointer,
                codes::INVALID_VALUE,
                "shorter than `1s`: the provider would be asked without a pause",
            );
        }
        time
    };
    let times = KeyTimes {
        refresh: time(written.refresh.as_ref(), "refresh", 600),
        cool_down: time(written.cool_down.as_ref(), "cool_down", 30),
        max_stale: time(written.max_stale.as_ref(), "max_stale", 24 * 3600),
    };
    if times.max_stale < times.refresh {
        let key = if written.max_stale.is_some() { "max_stale" } else { "refresh" };
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, "keys would be too old before they are fetched again");
        context.push(diagnostic.help("make `max_stale` longer than `refresh`"), &format!("{pointer}/keys/{key}"));
    }
    times
}

fn algorithms(names: impl Iterator<Item = &'static str>) -> Vec<Algorithm> {
    names.filter_map(Algorithm::parse).collect()
}

fn token_type(word: Option<TokenTypeWord>) -> TokenType {
    if word == Some(TokenTypeWord::AccessToken) { TokenType::AccessToken } else { TokenType::Jwt }
}

fn scope_claim(word: Option<ScopeClaimWord>) -> ScopeClaim {
    match word {
        None => ScopeClaim::Both,
        Some(ScopeClaimWord::Scope) => ScopeClaim::Scope,
        Some(ScopeClaimWord::Scp) => ScopeClaim::Scp,
    }
}
