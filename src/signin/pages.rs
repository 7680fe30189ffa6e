//! The pages that people see: no script, one style, every word escaped.

use std::sync::OnceLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use sha2::{Digest as _, Sha256};

use super::answer::Answer;

/// The style of every page.
pub const STYLE: &str = include_str!("pages/style.css");

/// A way to sign in, as a button.
pub struct Way {
    /// The provider's name.
    pub name: String,
    /// What people call it.
    pub title: String,
}

/// Asks for consent.
#[derive(Template)]
#[template(path = "consent.html")]
pub struct Consent<'a> {
    /// What the client calls itself.
    pub client: &'a str,
    /// The first letter or digit of that.
    pub initial: char,
    /// The host that vouches for it.
    pub host: Option<&'a str>,
    /// Whether the policy or a host vouches for its name.
    pub vouched: bool,
    /// Whether it runs on the person's own machine.
    pub loopback: bool,
    /// Where the answer goes: a host, or the scheme of an application.
    pub redirect: &'a str,
    /// What people call the service.
    pub service: &'a str,
    /// Its URL.
    pub resource: &'a str,
    /// What the scopes allow, in the policy's words.
    pub scopes: Vec<&'a str>,
    /// Ways to sign in.
    pub ways: Vec<Way>,
    /// Where the form goes.
    pub action: String,
    /// The sealed request.
    pub request: &'a str,
    /// Whether the answer is remembered.
    pub remembered: bool,
    /// [`STYLE`].
    pub style: &'static str,
}

/// Asks for name and password.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub struct SignIn<'a> {
    /// What people call the service.
    pub service: &'a str,
    /// Where the form goes.
    pub action: String,
    /// The flow.
    pub state: &'a str,
    /// Whether a try failed.
    pub failed: bool,
    /// [`STYLE`].
    pub style: &'static str,
}

/// Asks whether to sign out, and says that it is done.
#[derive(Template)]
#[template(path = "sign_out.html")]
pub struct SignOut<'a> {
    /// What people call the service.
    pub service: &'a str,
    /// Where the form goes.
    pub action: String,
    /// Whether it is done.
    pub done: bool,
    /// [`STYLE`].
    pub style: &'static str,
}

/// Tells a person what went wrong and what to do.
#[derive(Template)]
#[template(path = "problem.html")]
struct Problem<'a> {
    title: &'a str,
    what: &'a str,
    then: &'a str,
    id: &'a str,
    style: &'static str,
}

/// Writes a page whose forms lead to the gateway and to these sources.
pub fn page(status: StatusCode, page: &impl Template, leads_to: &[String]) -> Answer {
    match page.render() {
        Ok(html) => Answer::page(status, html, style_source(), leads_to),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            Answer::value(StatusCode::INTERNAL_SERVER_ERROR, &serde_json::json!({ "error": "server_error" }))
        }
    }
}

/// Tells a person what went wrong, what to do, and the id of the request.
pub fn problem(status: StatusCode, title: &str, what: &str, then: &str, id: &str) -> Answer {
    page(status, &Problem { title, what, then, id, style: STYLE }, &[])
}

/// How a content security policy names the one style (CSP3 section 2.3.1).
fn style_source() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| format!("sha256-{}", STANDARD.encode(Sha256::digest(STYLE))))
}
