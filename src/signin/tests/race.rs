//! Two who redeem one code at the same time, at the worst moment.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::world::*;
use crate::engine::store::{Store, Table};
use crate::stores::faulty::{Around, Faulty, Verb};
use crate::stores::memory::Memory;

/// Tells that it is there, and waits.
type Pause = (oneshot::Sender<()>, oneshot::Receiver<()>);

/// Has a store say when it has replaced a code, and not go on before it is told.
#[derive(Debug)]
struct Pausing {
    inner: Arc<Memory>,
    pause: Arc<Mutex<Option<Pause>>>,
}

#[async_trait]
impl Around for Pausing {
    fn within(&self) -> Arc<dyn Store> {
        Arc::clone(&self.inner) as Arc<dyn Store>
    }

    async fn after(&self, verb: Verb, table: Table) {
        let is_it = verb == Verb::Replace && table == Table::Codes;
        let pause = if is_it { self.pause.lock().unwrap().take() } else { None };
        if let Some((there, on)) = pause {
            there.send(()).unwrap();
            on.await.unwrap();
        }
    }
}

#[tokio::test]
async fn h03_a_second_redemption_in_the_middle_of_the_first_ends_what_the_first_gave() {
    let pause: Arc<Mutex<Option<Pause>>> = Arc::default();
    let shared = Arc::clone(&pause);
    let world = World::over(|clock| Arc::new(Faulty(Pausing { inner: Arc::new(Memory::new(clock)), pause: shared })));
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
