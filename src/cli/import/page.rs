//! The text of a policy in the making: lines of YAML, and above them what is to be said about them.

use serde_json::Value;

/// Characters of a line of comment.
const WIDTH: usize = 118;

macro_rules! notes {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $kind:ident;)*) => {
        /// What there is to say about a setting. Each has a golden in `tests/golden/import`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Note { $($(#[doc = $doc])* $variant,)* }

        impl Note {
            /// Every note.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub(super) fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }

            fn kind(self) -> Kind { match self { $(Self::$variant => Kind::$kind,)* } }
        }
    };
}

notes! {
    /// Which mode it was, when no variable said so.
    ModeImplied = "mode-implied", Changed;
    /// A mode that never worked.
    HmacProxy = "hmac-proxy", Changed;
    /// The public URL was made from host and port.
    PublicUrlDerived = "public-url-derived", ToDo;
    /// No public URL can be told.
    PublicUrlUnknown = "public-url-unknown", ToDo;
    /// Plain http for everybody on the way.
    PlainHttp = "plain-http", Unsafe;
    /// A default port or a slash that made other URLs of the same place.
    UrlTidied = "url-tidied", Changed;
    /// The server moves behind the gateway.
    UpstreamMoves = "upstream-moves", ToDo;
    /// Certificate and key belong to the installation.
    TlsFiles = "tls-files", ToDo;
    /// One of certificate and key alone.
    TlsHalf = "tls-half", Unsafe;
    /// `iss` was not looked at.
    HmacIssuer = "hmac-issuer", Unsafe;
    /// `exp` was not needed.
    HmacExpiry = "hmac-expiry", Unsafe;
    /// Any length of hash.
    HmacAlgorithms = "hmac-algorithms", Changed;
    /// A secret that can be guessed.
    WeakSecret = "weak-secret", Unsafe;
    /// No secret.
    SecretUnset = "secret-unset", ToDo;
    /// Nobody issues tokens to clients.
    HmacClients = "hmac-clients", Changed;
    /// An issuer over plain http or at an address.
    IssuerUnsafe = "issuer-unsafe", Unsafe;
    /// Another issuer in tokens than in discovery.
    ValidatorIssuer = "validator-issuer", Changed;
    /// An issuer that is a template.
    AzureTenants = "azure-tenants", ToDo;
    /// Tokens for Microsoft Graph.
    AzureGraph = "azure-graph", Changed;
    /// Tokens of an organization's own server.
    OktaOrg = "okta-org", ToDo;
    /// Google's access tokens cannot be verified.
    GoogleNative = "google-native", ToDo;
    /// The same where people sign in.
    GoogleProxy = "google-proxy", Changed;
    /// ID tokens in the place of access tokens.
    IdTokens = "id-tokens", Unsafe;
    /// No audience.
    AudienceMissing = "audience-missing", Changed;
    /// The audience was not looked at.
    AudienceSkipped = "audience-skipped", Unsafe;
    /// A switch that was off for a value that nobody understood.
    SwitchUnread = "switch-unread", Changed;
    /// An audience that every application of the issuer has.
    AudienceIsIssuer = "audience-is-issuer", Unsafe;
    /// An audience that only ID tokens have.
    AudienceIsClient = "audience-is-client", Unsafe;
    /// An audience of tokens that no client sees any more.
    AudienceOwn = "audience-own", Changed;
    /// Settings that did nothing.
    NoEffect = "no-effect", Changed;
    /// The provider's tokens were given to clients.
    ProxyMode = "proxy-mode", Unsafe;
    /// Another callback at the provider.
    CallbackMoves = "callback-moves", ToDo;
    /// A client without a secret.
    PublicClient = "public-client", Changed;
    /// `openid` was not asked for.
    ScopesOpenid = "scopes-openid", Changed;
    /// Scopes that are for sign-in.
    ScopesIdentity = "scopes-identity", Changed;
    /// Any program on the person's machine.
    RedirectLoopback = "redirect-loopback", Unsafe;
    /// Any host below a domain.
    RedirectDomains = "redirect-domains", Unsafe;
    /// The server's own callback among those of clients.
    RedirectOwn = "redirect-own", Changed;
    /// A redirect that is never followed.
    RedirectRefused = "redirect-refused", Unsafe;
    /// Tokens and state with one key.
    StateKey = "state-key", Unsafe;
    /// A key that every process made for itself.
    StateKeyRandom = "state-key-random", Unsafe;
    /// Nothing outlives a restart.
    Store = "store", ToDo;
    /// Everything was allowed.
    NoRules = "no-rules", Unsafe;
    /// A variable of the documents alone.
    NeverRead = "never-read", Changed;
    /// A variable that nothing reads.
    Stranger = "stranger", Changed;
}

/// What a note is about.
enum Kind {
    /// Something is not as it was.
    Changed,
    /// Something was unsafe, and is not taken over as it was.
    Unsafe,
    /// Something is left to do.
    ToDo,
}

/// Lines and notes so far.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    /// The notes that were written, in order.
    pub(super) noted: Vec<Note>,
}

impl Page {
    /// Writes one line.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// Writes a comment.
    pub(super) fn comment(&mut self, text: &str) {
        self.wrap("# ", "# ", text);
    }

    /// Writes a note as a comment. `text` may hold values of variables that are no secrets, each through [`quoted`].
    pub(super) fn note(&mut self, note: Note, text: &str) {
        self.noted.push(note);
        let word = match note.kind() {
            Kind::Changed => "note",
            Kind::Unsafe => "unsafe",
            Kind::ToDo => "to do",
        };
        self.wrap(&format!("# {word}[{}]: ", note.name()), "#   ", text);
    }

    /// Says that `portcullis check --deny-warnings` reports `code` for this.
    pub(super) fn check_says(&mut self, code: &str) {
        self.line(format!("#   `portcullis check --deny-warnings` reports `{code}` here."));
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn wrap(&mut self, first: &str, other: &str, text: &str) {
        let mut line = first.to_owned();
        let mut empty = true;
        for word in text.split_whitespace() {
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(line.trim_end());
                other.clone_into(&mut line);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(line.trim_end());
    }
}

/// A text as YAML reads it, on one line and in ASCII whatever it holds.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in Value::from(text).to_string().chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            quoted.push(c);
        } else {
            quoted.push_str(&format!("\\U{:08X}", u32::from(c)));
        }
    }
    quoted
}

/// A list of texts.
pub(super) fn listed<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    format!("[{}]", texts.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}
