//! Tokens and keys, end to end: what a token must be before one byte of its request reaches an upstream.
//!
//! Every table holds forgeries that differ from a good token in one thing, and the good token stands beside them.

mod api_keys;
mod cache;
mod claims;
mod confusion;
mod egress;
mod fetching;
mod header;
mod introspection;
mod names;
mod rotation;
mod rules;
mod signatures;
mod strength;

use std::process::Command;

use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::gateway::{BINARY, Setup};
use crate::support::{Client, Gateway, Issuer, Key, Upstream, eventually};

/// Tests refuse more in a minute than an address may be refused.
pub const INSTALLATION: &str = "limits: { address_failures: 100000000/minute }\n";
/// How the log calls a token that is none: which of the two depends on whether its issuer could be read.
pub const MALFORMED: &[&str] = &["token-malformed", "issuer-unknown"];
/// Every algorithm that providers with public keys offer.
pub const ALGORITHMS: &str = "[RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA]";

/// One key of each algorithm, under its name in lower case.
pub const KEYS: [(&str, Key); 10] = [
    ("rs256", Key::Rs256),
    ("rs384", Key::Rs384),
    ("rs512", Key::Rs512),
    ("ps256", Key::Ps256),
    ("ps384", Key::Ps384),
    ("ps512", Key::Ps512),
    ("es256", Key::Es256),
    ("es384", Key::Es384),
    ("es512", Key::Es512),
    ("eddsa", Key::EdDsa),
];

/// A gateway in front of one upstream, and the issuer whose tokens it accepts.
pub struct Scene {
    pub upstream: Upstream,
    pub issuer: Issuer,
    pub gateway: Gateway,
}

impl Scene {
    /// One service `main` that accepts the issuer's tokens, signed with any of [`KEYS`].
    pub async fn start() -> Self {
        Self::with(&KEYS, |scenery| {
            let provider = scenery.oidc("");
            scenery.service("main", &provider, "", "")
        })
        .await
    }

    /// Services as `written`, which gets what there is to write about.
    pub async fn with(keys: &[(&str, Key)], written: impl FnOnce(Scenery) -> Scenery) -> Self {
        let (upstream, issuer) = (Upstream::mcp(&["echo", "drop"]).await, Issuer::publishing(keys).await);
        let scenery = Scenery {
            upstream: upstream.url("/mcp"),
            issuer: issuer.url(),
            setup: Gateway::new().installation(INSTALLATION),
        };
        let gateway = written(scenery).setup.start().await;
        Self { upstream, issuer, gateway }
    }

    /// The resource of a service, which is its audience.
    pub fn url(&self, service: &str) -> String {
        self.gateway.url(&format!("/{service}/mcp"))
    }

    /// A good token for `main`, changed.
    pub fn token(&self, changes: Value) -> String {
        self.issuer.token(&self.url("main"), changes)
    }

    /// A token for `main` with these very bytes, signed by RS256 as `rs256`.
    pub fn raw(&self, header: &str, claims: &str) -> String {
        Key::Rs256.sign(header.as_bytes(), claims.as_bytes())
    }

    /// The text of good claims for `main`.
    pub fn claims(&self) -> Value {
        self.issuer.claims(&self.url("main"))
    }

    pub async fn call(&self, service: &str, token: &str) -> Reply {
        Client::new(&self.url(service)).token(token).call_tool("echo", json!({"a": 1})).await
    }

    /// The token opens `main`, and exactly this one request reaches the upstream.
    pub async fn accepts(&self, case: &str, token: &str) {
        self.accepts_at("main", case, token).await;
    }

