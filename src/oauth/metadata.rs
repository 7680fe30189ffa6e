//! The protected-resource metadata document (RFC 9728 section 2), prepared once per policy.

use bytes::Bytes;
use serde::Serialize;

use super::url::ResourceUrl;

/// What the document says. Everything comes from configuration, never from a request.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ResourceMetadata<'a> {
    resource: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    authorization_servers: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    scopes_supported: &'a [String],
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<&'a str>,
}

impl<'a> ResourceMetadata<'a> {
    /// A document for `resource`. Issuers that cannot issue tokens to clients do not belong into `issuers`; an empty list
    /// leaves the member out, and so does an empty list of scopes.
    #[must_use]
    pub fn new(resource: &'a ResourceUrl, issuers: &'a [String], scopes: &'a [String]) -> Self {
        Self {
            resource: resource.as_str(),
            authorization_servers: issuers,
            scopes_supported: scopes,
            bearer_methods_supported: ["header"],
            resource_name: None,
        }
    }

    /// Adds a name for people.
    #[must_use]
    pub fn named(self, name: &'a str) -> Self {
        Self { resource_name: Some(name), ..self }
    }

    /// The document as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        // Strings and lists of strings always serialise; an empty body would be seen at once by every client.
        Bytes::from(serde_json::to_vec(self).unwrap_or_default().into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::url::ResourceUrl;
    use super::ResourceMetadata;

    fn read(metadata: &ResourceMetadata<'_>) -> Value {
        serde_json::from_slice(&metadata.to_bytes()).unwrap()
    }

    #[test]
    fn d02_the_resource_is_canonical_and_empty_lists_are_left_out() {
        let resource = ResourceUrl::parse("https://m.example:443/a/").unwrap();
        assert_eq!(
            read(&ResourceMetadata::new(&resource, &[], &[])),
            json!({ "resource": "https://m.example/a", "bearer_methods_supported": ["header"] })
        );
        let (issuers, scopes) = (["https://id.example/".to_owned()], ["read".to_owned()]);
        assert_eq!(
            read(&ResourceMetadata::new(&resource, &issuers, &scopes).named("files")),
            json!({
                "resource": "https://m.example/a",
                "authorization_servers": ["https://id.example/"],
                "scopes_supported": ["read"],
                "bearer_methods_supported": ["header"],
                "resource_name": "files"
            })
        );
    }
}
