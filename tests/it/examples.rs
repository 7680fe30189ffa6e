//! Every example and every policy of the repository does what its README says: checked, started, called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::client::Reply;
use crate::support::gateway::{BINARY, Setup};
use crate::support::issuer::{merged, now};
use crate::support::{Client, Gateway, Issuer, Key, Redis, TokenEndpoint, Upstream};

const SECRET: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a0-Zq3vX8kT1mW6yR4uP7sN2cL5hJ9gF0dB";
/// What the examples name, and what stands there in a test.
const LOGIN: &str = "https://login.example.com";
const PUBLIC: &str = "https://mcp.example.com";
/// Services whose tokens come from nowhere but a script: `check` says so, and nothing else.
const WITHOUT_SIGN_IN: [&str; 1] = ["examples/hmac/policy.yaml"];
/// A single file cannot say that it will do to keep flow state in memory.
const FORGETFUL: &str = "policies/template-authorization-server.yaml";
/// Its people are there while the demo runs.
const DEMO: &str = "policies/demo.yaml";
/// What the examples refer to.
const VARIABLES: [&str; 8] = [
    "NOTES_SECRET",
    "NOTES_SECRET_BEFORE",
    "TICKETS_API_KEY",
    "PORTCULLIS_DEMO_SECRET",
    "PORTCULLIS_KEY",
    "CORP_CLIENT_SECRET",
    "BUILD_SECRET",
    "GATEWAY_CLIENT_SECRET",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `check` is given for each example and each policy.
fn all() -> Vec<PathBuf> {
    let entries = |folder: &str| {
        let entries =
            std::fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut paths: Vec<PathBuf> = entries.collect();
        paths.sort();
        paths
    };
    let examples = entries("examples").into_iter().map(|folder| {
        let alone = folder.join("policy.yaml");
        if alone.exists() { alone } else { folder }
    });
    examples
        .chain(entries("policies"))
        .map(|path| path.strip_prefix(root()).expect("below the root").to_owned())
        .collect()
}

/// The YAML files of an example with their paths in it.
fn files(example: &str) -> Vec<(String, String)> {
    let folder = root().join(example);
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    if folder.is_file() {
        let policy = ("policies/policy.yaml".to_owned(), read(&folder));
        let nobody = ("policies/demo.users".to_owned(), "users: []\n".to_owned());
        return if example == DEMO { vec![policy, nobody] } else { vec![policy] };
    }
    let policies =
        std::fs::read_dir(folder.join("policies")).expect("policies").map(|entry| entry.expect("one").path());
    let name = |path: &Path| format!("policies/{}", path.file_name().expect("a name").to_string_lossy());
    let mut found: Vec<_> = policies.map(|path| (name(&path), read(&path))).collect();
    let beside = ["portcullis.yaml", "users.yaml"].into_iter().filter(|name| folder.join(name).exists());
    found.extend(beside.map(|name| (name.to_owned(), read(&folder.join(name)))));
    found
}

/// An example on its stage: the upstreams and the provider that it names are played here.
struct Stage {
    gateway: Gateway,
    upstream: Upstream,
    issuer: Issuer,
}

impl Stage {
    async fn of(example: &str, adapt: impl Fn(String) -> String) -> Self {
        let (upstream, issuer) = (Upstream::mcp(&["search_notes", "delete_note"]).await, Issuer::start().await);
        let mut setup: Setup = Gateway::new();
        for (path, text) in files(example) {
            let mut text = adapt(text).replace(LOGIN, &issuer.url());
            for port in 9000..9004 {
                text = text.replace(&format!("http://127.0.0.1:{port}/mcp"), &upstream.url("/mcp"));
            }
            setup = setup.file(&path, &text);
        }
        for variable in VARIABLES {
            setup = setup.secret(variable, SECRET);
        }
        Self { gateway: setup.start().await, upstream, issuer }
    }

    fn client(&self, path: &str, host: Option<&str>, token: &str) -> Client {
        let url = self.gateway.url(path);
        let client = Client::new(&url).token(token);
        match host {
            Some(host) => client.host(host),
            None => client,
        }
    }

    /// A call that passes and reaches the server.
    async fn passes(&self, client: &Client, tool: &str, arguments: Value) {
        self.upstream.forget();
        let reply = client.call_tool(tool, arguments).await;
        assert_eq!(reply.status, 200, "{tool}: {reply:?}");
        assert_eq!(self.upstream.received().len(), 1, "{tool} reaches the server");
    }

    /// A call that is refused and does not reach the server.
    async fn refused(&self, client: &Client, tool: &str, arguments: Value, status: u16) -> Reply {
        self.upstream.forget();
        let reply = client.call_tool(tool, arguments).await;
        assert_eq!(reply.status, status, "{tool}: {reply:?}");
        self.upstream.assert_silent();
        reply
    }
}

/// A token signed with the shared secret of the examples.
fn signed(issuer: &str, audience: &str, changes: Value) -> String {
    let claims = json!({"iss": issuer, "aud": audience, "sub": "alice", "iat": now(), "exp": now() + 600});
    let claims = merged(claims, changes).to_string();
    Key::Hs256(SECRET.as_bytes()).sign(br#"{"alg":"HS256","typ":"JWT"}"#, claims.as_bytes())
}

#[test]
fn every_example_and_policy_passes_a_strict_check() {
    for path in all() {
        let path = path.to_str().expect("UTF-8");
        let mut command = Command::new(BINARY);
        command.args(["check", "--deny-warnings", "--format", "json", path]).current_dir(root());
        for variable in VARIABLES {
            command.env(variable, SECRET);
        }
        let output = command.output().expect("the binary runs");
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let codes: Vec<&str> = said.as_array().expect("a list").iter().filter_map(|one| one["code"].as_str()).collect();
        let wanted: &[&str] = match path {
            FORGETFUL => &["restart-signs-out"],
            DEMO => &["secret-unreadable", "restart-signs-out"],
            _ if WITHOUT_SIGN_IN.contains(&path) => &["no-authorization-server"],
            _ => &[],
        };
        assert_eq!(codes, wanted, "{path}: {said:#}");
    }
}

#[test]
fn every_example_and_policy_is_started_by_a_test() {
    let source = std::fs::read_to_string(root().join("tests/it/examples.rs")).expect("this file");
    let started: BTreeSet<&str> =
        source.split("Stage::of(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    for path in all() {
        assert!(started.contains(path.to_str().expect("UTF-8")), "{} is not started", path.display());
    }
    for folder in all().iter().filter(|path| path.starts_with("examples")) {
        let folder = if folder.is_dir() { folder } else { folder.parent().expect("a folder") };
        assert!(root().join(folder).join("README.md").exists(), "{} has a README", folder.display());
    }
}

#[tokio::test]
async fn shared_secrets_open_everything_but_what_is_denied_and_both_count_during_rotation() {
    let stage = Stage::of("examples/hmac/policy.yaml", |text| text).await;
    let resource = stage.gateway.url("/notes/mcp");
    let client = stage.client("/notes/mcp", None, &signed("https://issuer.example.com", &resource, json!({})));
    stage.passes(&client, "search_notes", json!({})).await;
    stage.refused(&client, "delete_note", json!({}), 403).await;
    let forged = Key::Hs256(b"another secret that is long enough for the hash").sign(br#"{"alg":"HS256"}"#, b"{}");
    stage.refused(&stage.client("/notes/mcp", None, &forged), "search_notes", json!({}), 401).await;
}

#[tokio::test]
async fn company_sign_in_opens_by_audience_client_group_and_scope() {
    let stage = Stage::of("examples/oidc", |text| text).await;
    let token = |changes: Value| {
        let claims = json!({"client_id": "claude", "groups": ["staff"], "scope": "wiki:write"});
        stage.issuer.token("api://wiki-mcp", merged(claims, changes))
    };
    let host = Some("mcp.example.com");
    let staff = stage.client("/wiki/mcp", host, &token(json!({})));
    stage.passes(&staff, "get_page", json!({})).await;
    stage.passes(&staff, "update_page", json!({})).await;
    stage.refused(&staff, "delete_page", json!({}), 403).await;
    let contractor = stage.client("/wiki/mcp", host, &token(json!({"groups": ["contractors"]})));
    stage.passes(&contractor, "get_page", json!({})).await;
    stage.refused(&contractor, "update_page", json!({}), 403).await;
    for changes in [json!({"client_id": "other"}), json!({"groups": ["guests"]}), json!({"aud": "api://other"})] {
        let stranger = stage.client("/wiki/mcp", host, &token(changes));
        stage.refused(&stranger, "get_page", json!({}), 401).await;
    }
    let anonymous = Client::new(&stage.gateway.url("/wiki/mcp")).host("mcp.example.com");
    let challenge = stage.refused(&anonymous, "get_page", json!({}), 401).await;
    let metadata = format!("resource_metadata=\"{PUBLIC}/.well-known/oauth-protected-resource/wiki/mcp\"");
    assert!(challenge.header("www-authenticate").contains(&metadata), "{challenge:?}");
}

/// What a client without a token learns of a service that issues its own: the gateway is the authorization server.
async fn names_itself(stage: &Stage, path: &str, host: Option<&str>, (resource, title): (&str, &str)) {
    let anonymous = Client::new(&stage.gateway.url(path));
    let anonymous = match host {
        Some(host) => anonymous.host(host),
        None => anonymous,
    };
    let refused = stage.refused(&anonymous, "search_notes", json!({}), 401).await;
    assert!(refused.header("www-authenticate").contains("resource_metadata="), "{refused:?}");
    let document = format!("/.well-known/oauth-protected-resource{path}");
    let metadata = anonymous.fetch(&document).await;
    assert_eq!(metadata.status, 200, "{metadata:?}");
    assert_eq!(metadata.json()["resource"], resource);
    assert_eq!(metadata.json()["resource_name"], title);
    assert_eq!(metadata.json()["authorization_servers"], json!([resource]));
    // The gateway asks for its own tokens, and one of the provider's opens nothing.
    let foreign = stage.issuer.token(resource, json!({}));
    stage.refused(&stage.client(path, host, &foreign), "search_notes", json!({}), 401).await;
}

#[tokio::test]
async fn a_service_that_issues_its_own_tokens_says_so_and_takes_no_others() {
    let stage = Stage::of("examples/authorization-server", |text| text).await;
    names_itself(&stage, "/wiki/mcp", Some("mcp.example.com"), (&format!("{PUBLIC}/wiki/mcp"), "wiki")).await;
    let stage = Stage::of("examples/local-sign-in", |text| text).await;
    names_itself(&stage, "/notes/mcp", Some("mcp.example.com"), (&format!("{PUBLIC}/notes/mcp"), "Notes")).await;
    let stage = Stage::of("policies/template-authorization-server.yaml", |text| text).await;
    names_itself(&stage, "/example/mcp", None, (&stage.gateway.url("/example/mcp"), "Example records")).await;
    let stage = Stage::of("policies/demo.yaml", |text| text).await;
    names_itself(&stage, "/mcp", None, (&stage.gateway.url("/mcp"), "Demo Notes")).await;
}

#[tokio::test]
async fn replicas_over_one_redis_are_one_issuer() {
    let redis = Redis::start(&[]);
    let own = format!("redis://127.0.0.1:{}", redis.port());
    let mut published = Vec::new();
    for _ in 0..2 {
        let stage = Stage::of("examples/redis", |text| text.replace("redis://127.0.0.1:6379", &own)).await;
        names_itself(&stage, "/wiki/mcp", Some("mcp.example.com"), (&format!("{PUBLIC}/wiki/mcp"), "wiki")).await;
        let client = Client::new(&stage.gateway.url("/wiki/mcp")).host("mcp.example.com");
        published.push(client.fetch("/wiki/mcp/jwks").await.json());
    }
    assert!(published[0]["keys"][0]["kid"].is_string(), "{published:?}");
    assert_eq!(published[0], published[1], "they sign with the same keys");
    assert!(redis.ask("KEYS *").contains("{wiki:keys}:rows"));
}

#[tokio::test]
async fn several_services_are_audiences_of_their_own_and_machines_have_keys() {
    let key = "a-key-of-the-nightly-build-that-is-random-enough";
    let digest: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    let stage = Stage::of("examples/several-services", |text| {
        text.replace("4f6a1f5d6c0e3a8f1f9b2c7d5e8a0b3c6d9e2f5a8b1c4d7e0f3a6b9c2d5e8f1a", &digest)
    })
    .await;
    let host = Some("mcp.example.com");
    let token =
        |service: &str, scope: &str| stage.issuer.token(&format!("{PUBLIC}/{service}/mcp"), json!({"scope": scope}));
    let wiki = token("wiki", "wiki:read");
    stage.passes(&stage.client("/wiki/mcp", host, &wiki), "get_page", json!({})).await;
    stage.refused(&stage.client("/wiki/mcp", host, &wiki), "delete_page", json!({}), 403).await;
    stage.refused(&stage.client("/tickets/mcp", host, &wiki), "get_ticket", json!({}), 401).await;

    let tickets = stage.client("/tickets/mcp", host, &token("tickets", "tickets:write"));
    stage.passes(&tickets, "open_ticket", json!({})).await;
    let seen = stage.upstream.received();
    assert_eq!(seen[0].header("x-api-key"), [SECRET], "the server gets a key of its own");
    assert!(seen[0].header("authorization").is_empty(), "and never the caller's token");

    let build = stage.client("/build/mcp", Some("ci.example.com"), key);
    stage.passes(&build, "start_build", json!({})).await;
    stage.refused(&build, "drop_build", json!({}), 403).await;
    stage.refused(&stage.client("/build/mcp", host, key), "start_build", json!({}), 404).await;
    let other = stage.client("/build/mcp", Some("ci.example.com"), "another-key-that-nobody-has-written-down");
    stage.refused(&other, "start_build", json!({}), 401).await;
}

#[tokio::test]
async fn each_server_gets_what_its_policy_says_and_never_the_clients_token() {
    let endpoint = TokenEndpoint::start().await;
    endpoint.changes(json!({"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}));
    let url = endpoint.url();
    let stage =
        Stage::of("examples/upstream-credentials", |text| text.replace("https://login.example.com/oauth2/token", &url))
            .await;
    let mut shown = Vec::new();
    for (service, tool) in [("tickets", "get_ticket"), ("calendar", "list_events"), ("wiki", "get_page")] {
        let token = stage.issuer.token(&format!("{PUBLIC}/{service}/mcp"), json!({}));
        let client = stage.client(&format!("/{service}/mcp"), Some("mcp.example.com"), &token);
        stage.passes(&client, tool, json!({})).await;
        let credential = stage.upstream.received()[0].header("authorization").join(", ");
        assert!(!credential.contains(&token), "{service}: {credential}");
        stage.refused(&client, "delete_everything", json!({}), 403).await;
        shown.push(credential);
    }
    assert_eq!(shown[..2], ["Bearer given-1", "Bearer given-2"]);
    assert!(shown[2].starts_with("Bearer eyJ"), "{}", shown[2]);
}

#[tokio::test]
async fn arguments_decide() {
    let stage = Stage::of("examples/argument-rules/policy.yaml", |text| text).await;
    let resource = stage.gateway.url("/github/mcp");
    let claims = json!({"scope": "github:write", "department": "finance", "currency": "EUR"});
    let client = stage.client("/github/mcp", None, &stage.issuer.token(&resource, claims));
    let issue = json!({"repo": "acme/site", "title": "It does not load", "labels": ["bug"]});
    stage.passes(&client, "create_issue", issue.clone()).await;
    for changes in [
        json!({"repo": "other/site"}),
        json!({"title": "?"}),
        json!({"labels": ["bug", "urgent"]}),
        json!({"labels": null, "assignee": "me"}),
    ] {
        stage.refused(&client, "create_issue", merged(issue.clone(), changes), 403).await;
    }
    let payment = |amount: u32, currency: &str| json!({"payment": {"amount": amount, "currency": currency}});
    stage.passes(&client, "transfer_credits", payment(1000, "EUR")).await;
    stage.refused(&client, "transfer_credits", payment(1001, "EUR"), 403).await;
    stage.refused(&client, "transfer_credits", payment(1, "USD"), 403).await;
    stage.passes(&client, "get_file", json!({"path": "src/lib.rs"})).await;
    stage.refused(&client, "get_file", json!({"path": "secrets/key"}), 403).await;
}

#[tokio::test]
async fn more_scopes_are_asked_for_only_when_they_help() {
    let stage = Stage::of("examples/step-up/policy.yaml", |text| text).await;
    let resource = stage.gateway.url("/calendar/mcp");
    let with =
        |scope: &str| stage.client("/calendar/mcp", None, &stage.issuer.token(&resource, json!({"scope": scope})));
    let reader = with("calendar:read");
    stage.passes(&reader, "list_events", json!({})).await;
    let step_up = stage.refused(&reader, "create_event", json!({}), 403).await;
    let challenge = step_up.header("www-authenticate");
    assert!(challenge.contains("error=\"insufficient_scope\"") && challenge.contains("calendar:write"), "{challenge}");
    let final_denial = stage.refused(&reader, "erase_calendar", json!({}), 403).await;
    assert_eq!(final_denial.header("www-authenticate"), "", "no scope would help");
    stage.passes(&with("calendar:admin"), "create_event", json!({})).await;
}

#[tokio::test]
async fn the_demo_policy_allows_denies_and_steps_up() {
    let stage = Stage::of("policies/demo.yaml", |text| text).await;
    let resource = stage.gateway.url("/mcp");
    let claims = json!({"scope": "notes:read"});
    let client = stage.client("/mcp", None, &signed("https://demo.portcullis.example", &resource, claims));
    stage.passes(&client, "search_notes", json!({"query": "gate"})).await;
    stage.refused(&client, "delete_note", json!({"id": "1"}), 403).await;
    let step_up = stage.refused(&client, "create_note", json!({"title": "New"}), 403).await;
    assert!(step_up.header("www-authenticate").contains("notes:write"), "{step_up:?}");
}

#[tokio::test]
async fn the_template_works_as_it_is() {
    let stage = Stage::of("policies/template-resource-server.yaml", |text| text).await;
    let resource = stage.gateway.url("/example/mcp");
    let client = stage.client("/example/mcp", None, &stage.issuer.token(&resource, json!({"scope": "example:read"})));
    stage.passes(&client, "get_record", json!({})).await;
    stage.refused(&client, "delete_record", json!({}), 403).await;
    let step_up = stage.refused(&client, "update_record", json!({}), 403).await;
    assert!(step_up.header("www-authenticate").contains("example:write"), "{step_up:?}");
}

#[test]
fn every_policy_of_the_page_about_sign_in_is_without_a_finding() {
    let page = std::fs::read_to_string(root().join("docs/sign-in.md")).expect("the page");
    let policies: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(policies.len() >= 9, "one for each provider");
    for policy in policies {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("policies")).expect("a folder");
        std::fs::write(folder.path().join("portcullis.yaml"), "store: memory\n").expect("a file");
        std::fs::write(folder.path().join("policies/notes.yaml"), policy).expect("a file");
        let mut command = Command::new(BINARY);
        command.args(["check", "--deny-warnings"]).arg(folder.path());
        for secret in ["OKTA", "ENTRA", "GOOGLE", "KEYCLOAK", "AUTH0", "GITHUB", "CORP", "CI"] {
            command.env(format!("{secret}_SECRET"), SECRET);
        }
        let output = command.output().expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{policy}\n{}", String::from_utf8_lossy(&said));
    }
}
