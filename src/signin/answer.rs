//! What the endpoints answer: documents, tokens, errors in the form of RFC 6749, pages and redirects.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::engine::decision::Denial;
use crate::engine::vault::VaultError;

/// An answer; whoever writes it adds the headers that every answer of the gateway's own carries.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Headers beyond those of every local answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A public document.
    pub fn document(body: Bytes) -> Self {
        let headers = vec![(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))];
        Self { status: StatusCode::OK, headers, body }
    }

    /// A JSON body.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// A value as JSON.
    pub fn value(status: StatusCode, value: &Value) -> Self {
        Self::json(status, value.to_string())
    }

    /// No body.
    pub fn empty(status: StatusCode) -> Self {
        Self::json(status, Bytes::new())
    }

    /// A page with the sources to which its forms may lead.
    pub fn page(status: StatusCode, html: String, style: &str, leads_to: &[String]) -> Self {
        let to: String = leads_to.iter().map(|source| format!(" {source}")).collect();
        let policy = format!(
            "default-src 'none'; style-src '{style}'; form-action 'self'{to}; frame-ancestors 'none'; base-uri 'none'"
        );
        let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))];
        headers.extend(HeaderValue::try_from(policy).ok().map(|policy| (CONTENT_SECURITY_POLICY, policy)));
        Self { status, headers, body: Bytes::from(html) }
    }

    /// 303: the browser goes on with GET, and no form is sent twice (RFC 9700 section 4.12).
    pub fn to(location: &str) -> Self {
        match HeaderValue::try_from(location) {
            Ok(location) => {
                Self { status: StatusCode::SEE_OTHER, headers: vec![(LOCATION, location)], body: Bytes::new() }
            }
            Err(_) => Self::value(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_request" })),
        }
    }

    /// Says when to come back (RFC 9110 section 10.2.3).
    #[must_use]
    pub fn to_come_back(mut self, denial: &Denial) -> Self {
        let wait = denial.retry_after.map_or(1, |wait| wait.as_secs().max(1));
        self.headers.push((RETRY_AFTER, wait.into()));
        self
    }

    /// Adds a cookie.
    #[must_use]
    pub fn with_cookie(mut self, cookie: &str) -> Self {
        self.headers.extend(HeaderValue::try_from(cookie).ok().map(|mut cookie| {
            cookie.set_sensitive(true);
            (SET_COOKIE, cookie)
        }));
        self
    }
}

macro_rules! errors {
    ($($variant:ident = $code:literal, $status:literal;)*) => {
        /// The error codes of RFC 6749 sections 4.1.2.1 and 5.2, RFC 7009, RFC 7591, RFC 8707 and OpenID Connect Core.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Oauth { $($variant,)* }

        impl Oauth {
            /// The registered code.
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $code,)* } }
            fn status(self) -> u16 { match self { $(Self::$variant => $status,)* } }
        }
    };
}

errors! {
    InvalidRequest = "invalid_request", 400;
    InvalidClient = "invalid_client", 401;
    InvalidGrant = "invalid_grant", 400;
    UnauthorizedClient = "unauthorized_client", 400;
    UnsupportedGrantType = "unsupported_grant_type", 400;
    UnsupportedResponseType = "unsupported_response_type", 400;
    InvalidScope = "invalid_scope", 400;
    InvalidTarget = "invalid_target", 400;
    InvalidRedirectUri = "invalid_redirect_uri", 400;
    InvalidClientMetadata = "invalid_client_metadata", 400;
    AccessDenied = "access_denied", 403;
    InteractionRequired = "interaction_required", 400;
    RequestNotSupported = "request_not_supported", 400;
    RequestUriNotSupported = "request_uri_not_supported", 400;
    ServerError = "server_error", 500;
    TemporarilyUnavailable = "temporarily_unavailable", 503;
}

/// An error in the form of RFC 6749 section 5.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthError {
    /// The code.
    pub code: Oauth,
    /// What people read. Never a value of the request.
    pub description: String,
    /// The status.
    pub status: StatusCode,
    /// Whether the client tried HTTP Basic and is told so.
    pub basic: bool,
}

impl OauthError {
    /// An error with the status of its code.
    pub fn new(code: Oauth, description: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self { code, description: description.into(), status, basic: false }
    }

    /// The answer of an endpoint that clients call.
    pub fn answer(&self) -> Answer {
        let body = json!({ "error": self.code.as_str(), "error_description": self.description });
        let mut answer = Answer::value(self.status, &body);
        if self.basic {
            answer
                .headers
                .push((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\", charset=\"UTF-8\"")));
        }
        answer
    }
}

impl From<VaultError> for OauthError {
    /// A store that cannot be asked refuses for now.
    fn from(error: VaultError) -> Self {
        tracing::warn!(event = "sign-in-store", %error, "the store refused");
        Self::new(Oauth::TemporarilyUnavailable, "try again in a moment")
    }
}
