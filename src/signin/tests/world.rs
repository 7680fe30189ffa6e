//! The world of these tests: a network that a test scripts, a clock that it sets, and a store, with every other object made
//! anew for each step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Response};

use super::super::*;
use crate::engine::clock::{Clock, SetClock};
use crate::engine::documents::Documents;
use crate::engine::fetch::{Fetch, FetchError, Target};
use crate::engine::issuing::{ClaimSource, Lifetimes, ScopeWords, SignIn, SignInKind, Throttle, User, Works};
use crate::engine::keyring::Keyring;
use crate::engine::standing::Standing;
use crate::engine::store::Store;
use crate::engine::vault::Vault;
use crate::oauth::jws::Algorithm;
use crate::oauth::redirect::{AllowedRedirect, RedirectUri};
use crate::stores::memory::Memory;

pub const ISSUER: &str = "https://mcp.example/files";
pub const CLIENT: &str = "https://client.example/oauth/client.json";
pub const CALLBACK: &str = "https://client.example/cb";
pub const PASSWORD: &str = "correct horse battery";
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Answers by URL: status, content type, cache control and body. Counts what it is asked for.
#[derive(Debug, Default)]
pub struct Network {
    answers: Mutex<HashMap<String, (u16, String, String, String)>>,
    pub asked: Mutex<Vec<(Target, String)>>,
}

impl Network {
    pub fn says(&self, url: &str, status: u16, kind: &str, control: &str, body: &str) {
        let answer = (status, kind.to_owned(), control.to_owned(), body.to_owned());
        self.answers.lock().unwrap().insert(url.to_owned(), answer);
    }

    pub fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Fetch for Network {
    async fn get(&self, url: &url::Url) -> Result<Bytes, FetchError> {
        let request = http::Request::get(url.as_str()).body(Bytes::new()).unwrap();
        self.send(Target::Operator, request).await.map(Response::into_body)
    }

    async fn send(&self, target: Target, request: http::Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let url = request.uri().to_string();
        self.asked.lock().unwrap().push((target, url.clone()));
        let answers = self.answers.lock().unwrap();
        let Some((status, kind, control, body)) = answers.get(&url) else {
            return Err(FetchError { url, cause: "nothing is there".into() });
        };
        let answer = Response::builder().status(*status).header("content-type", kind).header("cache-control", control);
        Ok(answer.body(Bytes::from(body.clone())).unwrap())
    }
}

/// What outlives every step: the store, the network and the clock.
pub struct World {
    store: Arc<dyn Store>,
    pub network: Arc<Network>,
    clock: Arc<SetClock>,
    pub keys: Vec<&'static [u8]>,
    /// The people of the local provider.
    pub users: Vec<User>,
    pub lifetimes: Lifetimes,
}

impl World {
    pub fn new() -> Self {
        Self::over(|clock| Arc::new(Memory::new(clock)))
    }

    /// A world whose store is this one.
    pub fn over(store: impl FnOnce(Arc<dyn Clock>) -> Arc<dyn Store>) -> Self {
        let clock = Arc::new(SetClock(AtomicI64::new(1_800_000_000)));
        let world = Self {
            store: store(Arc::clone(&clock) as Arc<dyn Clock>),
            network: Arc::default(),
            clock,
            keys: vec![b"a key of the installation, 32 bytes"],
            users: vec![alice()],
            lifetimes: Lifetimes {
                access: 3600,
                service: 3600,
                code: 60,
                refresh_idle: 86_400,
                refresh: 200_000,
                outage: 0,
            },
        };
        world.publishes(&document(CALLBACK));
        world
    }

    pub fn publishes(&self, document: &str) {
        self.network.says(CLIENT, 200, "application/json", "max-age=60", document);
    }

    /// The rows of a table as the store sees them.
    pub async fn rows(&self, table: crate::engine::store::Table) -> Vec<Vec<u8>> {
        self.store.page(table, None).await.unwrap().rows.into_iter().map(|(_, row)| row.value).collect()
    }

