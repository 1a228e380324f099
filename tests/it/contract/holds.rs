//! The part of the contract that tells of fencing, renewals, lengths of leases and cool-downs.

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, State};
use token_orchestrator::store::{Leasing, Options, Release, Renewal, Store};
use token_orchestrator::time::Clock;

use super::{Fixture, LEASE_MS, LIFE_MS};

fn fenced(fence: Fence<'_>) -> Release<'_> {
    Release { fence, ..Release::default() }
}

fn cooling<'a>(cooldown_ms: u32) -> Release<'a> {
    Release { cooldown_ms, ..Release::default() }
}

pub(super) async fn a_holder_whose_lease_is_over_cannot_free_the_key_of_the_next<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    let first = [f.lease().await.generation];
    let first = Fence::OneOf(&first);
    f.clock.advance_ms(LEASE_MS);
    assert_eq!(
        f.store.release(&id, fenced(first)).await,
        Err(Error::Stale),
        "over, but nobody has it"
    );
    let second = f.lease().await;
    for _ in 0..2 {
        assert_eq!(f.store.release(&id, fenced(first)).await, Err(Error::Stale));
        let renewal = Renewal { fence: first, lease_ms: None };
        assert_eq!(f.store.renew(&id, renewal).await, Err(Error::Stale));
        assert_eq!(f.store.delete(&id, first).await, Err(Error::Stale));
        assert_eq!(f.store.get(&id).await.unwrap().state, State::Leased(second));
    }
    let all = [0, second.generation, 99];
    f.store.release(&id, fenced(Fence::OneOf(&all))).await.unwrap();
    assert!(!f.is_blocked(&id).await);
    assert_eq!(
        f.store.release(&id, fenced(Fence::OneOf(&all))).await,
        Err(Error::Stale),
        "a retry"
    );
    assert_eq!(f.store.stats().await.totals.stale_refusals, 8);
}

pub(super) async fn a_fence_guards_a_free_key_too<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    let before = [f.store.get(&id).await.unwrap().generation];
    f.lease().await;
    f.store.release(&id, Release::default()).await.unwrap();
    assert_eq!(f.store.delete(&id, Fence::OneOf(&before)).await, Err(Error::Stale));
    assert_eq!(f.store.delete(&id, Fence::OneOf(&[])).await, Err(Error::Stale));
    let now = [f.store.get(&id).await.unwrap().generation];
    f.store.delete(&id, Fence::OneOf(&now)).await.unwrap();
    assert_eq!(f.store.delete(&id, Fence::OneOf(&now)).await, Err(Error::NotFound));
}

pub(super) async fn a_renewal_starts_the_lease_anew<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    let first = f.lease().await;
    for _ in 0..3 {
        f.clock.advance_ms(LEASE_MS - 1);
        let renewed = f.store.renew(&id, Renewal::default()).await.unwrap();
        assert_eq!((renewed.id, renewed.generation), (id, first.generation));
        assert_eq!(
            (renewed.since, renewed.until),
            (f.clock.now(), f.clock.now().plus_ms(LEASE_MS))
        );
        assert_eq!(f.store.get(&id).await.unwrap().state, State::Leased(renewed));
    }
    f.clock.advance_ms(LEASE_MS - 1);
    assert!(f.is_blocked(&id).await);
    f.clock.advance_ms(1);
    assert_eq!(f.store.renew(&id, Renewal::default()).await, Err(Error::NotLeased));
    assert_eq!(f.lease().await.id, id);
}

pub(super) async fn only_a_lease_is_renewed<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    assert_eq!(f.store.renew(&id, Renewal::default()).await, Err(Error::NotLeased));
    f.store.release(&id, cooling(10)).await.unwrap();
    assert_eq!(f.store.renew(&id, Renewal::default()).await, Err(Error::NotLeased));
    f.clock.advance_ms(10);
    f.lease().await;
    f.clock.advance_ms(LIFE_MS - 10);
    assert_eq!(f.store.renew(&id, Renewal::default()).await, Err(Error::NotFound));
}

pub(super) async fn a_renewal_may_cut_a_lease_short<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    f.lease().await;
    f.store.renew(&id, Renewal { lease_ms: Some(5), ..Renewal::default() }).await.unwrap();
    f.clock.advance_ms(4);
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    f.clock.advance_ms(1);
    assert_eq!(f.lease().await.id, id);
}

