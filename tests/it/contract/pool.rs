//! The part of the contract about keys: free, leased, released, counted.

use std::collections::HashSet;

use futures_util::future::join_all;
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, KeyId, State};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{Leasing, Options, Release, StoreExt};

use super::{Fixture, LEASE_MS, LIFE_MS};

pub(super) async fn a_new_key_is_free<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.advance(5).await;
    let id = f.create().await;
    let info = f.store().get(&id).await.unwrap();
    assert_eq!((info.created_at, info.state), (f.now(), State::Free));
    assert_eq!(info.life_ends, f.now().plus_ms(LIFE_MS));
}

pub(super) async fn a_leased_key_is_blocked_and_shows_since_when<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.advance(7).await;
    let lease = f.lease().await;
    assert_eq!((lease.id, lease.since), (id, f.now()));
    assert_eq!(lease.until, f.now().plus_ms(LEASE_MS));
    f.advance(9).await;
    assert_eq!(f.store().get(&id).await.unwrap().state, State::Leased(lease));
}

pub(super) async fn nothing_is_leased_from_an_empty_store<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.assert_exhausted().await;
    f.assert_unknown(&KeyId::random(&mut rand::rng())).await;
}

pub(super) async fn every_key_is_served_before_none_is_left<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let ids: HashSet<_> = f.store().create(500).await.unwrap().ids.into_iter().collect();
    let mut leased = HashSet::new();
    for _ in 0..500 {
        assert!(leased.insert(f.lease().await.id));
    }
    assert_eq!(leased, ids);
    f.assert_exhausted().await;
}

pub(super) async fn a_released_key_is_served_again<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.lease().await;
    f.store().release(&id, Release::default()).await.unwrap();
    assert!(!f.is_blocked(&id).await);
    assert_eq!(f.lease().await.id, id);
}

pub(super) async fn a_double_release_does_not_put_a_key_into_the_pool_twice<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.lease().await;
    f.store().release(&id, Release::default()).await.unwrap();
    f.store().release(&id, Release::default()).await.unwrap();
    f.lease().await;
    f.assert_exhausted().await;
}

pub(super) async fn a_release_of_a_free_key_changes_nothing<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let before = f.store().get(&id).await;
    f.advance(5).await;
    f.store().release(&id, Release::default()).await.unwrap();
    assert_eq!(f.store().get(&id).await, before);
    f.lease().await;
    f.assert_exhausted().await;
}

pub(super) async fn a_lease_ends_exactly_after_its_time<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.lease().await;
    f.advance(LEASE_MS - 1).await;
    assert!(f.is_blocked(&id).await);
    f.assert_exhausted().await;
    f.advance(1).await;
    assert!(!f.is_blocked(&id).await);
    assert_eq!(f.lease().await.id, id);
}

pub(super) async fn the_timer_of_a_released_lease_does_not_end_the_next_lease<F: Fixture>() {
    const LEASE_MS: u64 = 3000;
    let settings = Settings { lease_ttl_ms: 3000, ..Settings::default() };
    let f = F::make(Options { settings, ..Options::default() }).await;
    let id = f.create().await;
    f.lease().await;
    f.advance(LEASE_MS - 1).await;
    f.store().release(&id, Release::default()).await.unwrap();
    let second = f.lease().await;
    // The first lease would have ended here.
    for _ in 0..LEASE_MS - 1 {
        f.advance(1).await;
        f.assert_exhausted().await;
    }
    assert_eq!(f.store().get(&id).await.unwrap().state, State::Leased(second));
    f.advance(1).await;
    assert_eq!(f.lease().await.id, id);
}

pub(super) async fn leases_do_not_run_late_under_load<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let ids = f.store().create(5000).await.unwrap().ids;
    for round in 0..10 {
        // All leases end in one moment, and in the same moment all keys are leased again.
        // On a disk those of a hundred wait for one commit.
        let mut leased = HashSet::new();
        for _ in 0..50 {
            let hundred = join_all((0..100).map(|_| f.lease())).await;
            leased.extend(hundred.into_iter().map(|lease| lease.id));
        }
        assert_eq!(leased.len(), 5000, "round {round}");
        f.assert_exhausted().await;
        f.keep_all_alive(&ids).await;
        f.advance(LEASE_MS).await;
    }
}

pub(super) async fn one_free_key_among_many_leased_is_found<F: Fixture>() {
    let f = F::make(Options { shards: 1024, ..Options::default() }).await;
    let ids = f.store().create(2000).await.unwrap().ids;
    for _ in &ids {
        f.lease().await;
    }
    for id in &ids {
        f.store().release(id, Release::default()).await.unwrap();
        assert_eq!(f.lease().await.id, *id);
    }
}

pub(super) async fn a_full_store_creates_nothing<F: Fixture>() {
    let f = F::make(Options {
        settings: Settings { keys_max: 10, ..Settings::default() },
        ..Options::default()
    })
    .await;
    f.advance(1000).await;
    let ids = f.store().create(8).await.unwrap().ids;
    f.advance(1000).await;
    let full = Error::Full { retry_after_ms: LIFE_MS - 1000 };
    assert_eq!(f.store().create(3).await, Err(full));
    assert_eq!(f.store().stats().await.unwrap().keys, 8);
    f.store().create(2).await.unwrap();
    assert_eq!(f.store().create(1).await, Err(full));
    f.store().delete(&ids[0], Fence::Any).await.unwrap();
    f.store().create(1).await.unwrap();
}

pub(super) async fn generations_of_a_key_never_repeat<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let mut generations = HashSet::new();
    for round in 0..100 {
        assert!(generations.insert(f.lease().await.generation));
        if round % 2 == 0 {
            f.store().release(&id, Release::default()).await.unwrap();
        } else {
            f.advance(LEASE_MS).await;
        }
        f.store().keep_alive(&id).await.unwrap();
    }
}

pub(super) async fn many_keys_are_created_at_once<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let ids: HashSet<_> = f.store().create(10_000).await.unwrap().ids.into_iter().collect();
    assert_eq!(ids.len(), 10_000);
    for id in &ids {
        assert!(!f.is_blocked(id).await);
    }
}

pub(super) async fn many_keys_are_leased_at_once<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let ids: HashSet<_> = f.store().create(500).await.unwrap().ids.into_iter().collect();
    f.advance(3).await;
    let mut leases = f.store().lease_many(Leasing::default(), 200).await.unwrap();
    assert_eq!(leases.len(), 200);
    leases.extend(f.store().lease_many(Leasing::default(), 1000).await.unwrap());
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<HashSet<_>>(), ids);
    for lease in &leases {
        assert_eq!(f.store().get(&lease.id).await.unwrap().state, State::Leased(lease.lease));
        assert_eq!((lease.since, lease.until.ms_since(lease.since)), (f.now(), LEASE_MS));
    }
    f.assert_exhausted().await;
    f.advance(LEASE_MS - 1).await;
    f.assert_exhausted().await;
    f.advance(1).await;
    assert_eq!(f.store().lease_many(Leasing::default(), 501).await.unwrap().len(), 500);
}

pub(super) async fn the_counts_add_up<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.store().create(10).await.unwrap();
    let leased = f.lease().await.id;
    f.lease().await;
    f.store().delete(&leased, Fence::Any).await.unwrap();
    let stats = f.store().stats().await.unwrap();
    assert_eq!((stats.keys, stats.free), (9, 8));
}
