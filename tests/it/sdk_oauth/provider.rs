//! `oidc-provider` as the company's provider, whose pages a person walks through.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use url::Url;

use super::{Run, SECRET, Scene, Sdk, call, policy, setup};
use crate::signin::claims;
use crate::support::process::Server;
use crate::support::{Browser, Client, Page};

/// A gateway whose people are those of a provider that starts, and starts again, at one address.
struct Company {
    scene: Scene,
    port: String,
    provider: Option<Server>,
}

impl Company {
    /// `sign_in` is what the policy adds about signing in, `options` are of the provider.
    async fn new(sign_in: &str, options: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let server = Server::dual_era("json");
        let policy = policy(&server, &format!("http://{free}"), sign_in);
        let gateway = setup().policy("desk", &policy).start().await;
        let scene = Scene { gateway, server };
        let mut company = Self { scene, port: free.port().to_string(), provider: None };
        company.restart(options);
        company
    }

    /// The provider ends and begins anew, with new keys.
    fn restart(&mut self, options: &[&str]) {
        self.provider = None;
        let redirect = format!("{}/callback/corp", self.scene.issuer());
        let options = [&["--port", &self.port], options].concat();
        self.provider = Some(Server::openid_provider(&redirect, SECRET, &options));
    }

    /// The access tokens that the running provider has issued.
    fn issued(&self) -> Vec<String> {
        let record = self.provider.as_ref().expect("a provider").received();
        record.iter().filter_map(|line| line["token"].as_str().map(str::to_owned)).collect()
    }

    /// Consents, and walks through the pages of the provider as `person`, or refuses there. Gives the answer to the
    /// client, to whom the browser has brought it.
    async fn visit(&self, url: &str, person: Option<&str>) -> Page {
        let browser = Browser::new();
        let (_, leaving) = self.scene.consent(&browser, url, "corp").await;
        let callback = format!("{}/callback/corp?", self.scene.issuer());
        let mut at = Url::parse(leaving.location()).expect("an address at the provider");
        for _ in 0..12 {
            if at.as_str().starts_with(&callback) {
                let back = browser.go_with(at.as_str(), &[("sec-fetch-site", "cross-site")]).await;
                assert_eq!(back.status, 303, "{back:#?}");
                assert_eq!(Browser::new().go(back.location()).await.status, 200, "the client waits");
                return back;
            }
            let page = browser.go(at.as_str()).await;
            let answer = match (page.status, person) {
                (200, None) => browser.go(&format!("{at}/abort")).await,
                (200, Some(person)) => {
                    let prompt = page.field("prompt");
                    let form = [("prompt", prompt.as_str()), ("login", person), ("password", "x")];
                    browser.submit(at.as_str(), &form).await
                }
                _ => page,
            };
            assert!(!answer.location().is_empty(), "the provider goes on: {answer:#?}");
            at = at.join(answer.location()).expect("an address");
        }
        panic!("the provider does not come to an end: {at}");
    }

    /// A client that connects and calls two tools, of which it may call one.
    async fn use_it(&self, sdk: Sdk, person: Option<&str>) -> Run {
        let steps = json!([call("echo", &json!({"message": "hi"})), call("delete_issues", &json!({"id": "1"}))]);
        sdk.run(&self.scene, &steps, async |url| drop(self.visit(url, person).await)).await
    }

    /// The error that a client was told instead of being let in.
    async fn refusal(&self, person: Option<&str>) -> String {
        let run = self.use_it(Sdk::TypeScriptModern, person).await;
        assert_eq!(run.kept["tokens"], Value::Null, "{run:#?}");
        run.error().to_owned()
    }
}

