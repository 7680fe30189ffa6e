//! The page of the demo: an MCP client that knows the URL of the service and no more. It registers, sends its visitor to
//! sign in, and shows what the token that it gets may do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use url::form_urlencoded;

use crate::egress::Egress;
use crate::engine::fetch::{Fetch as _, Target};
use crate::engine::vault::random_text;
use crate::oauth::form::Parameters;

const STYLE: &str = concat!(include_str!("../../signin/pages/style.css"), include_str!("pages/demo.css"));
/// Sign-ins that are on their way at once.
const PENDING: usize = 16;
/// The calls that the page makes, with their arguments.
const CALLS: [(&str, &str); 3] = [
    ("search_notes", r#"{"query":"gate"}"#),
    ("create_note", r#"{"title":"New","text":"Written by the page of the demo."}"#),
    ("delete_note", r#"{"id":"1"}"#),
];

/// What the page shows.
#[derive(Template)]
#[template(path = "demo.html")]
struct Page<'a> {
    resource: &'a str,
    policy: &'a str,
    scope: &'a str,
    calls: Vec<Call>,
    style: &'static str,
}

/// What came of a call.
struct Call {
    tool: &'static str,
    status: u16,
    /// What the server answered.
    text: Option<String>,
    /// Whether only a scope is missing.
    more: bool,
}

/// What the client keeps.
#[derive(Default)]
struct Kept {
    /// `state` and `code_verifier` of sign-ins that are on their way.
    pending: VecDeque<(String, String)>,
    client: Option<String>,
    /// Access token and scope.
    token: Option<(String, String)>,
}

/// The client.
pub(super) struct Visitor {
    /// The service, which is its own authorization server.
    pub(super) resource: String,
    /// The policy, as it is called on the page.
    pub(super) policy: String,
    own: String,
    egress: Egress,
    kept: Mutex<Kept>,
}

impl Visitor {
    /// A client of `resource` whose page is at `own`, an origin.
    pub(super) fn new(resource: String, policy: String, own: String) -> Result<Self, String> {
        let egress = Egress::new(&crate::egress::EgressSettings::default()).map_err(|error| error.to_string())?;
        Ok(Self { resource, policy, own, egress, kept: Mutex::default() })
    }

    /// Serves the page at `listener` for as long as the runtime lives.
    pub(super) fn serve(self, listener: TcpListener) {
        let visitor = Arc::new(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let visitor = Arc::clone(&visitor);
                let answer = service_fn(move |request| {
                    let visitor = Arc::clone(&visitor);
                    async move { Ok::<_, Infallible>(visitor.answer(&request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        // Whoever leads the browser here by another name is not the visitor.
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        if host.map(|host| format!("http://{host}")).as_deref() != Some(&self.own) {
            return plain(StatusCode::MISDIRECTED_REQUEST, "This page has another address.");
        }
        let held = self.kept().token.clone();
        let outcome = match request.uri().path() {
            "/" => match held {
                Some((token, scope)) => self.page(&token, &scope).await,
                None => self.sign_in(None).await,
            },
            "/more" => self.sign_in(Some("notes:read notes:write")).await,
            "/again" => {
                self.kept().token = None;
                self.sign_in(None).await
            }
            "/callback" => self.callback(request.uri().query().unwrap_or_default()).await,
            _ => return plain(StatusCode::NOT_FOUND, "There is nothing here."),
        };
        outcome.unwrap_or_else(|error| plain(StatusCode::BAD_GATEWAY, &error))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the visitor to the gateway (OAuth 2.1 section 4.1.1).
    async fn sign_in(&self, scope: Option<&str>) -> Result<Response<Full<Bytes>>, String> {
        let client = self.registered().await?;
        let random = || random_text().map_err(|error| error.to_string());
        let (state, verifier) = (random()?, random()?);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs([
            ("response_type", "code"),
            ("client_id", &client),
            ("redirect_uri", &self.callback_url()),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("resource", &self.resource),
        ]);
        query.extend_pairs(scope.map(|scope| ("scope", scope)));
        let mut kept = self.kept();
        kept.pending.truncate(PENDING - 1);
        kept.pending.push_front((state, verifier));
        Ok(to(&format!("{}/authorize?{}", self.resource, query.finish())))
    }

    fn callback_url(&self) -> String {
        format!("{}/callback", self.own)
    }

    /// The client's id; it registers when it first needs one (RFC 7591).
    async fn registered(&self) -> Result<String, String> {
        if let Some(client) = self.kept().client.clone() {
            return Ok(client);
        }
        let about = json!({
            "client_name": "The page of the demo", "redirect_uris": [self.callback_url()], "token_endpoint_auth_method": "none",
        });
        let endpoint = format!("{}/register", self.resource);
        let request = Request::post(endpoint).header(CONTENT_TYPE, "application/json");
        let (status, answer, _) = self.ask(request, about.to_string()).await?;
        let client =
            answer["client_id"].as_str().ok_or_else(|| format!("the registration was answered {status}: {answer}"))?;
        self.kept().client = Some(client.to_owned());
        Ok(client.to_owned())
    }

    /// The visitor is back: the code becomes a token, and the page is shown.
    async fn callback(&self, query: &str) -> Result<Response<Full<Bytes>>, String> {
        let parameters = Parameters::parse(query.as_bytes()).map_err(|error| error.to_string())?;
        let state = parameters.get("state").unwrap_or_default();
        let verifier = {
            let pending = &mut self.kept().pending;
            let at = pending.iter().position(|(known, _)| known == state);
            at.and_then(|at| pending.remove(at)).map(|(_, verifier)| verifier)
        };
        let Some(verifier) = verifier else {
            return Ok(plain(StatusCode::BAD_REQUEST, "This sign-in was not begun here. Open / to begin one."));
        };
        let Some(code) = parameters.get("code") else {
            let error = parameters.get("error").unwrap_or_default();
            return Ok(plain(
                StatusCode::OK,
                &format!("The gateway says {error}: there is no token. Open / to begin again."),
            ));
        };
        let client = self.registered().await?;
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", &self.callback_url()),
                ("client_id", &client),
                ("code_verifier", &verifier),
                ("resource", &self.resource),
            ])
            .finish();
        let request = Request::post(format!("{}/token", self.resource));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let (status, answer, _) = self.ask(request, form).await?;
        let token = answer["access_token"].as_str().ok_or_else(|| format!("the code was answered {status}"))?;
        let scope = answer["scope"].as_str().unwrap_or_default();
        self.kept().token = Some((token.to_owned(), scope.to_owned()));
        Ok(to("/"))
    }

    /// Calls every tool, and shows what came of it.
    async fn page(&self, token: &str, scope: &str) -> Result<Response<Full<Bytes>>, String> {
        let mut calls = Vec::new();
        for (tool, arguments) in CALLS {
            let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
            let message = json!({
                "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments },
            });
            let request = Request::post(&self.resource)
                .header(AUTHORIZATION, format!("Bearer {token}"))
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json, text/event-stream");
            let (status, answer, challenge) = self.ask(request, message.to_string()).await?;
            if status == StatusCode::UNAUTHORIZED {
                // The token has ended, or the gateway was started anew.
                *self.kept() = Kept::default();
                return self.sign_in(None).await;
            }
            let text = answer.pointer("/result/content/0/text").and_then(Value::as_str).map(str::to_owned);
            calls.push(Call { tool, status: status.as_u16(), text, more: challenge.contains("insufficient_scope") });
        }
        let page = Page { resource: &self.resource, policy: &self.policy, scope, calls, style: STYLE };
        let html = page.render().map_err(|error| error.to_string())?;
        let style = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!("default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'; base-uri 'none'");
        let response = Response::builder().header(CONTENT_TYPE, "text/html; charset=utf-8");
        let response = response.header(CONTENT_SECURITY_POLICY, policy).body(Full::new(Bytes::from(html)));
        response.map_err(|error| error.to_string())
    }

    /// Sends a request to the gateway: status, body and challenge.
    async fn ask(&self, request: http::request::Builder, body: String) -> Result<(StatusCode, Value, String), String> {
        let request = request.body(Bytes::from(body)).map_err(|error| error.to_string())?;
        let answer = self.egress.send(Target::Operator, request).await.map_err(|error| error.to_string())?;
        let challenge =
            answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body = serde_json::from_slice(answer.body()).unwrap_or_default();
        Ok((answer.status(), body, challenge.to_owned()))
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn to(location: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().extend(http::HeaderValue::try_from(location).ok().map(|location| (LOCATION, location)));
    response
}
