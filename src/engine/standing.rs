//! Whom the gateway's own tokens may speak for, by the policy as it is now.
//!
//! A name is not a person: one who is removed from a file of users and one who is added later may share it, and a provider may
//! come to be another one under the name that it has in the policy. So every grant and token remembers the *print* of whoever
//! vouched, and is worth nothing once the policy has another one or none: without asking the store, over restarts, and at
//! every replica.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::issuing::{SignIn, SignInKind, StaticClient, User};
use super::keyring::Keyring;
use super::seal::mac;

/// The claim that holds the print of whoever vouched, as the key of the token hashes it: a token tells nothing about a
/// password.
pub const VOUCHER: &str = "voucher";

/// Who vouches, hashed.
pub type Print = String;

/// What the id of every client that registered by itself begins with; 43 characters of base64url follow.
pub const REGISTERED: &str = "c-";

/// The prints of somebody for whom the policy vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// It changes with the issuer of a provider and what its ID tokens must carry, or with name and password of a person: then
    /// the sign-in is over.
    pub sign_in: Print,
    /// It changes with that, and with what a file of users says about the person: then tokens are over, and the next ones say
    /// what holds now.
    pub token: Print,
}

/// Whom the policy knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By the name of the provider.
    providers: HashMap<String, Vouching>,
    /// Clients that the policy names, with the scopes that they may have without a person if they may act for themselves.
    clients: HashMap<String, Option<Vec<String>>>,
    /// Whether clients may register by themselves.
    registration: bool,
    /// Whether a client may be named by the URL of its metadata document.
    documents: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Vouching {
    /// For everybody whom one of these issuers signs in: a provider's own, or its tenants that the policy names.
    Everybody(Vec<(String, Vouched)>),
    /// For the people of a file, by their names.
    People(HashMap<String, Vouched>),
}

impl Standing {
    /// Whom a policy with these ways to sign in and these clients knows.
    #[must_use]
    pub fn new(sign_in: &[SignIn], clients: &[StaticClient], registration: bool, documents: bool) -> Self {
        Self {
            providers: sign_in.iter().map(|sign_in| (sign_in.name.clone(), vouching(&sign_in.kind))).collect(),
            clients: clients.iter().map(own_scopes).collect(),
            registration,
            documents,
        }
    }

    /// Who may have vouched for a person: `subject` is the name of a provider, a colon, and what it says.
    fn vouching(&self, subject: &str) -> impl Iterator<Item = (Option<&str>, &Vouched)> {
        let found = subject.split_once(':').and_then(|(provider, name)| Some((self.providers.get(provider)?, name)));
        let (issuers, person) = match found {
            Some((Vouching::Everybody(issuers), _)) => (issuers.as_slice(), None),
            Some((Vouching::People(people), name)) => (&[][..], people.get(name)),
            None => (&[][..], None),
        };
        issuers
            .iter()
            .map(|(issuer, vouched)| (Some(issuer.as_str()), vouched))
            .chain(person.map(|vouched| (None, vouched)))
    }

    /// The prints of whoever vouches now for the person of a sign-in that remembers `print`.
    #[must_use]
    pub fn vouched(&self, subject: &str, print: &Print) -> Option<&Vouched> {
        self.vouching(subject).map(|(_, vouched)| vouched).find(|vouched| vouched.sign_in == *print)
    }

    /// The print that a sign-in of the person remembers, of an ID token of `issuer` where there is one.
    #[must_use]
    pub fn print(&self, subject: &str, issuer: Option<&str>) -> Option<&Print> {
        let all: Vec<_> = self.vouching(subject).collect();
        let found = match all.as_slice() {
            // The only one is whom the sign-in asked, and its every word was judged already.
            [only] => Some(only),
            tenants => tenants.iter().find(|(tenant, _)| *tenant == issuer),
        };
        found.map(|(_, vouched)| &vouched.sign_in)
    }

