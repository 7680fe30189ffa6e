//! Tokens that a provider is asked about (RFC 7662): what its answers mean, how long they count, and what is sent where.

mod answers;
mod kept;
mod outage;
mod sent;

use serde_json::{Value, json};

use super::{INSTALLATION, Scene};
use crate::support::issuer::{merged, now};
use crate::support::{Gateway, Introspector, Issuer, Upstream};

const CLIENT: &str = "gate way";
const SECRET: &str = "s3cr:et+/%&=1a2b3c4d5e6f";
const OPAQUE: &str = "tok_3a81c2f0e9b74d65";

/// A scene whose services ask an endpoint.
pub struct Asking {
    pub scene: Scene,
    pub endpoint: Introspector,
}

impl Asking {
    /// One service `main` with one provider; `more` are further keys of it.
    pub async fn start(more: &str) -> Self {
        Self::with(|setting| vec![("main".to_owned(), setting.provider(more), String::new())]).await
    }

    /// Services by name, with their only provider and further keys under `authentication`.
    pub async fn with(services: impl FnOnce(&Setting) -> Vec<(String, String, String)>) -> Self {
        let (upstream, issuer, endpoint) =
            (Upstream::mcp(&["echo", "drop"]).await, Issuer::start().await, Introspector::start().await);
        let setting = Setting { issuer: issuer.url(), endpoint: endpoint.url() };
        let mut setup = Gateway::new().installation(INSTALLATION).secret("INTROSPECTION_SECRET", SECRET);
        for (name, provider, authentication) in services(&setting) {
            let policy = format!(
                "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"{}\" }}\n\
                 providers: {{ corp: {provider} }}\nauthentication: {{ providers: [corp]{authentication} }}\n\
                 rules: [{{ allow: {{ tools: [echo] }} }}]\n",
                upstream.url("/mcp")
            );
            setup = setup.policy(&name, &policy);
        }
        Self { scene: Scene { gateway: setup.start().await, upstream, issuer }, endpoint }
    }

    /// A good answer about a token for `service`, changed.
    pub fn answer(&self, service: &str, changes: Value) -> Value {
        merged(active(&self.scene.issuer.url(), &self.scene.url(service)), changes)
    }

    /// The endpoint knows `token` as good for `main`, with these changes.
    pub fn knows(&self, token: &str, changes: Value) {
        self.endpoint.knows(token, self.answer("main", changes));
    }
}

/// What providers are written with.
pub struct Setting {
    pub issuer: String,
    pub endpoint: String,
}

impl Setting {
    pub fn provider(&self, more: &str) -> String {
        self.asking(&self.endpoint, more)
    }

    pub fn asking(&self, url: &str, more: &str) -> String {
        introspection(&self.issuer, url, CLIENT, more)
    }
}

pub fn introspection(issuer: &str, url: &str, client: &str, more: &str) -> String {
    format!(
        "{{ introspection: {{ issuer: \"{issuer}\", url: \"{url}\", client_id: \"{client}\", \
         client_secret: {{ env: INTROSPECTION_SECRET }}{more} }} }}"
    )
}

/// The answer about a good token.
pub fn active(issuer: &str, audience: &str) -> Value {
    json!({
        "active": true, "iss": issuer, "aud": audience, "sub": "alice", "client_id": "claude", "scope": "read",
        "token_type": "Bearer", "iat": now(), "exp": now() + 3600
    })
}
