//! Nothing that was answered is lost, however the process ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::{crashed, kept, prepared};
use crate::signin::{CALLBACK, Story, error, json as read};
use crate::support::{Browser, PATIENCE, Page, Provider, Upstream, within};

/// What the gateway has answered.
#[derive(Default)]
struct Answered {
    clients: Vec<String>,
    /// The last refresh token of each grant.
    refresh: HashMap<String, String>,
    /// Codes that were redeemed and not refreshed since.
    redeemed: Vec<(String, String)>,
    revoked: Vec<(String, String)>,
    consents: Vec<Browser>,
}

/// A consent that is remembered, so that there is one to lose.
fn remembering(policy: String) -> String {
    policy.replace("  redirects: {", "  remember_consent: 30d\n  redirects: {")
}

async fn register(story: &Story, name: &str) -> Option<String> {
    let body = json!({ "client_name": name, "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    let request = reqwest::Client::new().post(format!("{}/register", story.issuer()));
    let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.ok()?;
    let answer: serde_json::Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    answer["client_id"].as_str().map(str::to_owned)
}

fn token(page: &Page, name: &str) -> Option<String> {
    read(page)[name].as_str().map(str::to_owned)
}

/// Turns of [`turn`] until the gateway is gone. A turn whose step gets no answer ends there, some by a panic.
async fn load(story: Arc<Story>, answered: Arc<Mutex<Answered>>, gone: Arc<AtomicBool>, worker: usize) {
    for number in 0.. {
        let one = turn(Arc::clone(&story), Arc::clone(&answered), worker, number);
        let _ = tokio::spawn(one).await;
        if gone.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Registers, signs in, redeems, and then refreshes, revokes, or neither.
async fn turn(story: Arc<Story>, answered: Arc<Mutex<Answered>>, worker: usize, number: usize) {
    let told = |what: &dyn Fn(&mut Answered)| what(&mut answered.lock().expect("the answers"));
    if let Some(client) = register(&story, &format!("client {worker} {number}")).await {
        told(&|answered| answered.clients.push(client.clone()));
    }
    let browser = Browser::new();
    let page = story.sign_in(&browser, &[]).await;
    let Some(code) = page.parameter("code") else { return };
    let redeemed = story.redeem(&code).await;
    let (Some(access), Some(mut refresh)) = (token(&redeemed, "access_token"), token(&redeemed, "refresh_token"))
    else {
        return;
    };
    match number % 3 {
        0 => {
            let key = refresh.clone();
            told(&|answered| drop(answered.refresh.insert(key.clone(), refresh.clone())));
            for _ in 0..4 {
                let Some(next) = token(&story.refresh(&refresh).await, "refresh_token") else { return };
                refresh = next;
                told(&|answered| drop(answered.refresh.insert(key.clone(), refresh.clone())));
            }
        }
        1 => told(&|answered| answered.redeemed.push((code.clone(), refresh.clone()))),
        _ => {
            let form = [("token", refresh.as_str()), ("client_id", "desk")];
            let done = Browser::new().submit_with(&format!("{}/revoke", story.issuer()), &form, &[]).await;
            if done.status == 200 {
                told(&|answered| answered.revoked.push((access.clone(), refresh.clone())));
            }
        }
    }
    let browser = Mutex::new(Some(browser));
    told(&|answered| answered.consents.extend(browser.lock().expect("the browser").take()));
}

#[tokio::test(flavor = "multi_thread")]
async fn h03_h05_h10_a_kill_at_any_moment_loses_nothing_that_was_answered() {
    // A first browser sets up what all of them need.
    drop(Browser::new());
    let mut story = kept(remembering).await;
    for enough in [4, 9, 17, 26] {
        let answered = Arc::new(Mutex::new(Answered::default()));
        let shared = Arc::new(story);
        let (mut workers, gone) = (JoinSet::new(), Arc::<AtomicBool>::default());
        for worker in 0..6 {
            workers.spawn(load(Arc::clone(&shared), Arc::clone(&answered), Arc::clone(&gone), worker));
        }
        // Each answer waits for a disk, which may be slow.
        within(PATIENCE * 6, "enough answers", || {
            let answered = answered.lock().expect("the answers");
            let each = [answered.refresh.len(), answered.redeemed.len(), answered.revoked.len()];
            (answered.consents.len() as u64 >= enough && each.iter().all(|count| *count > 0)).then_some(())
        })
        .await;
        // Wherever each of them is just now.
        tokio::time::sleep(Duration::from_millis(7 * enough)).await;
        shared.gateway.signal("KILL");
        gone.store(true, Ordering::SeqCst);
        while workers.join_next().await.is_some() {}
        let ended = Arc::try_unwrap(shared).unwrap_or_else(|_| panic!("the workers have ended"));
        story = crashed(ended).await;

        let answered = std::mem::take(&mut *answered.lock().expect("the answers"));
        // First, since what was refreshed without an answer is good for the same client for half a minute.
        for refresh in answered.refresh.values() {
            let page = story.refresh(refresh).await;
            assert_eq!(page.status, 200, "a refresh token that was answered works: {page:#?}");
            let access = token(&page, "access_token").expect("a token");
            assert_eq!(story.call("read", &access).await, 200, "and what it gives is signed by a key that is known");
        }
        for client in &answered.clients {
            let page = Browser::new().go(&story.authorize(&[("client_id", client)])).await;
            assert_eq!(page.status, 200, "a registered client is asked for: {page:#?}");
        }
        for browser in &answered.consents {
            assert_eq!(browser.go(&story.authorize(&[])).await.status, 303, "the consent is remembered");
        }
        story.upstream.forget();
        for (access, refresh) in &answered.revoked {
            assert_eq!(story.call("read", access).await, 401, "what was revoked stays revoked");
            assert_eq!(error(&story.refresh(refresh).await), "invalid_grant");
        }
        for (code, refresh) in &answered.redeemed {
            assert_eq!(error(&story.redeem(code).await), "invalid_grant", "a redeemed code stays redeemed");
            assert_eq!(error(&story.refresh(refresh).await), "invalid_grant", "and the replay ends its grant");
        }
        story.upstream.assert_silent();
    }
}

#[tokio::test]
async fn a_store_that_another_gateway_has_or_that_is_damaged_is_told_with_what_to_do() {
    let story = kept(|policy| policy).await;
    let state = story.gateway.directory().join("state/portcullis.redb");
    let (provider, upstream) = (Provider::start().await, Upstream::mcp(&["read"]).await);
    let installation = |file: &str| format!("store: {{ file: '{file}' }}\nencryption_keys: [{{ env: SEAL }}]\n");
    let setup = prepared(&crate::signin::policy(&provider, &upstream));
    let said = setup.installation(&installation(&state.display().to_string())).refused().await;
    assert!(said.contains("error[store-unusable]") && said.contains("is in use by another process"), "{said}");
    assert!(said.contains("portcullis.yaml:1:8") && said.contains("stop the other gateway"), "{said}");
    assert_eq!(story.tokens().await["token_type"], "Bearer", "the one that runs is not harmed");

    let setup = prepared(&crate::signin::policy(&provider, &upstream)).file("state/portcullis.redb", "a text");
    let said = setup.refused().await;
    assert!(said.contains("error[store-unusable]") && said.contains("is damaged or none of this program"), "{said}");
}
