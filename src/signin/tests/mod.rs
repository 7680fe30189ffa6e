//! The endpoints with every object but the store made anew for each step.

mod clients;
mod github;
mod people;
mod race;
mod vouching;
mod world;

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::engine::fetch::Target;
use world::*;

#[tokio::test]
async fn nothing_but_the_store_holds_a_flow() {
    // Every step above is answered by an authorization server that was made for it.
    let world = World::new();
    let code = code(&world, &mut Jar::new()).await;
    let tokens = read(&world.token(&redemption(&code)).await);
    let refresh = tokens["refresh_token"].as_str().expect("a refresh token");
    let client = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect::<String>();
    let form = format!("grant_type=refresh_token&client_id={client}&refresh_token=");
    let next = read(&world.token(&format!("{form}{refresh}")).await);
    assert!(next["access_token"].is_string(), "{next}");
    let again = read(&world.token(&format!("{form}{refresh}")).await);
    assert_eq!(again["refresh_token"], next["refresh_token"]);
    // Its keys are the store's too: one signs what the other publishes.
    let kid = crate::oauth::jws::show_unverified(next["access_token"].as_str().unwrap()).unwrap().header;
    let keys = read(&world.ask(Method::GET, Endpoint::Jwks, "", "", &mut Jar::new()).await);
    assert_eq!(keys["keys"][0]["kid"], kid["kid"]);
    assert_eq!(read(&world.token(&redemption(&code)).await)["error"], "invalid_grant", "H03: used once");
}

#[tokio::test]
async fn g06_states_are_good_for_ten_minutes_and_keys_may_rotate_meanwhile() {
    let mut world = World::new();
    let mut jar = Jar::new();
    let page = world.authorize(&mut jar).await;
    let leaving = world.consent(&page, &mut jar).await;
    let query = location(&leaving).query().unwrap().to_owned();
    world.later(590);
    world.keys.insert(0, b"a newer key of the installation, too");
    let mut other = jar.clone();
    assert_eq!(world.ask(Method::GET, Endpoint::SignIn, &query, "", &mut other).await.status, 200, "the old key opens");
    world.later(10);
    let late = world.ask(Method::GET, Endpoint::SignIn, &query, "", &mut jar.clone()).await;
    assert_eq!(late.status, 400, "ten minutes and no longer");
    world.later(-10);
    world.keys.pop();
    let foreign = world.ask(Method::GET, Endpoint::SignIn, &query, "", &mut jar).await;
    assert_eq!(foreign.status, 400, "a key that is gone opens nothing");
}

#[tokio::test]
async fn h02_a_code_is_good_for_a_minute() {
    let world = World::new();
    let code = code(&world, &mut Jar::new()).await;
    world.later(59);
    let other = self::code(&world, &mut Jar::new()).await;
    world.later(1);
    assert_eq!(read(&world.token(&redemption(&code)).await)["error"], "invalid_grant");
    assert!(read(&world.token(&redemption(&other)).await)["access_token"].is_string(), "the positive control");
}

#[tokio::test]
async fn h05_a_grant_ends_when_it_is_idle_and_altogether() {
    let world = World::new();
    let code = code(&world, &mut Jar::new()).await;
    let client = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect::<String>();
    let mut token = read(&world.token(&redemption(&code)).await)["refresh_token"].as_str().unwrap().to_owned();
    let refresh = |token: String| {
        let (world, client) = (&world, &client);
        async move {
            read(&world.token(&format!("grant_type=refresh_token&client_id={client}&refresh_token={token}")).await)
        }
    };
    for _ in 0..2 {
        world.later(86_000);
        token = refresh(token).await["refresh_token"].as_str().expect("still good").to_owned();
    }
    world.later(28_001);
    assert_eq!(refresh(token).await["error"], "invalid_grant", "altogether");
    let code = self::code(&world, &mut Jar::new()).await;
    let idle = read(&world.token(&redemption(&code)).await)["refresh_token"].as_str().unwrap().to_owned();
    world.later(86_400);
    assert_eq!(refresh(idle).await["error"], "invalid_grant", "idle");
}

