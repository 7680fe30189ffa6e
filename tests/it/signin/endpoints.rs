//! What every endpoint says to what it was not made for, over HTTP/1 and HTTP/2; and what of one service, provider or flow is
//! worth nothing at another.

use serde_json::json;

use super::{CI_SECRET, Story, claims, error, json as read, policy, prepared, redemption};
use crate::support::authority::Authority;
use crate::support::{Browser, Client, Page, Provider, Upstream};

/// A story whose listener speaks HTTP/2 too.
async fn spoken_to() -> Story {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
    let listeners = "store: memory\nlisteners: [{ address: \"127.0.0.1:1\", h2c: true }]\n";
    let setup = prepared(&policy(&provider, &upstream)).installation(listeners);
    Story { gateway: setup.start().await, provider, upstream }
}

/// A client of both versions of HTTP.
fn clients() -> [(&'static str, reqwest::Client); 2] {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = || reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    [
        ("HTTP/1.1", builder().http1_only().build().expect("a client")),
        ("HTTP/2", builder().http2_prior_knowledge().build().expect("a client")),
    ]
}

async fn page(request: reqwest::RequestBuilder) -> Page {
    let answer = request.send().await.expect("an answer");
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    let (status, headers) = (answer.status().as_u16(), answer.headers().iter().map(header).collect());
    Page { status, headers, body: answer.text().await.expect("a body") }
}

/// Whether an answer speaks to a person: a page that tells what to do, and which request it was.
fn is_page(page: &Page) -> bool {
    let (kind, id) = (page.header("content-type"), page.header("x-request-id"));
    kind.starts_with("text/html") && id.len() == 32 && page.body.contains(id)
}

#[tokio::test]
async fn every_endpoint_takes_its_methods_and_refuses_the_others_in_its_own_form() {
    let story = spoken_to().await;
    let everything = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    for (version, client) in clients() {
        for (path, allowed, for_scripts) in [
            ("/mcp/authorize", "GET", false),
            ("/mcp/consent", "POST", false),
            ("/mcp/callback/corp", "GET", false),
            ("/mcp/sign-in", "GET, POST", false),
            ("/mcp/sign-out", "GET, POST", false),
            ("/mcp/token", "POST", true),
            ("/mcp/register", "POST", true),
            ("/mcp/revoke", "POST", true),
            ("/mcp/introspect", "POST", true),
            ("/mcp/jwks", "GET, HEAD", true),
            ("/mcp/.well-known/openid-configuration", "GET, HEAD", true),
            ("/.well-known/oauth-authorization-server/mcp", "GET, HEAD", true),
            ("/authorize", "GET", false),
            ("/token", "POST", true),
            ("/register", "POST", true),
        ] {
            for method in everything {
                let what = format!("{version} {method} {path}");
                let sent = client.request(method.parse().expect("a method"), story.gateway.url(path));
                let answer = page(sent).await;
                let cors = if for_scripts { "*" } else { "" };
                assert_eq!(answer.header("access-control-allow-origin"), cors, "{what}");
                assert_eq!(answer.header("access-control-allow-credentials"), "", "{what}");
                if for_scripts && method == "OPTIONS" {
                    assert_eq!(answer.status, 204, "{what}");
                    assert_eq!(answer.header("access-control-allow-methods"), allowed, "{what}");
                } else if allowed.split(", ").any(|taken| taken == method) {
                    assert_ne!(answer.status, 405, "{what}");
                } else {
                    assert_eq!((answer.status, answer.header("allow")), (405, allowed), "{what}");
                    let spoken = if for_scripts { error(&answer) == "invalid_request" } else { is_page(&answer) };
                    assert!(spoken || method == "HEAD", "{what}: {answer:#?}");
                    assert!(method != "HEAD" || answer.body.is_empty(), "{what}");
                }
                for (name, value) in [
                    ("x-content-type-options", "nosniff"),
                    ("x-frame-options", "DENY"),
                    ("referrer-policy", "no-referrer"),
                ] {
                    assert_eq!(answer.header(name), value, "{what}: {name}");
                }
                let public = answer.status == 200 && for_scripts;
                let kept = if public { "public, max-age=300" } else { "no-store" };
                assert_eq!(answer.header("cache-control"), kept, "{what}");
            }
        }
        let metadata = client.put(story.gateway.url("/.well-known/oauth-protected-resource/mcp"));
        let metadata = page(metadata).await;
        assert_eq!((metadata.status, metadata.header("allow")), (405, "GET, HEAD, OPTIONS"), "{version}");
    }
    story.upstream.assert_silent();
}

