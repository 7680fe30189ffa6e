//! An introspection endpoint (RFC 7662) on loopback: it knows some tokens, and fails as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::upstream::{Answer, Request, Upstream};

#[derive(Debug, Default)]
struct State {
    known: HashMap<String, Value>,
    failing: Option<Answer>,
    failures: Option<usize>,
    stall: Duration,
}

/// The running endpoint. A token that it does not know is not active.
#[derive(Debug)]
pub struct Introspector {
    server: Upstream,
    state: Arc<Mutex<State>>,
}

impl Introspector {
    pub async fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let server = Upstream::start(move |request| {
            let mut state = shared.lock().expect("the endpoint's state");
            let failing = state.failing.clone().filter(|_| state.failures != Some(0));
            state.failures = state.failures.map(|left| left.saturating_sub(1));
            let answer = failing.unwrap_or_else(|| {
                let token = field(request, "token").unwrap_or_default();
                Answer::json(state.known.get(&token).unwrap_or(&json!({"active": false})))
            });
            let stall = state.stall;
            if stall.is_zero() { answer } else { answer.after(stall) }
        })
        .await;
        Self { server, state }
    }

    pub fn url(&self) -> String {
        self.server.url("/oauth2/introspect")
    }

    /// From now on this is what it says about `token`.
    pub fn knows(&self, token: &str, answer: Value) {
        self.change(|state| drop(state.known.insert(token.to_owned(), answer)));
    }

    /// From now on the token is not active.
    pub fn revokes(&self, token: &str) {
        self.change(|state| drop(state.known.remove(token)));
    }

    /// Answers everything with this from now on, or only so often; `None` ends it.
    pub fn fails_with(&self, answer: Option<Answer>, times: Option<usize>) {
        self.change(|state| (state.failing, state.failures) = (answer, times));
    }

    /// Waits this long before every answer.
    pub fn stall(&self, wait: Duration) {
        self.change(|state| state.stall = wait);
    }

    /// Every question so far.
    pub fn questions(&self) -> Vec<Request> {
        self.server.received()
    }

    /// The tokens that it was asked about, in order.
    pub fn asked(&self) -> Vec<String> {
        self.questions().iter().filter_map(|request| field(request, "token")).collect()
    }

    pub fn forget(&self) {
        self.server.forget();
    }

    fn change(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state.lock().expect("the endpoint's state"));
    }
}

/// One field of a form.
pub fn field(request: &Request, name: &str) -> Option<String> {
    let mut fields = url::form_urlencoded::parse(&request.body);
    fields.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}
