//! The part of the contract about leases: fencing, renewals, how long they last, and cool-downs.

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, State};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{Leasing, Options, Release, Renewal, StoreExt};

use super::{Fixture, LEASE_MS, LIFE_MS};

fn fenced(fence: Fence<'_>) -> Release<'_> {
    Release { fence, ..Release::default() }
}

fn cooling<'a>(cooldown_ms: u32) -> Release<'a> {
    Release { cooldown_ms, ..Release::default() }
}

pub(super) async fn a_former_holder_cannot_release_the_key_of_the_next_one<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let first = [f.lease().await.generation];
    let first = Fence::OneOf(&first);
    f.advance(LEASE_MS).await;
    assert_eq!(
        f.store().release(&id, fenced(first)).await,
        Err(Error::Stale),
        "over, though no client has the key"
    );
    let second = f.lease().await;
    for _ in 0..2 {
        assert_eq!(f.store().release(&id, fenced(first)).await, Err(Error::Stale));
        let renewal = Renewal { fence: first, lease_ms: None };
        assert_eq!(f.store().renew(&id, renewal).await, Err(Error::Stale));
        assert_eq!(f.store().delete(&id, first).await, Err(Error::Stale));
        assert_eq!(f.store().get(&id).await.unwrap().state, State::Leased(second));
    }
    let all = [0, second.generation, 99];
    f.store().release(&id, fenced(Fence::OneOf(&all))).await.unwrap();
    assert!(!f.is_blocked(&id).await);
    assert_eq!(
        f.store().release(&id, fenced(Fence::OneOf(&all))).await,
        Err(Error::Stale),
        "a retry"
    );
    assert_eq!(f.store().stats().await.unwrap().totals.stale_refusals, 8);
}

pub(super) async fn a_fence_guards_a_free_key_too<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let before = [f.store().get(&id).await.unwrap().generation];
    f.lease().await;
    f.store().release(&id, Release::default()).await.unwrap();
    assert_eq!(f.store().delete(&id, Fence::OneOf(&before)).await, Err(Error::Stale));
    assert_eq!(f.store().delete(&id, Fence::OneOf(&[])).await, Err(Error::Stale));
    let now = [f.store().get(&id).await.unwrap().generation];
    f.store().delete(&id, Fence::OneOf(&now)).await.unwrap();
    assert_eq!(f.store().delete(&id, Fence::OneOf(&now)).await, Err(Error::NotFound));
}

pub(super) async fn a_renewal_restarts_the_lease<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let first = f.lease().await;
    for _ in 0..3 {
        f.advance(LEASE_MS - 1).await;
        let renewed = f.store().renew(&id, Renewal::default()).await.unwrap();
        assert_eq!((renewed.id, renewed.generation), (id, first.generation));
        assert_eq!((renewed.since, renewed.until), (f.now(), f.now().plus_ms(LEASE_MS)));
        assert_eq!(f.store().get(&id).await.unwrap().state, State::Leased(renewed));
    }
    f.advance(LEASE_MS - 1).await;
    assert!(f.is_blocked(&id).await);
    f.advance(1).await;
    assert_eq!(f.store().renew(&id, Renewal::default()).await, Err(Error::NotLeased));
    assert_eq!(f.lease().await.id, id);
}

pub(super) async fn only_a_lease_is_renewed<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    assert_eq!(f.store().renew(&id, Renewal::default()).await, Err(Error::NotLeased));
    f.store().release(&id, cooling(10)).await.unwrap();
    assert_eq!(f.store().renew(&id, Renewal::default()).await, Err(Error::NotLeased));
    f.advance(10).await;
    f.lease().await;
    f.advance(LIFE_MS - 10).await;
    assert_eq!(f.store().renew(&id, Renewal::default()).await, Err(Error::NotFound));
}

pub(super) async fn a_renewal_may_cut_a_lease_short<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.lease().await;
    f.store().renew(&id, Renewal { lease_ms: Some(5), ..Renewal::default() }).await.unwrap();
    f.advance(4).await;
    f.assert_exhausted().await;
    f.advance(1).await;
    assert_eq!(f.lease().await.id, id);
}

pub(super) async fn a_lease_lasts_as_long_as_was_asked_for<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    for ms in [1, 7, 100_000, 3] {
        let lease =
            f.store().lease(Leasing { lease_ms: Some(ms), ..Leasing::default() }).await.unwrap();
        assert_eq!(lease.until, f.now().plus_ms(u64::from(ms)));
        f.advance(u64::from(ms) - 1).await;
        assert!(f.is_blocked(&id).await);
        f.assert_exhausted().await;
        f.advance(1).await;
        assert!(!f.is_blocked(&id).await);
    }
}

