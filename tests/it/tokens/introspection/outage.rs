//! An endpoint that cannot be asked: nobody comes in, nobody's token is called bad, and it is not asked without end.

use std::time::Duration;

use serde_json::json;

use super::super::fetched;
use super::{Asking, OPAQUE};
use crate::support::{Answer, Client, Upstream, eventually};

/// Answers by path, each of them no answer.
async fn broken() -> Upstream {
    Upstream::start(move |request| {
        let good = json!({"active": true});
        match request.path.trim_start_matches('/') {
            "large" => Answer::json(&json!({"active": true, "pad": "x".repeat(70 * 1024)})),
            "larger" => Answer::json(&json!({"active": true, "pad": "x".repeat(600 * 1024)})),
            "slow" => Answer::json(&good).after(Duration::from_secs(30)),
            "page" => Answer::status(200).header("content-type", "text/html").body("<html>"),
            "list" => Answer::json(&json!([good])),
            "twice" => Answer::status(200).body(r#"{"active":false,"active":true}"#),
            "jwt" => {
                Answer::status(200).header("content-type", "application/token-introspection+jwt").body("e30.e30.x")
            }
            "empty" => Answer::status(200),
            "broken" => Answer::status(200).header("content-length", "500").body("{\"active\":true,").then_breaks(),
            "moved" => Answer::status(307).header("location", "/elsewhere"),
            status => Answer::json(&good).with_status(status.parse().unwrap_or(404)),
        }
    })
    .await
}

#[tokio::test]
async fn b04_without_an_answer_it_is_503_and_no_challenge() {
    let endpoint = broken().await;
    let paths = [
        "slow", "large", "larger", "page", "list", "twice", "jwt", "empty", "broken", "moved", "400", "401", "403",
        "404", "429", "500", "503", "201", "204", "dead",
    ];
    let asking = Asking::with(|setting| {
        let mut services = vec![("main".to_owned(), setting.provider(""), String::new())];
        for path in paths {
            let url = if path == "dead" { "http://127.0.0.1:9/".to_owned() } else { endpoint.url(&format!("/{path}")) };
            services.push((format!("s-{path}"), setting.asking(&url, ""), String::new()));
        }
        services
    })
    .await;
    // All at once: the slow one takes its five seconds.
    let calls = paths.map(|path| {
        let client = Client::new(&asking.scene.url(&format!("s-{path}"))).token(OPAQUE);
        tokio::spawn(async move { client.call_tool("echo", json!({})).await })
    });
    for (path, call) in paths.iter().zip(calls) {
        let reply = call.await.expect("a call");
        assert_eq!(reply.status, 503, "/{path}: {reply:?}");
        assert_eq!(
            reply.header("www-authenticate"),
            "",
            "/{path}: a challenge would make clients throw the token away"
        );
        assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|wait| wait >= 1), "/{path}: {reply:?}");
        assert_eq!(asking.scene.reason(&reply).await, "provider-unavailable", "/{path}");
        assert!(
            !String::from_utf8_lossy(&reply.body).contains("introspect"),
            "the cause is for the log alone: {reply:?}"
        );
    }
    asking.scene.upstream.assert_silent();
    let asked = endpoint.received();
    assert!(asked.iter().all(|question| question.path != "/elsewhere"), "a redirect takes the token nowhere");
    let times = |path: &str| asked.iter().filter(|question| question.path == format!("/{path}")).count();
    for path in ["500", "503", "429", "broken"] {
        assert_eq!(times(path), 2, "/{path} might be over: it is asked a second time, and no third");
    }
    for path in ["400", "401", "403", "404", "page", "list", "twice"] {
        assert_eq!(times(path), 1, "/{path} would not say anything else");
    }
    asking.knows(OPAQUE, json!({}));
    asking.scene.accepts("an endpoint that answers", OPAQUE).await;
    assert!(!asking.scene.gateway.printed().contains(OPAQUE), "no token is printed");
}

#[tokio::test]
async fn b04_one_failure_is_asked_again_within_the_time() {
    let asking = Asking::start("").await;
    asking.knows(OPAQUE, json!({}));
    asking.endpoint.fails_with(Some(Answer::status(502)), Some(1));
    asking.scene.accepts("the second answer", OPAQUE).await;
    assert_eq!(asking.endpoint.asked(), [OPAQUE, OPAQUE]);
}

#[tokio::test]
async fn b04_an_endpoint_that_fails_is_left_alone_and_tried_again() {
    let asking = Asking::start("").await;
    asking.knows("known", json!({}));
    asking.scene.accepts("before the outage", "known").await;
    asking.endpoint.forget();
    asking.endpoint.fails_with(Some(Answer::status(503)), None);
    for n in 0..5 {
        let reply = asking.scene.call("main", &format!("{OPAQUE}-{n}")).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (503, ""), "{reply:?}");
    }
    assert_eq!(asking.endpoint.asked().len(), 10, "five failures, each with its second try");
    for n in 5..25 {
        let reply = asking.scene.call("main", &format!("{OPAQUE}-{n}")).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (503, ""), "{reply:?}");
        assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|wait| (1..=5).contains(&wait)), "{reply:?}");
    }
    let asked = asking.endpoint.asked().len();
    assert!(asked <= 12, "after five failures nobody asks for a while, but for one who tries: {asked}");
    asking.scene.upstream.assert_silent();
    asking.scene.accepts("what is known needs no question", "known").await;

    asking.endpoint.fails_with(None, None);
    asking.knows(OPAQUE, json!({}));
    asking.scene.until("main", OPAQUE, 200).await;
    asking.scene.upstream.forget();
    asking.knows("another", json!({}));
    asking.scene.accepts("healed, for everybody", "another").await;
}

#[tokio::test]
async fn b04_an_endpoint_that_fails_holds_up_no_other_provider() {
    let asking = Asking::with(|setting| {
        let oidc = format!("{{ oidc: {{ issuer: \"{}\" }} }}", setting.issuer);
        let mut services = vec![("main".to_owned(), setting.provider(""), String::new())];
        services.push(("other".to_owned(), setting.provider(""), String::new()));
        services.push(("people".to_owned(), oidc, String::new()));
        services
    })
    .await;
    fetched(&asking.scene.issuer, 1).await;
    asking.endpoint.fails_with(Some(Answer::status(500)), None);
    for n in 0..8 {
        assert_eq!(asking.scene.call("main", &format!("{OPAQUE}-{n}")).await.status, 503);
    }
    asking.scene.upstream.assert_silent();
    let jwt = asking.scene.issuer.token(&asking.scene.url("people"), json!({}));
    asking.scene.accepts_at("people", "a provider that needs no endpoint", &jwt).await;
    asking.endpoint.fails_with(None, None);
    asking.endpoint.knows(OPAQUE, asking.answer("other", json!({})));
    asking.scene.accepts_at("other", "a provider of its own, which is not left alone", OPAQUE).await;
    let told = |record: &serde_json::Value| record["fields"]["event"] == "introspection-unavailable";
    eventually("the log to say so", || asking.scene.gateway.log().into_iter().find(told)).await;
}
