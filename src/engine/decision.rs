//! What a decision looks like: a [`Permit`] or a [`Denial`] with its [`Reason`].
//!
//! `Reason` is a closed list: its name goes to the log, the metric label and the audit record, its numbers to the client.
//! A `Denial` keeps what the client may read (`public`) apart from what only the log may (`internal`).

use std::borrow::Cow;
use std::time::Duration;

use crate::oauth::fault::{Fault, FaultKind};

/// Leave to contact the upstream for one message. Only [`super::access`] can make one.
#[derive(Debug, Clone)]
pub struct Permit {
    rule: Option<u32>,
}

impl Permit {
    /// `rule` is the index of the allow rule that fitted, `None` for what needs no rule but a valid token.
    pub(in crate::engine) fn by_rule(rule: Option<u32>) -> Self {
        Self { rule }
    }

    /// The index, in the policy's order, of the rule that permitted the message.
    #[must_use]
    pub fn rule(&self) -> Option<u32> {
        self.rule
    }
}

/// A refusal: why, what the client is told, what the log is told.
#[derive(Debug, Clone)]
pub struct Denial {
    /// Why, from the closed list.
    pub reason: Reason,
    /// What the client reads. Never a token, a claim, a name of an internal part.
    pub public: Cow<'static, str>,
    /// What only the log reads.
    pub internal: Option<Cow<'static, str>>,
    /// Seconds for `Retry-After`, rounded up.
    pub retry_after: Option<Duration>,
    /// The scopes that a step-up challenge names (RFC 6750 section 3.1 `insufficient_scope`).
    pub scopes: Vec<String>,
    /// The index of the rule that decided, when one did.
    pub rule: Option<u32>,
    /// JSON-RPC `error.data`, serialised, when the reason defines one (`-32022` names the supported versions).
    pub data: Option<Box<serde_json::value::RawValue>>,
}

impl Denial {
    /// A denial with the reason's own public text.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            public: Cow::Borrowed(reason.public()),
            internal: None,
            retry_after: None,
            scopes: Vec::new(),
            rule: None,
            data: None,
        }
    }

    /// Adds what only the log may read.
    #[must_use]
    pub fn because(mut self, internal: impl Into<Cow<'static, str>>) -> Self {
        self.internal = Some(internal.into());
        self
    }

    /// Replaces what the client reads.
    #[must_use]
    pub fn saying(mut self, public: impl Into<Cow<'static, str>>) -> Self {
        self.public = public.into();
        self
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Names the rule that decided.
    #[must_use]
    pub fn by_rule(mut self, rule: Option<u32>) -> Self {
        self.rule = rule;
        self
    }
}

impl From<Fault> for Denial {
    fn from(fault: Fault) -> Self {
        let reason = match fault.kind {
            FaultKind::Missing => Reason::TokenMissing,
            FaultKind::Malformed => Reason::TokenMalformed,
            FaultKind::Issuer => Reason::IssuerUnknown,
            FaultKind::Algorithm => Reason::AlgorithmRefused,
            FaultKind::Key => Reason::KeyUnknown,
            FaultKind::Signature => Reason::SignatureInvalid,
            FaultKind::Claim => Reason::ClaimInvalid,
            FaultKind::Expired => Reason::TokenExpired,
            FaultKind::NotYetValid => Reason::TokenNotYetValid,
            FaultKind::TokenType => Reason::TokenTypeRefused,
            FaultKind::Binding => Reason::BindingUnproven,
        };
        Self::new(reason).because(fault.detail)
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $status:literal, $code:literal, $public:literal;)*) => {
        /// Why a request was refused. The list is closed: a new reason is a new line here and a new test.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of the request path.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable kebab-case name: log field, metric label, audit value.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $name,)* } }

            /// The HTTP status of the refusal.
            #[must_use]
            pub fn status(self) -> u16 { match self { $(Self::$variant => $status,)* } }

            /// The JSON-RPC error code of the refusal; own codes stand outside the reserved range (MCP basic, "Error Codes").
            #[must_use]
            pub fn code(self) -> i32 { match self { $(Self::$variant => $code,)* } }

            /// What the client is told unless the denial says otherwise.
            #[must_use]
            pub fn public(self) -> &'static str { match self { $(Self::$variant => $public,)* } }
        }
    };
}

