//! Where the state of sign-in flows is kept: clients, flows, codes, grants, consents, revocations, signing keys; and who made
//! which task of a server.
//!
//! A store is a bounded map with expiry and three atomic verbs. It knows neither what rows mean nor what their names were:
//! [`Vault`](super::vault::Vault) names rows by keyed hashes and seals their values before a store sees them.

use async_trait::async_trait;

/// The name of a row: a keyed hash of what it is about.
pub type Name = [u8; 32];

macro_rules! tables {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $most:literal, $share:literal;)*) => {
        /// A kind of row. The list is closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Table { $($(#[doc = $doc])* $variant,)* }

        impl Table {
            /// Every table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $name,)* } }

            /// Rows at most. A table at its bound takes no new row and forgets none before its time.
            #[must_use]
            pub fn most(self) -> usize { match self { $(Self::$variant => $most,)* } }

            /// Rows of one owner (an address) at most, so that nobody uses a table up for others.
            #[must_use]
            pub fn share(self) -> usize { match self { $(Self::$variant => $share,)* } }
        }
    };
}

tables! {
    /// Clients that registered by themselves (RFC 7591).
    Clients = "clients", 20_000, 1_000;
    /// Sign-ins on their way through a provider.
    Flows = "flows", 100_000, 2_000;
    /// Authorization codes, unused and just used.
    Codes = "codes", 100_000, 2_000;
    /// Grants: what a person let a client do, with its refresh tokens.
    Grants = "grants", 1_000_000, 100_000;
    /// Consents that are remembered.
    Consents = "consents", 200_000, 2_000;
    /// Signed-in browsers of the local provider.
    Logins = "logins", 100_000, 2_000;
    /// Assertions of clients that were used (RFC 7523 section 3, `jti`).
    Assertions = "assertions", 100_000, 50_000;
    /// What is revoked before its time.
    Revocations = "revocations", 200_000, 190_000;
    /// Who made which task.
    Tasks = "tasks", 200_000, 10_000;
    /// The keys that sign tokens, and a mark by which the store is known again.
    Keys = "keys", 16, 16;
}

/// A row to be written.
#[derive(Debug, Clone)]
pub struct Row {
    /// The sealed value.
    pub value: Vec<u8>,
    /// When it is gone, in seconds since the epoch.
    pub expires: i64,
    /// Whose share of the table it takes.
    pub owner: Name,
}

/// What became of a row that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    New,
    /// A row of this name was there and stays as it was.
    Taken,
    /// The table, or the owner's share of it, is full.
    Full,
}

/// Where a reading of a table goes on. Only the store that gave it knows what it means.
pub type Cursor = Vec<u8>;

/// A part of a table.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Rows with their names, in no order.
    pub rows: Vec<(Name, Row)>,
    /// Where the next part begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// The store cannot be asked. Nothing is known then, and whoever needs to know refuses.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store cannot be reached: {0}")]
pub struct StoreError(pub String);

/// Keeps rows until they expire. Every verb is atomic; a row is gone at its time, to the second.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Adds a row if none of this name is there.
    ///
    /// # Errors
    /// The store cannot be asked.
    async fn add(&self, table: Table, name: &Name, row: Row) -> Result<Added, StoreError>;

    /// The value of a row.
    ///
    /// # Errors
    /// The store cannot be asked.
    async fn get(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError>;

    /// Takes a row away. Of many callers at once, one gets it.
    ///
    /// # Errors
    /// The store cannot be asked.
    async fn take(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces a row whose value is still `before`. Returns whether it was.
    ///
    /// # Errors
    /// The store cannot be asked.
    async fn replace(&self, table: Table, name: &Name, before: &[u8], row: Row) -> Result<bool, StoreError>;

    /// Replaces a row whose value is still `before` by one of another name, unless there is one of that name. Returns
    /// whether it did.
    ///
    /// # Errors
    /// The store cannot be asked.
    async fn rename(&self, table: Table, name: &Name, before: &[u8], to: &Name, row: Row) -> Result<bool, StoreError>;

    /// A part of a table, from its begin or from where another part ended. A row that is there from the first part to the
    /// last is in one of them at least.
    ///
    /// # Errors
    /// The store cannot be asked, or the cursor is none of its own.
    async fn page(&self, table: Table, from: Option<&Cursor>) -> Result<Page, StoreError>;

    /// A number that is another one whenever a row of the table was added, replaced or taken; that rows expire does not
    /// change it.
    ///
    /// # Errors
    /// The store cannot be asked.
    async fn changes(&self, table: Table) -> Result<u64, StoreError>;

    /// Why it cannot be asked at the moment, as far as that is known without asking.
    fn trouble(&self) -> Option<String> {
        None
    }
}
