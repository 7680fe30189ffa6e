//! Which servers keep the rows, and how they are reached.

use std::fmt;

use crate::secret::Held;

/// Redis or Valkey as a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// The servers.
    pub servers: Servers,
    /// Whether connections are secured by TLS, to sentinels as well.
    pub tls: bool,
    /// DER of the certificate authorities that are trusted instead of the system's.
    pub ca: Option<Vec<Vec<u8>>>,
    /// Who the gateway is to the servers.
    pub login: Login,
    /// The number of the database; a cluster has only 0.
    pub database: u16,
    /// What stands before every key, so that installations can share servers. Letters, digits, `.`, `_` and `-`.
    pub namespace: String,
}

impl RedisSettings {
    /// Whether both mean the same keys on the same servers, whoever the gateway is to them.
    #[must_use]
    pub fn is_where(&self, other: &Self) -> bool {
        let anyone = |settings: &Self| {
            let mut settings = settings.clone();
            settings.login = Login::default();
            if let Servers::Sentinel { login, .. } = &mut settings.servers {
                *login = Login::default();
            }
            settings
        };
        anyone(self) == anyone(other)
    }
}

/// One server, or how it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// This one.
    One(Address),
    /// The one that sentinels call the master.
    Sentinel {
        /// What the sentinels call the group.
        master: String,
        /// The sentinels.
        sentinels: Vec<Address>,
        /// Who the gateway is to the sentinels.
        login: Login,
    },
    /// Those of a cluster, of which these are some.
    Cluster(Vec<Address>),
}

/// A user with a password; neither is the server's default user without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user of the server's access control list; without one the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Held>,
}

/// A host with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Whether it is this machine, where nobody listens in between.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.parse().map_or(self.host == "localhost", |ip: std::net::IpAddr| ip.to_canonical().is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
