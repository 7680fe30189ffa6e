use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::engine::clock::SystemClock;
use crate::engine::fetch::FetchError;
use crate::oauth::jws::{Algorithm, Unverified};
use crate::secret::SecretRef;

/// Answers what it is told to, and remembers the questions.
#[derive(Debug, Default)]
struct Fake {
    answer: Mutex<(u16, String)>,
    asked: Mutex<Vec<Request<Bytes>>>,
}

#[async_trait::async_trait]
impl Fetch for Fake {
    async fn get(&self, url: &url::Url) -> Result<Bytes, FetchError> {
        Err(FetchError { url: url.to_string(), cause: "not asked for".to_owned() })
    }

    async fn send(&self, target: Target, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        assert_eq!(target, Target::Operator);
        self.asked.lock().unwrap().push(request);
        let (status, body) = self.answer.lock().unwrap().clone();
        if status == 0 {
            return Err(FetchError { url: "https://id.example".to_owned(), cause: body });
        }
        Ok(Response::builder().status(status).body(body.into()).unwrap())
    }
}

fn held(bytes: &[u8]) -> Held {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, bytes).unwrap();
    let from = SecretRef::File(path);
    Held { secret: from.read().unwrap(), from }
}

fn endpoint(fetch: &Arc<Fake>, proof: Proof) -> TokenEndpoint {
    let request = TokenRequest {
        url: EndpointUrl::parse("https://id.example/token").unwrap(),
        client_id: "gate way".to_owned(),
        proof,
        scopes: vec!["a:read".to_owned(), "b".to_owned()],
        audience: Some("api://notes".to_owned()),
        resource: Some("https://notes.internal/mcp".to_owned()),
    };
    TokenEndpoint::new(&request, Arc::<Fake>::clone(fetch), Arc::new(SystemClock)).unwrap()
}

fn says(fetch: &Fake, status: u16, body: &str) {
    *fetch.answer.lock().unwrap() = (status, body.to_owned());
}

const GOOD: &str = r#"{"access_token":"tok.1","token_type":"bearer","expires_in":3600}"#;

/// The form of the one question, and its `Authorization`.
async fn asked(proof: Proof) -> (Vec<(String, String)>, Option<String>) {
    let fetch = Arc::<Fake>::default();
    says(&fetch, 200, GOOD);
    let token = endpoint(&fetch, proof).ask(&[("grant_type", "client_credentials")]).await.unwrap();
    assert_eq!((token.text.as_str(), token.lives), ("tok.1", Some(3600)));
    assert!(!format!("{token:?}").contains("tok.1"));
    let request = fetch.asked.lock().unwrap().pop().unwrap();
    assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", "https://id.example/token"));
    assert_eq!(request.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
    let form = url::form_urlencoded::parse(request.body()).into_owned().collect();
    let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    (form, header)
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const ASKED: [(&str, &str); 4] = [
    ("scope", "a:read b"),
    ("audience", "api://notes"),
    ("resource", "https://notes.internal/mcp"),
    ("grant_type", "client_credentials"),
];

#[tokio::test]
async fn p07_the_gateway_proves_who_it_is_in_one_way() {
    let (form, header) = asked(Proof::Basic(held(b"p&=%"))).await;
    assert_eq!((form, header.as_deref()), (pairs(&ASKED), Some("Basic Z2F0ZSt3YXk6cCUyNiUzRCUyNQ==")));

    let (form, header) = asked(Proof::Post(held(b"p&=%"))).await;
    let own = [("client_id", "gate way"), ("client_secret", "p&=%")];
    assert_eq!((form, header), (pairs(&[&ASKED[..], &own].concat()), None));

    let signer = Signer::generate(Algorithm::Es256).unwrap();
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signer.pkcs8());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    let (mut ids, mut proofs) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (form, header) = asked(Proof::Key(held(pem.as_bytes()))).await;
        assert_eq!(header, None);
        let assertion = form.last().unwrap().1.clone();
        let own = [
            ("client_id", "gate way"),
            ("client_assertion_type", client_auth::ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
        ];
        assert_eq!(form, pairs(&[&ASKED[..], &own].concat()));
        let claims = Unverified::parse(&assertion).unwrap().verify(signer.verifier()).unwrap();
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("gate way"), &json!("https://id.example/token")));
        ids.push(claims["jti"].clone());
        proofs.push(assertion);
    }
    assert!(ids[0] != ids[1] && proofs[0] != proofs[1], "each is used once");
}

