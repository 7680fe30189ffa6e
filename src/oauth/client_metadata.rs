//! What a client says about itself: in a registration (RFC 7591 section 2) or in a document at its `client_id`
//! (OAuth Client ID Metadata Document).

use serde_json::{Map, Value};
use url::Url;

use super::address::{AddressClass, classify};
use super::strict;

/// Redirect URIs of one client at most.
const MOST_REDIRECTS: usize = 50;
/// Characters of a name that people are shown.
const LONGEST_NAME: usize = 100;
/// Bytes of a `client_id` that is a URL.
const LONGEST_URL: usize = 2048;

/// How a client proves who it is (RFC 7591 section 2, `token_endpoint_auth_method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// It is public.
    None,
    /// A secret, by HTTP Basic or in the form.
    Secret,
    /// Assertions signed with its keys.
    PrivateKeyJwt,
}

/// What is wrong with what a client says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not one strict JSON object.
    #[error("the metadata is not one JSON object without duplicate members")]
    NotJson,
    /// No list of redirect URIs, an empty or overlong one.
    #[error("`redirect_uris` must be a list of 1 to 50 strings")]
    Redirects,
    /// A member of the wrong type.
    #[error("`{0}` is missing or of the wrong type")]
    Member(&'static str),
    /// A method that the gateway does not offer.
    #[error("`token_endpoint_auth_method` is not offered")]
    Method,
    /// `private_key_jwt` without keys.
    #[error("`private_key_jwt` needs `jwks` or `jwks_uri`, and not both")]
    Keys,
    /// A document that holds a secret or asks for one.
    #[error("a metadata document must hold no shared secret")]
    Secret,
    /// A document that is another client's.
    #[error("`client_id` of the document is not the URL it was fetched from")]
    OtherClient,
}

/// What a client says about itself, read.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientMetadata {
    /// What it calls itself, cut to what people can be shown.
    pub name: Option<String>,
    /// Its redirect URIs, unjudged.
    pub redirect_uris: Vec<String>,
    /// How it proves who it is; `None` when it does not say.
    pub method: Option<AuthMethod>,
    /// Its keys, when it brings them along.
    pub jwks: Option<Value>,
    /// Where its keys are.
    pub jwks_uri: Option<Url>,
    /// Whether it wants refresh tokens: it says so, or says nothing of grant types.
    pub refreshes: bool,
}

impl ClientMetadata {
    /// Reads a registration request. Members that mean nothing here are left alone: real clients send many.
    ///
    /// # Errors
    /// What is wrong.
    pub fn registration(body: &[u8]) -> Result<(Self, Map<String, Value>), MetadataError> {
        let members = strict::object(body).or(Err(MetadataError::NotJson))?;
        let read = Self::read(&members)?;
        Ok((read, members))
    }

    /// Reads the document at the URL `client_id` (sections 4 and 4.1): it names that URL byte for byte, has a name, and no
    /// shared secret.
    ///
    /// # Errors
    /// What is wrong.
    pub fn document(client_id: &str, body: &[u8]) -> Result<Self, MetadataError> {
        let members = strict::object(body).or(Err(MetadataError::NotJson))?;
        if members.get("client_id").and_then(Value::as_str) != Some(client_id) {
            return Err(MetadataError::OtherClient);
        }
        if members.keys().any(|name| name.starts_with("client_secret")) {
            return Err(MetadataError::Secret);
        }
        let read = Self::read(&members)?;
        if read.method == Some(AuthMethod::Secret) {
            return Err(MetadataError::Secret);
        }
        if read.name.is_none() {
            return Err(MetadataError::Member("client_name"));
        }
        Ok(read)
    }

    fn read(members: &Map<String, Value>) -> Result<Self, MetadataError> {
        let redirects = strings(members, "redirect_uris", MetadataError::Redirects)?.unwrap_or_default();
        if redirects.is_empty() || redirects.len() > MOST_REDIRECTS {
            return Err(MetadataError::Redirects);
        }
        let grants = strings(members, "grant_types", MetadataError::Member("grant_types"))?;
        let jwks = members.get("jwks").filter(|jwks| !jwks.is_null()).cloned();
        let jwks_uri = match members.get("jwks_uri") {
            None | Some(Value::Null) => None,
            Some(Value::String(uri)) => Some(
                Url::parse(uri).ok().filter(|uri| uri.scheme() == "https").ok_or(MetadataError::Member("jwks_uri"))?,
            ),
            Some(_) => return Err(MetadataError::Member("jwks_uri")),
        };
        let method = method(members, jwks.is_some() || jwks_uri.is_some())?;
        if method == Some(AuthMethod::PrivateKeyJwt) && jwks.is_some() == jwks_uri.is_some() {
            return Err(MetadataError::Keys);
        }
        let name = match members.get("client_name") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(shown(name)).filter(|name| !name.is_empty()),
            Some(_) => return Err(MetadataError::Member("client_name")),
        };
        let refreshes = grants.is_none_or(|grants| grants.iter().any(|grant| grant == "refresh_token"));
        Ok(Self { name, redirect_uris: redirects, method, jwks, jwks_uri, refreshes })
    }
}

