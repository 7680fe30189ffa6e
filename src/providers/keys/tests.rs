//! The life of a key store, with a source that fails and changes at will.

use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::engine::clock::Clock;
use crate::engine::fetch::{Fetch, FetchError};
use crate::oauth::jws::Algorithm;
use crate::oauth::testing::{P256, RSA};

#[derive(Debug, Default)]
struct Skewed(AtomicU64);

impl Clock for Skewed {
    fn unix(&self) -> i64 {
        0
    }

    fn monotonic(&self) -> Instant {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *START + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct NoFetch;

#[async_trait]
impl Fetch for NoFetch {
    async fn get(&self, url: &url::Url) -> Result<bytes::Bytes, FetchError> {
        Err(FetchError { url: url.to_string(), cause: "not here".into() })
    }

    async fn send(
        &self,
        _: crate::engine::fetch::Target,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<bytes::Bytes>, FetchError> {
        Err(FetchError { url: request.uri().to_string(), cause: "not here".into() })
    }
}

/// A source that serves what it was last told to, and counts.
#[derive(Debug, Clone, Default)]
struct Fake {
    serves: Arc<StdMutex<Option<String>>>,
    fetches: Arc<AtomicUsize>,
}

impl Fake {
    fn serve(&self, kids: &[&str]) {
        let keys: Vec<_> = kids
            .iter()
            .map(|kid| if kid.starts_with('r') { RSA.jwk(Some(kid)) } else { P256.jwk(Some(kid)) })
            .collect();
        *self.serves.lock().unwrap() = Some(serde_json::json!({ "keys": keys }).to_string());
    }

    fn fail(&self) {
        *self.serves.lock().unwrap() = None;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl KeySource for Fake {
    async fn fetch(&self) -> Result<KeySet, String> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let served = self.serves.lock().unwrap().clone().ok_or("down")?;
        KeySet::from_jwks(served.as_bytes(), &[Algorithm::Rs256, Algorithm::Es256]).map_err(|error| error.to_string())
    }
}

const TIMES: KeyTimes = KeyTimes {
    refresh: Duration::from_secs(3600),
    cool_down: Duration::from_secs(30),
    max_stale: Duration::from_secs(1000),
};

struct Scene {
    fake: Fake,
    clock: Arc<Skewed>,
    store: Arc<KeyStore>,
}

async fn scene(kids: Option<&[&str]>) -> Scene {
    let (fake, clock) = (Fake::default(), Arc::new(Skewed::default()));
    if let Some(kids) = kids {
        fake.serve(kids);
    }
    let surroundings =
        Surroundings { fetch: Arc::new(NoFetch), clock: clock.clone(), runtime: tokio::runtime::Handle::current() };
    let store = KeyStore::start("test", Box::new(fake.clone()), TIMES, &surroundings);
    tokio::time::sleep(Duration::from_millis(50)).await;
    Scene { fake, clock, store }
}

impl Scene {
    async fn asks(&self, kid: &str) -> Result<(), Reason> {
        let algorithm = if kid.starts_with('r') { Algorithm::Rs256 } else { Algorithm::Es256 };
        let header = Header { algorithm, kid: Some(kid.to_owned()), token_type: None };
        self.store.select(&header).await.map(drop).map_err(|denial| denial.reason)
    }

    fn pass(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn j03_keys_are_fetched_ahead_and_a_flood_of_unknown_kids_costs_one_fetch_per_cool_down() {
    let scene = scene(Some(&["r1"])).await;
    assert_eq!(scene.fake.fetches(), 1, "ahead of any token");
    assert_eq!(scene.asks("r1").await, Ok(()));
    for n in 0..100 {
        assert_eq!(scene.asks(&format!("e-unknown-{n}")).await, Err(Reason::KeyUnknown));
    }
    assert_eq!(scene.fake.fetches(), 2);
    scene.pass(31);
    let flood = (0..50).map(|n| {
        let store = Arc::clone(&scene.store);
        let header = Header { algorithm: Algorithm::Es256, kid: Some(format!("e{n}")), token_type: None };
        tokio::spawn(async move { store.select(&header).await.is_err() })
    });
    for one in flood.collect::<Vec<_>>() {
        assert!(one.await.unwrap());
    }
    assert_eq!(scene.fake.fetches(), 3);
    assert_eq!(scene.asks("r1").await, Ok(()), "the known key is never in the way");
}

#[tokio::test]
async fn j04_a_new_key_is_found_and_a_removed_one_is_gone() {
    let scene = scene(Some(&["r1"])).await;
    let generation = scene.store.generation();
    scene.fake.serve(&["r1", "e2"]);
    assert_eq!(scene.asks("e2").await, Ok(()));
    assert_ne!(scene.store.generation(), generation, "facts verified before do not count any more");
    scene.pass(31);
    scene.fake.serve(&["e2"]);
    assert_eq!(scene.asks("x").await, Err(Reason::KeyUnknown));
    assert_eq!(scene.asks("r1").await, Err(Reason::KeyUnknown), "gone by a successful fetch");
    let generation = scene.store.generation();
    scene.pass(31);
    assert_eq!(scene.asks("x").await, Err(Reason::KeyUnknown));
    assert_eq!(scene.store.generation(), generation, "the same keys are the same generation");
}

#[tokio::test]
async fn j04_last_good_keys_serve_through_an_outage_and_then_503() {
    let scene = scene(Some(&["r1"])).await;
    scene.fake.fail();
    scene.pass(900);
    assert_eq!(scene.asks("r1").await, Ok(()));
    assert_eq!(scene.asks("e9").await, Err(Reason::KeyUnknown));
    assert_eq!(scene.asks("r1").await, Ok(()), "a fetch that fails takes no key away");
    scene.fake.serve(&[]);
    scene.pass(31);
    assert_eq!(scene.asks("e9").await, Err(Reason::KeyUnknown));
    assert_eq!(scene.asks("r1").await, Ok(()), "an empty set is no success");
    scene.fake.fail();
    scene.pass(200);
    assert_eq!(scene.asks("r1").await, Err(Reason::ProviderUnavailable), "not 401: the token is not at fault");
    scene.fake.serve(&["r1"]);
    scene.pass(31);
    assert_eq!(scene.asks("r1").await, Ok(()), "it heals");
}

#[tokio::test]
async fn j04_without_any_keys_the_answer_is_503_and_it_heals() {
    let scene = scene(None).await;
    let header = Header { algorithm: Algorithm::Rs256, kid: None, token_type: None };
    let denial = scene.store.select(&header).await.unwrap_err();
    assert_eq!(denial.reason, Reason::ProviderUnavailable);
    assert!(denial.retry_after.is_some());
    scene.fake.serve(&["r1"]);
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(scene.asks("r1").await, Ok(()), "the background fetch is tried again by itself");
}

#[tokio::test]
async fn background_work_ends_with_the_store() {
    let Scene { fake, store, .. } = scene(None).await;
    drop(store);
    let fetches = fake.fetches();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(fake.fetches() <= fetches + 1);
}
