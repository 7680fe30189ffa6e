//! Who may ask the admin listener.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::engine::snapshot::AdminAccess;

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its `Host` is no address and not listed: a name that somebody else resolves leads here.
    Host,
    /// A web page asks.
    Origin,
    /// It would change something.
    Method,
    /// It has not the token.
    Token,
}

/// Whether a request with these headers may be answered.
///
/// # Errors
/// Why it may not.
pub fn check(access: &AdminAccess, headers: &HeaderMap, method: &Method) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let host =
        hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if !host.is_some_and(|host| is_known(access, host.host())) {
        return Err(Refusal::Host);
    }
    if headers.contains_key(ORIGIN) || is_embedded(headers) {
        return Err(Refusal::Origin);
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::Method);
    }
    let Some(token) = access.token else { return Ok(()) };
    let shown = shown(headers).ok_or(Refusal::Token)?;
    // Hashes have one length, whatever was shown.
    let same = Sha256::digest(&shown).ct_eq(token.as_slice());
    if bool::from(same) { Ok(()) } else { Err(Refusal::Token) }
}

fn is_known(access: &AdminAccess, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok() || access.hosts.contains(&host)
}

/// Whether a page of another site has the browser ask, as for an image, a script or a frame, which names no origin (W3C Fetch
/// Metadata). A person may still follow a link.
fn is_embedded(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(|value| value.as_bytes());
    let own = matches!(said("sec-fetch-site"), None | Some(b"same-origin" | b"none"));
    let follows = said("sec-fetch-mode") == Some(b"navigate") && said("sec-fetch-dest") == Some(b"document");
    !own && !follows
}

/// The token of a bearer, or the password of basic authentication (RFC 7617), whatever the name.
fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim_start().as_bytes().to_vec());
    }
    let pair = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest.trim_start()).ok())??;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(access: &AdminAccess, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        check(access, &headers, &Method::GET)
    }

    #[test]
    fn r01_a_name_that_a_stranger_resolves_does_not_lead_in() {
        let access = AdminAccess { token: None, hosts: vec!["metrics.internal".to_owned()] };
        for good in ["127.0.0.1:9464", "10.1.2.3", "[::1]:9464", "localhost:9464", "LOCALHOST", "metrics.internal:80"] {
            assert_eq!(asked(&access, &[("host", good)]), Ok(()), "{good}");
        }
        for bad in ["evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example", "", "a@127.0.0.1@b", "::1"]
        {
            assert_eq!(asked(&access, &[("host", bad)]), Err(Refusal::Host), "{bad}");
        }
        assert_eq!(asked(&access, &[]), Err(Refusal::Host));
        let page = [("host", "localhost"), ("origin", "http://localhost:9464")];
        assert_eq!(asked(&access, &page), Err(Refusal::Origin));
        let browser = |site, mode, dest| {
            let said = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
            asked(&access, &[&[("host", "localhost")][..], &said].concat())
        };
        for (site, mode, dest) in [
            ("cross-site", "no-cors", "image"),
            ("cross-site", "no-cors", "script"),
            ("cross-site", "navigate", "iframe"),
            ("same-site", "no-cors", "empty"),
        ] {
            assert_eq!(browser(site, mode, dest), Err(Refusal::Origin), "{site} {mode} {dest}");
        }
        for (site, mode, dest) in [
            ("none", "navigate", "document"),
            ("cross-site", "navigate", "document"),
            ("same-origin", "no-cors", "style"),
        ] {
            assert_eq!(browser(site, mode, dest), Ok(()), "{site} {mode} {dest}");
        }
    }

    #[test]
    fn r01_the_token_is_shown_as_bearer_or_as_password() {
        let token = "t".repeat(32);
        let access = AdminAccess { token: Some(Sha256::digest(&token).into()), hosts: Vec::new() };
        let shows = |value: &str| asked(&access, &[("host", "localhost"), ("authorization", value)]);
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(shows(&format!("Bearer {token}")), Ok(()));
        assert_eq!(shows(&basic(&format!("prometheus:{token}"))), Ok(()));
        for bad in [token.clone(), format!("Bearer {token}x"), "Bearer ".to_owned(), basic(&token), basic("a:")] {
            assert_eq!(shows(&bad), Err(Refusal::Token), "{bad}");
        }
        assert_eq!(asked(&access, &[("host", "localhost")]), Err(Refusal::Token));
    }
}
