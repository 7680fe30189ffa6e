//! The cheapest scene: a shared secret instead of an issuer, so that a token for anybody costs nothing.

use serde_json::{Value, json};

use crate::support::gateway::Setup;
use crate::support::issuer::{merged, now};
use crate::support::{Client, Gateway, Key, Upstream};

pub const ISSUER: &str = "https://own.example.com";
pub const SECRET: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0";
/// Another secret, to be changed to.
pub const OTHER_SECRET: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// A provider called `own` with the secret of [`setup`], as a policy or `portcullis.yaml` defines it.
pub const PROVIDER: &str =
    r#"providers: { own: { hmac: { issuer: "https://own.example.com", secrets: [{ env: OWN_SECRET }] } } }"#;

/// A gateway that knows the secret.
pub fn setup() -> Setup {
    Gateway::new().secret("OWN_SECRET", SECRET)
}

/// The policy of a service at `/NAME/mcp`, without a provider of its own; `rest` is what else it says.
pub fn bare(name: &str, upstream: &Upstream, rest: &str) -> String {
    let upstream = upstream.url("/mcp");
    format!(
        "service: {name}\nroute: {{ path: /{name}/mcp }}\nupstream: {{ url: \"{upstream}\" }}\n\
         authentication: {{ providers: [own] }}\n{rest}\n"
    )
}

/// The same with the provider in it: one file that is a whole installation.
pub fn policy(name: &str, upstream: &Upstream, rest: &str) -> String {
    format!("{}{PROVIDER}\n", bare(name, upstream, rest))
}

/// One rule that allows these tools.
pub fn allow(tools: &str) -> String {
    format!("rules: [{{ allow: {{ tools: [{tools}] }} }}]")
}

/// A good token for `audience`, its claims changed by `changes`.
pub fn token(audience: &str, changes: Value) -> String {
    signed(SECRET, audience, changes)
}

/// The same with a secret of choice.
pub fn signed(secret: &'static str, audience: &str, changes: Value) -> String {
    let (iat, exp) = (now(), now() + 3600);
    let claims = json!({"iss": ISSUER, "aud": audience, "sub": "alice", "client_id": "claude", "iat": iat, "exp": exp});
    let claims = merged(claims, changes).to_string();
    Key::Hs256(secret.as_bytes()).sign(br#"{"alg":"HS256","typ":"at+jwt"}"#, claims.as_bytes())
}

/// A client of the service `name` whose token says `changes`.
pub fn client(gateway: &Gateway, name: &str, changes: Value) -> Client {
    let url = gateway.url(&format!("/{name}/mcp"));
    Client::new(&url).token(&token(&url, changes))
}