#[tokio::test]
async fn i03_i04_a_document_is_fetched_as_a_strangers_and_only_a_good_one_is_kept() {
    let world = World::new();
    let issuing = world.issuing();
    let authorize = || async {
        world.ask_of(&issuing, Method::GET, Endpoint::Authorize, &authorization(), "", &mut Jar::new()).await.status
    };
    let large = document(CALLBACK).replace("A client", &"a".repeat(5 * 1024));
    for (what, status, kind, body) in [
        ("a redirect", 302, "application/json", document(CALLBACK)),
        ("an error", 404, "application/json", document(CALLBACK)),
        ("another status of success", 201, "application/json", document(CALLBACK)),
        ("a page", 200, "text/html", document(CALLBACK)),
        ("no JSON", 200, "application/json", "x".to_owned()),
        ("too much", 200, "application/json", large),
        ("another client's", 200, "application/json", document(CALLBACK).replace("client.json", "other.json")),
        ("a secret", 200, "application/json", document(CALLBACK).replace("{", "{\"client_secret\":\"x\",")),
        ("no name", 200, "application/json", document(CALLBACK).replace("client_name", "name")),
        ("another redirect URI", 200, "application/json", document("https://client.example/other")),
    ] {
        world.network.says(CLIENT, status, kind, "no-store", &body);
        world.later(100);
        assert_eq!(authorize().await, 400, "{what}");
    }
    world.later(100);
    world.publishes(&document(CALLBACK));
    assert_eq!(authorize().await, 200, "the positive control");
    let asked = world.network.asked();
    assert_eq!(authorize().await, 200);
    assert_eq!(world.network.asked(), asked, "a good one is kept for its time");
    world.later(61);
    assert_eq!(authorize().await, 200);
    assert_eq!(world.network.asked(), asked + 1, "and no longer");
    assert!(world.network.asked.lock().unwrap().iter().all(|(target, _)| *target == Target::Stranger));
}

#[tokio::test]
async fn i06_a_change_of_the_document_ends_a_remembered_consent() {
    let world = World::new();
    let mut jar = Jar::new();
    code(&world, &mut jar).await;
    assert_eq!(world.authorize(&mut jar.clone()).await.status, 303, "remembered");
    world.publishes(&document(CALLBACK).replace("A client", "Another client"));
    assert_eq!(world.authorize(&mut jar.clone()).await.status, 200, "asked again");
    // And one that changes while the page is open is asked about as it is now.
    let mut jar = Jar::new();
    let page = world.authorize(&mut jar).await;
    world.publishes(&document(CALLBACK));
    assert_eq!(world.consent(&page, &mut jar).await.status, 200);
}

#[tokio::test]
async fn i02_a_flood_of_registrations_is_bounded_and_leaves_room_for_others() {
    let world = World::new();
    let issuing = world.issuing();
    let register = |address: &'static str, number: usize| {
        let issuing = &issuing;
        async move {
            let body = serde_json::json!({
                "redirect_uris": [CALLBACK], "client_name": number.to_string(), "token_endpoint_auth_method": "none",
            });
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            let body = Bytes::from(body.to_string());
            let (endpoint, method) = (Endpoint::Register, Method::POST);
            let address = address.parse().unwrap();
            let request =
                Request { endpoint, method: &method, headers: &headers, query: "", body: &body, address, id: "r" };
            register::answer(issuing, request).await.map_or_else(|error| error.status, |answer| answer.status)
        }
    };
    let mut full = 0;
    for number in 0..1_100 {
        if register("192.0.2.1", number).await == StatusCode::SERVICE_UNAVAILABLE {
            full += 1;
        }
    }
    assert_eq!(full, 100, "one address has its share");
    assert_eq!(register("192.0.2.2", 5_000).await, StatusCode::CREATED);
    world.later(24 * 3600);
    assert_eq!(register("192.0.2.1", 2_000).await, StatusCode::CREATED, "clients that sign nobody in are forgotten");
}

#[tokio::test]
async fn h10_what_the_store_cannot_keep_stays_revoked_here() {
    let world = World::new();
    let works = world.issuing().works.clone();
    works.revocations.revoke(&works.vault, "kept", 600).await.unwrap();
    let table = crate::engine::store::Table::Revocations;
    for number in 0..table.share() {
        // All of them in one share, as a revocation is.
        let added = works.vault.add(table, &format!("full-{number}"), &serde_json::json!({ "id": "x" }), 900, "").await;
        if added.is_err() {
            break;
        }
    }
    assert!(works.revocations.revoke(&works.vault, "unsaved", 600).await.is_err(), "the table is full");
    works.revocations.refresh(&works.vault).await.unwrap();
    assert!(works.revocations.contains("kept") && works.revocations.contains("unsaved"));
    assert!(!works.revocations.contains("other"), "the positive control");
    world.later(601);
    works.revocations.reread(&works.vault).await.unwrap();
    assert!(!works.revocations.contains("kept") && !works.revocations.contains("unsaved"), "for its time");
}