/// The person is let in, and nothing that the provider issued is of use or seen anywhere.
async fn lets_in(sign_in: &str, access: &str, is_jwt: bool) {
    let company = Company::new(sign_in, &["--access", access]).await;
    for (number, sdk) in [Sdk::TypeScript1, Sdk::TypeScriptModern, Sdk::PythonModern].into_iter().enumerate() {
        let run = company.use_it(sdk, Some("ada")).await;
        assert_eq!(run.text(1), "hi", "{sdk:?}");
        assert_eq!(run.statuses(2), [403], "{sdk:?}");
        let token = claims(&run.kept["tokens"]["access_token"]);
        assert_eq!(token["sub"], "corp:ada", "{sdk:?}");
        assert_eq!(token["email"], "ada@example.com", "{sdk:?}");
        assert_eq!(token["groups"], json!(["eng"]), "{sdk:?}");
        assert_eq!(company.scene.called(), vec!["echo"; number + 1], "{sdk:?}: the permitted call alone");
    }
    assert!(company.scene.headers("x-portcullis-subject").iter().all(|subject| subject == "corp:ada"));

    let issued = company.issued();
    assert_eq!(issued.len(), 3, "one for each sign-in");
    let reached = company.scene.server.received().len();
    for token in issued {
        assert_eq!(token.split('.').count() == 3, is_jwt, "what the provider was asked to issue");
        let client = Client::new(&company.scene.issuer()).header("authorization", &format!("Bearer {token}"));
        assert_eq!(client.call_tool("echo", json!({"message": "hi"})).await.status, 401, "of no use here");
        assert!(!company.scene.gateway.printed().contains(&token), "not logged");
        let seen = company.scene.server.received();
        assert!(!seen.iter().any(|request| request.to_string().contains(&token)), "not forwarded");
    }
    assert_eq!(company.scene.server.received().len(), reached, "and nothing reached the server");
}

#[tokio::test]
async fn oidc_provider_signs_people_in_with_opaque_access_tokens_and_userinfo() {
    lets_in(", scopes: [openid, email, groups], userinfo: true", "opaque", false).await;
}

#[tokio::test]
async fn oidc_provider_signs_people_in_with_access_tokens_that_are_jwts() {
    lets_in(", scopes: [openid, email, groups]", "jwt", true).await;
}

#[tokio::test]
async fn oidc_provider_comes_back_with_new_keys_and_people_sign_in_at_once() {
    let mut company = Company::new("", &["--kid", "first"]).await;
    assert_eq!(company.use_it(Sdk::TypeScriptModern, Some("ada")).await.text(1), "hi");
    for (what, kid) in [("another name", "second"), ("the same name, another key", "second")] {
        company.restart(&["--kid", kid]);
        assert_eq!(company.use_it(Sdk::TypeScriptModern, Some("ada")).await.text(1), "hi", "{what}");
    }
    assert_eq!(company.scene.called(), ["echo"; 3]);
    assert!(company.scene.events("sign-in-failed").is_empty());
}

#[tokio::test]
async fn a_person_who_gives_up_at_oidc_provider_is_not_let_in() {
    let company = Company::new("", &[]).await;
    assert_eq!(company.refusal(None).await, "not authorized: access_denied");
    assert!(company.issued().is_empty() && company.scene.grants().is_empty());
    assert!(company.scene.server.received().is_empty());
    assert_eq!(company.use_it(Sdk::TypeScriptModern, Some("ada")).await.text(1), "hi", "the positive control");
}

#[tokio::test]
async fn oidc_provider_may_be_slow_but_not_for_ever() {
    let mut company = Company::new(", userinfo: true", &[]).await;
    for at in ["/token", "/me"] {
        company.restart(&["--stall", "9000", "--at", at]);
        let began = Instant::now();
        assert_eq!(company.refusal(Some("ada")).await, "not authorized: temporarily_unavailable", "{at}");
        assert!(
            began.elapsed() >= Duration::from_secs(5),
            "{at}: it had the time of every request of the gateway's own"
        );
        assert!(company.scene.grants().is_empty() && company.scene.server.received().is_empty(), "{at}");
    }
    company.restart(&["--stall", "1500", "--at", "/me"]);
    assert_eq!(company.use_it(Sdk::TypeScriptModern, Some("ada")).await.text(1), "hi");
}
