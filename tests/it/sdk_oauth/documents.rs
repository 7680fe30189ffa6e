//! The official clients with a document at a URL that is their client id (Client ID Metadata Documents), and no
//! registration.

use serde_json::{Value, json};

use super::clients::let_in;
use super::{Scene, Sdk, call, policy, setup};
use crate::support::authority::{Authority, DocumentHost};
use crate::support::process::Server;
use crate::support::{Browser, Provider};

const PATH: &str = "/oauth/client.json";

fn document(origin: &str) -> Value {
    json!({
        "client_id": format!("{origin}{PATH}"), "client_name": "Desk by document", "client_uri": origin,
        "redirect_uris": ["http://127.0.0.1/callback"], "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"], "token_endpoint_auth_method": "none",
    })
}

/// A gateway whose clients may have their document at these origins of this machine.
async fn scene(authority: &Authority, provider: &Provider, private_clients: &[&str]) -> Scene {
    let server = Server::dual_era("json");
    let origins =
        if private_clients.is_empty() { String::new() } else { format!(", private_clients: {private_clients:?}") };
    let installation = format!("store: memory\negress: {{ ca_file: ca.pem{origins} }}\n");
    let setup = setup().installation(&installation).file("ca.pem", &authority.ca);
    let gateway = setup.policy("desk", &policy(&server, &provider.url(), "")).start().await;
    Scene { gateway, server }
}

#[tokio::test]
async fn g01_sdk_clients_with_a_document_of_their_own_register_nowhere() {
    let (authority, provider) = (Authority::of("localhost"), Provider::start().await);
    let host = DocumentHost::start(&authority, document).await;
    let id = format!("{}{PATH}", host.origin);
    let scene = scene(&authority, &provider, &[&host.origin]).await;
    let steps = json!([
        {"do": "tools/list"},
        call("echo", &json!({"message": "hi"})),
        {"do": "expire"},
        call("echo", &json!({"message": "again"})),
        call("delete_issues", &json!({"id": "1"})),
    ]);
    for sdk in [Sdk::TypeScript1, Sdk::TypeScriptLegacy, Sdk::TypeScriptModern, Sdk::PythonLegacy, Sdk::PythonModern] {
        let (browser, before) = (Browser::new(), scene.called().len());
        let who = ["--document", id.as_str()];
        let run = sdk.run_as(&who, &scene, &steps, async |url| {
            let page = let_in(&scene, &browser, url).await;
            assert!(page.contains("Desk by document") && page.contains("vouched for by"), "{sdk:?}: {page}");
            assert!(page.contains("localhost"), "{sdk:?}: the host that vouches: {page}");
        });
        let run = run.await;
        assert_eq!((run.text(2), run.text(4)), ("hi", "again"), "{sdk:?}");
        assert_eq!(run.lines[5]["ok"], false, "{sdk:?}: the rules are for it as well");
        assert_eq!(scene.called()[before..], ["echo", "echo"], "{sdk:?}");
        assert!(run.asked("/mcp/register").is_empty(), "{sdk:?}: {run:#?}");
        assert_eq!(scene.headers("x-portcullis-client").last(), Some(&id), "{sdk:?}: known by its URL");
    }
    assert_eq!(scene.registrations(), 0);
    assert_eq!(host.connections(), 1, "the document is fetched once");
}

#[tokio::test]
async fn q02_a_document_on_this_machine_is_not_fetched_unless_its_origin_is_listed() {
    let (authority, provider) = (Authority::of("localhost"), Provider::start().await);
    let (host, other) =
        (DocumentHost::start(&authority, document).await, DocumentHost::start(&authority, document).await);
    for listed in [vec![], vec![other.origin.as_str()]] {
        let scene = scene(&authority, &provider, &listed).await;
        let id = format!("{}{PATH}", host.origin);
        let query = [
            ("response_type", "code"),
            ("client_id", id.as_str()),
            ("redirect_uri", "http://127.0.0.1:7777/callback"),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
        ];
        let authorize = |query: &[(&str, &str)]| {
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            format!("{}/authorize?{query}", scene.issuer())
        };
        let refused = Browser::new().go(&authorize(&query)).await;
        assert_eq!((refused.status, refused.location()), (503, ""), "{listed:?}: as if nobody were there");
        assert_eq!(host.connections(), 0, "{listed:?}: nothing was asked of it");
        if !listed.is_empty() {
            let allowed = query.map(|(name, value)| {
                (name, if name == "client_id" { value.replace(&host.origin, &other.origin) } else { value.to_owned() })
            });
            let allowed = allowed.each_ref().map(|(name, value)| (*name, value.as_str()));
            assert_eq!(Browser::new().go(&authorize(&allowed)).await.status, 200, "the positive control");
        }
        assert!(scene.server.received().is_empty() && provider.asked("/authorize").is_empty());
    }
}
