//! Services with an authorization server of their own, as far as their files decide: whose tokens count beside the
//! gateway's, what a provider tells the gateway about people, and what a change of the files does.

use serde_json::json;

use crate::own::{self, PROVIDER, allow};
use crate::reload::{refused, soon, status};
use crate::support::{Client, Gateway, Issuer, Upstream};

/// An argon2id hash of nothing that anybody knows.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$R2Nrc2Nrc2Nrc2Nrc2Nrc2Nrc2Nrc2Nrc2Nrc2Nrc2M";

fn users(names: &[&str]) -> String {
    let people: Vec<String> =
        names.iter().map(|name| format!("  - {{ name: {name}, password: \"{HASH}\" }}\n")).collect();
    format!("users:\n{}", people.concat())
}

/// The policy of a service at `/NAME/mcp` that issues its own tokens; `rest` is what else it says.
fn issuing(name: &str, upstream: &Upstream, sign_in: &str, rest: &str) -> String {
    let upstream = upstream.url("/mcp");
    format!(
        "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"{upstream}\" }}\n\
         authorization_server: {{ sign_in: [{sign_in}], redirects: {{ known: [claude] }} }}\n{rest}\n{}\n",
        allow("a")
    )
}

#[tokio::test]
async fn other_providers_count_beside_the_gateways_own_tokens_for_the_resource_alone() {
    let upstream = Upstream::mcp(&["a"]).await;
    let rest = format!(
        "authentication: {{ providers: [own] }}\n{}",
        PROVIDER.replace("providers: { ", "providers: { people: { local: { users: ../users.yaml } }, ")
    );
    let gateway = own::setup()
        .file("users.yaml", &users(&["alice"]))
        .installation("store: memory\n")
        .policy("story", &issuing("story", &upstream, "people", &rest))
        .start()
        .await;
    let url = gateway.url("/story/mcp");
    assert_eq!(status(&own::client(&gateway, "story", json!({})), "a").await, 200);
    let elsewhere = Client::new(&url).token(&own::token("https://elsewhere.example", json!({})));
    refused(&elsewhere, &upstream, "a", 401, "another audience").await;
    let forged = json!({"iss": url, "sub": "people:alice"});
    refused(&own::client(&gateway, "story", forged), &upstream, "a", 401, "the gateway's name, and another's key")
        .await;
    let document = Client::new(&url).fetch("/.well-known/oauth-protected-resource/story/mcp").await;
    assert_eq!(document.json()["authorization_servers"], json!([url]), "clients are sent to the gateway alone");
}

/// Whichever file the gateway's client is registered in: a token for it is about signing in, and opens no service.
#[tokio::test]
async fn a15_id_tokens_of_the_gateways_own_client_open_no_service() {
    let (upstream, issuer) = (Upstream::mcp(&["a"]).await, Issuer::start().await);
    let plain = |name: &str| {
        format!(
            "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"{}\" }}\n\
             authentication: {{ providers: [corp], audiences: [gateway, {name}] }}\n\
             providers: {{ corp: {{ oidc: {{ issuer: \"{}\" }} }} }}\n{}\n",
            upstream.url("/mcp"),
            issuer.url(),
            allow("a")
        )
    };
    let gateway = Gateway::new().installation("store: memory\n").policy("story", &plain("story")).start().await;
    let client = |audience: &str| Client::new(&gateway.url("/story/mcp")).token(&issuer.token(audience, json!({})));
    soon(&client("gateway"), "a", 200, "the start: it is an audience like any other").await;
    let sign_in = format!(
        "providers: {{ corp: {{ oidc: {{ issuer: \"{}\", sign_in: {{ client_id: gateway }} }} }} }}",
        issuer.url()
    );
    gateway.write_policy("other", &issuing("other", &upstream, "corp", &sign_in));
    soon(&client("gateway"), "a", 401, "the gateway registered as this client in another file").await;
    refused(&client("gateway"), &upstream, "a", 401, "an ID token").await;
    assert_eq!(status(&client("story"), "a").await, 200, "an access token of the same issuer");
    gateway.remove_policy("other");
    soon(&client("gateway"), "a", 200, "the registration is gone").await;
}

