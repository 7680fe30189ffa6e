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

/// The prints of somebody for whom the policy vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// It changes with the issuer of a provider, or with name and password of a person: then the sign-in is over.
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
    /// For everybody whom a provider signs in.
    Everybody(Vouched),
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

    /// The prints of whoever vouches for a person now: `subject` is the name of a provider, a colon, and what it says.
    #[must_use]
    pub fn vouched(&self, subject: &str) -> Option<&Vouched> {
        let (provider, name) = subject.split_once(':')?;
        match self.providers.get(provider)? {
            Vouching::Everybody(vouched) => Some(vouched),
            Vouching::People(people) => people.get(name),
        }
    }

    /// The print that a sign-in of the person remembers.
    #[must_use]
    pub fn print(&self, subject: &str) -> Option<&Print> {
        self.vouched(subject).map(|vouched| &vouched.sign_in)
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
        let vouched = || Some(keyring.is_voucher(kid, text(VOUCHER)?, &self.vouched(subject)?.token));
        self.admits(client) && vouched() == Some(true)
    }

    /// Whether a client may still be one.
    fn admits(&self, client: &str) -> bool {
        let by_itself = if client.starts_with("https://") { self.documents } else { self.registration };
        by_itself || self.clients.contains_key(client)
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
    let provider = |issuer: &str| {
        let sign_in = print(&["provider", issuer]);
        Vouching::Everybody(Vouched { token: sign_in.clone(), sign_in })
    };
    match kind {
        SignInKind::Oidc(oidc) => provider(oidc.issuer.as_str()),
        SignInKind::GitHub(github) => provider(github.issuer.as_str()),
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
    use crate::engine::issuing::{ClientProof, Grants};

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
        let alice = before.print("people:alice").unwrap();
        assert_ne!(Some(alice), before.print("people:bob"), "one password of two people");
        assert_eq!(of(&[("alice", "hash-1")]).print("people:alice"), Some(alice), "whatever the others");
        assert_ne!(of(&[("alice", "hash-2")]).print("people:alice"), Some(alice));
        for nobody in ["people:carol", "others:alice", "alice", "people", ""] {
            assert_eq!(before.print(nobody), None, "{nobody}");
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
    fn a_client_is_one_as_long_as_the_policy_lets_it() {
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
            assert_eq!(standing.admits("c-registered"), registration);
            assert_eq!(standing.admits("https://client.example/a"), documents);
        }
    }
}