pub(super) async fn a_lease_lasts_as_long_as_was_asked_for<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    for ms in [1, 7, 100_000, 3] {
        let lease =
            f.store.lease(Leasing { lease_ms: Some(ms), ..Leasing::default() }).await.unwrap();
        assert_eq!(lease.until, f.clock.now().plus_ms(u64::from(ms)));
        f.clock.advance_ms(u64::from(ms) - 1);
        assert!(f.is_blocked(&id).await);
        assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
        f.clock.advance_ms(1);
        assert!(!f.is_blocked(&id).await);
    }
}

pub(super) async fn a_key_rests_for_its_cool_down<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    let generation = f.lease().await.generation;
    f.clock.advance_ms(5);
    f.store.release(&id, cooling(100)).await.unwrap();
    let (since, until) = (f.clock.now(), f.clock.now().plus_ms(100));
    let info = f.store.get(&id).await.unwrap();
    assert_eq!(info.state, State::Cooling { since, until });
    assert!(info.generation > generation);
    assert_eq!(f.store.stats().await.cooling, 1);
    f.clock.advance_ms(99);
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    f.clock.advance_ms(1);
    assert!(!f.is_blocked(&id).await);
    assert_eq!(f.lease().await.id, id);
    assert_eq!(f.store.stats().await.cooling, 0);
}

pub(super) async fn a_free_key_can_be_rested_and_woken<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    f.store.release(&id, cooling(100)).await.unwrap();
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    f.store.release(&id, Release::default()).await.unwrap();
    assert_eq!(f.lease().await.id, id);
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
}

pub(super) async fn a_longer_cool_down_is_not_cut_short<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    f.store.release(&id, cooling(100)).await.unwrap();
    let long = f.store.get(&id).await;
    f.clock.advance_ms(10);
    f.store.release(&id, cooling(90)).await.unwrap();
    assert_eq!(f.store.get(&id).await, long);
    f.store.release(&id, cooling(91)).await.unwrap();
    f.clock.advance_ms(90);
    assert!(f.is_blocked(&id).await);
    f.clock.advance_ms(1);
    assert!(!f.is_blocked(&id).await);
}

pub(super) async fn a_key_dies_while_it_cools<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    f.store.release(&id, cooling(1_000_000)).await.unwrap();
    f.clock.advance_ms(LIFE_MS);
    f.assert_unknown(&id).await;
    assert_eq!(f.store.next_release_ms().await, None);
}

pub(super) async fn the_next_release_is_told<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    assert_eq!(f.store.next_release_ms().await, None);
    let ids = f.store.create(2).await.unwrap().ids;
    assert_eq!(f.store.next_release_ms().await, None);
    // Leased, given back and leased again: the first lease's end is nobody's.
    let first = f.lease().await.id;
    f.clock.advance_ms(1000);
    f.store.release(&first, Release::default()).await.unwrap();
    f.lease().await;
    f.lease().await;
    assert_eq!(f.store.next_release_ms().await, Some(LEASE_MS));
    f.store.release(&ids[0], cooling(50)).await.unwrap();
    assert_eq!(f.store.next_release_ms().await, Some(50));
}

pub(super) async fn the_totals_tell_what_happened<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let ids = f.store.create(4).await.unwrap().ids;
    for _ in &ids {
        f.lease().await;
    }
    f.store.release(&ids[0], Release::default()).await.unwrap();
    f.store.release(&ids[0], Release::default()).await.unwrap();
    f.store.release(&ids[1], cooling(LIFE_MS.try_into().unwrap())).await.unwrap();
    f.store.delete(&ids[2], Fence::Open).await.unwrap();
    let stats = f.store.stats().await;
    assert_eq!((stats.keys, stats.free, stats.leased, stats.cooling), (3, 1, 1, 1));
    f.clock.advance_ms(LEASE_MS);
    f.lease().await;
    f.lease().await;
    f.clock.advance_ms(LIFE_MS - LEASE_MS);
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    // Room is made only when it is needed, at the latest.
    f.store.create(Options::KEYS_MAX + 1).await.unwrap_err();
    let totals = f.store.stats().await.totals;
    assert_eq!((totals.created, totals.expired, totals.deleted), (4, 3, 1));
    assert_eq!((totals.leases, totals.releases, totals.leases_lost), (6, 2, 1));
    assert_eq!(totals.lease_timeouts, 3);
}
