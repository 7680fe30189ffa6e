//! A token endpoint (RFC 6749 section 3.2) on loopback: it gives numbered tokens, and fails as it is told.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::issuer::merged;
use super::upstream::{Answer, Request, Upstream};

#[derive(Debug, Default)]
struct State {
    given: usize,
    changes: Option<Value>,
    failing: Option<Answer>,
}

/// The running endpoint. Its tokens are called `given-1`, `given-2` and so on, and live for an hour.
#[derive(Debug)]
pub struct TokenEndpoint {
    server: Upstream,
    state: Arc<Mutex<State>>,
}

impl TokenEndpoint {
    pub async fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let server = Upstream::start(move |_| {
            let mut state = shared.lock().expect("the endpoint's state");
            if let Some(failing) = &state.failing {
                return failing.clone();
            }
            state.given += 1;
            let good =
                json!({"access_token": format!("given-{}", state.given), "token_type": "Bearer", "expires_in": 3600});
            Answer::json(&merged(good, state.changes.clone().unwrap_or_else(|| json!({}))))
        })
        .await;
        Self { server, state }
    }

    pub fn url(&self) -> String {
        self.server.url("/oauth2/token")
    }

    /// Lays this over every good answer from now on; a `null` removes a member.
    pub fn changes(&self, changes: Value) {
        self.change(|state| state.changes = Some(changes));
    }

    /// Answers everything with this from now on; `None` ends it.
    pub fn fails_with(&self, answer: Option<Answer>) {
        self.change(|state| state.failing = answer);
    }

    /// Every question so far.
    pub fn questions(&self) -> Vec<Request> {
        self.server.received()
    }

    /// The form of one question.
    pub fn form(&self, number: usize) -> Vec<(String, String)> {
        form(&self.questions()[number])
    }

    fn change(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state.lock().expect("the endpoint's state"));
    }
}

/// The fields of a form, sorted.
pub fn form(request: &Request) -> Vec<(String, String)> {
    let mut fields: Vec<_> = url::form_urlencoded::parse(&request.body).into_owned().collect();
    fields.sort();
    fields
}
