//! The meaning of a policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::Context;
use super::installation::public_url;
use super::provider::provider;
use super::{credential, issuing, limits, origins, rules, scopes, upstream};
use crate::diagnostics::Diagnostic;
use crate::engine::access::AccessTable;
use crate::engine::authentication::{Admission, RequiredClaim};
use crate::engine::service::{DenialForm, RulePlaces, ServerRequests, UriForm, Visits};
use crate::mcp::era::Revisions;
use crate::oauth::url::{EndpointUrl, ResourceUrl, UrlErrorKind};
use crate::policy::document::PolicyDocument;
use crate::policy::document::policy::{AuthenticationDocument, DenialMode, RouteDocument, UriMode};
use crate::policy::document::rule::IdentityWord;
use crate::policy::document::scalar::{NameText, listed};
use crate::policy::model::{Installation, Provider, Service};
use crate::policy::{codes, suggest};
use crate::providers::Definition;

const BODY_LIMIT: usize = 4 << 20;
/// The largest body that may be configured: a body is held in memory while it is judged.
const LARGEST_BODY: usize = 64 << 20;
/// Paths that belong to the gateway.
const RESERVED_PATHS: [&str; 2] = ["/.well-known", "/healthz"];

/// Resolves one policy against the installation. `None` when something is wrong that the report tells.
pub fn service(context: &mut Context<'_>, document: &PolicyDocument, installation: &Installation) -> Option<Service> {
    let resource = resource(context, &document.route, document.public_url.as_deref(), installation);
    let own = own_providers(context, document, installation);
    let providers = providers(context, document, installation, &own);
    let authorization_server = issuing::authorization_server(context, document, resource.as_ref(), installation, &own);
    beside_own_tokens(context, document, resource.as_ref(), &providers);
    let upstream = upstream::upstream(context, document, resource.as_ref(), installation.timeouts);
    let default_scopes = scopes::scopes(context, document);
    let rules = rules::rules(context, document);
    let limits = limits::limits(context, document, rules.as_ref(), installation.shares_counts());
    let body_limit = context.size(document.body_limit.as_ref(), "/body_limit", BODY_LIMIT);
    if body_limit > LARGEST_BODY {
        context.error(
            "/body_limit",
            codes::INVALID_VALUE,
            "a body may be at most `64MiB`: it is held in memory while it is judged",
        );
    }
    origins::origins(context, document);
    let server_requests = server_requests(context, document);
    if let Some(rules) = &rules {
        admission(context, document, rules);
    }
    let authentication = document.authentication.clone().unwrap_or_default();
    let resource = resource?;
    let revisions =
        document.revisions.as_ref().map(|list| list.iter().map(|revision| revision.as_str()).collect::<Vec<_>>());
    let service = Service {
        name: document.service.0.clone(),
        title: document.title.clone().unwrap_or_else(|| document.service.0.clone()),
        host: host(&resource)?,
        audiences: authentication.audiences.clone().unwrap_or_else(|| vec![resource.as_str().to_owned()]),
        resource,
        upstream: upstream?,
        providers,
        authorization_server,
        id_tokens: own.values().filter_map(|provider| provider.id_tokens.clone()).collect(),
        shared_audience: authentication.shared_audience.unwrap_or(false),
        clients: authentication.clients.clone(),
        admission: if authentication.optional == Some(true) { Admission::Everyone } else { Admission::Identified },
        server_requests,
        required_claims: authentication.required_claims.iter().flatten().map(required_claim).collect(),
        default_scopes,
        access: Arc::new(rules?),
        rule_places: RulePlaces {
            file: context.tree.source.name.as_str().into(),
            lines: (0..document.rules.as_ref().map_or(0, Vec::len))
                .map(|index| context.tree.value_at(&format!("/rules/{index}")).start().0)
                .map(|line| u32::try_from(line).unwrap_or(u32::MAX))
                .collect(),
        },
        limits,
        denials: match document.denials {
            None | Some(DenialMode::Forbidden) => DenialForm::Forbidden,
            Some(DenialMode::Hidden) => DenialForm::Hidden,
            Some(DenialMode::Result) => DenialForm::ToolResult,
        },
        uri_form: if document.uri_form == Some(UriMode::Opaque) { UriForm::Opaque } else { UriForm::Strict },
        origins: document.origins.clone().unwrap_or_default(),
        body_limit,
        revisions: revisions.and_then(|list| Revisions::of(&list).ok()).unwrap_or_else(Revisions::all),
    };
    credential::fits(context, &service);
    (!context.report.has_errors()).then_some(service)
}

