//! Revocations over a store that is lost, and one that forgets.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::*;
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::store::{Store, StoreError};
use crate::stores::faulty::{Around, Faulty, Verb};
use crate::stores::memory::Memory;

/// Loses a store, empties it, or lets it take nothing new.
#[derive(Debug)]
struct Frail {
    rows: ArcSwap<Memory>,
    lost: AtomicBool,
    full: AtomicBool,
}

impl Frail {
    fn is_lost(&self, lost: bool) {
        self.lost.store(lost, Ordering::SeqCst);
    }

    fn is_emptied(&self) {
        self.rows.store(Arc::new(Memory::new(Arc::new(SystemClock))));
    }
}

#[async_trait]
impl Around for Frail {
    fn within(&self) -> Arc<dyn Store> {
        self.rows.load_full()
    }

    async fn before(&self, verb: Verb) -> Result<(), StoreError> {
        if verb == Verb::Add && self.full.load(Ordering::SeqCst) {
            return Err(StoreError("OOM".to_owned()));
        }
        if self.lost.load(Ordering::SeqCst) { Err(StoreError("lost".to_owned())) } else { Ok(()) }
    }
}

fn frail() -> (Arc<Faulty<Frail>>, Vault) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rows = ArcSwap::from_pointee(Memory::new(Arc::clone(&clock)));
    let store = Arc::new(Faulty(Frail { rows, lost: AtomicBool::new(false), full: AtomicBool::new(false) }));
    let secret: &[u8] = b"a-secret-of-the-installation-0123456789";
    let vault = Vault::new(Arc::clone(&store) as Arc<dyn Store>, clock, &[secret]).unwrap();
    (store, vault)
}

fn alice(vault: &Vault) -> Revoked {
    let target = Target::Subject { issuer: "i".to_owned(), name: "alice".to_owned() };
    Revoked { target, since: vault.now() - 7, until: vault.now() + 600, issued_before: None }
}

fn covers(revocations: &Revocations, vault: &Vault) -> bool {
    let asker = Asker {
        issuer: "i",
        subject: Some("alice"),
        client: None,
        session: None,
        token: None,
        twin: None,
        issued: Some(0),
    };
    revocations.covers(&asker, vault.now())
}

/// What a gateway does twice a second.
async fn follow(revocations: &Revocations, vault: &Vault) -> Result<(), VaultError> {
    revocations.refresh(vault).await?;
    revocations.save(vault).await
}

#[tokio::test]
async fn h10_a_store_that_was_emptied_lifts_no_revocation_and_holds_it_again() {
    for sooner in [false, true] {
        let (store, vault) = frail();
        let (first, second) = (Revocations::default(), Revocations::default());
        first.put(&vault, alice(&vault)).await.unwrap();
        first.revoke(&vault, "grant", 600).await.unwrap();
        for replica in [&first, &second] {
            follow(replica, &vault).await.unwrap();
        }
        store.0.is_emptied();
        if sooner {
            // Somebody writes before any replica has looked: the table has changed, and is not what it was.
            Revocations::default().revoke(&vault, "another", 600).await.unwrap();
        }
        for replica in [&first, &second] {
            follow(replica, &vault).await.unwrap();
            assert!(covers(replica, &vault) && replica.contains("grant"), "nothing comes back to life");
        }
        let later = Revocations::default();
        later.refresh(&vault).await.unwrap();
        assert!(covers(&later, &vault) && later.contains("grant"), "a replica that starts now learns of it");
        assert_eq!(later.contains("another"), sooner);
        let mut kept = first.list(&vault).await.unwrap();
        kept.retain(|revoked| !revoked.target.is_id());
        assert!(kept.len() == 1 && kept[0].target == alice(&vault).target, "{kept:?}");
        assert!(kept[0].since <= vault.now() - 7, "since when it was");

        assert!(second.lift(&vault, &kept[0].target).await.unwrap());
        for replica in [&first, &second, &later] {
            follow(replica, &vault).await.unwrap();
            assert!(!covers(replica, &vault), "and it can be lifted at any replica");
            assert!(replica.contains("grant"));
        }
    }
}

