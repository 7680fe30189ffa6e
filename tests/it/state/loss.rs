//! A disk that refuses: what needs the store is refused for as long, and nothing else notices.

use std::process::Command;
use std::time::{Duration, Instant};

use super::prepared;
use crate::signin::{self, Story};
use crate::support::{Browser, Gateway, Provider, Upstream};

/// Lets no file of the gateway grow beyond this, as a full disk would.
fn limit(gateway: &Gateway, bytes: &str) {
    let pid = gateway.pid().to_string();
    let done =
        Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status().expect("prlimit runs");
    assert!(done.success(), "the limit is set");
}

#[tokio::test]
async fn a_full_disk_refuses_sign_in_and_nothing_else_and_heals() {
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read", "write"]).await);
    let gateway = prepared(&signin::policy(&provider, &upstream)).outlives_full_disks().start().await;
    let story = Story { gateway, provider, upstream };
    let tokens = story.tokens().await;
    let (access, refresh) =
        (tokens["access_token"].as_str().expect("a token"), tokens["refresh_token"].as_str().expect("a token"));
    limit(&story.gateway, "4096");
    let began = Instant::now();
    let refused = story.refresh(refresh).await;
    assert_eq!(refused.status, 503, "{refused:#?}");
    assert!(!refused.header("retry-after").is_empty(), "a client is told to come again");
    let browser = Browser::new();
    let page = browser.go(&story.authorize(&[])).await;
    let leaving = story.consent(&browser, &page, "corp").await;
    assert_eq!(leaving.parameter("error").as_deref(), Some("temporarily_unavailable"), "{leaving:#?}");
    assert!(began.elapsed() < Duration::from_secs(9), "both in time: {:?}", began.elapsed());
    assert_eq!(story.call("read", access).await, 200, "who has a token does not notice");
    story.gateway.wait_for_log(|record| record["fields"]["event"] == "store-lost").await;

    limit(&story.gateway, "unlimited");
    let back = Instant::now();
    while story.refresh(refresh).await.status != 200 {
        assert!(
            back.elapsed() < Duration::from_secs(15),
            "it heals by itself within five seconds, and the machine is busy"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    story.gateway.wait_for_log(|record| record["fields"]["event"] == "store-back").await;
    assert_eq!(story.tokens().await["token_type"], "Bearer");
}