fn required_claim((name, value): (&String, &serde_json::Value)) -> RequiredClaim {
    RequiredClaim { name: name.clone(), any_of: listed(value) }
}

/// The public URL of a service at `route`.
pub fn resource(
    context: &mut Context<'_>,
    route: &RouteDocument,
    own: Option<&str>,
    installation: &Installation,
) -> Option<ResourceUrl> {
    let own = public_url(context, own);
    if let (Some(_), Some(url)) = (&own, &installation.public_url) {
        let diagnostic =
            Diagnostic::error(codes::USELESS_SETTING, format!("the installation's public URL is `{}`", url.origin()));
        context.push_at_key(diagnostic.help("remove the key from the policy"), "/public_url");
    }
    let public = installation.public_url.clone().or(own).or_else(|| of_listener(installation));
    let Some(public) = public else {
        let diagnostic = Diagnostic::error(
            codes::PUBLIC_URL_NEEDED,
            "the URL that clients use cannot be told from a listener off loopback",
        );
        context.push_at_key(
            diagnostic.help("set `public_url` in `portcullis.yaml`, for example `https://mcp.example.com`"),
            "/route",
        );
        return None;
    };
    let path = route.path.trim_end_matches('/');
    if !route.path.starts_with('/') || path.is_empty() {
        let diagnostic = Diagnostic::error(codes::INVALID_ROUTE, "a route is a path below the root");
        context.push(diagnostic.help("write for example `/mcp`"), "/route/path");
        return None;
    }
    if RESERVED_PATHS.iter().any(|reserved| path == *reserved || path.starts_with(&format!("{reserved}/"))) {
        let diagnostic = Diagnostic::error(codes::INVALID_ROUTE, format!("`{path}` belongs to the gateway itself"));
        context.push(diagnostic.help("choose a path that does not begin with it"), "/route/path");
        return None;
    }
    let public = match &route.host {
        None => public,
        Some(host) => own_host(context, host, &public)?,
    };
    match ResourceUrl::new(&public, path) {
        Ok(resource) => Some(resource),
        Err(error) => {
            context.push(Diagnostic::error(codes::INVALID_ROUTE, error.to_string()).help(error.help()), "/route/path");
            None
        }
    }
}

/// The origin of a service on a host of its own: the public URL's scheme with this host.
fn own_host(context: &mut Context<'_>, host: &str, public: &EndpointUrl) -> Option<EndpointUrl> {
    if host.contains(['/', '?', '#', '@']) {
        let diagnostic = Diagnostic::error(codes::INVALID_ROUTE, "this is more than a host");
        context.push(diagnostic.help("write the name alone, such as `ci.example.com`"), "/route/host");
        return None;
    }
    match EndpointUrl::parse(&format!("{}://{host}", public.url().scheme())) {
        Err(error) if error.kind == UrlErrorKind::PlainHttp => {
            let message = "a host that is not this machine needs https, and the public URL has http";
            let help = "set `public_url`, for example `https://mcp.example.com`";
            context.push(Diagnostic::error(codes::PUBLIC_URL_NEEDED, message).help(help), "/route/host");
            None
        }
        parsed => context.url("/route/host", parsed),
    }
}

/// The public URL of an installation that is reached on loopback only.
fn of_listener(installation: &Installation) -> Option<EndpointUrl> {
    let first = installation.listeners.first()?;
    let scheme = if first.tls.is_some() { "https" } else { "http" };
    first.address.ip().is_loopback().then(|| EndpointUrl::parse(&format!("{scheme}://{}", first.address)).ok())?
}

/// Lower case, with a port unless it is the scheme's default.
pub fn host(resource: &ResourceUrl) -> Option<String> {
    resource.origin().split_once("://").map(|(_, authority)| authority.to_owned())
}