#[tokio::test]
async fn h10_what_was_revoked_without_the_store_is_saved_when_it_is_back() {
    let (store, vault) = frail();
    let (first, second) = (Revocations::default(), Revocations::default());
    follow(&first, &vault).await.unwrap();
    store.0.is_lost(true);
    first.revoke(&vault, "grant", 600).await.unwrap_err();
    first.put(&vault, alice(&vault)).await.unwrap_err();
    follow(&first, &vault).await.unwrap_err();
    assert!(covers(&first, &vault) && first.contains("grant"), "it is in force here");
    store.0.is_lost(false);
    second.refresh(&vault).await.unwrap();
    assert!(!covers(&second, &vault) && !second.contains("grant"), "and known nowhere else");
    follow(&first, &vault).await.unwrap();
    second.refresh(&vault).await.unwrap();
    assert!(covers(&second, &vault) && second.contains("grant"), "until it is saved");
    assert!(first.unsaved().is_empty());

    // What another replica said later about the same stands.
    store.0.is_lost(true);
    first.put(&vault, alice(&vault)).await.unwrap_err();
    store.0.is_lost(false);
    let later = Revoked { since: vault.now(), until: vault.now() + 900, ..alice(&vault) };
    second.put(&vault, later.clone()).await.unwrap();
    follow(&first, &vault).await.unwrap();
    follow(&first, &vault).await.unwrap();
    let kept = first.list(&vault).await.unwrap();
    assert!(kept.contains(&later), "{kept:?}");
}

#[tokio::test]
async fn what_waits_to_be_saved_is_bounded_and_clients_leave_room_for_an_operator() {
    let (store, vault) = frail();
    let revocations = Revocations::default();
    store.0.is_lost(true);
    for number in 0..Table::Revocations.share() {
        let id = Target::Id(number.to_string());
        revocations.unsaved().insert(id.clone(), Revoked { target: id, ..alice(&vault) });
    }
    assert!(matches!(revocations.revoke(&vault, "one more", 600).await, Err(VaultError::Full)));
    assert!(!revocations.contains("one more"), "it is said that there is no room");
    assert_eq!(revocations.unsaved().len(), Table::Revocations.share());
    assert!(matches!(revocations.put(&vault, alice(&vault)).await, Err(VaultError::Store(_))));
    assert!(covers(&revocations, &vault), "an operator has room");
    store.0.is_lost(false);
    revocations.save(&vault).await.unwrap();
    assert_eq!(revocations.unsaved().len(), Table::Revocations.share() + 1 - AT_ONCE, "in parts");
    let saved = revocations.list(&vault).await.unwrap().len();
    assert_eq!(saved, Table::Revocations.share() + 1);
    let kept = vault.get::<Revoked>(Table::Revocations, &alice(&vault).target.row_name()).await.unwrap();
    assert!(kept.is_some(), "an operator's first");
}

#[tokio::test]
async fn h10_nothing_is_known_before_the_store_was_read() {
    let (store, vault) = frail();
    let revocations = Revocations::default();
    assert!(revocations.are_known(), "without a store there is nothing to read");
    revocations.await_store();
    store.0.is_lost(true);
    follow(&revocations, &vault).await.unwrap_err();
    assert!(!revocations.are_known());
    store.0.is_lost(false);
    follow(&revocations, &vault).await.unwrap();
    assert!(revocations.are_known());
    store.0.is_lost(true);
    follow(&revocations, &vault).await.unwrap_err();
    assert!(revocations.are_known(), "what was known stays known");

    let (store, vault) = frail();
    let revocations = Revocations::default();
    revocations.await_store();
    store.0.full.store(true, Ordering::SeqCst);
    follow(&revocations, &vault).await.unwrap();
    assert!(revocations.are_known(), "one that takes nothing new can be read");
}