    pub async fn accepts_at(&self, service: &str, case: &str, token: &str) {
        let reply = self.call(service, token).await;
        assert_eq!(reply.status, 200, "{case}: a good token is refused by {service}: {reply:?}");
        assert_eq!(reply.json()["result"]["content"][0]["text"], r#"{"a":1}"#, "{case}");
        assert_eq!(self.upstream.received().len(), 1, "{case}: one call, one request");
        self.upstream.forget();
    }

    /// `main` answers 401 with a challenge, tells only the log why, and the upstream hears nothing.
    pub async fn refuses(&self, case: &str, token: &str, reasons: &[&str]) {
        self.refuses_at("main", case, token, reasons).await;
    }

    pub async fn refuses_at(&self, service: &str, case: &str, token: &str, reasons: &[&str]) {
        let reply = self.call(service, token).await;
        assert_eq!(reply.status, 401, "{case}: must be refused by {service}: {reply:?}");
        let challenge = reply.header("www-authenticate");
        assert!(challenge.contains("error=\"invalid_token\""), "{case}: {challenge}");
        let reason = self.reason(&reply).await;
        assert!(reasons.contains(&reason.as_str()), "{case}: refused for `{reason}`, and not for {reasons:?}");
        self.upstream.assert_silent();
    }

    /// Why the log says that this answer was a refusal.
    pub async fn reason(&self, reply: &Reply) -> String {
        let request = reply.json()["error"]["data"]["requestId"].clone();
        assert!(request.is_string(), "a refusal names its request: {reply:?}");
        let record = self.gateway.wait_for_log(|record| record["request"] == request && record["decision"].is_string());
        record.await["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Calls until the status is the one wanted.
    pub async fn until(&self, service: &str, token: &str, wanted: u16) -> Reply {
        until(&self.url(service), token, wanted).await
    }
}

/// Calls until the status is the one wanted, and gives that answer.
pub async fn until(url: &str, token: &str, wanted: u16) -> Reply {
    let started = std::time::Instant::now();
    loop {
        let reply = Client::new(url).token(token).call_tool("echo", json!({})).await;
        if reply.status == wanted {
            return reply;
        }
        assert!(started.elapsed() < crate::support::PATIENCE, "{wanted} was wanted: {reply:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// What a scene is written with.
pub struct Scenery {
    pub upstream: String,
    pub issuer: String,
    pub setup: Setup,
}

impl Scenery {
    /// The issuer as an OpenID provider with every algorithm.
    pub fn oidc(&self, more: &str) -> String {
        format!("{{ oidc: {{ issuer: \"{}\", algorithms: {ALGORITHMS}{more} }} }}", self.issuer)
    }

    /// Adds a service with one provider of its own; `authentication` and `rest` are further keys, `rest` may hold rules.
    pub fn service(self, name: &str, provider: &str, authentication: &str, rest: &str) -> Self {
        let rules = if rest.contains("rules:") { "" } else { "rules: [{ allow: { tools: [echo] } }]\n" };
        let text = format!(
            "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"{}\" }}\n\
             providers: {{ corp: {provider} }}\nauthentication: {{ providers: [corp]{authentication} }}\n{rules}{rest}",
            self.upstream
        );
        Self { setup: self.setup.policy(name, &text), ..self }
    }

    /// Adds a policy as it is, with the upstream's URL in the place of `UPSTREAM` and the issuer in that of `ISSUER`.
    pub fn policy(self, name: &str, text: &str) -> Self {
        let text = text.replace("UPSTREAM", &self.upstream).replace("ISSUER", &self.issuer);
        Self { setup: self.setup.policy(name, &text), ..self }
    }
}

/// The text of a JSON object in which `name` has exactly the value `raw`, be it JSON that no library would write.
pub fn with_raw(object: &Value, name: &str, raw: &str) -> String {
    let mut object = object.clone();
    object.as_object_mut().expect("an object").remove(name);
    let text = object.to_string();
    format!("{{\"{name}\":{raw},{}", text.strip_prefix('{').expect("an object"))
}

/// What `portcullis check` says about a directory, and whether it is content.
pub fn check(setup: &Setup) -> (bool, String) {
    let output = Command::new(BINARY).arg("check").arg(setup.directory()).output().expect("the gateway runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until the gateway has fetched keys at least so often.
pub async fn fetched(issuer: &Issuer, times: usize) {
    eventually("the keys to be fetched", || (issuer.key_fetches() >= times).then_some(())).await;
}
