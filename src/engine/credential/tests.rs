use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::engine::clock::{Clock, SetClock};

const LIVES: i64 = 1000;

/// Gives `N:SUBJECT`, counting.
#[derive(Debug)]
struct Giver {
    clock: Arc<SetClock>,
    given: AtomicUsize,
    refuses: Mutex<Option<Reason>>,
    takes: Duration,
    lives: i64,
}

#[async_trait]
impl Obtain for Giver {
    async fn obtain(&self, caller: Option<&Caller>) -> Result<Obtained, Denial> {
        let number = self.given.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.takes).await;
        if let Some(reason) = *self.refuses.lock().unwrap() {
            return Err(Denial::new(reason));
        }
        let subject = caller.and_then(|caller| caller.identity.subject.clone());
        let text = format!("{number}:{}", subject.as_deref().unwrap_or("all"));
        Ok(Obtained::lasting(text, self.clock.unix(), Some(self.lives)))
    }
}

struct Scene {
    clock: Arc<SetClock>,
    giver: Arc<Giver>,
    cache: Arc<CredentialCache>,
    credentials: Arc<Credentials>,
}

impl Scene {
    fn new(holder: Holder, takes: Duration, lives: i64) -> Self {
        let clock = Arc::new(SetClock(AtomicI64::new(10_000)));
        let refuses = Mutex::default();
        let giver = Arc::new(Giver { clock: Arc::clone(&clock), given: AtomicUsize::new(0), refuses, takes, lives });
        let cache = Arc::new(CredentialCache::new(Arc::<SetClock>::clone(&clock)));
        let credentials = Arc::new(credentials(holder, &giver, &cache));
        Self { clock, giver, cache, credentials }
    }

    async fn get(&self, token: &str) -> Result<String, Denial> {
        get(&self.credentials, token).await
    }

    fn given(&self) -> usize {
        self.giver.given.load(Ordering::SeqCst)
    }

    fn at(&self, seconds: i64) {
        self.clock.0.store(10_000 + seconds, Ordering::SeqCst);
    }

    fn refuses(&self, reason: Option<Reason>) {
        *self.giver.refuses.lock().unwrap() = reason;
    }

