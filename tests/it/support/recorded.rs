//! Products that sign people in, as far as `tests/recorded` knows what they say: their documents, keys, tokens and errors, on
//! loopback. Hosts become the loopback address, paths stay as they are.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::issuer::{merged, now};
use super::keys::{Key, b64};
use super::provider::members;
use super::upstream::{Answer, Request, Upstream};

/// A recorded file of a product.
pub fn recording(product: &str, name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(product).join(format!("{name}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let recording: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(recording["source"][0].is_string() && recording["read"].is_string(), "{}: no source", path.display());
    recording
}

/// What differs from the recordings.
#[derive(Debug, Clone)]
pub struct Twist {
    /// Laid over the claims of ID tokens.
    pub claims: Value,
    /// Laid over the answers of the token endpoint.
    pub tokens: Value,
    /// Answers of an API by path, with a status.
    pub api: HashMap<String, (u16, Value, Value)>,
    /// The recorded error that is told: at `authorize`, for a `code`, for a `refresh`, or about the `client`.
    pub refuses: &'static str,
}

impl Default for Twist {
    fn default() -> Self {
        Self { claims: json!({}), tokens: json!({}), api: HashMap::new(), refuses: "" }
    }
}

/// A product on loopback.
#[derive(Debug)]
pub struct Recorded {
    server: Upstream,
    twist: Arc<Mutex<Twist>>,
}

/// How a product answers a request: by what it is called on loopback, and what was begun before.
pub type Product = fn(&str, &Request, &Twist, &mut Begun) -> Answer;

/// Codes and refresh tokens that are out, each with what was asked for. Each is good once.
#[derive(Debug, Default)]
pub struct Begun {
    /// Which product it is.
    pub product: &'static str,
    /// By code or refresh token.
    pub out: HashMap<String, HashMap<String, String>>,
    /// How many tokens were given.
    pub given: usize,
}

impl Recorded {
    /// An OpenID Connect provider.
    pub async fn oidc(product: &'static str) -> Self {
        Self::start(product, oidc).await
    }

    pub async fn start(product: &'static str, answer: Product) -> Self {
        let twist: Arc<Mutex<Twist>> = Arc::default();
        let (shared, begun) = (Arc::clone(&twist), Mutex::new(Begun { product, ..Begun::default() }));
        let address: Arc<Mutex<String>> = Arc::default();
        let own = Arc::clone(&address);
        let server = Upstream::start(move |request| {
            let (own, twist) = (own.lock().expect("the address").clone(), shared.lock().expect("the twist").clone());
            answer(&own, request, &twist, &mut begun.lock().expect("what has begun"))
        })
        .await;
        *address.lock().expect("the address") = server.url("");
        Self { server, twist }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.server.url("")
    }

    /// Changes what it says.
    pub fn twist(&self, change: impl FnOnce(&mut Twist)) {
        change(&mut self.twist.lock().expect("the twist"));
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Request> {
        self.server.received()
    }

    /// How often a refresh token was presented.
    pub fn renewals(&self) -> usize {
        let refreshes = |request: &&Request| {
            request.method == "POST" && String::from_utf8_lossy(&request.body).contains("grant_type=refresh_token")
        };
        self.received().iter().filter(refreshes).count()
    }
}

/// A recorded error as an answer.
pub fn refused(error: &Value) -> Answer {
    let status = error["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
    Answer::json(&error["body"]).with_status(status)
}

/// Where the browser goes with a recorded error, or with a code.
pub fn back(begun: &mut Begun, query: &str, error: Option<&Value>, iss: Option<&str>) -> Answer {
    let asked = members(query);
    let mut to = url::Url::parse(&asked["redirect_uri"]).expect("a redirect URI");
    to.query_pairs_mut().append_pair("state", &asked["state"]);
    match error.and_then(Value::as_object) {
        Some(error) => {
            to.query_pairs_mut().extend_pairs(error.iter().map(|(name, value)| (name, value.as_str().expect("text"))));
        }
        None => {
            let code = format!("code-{}", begun.out.len());
            to.query_pairs_mut().append_pair("code", &code);
            begun.out.insert(code, asked);
        }
    }
    if let Some(iss) = iss {
        to.query_pairs_mut().append_pair("iss", iss);
    }
    Answer::status(302).header("location", to.as_str())
}

/// Whether the verifier is that of the request which a code came from.
pub fn is_proven(asked: &HashMap<String, String>, form: &HashMap<String, String>) -> bool {
    let verifier = form.get("code_verifier").cloned().unwrap_or_default();
    asked["code_challenge"] == b64(Sha256::digest(verifier)) && asked["redirect_uri"] == form["redirect_uri"]
}

/// A text with the product's hosts replaced.
fn on_loopback(own: &str, discovery: &Value, text: &str) -> String {
    let mut text = text.to_owned();
    for url in discovery.as_object().expect("a document").values().filter_map(Value::as_str) {
        if let Some(host) = url.strip_prefix("https://").and_then(|rest| rest.split('/').next()) {
            text = text.replace(&format!("https://{host}"), own);
        }
    }
    text
}

fn oidc(own: &str, request: &Request, twist: &Twist, begun: &mut Begun) -> Answer {
    let product = begun.product;
    let original = recording(product, "discovery")["body"].take();
    let document = on_loopback(own, &original, &original.to_string());
    let document: Value = serde_json::from_str(&document).expect("a document");
    let at =
        |name: &str| document[name].as_str().and_then(|url| url.strip_prefix(own)).expect("an endpoint").to_owned();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let errors = recording(product, "errors");
    if path.ends_with("/.well-known/openid-configuration") {
        Answer::json(&document)
    } else if path == at("jwks_uri") {
        let mut keys = recording(product, "keys")["body"].take();
        let kid = keys["keys"][0]["kid"].as_str().expect("a key id").to_owned();
        let own_key = Key::Rs256.jwk(&kid);
        keys["keys"][0] = merged(keys["keys"][0].clone(), json!({ "n": own_key["n"], "e": own_key["e"] }));
        Answer::json(&keys)
    } else if path == at("authorization_endpoint") {
        let says = document["authorization_response_iss_parameter_supported"] == json!(true);
        let iss = says.then(|| document["issuer"].as_str().expect("an issuer"));
        back(begun, query, (twist.refuses == "authorize").then_some(&errors["authorize"]), iss)
    } else if path == at("token_endpoint") {
        let form = members(&String::from_utf8_lossy(&request.body));
        let refreshes = form["grant_type"] == "refresh_token";
        if twist.refuses == "client" || twist.refuses == if refreshes { "refresh" } else { "code" } {
            return refused(&errors[twist.refuses]);
        }
        let presented = if refreshes { &form["refresh_token"] } else { &form["code"] };
        let Some(mut asked) = begun.out.remove(presented) else { return refused(&errors["code"]) };
        if refreshes {
            asked.remove("nonce");
        } else if !is_proven(&asked, &form) {
            return refused(&errors["code"]);
        }
        tokens(own, &original, &asked, twist, begun)
    } else if path == at("userinfo_endpoint") {
        Answer::json(&recording(product, "userinfo")["body"])
    } else {
        Answer::status(404)
    }
}

fn tokens(own: &str, original: &Value, asked: &HashMap<String, String>, twist: &Twist, begun: &mut Begun) -> Answer {
    let mut token = recording(begun.product, "token")["body"].take();
    let mut id_token = recording(begun.product, "id-token");
    begun.given += 1;
    let access = format!("{}-{}", token["access_token"].as_str().expect("a token"), begun.given);
    let refresh = format!("{}-{}", token["refresh_token"].as_str().expect("a token"), begun.given);
    let recorded = id_token["payload"].take();
    let iss = on_loopback(own, original, recorded["iss"].as_str().expect("an issuer"));
    let mut claims = merged(recorded.clone(), json!({ "iss": iss, "aud": asked["client_id"], "nonce": null }));
    for (name, value) in [("iat", now()), ("nbf", now()), ("auth_time", now()), ("exp", now() + 300)] {
        if recorded.get(name).is_some() {
            claims[name] = json!(value);
        }
    }
    if recorded.get("azp").is_some() {
        claims["azp"] = json!(asked["client_id"]);
    }
    if recorded.get("at_hash").is_some() {
        claims["at_hash"] = json!(b64(&Sha256::digest(&access)[..16]));
    }
    if let Some(nonce) = asked.get("nonce") {
        claims["nonce"] = json!(nonce);
    }
    let claims = merged(claims, twist.claims.clone()).to_string();
    let signed = Key::Rs256.sign(id_token["header"].to_string().as_bytes(), claims.as_bytes());
    begun.out.insert(refresh.clone(), asked.clone());
    token = merged(token, json!({ "access_token": access, "refresh_token": refresh, "id_token": signed }));
    Answer::json(&merged(token, twist.tokens.clone()))
}
