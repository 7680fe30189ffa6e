//! Pages and flows in a real Chromium, by keyboard alone, with the local provider.

mod flow;
mod pages;

use crate::support::Gateway;
use crate::support::authority::Authority;
use crate::support::chromium::{Shown, Tab};
use crate::support::gateway::{BINARY, Setup};
use crate::support::process::Server;

const PASSWORD: &str = "correct horse battery";
/// What a person chooses to say yes.
const YES: &str = "Allow and continue with Notes";

const POLICY: &str = "
service: notes
route: { path: /mcp }
upstream: { url: UPSTREAM }
providers:
  people: { local: { users: ../users.yaml, title: Notes } }
authorization_server:
  sign_in: [people]
  redirects: { loopback: true, exact: ['https://app.example.com/cb'] }
  clients:
    - { id: desk, name: Desk, redirects: ['https://app.example.com/cb'] }
scopes:
  notes:read: { describe: Search and read notes, default: true }
  notes:write: { describe: Write notes }
rules:
  - allow: { tools: [echo] }
    scopes: [notes:read]
";

/// A gateway in front of a real MCP server, and somebody whom it knows.
struct Scene {
    gateway: Gateway,
    server: Server,
    /// `http` or `https`.
    scheme: &'static str,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|policy| policy).await
    }

    /// The same by a policy that is changed first.
    async fn with(change: impl Fn(String) -> String) -> Self {
        let server = Server::dual_era("json");
        let setup = prepared(&server, change).installation("store: memory\n");
        Self { gateway: setup.start().await, server, scheme: "http" }
    }

    /// The same over TLS.
    async fn over_tls(authority: &Authority) -> Self {
        let server = Server::dual_era("json");
        let listeners = "listeners: [{ address: \"127.0.0.1:1\", tls: { certificate: cert.pem, key: key.pem } }]\n";
        let setup = prepared(&server, |policy| policy).installation(&format!("store: memory\n{listeners}"));
        let setup = setup.file("cert.pem", &authority.chain).file("key.pem", &authority.key);
        let setup = setup.file("ca.pem", &authority.ca);
        Self { gateway: setup.start().await, server, scheme: "https" }
    }

    fn issuer(&self) -> String {
        format!("{}://{}/mcp", self.scheme, self.gateway.address())
    }

    /// Where a client sends the browser.
    fn authorize(&self, client: &str, redirect: &str, state: &str) -> String {
        let query = [
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", redirect),
            ("state", state),
            ("scope", "notes:read notes:write"),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
        ];
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        format!("{}/authorize?{query}", self.issuer())
    }
}

fn prepared(server: &Server, change: impl Fn(String) -> String) -> Setup {
    let policy = change(POLICY.replace("UPSTREAM", server.url()));
    let setup = Gateway::new().policy("notes", &policy);
    let mut command = std::process::Command::new(BINARY);
    command.args(["user", "add"]).arg(setup.directory().join("users.yaml")).args(["alice", "--password-stdin"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().expect("the command runs");
    let input = child.stdin.take().expect("its input");
    std::io::Write::write_all(&mut { input }, PASSWORD.as_bytes()).expect("a password");
    assert!(child.wait().expect("its end").success());
    setup
}

/// Name and password into the page that asks for them; the focus is on the name already.
async fn sign_in(tab: &Tab<'_>, password: &str) -> Shown {
    tab.fill("Name", "alice").await;
    tab.fill("Password", password).await;
    tab.enter().await
}
