//! An issuer on loopback: discovery, a key set that can rotate, fail or stall, and any token at all.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::keys::Key;
use super::upstream::{Answer, Upstream};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/jwks";

#[derive(Debug)]
struct State {
    published: Vec<(String, Key)>,
    outage: Option<u16>,
    stall: Duration,
    discovery: Value,
}

/// The running issuer. Its first key is RS256 under the id `rs256`, and it signs with it unless told otherwise.
#[derive(Debug)]
pub struct Issuer {
    server: Upstream,
    state: Arc<Mutex<State>>,
}

impl Issuer {
    pub async fn start() -> Self {
        Self::publishing(&[("rs256", Key::Rs256)]).await
    }

    /// An issuer whose key set holds these keys.
    pub async fn publishing(keys: &[(&str, Key)]) -> Self {
        let published = keys.iter().map(|(kid, key)| ((*kid).to_owned(), *key)).collect();
        let state = State { published, outage: None, stall: Duration::ZERO, discovery: Value::Null };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = Upstream::start(move |request| {
            let state = shared.lock().expect("the issuer's state");
            if let Some(status) = state.outage {
                return Answer::status(status).after(state.stall);
            }
            let found = match request.path.as_str() {
                DISCOVERY => Answer::json(&state.discovery),
                JWKS => {
                    let keys: Vec<Value> = state.published.iter().map(|(kid, key)| key.jwk(kid)).collect();
                    Answer::json(&json!({"keys": keys}))
                }
                _ => Answer::status(404),
            };
            found.after(state.stall)
        })
        .await;
        let issuer = Self { server, state };
        let discovery = json!({"issuer": issuer.url(), "jwks_uri": issuer.jwks_url()});
        issuer.discovers(discovery);
        issuer
    }

    /// The issuer identifier: what goes into `iss` and into the policy.
    pub fn url(&self) -> String {
        self.server.url("")
    }

    pub fn jwks_url(&self) -> String {
        self.server.url(JWKS)
    }

    /// Replaces the discovery document.
    pub fn discovers(&self, document: Value) {
        self.change(|state| state.discovery = document);
    }

    /// Replaces the published keys.
    pub fn rotate(&self, keys: &[(&str, Key)]) {
        self.change(|state| state.published = keys.iter().map(|(kid, key)| ((*kid).to_owned(), *key)).collect());
    }

    /// Answers everything with this status from now on; `None` ends the outage.
    pub fn fail_with(&self, status: Option<u16>) {
        self.change(|state| state.outage = status);
    }

    /// Waits this long before every answer.
    pub fn stall(&self, wait: Duration) {
        self.change(|state| state.stall = wait);
    }

    /// How often the key set was asked for.
    pub fn key_fetches(&self) -> usize {
        self.server.received().iter().filter(|request| request.path == JWKS).count()
    }

    /// How often the discovery document was asked for.
    pub fn discoveries(&self) -> usize {
        self.server.received().iter().filter(|request| request.path == DISCOVERY).count()
    }

    /// Claims that a strict gateway accepts for `audience`: an hour of life, a subject, a client, a token id.
    pub fn claims(&self, audience: &str) -> Value {
        let now = now();
        json!({
            "iss": self.url(), "aud": audience, "sub": "alice", "client_id": "claude", "jti": "t-1",
            "iat": now, "exp": now + 3600, "scope": ""
        })
    }

    /// Good claims for `audience` changed by `changes` (a `null` removes the claim), signed with the first key.
    pub fn token(&self, audience: &str, changes: Value) -> String {
        let (kid, key) =
            self.state.lock().expect("the issuer's state").published.first().cloned().expect("a published key");
        self.token_with(key, json!({"kid": kid}), audience, changes)
    }

    /// The same with a key of choice and changes to the header (`alg` and `typ: at+jwt` are there already).
    pub fn token_with(&self, key: Key, header: Value, audience: &str, changes: Value) -> String {
        let header = merged(json!({"alg": key.algorithm(), "typ": "at+jwt"}), header);
        let claims = merged(self.claims(audience), changes);
        key.sign(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    fn change(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state.lock().expect("the issuer's state"));
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// `base` with the members of `changes` laid over it; a `null` removes a member.
pub fn merged(mut base: Value, changes: Value) -> Value {
    let (Value::Object(into), Value::Object(changes)) = (&mut base, changes) else { panic!("two JSON objects") };
    for (name, value) in changes {
        if value.is_null() {
            into.remove(&name);
        } else {
            into.insert(name, value);
        }
    }
    base
}
