//! An OpenID Connect provider, by discovery (OpenID Connect Discovery section 4, RFC 8414).

use std::sync::Arc;

use async_trait::async_trait;
use url::Url;

use super::jwks::AtUrl;
use super::keys::{KeySource, KeyStore, KeyTimes};
use super::{Surroundings, read};
use crate::engine::decision::{Denial, Reason};
use crate::engine::fetch::Fetch;
use crate::engine::provider::Provider;
use crate::oauth::claims::Profile;
use crate::oauth::discovery::Discovered;
use crate::oauth::identity::Identity;
use crate::oauth::jwk::KeySet;
use crate::oauth::jws::{Algorithm, Unverified};
use crate::oauth::url::{EndpointUrl, IssuerUrl};

/// What the kind needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcSettings {
    /// How claims are read.
    pub profile: Profile,
    /// The issuer, where discovery starts.
    pub issuer: IssuerUrl,
    /// Algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Where keys are, when discovery is not asked.
    pub jwks_uri: Option<EndpointUrl>,
    /// Other hosts of its endpoints.
    pub allowed_hosts: Vec<String>,
    /// When keys are fetched.
    pub keys: KeyTimes,
}

/// A provider of this kind.
#[derive(Debug)]
pub struct Oidc {
    name: String,
    profile: Profile,
    algorithms: Vec<Algorithm>,
    keys: Arc<KeyStore>,
}

impl Oidc {
    /// Starts to discover and to fetch the keys.
    #[must_use]
    pub fn start(name: &str, settings: &OidcSettings, surroundings: &Surroundings) -> Self {
        let (fetch, algorithms) = (Arc::clone(&surroundings.fetch), settings.algorithms.clone());
        let source: Box<dyn KeySource> = match &settings.jwks_uri {
            Some(uri) => Box::new(AtUrl { url: uri.url().clone(), algorithms, fetch }),
            None => {
                let (issuer, allowed_hosts) = (settings.issuer.clone(), settings.allowed_hosts.clone());
                Box::new(Discovery { issuer, allowed_hosts, algorithms, fetch })
            }
        };
        Self {
            name: name.to_owned(),
            profile: settings.profile.clone(),
            algorithms: settings.algorithms.clone(),
            keys: KeyStore::start(name, source, settings.keys, surroundings),
        }
    }
}

#[async_trait]
impl Provider for Oidc {
    fn name(&self) -> &str {
        &self.name
    }

    fn generation(&self) -> u64 {
        self.keys.generation()
    }

    fn answers_for(&self, issuer: Option<&str>) -> bool {
        issuer == Some(&*self.profile.issuer)
    }

    async fn verify(&self, token: &str) -> Result<Arc<Identity>, Denial> {
        let unverified = Unverified::parse(token)?;
        // Before any key is looked for: an algorithm that is not the provider's buys no fetch.
        if !self.algorithms.contains(&unverified.header.algorithm) {
            return Err(Denial::new(Reason::AlgorithmRefused));
        }
        let key = self.keys.select(&unverified.header).await?;
        let claims = unverified.verify(&key)?;
        Ok(read(&self.profile, token, unverified.header.token_type.as_deref(), claims)?)
    }
}

/// Keys whose place a discovery document tells.
#[derive(Debug)]
struct Discovery {
    issuer: IssuerUrl,
    allowed_hosts: Vec<String>,
    algorithms: Vec<Algorithm>,
    fetch: Arc<dyn Fetch>,
}

#[async_trait]
impl KeySource for Discovery {
    async fn fetch(&self) -> Result<KeySet, String> {
        let url = self.issuer.discovery_url();
        let document = self.fetch.get(&url).await.map_err(|error| error.to_string())?;
        let uri = self.keys_of(&document).map_err(|cause| format!("{url}: {cause}"))?;
        let at = AtUrl { url: uri, algorithms: self.algorithms.clone(), fetch: Arc::clone(&self.fetch) };
        at.fetch().await
    }
}

impl Discovery {
    /// `jwks_uri` of a document that is this issuer's, on a host that the operator named.
    fn keys_of(&self, document: &[u8]) -> Result<Url, String> {
        Discovered::read(document, self.issuer.as_str(), self.issuer.url(), &self.allowed_hosts)?.endpoint("jwks_uri")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(issuer: &str, allowed: &[&str]) -> Discovery {
        #[derive(Debug)]
        struct Nothing;
        #[async_trait]
        impl Fetch for Nothing {
            async fn get(&self, url: &Url) -> Result<bytes::Bytes, crate::engine::fetch::FetchError> {
                Err(crate::engine::fetch::FetchError { url: url.to_string(), cause: String::new() })
            }
            async fn send(
                &self,
                _: crate::engine::fetch::Target,
                request: http::Request<bytes::Bytes>,
            ) -> Result<http::Response<bytes::Bytes>, crate::engine::fetch::FetchError> {
                Err(crate::engine::fetch::FetchError { url: request.uri().to_string(), cause: String::new() })
            }
        }
        Discovery {
            issuer: IssuerUrl::parse(issuer).unwrap(),
            allowed_hosts: allowed.iter().map(|host| (*host).to_owned()).collect(),
            algorithms: vec![Algorithm::Rs256],
            fetch: Arc::new(Nothing),
        }
    }

    #[test]
    fn j01_a_discovery_document_is_the_issuers_own() {
        let document = |issuer: &str, jwks: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{jwks}"}}"#);
        let judge =
            |discovery: &Discovery, issuer: &str, jwks: &str| discovery.keys_of(document(issuer, jwks).as_bytes());
        let plain = discovery("https://id.example/t", &[]);
        assert!(judge(&plain, "https://id.example/t", "https://id.example/keys").is_ok());
        for (issuer, jwks) in [
            ("https://id.example/t/", "https://id.example/keys"),
            ("https://ID.example/t", "https://id.example/keys"),
            ("https://evil.example", "https://id.example/keys"),
            ("https://id.example/t", "https://evil.example/keys"),
            ("https://id.example/t", "https://id.example.evil.example/keys"),
            ("https://id.example/t", "http://id.example/keys"),
            ("https://id.example/t", "https://169.254.169.254/keys"),
            ("https://id.example/t", "file:///keys"),
        ] {
            assert!(judge(&plain, issuer, jwks).is_err(), "{issuer} {jwks}");
        }
        let listed = discovery("https://id.example/t", &["keys.example"]);
        assert!(judge(&listed, "https://id.example/t", "https://keys.example/keys").is_ok());
        assert!(plain.keys_of(br#"{"issuer":"https://id.example/t"}"#).is_err());
        assert!(
            plain
                .keys_of(br#"{"issuer":"https://id.example/t","issuer":"x","jwks_uri":"https://id.example/k"}"#)
                .is_err()
        );
    }
}