#[tokio::test]
async fn p08_only_a_bearer_token_with_a_time_that_can_be_read_is_believed() {
    let fetch = Arc::<Fake>::default();
    let endpoint = endpoint(&fetch, Proof::Basic(held(b"secret")));
    for (answer, lives) in [
        (GOOD, Some(3600)),
        (r#"{"access_token":"t","token_type":"Bearer","expires_in":"3599"}"#, Some(3599)),
        (r#"{"access_token":"t","token_type":"BEARER"}"#, None),
        (r#"{"access_token":"t","token_type":"Bearer","expires_in":null,"scope":"a","x":[1]}"#, None),
        (r#"{"access_token":"t","token_type":"Bearer","expires_in":18446744073709551615}"#, Some(i64::MAX)),
    ] {
        says(&fetch, 200, answer);
        assert_eq!(endpoint.ask(&[]).await.unwrap().lives, lives, "{answer}");
    }
    let huge = format!(r#"{{"access_token":"t","token_type":"Bearer","x":"{}"}}"#, "x".repeat(LARGEST));
    let long = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "t".repeat(LONGEST_TOKEN + 1));
    for answer in [
        "",
        "<html>",
        "[]",
        r#"{"token_type":"Bearer"}"#,
        r#"{"access_token":"t"}"#,
        r#"{"access_token":"t","token_type":"mac"}"#,
        r#"{"access_token":"t","token_type":"N_A"}"#,
        r#"{"access_token":"t","token_type":["Bearer"]}"#,
        r#"{"access_token":1,"token_type":"Bearer"}"#,
        r#"{"access_token":"","token_type":"Bearer"}"#,
        r#"{"access_token":"a b","token_type":"Bearer"}"#,
        r#"{"access_token":"a\r\nx: y","token_type":"Bearer"}"#,
        r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":-1}"#,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":"soon"}"#,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":true}"#,
        &huge,
        &long,
    ] {
        says(&fetch, 200, answer);
        let shown: String = answer.chars().take(80).collect();
        assert_eq!(endpoint.ask(&[]).await.unwrap_err().reason, Reason::CredentialRefused, "{shown}");
    }
}

#[tokio::test]
async fn p08_what_is_said_with_an_error_is_not_repeated() {
    let fetch = Arc::<Fake>::default();
    let endpoint = endpoint(&fetch, Proof::Basic(held(b"secret")));
    for (status, body, wanted) in [
        (400, r#"{"error":"invalid_grant","error_description":"s3cret"}"#, "status 400, invalid_grant"),
        (401, r#"{"error":"invalid_client"}"#, "status 401, invalid_client"),
        (400, r#"{"error":"s3cret"}"#, "status 400, no known error code"),
        (403, "s3cret", "status 403, no known error code"),
        (302, "", "status 302, no known error code"),
        (201, GOOD, "status 201, no known error code"),
    ] {
        says(&fetch, status, body);
        let denial = endpoint.ask(&[]).await.unwrap_err();
        assert_eq!(denial.reason, Reason::CredentialRefused);
        assert_eq!(denial.internal.as_deref(), Some(format!("token endpoint: {wanted}").as_str()));
    }
}

#[tokio::test]
async fn p08_an_endpoint_that_does_not_answer_is_left_alone_for_a_while() {
    let fetch = Arc::<Fake>::default();
    let endpoint = endpoint(&fetch, Proof::Basic(held(b"secret")));
    for (status, body) in
        [(500, GOOD), (503, ""), (429, ""), (0, "no answer within 5 seconds"), (0, "refused"), (200, GOOD)]
    {
        says(&fetch, status, body);
        let denial = endpoint.ask(&[]).await.unwrap_err();
        assert_eq!(denial.reason, Reason::CredentialUnavailable, "{status}");
        assert!(denial.retry_after.is_some());
    }
    assert_eq!(fetch.asked.lock().unwrap().len(), 5, "after five failures in a row nobody asks");
}
