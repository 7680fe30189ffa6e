//! People of a local provider who are taken out of its file, or are others than they were.

use http::Method;
use serde_json::{Value, json};

use super::super::*;
use super::world::*;
use crate::engine::decision::Reason;
use crate::engine::issuing::User;
use crate::engine::provider::Provider as _;
use crate::oauth::identity::Identity;
use crate::providers::own::Own;

/// What a gateway of now says to an access token.
async fn verified(world: &World, token: &str) -> Result<Arc<Identity>, Reason> {
    let issuing = world.issuing();
    let own = Own::new("files", ISSUER.into(), &issuing.works, Arc::clone(&issuing.standing));
    own.verify(token).await.map_err(|denial| denial.reason)
}

fn client() -> String {
    url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect()
}

async fn refreshed(world: &World, tokens: &Value) -> Value {
    let token = tokens["refresh_token"].as_str().unwrap();
    read(&world.token(&format!("grant_type=refresh_token&client_id={}&refresh_token={token}", client())).await)
}

/// Another person of the same name, or the same one with another password.
fn another() -> User {
    let salt = argon2::password_hash::SaltString::encode_b64(b"fedcba9876543210").unwrap();
    let hash = argon2::password_hash::PasswordHasher::hash_password(
        &argon2::Argon2::default(),
        b"another good password",
        &salt,
    );
    User { password: hash.unwrap().to_string(), ..alice() }
}

#[tokio::test]
async fn h10_whoever_is_taken_out_of_the_file_or_is_another_one_is_nobody() {
    for (what, users) in [("nobody of that name", Vec::new()), ("another of that name", vec![another()])] {
        let mut world = World::new();
        let mut jar = Jar::new();
        let tokens = read(&world.token(&redemption(&code(&world, &mut jar).await)).await);
        let access = tokens["access_token"].as_str().unwrap().to_owned();
        let unused = code(&world, &mut Jar::new()).await;
        assert_eq!(&*verified(&world, &access).await.unwrap().subject.clone().unwrap(), "people:alice");

        world.users = users;
        assert_eq!(verified(&world, &access).await.unwrap_err(), Reason::Revoked, "{what}: the access token");
        assert_eq!(refreshed(&world, &tokens).await["error"], "invalid_grant", "{what}: the refresh token");
        let redeemed = read(&world.token(&redemption(&unused)).await);
        assert_eq!(redeemed["error"], "invalid_grant", "{what}: a code that is out");
        let page = world.authorize(&mut jar).await;
        // The consent is remembered, so that this is the way to the page that asks for a password.
        let state = parameter(&location(&page), "state").unwrap();
        let asked = world.ask(Method::GET, Endpoint::SignIn, &format!("state={state}"), "", &mut jar).await;
        assert_eq!(asked.status, 200, "{what}: the browser is not known any more");

        world.users = vec![alice()];
        assert!(verified(&world, &access).await.is_ok(), "the positive control: the same person");
        assert!(refreshed(&world, &tokens).await["access_token"].is_string());
    }
}

#[tokio::test]
async fn h10_whoever_is_added_again_works_with_new_tokens() {
    let mut world = World::new();
    world.users = vec![another()];
    assert!(verified(&world, "x").await.is_err());
    world.users = vec![alice()];
    let tokens = read(&world.token(&redemption(&code(&world, &mut Jar::new()).await)).await);
    assert!(verified(&world, tokens["access_token"].as_str().unwrap()).await.is_ok());
}

#[tokio::test]
async fn h10_tokens_say_what_the_file_says_now() {
    let mut world = World::new();
    let groups = |group: &str| json!({ "groups": [group] }).as_object().unwrap().clone();
    world.users[0].claims = groups("admins");
    let mut jar = Jar::new();
    let tokens = read(&world.token(&redemption(&code(&world, &mut jar).await)).await);
    let unused = code(&world, &mut Jar::new()).await;
    let access = |tokens: &Value| tokens["access_token"].as_str().unwrap().to_owned();
    let claims =
        async |world: &World, tokens: &Value| verified(world, &access(tokens)).await.unwrap().claims["groups"].clone();
    assert_eq!(claims(&world, &tokens).await, json!(["admins"]));
    world.users[0].claims = groups("readers");
    assert_eq!(verified(&world, &access(&tokens)).await.unwrap_err(), Reason::Revoked, "it says what holds no more");
    let next = refreshed(&world, &tokens).await;
    assert_eq!(claims(&world, &next).await, json!(["readers"]), "the next one does");
    world.users[0].claims = groups("writers");
    let again = refreshed(&world, &tokens).await;
    assert_eq!(claims(&world, &again).await, json!(["writers"]), "also where an answer is given again");
    world.users[0].claims = groups("readers");
    let redeemed = read(&world.token(&redemption(&unused)).await);
    assert_eq!(claims(&world, &redeemed).await, json!(["readers"]), "and so does that of a code from before");
    let page = world.authorize(&mut jar).await;
    let state = parameter(&location(&page), "state").unwrap();
    let known = world.ask(Method::GET, Endpoint::SignIn, &format!("state={state}"), "", &mut jar).await;
    assert_eq!(known.status, 303, "nobody has to sign in again for it");
}

#[tokio::test]
async fn a_token_tells_nothing_that_a_password_could_be_guessed_against() {
    let world = World::new();
    let tokens = read(&world.token(&redemption(&code(&world, &mut Jar::new()).await)).await);
    let access = tokens["access_token"].as_str().unwrap();
    let claims = crate::oauth::jws::show_unverified(access).unwrap().claims;
    let print = world.issuing().standing.print("people:alice", None).unwrap().clone();
    let voucher = claims["voucher"].as_str().unwrap();
    assert!(voucher.len() == 43 && voucher != print, "it is hashed with a key");
}

#[tokio::test]
async fn a_token_that_no_request_could_carry_is_not_given_out() {
    let mut world = World::new();
    let groups = |count: usize| json!({ "groups": vec!["a-group-of-some-length"; count] }).as_object().unwrap().clone();
    world.users[0].claims = groups(1_000);
    let answer = world.token(&redemption(&code(&world, &mut Jar::new()).await)).await;
    assert_eq!((answer.status.as_u16(), &read(&answer)["error"]), (500, &json!("server_error")));
    world.users[0].claims = groups(300);
    let tokens = read(&world.token(&redemption(&code(&world, &mut Jar::new()).await)).await);
    assert!(verified(&world, tokens["access_token"].as_str().unwrap()).await.is_ok(), "the positive control");
}
