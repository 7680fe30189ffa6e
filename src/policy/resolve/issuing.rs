//! The meaning of `authorization_server`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clients::{Around, clients};
use super::context::Context;
use super::redirects::redirects;
use crate::diagnostics::Diagnostic;
use crate::engine::issuing::{ClaimSource, Lifetimes, ScopeWords, SignIn};
use crate::engine::standing::VOUCHER;
use crate::oauth::jws::Algorithm;
use crate::oauth::url::ResourceUrl;
use crate::policy::document::PolicyDocument;
use crate::policy::document::authorization_server::{AuthorizationServerDocument, OwnAlgorithm, TokensDocument};
use crate::policy::document::scalar::DurationText;
use crate::policy::model::{AuthorizationServer, Installation, Provider};
use crate::policy::tree::escaped;
use crate::policy::{codes, suggest};

/// Where it all stands.
const POINTER: &str = "/authorization_server";
/// Claims that the gateway writes itself, or by which a token is told from others (RFC 7519 section 4.1, RFC 9068 section
/// 2.2, OpenID Connect Core sections 2 and 3, RFC 7800, RFC 8693, RFC 8417).
pub(super) const RESERVED_CLAIMS: [&str; 25] = [
    "act",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "c_hash",
    "client_id",
    "cnf",
    "events",
    "exp",
    "htm",
    "htu",
    "iat",
    "iss",
    "jti",
    "may_act",
    "nbf",
    "nonce",
    "s_hash",
    "scope",
    "scp",
    "sid",
    "sub",
    "typ",
    VOUCHER,
];
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// One kind of lifetime: its key, its default and the longest that may be written, in seconds.
type Lasting = (&'static str, u64, u64);
const ACCESS: Lasting = ("access", HOUR, DAY);
const SERVICE: Lasting = ("service", 6 * HOUR, DAY);
const CODE: Lasting = ("code", MINUTE, 10 * MINUTE);
const REFRESH_IDLE: Lasting = ("refresh_idle", 14 * DAY, 10 * 365 * DAY);
const REFRESH: Lasting = ("refresh", 30 * DAY, 10 * 365 * DAY);
/// The longest time for which a consent is remembered.
const REMEMBERED: u64 = 365 * DAY;

/// Resolves `authorization_server` of a service at `resource`; `own` are the providers of the policy itself.
pub fn authorization_server(
    context: &mut Context<'_>,
    document: &PolicyDocument,
    resource: Option<&ResourceUrl>,
    installation: &Installation,
    own: &BTreeMap<String, Provider>,
) -> Option<AuthorizationServer> {
    let written = document.authorization_server.as_ref()?;
    plain(context, resource, installation);
    if installation.store.is_none() {
        let message = "clients, consents and sign-ins are kept in memory: a restart signs everybody out";
        let help = "write `store: { file: state/portcullis.redb }` and `encryption_keys` into `portcullis.yaml`, or `store: \
                    memory` if that will do";
        context.push_at_key(Diagnostic::warning(codes::RESTART_SIGNS_OUT, message).help(help), POINTER);
    }
    let redirects = redirects(context, &written.redirects, resource);
    let around = Around { resource, redirects: &redirects, scopes: document.scopes.as_ref() };
    let clients = clients(context, written.clients.as_deref().unwrap_or_default(), around);
    let tokens = written.tokens.clone().unwrap_or_default();
    let scope = |(name, scope): (&String, &super::super::document::policy::ScopeDocument)| ScopeWords {
        name: name.clone(),
        describe: scope.describe.clone(),
        default: scope.default == Some(true),
    };
    Some(AuthorizationServer {
        sign_in: sign_in(context, written, installation, own),
        clients,
        registration: written.registration.unwrap_or(true),
        client_documents: written.client_documents.unwrap_or(true),
        remember: remembered(context, written),
        claims: claims(context, written),
        scopes: document.scopes.iter().flatten().map(scope).collect(),
        lifetimes: lifetimes(context, &tokens),
        algorithm: algorithm(tokens.algorithm),
        redirects,
    })
}

/// What the gateway signs with.
pub(super) fn algorithm(word: Option<OwnAlgorithm>) -> Algorithm {
    match word {
        None | Some(OwnAlgorithm::Es256) => Algorithm::Es256,
        Some(OwnAlgorithm::EdDsa) => Algorithm::EdDsa,
    }
}

/// Passwords, codes and tokens go over plain HTTP on this machine only: by the public URL, and by every listener.
fn plain(context: &mut Context<'_>, resource: Option<&ResourceUrl>, installation: &Installation) {
    let plain = resource.is_some_and(|resource| resource.origin().starts_with("http:"));
    let off = installation.listeners.iter().find(|listener| !listener.address.ip().is_loopback());
    if let (true, Some(listener)) = (plain, off) {
        let message =
            format!("tokens would be issued over plain HTTP, and {} can be reached from afar", listener.address);
        let help = "set `public_url` to an https origin, or listen on 127.0.0.1 only";
        context.push_at_key(Diagnostic::error(codes::PLAIN_ISSUER, message).help(help), POINTER);
    }
}

fn sign_in(
    context: &mut Context<'_>,
    written: &AuthorizationServerDocument,
    installation: &Installation,
    own: &BTreeMap<String, Provider>,
) -> Vec<SignIn> {
    let mut found: Vec<SignIn> = Vec::new();
    for (index, name) in written.sign_in.iter().enumerate() {
        let pointer = format!("{POINTER}/sign_in/{index}");
        if written.sign_in.iter().take(index).any(|other| other == name) {
            let diagnostic = Diagnostic::error(codes::USELESS_SETTING, format!("`{}` is named twice", name.0));
            context.push(diagnostic.help("remove one of them"), &pointer);
            continue;
        }
        let Some(provider) = super::service::find(context, &name.0, own, installation, &pointer) else { continue };
        match &provider.sign_in {
            Some(sign_in) => found.push(sign_in.clone()),
            None => {
                let message = format!("the provider `{}` cannot sign people in", name.0);
                let help = match near(own, installation, &name.0) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "register the gateway at an `oidc` provider and write its `sign_in`, or name a `local` one"
                        .to_owned(),
                };
                context.push(Diagnostic::error(codes::NO_SIGN_IN, message).help(help), &pointer);
            }
        }
    }
    found
}

