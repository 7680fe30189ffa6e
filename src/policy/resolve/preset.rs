//! What is particular to the products that provide sign-in, as data. Version 1, of 2026-11.
//!
//! Sources: each product's discovery document and its documentation of OpenID Connect, as named at each entry.

use std::sync::LazyLock;

use regex::Regex;

use super::context::Context;
use crate::diagnostics::Diagnostic;
use crate::oauth::url::IssuerUrl;
use crate::policy::codes;
use crate::policy::document::provider::PresetWord;

/// What stands for a tenant in the issuer that a multi-tenant discovery document names.
const TENANT: &str = "{tenantid}";
/// The path segments of an issuer that stand for several tenants.
const MULTI_TENANT: [&str; 2] = ["organizations", "common"];

/// The particulars of one product.
#[derive(Debug)]
pub struct Preset {
    word: PresetWord,
    /// How people call it.
    name: &'static str,
    /// The form of its issuers (a regular expression), and an example.
    issuer: (&'static str, &'static str),
    /// Hosts of its endpoints besides the issuer's.
    pub hosts: &'static [&'static str],
    /// Whether ID tokens lack claims that the userinfo endpoint has.
    pub userinfo: bool,
    /// Parameters of the authorization request that come back as a claim of the same name, which must then be checked.
    pub echoed: &'static [&'static str],
    /// Whether an issuer may stand for several tenants.
    tenants: bool,
    /// Other issuers of the same tenant, whose tokens are signed with the same keys.
    aliases: &'static [&'static str],
}

/// What stands for every provider without a preset.
pub const NONE: Preset = Preset {
    word: PresetWord::Keycloak,
    name: "",
    issuer: ("", ""),
    hosts: &[],
    userinfo: false,
    echoed: &[],
    tenants: false,
    aliases: &[],
};

const PRESETS: [Preset; 5] = [
    // developer.okta.com "API reference, OpenID Connect": the org's server has the bare origin as its issuer, others a path.
    // An ID token that comes with an access token is thin: groups and most of `profile` are at the userinfo endpoint only.
    Preset {
        word: PresetWord::Okta,
        name: "Okta",
        issuer: ("^https://[^/]+(/oauth2/[^/]+)?$", "https://example.okta.com/oauth2/default"),
        userinfo: true,
        ..NONE
    },
    // learn.microsoft.com "OpenID Connect on the Microsoft identity platform", "Access tokens": tokens of version 2 have the
    // issuer `https://login.microsoftonline.com/<tenant>/v2.0`, those of version 1 `https://sts.windows.net/<tenant>/`; both
    // publish their keys at login.microsoftonline.com and name graph.microsoft.com for userinfo. The documents of
    // `organizations` and `common` name the issuer `https://login.microsoftonline.com/{tenantid}/v2.0`.
    Preset {
        word: PresetWord::Entra,
        name: "Entra",
        issuer: (
            "^https://[^/]+/(([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|organizations|common)/v2\\.0|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/)$",
            "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/v2.0",
        ),
        hosts: &["login.microsoftonline.com", "graph.microsoft.com"],
        tenants: true,
        aliases: &["https://login.microsoftonline.com/{tenantid}/v2.0", "https://sts.windows.net/{tenantid}/"],
        ..NONE
    },
    // developers.google.com "OpenID Connect" and accounts.google.com/.well-known/openid-configuration: keys, token and
    // userinfo endpoint are on hosts of their own. `hd` only chooses what the page offers: the claim must be checked.
    Preset {
        word: PresetWord::Google,
        name: "Google",
        issuer: ("^https://accounts\\.google\\.com$", "https://accounts.google.com"),
        hosts: &["accounts.google.com", "oauth2.googleapis.com", "www.googleapis.com", "openidconnect.googleapis.com"],
        echoed: &["hd"],
        ..NONE
    },
    // keycloak.org "Securing applications, OpenID Connect": one issuer for each realm; before version 17 below `/auth`.
    Preset {
        word: PresetWord::Keycloak,
        name: "Keycloak",
        issuer: ("^https://[^/]+(/[^/]+)*/realms/[^/]+$", "https://keycloak.example.com/realms/example"),
        ..NONE
    },
    // auth0.com "Validate ID tokens": the issuer ends in a slash, with a custom domain too.
    Preset {
        word: PresetWord::Auth0,
        name: "Auth0",
        issuer: ("^https://[^/]+/$", "https://example.eu.auth0.com/"),
        ..NONE
    },
];