/// The method that the client says that it uses; of several that it could use (SEP-3149) the one that proves most.
fn method(members: &Map<String, Value>, has_keys: bool) -> Result<Option<AuthMethod>, MetadataError> {
    let known = |method: &str| match method {
        "none" => Some(AuthMethod::None),
        "client_secret_basic" | "client_secret_post" => Some(AuthMethod::Secret),
        "private_key_jwt" => Some(AuthMethod::PrivateKeyJwt),
        _ => None,
    };
    match members.get("token_endpoint_auth_method") {
        None | Some(Value::Null) => {}
        Some(Value::String(method)) => return known(method).map(Some).ok_or(MetadataError::Method),
        Some(_) => return Err(MetadataError::Member("token_endpoint_auth_method")),
    }
    let name = "token_endpoint_auth_methods_supported";
    let Some(methods) = strings(members, name, MetadataError::Member(name))? else { return Ok(None) };
    let offered: Vec<AuthMethod> = methods.iter().filter_map(|method| known(method)).collect();
    let mut best = [AuthMethod::PrivateKeyJwt, AuthMethod::None, AuthMethod::Secret].into_iter();
    let usable = |method: &AuthMethod| offered.contains(method) && (has_keys || *method != AuthMethod::PrivateKeyJwt);
    best.find(usable).map(Some).ok_or(MetadataError::Method)
}

/// A list of strings, if the member is there.
fn strings(
    members: &Map<String, Value>,
    name: &str,
    error: MetadataError,
) -> Result<Option<Vec<String>>, MetadataError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => {
            list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>().map(Some).ok_or(error)
        }
        Some(_) => Err(error),
    }
}

/// A name as people can be shown it: one line, of a bounded length, without what turns text around.
fn shown(name: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let plain: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !turns(*c)).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST_NAME).collect()
}