reasons! {
    /// The HTTP message breaks a rule of the strict front filter (RFC 9112, RFC 9113).
    MalformedRequest = "malformed-request", 400, 400, "malformed request";
    /// Too many failures from one address before authentication.
    AddressLimited = "address-limited", 429, 429, "too many failed requests from this address";
    /// The host is not one the gateway serves.
    HostUnknown = "host-unknown", 421, 421, "unknown host";
    /// No service or endpoint at this path.
    PathUnknown = "path-unknown", 404, 404, "not found";
    /// The service's policy is closed: broken without a last good version, or too stale.
    ServiceClosed = "service-closed", 503, 503, "service unavailable";
    /// A provider, key or secret that the service names is gone from the installation.
    ProviderRemoved = "provider-removed", 503, 503, "service unavailable";
    /// `Origin` is present and not listed.
    OriginRefused = "origin-refused", 403, 403, "origin not allowed";
    /// The HTTP method is not offered here.
    MethodRefused = "method-refused", 405, 405, "method not allowed";
    /// Not `application/json`, or a content coding.
    MediaTypeRefused = "media-type-refused", 415, 415, "content type must be application/json without content coding";
    /// No credential.
    TokenMissing = "token-missing", 401, 401, "authentication required";
    /// Not a well-formed bearer token, or more than one.
    TokenMalformed = "token-malformed", 401, 401, "invalid token";
    /// No accepted provider vouches for this issuer.
    IssuerUnknown = "issuer-unknown", 401, 401, "invalid token";
    /// Algorithm or key not the provider's.
    AlgorithmRefused = "algorithm-refused", 401, 401, "invalid token";
    /// No key of the provider fits the token.
    KeyUnknown = "key-unknown", 401, 401, "invalid token";
    /// The signature or the key's hash does not verify.
    SignatureInvalid = "signature-invalid", 401, 401, "invalid token";
    /// A registered claim is missing or of the wrong type.
    ClaimInvalid = "claim-invalid", 401, 401, "invalid token";
    /// The provider says that the token is not active (RFC 7662 section 2.2).
    TokenInactive = "token-inactive", 401, 401, "invalid token";
    /// Past `exp`.
    TokenExpired = "token-expired", 401, 401, "token expired";
    /// An operator has revoked the subject, the client, the session or the token, or the policy no longer knows them.
    Revoked = "revoked", 401, 401, "invalid token";
    /// Before `nbf`, or `iat` in the future.
    TokenNotYetValid = "token-not-yet-valid", 401, 401, "invalid token";
    /// The audience is not this service's.
    AudienceMismatch = "audience-mismatch", 401, 401, "invalid token";
    /// An ID token, a logout token, or another type than the provider's.
    TokenTypeRefused = "token-type-refused", 401, 401, "invalid token";
    /// The client is not listed by the service.
    ClientRefused = "client-refused", 401, 401, "invalid token";
    /// A claim that the service requires is absent or different.
    ClaimMissing = "claim-missing", 401, 401, "invalid token";
    /// The token is bound to a key that a plain bearer does not prove (RFC 9449, RFC 8705).
    BindingUnproven = "binding-unproven", 401, 401, "invalid token";
    /// The provider's keys, or its answer about the token, cannot be had.
    ProviderUnavailable = "provider-unavailable", 503, 503, "identity provider unavailable";
    /// A body without a length, above the bound for such bodies.
    LengthRequired = "length-required", 411, 411, "content-length required";
    /// The body is above the cap.
    BodyTooLarge = "body-too-large", 413, 413, "body too large";
    /// The body came too slowly or was cut.
    BodyTimeout = "body-timeout", 408, 408, "request body timeout";
    /// Not one strict JSON document.
    ParseError = "parse-error", 400, -32700, "parse error";
    /// Not one JSON-RPC 2.0 message of the accepted kinds.
    InvalidRequest = "invalid-request", 400, -32600, "invalid request";
    /// A parameter that the gateway must read is missing or of the wrong type.
    InvalidParams = "invalid-params", 400, -32602, "invalid params";
    /// A JSON-RPC batch where none is accepted.
    BatchRefused = "batch-refused", 400, -32600, "batches are not accepted";
    /// A mirrored header and the body disagree (MCP 2026-07-28).
    HeaderMismatch = "header-mismatch", 400, -32020, "header and body disagree";
    /// A protocol revision that the service does not accept.
    VersionUnsupported = "version-unsupported", 400, -32022, "unsupported protocol version";
    /// A method that neither the specification nor a rule names.
    MethodUnknown = "method-unknown", 404, -32601, "method not found";
    /// A resource URI whose spelling could mean something else upstream.
    UriRefused = "uri-refused", 400, -32602, "resource URI form not accepted";
    /// The session is foreign, unknown or expired.
    SessionUnknown = "session-unknown", 404, -32001, "session not found";
    /// No rule allows it, or a deny rule fits.
    NotPermitted = "not-permitted", 403, 403, "not permitted by policy";
    /// Only scopes are missing.
    ScopeMissing = "scope-missing", 403, 403, "insufficient scope";
    /// A rate limit.
    RateLimited = "rate-limited", 429, 429, "rate limit exceeded";
    /// A concurrency limit.
    ConcurrencyLimited = "concurrency-limited", 429, 429, "too many concurrent requests";
    /// The store cannot be asked about a limit that is counted for all replicas, or about who made a task.
    StoreUnavailable = "store-unavailable", 503, 503, "try again later";
    /// Too many requests in flight; start-up messages are shed with 503 so that clients do not change era.
    Shed = "shed", 503, 503, "try again later";
    /// Whoever gives the upstream's credential does not answer.
    CredentialUnavailable = "credential-unavailable", 503, 503, "upstream credential unavailable";
    /// Whoever gives the upstream's credential answers and gives none that can be used.
    CredentialRefused = "credential-refused", 502, 502, "upstream credential refused";
    /// The upstream cannot be reached.
    UpstreamUnreachable = "upstream-unreachable", 502, 502, "upstream unreachable";
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream-timeout", 504, 504, "upstream timeout";
    /// The upstream asked for credentials or redirected.
    UpstreamRefused = "upstream-refused", 502, 502, "upstream refused the gateway";
    /// The upstream's answer is not what MCP allows.
    UpstreamInvalid = "upstream-invalid", 502, 502, "invalid upstream answer";
    /// The server asks the client for something that the policy does not let it have.
    ServerRequestRefused = "server-request-refused", 403, 403, "the server asked for something that the policy refuses";
    /// The task is foreign, unknown or forgotten.
    TaskUnknown = "task-unknown", 400, -32602, "task not found";
    /// The request is about tasks, and the client does not say that it knows them (MCP 2026-07-28).
    CapabilityMissing = "capability-missing", 400, -32021, "missing required client capability";
    /// The upstream's answer or list is above the cap.
    ResponseTooLarge = "response-too-large", 502, 502, "upstream answer too large";
    /// The system's random source failed.
    RandomFailed = "random-failed", 503, 503, "service unavailable";
    /// A defect of the gateway.
    Internal = "internal", 500, 500, "internal error";
}