/// A multi-tenant issuer.
#[derive(Debug, PartialEq, Eq)]
pub struct MultiTenant {
    /// What its discovery document calls itself.
    pub discovered: String,
    front: String,
    rest: String,
}

impl MultiTenant {
    /// The issuer of one tenant.
    #[must_use]
    pub fn of(&self, tenant: &str) -> String {
        format!("{}{tenant}{}", self.front, self.rest)
    }
}

impl Preset {
    /// The particulars of a product, or of none.
    #[must_use]
    pub fn of(word: Option<PresetWord>) -> &'static Self {
        word.and_then(|word| PRESETS.iter().find(|preset| preset.word == word)).unwrap_or(&NONE)
    }

    /// Reports an issuer that cannot be one of the product's. On loopback anything may play the product.
    pub fn check(&self, context: &mut Context<'_>, issuer: &IssuerUrl, pointer: &str) {
        let (form, example) = self.issuer;
        let plays = issuer.url().scheme() == "http";
        if !plays && Regex::new(form).is_ok_and(|form| !form.is_match(issuer.as_str())) {
            let message = format!("`{}` is no issuer of {}", issuer.as_str(), self.name);
            let help = format!("it looks like `{example}`; without `preset` any issuer will do");
            context.push(Diagnostic::error(codes::PRESET_MISMATCH, message).help(help), pointer);
        }
    }

    /// Whether the issuer stands for several tenants, and how theirs look.
    #[must_use]
    pub fn multi_tenant(&self, issuer: &IssuerUrl) -> Option<MultiTenant> {
        if !self.tenants {
            return None;
        }
        MULTI_TENANT.iter().find_map(|word| {
            let (front, rest) = issuer.as_str().split_once(&format!("/{word}/"))?;
            let (front, rest) = (format!("{front}/"), format!("/{rest}"));
            Some(MultiTenant { discovered: format!("{front}{TENANT}{rest}"), front, rest })
        })
    }

    /// The issuers whose tokens come from the same tenant as those of `issuer`, itself among them.
    #[must_use]
    pub fn same_tenant(&self, issuer: &str) -> Vec<String> {
        static TENANT_ID: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new("/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/").ok());
        let tenant = TENANT_ID.as_ref().and_then(|id| id.captures(issuer)?.get(1));
        let aliases = self.aliases.iter().filter_map(|alias| Some(alias.replace(TENANT, tenant?.as_str())));
        let mut issuers: Vec<String> = aliases.filter(|alias| alias != issuer).collect();
        issuers.push(issuer.to_owned());
        issuers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT_ID: &str = "11111111-2222-3333-4444-555555555555";

    #[test]
    fn every_preset_knows_its_own_example() {
        for preset in &PRESETS {
            let form = Regex::new(preset.issuer.0).unwrap();
            assert!(form.is_match(preset.issuer.1), "{}", preset.name);
            assert!(!form.is_match("https://id.example.com/some/where"), "{}", preset.name);
            assert_eq!(Preset::of(Some(preset.word)).name, preset.name);
        }
        assert_eq!(Preset::of(None).hosts.len(), 0);
    }

    #[test]
    fn an_issuer_of_entra_is_of_one_tenant_or_of_several() {
        let entra = Preset::of(Some(PresetWord::Entra));
        let issuer = |text: &str| IssuerUrl::parse(text).unwrap();
        let several = entra.multi_tenant(&issuer("https://login.microsoftonline.com/organizations/v2.0")).unwrap();
        assert_eq!(several.discovered, "https://login.microsoftonline.com/{tenantid}/v2.0");
        let one = format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0");
        assert_eq!(several.of(TENANT_ID), one);
        assert_eq!(entra.multi_tenant(&issuer(&one)), None);
        assert_eq!(Preset::of(None).multi_tenant(&issuer("https://id.example/common/v2.0")), None);
        let mut same = entra.same_tenant(&one);
        same.sort();
        assert_eq!(same, [one, format!("https://sts.windows.net/{TENANT_ID}/")]);
        assert_eq!(Preset::of(None).same_tenant("https://id.example"), ["https://id.example"]);
    }
}