#[tokio::test]
async fn what_is_too_large_is_told_in_the_form_of_the_endpoint() {
    let story = spoken_to().await;
    const FORM: &str = "application/x-www-form-urlencoded";
    for (version, client) in clients() {
        for (path, kind, bytes, status, for_scripts) in [
            ("/mcp/token", FORM, 1024 * 1024 + 1, 413, true),
            ("/mcp/revoke", FORM, 1024 * 1024 + 1, 413, true),
            ("/mcp/introspect", FORM, 1024 * 1024 + 1, 413, true),
            ("/mcp/register", "application/json", 256 * 1024 + 1, 413, true),
            ("/mcp/consent", FORM, 1024 * 1024 + 1, 413, false),
            ("/mcp/sign-in", FORM, 1024 * 1024 + 1, 413, false),
        ] {
            let what = format!("{version} {path}");
            let body = "a".repeat(bytes);
            let answer = page(client.post(story.gateway.url(path)).header("content-type", kind).body(body)).await;
            assert_eq!(answer.status, status, "{what}: {answer:#?}");
            let spoken = if for_scripts { error(&answer) == "invalid_request" } else { is_page(&answer) };
            assert!(spoken, "{what}: {answer:#?}");
        }
        // As much as may be is read to its end.
        let start = "grant_type=refresh_token&client_id=desk&refresh_token=";
        let body = format!("{start}{}", "r".repeat(1024 * 1024 - start.len()));
        let sent = client.post(story.gateway.url("/mcp/token")).header("content-type", FORM).body(body);
        let answer = page(sent).await;
        assert_eq!((answer.status, error(&answer).as_str()), (400, "invalid_grant"), "{version}");
    }
}

#[tokio::test]
async fn a_service_that_is_closed_tells_a_person_so_on_a_page() {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read"]).await);
    let good = policy(&provider, &upstream);
    let other = good.replace("service: files", "service: notes").replace("path: /mcp", "path: /notes");
    let setup = prepared(&(good + "limitz: []\n")).policy("notes", &other).argument("--serve-the-rest");
    let gateway = setup.start().await;
    let browser = Browser::new();
    let page = browser.go(&gateway.url("/mcp/authorize?client_id=desk")).await;
    assert!(page.status == 503 && is_page(&page), "{page:#?}");
    let answer = browser.submit(&gateway.url("/mcp/token"), &[("grant_type", "x")]).await;
    assert_eq!((answer.status, error(&answer).as_str()), (503, "temporarily_unavailable"), "{answer:#?}");
    let open = browser.submit(&gateway.url("/notes/token"), &[("grant_type", "x"), ("client_id", "desk")]).await;
    assert_eq!(open.status, 400, "the positive control: {open:#?}");
}

/// Two providers behind one service.
async fn two() -> (Story, Provider) {
    let other = Provider::start().await;
    let url = other.url();
    let story = Story::with(move |policy| {
        let more = format!(
            "  other:\n    oidc:\n      issuer: {url}\n      sign_in: {{ client_id: gateway, client_secret: {{ env: \
             CORP_SECRET }} }}\nauthorization_server:"
        );
        policy.replace("authorization_server:", &more).replace("sign_in: [corp]", "sign_in: [corp, other]")
    })
    .await;
    (story, other)
}

