//! From a client's URL to a tool call, with a person at the keyboard.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{PASSWORD, POLICY, Scene, YES, sign_in};
use crate::sdk_oauth::{Run, Sdk, call};
use crate::support::authority::Authority;
use crate::support::chromium::Tab;
use crate::support::{Chromium, Client};

/// The page that asks, the one that wants a password, and the client's own.
async fn walk(scene: &Scene, sdk: Sdk, tab: &Tab<'_>, url: &str) {
    let asked = tab.go(url).await;
    assert_eq!(asked.heading(), format!("Allow “{}” to use notes?", sdk.title()));
    assert!(asked.text().contains("Search and read notes") && !asked.text().contains("Write notes"), "{asked:#?}");
    let page = tab.choose(YES).await;
    assert_eq!((page.status(), page.heading()), (200, "Sign in to notes"));
    assert!(scene.server.received().is_empty(), "nothing reaches the server before");
    let refused = sign_in(tab, "not the password").await;
    assert_eq!((refused.status(), refused.heading()), (401, "Sign in to notes"), "{refused:#?}");
    let back = sign_in(tab, PASSWORD).await;
    assert!(back.url().starts_with("http://127.0.0.1:") && back.url().contains("/callback?code="), "{}", back.url());
    assert_eq!(back.status(), 200, "the client has its answer");
}

fn assert_called(scene: &Scene, run: &Run) {
    run.result(0);
    assert_eq!(run.text(1), "hi", "{run:#?}");
    assert_eq!(run.lines[2]["ok"], false, "no rule allows it");
    let calls = scene.server.messages("tools/call");
    assert_eq!(calls.iter().map(|call| &call["params"]["name"]).collect::<Vec<_>>(), ["echo"]);
    let printed = scene.gateway.printed();
    assert!(!printed.contains(PASSWORD) && !printed.contains("not the password"));
}

#[tokio::test]
async fn a_person_lets_an_sdk_client_in_over_tls_by_keyboard_alone() {
    let authority = Authority::of("127.0.0.1");
    let scene = Scene::over_tls(&authority).await;
    let steps = json!([call("echo", &json!({"message": "hi"})), call("delete_users", &json!({"id": "1"}))]);
    let (chromium, stranger) =
        (Chromium::trusting(&scene.gateway.directory().join("ca.pem")).await, Chromium::start().await);
    let tab = chromium.tab().await;
    let mut client = Sdk::TypeScriptModern.command(&scene.issuer(), &steps);
    client.env("NODE_EXTRA_CA_CERTS", scene.gateway.directory().join("ca.pem"));
    let run = Run::of(client, async |url| {
        let why = stranger.tab().await.refuses(url).await;
        assert!(why.contains("ERR_CERT_AUTHORITY_INVALID"), "another browser does not know the authority: {why}");
        walk(&scene, Sdk::TypeScriptModern, &tab, url).await;
    });
    assert_called(&scene, &run.await);
    for cookie in tab.cookies().await {
        assert!(cookie["name"].as_str().is_some_and(|name| name.starts_with("__Host-portcullis-")), "{cookie}");
        assert_eq!(
            (&cookie["secure"], &cookie["httpOnly"], &cookie["sameSite"]),
            (&json!(true), &json!(true), &json!("Lax"))
        );
    }
    assert_eq!(tab.cookies().await.len(), 2, "the browser's and the login's; the flow's is gone");
}

#[tokio::test]
async fn a_person_lets_an_sdk_client_in_over_loopback_http_by_keyboard_alone() {
    let scene = Scene::new().await;
    let steps = json!([call("echo", &json!({"message": "hi"})), call("delete_users", &json!({"id": "1"}))]);
    let chromium = Chromium::start().await;
    let tab = chromium.tab().await;
    let client = Sdk::PythonModern.command(&scene.issuer(), &steps);
    let run = Run::of(client, async |url| walk(&scene, Sdk::PythonModern, &tab, url).await);
    assert_called(&scene, &run.await);
    let cookies = tab.cookies().await;
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    for cookie in cookies {
        assert!(cookie["name"].as_str().is_some_and(|name| name.starts_with("portcullis-")), "{cookie}");
        assert_eq!((&cookie["secure"], &cookie["httpOnly"]), (&json!(false), &json!(true)), "{cookie}");
    }
}

/// A site with one page, on a port of this machine.
async fn site(page: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let length = page.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let answer = head + &page;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = [0; 8192];
                drop(socket.read(&mut head).await);
                drop(socket.write_all(answer.as_bytes()).await);
            });
        }
    });
    port
}