/// The providers that a policy names, whose tokens it accepts.
fn accepted(document: &PolicyDocument) -> &[NameText] {
    document.authentication.as_ref().map_or(&[], |authentication| &authentication.providers)
}

fn own_providers(
    context: &mut Context<'_>,
    document: &PolicyDocument,
    installation: &Installation,
) -> BTreeMap<String, Provider> {
    let mut own = BTreeMap::new();
    let written_here = |name: &NameText| document.providers.iter().flatten().any(|(written, _)| written == name);
    for (name, written) in document.providers.iter().flatten() {
        let pointer = format!("/providers/{}", name.0);
        // A name that is misspelt below is one mistake and not two.
        let misspelt = |name: &NameText| !installation.providers.contains_key(&name.0) && !written_here(name);
        let sign_in = document.authorization_server.iter().flat_map(|server| &server.sign_in);
        let mut named = accepted(document).iter().chain(sign_in);
        if !named.clone().any(|one| one == name) && !named.any(misspelt) {
            let help = match &document.authorization_server {
                None => "name it under `authentication.providers`, or remove it",
                Some(_) => "name it under `authorization_server.sign_in` or `authentication.providers`, or remove it",
            };
            let diagnostic =
                Diagnostic::error(codes::UNUSED_PROVIDER, format!("the provider `{}` is not used", name.0));
            context.push_at_key(diagnostic.help(help), &pointer);
        }
        if let Some(provider) = provider(context, written, (Some(&document.service.0), &name.0), &pointer) {
            own.insert(name.0.clone(), provider);
        }
    }
    own
}

/// The provider called `name`, or a report that there is none.
pub(super) fn find<'a>(
    context: &mut Context<'_>,
    name: &str,
    own: &'a BTreeMap<String, Provider>,
    installation: &'a Installation,
    pointer: &str,
) -> Option<&'a Provider> {
    let found = own.get(name).or_else(|| installation.providers.get(name));
    // A provider that is written but broken is reported where it stands.
    if found.is_none() && context.tree.value.pointer(&format!("/providers/{name}")).is_none() {
        let near = suggest::nearest(name, installation.providers.keys().chain(own.keys()).map(String::as_str));
        let help = near.map_or("define it under `providers`, here or in `portcullis.yaml`".to_owned(), |near| {
            format!("did you mean `{near}`?")
        });
        let message = format!("there is no provider `{name}`");
        context.push(Diagnostic::error(codes::UNKNOWN_PROVIDER, message).help(help), pointer);
    }
    found
}

fn providers(
    context: &mut Context<'_>,
    document: &PolicyDocument,
    installation: &Installation,
    own: &BTreeMap<String, Provider>,
) -> Vec<Arc<Definition>> {
    let mut found: Vec<Arc<Definition>> = Vec::new();
    for (index, name) in accepted(document).iter().enumerate() {
        let pointer = format!("/authentication/providers/{index}");
        let Some(provider) = find(context, &name.0, own, installation, &pointer) else { continue };
        let Some(provider) = &provider.definition else {
            let message = format!("the provider `{}` issues no tokens that a service could accept", name.0);
            let help =
                "name it under `authorization_server.sign_in`: the gateway then issues tokens to those who sign in";
            context.push(Diagnostic::error(codes::ISSUES_NO_TOKENS, message).help(help), &pointer);
            continue;
        };
        if let Some(other) = found.iter().find(|other| other.shares_tokens_with(provider)) {
            // A provider of a policy carries the service's name before its own.
            let short = |provider: &Definition| provider.name.rsplit('/').next().unwrap_or_default().to_owned();
            let message =
                format!("the providers `{}` and `{}` answer for the same tokens", short(other), short(provider));
            context.push(
                Diagnostic::error(codes::AMBIGUOUS_ISSUER, message)
                    .help("providers are told apart by issuer, and one alone can have tokens that are no JWT: name one of them"),
                &pointer,
            );
        }
        found.push(Arc::clone(provider));
    }
    // What is on no closed list goes to whoever else takes it.
    found.sort_by_key(|provider| provider.is_closed_list());
    let own_tokens = document.authorization_server.is_some();
    if !found.is_empty() && !own_tokens && !found.iter().any(|provider| provider.issues_to_clients()) {
        let diagnostic = Diagnostic::warning(
            codes::NO_AUTHORIZATION_SERVER,
            "clients cannot get tokens by themselves: no provider issues to them",
        );
        context.push_at_key(
            diagnostic.help("fine for development and machines; people need an `oidc` provider"),
            "/authentication/providers",
        );
    }
    if found.iter().all(|provider| provider.issuer().is_none())
        && document.authentication.as_ref().is_some_and(|written| written.audiences.is_some())
        && !found.is_empty()
        && !own_tokens
    {
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "API keys have no audience");
        context.push_at_key(diagnostic.help("remove `audiences`"), "/authentication/audiences");
    }
    found
}