#[tokio::test]
async fn a_broken_file_of_users_keeps_the_last_good_one_and_a_missing_one_closes_the_service() {
    let upstream = Upstream::mcp(&["a"]).await;
    let installation = format!(
        "store: memory\n{}\n",
        PROVIDER.replace("providers: { ", "providers: { people: { local: { users: users.yaml } }, ")
    );
    let gateway = own::setup()
        .file("users.yaml", &users(&["alice"]))
        .installation(&installation)
        .policy("story", &issuing("story", &upstream, "people", "authentication: { providers: [own] }"))
        .policy("neighbour", &own::bare("neighbour", &upstream, &allow("a")))
        .start()
        .await;
    let client = own::client(&gateway, "story", json!({}));
    let file = gateway.directory().join("users.yaml");
    assert_eq!(status(&client, "a").await, 200);
    std::fs::write(&file, users(&["alice", "ALICE"])).expect("a broken file");
    gateway.wait_for_log(|record| record.to_string().contains("invalid-user")).await;
    assert_eq!(status(&client, "a").await, 200, "an edit that went wrong");
    std::fs::remove_file(&file).expect("the file");
    soon(&client, "a", 503, "nobody knows any more who may sign in").await;
    refused(&client, &upstream, "a", 503, "closed").await;
    assert_eq!(status(&own::client(&gateway, "neighbour", json!({})), "a").await, 200, "who names it not goes on");
    std::fs::write(&file, users(&["alice"])).expect("the file again");
    soon(&client, "a", 200, "the file is back").await;
}

#[tokio::test]
async fn the_endpoints_are_there_only_where_a_service_issues() {
    let upstream = Upstream::mcp(&["a"]).await;
    let gateway = own::setup().policy("story", &own::policy("story", &upstream, &allow("a"))).start().await;
    let client = Client::new(&gateway.url("/story/mcp"));
    for path in [
        "/.well-known/oauth-authorization-server/story/mcp",
        "/.well-known/openid-configuration",
        "/story/mcp/jwks",
        "/story/mcp/authorize",
        "/authorize",
    ] {
        assert_eq!(client.fetch(path).await.status, 404, "{path}");
    }
    assert_eq!(client.fetch("/.well-known/oauth-protected-resource/story/mcp").await.status, 200);
    upstream.assert_silent();
}

#[tokio::test]
async fn a_route_among_the_endpoints_of_another_service_stays_with_who_was_there_first() {
    let upstream = Upstream::mcp(&["a"]).await;
    let people = "providers: { people: { local: { users: ../users.yaml } } }";
    let inner = own::policy("story", &upstream, &allow("a")).replace("/story/mcp", "/notes/mcp/token");
    let gateway = own::setup().file("users.yaml", &users(&["alice"])).installation("store: memory\n");
    let gateway = gateway.policy("story", &inner).start().await;
    let url = gateway.url("/notes/mcp/token");
    let client = Client::new(&url).token(&own::token(&url, json!({})));
    assert_eq!(status(&client, "a").await, 200);
    gateway.write_policy("notes", &issuing("notes", &upstream, "people", people));
    gateway.wait_for_log(|record| record.to_string().contains("endpoint-route")).await;
    assert_eq!(status(&client, "a").await, 200, "it was there first");
    let newcomer = Client::new(&gateway.url("/notes/mcp"));
    soon(&newcomer, "a", 503, "the newcomer came").await;
    refused(&newcomer, &upstream, "a", 503, "the newcomer is not served").await;
    gateway.remove_policy("story");
    soon(&newcomer, "a", 401, "the route is free").await;
    gateway.write_policy("story", &inner);
    soon(&client, "a", 503, "the other is the newcomer now").await;
    refused(&client, &upstream, "a", 503, "now the other is the newcomer").await;
    refused(&newcomer, &upstream, "a", 401, "and who issues goes on").await;
}
