//! The `Authorization` header, and the shape of what stands in it.

use serde_json::{Value, json};

use super::{MALFORMED, Scene};
use crate::support::issuer::merged;
use crate::support::keys::b64;
use crate::support::{Client, Key, raw};

/// `tools/call` of the legacy era: the only request whose headers a test chooses freely.
const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":1}}}"#;

#[tokio::test]
async fn a08_only_the_compact_form_is_a_token() {
    let scene = Scene::start().await;
    let good = scene.token(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three segments") };
    let flattened = json!({"protected": header, "payload": claims, "signature": signature}).to_string();
    let general = json!({"payload": claims, "signatures": [{"protected": header, "signature": signature}]}).to_string();
    let jwe = format!("{}.AAAA.AAAA.{claims}.AAAA", b64(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#));
    let nested = format!("{}.{}.{}", b64(r#"{"alg":"dir","enc":"A128GCM","cty":"JWT"}"#), b64(&good), signature);
    // The last character of an RS256 signature carries two bits: another with the same two bits is another spelling.
    let other_end = |text: &str| {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = alphabet.find(text.chars().last().expect("a character")).expect("base64url");
        format!("{}{}", &text[..text.len() - 1], &alphabet[last + 1..last + 2])
    };
    for (case, token) in [
        ("the flattened JSON serialization", flattened),
        ("the general JSON serialization", general),
        ("a JWE of five parts", jwe),
        ("a JWE of three parts", nested),
        ("two segments", format!("{header}.{claims}")),
        ("four segments", format!("{good}.{signature}")),
        ("a leading dot", format!(".{good}")),
        ("a trailing dot", format!("{good}.")),
        ("two dots in a row", format!("{header}..{claims}.{signature}")),
        ("an empty header", format!(".{claims}.{signature}")),
        ("empty claims", format!("{header}..{signature}")),
        ("padding", format!("{good}==")),
        ("padding inside", format!("{header}=.{claims}.{signature}")),
        ("bits behind the last byte", format!("{header}.{claims}.{}", other_end(signature))),
        ("the other alphabet", format!("{header}.{claims}.+/{}", &signature[2..])),
        ("a percent escape", format!("{header}%2e{claims}%2e{signature}")),
        ("a blank inside", format!("{header}. {claims}.{signature}")),
        ("a quoted token", format!("\"{good}\"")),
        ("the scheme twice", format!("Bearer {good}")),
        ("a header that is an array", format!("{}.{claims}.{signature}", b64("[]"))),
        ("a header that is no JSON", format!("{}.{claims}.{signature}", b64("{"))),
        ("a header with a byte order mark", format!("{}.{claims}.{signature}", b64("\u{feff}{\"alg\":\"RS256\"}"))),
        ("claims that are no JSON", Key::Rs256.sign(br#"{"alg":"RS256","kid":"rs256"}"#, b"claims")),
        ("claims that are an array", Key::Rs256.sign(br#"{"alg":"RS256","kid":"rs256"}"#, b"[]")),
        ("claims that are not UTF-8", Key::Rs256.sign(br#"{"alg":"RS256","kid":"rs256"}"#, b"{\"a\":\"\xff\"}")),
    ] {
        scene.refuses(&format!("{case} (RFC 7515 section 3.1)"), &token, MALFORMED).await;
    }
    scene.accepts("the compact form", &good).await;
}

#[tokio::test]
async fn a09_a_flood_of_dots_is_one_cheap_refusal() {
    let scene = Scene::start().await;
    for (case, token) in [
        ("dots only (CVE-2025-27144, CVE-2025-30204)", ".".repeat(15_000)),
        ("short segments", "a.".repeat(7_500)),
        ("a good token followed by dots", format!("{}{}", scene.token(json!({})), ".".repeat(10_000))),
    ] {
        scene.refuses(case, &token, MALFORMED).await;
    }
    let dots = ".".repeat(1_000_000);
    let length = BODY.len();
    let request = format!(
        "POST /main/mcp HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {dots}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{BODY}",
        scene.gateway.address()
    );
    let answer = raw(scene.gateway.address(), request.as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "a million dots are refused: {answer}");
    scene.upstream.assert_silent();
    scene.accepts("the gateway is as well as before", &scene.token(json!({}))).await;
}

#[tokio::test]
async fn a10_members_that_occur_twice_are_refused_at_every_depth() {
    let scene = Scene::start().await;
    let claims = scene.claims();
    let with = |more: &str| format!("{{{more},{}", claims.to_string().strip_prefix('{').expect("an object"));
    let header = r#"{"alg":"RS256","kid":"rs256","typ":"at+jwt"}"#;
    for twice in [
        r#"{"alg":"RS256","alg":"RS256","kid":"rs256"}"#,
        r#"{"alg":"none","alg":"RS256","kid":"rs256"}"#,
        r#"{"alg":"RS256","kid":"rs256","kid":"rs256"}"#,
        r#"{"alg":"RS256","kid":"rs256","typ":"JWT","typ":"at+jwt"}"#,
        r#"{"alg":"RS256","\u0061lg":"none","kid":"rs256"}"#,
        r#"{"alg":"RS256","kid":"rs256","x":{"a":1,"a":2}}"#,
    ] {
        scene.refuses(&format!("header {twice}"), &scene.raw(twice, &claims.to_string()), MALFORMED).await;
    }
    for twice in [
        r#""exp":1"#,
        r#""exp":99999999999"#,
        r#""aud":"https://elsewhere.example.com""#,
        r#""iss":"https://elsewhere.example.com""#,
        r#""sub":"admin""#,
        r#""scope":"admin""#,
        r#""\u0073ub":"admin""#,
        r#""x":{"a":1,"a":2}"#,
        r#""x":[{"a":1,"b":{"c":1,"c":1}}]"#,
    ] {
        scene.refuses(&format!("claims with {twice}"), &scene.raw(header, &with(twice)), MALFORMED).await;
    }
    scene.accepts("a member that occurs once", &scene.raw(header, &with(r#""x":{"a":1,"b":2}"#))).await;
}

#[tokio::test]
async fn a22_a_token_above_16_kib_is_refused_unread() {
    let scene = Scene::start().await;
    let padded = |pad: usize| scene.token(json!({"pad": "x".repeat(pad)}));
    let room = (16 * 1024 - padded(0).len()) * 3 / 4;
    let at_most = (0..4).map(|less| padded(room - less)).find(|token| token.len() <= 16 * 1024).expect("one that fits");
    assert!(at_most.len() > 16 * 1024 - 4, "the longest token of its kind: {}", at_most.len());
    scene.accepts("as long as a token may be", &at_most).await;
    let above = (0..8).map(|more| padded(room + more)).find(|token| token.len() > 16 * 1024).expect("one too long");
    assert!(above.len() < 16 * 1024 + 8, "and the shortest that is too long: {}", above.len());
    scene.refuses("one byte longer (CVE-2024-28122)", &above, &["token-malformed"]).await;
}

/// Calls `main` with these headers and nothing else that could authenticate.
async fn with_headers(scene: &Scene, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let usual = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let headers: Vec<_> = usual.iter().chain(headers).copied().collect();
    let reply = Client::new(&scene.url("main")).send("POST", path, &headers, BODY).await;
    (reply.status, reply.json())
}

#[tokio::test]
async fn a24_one_header_with_one_bearer_token_authenticates_and_nothing_else_does() {
    let scene = Scene::start().await;
    let good = scene.token(json!({}));
    let bearer = format!("Bearer {good}");
    let list = format!("Bearer {good}, Bearer {good}");
    let mixed = format!("Basic dXNlcjpwdw==, Bearer {good}");
    let query = format!("/main/mcp?access_token={good}");
    let escaped = format!("/main/mcp?%61ccess_token={good}");
    let cookie = format!("access_token={good}");
    for (case, path, headers) in [
        ("the same header twice", "/main/mcp", vec![("authorization", &*bearer), ("authorization", &bearer)]),
        ("Basic beside Bearer", "/main/mcp", vec![("authorization", "Basic dXNlcjpwdw=="), ("authorization", &bearer)]),
        ("an empty header beside it", "/main/mcp", vec![("authorization", ""), ("authorization", &bearer)]),
        ("a list", "/main/mcp", vec![("authorization", &list)]),
        ("a list of two schemes", "/main/mcp", vec![("authorization", &mixed)]),
        ("the query", &query, vec![]),
        ("the query, escaped", &escaped, vec![]),
        ("the query beside the header", &query, vec![("authorization", &bearer)]),
        ("a cookie", "/main/mcp", vec![("cookie", &cookie)]),
        ("x-api-key", "/main/mcp", vec![("x-api-key", &good)]),
        ("x-access-token", "/main/mcp", vec![("x-access-token", &good)]),
        ("proxy-authorization", "/main/mcp", vec![("proxy-authorization", &bearer)]),
        ("no scheme", "/main/mcp", vec![("authorization", &good)]),
        ("another scheme", "/main/mcp", vec![("authorization", "Token abc")]),
        ("nothing", "/main/mcp", vec![]),
    ] {
        let (status, body) = with_headers(&scene, path, &headers).await;
        assert!(matches!(status, 400 | 401), "{case}: {status} {body}");
        scene.upstream.assert_silent();
    }
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "] {
        let (status, body) = with_headers(&scene, "/main/mcp", &[("authorization", &format!("{scheme} {good}"))]).await;
        assert_eq!(status, 200, "the scheme is case-insensitive (RFC 9110 section 11.1): {scheme}: {body}");
        assert_eq!(scene.upstream.received().len(), 1, "{scheme}");
        scene.upstream.forget();
    }
}

#[tokio::test]
async fn a25_a_kid_is_opaque_bounded_and_harmless_in_the_log() {
    const FORGED: &str =
        "\n{\"schema\":\"portcullis.audit/1\",\"decision\":\"permit\",\"subject\":\"forged\"}\n\u{1b}[31m";
    let longest: &'static str = "k".repeat(256).leak();
    let odd = "../../etc/passwd\u{0}'; DROP TABLE keys; --";
    let twice = [(FORGED, Key::Es384), (FORGED, Key::Es384)];
    let keys = [("rs256", Key::Rs256), (longest, Key::Es256), (odd, Key::EdDsa), twice[0], twice[1]];
    let scene = Scene::with(&keys, |scenery| {
        let provider = scenery.oidc("");
        scenery.service("main", &provider, "", "")
    })
    .await;
    let sign = |key: Key, header: Value| scene.issuer.token_with(key, header, &scene.url("main"), json!({}));
    scene.accepts("256 bytes", &sign(Key::Es256, json!({"kid": longest}))).await;
    scene.accepts("text that would be a path or a statement elsewhere", &sign(Key::EdDsa, json!({"kid": odd}))).await;
    for (case, kid) in [
        ("257 bytes", json!("k".repeat(257))),
        ("a number", json!(1)),
        ("a list", json!(["rs256"])),
        ("an object", json!({"kid": "rs256"})),
        ("true", json!(true)),
    ] {
        scene.refuses(case, &sign(Key::Rs256, json!({"kid": kid})), &["token-malformed"]).await;
    }
    for kid in [FORGED, "", "RS256", "rs256 ", "rs256\u{0}", "/dev/null", "$(reboot)", "%00", "rs25\u{ff16}"] {
        scene.refuses(&format!("kid {kid:?}"), &sign(Key::Rs256, json!({"kid": kid})), &["key-unknown"]).await;
    }
    let left_out = scene.gateway.wait_for_log(|record| record.to_string().contains("key-left-out")).await;
    assert!(left_out.to_string().contains("forged"), "the log names the key that it leaves out: {left_out}");
    let printed = scene.gateway.printed();
    assert!(!printed.contains('\u{1b}'), "no control character reaches the log");
    let forged = |line: &str| line.starts_with("{\"schema\"") && line.contains("\"subject\":\"forged\"");
    assert!(!printed.lines().any(forged), "no line of the log is somebody else's");
}

#[tokio::test]
async fn a26_a_bound_token_is_no_bearer_token() {
    let scene = Scene::start().await;
    for bound in [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
        json!({"jwk": Key::Es256.jwk("mine")}),
        json!({"kid": "mine"}),
        json!({}),
        json!([]),
        json!("jkt"),
        json!(false),
    ] {
        let case = format!("cnf {bound} (RFC 9449 section 7, RFC 8705 section 3)");
        scene.refuses(&case, &scene.token(json!({"cnf": bound})), &["binding-unproven"]).await;
    }
    let null = super::with_raw(&scene.claims(), "cnf", "null");
    let header = r#"{"alg":"RS256","kid":"rs256","typ":"at+jwt"}"#;
    scene.refuses("cnf null", &scene.raw(header, &null), &["binding-unproven"]).await;

    let bound = scene.token(json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}));
    let proof = Key::Es256.sign(
        merged(json!({"alg": "ES256", "typ": "dpop+jwt"}), json!({"jwk": Key::Es256.jwk("mine")}))
            .to_string()
            .as_bytes(),
        br#"{"htm":"POST","htu":"http://127.0.0.1/main/mcp","iat":1,"jti":"1"}"#,
    );
    for headers in [
        vec![("authorization", format!("DPoP {bound}")), ("dpop", proof.clone())],
        vec![("authorization", format!("Bearer {bound}")), ("dpop", proof.clone())],
        vec![("authorization", format!("DPoP {bound}")), ("dpop", proof.clone()), ("dpop", proof.clone())],
        vec![("authorization", format!("Bearer {proof}"))],
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, body) = with_headers(&scene, "/main/mcp", &headers).await;
        assert_eq!(status, 401, "a proof that nobody checks opens nothing: {headers:?} {body}");
        scene.upstream.assert_silent();
    }
    scene.accepts("the same token, unbound", &scene.token(json!({}))).await;
}
