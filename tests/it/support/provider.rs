//! An OpenID Connect provider on loopback that signs anybody in, or errs as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::issuer::{merged, now};
use super::keys::Key;
use super::upstream::{Answer, Request, Upstream};

/// How the provider behaves from now on.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Laid over the claims of the ID token.
    pub claims: Value,
    /// Laid over the answer of the token endpoint.
    pub tokens: Value,
    /// Laid over the discovery document.
    pub discovery: Value,
    /// The document in whose place a page stands, with a status of success: as while somebody works on the provider.
    pub page_at: Option<&'static str>,
    /// The claims of the userinfo endpoint.
    pub userinfo: Value,
    /// The code of every authorization response, in the place of a short one.
    pub code: Option<String>,
    /// The `iss` of authorization responses; `None` sends none.
    pub iss: Option<String>,
    /// The error of authorization responses.
    pub refuses: Option<String>,
    /// The status of the token endpoint when it is not 200.
    pub token_status: Option<u16>,
    /// The error of the token endpoint to whoever refreshes.
    pub refresh_refused: Option<(u16, Value)>,
    /// How long everything takes.
    pub stall: Duration,
    /// The key that signs, and its id.
    pub key: (String, Key),
    /// The keys that are published.
    pub published: Vec<(String, Key)>,
}

/// What was asked for and is not yet redeemed: every code and every refresh token is good once.
#[derive(Debug, Default)]
struct Begun {
    codes: HashMap<String, HashMap<String, String>>,
    refreshes: HashMap<String, HashMap<String, String>>,
    given: usize,
}

/// The running provider.
#[derive(Debug)]
pub struct Provider {
    server: Upstream,
    manner: Arc<Mutex<Manner>>,
}

/// The members of a query or form.
pub fn members(text: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

impl Provider {
    pub async fn start() -> Self {
        let key = ("k1".to_owned(), Key::Rs256);
        let manner = Manner {
            claims: json!({}),
            tokens: json!({}),
            discovery: json!({}),
            page_at: None,
            userinfo: json!({}),
            code: None,
            iss: None,
            refuses: None,
            token_status: None,
            refresh_refused: None,
            stall: Duration::ZERO,
            published: vec![key.clone()],
            key,
        };
        let manner = Arc::new(Mutex::new(manner));
        let (shared, begun) = (Arc::clone(&manner), Mutex::new(Begun::default()));
        let address: Arc<Mutex<String>> = Arc::default();
        let own = Arc::clone(&address);
        let server = Upstream::start(move |request| {
            let manner = shared.lock().expect("the manner").clone();
            let own = own.lock().expect("the address").clone();
            answer(&own, request, &manner, &mut begun.lock().expect("what has begun")).after(manner.stall)
        })
        .await;
        *address.lock().expect("the address") = server.url("");
        Self { server, manner }
    }

    /// The issuer identifier.
    pub fn url(&self) -> String {
        self.server.url("")
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().expect("the manner"));
    }

    /// The requests to one path.
    pub fn asked(&self, path: &str) -> Vec<Request> {
        let all = self.server.received();
        all.into_iter().filter(|request| request.path.split('?').next() == Some(path)).collect()
    }
}

fn answer(own: &str, request: &Request, manner: &Manner, begun: &mut Begun) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    match path {
        _ if manner.page_at == Some(path) => {
            Answer::status(200).header("content-type", "text/html").body("<h1>Soon</h1>")
        }
        "/.well-known/openid-configuration" => {
            let document = json!({
                "issuer": own,
                "authorization_endpoint": format!("{own}/authorize"),
                "token_endpoint": format!("{own}/token"),
                "userinfo_endpoint": format!("{own}/userinfo"),
                "jwks_uri": format!("{own}/jwks"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            });
            Answer::json(&merged(document, manner.discovery.clone()))
        }
        "/jwks" => {
            let keys: Vec<Value> = manner.published.iter().map(|(kid, key)| key.jwk(kid)).collect();
            Answer::json(&json!({ "keys": keys }))
        }
        "/authorize" => {
            let asked = members(query);
            let code = format!("provider-code-{}", begun.codes.len());
            let code = manner.code.clone().unwrap_or(code);
            let mut back = url::Url::parse(&asked["redirect_uri"]).expect("a redirect URI");
            back.query_pairs_mut().append_pair("state", &asked["state"]);
            match &manner.refuses {
                Some(error) => {
                    back.query_pairs_mut().append_pair("error", error).append_pair("error_description", "<b>no</b>")
                }
                None => back.query_pairs_mut().append_pair("code", &code),
            };
            if let Some(iss) = &manner.iss {
                back.query_pairs_mut().append_pair("iss", iss);
            }
            begun.codes.insert(code, asked);
            Answer::status(302).header("location", back.as_str())
        }
        "/token" => {
            if let Some(status) = manner.token_status {
                return Answer::status(status).header("content-type", "text/plain").body("no");
            }
            let form = members(&String::from_utf8_lossy(&request.body));
            let denied = || Answer::json(&json!({ "error": "invalid_grant" })).with_status(400);
            if form["grant_type"] == "refresh_token" {
                if let Some((status, error)) = &manner.refresh_refused {
                    return Answer::json(error).with_status(*status);
                }
                let Some(mut asked) = begun.refreshes.remove(&form["refresh_token"]) else { return denied() };
                // An ID token of a refresh answers no request of a browser (OpenID Connect Core section 12.2).
                asked.remove("nonce");
                return tokens(own, &asked, manner, begun);
            }
            let Some(asked) = form.get("code").and_then(|code| begun.codes.remove(code)) else { return denied() };
            let verifier = form.get("code_verifier").cloned().unwrap_or_default();
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
            if asked["code_challenge"] != challenge || asked["redirect_uri"] != form["redirect_uri"] {
                return denied();
            }
            tokens(own, &asked, manner, begun)
        }
        "/userinfo" => Answer::json(&merged(json!({ "sub": "alice" }), manner.userinfo.clone())),
        _ => Answer::status(404),
    }
}

/// New tokens for whoever asked.
fn tokens(own: &str, asked: &HashMap<String, String>, manner: &Manner, begun: &mut Begun) -> Answer {
    let nonce = asked.get("nonce").map_or(json!({}), |nonce| json!({ "nonce": nonce }));
    let claims = json!({
        "iss": own, "aud": asked["client_id"], "sub": "alice", "iat": now(), "exp": now() + 300,
        "email": "alice@example.com", "email_verified": true, "groups": ["eng"],
    });
    let header = json!({ "alg": manner.key.1.algorithm(), "kid": manner.key.0 });
    let claims = merged(merged(claims, nonce), manner.claims.clone());
    let id_token = manner.key.1.sign(header.to_string().as_bytes(), claims.to_string().as_bytes());
    begun.given += 1;
    let refresh = format!("provider-refresh-token-{}", begun.given);
    begun.refreshes.insert(refresh.clone(), asked.clone());
    let tokens = json!({
        "access_token": format!("provider-access-token-{}", begun.given), "token_type": "Bearer", "expires_in": 300,
        "refresh_token": refresh, "id_token": id_token,
    });
    Answer::json(&merged(tokens, manner.tokens.clone()))
}
