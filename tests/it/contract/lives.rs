//! The part of the contract that tells of lives: their ends, keep-alives and deletions.

use std::collections::HashSet;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, State};
use token_orchestrator::store::{Leasing, Options, Release, Store};
use token_orchestrator::time::Clock;

use super::{Fixture, LEASE_MS, LIFE_MS};

pub(super) async fn a_key_dies_exactly_after_its_life<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    f.clock.advance_ms(LIFE_MS - 1);
    assert!(f.store.get(&id).await.is_ok());
    f.clock.advance_ms(1);
    f.assert_unknown(&id).await;
}

pub(super) async fn a_key_past_its_life_is_not_served<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    f.store.create(10).await.unwrap();
    f.clock.advance_ms(LIFE_MS / 2);
    let late: HashSet<_> = f.store.create(10).await.unwrap().ids.into_iter().collect();
    f.clock.advance_ms(LIFE_MS / 2);
    for _ in 0..10 {
        assert!(late.contains(&f.lease().await.id));
    }
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
}

pub(super) async fn a_blocked_key_dies_too<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    f.clock.advance_ms(LIFE_MS - 1);
    f.lease().await;
    f.clock.advance_ms(1);
    f.assert_unknown(&id).await;
}

pub(super) async fn a_dead_key_is_not_revived<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    f.clock.advance_ms(LIFE_MS);
    assert_eq!(f.store.keep_alive(&id).await, Err(Error::NotFound));
    assert_eq!(f.store.release(&id, Release::default()).await, Err(Error::NotFound));
    f.assert_unknown(&id).await;
    f.clock.advance_ms(LEASE_MS);
    f.assert_unknown(&id).await;
}

pub(super) async fn the_life_of_other_keys_goes_on_after_a_blocked_key_dies<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    f.create().await;
    f.clock.advance_ms(LIFE_MS - 1);
    let dying = f.lease().await.id;
    let other = f.create().await;
    f.lease().await;
    f.clock.advance_ms(LEASE_MS);
    assert_eq!(f.store.get(&dying).await, Err(Error::NotFound));
    assert_eq!(f.lease().await.id, other);
    f.clock.advance_ms(LIFE_MS);
    f.assert_unknown(&other).await;
}

pub(super) async fn keep_alive_starts_the_life_anew<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    for _ in 0..10 {
        f.clock.advance_ms(LIFE_MS - 1);
        f.store.keep_alive(&id).await.unwrap();
        assert_eq!(f.store.get(&id).await.unwrap().life_ends, f.clock.now().plus_ms(LIFE_MS));
    }
    f.clock.advance_ms(LIFE_MS - 1);
    assert!(f.store.get(&id).await.is_ok());
    f.clock.advance_ms(1);
    f.assert_unknown(&id).await;
}

pub(super) async fn keep_alive_moves_neither_creation_nor_lease<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    let created_at = f.store.get(&id).await.unwrap().created_at;
    f.clock.advance_ms(10);
    let lease = f.lease().await;
    f.clock.advance_ms(LEASE_MS - 1);
    f.store.keep_alive(&id).await.unwrap();
    let info = f.store.get(&id).await.unwrap();
    assert_eq!((info.created_at, info.state), (created_at, State::Leased(lease)));
    f.clock.advance_ms(1);
    assert!(!f.is_blocked(&id).await);
}

pub(super) async fn neither_lease_nor_release_lengthens_the_life<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    for _ in 0..3 {
        f.clock.advance_ms(LIFE_MS / 4);
        f.lease().await;
        f.store.release(&id, Release::default()).await.unwrap();
    }
    f.clock.advance_ms(LIFE_MS / 4 - 1);
    assert!(f.store.get(&id).await.is_ok());
    f.clock.advance_ms(1);
    f.assert_unknown(&id).await;
}

pub(super) async fn a_deleted_key_is_gone<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    f.store.delete(&id, Fence::Open).await.unwrap();
    f.assert_unknown(&id).await;
}

pub(super) async fn a_deleted_leased_key_is_gone<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    f.lease().await;
    f.store.delete(&id, Fence::Open).await.unwrap();
    f.assert_unknown(&id).await;
    f.clock.advance_ms(LEASE_MS);
    f.assert_unknown(&id).await;
}

pub(super) async fn dead_keys_make_room<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options { keys_max: 1000, ..Options::default() });
    f.store.create(1000).await.unwrap();
    f.clock.advance_ms(LIFE_MS);
    f.store.create(1000).await.unwrap();
    assert_eq!(f.store.stats().await.keys, 1000);
}

pub(super) async fn dead_keys_are_not_leased_among_others<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    f.store.create(300).await.unwrap();
    f.clock.advance_ms(1);
    let living: HashSet<_> = f.store.create(10).await.unwrap().ids.into_iter().collect();
    f.clock.advance_ms(LIFE_MS - 1);
    let leases = f.store.lease_many(Leasing::default(), 100).await.unwrap();
    assert_eq!(leases.into_iter().map(|lease| lease.id).collect::<HashSet<_>>(), living);
    f.clock.advance_ms(1);
    assert_eq!(f.store.lease_many(Leasing::default(), 100).await, Err(Error::Exhausted));
}