/// What may stand beside `authorization_server`: the gateway's tokens are for the resource alone, and told apart by issuer.
fn beside_own_tokens(
    context: &mut Context<'_>,
    document: &PolicyDocument,
    resource: Option<&ResourceUrl>,
    providers: &[Arc<Definition>],
) {
    let (Some(_), Some(AuthenticationDocument { audiences, .. })) =
        (&document.authorization_server, &document.authentication)
    else {
        return;
    };
    if audiences.is_some() {
        let message = "with `authorization_server` tokens are for the service's public URL and nothing else";
        let diagnostic = Diagnostic::error(codes::USELESS_SETTING, message);
        context.push_at_key(diagnostic.help("remove `audiences`"), "/authentication/audiences");
    }
    for (index, provider) in providers.iter().enumerate() {
        if provider.issuer().is_some_and(|issuer| resource.is_some_and(|resource| resource.as_str() == issuer)) {
            let message = "this provider answers for the tokens that the gateway itself issues here";
            let diagnostic = Diagnostic::error(codes::AMBIGUOUS_ISSUER, message);
            context.push(diagnostic.help("remove it"), &format!("/authentication/providers/{index}"));
        }
    }
}

/// Callers without a token need a door and a rule; one without the other does nothing.
fn admission(context: &mut Context<'_>, document: &PolicyDocument, rules: &AccessTable) {
    let optional = document.authentication.as_ref().and_then(|written| written.optional);
    match (optional, rules.opens()) {
        (Some(true), false) => {
            let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "no rule is for callers without a token");
            context.push_at_key(
                diagnostic.help("add `identity: none` to a rule, or remove `optional`"),
                "/authentication/optional",
            );
        }
        (None | Some(false), true) => {
            let index = document
                .rules
                .iter()
                .flatten()
                .position(|rule| rule.identity == Some(IdentityWord::None))
                .unwrap_or_default();
            let diagnostic = Diagnostic::error(codes::USELESS_SETTING, "callers without a token are not let in");
            context.push_at_key(
                diagnostic.help("set `authentication.optional: true`, or remove `identity`"),
                &format!("/rules/{index}/identity"),
            );
        }
        _ => {}
    }
}

fn server_requests(context: &mut Context<'_>, document: &PolicyDocument) -> ServerRequests {
    let written = document.server_requests.clone().unwrap_or_default();
    let elicitation = written.elicitation.unwrap_or_default();
    let hosts = elicitation.url.unwrap_or_default();
    for (index, host) in hosts.iter().enumerate() {
        let exact =
            host == "*" || url::Url::parse(&format!("https://{host}/")).is_ok_and(|url| url.host_str() == Some(host));
        if !exact {
            let diagnostic = Diagnostic::error(codes::INVALID_VALUE, format!("`{host}` is no host in lower case"));
            context.push(
                diagnostic.help("a whole host without scheme, port and path, or `*` for any"),
                &format!("/server_requests/elicitation/url/{index}"),
            );
        }
    }
    ServerRequests {
        sampling: written.sampling.unwrap_or(true),
        roots: written.roots.unwrap_or(true),
        forms: elicitation.form.unwrap_or(true),
        visits: if hosts.iter().any(|host| host == "*") { Visits::Anywhere } else { Visits::Hosts(hosts) },
    }
}
