//! GitHub on loopback, in the shape of an Enterprise Server, with what `tests/recorded/github` knows.

use serde_json::{Value, json};

use super::issuer::merged;
use super::provider::members;
use super::recorded::{Begun, Recorded, Twist, back, is_proven, recording, refused};
use super::upstream::{Answer, Request};

impl Recorded {
    /// GitHub, with tokens that end.
    pub async fn github() -> Self {
        Self::start("github", answer).await
    }
}

fn answer(_: &str, request: &Request, twist: &Twist, begun: &mut Begun) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let errors = recording("github", "errors");
    match path {
        "/login/oauth/authorize" => {
            back(begun, query, (twist.refuses == "authorize").then_some(&errors["authorize"]), None)
        }
        "/login/oauth/access_token" => {
            let form = members(&String::from_utf8_lossy(&request.body));
            let refreshes = form.get("grant_type").is_some_and(|grant| grant == "refresh_token");
            if twist.refuses == "client" || twist.refuses == if refreshes { "refresh" } else { "code" } {
                return refused(&errors[twist.refuses]);
            }
            let presented = if refreshes { &form["refresh_token"] } else { &form["code"] };
            let Some(asked) = begun.out.remove(presented) else { return refused(&errors["code"]) };
            if !refreshes && !is_proven(&asked, &form) {
                return refused(&errors["code"]);
            }
            begun.given += 1;
            let mut token = recording("github", "token")["expiring"].take();
            let refresh = format!("{}{}", token["refresh_token"].as_str().expect("a token"), begun.given);
            token = merged(token, json!({ "refresh_token": refresh }));
            begun.out.insert(refresh, asked);
            as_asked(request, &merged(token, twist.tokens.clone()))
        }
        _ => api(path, request, twist, &errors),
    }
}

/// A form unless JSON is asked for, as GitHub does.
fn as_asked(request: &Request, token: &Value) -> Answer {
    if request.header("accept").iter().any(|kind| kind == "application/json") && token.get("form").is_none() {
        return Answer::json(token);
    }
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in token.as_object().expect("members") {
        form.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    Answer::status(200).header("content-type", kind).body(form.finish())
}

fn api(path: &str, request: &Request, twist: &Twist, errors: &Value) -> Answer {
    if let Some((status, headers, body)) = twist.api.get(path) {
        let answer = Answer::json(body).with_status(*status);
        let headers = headers.as_object().expect("headers");
        return headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value.as_str().expect("text")));
    }
    if !request.header("authorization").iter().any(|value| value.starts_with("Bearer ghu_")) {
        return refused(&errors["api"]);
    }
    let Some(path) = path.strip_prefix("/api/v3/user") else { return Answer::status(404) };
    let memberships = recording("github", "memberships")["body"].take();
    match path {
        "" => Answer::json(&recording("github", "user")["body"]),
        "/emails" => Answer::json(&recording("github", "emails")["body"]),
        "/teams" => Answer::json(&recording("github", "teams")["body"]),
        "/memberships/orgs" => Answer::json(&memberships),
        _ => {
            let named = path.strip_prefix("/memberships/orgs/");
            let mut memberships = memberships.as_array().expect("a list").iter();
            match memberships.find(|one| named.is_some_and(|name| one["organization"]["login"] == name)) {
                Some(membership) => Answer::json(membership),
                None => Answer::json(&json!({ "message": "Not Found" })).with_status(404),
            }
        }
    }
}
