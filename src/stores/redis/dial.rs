//! How a connection is made: to one server, to the master that sentinels name, or to a cluster.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::AsyncDNSResolver;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates, Value, cmd,
};
use tokio::net::lookup_host;

use super::ANSWER;
use super::settings::{Address, Login, RedisSettings, Servers};

/// To connect, with TLS and the login.
const CONNECT: Duration = Duration::from_secs(1);
/// A node of a cluster that sends a command to another is followed so often.
const REDIRECTS: u32 = 3;

/// A connection that many requests share.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    One(MultiplexedConnection),
    /// To the nodes of a cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl RedisSettings {
    /// Makes a connection.
    ///
    /// # Errors
    /// No server can be reached, or it does not let the gateway in.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        match &self.servers {
            Servers::One(address) => self.one(address, &self.login, self.database).await.map(Connection::One),
            Servers::Sentinel { master, sentinels, login } => {
                self.master(master, sentinels, login).await.map(Connection::One)
            }
            Servers::Cluster(nodes) => self.cluster(nodes)?.get_async_connection().await.map(Connection::Cluster),
        }
    }

    async fn one(&self, address: &Address, login: &Login, database: u16) -> RedisResult<MultiplexedConnection> {
        let info = self.info(address, login, database)?;
        let mut config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        if !self.tls {
            config = config.set_dns_resolver(Loopback);
        }
        Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// The master, by the first sentinel that knows one which says so itself.
    async fn master(&self, group: &str, sentinels: &[Address], login: &Login) -> RedisResult<MultiplexedConnection> {
        let mut failed: Option<RedisError> = None;
        // One that does not answer shall not stand in the way of the others for ever.
        let first = rand::random_range(0..sentinels.len().max(1));
        for sentinel in sentinels.iter().cycle().skip(first).take(sentinels.len()) {
            match self.master_by(sentinel, group, login).await {
                Ok(connection) => return Ok(connection),
                // What one says tells more than that another cannot be reached.
                Err(error) if error.is_io_error() && failed.is_some() => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| unusable("no sentinel knows the master")))
    }

    async fn master_by(&self, sentinel: &Address, group: &str, login: &Login) -> RedisResult<MultiplexedConnection> {
        let mut asked = self.one(sentinel, login, 0).await?;
        let found: Option<(String, u16)> =
            cmd("SENTINEL").arg("get-master-addr-by-name").arg(group).query_async(&mut asked).await?;
        let (host, port) = found.ok_or_else(|| unusable("the sentinel does not know the master's name"))?;
        let address = Address { host, port };
        let mut connection = self.one(&address, &self.login, self.database).await?;
        let role: Vec<Value> = cmd("ROLE").query_async(&mut connection).await?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
            _ => Err(unusable("what the sentinel calls the master is none")),
        }
    }

    fn cluster(&self, nodes: &[Address]) -> RedisResult<ClusterClient> {
        let infos: RedisResult<Vec<_>> = nodes.iter().map(|node| self.info(node, &self.login, 0)).collect();
        let mut builder =
            ClusterClientBuilder::new(infos?).retries(REDIRECTS).connection_timeout(CONNECT).response_timeout(ANSWER);
        builder = if self.tls { builder.certs(self.certificates()) } else { builder.async_dns_resolver(Loopback) };
        builder.build()
    }

    fn info(&self, address: &Address, login: &Login, database: u16) -> RedisResult<ConnectionInfo> {
        let Address { host, port } = address.clone();
        let info = if self.tls {
            let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            Client::build_with_tls(address, self.certificates())?.get_connection_info().clone()
        } else {
            ConnectionAddr::Tcp(host, port).into_connection_info()?
        };
        let mut redis = RedisConnectionInfo::default()
            .set_db(database.into())
            .set_lib_name("portcullis", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &login.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &login.password {
            let password = std::str::from_utf8(password.secret.expose());
            redis = redis.set_password(password.map_err(|_| unusable("the password is not UTF-8"))?);
        }
        Ok(info.set_redis_settings(redis))
    }

    fn certificates(&self) -> TlsCertificates {
        let pem = |der: &Vec<u8>| {
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
        };
        let root_cert = self.ca.as_ref().map(|ca| ca.iter().map(pem).collect::<String>().into_bytes());
        TlsCertificates { client_tls: None, root_cert }
    }
}

/// Finds addresses of this machine alone: without TLS nothing leaves it, whatever servers sentinels and nodes name.
struct Loopback;

impl AsyncDNSResolver for Loopback {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let mut found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
            found.retain(|address| address.ip().to_canonical().is_loopback());
            if found.is_empty() {
                return Err(unusable("a server off loopback is named, and there is no TLS"));
            }
            Ok(Box::new(found.into_iter()) as Box<_>)
        })
    }
}

pub(super) fn unusable(cause: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, cause))
}
