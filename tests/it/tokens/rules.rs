//! What rules may conclude from a verified token: scopes, subjects, clients, addresses.

use serde_json::{Value, json};

use super::{Scene, Scenery};
use crate::support::client::Reply;
use crate::support::{Client, Issuer, Key};

/// Services with rules of their own, all for `api://rules`.
fn service(scenery: Scenery, name: &str, provider: &str, authentication: &str, rules: &str) -> Scenery {
    let authentication = format!(", audiences: [\"api://rules\"], shared_audience: true{authentication}");
    scenery.service(name, provider, &authentication, &format!("rules:\n{rules}"))
}

impl Scene {
    fn rules_token(&self, changes: Value) -> String {
        self.issuer.token("api://rules", changes)
    }

    /// 403 for a verified token, and nothing upstream.
    async fn forbids(&self, service: &str, case: &str, token: &str) -> Reply {
        let reply = self.call(service, token).await;
        assert_eq!(reply.status, 403, "{case}: verified, and not permitted by {service}: {reply:?}");
        self.upstream.assert_silent();
        reply
    }
}

const SCOPES: &str = "  - { allow: { tools: [echo] }, scopes: [files.read] }\n  - { allow: { tools: [drop] }, scopes: [files.write] }\n\
                      scopes: { files.read: {}, files.write: { implies: [files.read] } }\n";

#[tokio::test]
async fn a16_scopes_are_whole_names_split_at_single_spaces() {
    let scene = Scene::with(&[("rs256", Key::Rs256)], |scenery| {
        let (both, scp) = (scenery.oidc(""), scenery.oidc(", scope_claim: scp"));
        let scenery = service(scenery, "both", &both, "", SCOPES);
        service(scenery, "scp", &scp, "", SCOPES)
    })
    .await;
    for scopes in [
        json!({"scope": null}),
        json!({"scope": ""}),
        json!({"scope": "Files.Read"}),
        json!({"scope": "FILES.READ"}),
        json!({"scope": "files.rea"}),
        json!({"scope": "files"}),
        json!({"scope": "files."}),
        json!({"scope": "files.*"}),
        json!({"scope": "*"}),
        json!({"scope": "files.readonly"}),
        json!({"scope": "my.files.read"}),
        json!({"scope": "files.read,files.write"}),
        json!({"scope": "files.read;x"}),
        json!({"scp": ["files.reader"], "scope": null}),
        json!({"scp": "files", "scope": ".read"}),
        json!({"scopes": "files.read"}),
        json!({"permissions": ["files.read"]}),
    ] {
        let reply = scene.forbids("both", &scopes.to_string(), &scene.rules_token(scopes.clone())).await;
        let challenge = reply.header("www-authenticate");
        assert!(challenge.contains("error=\"insufficient_scope\""), "{scopes}: {challenge}");
        assert!(challenge.contains("scope=\"files.read\""), "the scope to ask for: {challenge}");
    }
    for scopes in ["files.read\tfiles.write", "files.read\nx", "files.read\u{a0}x", "files.read\u{0}", "\"files.read\""]
    {
        let token = scene.rules_token(json!({"scope": scopes}));
        scene.refuses_at("both", &format!("scope {scopes:?} is no list of names"), &token, &["claim-invalid"]).await;
    }
    let token = scene.rules_token(json!({"scp": ["x files.read"]}));
    scene.refuses_at("both", "a name with a space in it", &token, &["claim-invalid"]).await;
    for scopes in [
        json!({"scope": "files.read"}),
        json!({"scope": "other files.read"}),
        json!({"scope": "files.read other"}),
        json!({"scope": ["files.read"]}),
        json!({"scp": ["other", "files.read"]}),
        json!({"scp": "other files.read"}),
        json!({"scope": "files.write"}),
    ] {
        scene.accepts_at("both", &scopes.to_string(), &scene.rules_token(scopes.clone())).await;
    }
    scene.forbids("scp", "scope where only scp counts", &scene.rules_token(json!({"scope": "files.read"}))).await;
    scene.accepts_at("scp", "scp", &scene.rules_token(json!({"scp": "files.read"}))).await;

    let write = async |scopes: &str| {
        let token = scene.rules_token(json!({"scope": scopes}));
        Client::new(&scene.url("both")).token(&token).call_tool("drop", json!({})).await.status
    };
    assert_eq!(write("files.read").await, 403, "reading does not include writing");
    scene.upstream.assert_silent();
    assert_eq!(write("files.write").await, 200, "writing is writing");
}