pub(super) async fn a_key_cools_down_as_long_as_was_asked_for<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let generation = f.lease().await.generation;
    f.advance(5).await;
    f.store().release(&id, cooling(100)).await.unwrap();
    let (since, until) = (f.now(), f.now().plus_ms(100));
    let info = f.store().get(&id).await.unwrap();
    assert_eq!(info.state, State::Cooling { since, until });
    assert!(info.generation > generation);
    assert_eq!(f.store().stats().await.unwrap().cooling, 1);
    f.advance(99).await;
    f.assert_exhausted().await;
    f.advance(1).await;
    assert!(!f.is_blocked(&id).await);
    assert_eq!(f.lease().await.id, id);
    assert_eq!(f.store().stats().await.unwrap().cooling, 0);
}

pub(super) async fn a_free_key_can_cool_down_and_be_released<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.store().release(&id, cooling(100)).await.unwrap();
    f.assert_exhausted().await;
    f.store().release(&id, Release::default()).await.unwrap();
    assert_eq!(f.lease().await.id, id);
    f.assert_exhausted().await;
}

pub(super) async fn a_longer_cool_down_is_not_cut_short<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.store().release(&id, cooling(100)).await.unwrap();
    let long = f.store().get(&id).await;
    f.advance(10).await;
    f.store().release(&id, cooling(90)).await.unwrap();
    assert_eq!(f.store().get(&id).await, long);
    f.store().release(&id, cooling(91)).await.unwrap();
    f.advance(90).await;
    assert!(f.is_blocked(&id).await);
    f.advance(1).await;
    assert!(!f.is_blocked(&id).await);
}

pub(super) async fn a_key_dies_while_it_cools<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    f.store().release(&id, cooling(1_000_000)).await.unwrap();
    f.advance(LIFE_MS).await;
    f.assert_unknown(&id).await;
    assert_eq!(f.retry_after_ms().await, None);
}

pub(super) async fn an_exhausted_store_says_when_a_key_is_free_again<F: Fixture>() {
    let f = F::make(Options::default()).await;
    assert_eq!(f.retry_after_ms().await, None, "there is no key");
    let ids = f.store().create(2).await.unwrap().ids;
    // Leased, released and leased again: what counts is the end of the second lease.
    let first = f.lease().await.id;
    f.advance(1000).await;
    f.store().release(&first, Release::default()).await.unwrap();
    f.lease().await;
    f.lease().await;
    assert_eq!(f.retry_after_ms().await, Some(LEASE_MS));
    f.store().release(&ids[0], cooling(50)).await.unwrap();
    assert_eq!(f.retry_after_ms().await, Some(50));
    f.advance(49).await;
    assert_eq!(f.retry_after_ms().await, Some(1));
    f.store().delete(&ids[0], Fence::Any).await.unwrap();
    assert_eq!(f.retry_after_ms().await, Some(LEASE_MS - 49));
}

pub(super) async fn the_totals_count_what_happened<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let ids = f.store().create(4).await.unwrap().ids;
    for _ in &ids {
        f.lease().await;
    }
    f.store().release(&ids[0], Release::default()).await.unwrap();
    f.store().release(&ids[0], Release::default()).await.unwrap();
    f.store().release(&ids[1], cooling(LIFE_MS.try_into().unwrap())).await.unwrap();
    f.store().delete(&ids[2], Fence::Any).await.unwrap();
    let stats = f.store().stats().await.unwrap();
    assert_eq!((stats.keys, stats.free, stats.leased, stats.cooling), (3, 1, 1, 1));
    f.advance(LEASE_MS).await;
    f.lease().await;
    f.lease().await;
    f.advance(LIFE_MS - LEASE_MS).await;
    f.assert_exhausted().await;
    // Room is made only when it is needed, at the latest.
    f.store().create(Settings::default().keys_max + 1).await.unwrap_err();
    let totals = f.store().stats().await.unwrap().totals;
    assert_eq!((totals.created, totals.expired, totals.deleted), (4, 3, 1));
    assert_eq!((totals.leases, totals.releases, totals.leases_lost), (6, 2, 1));
    assert_eq!(totals.lease_timeouts, 3);
}
