//! Rows in Redis or Valkey, for several replicas: every verb is one script, and the time is the server's.
//!
//! Limits are counted there too, with all replicas, over the same connection.
//!
//! A table lives in one slot of a cluster, because its bounds are counted; tables are spread over the nodes, and so are
//! the limits of services.

mod counts;
mod dial;
mod link;
mod scripts;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, ScriptInvocation, Value, cmd};
use tokio::runtime::Handle;

use crate::engine::store::{Added, Cursor, Name, Page, Row, Store, StoreError, Table};
use counts::Places;
use link::Link;
use scripts::{SERVER_TIME, Scripts};
pub use settings::{Address, Login, RedisSettings, Servers};

/// For one answer of the server.
const ANSWER: Duration = Duration::from_secs(1);
/// Bytes of an owner's name, which stands before the value of a row.
const OWNER: usize = 32;

/// A store in Redis or Valkey.
#[derive(Debug)]
pub struct Redis {
    link: Arc<Link>,
    scripts: Scripts,
    namespace: Arc<str>,
    places: Places,
}

impl Redis {
    /// A store in these servers, whose connection is kept on `runtime`.
    #[must_use]
    pub fn new(settings: RedisSettings, runtime: &Handle) -> Self {
        let namespace: Arc<str> = settings.namespace.as_str().into();
        let link = Arc::new(Link::start(settings, runtime));
        let places = Places::start(Arc::clone(&link), Arc::clone(&namespace), runtime);
        Self { link, scripts: Scripts::new(SERVER_TIME), namespace, places }
    }

    /// Logs in so from the next connection on.
    pub fn renew(&self, settings: &RedisSettings) {
        self.link.renew(settings.clone());
    }

    fn key(&self, table: Table, part: &str) -> String {
        format!("{{{}:{}}}:{part}", self.namespace, table.as_str())
    }

    fn on<'s>(&self, script: &'s Script, table: Table) -> ScriptInvocation<'s> {
        let mut invocation = script.prepare_invoke();
        for part in ["rows", "ends", "owners", "changes"] {
            invocation.key(self.key(table, part));
        }
        invocation
    }

    async fn run<T: redis::FromRedisValue>(&self, invocation: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.link.ask(ANSWER, async |connection| invocation.invoke_async(connection).await).await
    }
}

/// The number of a table after a change. A server that was emptied must not count its way back to a number that was seen.
fn next() -> u64 {
    rand::random()
}

#[async_trait]
impl Store for Redis {
    async fn add(&self, table: Table, name: &Name, row: Row) -> Result<Added, StoreError> {
        let mut add = self.on(&self.scripts.add, table);
        add.arg(name.as_slice()).arg(row.owner.as_slice()).arg(row.value).arg(row.expires);
        add.arg(table.most()).arg(table.share()).arg(next());
        loop {
            match self.run::<u8>(&add).await? {
                0 => return Ok(Added::New),
                1 => return Ok(Added::Taken),
                2 => return Ok(Added::Full),
                _ => {}
            }
        }
    }

    async fn get(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(self.on(&self.scripts.get, table).arg(name.as_slice())).await
    }

    async fn take(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(self.on(&self.scripts.take, table).arg(name.as_slice()).arg(next())).await
    }

    async fn replace(&self, table: Table, name: &Name, before: &[u8], row: Row) -> Result<bool, StoreError> {
        self.rename(table, name, before, name, row).await
    }

    async fn rename(&self, table: Table, name: &Name, before: &[u8], to: &Name, row: Row) -> Result<bool, StoreError> {
        let mut rename = self.on(&self.scripts.rename, table);
        rename.arg(name.as_slice()).arg(before).arg(to.as_slice());
        rename.arg(row.owner.as_slice()).arg(row.value).arg(row.expires).arg(next());
        self.run(&rename).await
    }

    async fn page(&self, table: Table, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let unknown = || StoreError("the cursor is not the store's own".to_owned());
        let from = from.map_or("0", |from| std::str::from_utf8(from).unwrap_or_default());
        let from: u64 = from.parse().map_err(|_| unknown())?;
        let (next, rows): (u64, Vec<(Name, Row)>) = match self.run(self.on(&self.scripts.page, table).arg(from)).await?
        {
            Value::Array(found) => page(&found),
            _ => None,
        }
        .ok_or_else(|| StoreError("the server's answer makes no sense".to_owned()))?;
        Ok(Page { rows, next: (next != 0).then(|| next.to_string().into_bytes()) })
    }

    async fn changes(&self, table: Table) -> Result<u64, StoreError> {
        let key = self.key(table, "changes");
        let ask = async |connection: &mut dial::Connection| cmd("GET").arg(key).query_async(connection).await;
        self.link.ask(ANSWER, ask).await.map(|found: Option<u64>| found.unwrap_or_default())
    }

    fn trouble(&self) -> Option<String> {
        self.link.trouble()
    }
}

fn page(found: &[Value]) -> Option<(u64, Vec<(Name, Row)>)> {
    let bytes = |value: &Value| if let Value::BulkString(bytes) = value { Some(bytes.clone()) } else { None };
    let number = |value: &Value| String::from_utf8(bytes(value)?).ok();
    let (next, rows) = found.split_first()?;
    let next = number(next)?.parse().ok()?;
    let rows = rows.chunks_exact(3).map(|row| {
        let [name, expires, row] = row else { return None };
        let row = bytes(row)?;
        let (owner, value) = row.split_first_chunk::<OWNER>()?;
        let expires = number(expires)?.parse().ok()?;
        Some((bytes(name)?.try_into().ok()?, Row { value: value.to_vec(), expires, owner: *owner }))
    });
    Some((next, rows.collect::<Option<_>>()?))
}

#[cfg(test)]
mod counting_tests;
#[cfg(test)]
mod reaching_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
