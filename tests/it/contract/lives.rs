//! The part of the contract about lives: their ends, keep-alives and deletions.

use std::collections::HashSet;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, State};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{Leasing, Options, Release, StoreExt};

use super::{Fixture, LEASE_MS, LIFE_MS};

pub(super) async fn a_key_dies_exactly_after_its_life<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.advance(LIFE_MS - 1).await;
    assert!(f.store().get(&id).await.is_ok());
    f.advance(1).await;
    f.assert_unknown(&id).await;
}

pub(super) async fn a_key_past_its_life_is_not_served<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.store().create(10).await.unwrap();
    f.advance(LIFE_MS / 2).await;
    let late: HashSet<_> = f.store().create(10).await.unwrap().ids.into_iter().collect();
    f.advance(LIFE_MS / 2).await;
    for _ in 0..10 {
        assert!(late.contains(&f.lease().await.id));
    }
    f.assert_exhausted().await;
}

pub(super) async fn a_blocked_key_dies_too<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.advance(LIFE_MS - 1).await;
    f.lease().await;
    f.advance(1).await;
    f.assert_unknown(&id).await;
}

pub(super) async fn the_life_of_other_keys_goes_on_after_a_blocked_key_dies<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.create().await;
    f.advance(LIFE_MS - 1).await;
    let dying = f.lease().await.id;
    let other = f.create().await;
    f.lease().await;
    f.advance(LEASE_MS).await;
    assert_eq!(f.store().get(&dying).await, Err(Error::NotFound));
    assert_eq!(f.lease().await.id, other);
    f.advance(LIFE_MS).await;
    f.assert_unknown(&other).await;
}

pub(super) async fn keep_alive_restarts_the_life<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    for _ in 0..10 {
        f.advance(LIFE_MS - 1).await;
        f.store().keep_alive(&id).await.unwrap();
        assert_eq!(f.store().get(&id).await.unwrap().life_ends, f.now().plus_ms(LIFE_MS));
    }
    f.advance(LIFE_MS - 1).await;
    assert!(f.store().get(&id).await.is_ok());
    f.advance(1).await;
    f.assert_unknown(&id).await;
}

pub(super) async fn keep_alive_moves_neither_creation_nor_lease<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let created_at = f.store().get(&id).await.unwrap().created_at;
    f.advance(10).await;
    let lease = f.lease().await;
    f.advance(LEASE_MS - 1).await;
    f.store().keep_alive(&id).await.unwrap();
    let info = f.store().get(&id).await.unwrap();
    assert_eq!((info.created_at, info.state), (created_at, State::Leased(lease)));
    f.advance(1).await;
    assert!(!f.is_blocked(&id).await);
}

pub(super) async fn neither_lease_nor_release_lengthens_the_life<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    for _ in 0..3 {
        f.advance(LIFE_MS / 4).await;
        f.lease().await;
        f.store().release(&id, Release::default()).await.unwrap();
    }
    f.advance(LIFE_MS / 4 - 1).await;
    assert!(f.store().get(&id).await.is_ok());
    f.advance(1).await;
    f.assert_unknown(&id).await;
}

pub(super) async fn a_deleted_key_is_gone<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.store().delete(&id, Fence::Any).await.unwrap();
    f.assert_unknown(&id).await;
}

pub(super) async fn a_deleted_leased_key_is_gone<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.lease().await;
    f.store().delete(&id, Fence::Any).await.unwrap();
    f.assert_unknown(&id).await;
    f.advance(LEASE_MS).await;
    f.assert_unknown(&id).await;
}

pub(super) async fn dead_keys_make_room<F: Fixture>() {
    let f = F::make(Options {
        settings: Settings { keys_max: 1000, ..Settings::default() },
        ..Options::default()
    })
    .await;
    f.store().create(1000).await.unwrap();
    f.advance(LIFE_MS).await;
    f.store().create(1000).await.unwrap();
    assert_eq!(f.store().stats().await.unwrap().keys, 1000);
}

pub(super) async fn dead_keys_are_not_leased_among_others<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.store().create(300).await.unwrap();
    f.advance(1).await;
    let living: HashSet<_> = f.store().create(10).await.unwrap().ids.into_iter().collect();
    f.advance(LIFE_MS - 1).await;
    let leases = f.store().lease_many(Leasing::default(), 100).await.unwrap();
    assert_eq!(leases.into_iter().map(|lease| lease.id).collect::<HashSet<_>>(), living);
    f.advance(1).await;
    f.assert_exhausted().await;
}
