//! The authorization-server metadata document (RFC 8414 section 2), prepared once per policy.
//!
//! Clients that know OpenID Connect Discovery only read it too, so it has the members that they insist on (section 3 there).
//! It offers no ID tokens: `openid` is none of its scopes, and there is no userinfo endpoint.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::jws::Algorithm;

/// What a client may prove itself with at the token endpoint (RFC 6749 section 2.3, OpenID Connect Core section 9).
const METHODS: [&str; 4] = ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"];
/// What an assertion of a client may be signed with.
pub const ASSERTION_ALGORITHMS: [Algorithm; 10] = [
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
];

/// What the document says. Everything comes from configuration, never from a request.
#[derive(Debug, Clone, Copy)]
pub struct ServerMetadata<'a> {
    /// The issuer; every endpoint is below it.
    pub issuer: &'a str,
    /// The scopes of the service that a client is told of; none leaves the member out.
    pub scopes: &'a [String],
    /// What signs tokens.
    pub algorithm: Algorithm,
    /// Whether clients may register by themselves (RFC 7591).
    pub registration: bool,
    /// Whether a client may be named by the URL of its metadata document.
    pub client_documents: bool,
    /// Whether some client gets tokens without a person.
    pub client_credentials: bool,
}

impl ServerMetadata<'_> {
    /// The document as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let at = |endpoint: &str| Value::from(format!("{}/{endpoint}", self.issuer));
        let algorithms: Vec<&str> = ASSERTION_ALGORITHMS.iter().map(|algorithm| algorithm.as_str()).collect();
        let mut grants = vec!["authorization_code", "refresh_token"];
        grants.extend(self.client_credentials.then_some("client_credentials"));
        let mut document = Map::new();
        let mut put = |name: &str, value: Value| drop(document.insert(name.to_owned(), value));
        put("issuer", self.issuer.into());
        put("authorization_endpoint", at("authorize"));
        put("token_endpoint", at("token"));
        put("revocation_endpoint", at("revoke"));
        put("introspection_endpoint", at("introspect"));
        put("jwks_uri", at("jwks"));
        if self.registration {
            put("registration_endpoint", at("register"));
        }
        if !self.scopes.is_empty() {
            let scopes: Vec<&str> = self.scopes.iter().map(String::as_str).chain(["offline_access"]).collect();
            put("scopes_supported", json!(scopes));
        }
        put("response_types_supported", json!(["code"]));
        put("response_modes_supported", json!(["query"]));
        put("grant_types_supported", json!(grants));
        for endpoint in ["token", "revocation", "introspection"] {
            // Who asks about a token must say who asks (RFC 7662 section 2.1).
            let methods = if endpoint == "introspection" { METHODS.get(1..) } else { METHODS.get(..) };
            put(&format!("{endpoint}_endpoint_auth_methods_supported"), json!(methods));
            put(&format!("{endpoint}_endpoint_auth_signing_alg_values_supported"), json!(algorithms));
        }
        put("code_challenge_methods_supported", json!(["S256"]));
        put("authorization_response_iss_parameter_supported", true.into());
        put("client_id_metadata_document_supported", self.client_documents.into());
        put("subject_types_supported", json!(["public"]));
        put("id_token_signing_alg_values_supported", json!([self.algorithm.as_str()]));
        Bytes::from(Value::Object(document).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(metadata: &ServerMetadata<'_>) -> Value {
        serde_json::from_slice(&metadata.to_bytes()).unwrap()
    }

    #[test]
    fn every_endpoint_is_below_the_issuer_and_nothing_is_offered_that_is_off() {
        let scopes = ["read".to_owned()];
        let all = ServerMetadata {
            issuer: "https://m.example/a",
            scopes: &scopes,
            algorithm: Algorithm::Es256,
            registration: true,
            client_documents: true,
            client_credentials: true,
        };
        let document = read(&all);
        assert_eq!(document["issuer"], "https://m.example/a");
        let endpoints = ["authorization", "token", "revocation", "introspection", "registration"];
        for name in endpoints.map(|name| format!("{name}_endpoint")).iter().map(String::as_str).chain(["jwks_uri"]) {
            let url = document[name].as_str().unwrap();
            assert!(url.strip_prefix("https://m.example/a/").is_some_and(|rest| !rest.contains('/')), "{name}: {url}");
        }
        assert_eq!(document["scopes_supported"], json!(["read", "offline_access"]));
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(document["response_types_supported"], json!(["code"]));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
        assert_eq!(document["client_id_metadata_document_supported"], true);
        assert_eq!(document["grant_types_supported"][2], "client_credentials");
        assert!(!document.to_string().contains("openid") && document.get("userinfo_endpoint").is_none());
        assert!(!document.to_string().contains("HS256"));

        let bare = ServerMetadata {
            scopes: &[],
            registration: false,
            client_documents: false,
            client_credentials: false,
            algorithm: Algorithm::EdDsa,
            ..all
        };
        let document = read(&bare);
        assert!(document.get("registration_endpoint").is_none() && document.get("scopes_supported").is_none());
        assert_eq!(document["client_id_metadata_document_supported"], false);
        assert_eq!(document["grant_types_supported"], json!(["authorization_code", "refresh_token"]));
        assert_eq!(document["id_token_signing_alg_values_supported"], json!(["EdDSA"]));
        let methods = &document["introspection_endpoint_auth_methods_supported"];
        assert!(!methods.as_array().unwrap().contains(&json!("none")));
    }
}