    /// Whether a token by the key `kid` may still speak for whom it was issued.
    #[must_use]
    pub fn covers(&self, keyring: &Keyring, kid: &str, claims: &Map<String, Value>) -> bool {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let (Some(subject), Some(client)) = (text("sub"), text("client_id")) else { return false };
        if !claims.contains_key("sid") {
            let Some(Some(own)) = self.clients.get(client) else { return false };
            let mut held = text("scope").unwrap_or_default().split(' ').filter(|scope| !scope.is_empty());
            return subject == client && held.all(|scope| own.iter().any(|own| own == scope));
        }
        let Some(presented) = text(VOUCHER) else { return false };
        let mut vouching = self.vouching(subject);
        self.admits(client) && vouching.any(|(_, vouched)| keyring.is_voucher(kid, presented, &vouched.token))
    }

    /// Whether a client may still be one. That clients may register by themselves speaks for those that did, and not for
    /// one that the policy no longer names.
    fn admits(&self, client: &str) -> bool {
        let registered = || client.strip_prefix(REGISTERED).is_some_and(|id| id.len() == 43);
        self.clients.contains_key(client)
            || (self.documents && client.starts_with("https://"))
            || (self.registration && registered())
    }
}

fn own_scopes(client: &StaticClient) -> (String, Option<Vec<String>>) {
    (client.id.clone(), client.grants.service.then(|| client.scopes.clone()))
}