/// Where a client waits for its browser.
async fn client() -> String {
    format!("http://127.0.0.1:{}/callback", site("<h1>The app</h1>".to_owned()).await)
}

pub async fn registered(scene: &Scene, redirect: &str) -> String {
    let body = json!({"client_name": "Tabs", "redirect_uris": [redirect], "token_endpoint_auth_method": "none"});
    let client = Client::new(&scene.issuer());
    let reply = client.send("POST", "/mcp/register", &[("content-type", "application/json")], body.to_string()).await;
    reply.json()["client_id"].as_str().expect("a client id").to_owned()
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn f06_two_tabs_do_not_take_each_others_flow_and_back_does_nothing_twice() {
    let scene = Scene::new().await;
    let (redirect, chromium) = (client().await, Chromium::start().await);
    let id = registered(&scene, &redirect).await;
    let (one, two) = (chromium.tab().await, chromium.tab().await);
    one.go(&scene.authorize(&id, &redirect, "one")).await;
    two.go(&scene.authorize(&id, &redirect, "two")).await;
    one.choose(YES).await;
    assert_eq!(two.choose(YES).await.heading(), "Sign in to notes", "nobody has signed in yet");
    let (first, second) = (sign_in(&one, PASSWORD).await, sign_in(&two, PASSWORD).await);
    for (shown, state) in [(&first, "one"), (&second, "two")] {
        assert_eq!((shown.heading(), parameter(shown.url(), "state").as_deref()), ("The app", Some(state)));
        assert!(parameter(shown.url(), "code").is_some(), "{}", shown.url());
    }

    // Back to the page that asked for the password, whose flow is over: no second code comes of it.
    let behind = one.back().await;
    assert_eq!(behind.heading(), "This sign-in cannot go on", "{behind:#?}");
    assert!(behind.text().contains("Go back to the application and begin again"), "{behind:#?}");
    // Further back is the page that asks: it may be answered anew, and now the browser is known.
    assert!(one.back().await.heading().starts_with("Allow “Tabs”"));
    let again = one.choose(YES).await;
    assert_eq!((again.heading(), parameter(again.url(), "state").as_deref()), ("The app", Some("one")));
    assert_ne!(parameter(again.url(), "code"), parameter(first.url(), "code"));
}

#[tokio::test]
async fn a_person_who_refuses_is_back_at_the_application() {
    let scene = Scene::new().await;
    let (redirect, chromium) = (client().await, Chromium::start().await);
    let id = registered(&scene, &redirect).await;
    let tab = chromium.tab().await;
    tab.go(&scene.authorize(&id, &redirect, "s")).await;
    let refused = tab.choose("Refuse").await;
    assert_eq!(refused.heading(), "The app");
    assert_eq!(parameter(refused.url(), "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(refused.url(), "code"), None);
    assert_eq!(parameter(refused.url(), "iss").as_deref(), Some(scene.issuer().as_str()));
}

#[tokio::test]
async fn f04_a_browser_remembers_a_consent_only_for_what_a_person_opens() {
    let remembering = |policy: String| policy.replace("  redirects: {", "  remember_consent: 30d\n  redirects: {");
    assert_ne!(remembering(POLICY.to_owned()), POLICY);
    let scene = Scene::with(remembering).await;
    let (redirect, chromium) = (client().await, Chromium::start().await);
    let id = registered(&scene, &redirect).await;
    let tab = chromium.tab().await;
    let asked = tab.go(&scene.authorize(&id, &redirect, "s")).await;
    assert!(asked.text().contains("Your answer is remembered"), "{asked:#?}");
    tab.choose(YES).await;
    assert!(parameter(sign_in(&tab, PASSWORD).await.url(), "code").is_some());
    let remembered = tab.go(&scene.authorize(&id, &redirect, "again")).await;
    assert_eq!((remembered.heading(), parameter(remembered.url(), "state").as_deref()), ("The app", Some("again")));

    // A page of another site that sends the browser there gets no code without a click.
    let target = scene.authorize(&id, &redirect, "lured");
    let link = format!("<h1>Elsewhere</h1><a href=\"{}\">Look here</a>", target.replace('&', "&amp;"));
    tab.go(&format!("http://localhost:{}/", site(link).await)).await;
    let lured = tab.choose("Look here").await;
    assert!(lured.heading().starts_with("Allow “Tabs”"), "{lured:#?}");
    assert_eq!(parameter(lured.url(), "code"), None);
    assert!(parameter(tab.choose(YES).await.url(), "code").is_some(), "with a click it does");
}