#[tokio::test]
async fn g03_an_answer_for_one_provider_is_nothing_at_anothers_callback() {
    let (story, other) = two().await;
    let browser = Browser::new();
    let asked = browser.go(&story.authorize(&[])).await;
    assert!(asked.body.contains("value=\"corp\"") && asked.body.contains("value=\"other\""), "both are offered");
    // Whoever runs the other provider sends the browser, with what it was given there, to the honest one's callback.
    let leaving = story.consent(&browser, &asked, "other").await;
    assert!(leaving.location().starts_with(&other.url()));
    let answered = Browser::new().go(leaving.location()).await;
    let crossed = answered.location().replace("/callback/other", "/callback/corp");
    let refused = browser.go_with(&crossed, &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!((refused.status, refused.location()), (400, ""), "{refused:#?}");
    assert!(story.provider.asked("/token").is_empty() && other.asked("/token").is_empty(), "no code goes anywhere");
    let nowhere = answered.location().replace("/callback/other", "/callback/nobody");
    assert_eq!(browser.go(&nowhere).await.status, 400);
    let back = browser.go_with(answered.location(), &[("sec-fetch-site", "cross-site")]).await;
    let code = back.parameter("code").unwrap_or_else(|| panic!("the positive control: {back:#?}"));
    let tokens = read(&story.redeem(&code).await);
    assert_eq!(claims(&tokens["access_token"])["sub"], "other:alice", "and not `corp:alice`");
    let by_corp = story.tokens().await;
    assert_eq!(claims(&by_corp["access_token"])["sub"], "corp:alice");
}

#[tokio::test]
async fn e06_what_one_service_gave_is_worth_nothing_at_another() {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
    let policy = policy(&provider, &upstream);
    let second = policy.replace("service: files", "service: notes").replace("path: /mcp", "path: /notes");
    let setup = prepared(&policy).policy("notes", &second);
    let story = Story { gateway: setup.start().await, provider, upstream };
    let other = story.gateway.url("/notes");
    let form = |form: &[(&str, &str)]| form.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    let at_other = async |endpoint: &str, form: Vec<(String, String)>| {
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Browser::new().submit(&format!("{other}/{endpoint}"), &form).await
    };

    let code = story.code().await;
    assert_eq!(error(&at_other("token", form(&redemption(&code))).await), "invalid_grant", "a code");
    let tokens = read(&story.redeem(&code).await);
    assert!(tokens["access_token"].is_string(), "it was not used up: {tokens}");
    let (access, refresh) =
        (tokens["access_token"].as_str().expect("one"), tokens["refresh_token"].as_str().expect("one"));
    let refreshing = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", "desk")];
    assert_eq!(error(&at_other("token", form(&refreshing)).await), "invalid_grant", "a refresh token");
    let ci = [("token", access), ("client_id", "ci"), ("client_secret", CI_SECRET)];
    assert_eq!(read(&at_other("introspect", form(&ci)).await)["active"], false);
    for token in [access, refresh] {
        let revoking = [("token", token), ("client_id", "desk")];
        assert_eq!(at_other("revoke", form(&revoking)).await.status, 200);
    }
    story.upstream.forget();
    let client = Client::new(&other).token(access);
    assert_eq!(client.call_tool("read", json!({})).await.status, 401, "an access token");
    story.upstream.assert_silent();

    // A consent page and a state of one are no answer at the other, with the same browser.
    let browser = Browser::new();
    let asked = browser.go(&story.authorize(&[])).await;
    let request = asked.field("request");
    let crossed = browser.submit(&format!("{other}/consent"), &[("request", &request), ("provider", "corp")]).await;
    assert_eq!((crossed.status, crossed.location()), (400, ""), "a consent");
    let leaving = story.consent(&browser, &asked, "corp").await;
    let answered = Browser::new().go(leaving.location()).await;
    let crossed = browser.go(&answered.location().replace("/mcp/callback", "/notes/callback")).await;
    assert_eq!((crossed.status, crossed.location()), (400, ""), "a state");
    assert!(browser.go(answered.location()).await.parameter("code").is_some(), "the positive control");
    assert_eq!(story.call("read", access).await, 200, "nothing was revoked either");
    assert_eq!(story.refresh(refresh).await.status, 200);
}

#[tokio::test]
async fn codes_of_providers_may_be_several_kib_long() {
    let story = Story::new().await;
    let long = "c".repeat(12 * 1024);
    story.provider.behave(|manner| manner.code = Some(long.clone()));
    let tokens = story.tokens().await;
    assert_eq!(claims(&tokens["access_token"])["sub"], "corp:alice");
    let asked = story.provider.asked("/token");
    assert!(String::from_utf8_lossy(&asked[0].body).contains(&long), "as it came");
}

#[tokio::test]
async fn h09_no_token_is_exchanged_at_the_token_endpoint() {
    let story = Story::new().await;
    let access = story.tokens().await["access_token"].as_str().expect("a token").to_owned();
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", access.as_str()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("client_id", "ci"),
        ("client_secret", CI_SECRET),
    ];
    let answer = story.token(&form).await;
    assert_eq!((answer.status, error(&answer).as_str()), (400, "unsupported_grant_type"));
    let document = Client::new(&story.issuer()).fetch("/mcp/.well-known/openid-configuration").await.json();
    let offered = document["grant_types_supported"].to_string();
    assert!(!offered.contains("token-exchange") && !offered.contains("jwt-bearer"), "nor is it offered: {offered}");
}

