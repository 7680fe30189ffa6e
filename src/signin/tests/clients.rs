//! Clients that register or have a document: what is kept of them, and for how long.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::super::*;
use super::world::*;
use crate::engine::clock::Clock;
use crate::engine::issuing::Issuing;
use crate::oauth::jws::Algorithm;
use crate::oauth::signer::Signer;
use crate::stores::memory::Memory;

const HOUR: i64 = 3600;

/// Registers the same public client, each time alike.
async fn register(issuing: &Arc<Issuing>) -> String {
    let body = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let (endpoint, method, body) = (Endpoint::Register, Method::POST, Bytes::from(body.to_string()));
    let address = "192.0.2.1".parse().unwrap();
    let request = Request { endpoint, method: &method, headers: &headers, query: "", body: &body, address, id: "r" };
    read(&answer(issuing, request).await)["client_id"].as_str().unwrap().to_owned()
}

fn of(client: &str, form: &str) -> String {
    form.replace(&url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect::<String>(), client)
}

async fn asked(world: &World, client: &str) -> StatusCode {
    let query = of(client, &authorization());
    world.ask(Method::GET, Endpoint::Authorize, &query, "", &mut Jar::new()).await.status
}

#[tokio::test]
async fn i02_whoever_registers_again_is_kept_as_long_as_whoever_registers_first() {
    let world = World::new();
    let id = register(&world.issuing()).await;
    world.later(23 * HOUR);
    assert_eq!(register(&world.issuing()).await, id);
    world.later(22 * HOUR);
    assert_eq!(asked(&world, &id).await, 200);
    world.later(2 * HOUR);
    assert_eq!(asked(&world, &id).await, 400, "the positive control: nobody used it");
}

#[tokio::test]
async fn a_registered_client_is_kept_as_long_as_it_is_used() {
    let mut world = World::new();
    (world.lifetimes.refresh, world.lifetimes.refresh_idle) = (1_000 * 24 * HOUR, 1_000 * 24 * HOUR);
    let id = register(&world.issuing()).await;
    let mut jar = Jar::new();
    let page = world.ask(Method::GET, Endpoint::Authorize, &of(&id, &authorization()), "", &mut jar).await;
    let code = entered(&world, &page, &mut jar).await;
    let mut tokens = read(&world.token(&of(&id, &redemption(&code))).await);
    for _ in 0..3 {
        world.later(80 * 24 * HOUR);
        let refresh = tokens["refresh_token"].as_str().unwrap();
        let form = format!("grant_type=refresh_token&client_id={id}&refresh_token={refresh}");
        tokens = read(&world.token(&form).await);
        assert!(tokens["access_token"].is_string(), "{tokens}");
    }
    world.later(91 * 24 * HOUR);
    assert_eq!(asked(&world, &id).await, 400, "the positive control");
}

#[tokio::test]
async fn a_document_that_cannot_be_had_for_a_moment_signs_nobody_out() {
    let world = World::new();
    let tokens = read(&world.token(&redemption(&code(&world, &mut Jar::new()).await)).await);
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let client: String = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect();
    let form = format!("grant_type=refresh_token&client_id={client}&refresh_token={refresh}");
    for status in [500, 503, 429] {
        world.network.says(CLIENT, status, "application/json", "", "{}");
        let answer = world.token(&form).await;
        assert_eq!((answer.status.as_u16(), &read(&answer)["error"]), (503, &json!("temporarily_unavailable")));
        assert!(answer.headers.iter().any(|(name, _)| name == "retry-after"), "{answer:?}");
    }
    world.network.says(CLIENT, 404, "application/json", "", "{}");
    let answer = world.token(&form).await;
    assert_eq!((answer.status.as_u16(), &read(&answer)["error"]), (401, &json!("invalid_client")), "it is gone");
    world.publishes(&document(CALLBACK));
    assert!(read(&world.token(&form).await)["access_token"].is_string(), "nothing was used up");
}

#[tokio::test]
async fn i03_what_was_fetched_as_keys_is_no_document_of_a_client() {
    let (world, url) = (World::new(), url::Url::parse(CLIENT).unwrap());
    let issuing = world.issuing();
    let large = document(CALLBACK).replace("A client", &"a".repeat(6 * 1024)).replacen('{', "{\"keys\":[],", 1);
    world.publishes(&large);
    documents::keys(&issuing, &url).await.unwrap();
    assert_eq!(world.network.asked(), 1);
    assert!(documents::client(&issuing, CLIENT).await.is_err(), "it is larger than a document may be");
    assert_eq!(world.network.asked(), 2, "and was asked for");
}

#[tokio::test]
async fn i04_documents_are_fetched_only_so_many_at_once() {
    let world = World::new();
    let issuing = world.issuing();
    let turns: Vec<_> = std::iter::from_fn(|| issuing.works.documents.turn()).take(1_000).collect();
    assert_eq!(turns.len(), 256);
    let error = documents::client(&issuing, CLIENT).await.unwrap_err();
    assert_eq!((error.status.as_u16(), world.network.asked()), (503, 0));
    drop(turns);
    assert!(documents::client(&issuing, CLIENT).await.is_ok(), "the positive control");
}

