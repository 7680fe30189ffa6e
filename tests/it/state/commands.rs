//! `portcullis store`, with and without a gateway that runs.

use std::process::Output;

use super::{INSTALLATION, SEAL, command, kept, said};
use crate::signin::{Story, error};
use crate::support::Gateway;

const NEW_SEAL: &str = "new-seal-0123456789-0123456789-0123456789";

fn store(gateway: &Gateway, arguments: &[&str]) -> Output {
    command(gateway.directory(), &[&["store"], arguments, &["."]].concat(), "")
}

async fn works(story: &Story, refresh: &str) -> String {
    let page = story.refresh(refresh).await;
    assert_eq!(page.status, 200, "{page:#?}");
    crate::signin::json(&page)["refresh_token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn a_running_gateway_seals_everything_anew_and_the_old_key_can_go() {
    let story = kept(|policy| policy).await;
    let tokens = story.tokens().await;
    let (access, refresh) = (tokens["access_token"].clone(), tokens["refresh_token"].clone());
    let refresh = refresh.as_str().expect("a token").to_owned();
    let both = INSTALLATION.replace("[{ env: SEAL }]", "[{ env: NEW_SEAL }, { env: SEAL }]");
    let Story { gateway, provider, upstream } = story;
    let gateway = gateway.crash_with(|setup| setup.installation(&both).secret("NEW_SEAL", NEW_SEAL)).await;
    let story = Story { gateway, provider, upstream };

    let checked = store(&story.gateway, &["check"]);
    let text = said(&checked);
    assert!(text.contains("sealed with an older key") && text.contains("keys "), "{text}");
    let rotated = store(&story.gateway, &["rotate-key"]);
    let text = said(&rotated);
    assert!(rotated.status.success() && text.contains("rows sealed with the first key"), "{text}");
    assert!(text.contains("take the older keys out"), "it says what remains: {text}");
    let refresh = works(&story, &refresh).await;
    let checked = said(&store(&story.gateway, &["check"]));
    assert!(!checked.contains("older key") && checked.contains("good"), "{checked}");

    let new = INSTALLATION.replace("{ env: SEAL }", "{ env: NEW_SEAL }");
    let Story { gateway, provider, upstream } = story;
    let gateway = gateway.crash_with(|setup| setup.installation(&new)).await;
    let story = Story { gateway, provider, upstream };
    works(&story, &refresh).await;
    let access = access.as_str().expect("a token");
    assert_eq!(story.call("read", access).await, 200, "the keys that sign are the same");
}

#[tokio::test]
async fn an_export_holds_no_secret_and_fills_another_store_whole_or_not_at_all() {
    let story = kept(|policy| policy).await;
    let code = story.code().await;
    let tokens = crate::signin::json(&story.redeem(&code).await);
    let (access, refresh) =
        (tokens["access_token"].as_str().expect("one"), tokens["refresh_token"].as_str().expect("one"));
    let exported = store(&story.gateway, &["export", "--to", "copy.jsonl"]);
    assert!(exported.status.success(), "{}", said(&exported));
    let path = story.gateway.directory().join("copy.jsonl");
    let copy = std::fs::read_to_string(&path).expect("the copy");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("the copy").permissions());
    assert_eq!(mode & 0o777, 0o600);
    for secret in ["alice", "\"desk\"", &code, access, refresh, SEAL, "files:read"] {
        assert!(!copy.contains(secret), "`{secret}` stands in the export");
    }
    let again = store(&story.gateway, &["export", "--to", "copy.jsonl"]);
    assert!(!again.status.success(), "an export overwrites nothing");
    let running = store(&story.gateway, &["import", "--from", "copy.jsonl"]);
    assert!(!running.status.success() && said(&running).contains("is in use by another process"), "{}", said(&running));

    // Another machine with the same key, at the same address.
    let state = story.gateway.directory().join("state/portcullis.redb");
    let Story { gateway, provider, upstream } = story;
    let lines: Vec<&str> = copy.lines().collect();
    let broken = [
        ("cut off", lines[..lines.len() - 1].join("\n")),
        ("a row less", [&lines[..2], &lines[3..]].concat().join("\n")),
        ("a row twice", [&lines[..2], &lines[1..]].concat().join("\n")),
        ("another version", copy.replace("\"portcullis_store\":1", "\"portcullis_store\":2")),
        (
            "another time",
            lines.iter().map(|line| line.replace("\"expires\":1", "\"expires\":9")).collect::<Vec<_>>().join("\n"),
        ),
        ("no text", "nonsense".to_owned()),
    ];
    let gateway = gateway
        .crash_with(|setup| {
            let holds = command(setup.directory(), &["store", "import", "--from", "copy.jsonl", "."], "");
            assert!(!holds.status.success() && said(&holds).contains("move it away first"), "{}", said(&holds));
            std::fs::remove_file(&state).expect("the store");
            for (what, text) in broken {
                std::fs::write(setup.directory().join("broken.jsonl"), text).expect("written");
                let refused = command(setup.directory(), &["store", "import", "--from", "broken.jsonl", "."], "");
                assert!(!refused.status.success(), "{what}: {}", said(&refused));
                assert!(!state.exists(), "{what}: nothing of it was imported");
            }
            let imported = command(setup.directory(), &["store", "import", "--from", "copy.jsonl", "."], "");
            assert!(imported.status.success(), "{}", said(&imported));
            setup
        })
        .await;
    let story = Story { gateway, provider, upstream };
    assert_eq!(story.call("read", access).await, 200);
    works(&story, refresh).await;
    assert_eq!(error(&story.redeem(&code).await), "invalid_grant", "what was redeemed stays redeemed");
}