/// The provider with a similar name that signs people in.
fn near<'a>(own: &'a BTreeMap<String, Provider>, installation: &'a Installation, name: &str) -> Option<&'a str> {
    let able = own.iter().chain(&installation.providers).filter(|(_, provider)| provider.sign_in.is_some());
    suggest::nearest(name, able.map(|(name, _)| name.as_str()))
}

fn claims(context: &mut Context<'_>, written: &AuthorizationServerDocument) -> Vec<ClaimSource> {
    let mut claims = Vec::new();
    for (name, from) in written.claims.iter().flatten() {
        let pointer = format!("{POINTER}/claims/{}", escaped(name));
        if name.is_empty() || RESERVED_CLAIMS.contains(&name.as_str()) {
            let diagnostic =
                Diagnostic::error(codes::RESERVED_CLAIM, format!("`{name}` is written by the gateway itself"));
            context.push_at_key(diagnostic.help("give the claim another name"), &pointer);
        }
        let pointer_like = from.starts_with('/');
        let stray = from.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']));
        if from.is_empty() || (pointer_like && stray) {
            let message = format!("`{from}` is neither a claim nor a JSON Pointer");
            let help =
                "write the name of a claim, or a pointer such as `/org/department` with `~0` for `~` and `~1` for `/`";
            context.push(Diagnostic::error(codes::INVALID_VALUE, message).help(help), &pointer);
        }
        claims.push(ClaimSource { name: name.clone(), from: from.clone() });
    }
    claims
}

fn remembered(context: &mut Context<'_>, written: &AuthorizationServerDocument) -> Option<Duration> {
    let text = written.remember_consent.as_ref()?;
    let pointer = format!("{POINTER}/remember_consent");
    let seconds = whole(context, text, &pointer)?;
    if seconds > REMEMBERED {
        context.error(&pointer, codes::INVALID_VALUE, "nobody remembers after `365d` what they let a client do");
    }
    Some(Duration::from_secs(seconds))
}

fn lifetimes(context: &mut Context<'_>, tokens: &TokensDocument) -> Lifetimes {
    let refresh = lifetime(context, tokens.refresh.as_ref(), REFRESH);
    let idle = lifetime(context, tokens.refresh_idle.as_ref(), REFRESH_IDLE);
    if tokens.refresh_idle.is_some() && idle > refresh {
        let message = "`refresh_idle` has no effect: `refresh` ends before";
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, message);
        context.push(diagnostic.help("make it shorter than `refresh`"), &format!("{POINTER}/tokens/refresh_idle"));
    }
    Lifetimes {
        access: lifetime(context, tokens.access.as_ref(), ACCESS),
        service: lifetime(context, tokens.service.as_ref(), SERVICE),
        code: lifetime(context, tokens.code.as_ref(), CODE),
        refresh_idle: idle.min(refresh),
        refresh,
        outage: outage(context, tokens),
    }
}

fn outage(context: &mut Context<'_>, tokens: &TokensDocument) -> i64 {
    let Some(text) = &tokens.provider_outage else { return 0 };
    let pointer = format!("{POINTER}/tokens/provider_outage");
    let seconds = whole(context, text, &pointer).unwrap_or_default();
    if seconds > DAY {
        let diagnostic = Diagnostic::error(codes::INVALID_VALUE, "`provider_outage` is longer than 24h");
        context.push(
            diagnostic.help("whoever is gone at the provider would stay here for as long; at most `24h`"),
            &pointer,
        );
    }
    i64::try_from(seconds).unwrap_or_default()
}

/// A lifetime in seconds. More than the default is a warning, more than the longest an error.
fn lifetime(context: &mut Context<'_>, text: Option<&DurationText>, (key, default, longest): Lasting) -> i64 {
    let pointer = format!("{POINTER}/tokens/{key}");
    let seconds = text.map_or(Some(default), |text| whole(context, text, &pointer)).unwrap_or(default);
    if seconds > longest {
        let message = format!("`{key}` is longer than {}", words(longest));
        context.push(
            Diagnostic::error(codes::INVALID_VALUE, message).help(format!("at most `{}`", words(longest))),
            &pointer,
        );
    } else if seconds > default {
        let message =
            format!("`{key}` is longer than {}: a stolen token or code serves its thief for as long", words(default));
        let help = format!("leave it at `{}` unless a client cannot live with that", words(default));
        context.push(Diagnostic::warning(codes::LONG_LIFETIME, message).help(help), &pointer);
    }
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// A duration in whole seconds, at least one.
fn whole(context: &mut Context<'_>, text: &DurationText, pointer: &str) -> Option<u64> {
    let duration = context.duration(Some(text), pointer, Duration::from_secs(1));
    if duration.as_secs() == 0 {
        context.error(pointer, codes::INVALID_VALUE, "shorter than `1s`");
        return None;
    }
    Some(duration.as_secs())
}

fn words(seconds: u64) -> String {
    match seconds {
        s if s % DAY == 0 && s > DAY => format!("{}d", s / DAY),
        s if s % HOUR == 0 => format!("{}h", s / HOUR),
        s if s % MINUTE == 0 && s > MINUTE => format!("{}m", s / MINUTE),
        s => format!("{s}s"),
    }
}
