//! The provider's tokens as they are kept and handed out, by a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::grant::{self, Grant};
use super::super::provider::ProviderTokens;
use super::super::vouching::{Unvouched, provider_token};
use super::world::*;
use crate::engine::fetch::{Fetch, FetchError, Target};
use crate::engine::issuing::{Issuing, OidcSignIn, SignIn, SignInKind};
use crate::engine::routes::Endpoint;
use crate::engine::store::Table;
use crate::oauth::jws::Algorithm;
use crate::oauth::url::IssuerUrl;

const PROVIDER: &str = "https://id.example";
const NOW: i64 = 1_800_000_000;

/// A world with a provider that answers to whoever refreshes, and an authorization server that signs in there.
fn world(answer: (u16, Value)) -> (World, Arc<Issuing>) {
    let world = World::new();
    let document = json!({
        "issuer": PROVIDER, "authorization_endpoint": format!("{PROVIDER}/authorize"),
        "token_endpoint": format!("{PROVIDER}/token"), "jwks_uri": format!("{PROVIDER}/jwks"),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    let discovery = format!("{PROVIDER}/.well-known/openid-configuration");
    world.network.says(&discovery, 200, "application/json", "", &document.to_string());
    says(&world, answer);
    let mut issuing = Arc::into_inner(world.issuing()).unwrap();
    let oidc = OidcSignIn {
        issuer: IssuerUrl::parse(PROVIDER).unwrap(),
        allowed_hosts: Vec::new(),
        client_id: "gateway".into(),
        client_secret: None,
        scopes: Vec::new(),
        parameters: Vec::new(),
        userinfo: false,
        algorithms: vec![Algorithm::Rs256],
        discovered_issuer: PROVIDER.into(),
        tenants: Vec::new(),
        expected: Vec::new(),
    };
    issuing.sign_in =
        vec![SignIn { name: "corp".into(), title: "Corp".into(), kind: SignInKind::Oidc(Box::new(oidc)) }];
    (world, Arc::new(issuing))
}

fn says(world: &World, (status, answer): (u16, Value)) {
    world.network.says(&format!("{PROVIDER}/token"), status, "application/json", "", &answer.to_string());
}

/// Requests to the token endpoint.
fn renewals(world: &World) -> usize {
    world.network.asked.lock().unwrap().iter().filter(|(_, url)| url.ends_with("/token")).count()
}

fn renewed(number: usize) -> (u16, Value) {
    let access = format!("access-{number}");
    (200, json!({ "access_token": access, "token_type": "bearer", "expires_in": 300, "refresh_token": "next" }))
}

/// A grant of alice, whose provider gave these tokens.
pub fn tokens_of(issuer: &str, until: Option<i64>, refresh: Option<&str>) -> Grant {
    let tokens = ProviderTokens {
        issuer: issuer.into(),
        access: "access-0".into(),
        until,
        refresh: refresh.map(str::to_owned),
        asked: NOW,
        busy: 0,
        rest: 0,
        told: serde_json::Map::new(),
    };
    Grant {
        client: "desk".into(),
        redirect: CALLBACK.into(),
        subject: "corp:alice".into(),
        provider: "corp".into(),
        print: String::new(),
        claims: serde_json::Map::new(),
        scopes: Vec::new(),
        secret: String::new(),
        turn: 0,
        turned: NOW,
        began: NOW,
        renewable: true,
        tokens: Some(tokens),
    }
}

async fn granted(issuing: &Issuing, id: &str, until: Option<i64>, refresh: Option<&str>) {
    let (name, grant) = (grant::row_name(issuing, id), tokens_of(PROVIDER, until, refresh));
    assert!(issuing.works.vault.add(Table::Grants, &name, &grant, 10_000, "alice").await.unwrap());
}

async fn access(issuing: &Arc<Issuing>, id: &str) -> Result<String, Unvouched> {
    provider_token(issuing, id).await.map(|token| token.text)
}

#[tokio::test]
async fn a_token_of_the_provider_is_handed_out_while_it_is_good_and_renewed_once_when_it_is_not() {
    let (world, issuing) = world(renewed(1));
    granted(&issuing, "g", Some(NOW + 300), Some("first")).await;
    assert_eq!(access(&issuing, "g").await.unwrap(), "access-0");
    world.later(269);
    assert_eq!((access(&issuing, "g").await.unwrap().as_str(), renewals(&world)), ("access-0", 0));
    world.later(1);
    let many = tokio::join!(access(&issuing, "g"), access(&issuing, "g"), access(&issuing, "g"));
    for token in [many.0, many.1, many.2] {
        assert_eq!(token.unwrap(), "access-1");
    }
    assert_eq!(renewals(&world), 1, "whoever needs it at the same time waits");
    says(&world, renewed(2));
    assert_eq!((access(&issuing, "g").await.unwrap().as_str(), renewals(&world)), ("access-1", 1));
    world.later(300);
    assert_eq!((access(&issuing, "g").await.unwrap().as_str(), renewals(&world)), ("access-2", 2));
    assert!(matches!(access(&issuing, "other").await, Err(Unvouched::Over)), "a grant that is not there has none");
}

#[tokio::test]
async fn a_token_without_an_end_lasts_and_one_that_cannot_be_renewed_ends() {
    let (world, issuing) = world(renewed(1));
    granted(&issuing, "forever", None, None).await;
    granted(&issuing, "short", Some(NOW + 60), None).await;
    assert_eq!(access(&issuing, "short").await.unwrap(), "access-0");
    world.later(5_000);
    assert_eq!(access(&issuing, "forever").await.unwrap(), "access-0");
    assert!(matches!(access(&issuing, "short").await, Err(Unvouched::Over)));
    assert_eq!(renewals(&world), 0);
}

#[tokio::test]
async fn h10_a_refusal_ends_the_grant_and_silence_does_not() {
    let (world, issuing) = world((503, json!({ "error": "temporarily_unavailable" })));
    granted(&issuing, "g", Some(NOW), Some("first")).await;
    for _ in 0..3 {
        assert!(matches!(access(&issuing, "g").await, Err(Unvouched::Unavailable)));
    }
    assert_eq!(renewals(&world), 1, "it is left alone for some seconds");
    world.later(5);
    says(&world, renewed(1));
    assert_eq!(access(&issuing, "g").await.unwrap(), "access-1", "the grant was still there");
    world.later(300);
    says(&world, (400, json!({ "error": "invalid_grant" })));
    assert!(matches!(access(&issuing, "g").await, Err(Unvouched::Over)));
    assert!(issuing.works.revocations.contains("g"), "and so do the gateway's own tokens");
}

#[tokio::test]
async fn whoever_asked_and_never_came_back_is_waited_for_no_longer_than_it_may_take() {
    let (world, issuing) = world(renewed(1));
    granted(&issuing, "g", Some(NOW), Some("first")).await;
    let busy = |grant: &mut Grant| grant.tokens.as_mut().unwrap().busy = NOW + 25;
    grant::change(&issuing, "g", busy).await.unwrap().unwrap();
    world.later(25);
    assert_eq!(access(&issuing, "g").await.unwrap(), "access-1");
}

#[tokio::test]
async fn a_provider_that_gives_enormous_tokens_is_refused() {
    let large = json!({ "access_token": "a".repeat(16 * 1024 + 1), "token_type": "bearer" });
    let (world, issuing) = world((200, large));
    granted(&issuing, "g", Some(NOW), Some("first")).await;
    assert!(matches!(access(&issuing, "g").await, Err(Unvouched::Refused)));
    let most = json!({ "access_token": "a".repeat(16 * 1024), "token_type": "bearer" });
    world.later(5);
    says(&world, (200, most));
    assert_eq!(access(&issuing, "g").await.unwrap().len(), 16 * 1024, "the positive control");
}

#[tokio::test]
async fn the_providers_tokens_are_sealed_in_the_store_and_absent_from_what_is_printed() {
    let (world, issuing) = world(renewed(1));
    granted(&issuing, "g", None, Some("a-refresh-token")).await;
    let rows = world.rows(Table::Grants).await;
    let holds = |row: &Vec<u8>, what: &[u8]| row.windows(what.len()).any(|window| window == what);
    assert_eq!(rows.len(), 1);
    assert!(rows.iter().all(|row| !holds(row, b"access-0") && !holds(row, b"a-refresh-token")));
    let held = issuing.works.vault.get::<Grant>(Table::Grants, &grant::row_name(&issuing, "g")).await.unwrap().unwrap();
    let printed = format!("{:?}", held.value.tokens);
    assert!(printed.contains(PROVIDER) && !printed.contains("access-0") && !printed.contains("refresh"), "{printed}");
}

/// A network in which the provider says nothing for as long as it is told to.
#[derive(Debug)]
struct Silent {
    network: Arc<Network>,
    silent: AtomicBool,
}

#[async_trait]
impl Fetch for Silent {
    async fn get(&self, url: &url::Url) -> Result<Bytes, FetchError> {
        let request = http::Request::get(url.as_str()).body(Bytes::new()).unwrap();
        self.send(Target::Operator, request).await.map(http::Response::into_body)
    }

    async fn send(&self, target: Target, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, FetchError> {
        if self.silent.load(Ordering::SeqCst) && request.uri().to_string().starts_with(PROVIDER) {
            std::future::pending::<()>().await;
        }
        self.network.send(target, request).await
    }
}

#[tokio::test(start_paused = true)]
async fn j02_a_browser_has_its_answer_within_five_seconds_from_a_provider_that_says_nothing() {
    let (world, issuing) = world(renewed(1));
    let mut issuing = Arc::into_inner(issuing).unwrap();
    let silent = Arc::new(Silent { network: Arc::clone(&world.network), silent: AtomicBool::new(true) });
    issuing.works.fetch = Arc::clone(&silent) as Arc<dyn Fetch>;
    let (issuing, mut jar) = (Arc::new(issuing), Jar::new());
    let page = world.ask_of(&issuing, Method::GET, Endpoint::Authorize, &authorization(), "", &mut jar).await;
    let allowed = format!("request={}&provider=corp", field(&page, "request"));
    let began = Instant::now();
    let refused = world.ask_of(&issuing, Method::POST, Endpoint::Consent, "", &allowed, &mut jar).await;
    assert_eq!(parameter(&location(&refused), "error").as_deref(), Some("temporarily_unavailable"), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    silent.silent.store(false, Ordering::SeqCst);
    let leaving = world.ask_of(&issuing, Method::POST, Endpoint::Consent, "", &allowed, &mut jar).await;
    let state = parameter(&location(&leaving), "state").expect("on the way to the provider");
    silent.silent.store(true, Ordering::SeqCst);
    let (back, began) = (format!("code=c&state={state}"), Instant::now());
    let refused = world.ask_of(&issuing, Method::GET, Endpoint::Callback("corp"), &back, "", &mut jar).await;
    assert_eq!(parameter(&location(&refused), "error").as_deref(), Some("temporarily_unavailable"), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