#[tokio::test]
async fn a17_a_subject_is_no_client_and_a_client_no_subject() {
    let other = Issuer::publishing(&[("k", Key::Es256)]).await;
    let scene = Scene::with(&[("rs256", Key::Rs256)], |scenery| {
        let provider = scenery.oidc("");
        let (one, two) = (scenery.issuer.clone(), other.url());
        let user = "  - { allow: { tools: [echo] }, when: 'subject == \"robot\"' }\n";
        let client = "  - { allow: { tools: [echo] }, when: 'client == \"robot\"' }\n";
        let scenery = service(scenery, "user", &provider, "", user);
        let scenery = service(scenery, "client", &provider, "", client);
        let scenery = service(scenery, "listed", &provider, ", clients: [robot]", "  - allow: { tools: [echo] }\n");
        scenery.policy(
            "pair",
            &format!(
                r#"
service: pair
route: {{ path: /pair/mcp }}
upstream: {{ url: "UPSTREAM" }}
providers: {{ one: {{ oidc: {{ issuer: "{one}" }} }}, two: {{ oidc: {{ issuer: "{two}" }} }} }}
authentication: {{ providers: [one, two], audiences: ["api://rules"], shared_audience: true }}
rules: [{{ allow: {{ tools: [echo] }}, when: 'issuer == "{one}" && subject == "alice"' }}]
"#
            ),
        )
    })
    .await;
    let machine = scene.rules_token(json!({"sub": "9f1c", "client_id": "robot"}));
    scene.forbids("user", "a client called as the user is", &machine).await;
    scene.accepts_at("client", "the client", &machine).await;
    scene.accepts_at("listed", "the listed client", &machine).await;
    let person = scene.rules_token(json!({"sub": "robot", "client_id": "desk"}));
    scene.accepts_at("user", "the user", &person).await;
    scene.forbids("client", "a user called as the client is (RFC 9700 section 4.15)", &person).await;
    scene.refuses_at("listed", "a user called as the listed client is", &person, &["client-refused"]).await;
    let nobody = scene.rules_token(json!({"sub": "robot", "client_id": null}));
    scene.refuses_at("listed", "no client at all", &nobody, &["client-refused"]).await;
    scene.forbids("client", "no client at all", &nobody).await;
    let anonymous = scene.rules_token(json!({"sub": null, "client_id": "robot"}));
    scene.forbids("user", "no subject at all", &anonymous).await;

    let foreign = other.token("api://rules", json!({"sub": "alice"}));
    scene.forbids("pair", "the same name at another issuer is another person", &foreign).await;
    scene.accepts_at("pair", "alice of the issuer meant", &scene.rules_token(json!({"sub": "alice"}))).await;
}