/// Whether `client_id` is a URL that a metadata document may be at (section 3): https, with a path, without user, fragment
/// and dot segments, spelt as every reader reads it, and at no special address.
#[must_use]
pub fn is_document_url(client_id: &str) -> bool {
    let Some(rest) = client_id.strip_prefix("https://") else { return false };
    if client_id.len() > LONGEST_URL || !client_id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return false;
    }
    let Some(path_at) = rest.find('/') else { return false };
    let (authority, path) = rest.split_at_checked(path_at).unwrap_or((rest, ""));
    let path = path.split('?').next().unwrap_or_default();
    let dotted = path.split('/').any(|segment| {
        matches!(segment.to_ascii_lowercase().as_str(), "." | ".." | "%2e" | "%2e%2e" | ".%2e" | "%2e.")
    });
    if path.len() < 2 || dotted || authority.contains('@') || client_id.contains('#') {
        return false;
    }
    let Ok(url) = Url::parse(client_id) else { return false };
    let public = match url.host() {
        Some(url::Host::Domain(_)) => true,
        Some(url::Host::Ipv4(address)) => classify(address.into()) == AddressClass::Public,
        Some(url::Host::Ipv6(address)) => classify(address.into()) == AddressClass::Public,
        None => false,
    };
    public && url.as_str() == client_id
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "https://client.example/oauth/client.json";

    fn document(changed: Value) -> Result<ClientMetadata, MetadataError> {
        let mut members = serde_json::json!({
            "client_id": ID, "client_name": "A client", "redirect_uris": ["https://client.example/cb"],
        });
        for (name, value) in changed.as_object().unwrap() {
            members[name] = value.clone();
        }
        ClientMetadata::document(ID, members.to_string().as_bytes())
    }

    #[test]
    fn i03_a_client_id_is_a_plain_https_url_with_a_path() {
        for good in [ID, "https://claude.ai/oauth/claude-code-client-metadata", "https://a.example:8443/x?y=1"] {
            assert!(is_document_url(good), "{good}");
        }
        for bad in [
            "http://client.example/a",
            "https://client.example",
            "https://client.example/",
            "https://client.example/a#b",
            "https://u@client.example/a",
            "https://client.example/a/../b",
            "https://client.example/./a",
            "https://client.example/%2e%2e/a",
            "https://client.example/a b",
            "https://client.example/\u{e9}",
            "https://CLIENT.example/a",
            "https://client.example:443/a",
            "https://127.0.0.1/a",
            "https://10.0.0.1/a",
            "https://[::1]/a",
            "https://0x7f.1/a",
            "https:/client.example/a",
            "client",
        ] {
            assert!(!is_document_url(bad), "{bad}");
        }
    }

    #[test]
    fn i03_a_document_is_its_own_clients_and_holds_no_secret() {
        let good = document(serde_json::json!({})).unwrap();
        assert_eq!((good.name.as_deref(), good.method, good.refreshes), (Some("A client"), None, true));
        use MetadataError as E;
        for (changed, error) in [
            (serde_json::json!({ "client_id": "https://client.example/other" }), E::OtherClient),
            (serde_json::json!({ "client_secret": "x" }), E::Secret),
            (serde_json::json!({ "client_secret_expires_at": 0 }), E::Secret),
            (serde_json::json!({ "token_endpoint_auth_method": "client_secret_post" }), E::Secret),
            (serde_json::json!({ "token_endpoint_auth_method": "tls_client_auth" }), E::Method),
            (serde_json::json!({ "token_endpoint_auth_method": "private_key_jwt" }), E::Keys),
            (serde_json::json!({ "client_name": null }), E::Member("client_name")),
            (serde_json::json!({ "client_name": 1 }), E::Member("client_name")),
            (serde_json::json!({ "redirect_uris": [] }), E::Redirects),
            (serde_json::json!({ "redirect_uris": "https://client.example/cb" }), E::Redirects),
            (serde_json::json!({ "redirect_uris": [1] }), E::Redirects),
            (serde_json::json!({ "jwks_uri": "http://client.example/keys" }), E::Member("jwks_uri")),
        ] {
            assert_eq!(document(changed.clone()).unwrap_err(), error, "{changed}");
        }
        // The list of what it could use (SEP-3149) counts where it does not say what it uses.
        let (list, uri) = ("token_endpoint_auth_methods_supported", "https://client.example/keys");
        use AuthMethod as M;
        for (methods, method) in [
            (serde_json::json!(["none", "private_key_jwt"]), M::PrivateKeyJwt),
            (serde_json::json!(["none", "tls_client_auth"]), M::None),
            (serde_json::json!(["client_secret_basic", "none"]), M::None),
        ] {
            let read = document(serde_json::json!({ list: methods.clone(), "jwks_uri": uri })).unwrap();
            assert_eq!(read.method, Some(method), "{methods}");
        }
        let without_keys = document(serde_json::json!({ list: ["private_key_jwt", "none"] })).unwrap();
        assert_eq!(without_keys.method, Some(M::None));
        let said = document(serde_json::json!({ "token_endpoint_auth_method": "none", list: ["client_secret_post"] }));
        assert_eq!(said.unwrap().method, Some(M::None), "what it says that it uses comes first");
        for (methods, error) in [
            (serde_json::json!(["client_secret_post"]), E::Secret),
            (serde_json::json!(["tls_client_auth"]), E::Method),
            (serde_json::json!([]), E::Method),
            (serde_json::json!("none"), E::Member(list)),
        ] {
            assert_eq!(document(serde_json::json!({ list: methods.clone() })).unwrap_err(), error, "{methods}");
        }
        let twice = format!(r#"{{"client_id":"{ID}","client_id":"x","client_name":"a","redirect_uris":["b"]}}"#);
        assert_eq!(ClientMetadata::document(ID, twice.as_bytes()).unwrap_err(), E::NotJson);
    }

    #[test]
    fn f05_a_name_is_one_line_that_reads_forwards() {
        let name = |name: &str| document(serde_json::json!({ "client_name": name })).unwrap().name.unwrap();
        assert_eq!(name("  A\n\u{202e}client\t \u{200b}x "), "A client x");
        assert_eq!(name(&"a".repeat(500)).len(), LONGEST_NAME);
    }
}
