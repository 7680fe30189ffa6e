//! GitHub's tokens that do not end: the person is looked up again all the same.

use std::sync::Arc;

use serde_json::json;

use super::super::grant::Grant;
use super::super::vouching::{Unvouched, provider_token};
use super::super::{grant, vouching};
use super::vouching::tokens_of;
use super::world::*;
use crate::engine::issuing::{GitHubSignIn, Issuing, SignIn, SignInKind};
use crate::engine::store::Table;
use crate::oauth::url::IssuerUrl;
use crate::secret::{Held, SecretRef};

const GITHUB: &str = "https://github.com";
const USER: &str = "https://api.github.com/user";

fn world() -> (World, Arc<Issuing>, tempfile::TempDir) {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("secret");
    std::fs::write(&path, "secret").unwrap();
    let from = SecretRef::File(path);
    let url = |text: &str| url::Url::parse(text).unwrap();
    let github = GitHubSignIn {
        issuer: IssuerUrl::parse(GITHUB).unwrap(),
        authorize: url("https://github.com/login/oauth/authorize"),
        token: url("https://github.com/login/oauth/access_token"),
        api: url("https://api.github.com"),
        client_id: "gateway".into(),
        client_secret: Held { secret: from.read().unwrap(), from },
        scopes: Vec::new(),
        emails: false,
        organizations: Vec::new(),
        groups: false,
    };
    let mut issuing = Arc::into_inner(world.issuing()).unwrap();
    let kind = SignInKind::GitHub(Box::new(github));
    issuing.sign_in = vec![SignIn { name: "hub".into(), title: "GitHub".into(), kind }];
    (world, Arc::new(issuing), folder)
}

fn says(world: &World, status: u16, answer: &serde_json::Value) {
    world.network.says(USER, status, "application/json", "", &answer.to_string());
}

async fn held(issuing: &Issuing) -> Option<Grant> {
    let entry = issuing.works.vault.get::<Grant>(Table::Grants, &grant::row_name(issuing, "g")).await.unwrap();
    entry.map(|entry| entry.value)
}

#[tokio::test]
async fn h10_a_token_without_an_end_is_good_as_long_as_github_says_whose_it_is() {
    let (world, issuing, _folder) = world();
    says(&world, 200, &json!({ "id": 583_231, "login": "octocat" }));
    let grant = Grant { subject: "hub:583231".into(), provider: "hub".into(), ..tokens_of(GITHUB, None, None) };
    let name = grant::row_name(&issuing, "g");
    assert!(issuing.works.vault.add(Table::Grants, &name, &grant, 10_000, "").await.unwrap());
    assert!(!vouching::is_due(&issuing, &grant), "it has just been asked");
    world.later(60);
    assert!(vouching::is_due(&issuing, &grant));
    vouching::vouch(&issuing, "g", &grant).await.unwrap();
    assert_eq!(world.network.asked(), 1, "the person is looked up with the token that is there");
    assert!(!vouching::is_due(&issuing, &held(&issuing).await.unwrap()));
    assert_eq!(provider_token(&issuing, "g").await.unwrap().text, "access-0");
    world.later(60);
    says(&world, 401, &json!({ "message": "Bad credentials" }));
    let outcome = vouching::vouch(&issuing, "g", &grant).await;
    assert!(matches!(outcome, Err(Unvouched::Over)), "{outcome:?}");
    assert!(held(&issuing).await.is_none() && issuing.works.revocations.contains("g"));
}

#[tokio::test]
async fn a_token_that_is_another_persons_now_ends_the_grant() {
    let (world, issuing, _folder) = world();
    says(&world, 200, &json!({ "id": 1, "login": "octocat" }));
    let grant = Grant { subject: "hub:583231".into(), provider: "hub".into(), ..tokens_of(GITHUB, None, None) };
    let name = grant::row_name(&issuing, "g");
    assert!(issuing.works.vault.add(Table::Grants, &name, &grant, 10_000, "").await.unwrap());
    world.later(60);
    assert!(matches!(vouching::vouch(&issuing, "g", &grant).await, Err(Unvouched::Over)));
}
