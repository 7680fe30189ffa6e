//! Cookies, and what a browser says about where a request comes from.

use http::HeaderMap;
use http::header::COOKIE;
use sha2::{Digest, Sha256};

use super::clients::hex;
use crate::engine::issuing::Issuing;
use crate::engine::vault::{RandomFailed, random_text};

/// Seconds for which a browser is known again.
const KNOWN: i64 = 400 * 24 * 3600;
/// Bytes of a cookie's value that are looked at.
const LONGEST: usize = 256;

/// The name of a cookie: `__Host-` wherever browsers accept it, so that no other host can set it (RFC 6265bis section
/// 4.1.3.2). On plain http, which is loopback, the prefix goes and `Secure` with it, and nothing else.
fn full_name(issuing: &Issuing, name: &str) -> String {
    format!("{}portcullis-{name}", if is_secure(issuing) { "__Host-" } else { "" })
}

fn is_secure(issuing: &Issuing) -> bool {
    issuing.issuer.starts_with("https:")
}

/// The value of a cookie, which occurs once.
pub fn cookie(issuing: &Issuing, headers: &HeaderMap, name: &str) -> Option<String> {
    let name = full_name(issuing, name);
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = lines.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    });
    let value = values.next()?;
    // Two of one name are two browsers' to two readers.
    (values.next().is_none() && value.len() <= LONGEST && !value.is_empty()).then(|| value.to_owned())
}

/// A `Set-Cookie` for `lifetime` seconds; 0 takes the cookie away.
pub fn set_cookie(issuing: &Issuing, name: &str, value: &str, lifetime: i64) -> String {
    let secure = if is_secure(issuing) { "; Secure" } else { "" };
    let name = full_name(issuing, name);
    format!("{name}={value}; Path=/; Max-Age={lifetime}; HttpOnly; SameSite=Lax{secure}")
}

/// A browser, known by a cookie that says nothing.
pub struct Browser {
    /// The value of its cookie.
    pub id: String,
    /// The cookie to be set, when it is new.
    pub cookie: Option<String>,
}

impl Browser {
    /// The browser of a request, or a new one.
    ///
    /// # Errors
    /// The random source fails.
    pub fn of(issuing: &Issuing, headers: &HeaderMap) -> Result<Self, RandomFailed> {
        if let Some(id) = Self::known(issuing, headers) {
            return Ok(Self { id, cookie: None });
        }
        let id = random_text()?;
        let cookie = Some(set_cookie(issuing, "browser", &id, KNOWN));
        Ok(Self { id, cookie })
    }

    /// The id of the browser of a request, if it has a cookie.
    pub fn known(issuing: &Issuing, headers: &HeaderMap) -> Option<String> {
        cookie(issuing, headers, "browser").filter(|id| id.len() == 43)
    }
}

/// What stands for a cookie in what is given away: its hash.
pub fn print(value: &str) -> String {
    hex(&Sha256::digest(value))
}

/// Whether a navigation comes from this site or from the person: what a browser that says so can be believed (W3C Fetch
/// Metadata). A missing word is no word.
pub fn is_own_navigation(headers: &HeaderMap) -> bool {
    matches!(fetch_site(headers), Some("same-origin" | "none"))
}

/// Whether a form may have been sent by another site's page.
pub fn is_foreign_form(issuing: &Issuing, headers: &HeaderMap) -> bool {
    let origin = headers.get("origin").map(|origin| origin.to_str().unwrap_or_default());
    let own = issuing.issuer.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    // Without a referrer browsers say `null` of a form's origin; the cookie and the sealed form decide then.
    let foreign_origin = origin.is_some_and(|origin| origin != "null" && origin != own);
    foreign_origin || fetch_site(headers).is_some_and(|site| site != "same-origin")
}

fn fetch_site(headers: &HeaderMap) -> Option<&str> {
    headers.get("sec-fetch-site")?.to_str().ok()
}