fn vouching(kind: &SignInKind) -> Vouching {
    let print = |parts: &[&str]| {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        URL_SAFE_NO_PAD.encode(mac(b"", &parts))
    };
    let provider = |issuer: &str, expected: &[&str]| {
        let sign_in = print(&[&["provider", issuer], expected].concat());
        (issuer.to_owned(), Vouched { token: sign_in.clone(), sign_in })
    };
    match kind {
        SignInKind::Oidc(oidc) => {
            let pair = |(name, value): &'_ (String, Option<String>)| [name.clone(), value.clone().unwrap_or_default()];
            let expected: Vec<String> = oidc.expected.iter().flat_map(pair).collect();
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            let only = oidc.issuer.as_str();
            let tenants = oidc.tenants.iter().map(String::as_str);
            let issuers = tenants.chain(Some(only).filter(|_| oidc.tenants.is_empty()));
            Vouching::Everybody(issuers.map(|issuer| provider(issuer, &expected)).collect())
        }
        SignInKind::GitHub(github) => Vouching::Everybody(vec![provider(github.issuer.as_str(), &[])]),
        SignInKind::Local(users) => {
            let person = |user: &User| {
                let claims = Value::Object(user.claims.clone()).to_string();
                let sign_in = print(&["person", &user.name, &user.password]);
                let token = print(&["person", &user.name, &user.password, &claims]);
                (user.name.clone(), Vouched { sign_in, token })
            };
            Vouching::People(users.iter().map(person).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::issuing::{ClientProof, Grants, OidcSignIn};
    use crate::oauth::url::IssuerUrl;

    fn people(users: &[(&str, &str)]) -> SignIn {
        let user = |(name, password): &(&str, &str)| User {
            name: (*name).to_owned(),
            password: (*password).to_owned(),
            claims: Map::new(),
        };
        let users: Vec<User> = users.iter().map(user).collect();
        SignIn { name: "people".into(), title: String::new(), kind: SignInKind::Local(users.into()) }
    }

    fn of(users: &[(&str, &str)]) -> Standing {
        Standing::new(&[people(users)], &[], true, true)
    }

    #[test]
    fn h10_a_print_is_of_one_name_and_one_password() {
        let before = of(&[("alice", "hash-1"), ("bob", "hash-1")]);
        let alice = before.print("people:alice", None).unwrap();
        assert_ne!(Some(alice), before.print("people:bob", None), "one password of two people");
        assert_eq!(of(&[("alice", "hash-1")]).print("people:alice", None), Some(alice), "whatever the others");
        assert_ne!(of(&[("alice", "hash-2")]).print("people:alice", None), Some(alice));
        for nobody in ["people:carol", "others:alice", "alice", "people", ""] {
            assert_eq!(before.print(nobody, None), None, "{nobody}");
        }
    }

    #[test]
    fn h10_a_tenant_that_is_taken_out_vouches_for_nobody_and_the_others_go_on() {
        let of = |tenants: &[&str], domain: &str| {
            let issuer = IssuerUrl::parse("https://login.example.com/organizations/v2.0").unwrap();
            let oidc = OidcSignIn {
                discovered_issuer: issuer.as_str().to_owned(),
                issuer,
                allowed_hosts: Vec::new(),
                client_id: "gateway".into(),
                client_secret: None,
                scopes: Vec::new(),
                parameters: Vec::new(),
                userinfo: false,
                algorithms: Vec::new(),
                tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
                expected: vec![("hd".into(), Some(domain.into()))],
            };
            let kind = SignInKind::Oidc(Box::new(oidc));
            Standing::new(&[SignIn { name: "corp".into(), title: String::new(), kind }], &[], true, true)
        };
        let before = of(&["one", "two"], "example.com");
        let print = |issuer| before.print("corp:alice", Some(issuer)).unwrap();
        assert_ne!(print("one"), print("two"));
        assert_eq!(before.print("corp:alice", Some("three")), None);
        for (tenants, domain, one, two) in [
            (&["two", "one", "three"][..], "example.com", true, true),
            (&["two"], "example.com", false, true),
            (&["two", "three"], "example.com", false, true),
            (&[], "example.com", false, false),
            (&["one", "two"], "other.example", false, false),
        ] {
            let now = of(tenants, domain);
            let vouched = |issuer| now.vouched("corp:alice", print(issuer)).is_some();
            assert_eq!((vouched("one"), vouched("two")), (one, two), "{tenants:?} {domain}");
        }
    }

    #[test]
    fn h10_a_machine_has_what_the_policy_lets_it_have_now() {
        let machine = |service, scopes: &[&str]| StaticClient {
            id: "ci".into(),
            name: String::new(),
            proof: ClientProof::None,
            redirects: Vec::new(),
            grants: Grants { code: false, refresh: false, service },
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        };
        let token = |subject: &str, scope: &str| {
            let claims = serde_json::json!({ "sub": subject, "client_id": "ci", "scope": scope });
            claims.as_object().unwrap().clone()
        };
        let keyring = Keyring::new(crate::oauth::jws::Algorithm::Es256);
        for (client, subject, scope, covered) in [
            (machine(true, &["a", "b"]), "ci", "a b", true),
            (machine(true, &["a", "b"]), "ci", "", true),
            (machine(true, &["a"]), "ci", "a b", false),
            (machine(true, &[]), "ci", "a", false),
            (machine(false, &["a"]), "ci", "a", false),
            (machine(true, &["a"]), "people:alice", "a", false),
        ] {
            let standing = Standing::new(&[], &[client], true, true);
            assert_eq!(standing.covers(&keyring, "k", &token(subject, scope)), covered, "{subject} {scope}");
        }
        assert!(!of(&[]).covers(&keyring, "k", &token("ci", "")), "nobody of that name");
    }

    #[test]
    fn h10_a_client_is_one_as_long_as_the_policy_lets_it() {
        let client = StaticClient {
            id: "desk".into(),
            name: String::new(),
            proof: ClientProof::None,
            redirects: Vec::new(),
            grants: Grants { code: true, refresh: true, service: false },
            scopes: Vec::new(),
        };
        for (registration, documents) in [(true, false), (false, true), (false, false)] {
            let standing = Standing::new(&[], std::slice::from_ref(&client), registration, documents);
            assert!(standing.admits("desk"));
            assert!(!standing.admits("table") && !standing.admits("c-table"), "one that was named before");
            assert_eq!(standing.admits(&format!("c-{}", "r".repeat(43))), registration);
            assert_eq!(standing.admits("https://client.example/a"), documents);
        }
    }
}