/// From a consent page to a code.
async fn entered(world: &World, page: &Answer, jar: &mut Jar) -> String {
    let leaving = world.consent(page, jar).await;
    let state = parameter(&location(&leaving), "state").unwrap();
    let page = world.ask(Method::GET, Endpoint::SignIn, &format!("state={state}"), "", jar).await;
    let body = format!("state={}&name=alice&password={}", field(&page, "state"), PASSWORD.replace(' ', "+"));
    let entered = world.ask(Method::POST, Endpoint::SignIn, "", &body, jar).await;
    parameter(&location(&entered), "code").unwrap()
}

#[tokio::test]
async fn a_state_of_several_kib_comes_back_with_an_error_too() {
    let world = World::new();
    let state = "s".repeat(6_000);
    let query = authorization().replace("state=s", &format!("state={state}")).replace("S256", "plain");
    let refused = world.ask(Method::GET, Endpoint::Authorize, &query, "", &mut Jar::new()).await;
    let at = location(&refused);
    assert_eq!(parameter(&at, "error").as_deref(), Some("invalid_request"));
    assert_eq!(parameter(&at, "state"), Some(state));
    let query = authorization().replace("state=s", &format!("state={}", "s".repeat(20_000)));
    let refused = world.ask(Method::GET, Endpoint::Authorize, &query, "", &mut Jar::new()).await;
    assert_eq!(parameter(&location(&refused), "state"), None, "one that is itself at fault does not");
}

#[tokio::test]
async fn f04_a_client_that_wants_the_person_to_be_asked_has_them_asked() {
    let world = World::new();
    let mut jar = Jar::new();
    code(&world, &mut jar).await;
    let ask = async |more: &str| {
        let query = format!("{}{more}", authorization());
        world.ask(Method::GET, Endpoint::Authorize, &query, "", &mut jar.clone()).await.status
    };
    assert_eq!(ask("").await, 303, "remembered");
    for prompt in ["consent", "login", "select_account"] {
        assert_eq!(ask(&format!("&prompt={prompt}")).await, 200, "{prompt}");
    }
}

#[tokio::test]
async fn e06_the_resource_is_this_service_in_whatever_case_its_host_was_typed() {
    let world = World::new();
    let ask = async |resource: &str| {
        let query = url::form_urlencoded::Serializer::new(authorization()).append_pair("resource", resource).finish();
        world.ask(Method::GET, Endpoint::Authorize, &query, "", &mut Jar::new()).await.status
    };
    for good in [ISSUER, "https://mcp.example/files/", "HTTPS://MCP.example/files"] {
        assert_eq!(ask(good).await, 200, "{good}");
    }
    for bad in [
        "https://mcp.example/Files",
        "https://mcp.example",
        "https://mcp.example/",
        "https://mcp.example/files//",
        "https://mcp.example/files/x",
        "https://mcp.example:443/files",
        "https://mcp.example.evil/files",
        "mcp.example/files",
        "/files",
        "files",
    ] {
        assert_eq!(ask(bad).await, 303, "{bad}");
    }
}

#[tokio::test]
async fn h10_what_is_revoked_stays_revoked_when_the_policy_shortens_tokens() {
    let mut world = World::new();
    world.lifetimes.access = 24 * HOUR;
    let tokens = read(&world.token(&redemption(&code(&world, &mut Jar::new()).await)).await);
    let claims = crate::oauth::jws::show_unverified(tokens["access_token"].as_str().unwrap()).unwrap().claims;
    world.lifetimes.access = HOUR;
    let client: String = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect();
    let token = tokens["refresh_token"].as_str().unwrap();
    let form = format!("token={token}&client_id={client}");
    assert_eq!(world.ask(Method::POST, Endpoint::Revoke, "", &form, &mut Jar::new()).await.status, 200);
    world.later(23 * HOUR);
    let works = world.issuing().works.clone();
    works.revocations.reread(&works.vault).await.unwrap();
    let Value::String(grant) = &claims["sid"] else { panic!("{claims:?}") };
    assert!(works.revocations.contains(grant), "the token that was issued for a day would still be good");
}