    async fn landed(&self, given: usize) {
        while self.given() < given || self.cache.counted().1 > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn credentials(holder: Holder, giver: &Arc<Giver>, cache: &Arc<CredentialCache>) -> Credentials {
    let obtain = Arc::<Giver>::clone(giver);
    Credentials::new(Kind::ClientCredentials, holder, "Bearer ".to_owned(), obtain, cache, Handle::current())
}

async fn get(credentials: &Credentials, token: &str) -> Result<String, Denial> {
    let identity = Identity { issuer: "i".into(), subject: Some(token.into()), ..Identity::anonymous() };
    let identity = Arc::new(identity);
    let value = credentials.get(Who { token: Some(token), identity: &identity, issuing: None }).await?;
    assert!(value.is_sensitive(), "no log shows it");
    Ok(value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn p05_one_flight_serves_all_who_wait_and_the_warm_path_asks_nobody() {
    let scene = Scene::new(Holder::Service, Duration::from_millis(20), LIVES);
    let all = (0..50).map(|number| {
        let credentials = Arc::clone(&scene.credentials);
        tokio::spawn(async move { get(&credentials, &format!("t{number}")).await })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap().unwrap(), "Bearer 0:all");
    }
    scene.at(LIVES / 2);
    for _ in 0..100 {
        assert_eq!(scene.get("t").await.unwrap(), "Bearer 0:all");
    }
    assert_eq!((scene.given(), scene.cache.counted()), (1, (1, 0)));
}

#[tokio::test]
async fn p05_a_credential_is_renewed_ahead_and_never_used_past_its_time() {
    let scene = Scene::new(Holder::Service, Duration::from_millis(20), LIVES);
    assert_eq!(scene.get("t").await.unwrap(), "Bearer 0:all");
    // 1000 seconds: not used in the last 30, renewed 250 before that.
    scene.at(719);
    assert_eq!(scene.get("t").await.unwrap(), "Bearer 0:all");
    assert_eq!(scene.given(), 1);
    scene.at(720);
    assert_eq!(scene.get("t").await.unwrap(), "Bearer 0:all", "nobody waits for the next one");
    scene.landed(2).await;
    assert_eq!(scene.get("t").await.unwrap(), "Bearer 1:all");

    // The giver is down while it should be renewed: what is there serves to its end and no longer.
    scene.refuses(Some(Reason::CredentialUnavailable));
    scene.at(720 + 720);
    assert_eq!(scene.get("t").await.unwrap(), "Bearer 1:all");
    scene.landed(3).await;
    scene.at(720 + 969);
    assert_eq!(scene.get("t").await.unwrap(), "Bearer 1:all");
    assert_eq!(scene.given(), 3, "nobody asks again at once");
    scene.at(720 + 970);
    assert_eq!(scene.get("t").await.unwrap_err().reason, Reason::CredentialUnavailable);
}

#[tokio::test]
async fn p05_a_credential_belongs_to_one_token_and_one_service() {
    let scene = Scene::new(Holder::Caller, Duration::ZERO, LIVES);
    assert_eq!(scene.get("alice").await.unwrap(), "Bearer 0:alice");
    assert_eq!(scene.get("bob").await.unwrap(), "Bearer 1:bob");
    assert_eq!(scene.get("alice").await.unwrap(), "Bearer 0:alice");
    assert_eq!(scene.get("alice2").await.unwrap(), "Bearer 2:alice2", "another token is another caller");
    let other = credentials(Holder::Caller, &scene.giver, &scene.cache);
    assert_eq!(get(&other, "alice").await.unwrap(), "Bearer 3:alice", "of another service, or under other settings");
    let nobody = Arc::new(Identity::anonymous());
    let nobody = other.get(Who { token: None, identity: &nobody, issuing: None }).await;
    assert_eq!(nobody.unwrap_err().reason, Reason::CredentialRefused);
    assert_eq!(scene.given(), 4, "nothing is asked for nobody");
}

#[tokio::test]
async fn p05_what_was_not_had_is_not_asked_for_again_at_once() {
    let scene = Scene::new(Holder::Caller, Duration::ZERO, LIVES);
    scene.refuses(Some(Reason::CredentialRefused));
    for _ in 0..20 {
        assert_eq!(scene.get("alice").await.unwrap_err().reason, Reason::CredentialRefused);
    }
    assert_eq!(scene.given(), 1);
    scene.refuses(None);
    assert_eq!(scene.get("bob").await.unwrap(), "Bearer 1:bob", "it is one caller's matter");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(scene.get("alice").await.unwrap(), "Bearer 2:alice");
}

#[tokio::test]
async fn p06_a_refused_credential_is_not_shown_again_and_its_successor_stays_for_a_while() {
    let scene = Scene::new(Holder::Service, Duration::ZERO, LIVES);
    let value = |number: usize| HeaderValue::try_from(format!("Bearer {number}:all")).unwrap();
    scene.get("t").await.unwrap();
    scene.credentials.refused(Some("t"), &value(7));
    assert_eq!(scene.get("t").await.unwrap(), "Bearer 0:all", "another one was refused");
    scene.credentials.refused(Some("t"), &value(0));
    assert_eq!(scene.get("t").await.unwrap(), "Bearer 1:all");
    for _ in 0..20 {
        scene.credentials.refused(Some("t"), &value(1));
        assert_eq!(scene.get("t").await.unwrap(), "Bearer 1:all");
    }
    assert_eq!(scene.given(), 2, "an upstream that refuses everything does not wear out the giver");
}

#[tokio::test]
async fn p05_who_goes_away_stops_nobody_and_nothing_stays_behind() {
    let scene = Scene::new(Holder::Caller, Duration::from_millis(50), LIVES);
    let cut = tokio::time::timeout(Duration::from_millis(5), scene.get("alice")).await;
    assert!(cut.is_err(), "it takes longer");
    assert_eq!(scene.get("alice").await.unwrap(), "Bearer 0:alice");
    assert_eq!((scene.given(), scene.cache.counted()), (1, (1, 0)));
}

#[tokio::test]
async fn p05_memory_is_bounded_whatever_the_callers() {
    let scene = Scene::new(Holder::Caller, Duration::ZERO, LIVES);
    let cache = &scene.cache;
    for number in 0..6000_u32 {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        let large = Obtained::lasting("x".repeat(16 * 1024), scene.clock.unix(), Some(LIVES));
        cache.keep(&(hash, 0), "Bearer ", Ok(large), None).map(drop).unwrap();
    }
    let (kept, _) = cache.counted();
    assert!((3000..4200).contains(&kept), "{kept}");
}

#[test]
fn times_are_those_of_the_token_within_bounds() {
    let times = |seconds| {
        let obtained = Obtained::lasting(String::new(), 0, seconds);
        (obtained.renew, obtained.until)
    };
    assert_eq!(times(Some(3600)), (3270, 3570));
    assert_eq!(times(Some(60)), (39, 54));
    assert_eq!(times(Some(1)), (1, 1));
    assert_eq!(times(None), times(Some(60)), "a token that does not say how long it lives is taken to live a minute");
    assert_eq!(times(Some(i64::MAX)), times(Some(24 * 3600)));
    assert_eq!(Obtained::lasting(String::new(), 0, Some(3600)).ending(100).until, 100);
}

#[tokio::test]
async fn p05_what_has_ended_or_fits_no_header_is_refused() {
    let scene = Scene::new(Holder::Service, Duration::ZERO, LIVES);
    let keep = |text: &str, until| {
        scene.cache.keep(&([0; 32], 9), "", Ok(Obtained { text: text.to_owned(), until, renew: 0 }), None).map(drop)
    };
    assert!(keep("good", scene.clock.unix() + 1).is_ok());
    for (text, until) in [("good", scene.clock.unix()), ("two\r\nlines: x", scene.clock.unix() + 100)] {
        assert_eq!(keep(text, until).unwrap_err().reason, Reason::CredentialRefused, "{text:?}");
    }
}

#[tokio::test]
async fn p05_nothing_stays_of_a_grant_that_is_revoked() {
    let scene = Scene::new(Holder::Caller, Duration::ZERO, LIVES);
    let clock: Arc<dyn Clock> = Arc::<SetClock>::clone(&scene.clock);
    let store = Arc::new(crate::stores::memory::Memory::new(Arc::clone(&clock)));
    let vault = crate::engine::vault::Vault::new(store, clock, &[]).unwrap();
    for (number, grant) in [Some("over"), Some("good"), None].into_iter().enumerate() {
        let hash = [u8::try_from(number).unwrap(); 32];
        let obtained = Obtained::lasting("t".to_owned(), scene.clock.unix(), Some(LIVES));
        scene.cache.keep(&(hash, 0), "", Ok(obtained), grant.map(Into::into)).map(drop).unwrap();
    }
    let revocations = crate::engine::revocations::Revocations::default();
    scene.cache.drop_revoked(&revocations);
    assert_eq!(scene.cache.counted().0, 3);
    revocations.revoke(&vault, "over", 60).await.unwrap();
    scene.cache.drop_revoked(&revocations);
    assert_eq!(scene.cache.counted().0, 2);
}