    pub fn later(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// An authorization server that knows nothing but the store.
    pub fn issuing(&self) -> Arc<Issuing> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let vault = Arc::new(Vault::new(Arc::clone(&self.store), Arc::clone(&clock), &self.keys).unwrap());
        let users = self.users.clone().into();
        let sign_in = vec![SignIn { name: "people".into(), title: "People".into(), kind: SignInKind::Local(users) }];
        Arc::new(Issuing {
            service: "files".into(),
            issuer: ISSUER.into(),
            metadata: Bytes::new(),
            title: "files".into(),
            redirects: vec![AllowedRedirect::Exact(RedirectUri::parse(CALLBACK).unwrap())],
            clients: Vec::new(),
            registration: true,
            client_documents: true,
            remember: Some(std::time::Duration::from_secs(3600)),
            claims: vec![ClaimSource { name: "groups".into(), from: "groups".into() }],
            scopes: vec![ScopeWords { name: "read".into(), describe: None, default: true }],
            lifetimes: self.lifetimes,
            standing: Arc::new(Standing::new(&sign_in, &[], true, true)),
            sign_in,
            works: Works {
                vault,
                keyring: Arc::new(Keyring::new(Algorithm::Es256)),
                revocations: Arc::default(),
                fetch: Arc::clone(&self.network) as Arc<dyn Fetch>,
                clock,
                documents: Arc::<Documents>::default(),
                throttle: Arc::<Throttle>::default(),
            },
        })
    }

    /// One request, answered by an authorization server of its own.
    pub async fn ask(&self, method: Method, endpoint: Endpoint<'_>, query: &str, body: &str, jar: &mut Jar) -> Answer {
        self.ask_of(&self.issuing(), method, endpoint, query, body, jar).await
    }

    pub async fn ask_of(
        &self,
        issuing: &Arc<Issuing>,
        method: Method,
        endpoint: Endpoint<'_>,
        query: &str,
        body: &str,
        jar: &mut Jar,
    ) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
        let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        headers.insert("cookie", HeaderValue::from_str(&cookies.join("; ")).unwrap());
        let body = Bytes::from(body.to_owned());
        let address = "192.0.2.1".parse().unwrap();
        let request =
            Request { endpoint, method: &method, headers: &headers, query, body: &body, address, id: "request-id" };
        let answer = answer(issuing, request).await;
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| *name == SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with("__Host-portcullis-") && cookie.contains("; Secure"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub async fn authorize(&self, jar: &mut Jar) -> Answer {
        self.ask(Method::GET, Endpoint::Authorize, &authorization(), "", jar).await
    }

    pub async fn consent(&self, page: &Answer, jar: &mut Jar) -> Answer {
        let body = format!("request={}&provider=people", field(page, "request"));
        self.ask(Method::POST, Endpoint::Consent, "", &body, jar).await
    }

    pub async fn token(&self, body: &str) -> Answer {
        self.ask(Method::POST, Endpoint::Token, "", body, &mut Jar::new()).await
    }
}

pub type Jar = HashMap<String, String>;

pub fn alice() -> User {
    User { name: "alice".into(), password: hashed(), claims: serde_json::Map::new() }
}

pub fn hashed() -> String {
    use argon2::password_hash::{PasswordHasher as _, SaltString};
    static HASH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let hash = || {
        let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
        argon2::Argon2::default().hash_password(PASSWORD.as_bytes(), &salt).unwrap().to_string()
    };
    HASH.get_or_init(hash).clone()
}

pub fn document(redirect: &str) -> String {
    serde_json::json!({ "client_id": CLIENT, "client_name": "A client", "redirect_uris": [redirect] }).to_string()
}

pub fn authorization() -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", CALLBACK),
            ("state", "s"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ])
        .finish()
}

pub fn redemption(code: &str) -> String {
    let client = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect::<String>();
    let redirect = url::form_urlencoded::byte_serialize(CALLBACK.as_bytes()).collect::<String>();
    format!(
        "grant_type=authorization_code&code={code}&redirect_uri={redirect}&client_id={client}&code_verifier={VERIFIER}"
    )
}

pub fn field(page: &Answer, name: &str) -> String {
    let body = String::from_utf8(page.body.to_vec()).unwrap();
    let start = format!("name=\"{name}\" value=\"");
    let rest = body.split_once(&start).unwrap_or_else(|| panic!("a page with `{name}`: {body}")).1;
    rest.split('"').next().unwrap().to_owned()
}

pub fn location(answer: &Answer) -> url::Url {
    let found = answer.headers.iter().find(|(name, _)| name == "location");
    let found = found.unwrap_or_else(|| panic!("a redirect: {answer:?}"));
    url::Url::parse(found.1.to_str().unwrap()).unwrap()
}

pub fn parameter(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

pub fn read(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// From the authorization request to a code.
pub async fn code(world: &World, jar: &mut Jar) -> String {
    let page = world.authorize(jar).await;
    let leaving = world.consent(&page, jar).await;
    let state = parameter(&location(&leaving), "state").unwrap();
    let query = format!("state={state}");
    let page = world.ask(Method::GET, Endpoint::SignIn, &query, "", jar).await;
    let body = format!("state={}&name=alice&password={}", field(&page, "state"), PASSWORD.replace(' ', "+"));
    let entered = world.ask(Method::POST, Endpoint::SignIn, "", &body, jar).await;
    parameter(&location(&entered), "code").unwrap()
}
