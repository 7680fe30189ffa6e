//! Authorization-server mode, driven as a client and a browser drive it, with a provider on loopback behind it.

pub mod assertions;
mod authorize;
mod clients;
mod consent;
mod endpoints;
mod flow;
mod gone;
mod local;
mod quiet;
mod recorded;
mod tokens;
mod vouching;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::gateway::Setup;
use crate::support::{Browser, Client, Gateway, Page, Provider, Upstream};

/// The `code_verifier` of every story.
pub const VERIFIER: &str = "a-verifier-of-forty-three-characters-or-more-0123456789";
/// The redirect URI of the story's client.
pub const CALLBACK: &str = "http://127.0.0.1:7777/callback";

/// The policy of the stories, before what a story adds.
const POLICY: &str = "
service: files
route: { path: /mcp }
upstream: { url: UPSTREAM }
providers:
  corp:
    oidc:
      issuer: PROVIDER
      sign_in: { client_id: gateway, client_secret: { env: CORP_SECRET }, scopes: [openid, email], title: Corp }
authorization_server:
  sign_in: [corp]
  redirects: { exact: ['https://app.example.com/cb', 'com.example.app:/cb'], loopback: true }
  claims: { groups: groups, email: email, email_verified: email_verified }
  clients:
    - { id: ci, name: CI, secret: { env: CI_SECRET }, redirects: ['https://app.example.com/cb'],
        grants: [authorization_code, refresh_token, client_credentials], scopes: [files:read] }
    - { id: desk, name: Desk, redirects: ['http://127.0.0.1/callback', 'https://app.example.com/cb'] }
scopes:
  files:read: { describe: Read your files, default: true }
  files:write: { describe: Change your files }
rules:
  - allow: { tools: [read] }
    scopes: [files:read]
  - allow: { tools: [write] }
    scopes: [files:write]
";

/// A gateway in front of a server, with a provider behind its sign-in.
pub struct Story {
    pub gateway: Gateway,
    pub provider: Provider,
    pub upstream: Upstream,
}

/// The secret of the client `ci`.
pub const CI_SECRET: &str = "ci-secret-0123456789-0123456789-0123456789";

impl Story {
    pub async fn new() -> Self {
        Self::with(|policy| policy).await
    }

    /// A story whose policy is changed first.
    pub async fn with(change: impl Fn(String) -> String) -> Self {
        let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
        let setup = prepared(&change(policy(&provider, &upstream)));
        Self { gateway: setup.start().await, provider, upstream }
    }

    /// A story with a policy of its own; its provider is not asked.
    pub async fn around(policy: impl Fn(&Upstream) -> String) -> Self {
        let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
        Self { gateway: prepared(&policy(&upstream)).start().await, provider, upstream }
    }

    /// The policy as it began.
    pub fn policy(&self) -> String {
        policy(&self.provider, &self.upstream)
    }

    pub fn issuer(&self) -> String {
        self.gateway.url("/mcp")
    }

    /// The authorization request of the client `desk`, with changes; an empty value leaves a parameter out.
    pub fn authorize(&self, changes: &[(&str, &str)]) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let issuer = self.issuer();
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", "desk"),
            ("redirect_uri", CALLBACK),
            ("state", "client-state"),
            ("scope", "files:read"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("resource", &issuer),
        ];
        for (name, value) in changes {
            parameters.retain(|(found, _)| found != name);
            if !value.is_empty() {
                parameters.push((name, value));
            }
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        format!("{issuer}/authorize?{query}")
    }

    /// Answers a consent page for a provider; an empty name refuses.
    pub async fn consent(&self, browser: &Browser, page: &Page, provider: &str) -> Page {
        assert_eq!(page.status, 200, "a consent page: {page:#?}");
        let form = [("request", page.field("request")), ("provider", provider.to_owned())];
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.submit(&format!("{}/consent", self.issuer()), &form).await
    }

    /// From the authorization request to the redirect of the callback.
    pub async fn sign_in(&self, browser: &Browser, changes: &[(&str, &str)]) -> Page {
        let page = browser.go(&self.authorize(changes)).await;
        let leaving = self.consent(browser, &page, "corp").await;
        self.back(browser, &leaving).await
    }

    /// From the redirect to the provider to the redirect of the callback.
    pub async fn back(&self, browser: &Browser, leaving: &Page) -> Page {
        assert_eq!(leaving.status, 303, "a redirect to the provider: {leaving:#?}");
        let answered = Browser::new().go(leaving.location()).await;
        browser.go_with(answered.location(), &[("sec-fetch-site", "cross-site")]).await
    }

    /// A code for the client `desk`.
    pub async fn code(&self) -> String {
        let page = self.sign_in(&Browser::new(), &[]).await;
        page.parameter("code").unwrap_or_else(|| panic!("a code: {page:#?}"))
    }

    /// Calls the token endpoint.
    pub async fn token(&self, form: &[(&str, &str)]) -> Page {
        Browser::new().submit_with(&format!("{}/token", self.issuer()), form, &[]).await
    }

    /// Redeems a code as the client `desk`.
    pub async fn redeem(&self, code: &str) -> Page {
        self.token(&redemption(code)).await
    }

    /// Refreshes as the client `desk`.
    pub async fn refresh(&self, token: &str) -> Page {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "desk")]).await
    }

    /// Tokens of a person.
    pub async fn tokens(&self) -> Value {
        let page = self.redeem(&self.code().await).await;
        assert_eq!(page.status, 200, "{page:#?}");
        json(&page)
    }

    /// Calls a tool with a token.
    pub async fn call(&self, tool: &str, token: &str) -> u16 {
        let client = Client::new(&self.issuer()).header("authorization", &format!("Bearer {token}"));
        client.call_tool(tool, serde_json::json!({})).await.status
    }
}

/// The form that redeems a code as the client `desk`.
pub fn redemption(code: &str) -> [(&str, &str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", "desk"),
    ]
}

pub fn policy(provider: &Provider, upstream: &Upstream) -> String {
    POLICY.replace("UPSTREAM", &upstream.url("/mcp")).replace("PROVIDER", &provider.url())
}

pub fn prepared(policy: &str) -> Setup {
    // For clients of a test's own, whichever test is the first.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Gateway::new()
        .installation("store: memory\n")
        .policy("files", policy)
        .secret("CORP_SECRET", "corp-secret-0123456789-0123456789-01234")
        .secret("CI_SECRET", CI_SECRET)
}

pub fn json(page: &Page) -> Value {
    serde_json::from_str(&page.body).unwrap_or(Value::Null)
}

/// The claims of a token, unverified.
pub fn claims(token: &Value) -> Value {
    let payload = token.as_str().and_then(|token| token.split('.').nth(1)).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

/// The error code of an OAuth error.
pub fn error(page: &Page) -> String {
    json(page)["error"].as_str().unwrap_or_default().to_owned()
}