#[tokio::test]
async fn a17_a_rule_for_people_is_for_no_machine_and_the_other_way_round() {
    let scene = Scene::with(&[("rs256", Key::Rs256)], |scenery| {
        let provider = scenery.oidc("");
        let rule = |who: &str| format!("  - {{ allow: {{ tools: [echo] }}, identity: {who} }}\n");
        let scenery = service(scenery, "people", &provider, "", &rule("person"));
        let scenery = service(scenery, "machines", &provider, "", &rule("machine"));
        let denying = "  - allow: { tools: [echo] }\n  - { deny: { tools: [echo] }, identity: machine }\n";
        service(scenery, "denying", &provider, "", denying)
    })
    .await;
    let person = scene.rules_token(json!({"sub": "alice", "client_id": "desk"}));
    for machine in [
        json!({"sub": "robot", "client_id": "robot"}),
        json!({"sub": "robot", "client_id": null, "azp": "robot"}),
        json!({"sub": "robot@clients", "client_id": null, "azp": "robot", "gty": "client-credentials"}),
        json!({"sub": null, "client_id": "robot"}),
    ] {
        let token = scene.rules_token(machine.clone());
        scene.forbids("people", &format!("a machine: {machine}"), &token).await;
        scene.forbids("denying", &format!("a machine: {machine}"), &token).await;
        scene.accepts_at("machines", &machine.to_string(), &token).await;
        let client = Client::new(&scene.url("people")).token(&token);
        assert!(client.list("tools").await.names("tools").is_empty(), "nor is it told of the tool");
        scene.upstream.forget();
    }
    scene.forbids("machines", "a person", &person).await;
    scene.accepts_at("people", "a person", &person).await;
    scene.accepts_at("denying", "a person", &person).await;
}

#[tokio::test]
async fn a18_an_email_counts_when_verified_and_of_one_domain() {
    let careful = r#"  - { allow: { tools: [echo] }, when: 'claims.email_verified == true && claims.email.matches("^[^@]+@corp\\.test$")' }
"#;
    // What people write who do not think of addresses that nobody has verified.
    let careless = "  - { allow: { tools: [echo] }, when: 'claims.email.endsWith(\"@corp.test\")' }\n";
    let denying = "  - { allow: { tools: [echo] } }\n  - { deny: { tools: [echo] }, when: 'claims.email.endsWith(\"@evil.test\")' }\n";
    let scene = Scene::with(&[("rs256", Key::Rs256)], |scenery| {
        let provider = scenery.oidc("");
        let required = ", required_claims: { email: admin@corp.test }";
        let scenery = service(scenery, "mail", &provider, "", careful);
        let scenery = service(scenery, "careless", &provider, "", careless);
        let scenery = service(scenery, "denying", &provider, "", denying);
        service(scenery, "required", &provider, required, "  - allow: { tools: [echo] }\n")
    })
    .await;
    let mail = |email: Value, verified: Value| scene.rules_token(json!({"email": email, "email_verified": verified}));
    for email in [
        "admin@evil.test@corp.test",
        "admin@corp.test@evil.test",
        "@corp.test",
        "admin@corp.test.evil.test",
        "admin@CORP.test",
        "admin@notcorp.test",
        "admin@sub.corp.test",
        "admin@corp.test\n",
        "admin@corpxtest",
        "corp.test",
        "",
    ] {
        let case = format!("{email:?} (CVE-2026-40574: two `@` belong to no domain)");
        scene.forbids("mail", &case, &mail(json!(email), json!(true))).await;
    }
    for verified in [json!(false), json!("true"), json!(1), json!([true]), json!({}), json!(null)] {
        let (case, token) = (format!("email_verified {verified}"), mail(json!("admin@corp.test"), verified));
        scene.forbids("mail", &case, &token).await;
        scene.forbids("careless", &case, &token).await;
        scene.forbids("denying", &format!("{case}: a deny rule that cannot be decided fits"), &token).await;
        scene.refuses_at("required", &case, &token, &["claim-missing"]).await;
    }
    let two = mail(json!("admin@evil.test@corp.test"), json!(true));
    scene.forbids("careless", "two `@`, verified (CVE-2026-40574)", &two).await;
    scene.forbids("denying", "two `@`, verified (CVE-2026-40574)", &two).await;
    scene.forbids("denying", "the domain that is denied", &mail(json!("a@evil.test"), json!(true))).await;
    for service in ["careless", "denying", "required"] {
        scene.accepts_at(service, "a verified address", &mail(json!("admin@corp.test"), json!(true))).await;
    }
    scene.forbids("mail", "no email_verified", &scene.rules_token(json!({"email": "admin@corp.test"}))).await;
    scene.forbids("mail", "a list of addresses", &mail(json!(["admin@corp.test"]), json!(true))).await;
    scene.accepts_at("mail", "a verified address", &mail(json!("admin@corp.test"), json!(true))).await;
}