#[tokio::test]
async fn every_endpoint_is_limited_by_address_and_says_when_to_come_back() {
    for (path, most, for_scripts) in
        [("/mcp/register", 60, true), ("/mcp/authorize", 300, false), ("/mcp/token", 600, true)]
    {
        let story = Story::new().await;
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let ask = || {
            let method = if path == "/mcp/authorize" { reqwest::Method::GET } else { reqwest::Method::POST };
            page(client.request(method, story.gateway.url(path)))
        };
        let mut answered = 0;
        let limited = loop {
            let answer = ask().await;
            if answer.status == 429 {
                break answer;
            }
            answered += 1;
            assert!(answered < most * 3, "{path}: nothing ends it");
        };
        assert!(answered >= most, "{path}: {answered}");
        let wait: u64 = limited.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{path}: {wait}");
        let spoken = if for_scripts { error(&limited) == "temporarily_unavailable" } else { is_page(&limited) };
        assert!(spoken, "{path}: {limited:#?}");
        let mcp = Client::new(&story.issuer()).call_tool("read", json!({})).await;
        assert_eq!(mcp.status, 401, "{path}: MCP is limited for itself");
    }
}

#[tokio::test]
async fn what_the_client_wishes_of_the_sign_in_goes_on_where_the_policy_says_nothing_else() {
    let story = Story::new().await;
    let leaving = async |story: &Story, changes: &[(&str, &str)]| {
        let browser = Browser::new();
        let asked = browser.go(&story.authorize(changes)).await;
        story.consent(&browser, &asked, "corp").await
    };
    let wishes = [("prompt", "login consent"), ("login_hint", "alice@example.com"), ("ui_locales", "de")];
    let left = leaving(&story, &wishes).await;
    assert_eq!(left.parameter("prompt").as_deref(), Some("login"), "consent is asked for here");
    assert_eq!(left.parameter("login_hint").as_deref(), Some("alice@example.com"));
    for never in ["ui_locales", "resource"] {
        assert_eq!(left.parameter(never), None, "{never}");
    }
    let plain = leaving(&story, &[("prompt", "create"), ("login_hint", &"a".repeat(400))]).await;
    assert_eq!((plain.parameter("prompt"), plain.parameter("login_hint")), (None, None));
    let written =
        |policy: String| policy.replace("title: Corp }", "title: Corp, parameters: { prompt: select_account } }");
    let story = Story::with(written).await;
    let left = leaving(&story, &wishes).await;
    assert_eq!(left.location().matches("prompt=").count(), 1, "{}", left.location());
    assert_eq!(left.parameter("prompt").as_deref(), Some("select_account"));
}

#[tokio::test]
async fn e08_over_tls_every_answer_demands_tls_and_cookies_are_this_hosts_alone() {
    let authority = Authority::of("127.0.0.1");
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read"]).await);
    let listeners = "listeners: [{ address: \"127.0.0.1:1\", tls: { certificate: cert.pem, key: key.pem } }]\n";
    let setup = prepared(&policy(&provider, &upstream)).installation(&format!("store: memory\n{listeners}"));
    let setup = setup.file("cert.pem", &authority.chain).file("key.pem", &authority.key);
    let gateway = setup.start().await;
    let ca = reqwest::Certificate::from_pem(authority.ca.as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_merge([ca]).no_proxy();
    let client = client.redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let issuer = format!("https://{}/mcp", gateway.address());
    let good = "response_type=code&client_id=desk&redirect_uri=http%3A%2F%2F127.0.0.1%3A7777%2Fcallback&state=s\
                &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
    let asked = page(client.get(format!("{issuer}/authorize?{good}"))).await;
    assert_eq!(asked.status, 200, "{asked:#?}");
    let browser = asked.header("set-cookie").to_owned();
    let form = [("request", asked.field("request")), ("provider", "corp".to_owned())];
    let cookie = browser.split(';').next().unwrap_or_default();
    let leaving = page(client.post(format!("{issuer}/consent")).header("cookie", cookie).form(&form)).await;
    assert_eq!(leaving.status, 303, "{leaving:#?}");
    for cookie in [&browser, leaving.header("set-cookie")] {
        assert!(cookie.starts_with("__Host-portcullis-"), "{cookie}");
        for attribute in ["; Path=/;", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
    }
    let refused = page(client.get(format!("{issuer}/authorize"))).await;
    let token = page(client.post(format!("{issuer}/token"))).await;
    let document = page(client.get(format!("{issuer}/.well-known/openid-configuration"))).await;
    let others = ["/nothing", "/.well-known/oauth-protected-resource/mcp", "/.well-known/nothing", "/healthz"];
    let mut answers = vec![asked, leaving, refused, token, document];
    for path in others {
        answers.push(page(client.get(issuer.replace("/mcp", path))).await);
    }
    answers.push(page(client.post(&issuer)).await);
    for answer in answers {
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000", "{answer:#?}");
    }
}