#[tokio::test]
async fn h08_a_client_with_a_document_proves_who_it_is_by_its_own_keys() {
    const KEYS: &str = "https://client.example/keys.json";
    let (own, other) = (Signer::generate(Algorithm::Es256).unwrap(), Signer::generate(Algorithm::Es256).unwrap());
    let keys = json!({ "keys": [own.jwk()] });
    for (what, member, value) in [("in the document", "jwks", keys.clone()), ("elsewhere", "jwks_uri", json!(KEYS))] {
        let world = World::new();
        let mut document: Value = serde_json::from_str(&document(CALLBACK)).unwrap();
        document["token_endpoint_auth_method"] = "private_key_jwt".into();
        document[member] = value;
        world.publishes(&document.to_string());
        world.network.says(KEYS, 200, "application/jwk-set+json", "max-age=60", &keys.to_string());
        let redemption = redemption(&code(&world, &mut Jar::new()).await);
        let now = 1_800_000_000;
        let said = json!({ "iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "exp": now + 60, "iat": now, "jti": "1" });
        let with = |signer: &Signer, changes: Value| {
            let mut claims = said.as_object().unwrap().clone();
            claims.extend(changes.as_object().unwrap().clone());
            let assertion = signer.sign("JWT", &claims).unwrap();
            let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
            format!("{redemption}&{kind}&client_assertion={assertion}")
        };
        for (wrong, form) in [
            ("nothing", redemption.clone()),
            ("another key", with(&other, json!({}))),
            ("for another server", with(&own, json!({ "aud": "https://other.example" }))),
            ("another client", with(&own, json!({ "iss": "https://client.example/other.json" }))),
            ("without an id", with(&own, json!({ "jti": null }))),
            ("too old", with(&own, json!({ "exp": now - 61 }))),
            ("too long", with(&own, json!({ "exp": now + 3600 }))),
        ] {
            let answer = world.token(&form).await;
            assert_eq!(
                (answer.status.as_u16(), &read(&answer)["error"]),
                (401, &json!("invalid_client")),
                "{what}: {wrong}"
            );
        }
        let good = with(&own, json!({}));
        assert!(read(&world.token(&good).await)["access_token"].is_string(), "{what}: and no code was used up");
        assert_eq!(read(&world.token(&good).await)["error"], "invalid_client", "{what}: once");
        let strangers = world.network.asked.lock().unwrap();
        assert!(strangers.iter().all(|(target, _)| *target == crate::engine::fetch::Target::Stranger), "{what}");
        assert_eq!(strangers.iter().any(|(_, url)| url == KEYS), member == "jwks_uri", "{what}");
    }
}

/// The redemption of a code that is none, by a client that shows an assertion with this `jti`.
fn asserted(own: &Signer, id: &str) -> String {
    let now = 1_800_000_000;
    let said = json!({ "iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "exp": now + 60, "iat": now, "jti": id });
    let assertion = own.sign("JWT", said.as_object().unwrap()).unwrap();
    let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    format!("{}&{kind}&client_assertion={assertion}", redemption("no-code"))
}

#[tokio::test]
async fn i03_what_is_no_key_set_is_not_kept_as_one() {
    const KEYS: &str = "https://client.example/keys.json";
    let (world, own) = (World::new(), Signer::generate(Algorithm::Es256).unwrap());
    let mut document: Value = serde_json::from_str(&document(CALLBACK)).unwrap();
    document["token_endpoint_auth_method"] = "private_key_jwt".into();
    document["jwks_uri"] = KEYS.into();
    world.publishes(&document.to_string());
    let issuing = world.issuing();
    let show = async |id: &str| {
        let form = asserted(&own, id);
        let answer = world.ask_of(&issuing, Method::POST, Endpoint::Token, "", &form, &mut Jar::new()).await;
        read(&answer)["error"].as_str().unwrap().to_owned()
    };
    world.network.says(KEYS, 200, "application/json", "max-age=86400", "{}");
    assert_eq!(show("1").await, "invalid_client");
    let keys = json!({ "keys": [own.jwk()] }).to_string();
    world.network.says(KEYS, 200, "application/json", "max-age=86400", &keys);
    assert_eq!(show("2").await, "invalid_grant", "the client is known by its keys at once");
    world.network.says(KEYS, 404, "application/json", "", "");
    assert_eq!(show("3").await, "invalid_grant", "which are kept");
}

/// The clock of a store that is almost a minute ahead.
#[derive(Debug)]
struct Ahead(Arc<dyn Clock>);

impl Clock for Ahead {
    fn unix(&self) -> i64 {
        self.0.unix() + 59
    }

    fn monotonic(&self) -> std::time::Instant {
        self.0.monotonic()
    }
}

#[tokio::test]
async fn c02_an_assertion_counts_once_also_where_the_stores_clock_is_ahead() {
    let world = World::over(|clock| Arc::new(Memory::new(Arc::new(Ahead(clock)))));
    let own = Signer::generate(Algorithm::Es256).unwrap();
    let mut document: Value = serde_json::from_str(&document(CALLBACK)).unwrap();
    document["token_endpoint_auth_method"] = "private_key_jwt".into();
    document["jwks"] = json!({ "keys": [own.jwk()] });
    world.publishes(&document.to_string());
    let show = async |id: &str| read(&world.token(&asserted(&own, id)).await)["error"].as_str().unwrap().to_owned();
    assert_eq!(show("1").await, "invalid_grant", "the client is known by it");
    assert_eq!(show("1").await, "invalid_client", "once");
    // The last second in which it is good.
    world.later(119);
    assert_eq!(show("1").await, "invalid_client", "and no more while it is good");
    assert_eq!(show("2").await, "invalid_grant", "as another one is: the positive control");
}
