//! Who made a task is known after a restart.

use serde_json::json;

use super::{INSTALLATION, SEAL};
use crate::mcp::tasks::{answers, ask, make};
use crate::own::{self, allow, client, policy};
use crate::support::{Era, Upstream};

#[tokio::test]
async fn m08_a_task_is_its_makers_after_a_crash_where_state_is_kept_in_a_file() {
    for installation in [INSTALLATION, "store: memory\nencryption_keys: [{ env: SEAL }]\n"] {
        let upstream = Upstream::start(answers).await;
        let setup = own::setup().installation(installation).file("state/.keep", "").secret("SEAL", SEAL);
        let gateway = setup.policy("story", &policy("story", &upstream, &allow("slow"))).start().await;
        for era in [Era::Legacy, Era::Modern] {
            make(&client(&gateway, "story", json!({})), era, json!({"id": format!("{era:?}")})).await;
        }
        let gateway = gateway.crash().await;
        let kept = if installation == INSTALLATION { 200 } else { 400 };
        for era in [Era::Legacy, Era::Modern] {
            let task = json!({"taskId": format!("{era:?}")});
            upstream.forget();
            let foreign = ask(&client(&gateway, "story", json!({"sub": "bob"})), era, "tasks/get", task.clone()).await;
            assert_eq!(foreign.status, 400, "{era:?}");
            upstream.assert_silent();
            let own = ask(&client(&gateway, "story", json!({})), era, "tasks/get", task).await;
            assert_eq!(own.status, kept, "{era:?} with {installation}");
        }
    }
}
