//! THE list of diagnostic codes. Each has a golden in `tests/golden/policy`.

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)*) => {
        $($(#[doc = $doc])* pub const $name: &str = $code;)*
        /// Every code.
        pub const ALL: &[&str] = &[$($name,)*];
    };
}

codes! {
    /// A file or folder cannot be read.
    UNREADABLE = "unreadable";
    /// A folder holds no policy.
    NO_POLICY = "no-policy";
    /// A file is above 1 MiB.
    TOO_LARGE = "file-too-large";
    /// A file is not UTF-8.
    NOT_UTF8 = "not-utf8";
    /// The text is no YAML.
    SYNTAX = "yaml-syntax";
    /// Nesting, aliases or nodes beyond the budget.
    BUDGET = "yaml-budget";
    /// More than one YAML document in a file.
    SEVERAL_DOCUMENTS = "several-documents";
    /// A key that occurs twice in one mapping.
    DUPLICATE_KEY = "duplicate-key";
    /// A key that means nothing here.
    UNKNOWN_KEY = "unknown-key";
    /// A key that must be there.
    MISSING_KEY = "missing-key";
    /// A value of another type than the key takes.
    WRONG_TYPE = "wrong-type";
    /// `yes`, `no`, `on` or `off` where `true` or `false` is meant.
    NOT_A_BOOLEAN = "not-a-boolean";
    /// A value of the right type that is not one of those accepted.
    INVALID_VALUE = "invalid-value";
    /// A secret in the file itself.
    LITERAL_SECRET = "literal-secret";
    /// A URL that breaks a rule of its kind.
    UNSAFE_URL = "unsafe-url";
    /// Plain HTTP to an upstream off this machine.
    PLAIN_UPSTREAM = "plain-upstream";
    /// A route path that could not be matched or told apart.
    INVALID_ROUTE = "invalid-route";
    /// Two files claim one service name.
    DUPLICATE_SERVICE = "duplicate-service";
    /// Two files claim one route.
    DUPLICATE_ROUTE = "duplicate-route";
    /// A provider that is not defined.
    UNKNOWN_PROVIDER = "unknown-provider";
    /// A scope that is not defined.
    UNKNOWN_SCOPE = "unknown-scope";
    /// A service that is not defined.
    UNKNOWN_SERVICE = "unknown-service";
    /// A provider that no service uses.
    UNUSED_PROVIDER = "unused-provider";
    /// Two providers of one service answer for one issuer.
    AMBIGUOUS_ISSUER = "ambiguous-issuer";
    /// Two services accept one provider and share an audience.
    SHARED_AUDIENCE = "shared-audience";
    /// A service whose clients cannot learn where tokens come from.
    NO_AUTHORIZATION_SERVER = "no-authorization-server";
    /// A secret or key file that cannot be read.
    SECRET_UNREADABLE = "secret-unreadable";
    /// A secret or key too weak to use.
    WEAK_SECRET = "weak-secret";
    /// A secret file that was not renewed for 90 days.
    OLD_SECRET = "old-secret";
    /// A key set that cannot be used.
    INVALID_KEY = "invalid-key";
    /// A certificate or private key that cannot be used.
    INVALID_CERTIFICATE = "invalid-certificate";
    /// A pattern that does not compile.
    INVALID_PATTERN = "invalid-pattern";
    /// An expression that does not compile or reads what it may not.
    INVALID_EXPRESSION = "invalid-expression";
    /// An argument matcher that cannot be read.
    INVALID_MATCHER = "invalid-matcher";
    /// A rule that can never decide anything.
    DEAD_RULE = "dead-rule";
    /// A deny rule that one item of a list can keep from fitting.
    EVERY_ITEM_IN_DENY = "every-item-in-deny";
    /// A limit that can never apply.
    DEAD_LIMIT = "dead-limit";
    /// A service that permits nothing.
    NO_RULE = "no-rule";
    /// A setting that has no effect where it stands.
    USELESS_SETTING = "useless-setting";
    /// Trusting every peer to name the client's address.
    TRUSTS_EVERYONE = "trusts-everyone";
    /// A public URL is needed and not given.
    PUBLIC_URL_NEEDED = "public-url-needed";
    /// A provider that cannot sign people in.
    NO_SIGN_IN = "no-sign-in";
    /// A provider whose tokens, if it has any, cannot be accepted.
    ISSUES_NO_TOKENS = "issues-no-tokens";
    /// An issuer that is none of the product that the preset names.
    PRESET_MISMATCH = "preset-mismatch";
    /// A person in a users file who could not sign in, or too easily.
    INVALID_USER = "invalid-user";
    /// An authorization server that could send no client back.
    NO_REDIRECT = "no-redirect";
    /// A redirect URI, or a form of them, that could lead to a stranger or to the gateway itself.
    UNSAFE_REDIRECT = "unsafe-redirect";
    /// A redirect URI of a client that the policy's list does not permit.
    UNLISTED_REDIRECT = "unlisted-redirect";
    /// Two clients with one id.
    DUPLICATE_CLIENT = "duplicate-client";
    /// A client that could not get tokens the way it is written.
    INVALID_CLIENT = "invalid-client";
    /// A claim that the gateway itself writes into its tokens.
    RESERVED_CLAIM = "reserved-claim";
    /// Something that lasts longer than is good.
    LONG_LIFETIME = "long-lifetime";
    /// Tokens that would be issued over plain HTTP off this machine.
    PLAIN_ISSUER = "plain-issuer";
    /// A store that forgets everything when the process ends.
    RESTART_SIGNS_OUT = "restart-signs-out";
    /// A route among the endpoints of another service.
    ENDPOINT_ROUTE = "endpoint-route";
    /// A store off this machine that would be spoken to in the clear.
    PLAIN_STORE = "plain-store";
    /// A store that cannot be opened.
    STORE_UNUSABLE = "store-unusable";
    /// Callers who could never have the credential that the upstream gets.
    NO_CREDENTIAL = "no-credential";
    /// A setting that cannot change while the process runs.
    NEEDS_RESTART = "needs-restart";
    /// An admin listener off loopback that asks for no token.
    OPEN_ADMIN = "open-admin";
}
