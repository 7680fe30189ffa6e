//! Two who redeem one code at the same time, at the worst moment.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::world::*;
use crate::engine::store::{Added, Cursor, Name, Page, Row, Store, StoreError, Table};
use crate::stores::memory::Memory;

/// Tells that it is there, and waits.
type Pause = (oneshot::Sender<()>, oneshot::Receiver<()>);

/// A store that says when it has replaced a code, and does not go on before it is told.
#[derive(Debug)]
struct Pausing {
    inner: Memory,
    pause: Arc<Mutex<Option<Pause>>>,
}

#[async_trait]
impl Store for Pausing {
    async fn add(&self, table: Table, name: &Name, row: Row) -> Result<Added, StoreError> {
        self.inner.add(table, name, row).await
    }
    async fn get(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, name).await
    }
    async fn take(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.take(table, name).await
    }
    async fn replace(&self, table: Table, name: &Name, before: &[u8], row: Row) -> Result<bool, StoreError> {
        let replaced = self.inner.replace(table, name, before, row).await?;
        let pause = if table == Table::Codes { self.pause.lock().unwrap().take() } else { None };
        if let Some((there, on)) = pause {
            there.send(()).unwrap();
            on.await.unwrap();
        }
        Ok(replaced)
    }
    async fn rename(&self, table: Table, name: &Name, before: &[u8], to: &Name, row: Row) -> Result<bool, StoreError> {
        self.inner.rename(table, name, before, to, row).await
    }
    async fn page(&self, table: Table, from: Option<&Cursor>) -> Result<Page, StoreError> {
        self.inner.page(table, from).await
    }
    async fn changes(&self, table: Table) -> Result<u64, StoreError> {
        self.inner.changes(table).await
    }
}

#[tokio::test]
async fn h03_a_second_redemption_in_the_middle_of_the_first_ends_what_the_first_gave() {
    let pause: Arc<Mutex<Option<Pause>>> = Arc::default();
    let shared = Arc::clone(&pause);
    let world = World::over(|clock| Arc::new(Pausing { inner: Memory::new(clock), pause: shared }));
    let code = code(&world, &mut Jar::new()).await;
    let ((there, reached), (go, on)) = (oneshot::channel(), oneshot::channel());
    *pause.lock().unwrap() = Some((there, on));
    let form = redemption(&code);
    let second = async {
        reached.await.unwrap();
        let refused = read(&world.token(&form).await);
        go.send(()).unwrap();
        refused
    };
    let (first, refused) = tokio::join!(world.token(&form), second);
    assert_eq!(refused["error"], "invalid_grant");
    let first = read(&first);
    let token = first["refresh_token"].as_str().expect("its answer was under way already");
    let client: String = url::form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect();
    let form = format!("grant_type=refresh_token&client_id={client}&refresh_token={token}");
    assert_eq!(read(&world.token(&form).await)["error"], "invalid_grant", "there is no grant any more");
}
