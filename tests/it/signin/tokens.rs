//! The token endpoint and what it gives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{CALLBACK, CI_SECRET, Story, VERIFIER, claims, error, json as read, redemption};
use crate::support::{Browser, Key};

#[tokio::test]
async fn h01_only_forms_are_read() {
    let story = Story::new().await;
    let url = format!("{}/token", story.issuer());
    let client = reqwest::Client::new();
    for kind in ["application/json", "text/plain", ""] {
        let answer = client.post(&url).header("content-type", kind).body("grant_type=refresh_token").send().await;
        assert_eq!(answer.expect("an answer").status().as_u16(), 400, "{kind}");
    }
    let twice = client
        .post(&url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=refresh_token&grant_type=refresh_token&client_id=desk")
        .send()
        .await
        .expect("an answer");
    assert_eq!(twice.status().as_u16(), 400);
    for grant in ["password", "implicit", "urn:ietf:params:oauth:grant-type:device_code"] {
        let answer = story.token(&[("grant_type", grant), ("client_id", "desk")]).await;
        assert_eq!(error(&answer), "unsupported_grant_type", "{grant}");
    }
}

#[tokio::test]
async fn h02_h04_a_code_is_for_its_client_redirect_uri_and_verifier() {
    let story = Story::new().await;
    let code = story.code().await;
    let other = "b".repeat(50);
    for (what, name, value) in [
        ("another verifier", "code_verifier", other.as_str()),
        ("the challenge itself", "code_verifier", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("a short verifier", "code_verifier", "abc"),
        ("another redirect URI", "redirect_uri", "https://app.example.com/cb"),
        ("another port", "redirect_uri", "http://127.0.0.1:7778/callback"),
        ("another code", "code", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        let mut form = redemption(&code).to_vec();
        form.retain(|(found, _)| *found != name);
        form.push((name, value));
        let answer = story.token(&form).await;
        assert_eq!((answer.status, error(&answer).as_str()), (400, "invalid_grant"), "{what}");
    }
    for missing in ["code", "redirect_uri", "code_verifier"] {
        let form: Vec<_> = redemption(&code).into_iter().filter(|(name, _)| *name != missing).collect();
        assert_eq!(error(&story.token(&form).await), "invalid_request", "{missing}");
    }
    let ci = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", "ci"),
        ("client_secret", CI_SECRET),
    ];
    assert_eq!(error(&story.token(&ci).await), "invalid_grant", "another client");
    let elsewhere: Vec<_> = redemption(&code).into_iter().chain([("resource", "https://other.example/mcp")]).collect();
    assert_eq!(error(&story.token(&elsewhere).await), "invalid_target");
    assert_eq!(story.redeem(&code).await.status, 200, "the positive control");
}

#[tokio::test]
async fn h03_a_second_redemption_revokes_what_the_first_gave() {
    let story = Story::new().await;
    let code = story.code().await;
    let tokens = read(&story.redeem(&code).await);
    let access = tokens["access_token"].as_str().expect("a token");
    assert_eq!(story.call("read", access).await, 200);
    assert_eq!(error(&story.redeem(&code).await), "invalid_grant");
    story.upstream.forget();
    assert_eq!(story.call("read", access).await, 401, "the access token");
    story.upstream.assert_silent();
    let refreshed = story.refresh(tokens["refresh_token"].as_str().expect("a token")).await;
    assert_eq!(error(&refreshed), "invalid_grant", "the refresh token");
}

#[tokio::test]
async fn c03_of_many_redemptions_at_once_one_succeeds() {
    let story = std::sync::Arc::new(Story::new().await);
    let code = story.code().await;
    let mut redemptions = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (story, code) = (std::sync::Arc::clone(&story), code.clone());
        redemptions.spawn(async move { story.redeem(&code).await.status });
    }
    let good = redemptions.join_all().await.into_iter().filter(|status| *status == 200).count();
    assert_eq!(good, 1);
}

#[tokio::test]
async fn h05_h06_refresh_tokens_rotate_and_a_replay_ends_the_grant() {
    let story = Story::new().await;
    let first = story.tokens().await;
    let r0 = first["refresh_token"].as_str().expect("a refresh token").to_owned();
    let second = read(&story.refresh(&r0).await);
    let r1 = second["refresh_token"].as_str().expect("a refresh token").to_owned();
    assert_ne!(r0, r1);
    assert_ne!(first["access_token"], second["access_token"]);
    assert_eq!(claims(&second["access_token"])["aud"], story.issuer());
    assert_eq!(claims(&second["access_token"])["groups"], json!(["eng"]));

    let again = read(&story.refresh(&r0).await);
    assert_eq!(again["refresh_token"], r1.as_str(), "H06: a lost answer is given again");
    let third = read(&story.refresh(&r1).await);
    assert!(third["refresh_token"].is_string());

    let replayed = story.refresh(&r0).await;
    assert_eq!(error(&replayed), "invalid_grant", "two turns old");
    for (what, token) in [("the newest", &third["refresh_token"]), ("the one before", &json!(r1))] {
        assert_eq!(error(&story.refresh(token.as_str().expect("a token")).await), "invalid_grant", "{what}");
    }
    story.upstream.forget();
    for access in [&first, &second, &third] {
        assert_eq!(story.call("read", access["access_token"].as_str().expect("a token")).await, 401);
    }
    story.upstream.assert_silent();
}

#[tokio::test]
async fn h05_a_refresh_token_is_its_clients_and_only_narrows() {
    let story = Story::new().await;
    let page = story.sign_in(&Browser::new(), &[("scope", "files:read files:write")]).await;
    let tokens = read(&story.redeem(&page.parameter("code").expect("a code")).await);
    let token = tokens["refresh_token"].as_str().expect("a refresh token").to_owned();
    let form = |more: &[(&'static str, &'static str)]| {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
        form.extend_from_slice(more);
        form
    };
    let ci = [("client_id", "ci"), ("client_secret", CI_SECRET)];
    assert_eq!(error(&story.token(&form(&ci)).await), "invalid_grant", "another client");
    assert_eq!(error(&story.token(&form(&[("client_id", "desk"), ("scope", "admin")])).await), "invalid_scope");
    let elsewhere = [("client_id", "desk"), ("resource", "https://other.example/mcp")];
    assert_eq!(error(&story.token(&form(&elsewhere)).await), "invalid_target");
    for forged in [
        token.replacen(".0.", ".1.", 1),
        token.replacen(".0.", ".00.", 1),
        token.replacen(".0.", ".+0.", 1),
        format!("{token}A"),
        token[..token.len() - 2].to_owned(),
        "x".repeat(4000),
    ] {
        assert_eq!(error(&story.refresh(&forged).await), "invalid_grant", "{forged}");
    }
    let narrowed = read(&story.token(&form(&[("client_id", "desk"), ("scope", "files:read")])).await);
    assert_eq!(claims(&narrowed["access_token"])["scope"], "files:read", "and nothing was used up by what was refused");
    let whole = read(&story.refresh(narrowed["refresh_token"].as_str().expect("a token")).await);
    assert_eq!(claims(&whole["access_token"])["scope"], "files:read files:write");
}

#[tokio::test]
async fn h08_a_client_proves_who_it_is_by_its_own_method_and_no_other() {
    let story = Story::new().await;
    let url = format!("{}/token", story.issuer());
    let grant = ("grant_type", "client_credentials");
    let basic = |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let good = basic("ci", CI_SECRET);
    let more = format!("{CI_SECRET}&more=x");
    for (what, form, authorization) in [
        ("no secret", vec![grant, ("client_id", "ci")], ""),
        ("a wrong secret", vec![grant, ("client_id", "ci"), ("client_secret", "x")], ""),
        ("a wrong secret by Basic", vec![grant], &*basic("ci", "x")),
        ("a secret with more behind it", vec![grant], &*basic("ci", &more)),
        ("an id with more behind it", vec![grant], &*basic("ci&more=x", CI_SECRET)),
        ("two methods", vec![grant, ("client_id", "ci"), ("client_secret", CI_SECRET)], &*good),
        ("two clients", vec![grant, ("client_id", "desk")], &*good),
        ("a secret of a public client", vec![grant, ("client_id", "desk"), ("client_secret", "x")], ""),
        ("nobody", vec![grant], ""),
        ("a bearer token", vec![grant, ("client_id", "ci")], "Bearer x"),
    ] {
        let headers: Vec<(&str, &str)> =
            if authorization.is_empty() { Vec::new() } else { vec![("authorization", authorization)] };
        let answer = Browser::new().submit_with(&url, &form, &headers).await;
        assert_eq!((answer.status, error(&answer).as_str()), (401, "invalid_client"), "{what}");
        let challenged = answer.header("www-authenticate").starts_with("Basic");
        assert_eq!(challenged, !authorization.is_empty(), "{what}");
    }
    let answer = Browser::new().submit_with(&url, &[grant], &[("authorization", &good)]).await;
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert!(!story.gateway.printed().contains(CI_SECRET));
}

#[tokio::test]
async fn a17_a_machine_is_no_person() {
    let story = Story::with(|policy| {
        policy
            .replace("  - allow: { tools: [write] }", "  - allow: { tools: [write] }\n    identity: person")
            .replace(
                "  - allow: { tools: [read] }\n    scopes: [files:read]",
                "  - allow: { tools: [read] }\n    identity: machine",
            )
            .replace("scopes: [files:read] }\n", "scopes: [files:read, files:write] }\n")
    })
    .await;
    let form = [("grant_type", "client_credentials"), ("client_id", "ci"), ("client_secret", CI_SECRET)];
    let tokens = read(&story.token(&form).await);
    let token = claims(&tokens["access_token"]);
    assert_eq!((&token["sub"], &token["client_id"]), (&json!("ci"), &json!("ci")));
    assert_eq!(tokens["expires_in"], 6 * 3600);
    assert!(tokens["refresh_token"].is_null());
    assert_eq!(story.call("read", tokens["access_token"].as_str().expect("a token")).await, 200);
    let wider = [grant_of("files:write"), form.to_vec()].concat();
    let tokens = read(&story.token(&wider).await);
    story.upstream.forget();
    assert_eq!(story.call("write", tokens["access_token"].as_str().expect("a token")).await, 403, "it is no person");
    story.upstream.assert_silent();
    let everything = [grant_of("files:everything"), form.to_vec()].concat();
    assert_eq!(error(&story.token(&everything).await), "invalid_scope");
    let page = story.sign_in(&Browser::new(), &[("scope", "files:read files:write")]).await;
    let person = read(&story.redeem(&page.parameter("code").expect("a code")).await);
    let person = person["access_token"].as_str().expect("a token");
    assert_eq!(story.call("write", person).await, 200, "a person is one");
    story.upstream.forget();
    assert_eq!(story.call("read", person).await, 403, "and no machine");
    story.upstream.assert_silent();
    let public = [("grant_type", "client_credentials"), ("client_id", "desk")];
    assert_eq!(error(&story.token(&public).await), "unauthorized_client");
}

fn grant_of(scope: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![("scope", scope)]
}

#[tokio::test]
async fn h10_a_revoked_token_is_worth_nothing() {
    let story = Story::new().await;
    let revoke = format!("{}/revoke", story.issuer());
    let tokens = story.tokens().await;
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let (access, refresh) = (text("access_token"), text("refresh_token"));
    // Another client revokes nothing, and an unknown token is no error.
    for (token, client, secret) in
        [(&access, "ci", CI_SECRET), (&refresh, "ci", CI_SECRET), (&"x".to_owned(), "desk", "")]
    {
        let form = [("token", token.as_str()), ("client_id", client), ("client_secret", secret)];
        assert_eq!(Browser::new().submit_with(&revoke, &form, &[]).await.status, 200);
    }
    assert_eq!(story.call("read", &access).await, 200);
    let form = [("token", access.as_str()), ("client_id", "desk")];
    assert_eq!(Browser::new().submit_with(&revoke, &form, &[]).await.status, 200);
    story.upstream.forget();
    assert_eq!(story.call("read", &access).await, 401);
    story.upstream.assert_silent();

    let next = read(&story.refresh(&refresh).await);
    let (access, refresh) =
        (next["access_token"].as_str().expect("a token"), next["refresh_token"].as_str().expect("one"));
    assert_eq!(story.call("read", access).await, 200);
    let form = [("token", refresh), ("client_id", "desk")];
    assert_eq!(Browser::new().submit_with(&revoke, &form, &[]).await.status, 200);
    assert_eq!(story.call("read", access).await, 401, "the grant ends with its refresh token");
    assert_eq!(error(&story.refresh(refresh).await), "invalid_grant");
}

#[tokio::test]
async fn a15_only_own_access_tokens_open_the_service() {
    let story = Story::new().await;
    let tokens = story.tokens().await;
    let access = tokens["access_token"].as_str().expect("a token");
    let (header, rest) = access.split_once('.').expect("a JWT");
    let (payload, signature) = rest.split_once('.').expect("a JWT");
    let forged = Key::Es256
        .sign(br#"{"alg":"ES256","typ":"at+jwt","kid":"x"}"#, claims(&tokens["access_token"]).to_string().as_bytes());
    story.upstream.forget();
    for (what, token) in [
        ("a refresh token", tokens["refresh_token"].as_str().expect("one").to_owned()),
        ("no signature", format!("{header}.{payload}.")),
        ("another payload", format!("{header}.{}.{signature}", header)),
        ("another key", forged),
        ("the provider's token", "provider-access-token".to_owned()),
    ] {
        assert_eq!(story.call("read", &token).await, 401, "{what}");
    }
    story.upstream.assert_silent();
    assert_eq!(story.call("read", access).await, 200);
}

#[tokio::test]
async fn a_client_that_proves_who_it_is_may_ask_what_its_own_tokens_are_worth() {
    let story = Story::new().await;
    let (introspect, revoke) = (format!("{}/introspect", story.issuer()), format!("{}/revoke", story.issuer()));
    let active = |token: String, client: &'static str, secret: &'static str| {
        let introspect = introspect.clone();
        async move {
            let form = [("token", token.as_str()), ("client_id", client), ("client_secret", secret)];
            let page = Browser::new().submit_with(&introspect, &form, &[]).await;
            (page.status, read(&page)["active"].clone())
        }
    };
    let cb = "https://app.example.com/cb";
    let page = story.sign_in(&Browser::new(), &[("client_id", "ci"), ("redirect_uri", cb)]).await;
    let code = page.parameter("code").expect("a code");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", cb),
        ("code_verifier", VERIFIER),
        ("client_id", "ci"),
        ("client_secret", CI_SECRET),
    ];
    let own = read(&story.token(&form).await);
    let other = story.tokens().await;
    for name in ["access_token", "refresh_token"] {
        let text = |tokens: &serde_json::Value| tokens[name].as_str().expect("a token").to_owned();
        assert_eq!(active(text(&own), "ci", CI_SECRET).await, (200, json!(true)), "{name}");
        assert_eq!(active(text(&other), "ci", CI_SECRET).await, (200, json!(false)), "another client's {name}");
        assert_eq!(active(text(&other), "desk", "").await.0, 401, "a public client");
    }
    let access = own["access_token"].as_str().expect("a token").to_owned();
    let form = [("token", access.as_str()), ("client_id", "ci"), ("client_secret", CI_SECRET)];
    assert_eq!(Browser::new().submit_with(&revoke, &form, &[]).await.status, 200);
    assert_eq!(active(access, "ci", CI_SECRET).await, (200, json!(false)), "revoked");
    assert_eq!(active("x".into(), "ci", CI_SECRET).await, (200, json!(false)), "rubbish");
}
