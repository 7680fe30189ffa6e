//! Who may be a client: registered ones and those of the policy.

use serde_json::{Value, json};

use super::{Story, error, json as read};
use crate::support::{Browser, Page};

async fn register(story: &Story, metadata: &Value) -> Page {
    register_raw(story, &metadata.to_string(), "application/json").await
}

async fn register_raw(story: &Story, body: &str, kind: &str) -> Page {
    let client = reqwest::Client::new();
    let url = format!("{}/register", story.issuer());
    let answer = client.post(url).header("content-type", kind).body(body.to_owned()).send().await.expect("an answer");
    let status = answer.status().as_u16();
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    Page { status, headers, body: answer.text().await.expect("a body") }
}

fn metadata(changes: Value) -> Value {
    let base = json!({
        "client_name": "Tool", "redirect_uris": ["http://127.0.0.1:7777/callback"],
        "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"],
    });
    crate::support::issuer::merged(base, changes)
}

#[tokio::test]
async fn i05_a_client_registers_and_signs_a_person_in() {
    let story = Story::new().await;
    let registered = register(&story, &metadata(json!({ "client_uri": null, "software_id": "x" }))).await;
    assert_eq!(registered.status, 201, "{registered:#?}");
    let client = read(&registered);
    let id = client["client_id"].as_str().expect("an id").to_owned();
    assert!(!id.starts_with("https://") && !id.contains(':'), "I05: {id}");
    assert!(client["client_id_issued_at"].is_u64() && client.get("client_secret").is_none());
    assert!(client.as_object().expect("an object").values().all(|value| !value.is_null()), "no null: {client}");
    assert_eq!(client["software_id"], "x");

    let page = story.sign_in(&Browser::new(), &[("client_id", &id)]).await;
    let code = page.parameter("code").unwrap_or_else(|| panic!("a code: {page:#?}"));
    let mut form = super::redemption(&code).to_vec();
    form.retain(|(name, _)| *name != "client_id");
    form.push(("client_id", &id));
    let tokens = story.token(&form).await;
    assert_eq!(tokens.status, 200, "{tokens:#?}");
    assert_eq!(super::claims(&read(&tokens)["access_token"])["client_id"], id.as_str());
}

#[tokio::test]
async fn i02_the_same_public_client_is_one_client() {
    let story = Story::new().await;
    let first = read(&register(&story, &metadata(json!({}))).await);
    assert_eq!(read(&register(&story, &metadata(json!({}))).await)["client_id"], first["client_id"]);
    let other = read(&register(&story, &metadata(json!({ "client_name": "Other" }))).await);
    assert_ne!(other["client_id"], first["client_id"]);
    let secret = metadata(json!({ "token_endpoint_auth_method": "client_secret_post" }));
    let (one, two) = (read(&register(&story, &secret).await), read(&register(&story, &secret).await));
    assert_ne!(one["client_id"], two["client_id"], "a secret is for one");
    assert_eq!(one["client_secret_expires_at"], 0);
    assert!(one["client_secret"].as_str().is_some_and(|secret| secret.len() >= 43));
}

#[tokio::test]
async fn i01_redirect_uris_are_judged_one_by_one() {
    let story = Story::new().await;
    let mixed = metadata(json!({ "redirect_uris": [
        "https://evil.example/cb", "com.example.app:/cb", "https://app.example.com/cb", "cursor://x/cb",
    ] }));
    let client = read(&register(&story, &mixed).await);
    assert_eq!(client["redirect_uris"], json!(["com.example.app:/cb", "https://app.example.com/cb"]));
    let own = format!("{}/callback/corp", story.issuer().replace("127.0.0.1", "example.com"));
    for refused in [
        "https://evil.example/cb",
        "https://app.example.com/cb2",
        "https://*.example.com/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://app.example.com/cb",
        "http://10.0.0.1/cb",
        "https://app.example.com/cb#x",
        "https://u@app.example.com/cb",
        "",
        own.as_str(),
    ] {
        let answer = register(&story, &metadata(json!({ "redirect_uris": [refused] }))).await;
        assert_eq!((answer.status, error(&answer).as_str()), (400, "invalid_redirect_uri"), "{refused}");
    }
}

#[tokio::test]
async fn what_is_no_registration_is_refused_kindly() {
    let story = Story::new().await;
    for (what, body) in [
        ("no JSON", "x".to_owned()),
        ("a list", "[]".to_owned()),
        ("twice", r#"{"redirect_uris":["http://127.0.0.1/cb"],"redirect_uris":["http://127.0.0.1/cb"]}"#.to_owned()),
        (
            "a method that is not offered",
            metadata(json!({ "token_endpoint_auth_method": "tls_client_auth" })).to_string(),
        ),
        ("keys without keys", metadata(json!({ "token_endpoint_auth_method": "private_key_jwt" })).to_string()),
        (
            "too much",
            metadata(json!({ "redirect_uris": vec![format!("http://127.0.0.1/{}", "a".repeat(1000)); 12] }))
                .to_string(),
        ),
    ] {
        let answer = register_raw(&story, &body, "application/json").await;
        assert_eq!((answer.status, error(&answer).as_str()), (400, "invalid_client_metadata"), "{what}");
        assert!(!read(&answer)["error_description"].as_str().unwrap_or_default().is_empty(), "{what}");
    }
    for missing in [json!({ "redirect_uris": null }), json!({ "redirect_uris": [] }), json!({ "redirect_uris": "x" })] {
        let mut whole = metadata(json!({}));
        whole["redirect_uris"] = missing["redirect_uris"].clone();
        assert_eq!(error(&register(&story, &whole).await), "invalid_redirect_uri", "{missing}");
    }
    assert_eq!(register_raw(&story, &metadata(json!({})).to_string(), "text/plain").await.status, 400);
    let large = register_raw(&story, &"x".repeat(300 * 1024), "application/json").await;
    assert_eq!(large.status, 413);
}

#[tokio::test]
async fn a_policy_may_refuse_registration() {
    let story = Story::with(|policy| {
        policy.replace("  redirects: {", "  registration: false\n  client_documents: false\n  redirects: {")
    })
    .await;
    let refused = register(&story, &metadata(json!({}))).await;
    assert_eq!((refused.status, error(&refused).as_str()), (403, "access_denied"));
    let document =
        reqwest::get(format!("{}/.well-known/openid-configuration", story.issuer())).await.expect("an answer");
    let document: Value = serde_json::from_str(&document.text().await.expect("a body")).expect("JSON");
    assert!(document.get("registration_endpoint").is_none(), "and says so");
    assert_ne!(document["client_id_metadata_document_supported"], true);
    assert!(story.sign_in(&Browser::new(), &[]).await.parameter("code").is_some(), "a client of the policy still may");
}

#[tokio::test]
async fn f05_what_a_client_calls_itself_is_text() {
    let story = Story::new().await;
    let name = "<img src=x onerror=alert(1)>\" & 'co'";
    let client = read(&register(&story, &metadata(json!({ "client_name": name }))).await);
    let page =
        Browser::new().go(&story.authorize(&[("client_id", client["client_id"].as_str().expect("an id"))])).await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("<img"), "{}", page.body);
    assert!(page.body.contains("&#60;img") || page.body.contains("&lt;img"), "{}", page.body);
    assert!(page.body.contains("runs on your own computer"), "F02: a warning about loopback clients");
}
