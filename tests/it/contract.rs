//! The contract of [`Store`], for any store that runs on a manual clock.
//!
//! Among these tests are the mistakes that are easily made with this problem.

mod holds;
mod lives;
mod waiting;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Mutex;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, KeyId, Lease, State};
use token_orchestrator::store::{Leasing, Memory, Options, Release, Store};
use token_orchestrator::time::{Clock, ManualClock};

use self::holds::{
    a_fence_guards_a_free_key_too, a_free_key_can_be_rested_and_woken,
    a_holder_whose_lease_is_over_cannot_free_the_key_of_the_next, a_key_dies_while_it_cools,
    a_key_rests_for_its_cool_down, a_lease_lasts_as_long_as_was_asked_for,
    a_longer_cool_down_is_not_cut_short, a_renewal_may_cut_a_lease_short,
    a_renewal_starts_the_lease_anew, only_a_lease_is_renewed, the_next_release_is_told,
    the_totals_tell_what_happened,
};
use self::lives::{
    a_blocked_key_dies_too, a_dead_key_is_not_revived, a_deleted_key_is_gone,
    a_deleted_leased_key_is_gone, a_key_dies_exactly_after_its_life,
    a_key_past_its_life_is_not_served, dead_keys_are_not_leased_among_others, dead_keys_make_room,
    keep_alive_moves_neither_creation_nor_lease, keep_alive_starts_the_life_anew,
    neither_lease_nor_release_lengthens_the_life,
    the_life_of_other_keys_goes_on_after_a_blocked_key_dies,
};
use self::waiting::{
    a_batch_that_is_given_up_takes_no_key_along, first_come_first_served,
    many_are_waited_for_like_one, no_more_wait_than_may,
    nobody_waits_who_could_be_served_and_no_key_is_lost, who_goes_away_takes_no_key_along,
    who_waits_gets_the_key_that_is_released, who_waits_in_vain_is_told_so_in_time,
    who_waits_is_woken_by_all_that_frees_a_key,
};

const LIFE_MS: u64 = 300_000;
const LEASE_MS: u64 = 60_000;

type Sweep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store with default TTLs, a time that moves by hand, and nothing that runs in the background.
pub(crate) struct Fixture<S> {
    pub(crate) store: S,
    pub(crate) clock: ManualClock,
    /// What would run there.
    sweep: Mutex<Option<Sweep>>,
}

impl<S: Store> Fixture<S> {
    async fn create(&self) -> KeyId {
        self.store.create(1).await.unwrap().ids[0]
    }

    async fn lease(&self) -> Lease {
        self.store.lease(Leasing::default()).await.unwrap()
    }

    async fn is_blocked(&self, id: &KeyId) -> bool {
        self.store.get(id).await.unwrap().state != State::Free
    }

    async fn free_ids(&self, ids: &[KeyId]) -> Vec<KeyId> {
        let mut free = Vec::new();
        for id in ids {
            if self.store.get(id).await.is_ok_and(|info| info.state == State::Free) {
                free.push(*id);
            }
        }
        free
    }

    async fn keep_all_alive(&self, ids: &[KeyId]) {
        for id in ids {
            self.store.keep_alive(id).await.unwrap();
        }
    }

    /// No operation knows this id.
    async fn assert_unknown(&self, id: &KeyId) {
        assert_eq!(self.store.get(id).await, Err(Error::NotFound));
        assert_eq!(self.store.keep_alive(id).await, Err(Error::NotFound));
        assert_eq!(self.store.release(id, Release::default()).await, Err(Error::NotFound));
        assert_eq!(self.store.delete(id, Fence::Open).await, Err(Error::NotFound));
        assert_eq!(self.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    }
}

/// Runs every test of the contract against the store that `$make` makes from [`Options`].
macro_rules! contract {
    ($make:expr; $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                super::$test(&$make).await;
            }
        )*
    };
}

mod memory {
    use super::*;

    fn make(options: Options) -> Fixture<Memory<ManualClock>> {
        let clock = ManualClock::default();
        let store = Memory::new(options, clock.clone());
        let sweep: Sweep = Box::pin(store.clone().sweep());
        Fixture { store, clock, sweep: Mutex::new(Some(sweep)) }
    }

    contract! { make;
        a_new_key_is_free
        a_leased_key_is_blocked_and_shows_since_when
        nothing_is_leased_from_an_empty_store
        a_leased_key_is_not_served_again
        every_key_is_served_before_none_is_left
        a_released_key_is_served_again
        a_double_release_does_not_put_a_key_into_the_pool_twice
        a_release_of_a_free_key_changes_nothing
        a_lease_ends_exactly_after_its_time
        the_timer_of_a_released_lease_does_not_end_the_next_lease
        leases_do_not_run_late_under_load
        a_key_dies_exactly_after_its_life
        a_key_past_its_life_is_not_served
        a_blocked_key_dies_too
        a_dead_key_is_not_revived
        the_life_of_other_keys_goes_on_after_a_blocked_key_dies
        keep_alive_starts_the_life_anew
        keep_alive_moves_neither_creation_nor_lease
        neither_lease_nor_release_lengthens_the_life
        a_deleted_key_is_gone
        a_deleted_leased_key_is_gone
        one_free_key_among_many_leased_is_found
        a_full_store_creates_nothing
        dead_keys_make_room
        generations_of_a_key_never_repeat
        many_keys_are_created_at_once
        many_keys_are_leased_at_once
        dead_keys_are_not_leased_among_others
        prefetching_changes_nothing
        the_counts_add_up
        a_holder_whose_lease_is_over_cannot_free_the_key_of_the_next
        a_fence_guards_a_free_key_too
        a_renewal_starts_the_lease_anew
        only_a_lease_is_renewed
        a_renewal_may_cut_a_lease_short
        a_lease_lasts_as_long_as_was_asked_for
        a_key_rests_for_its_cool_down
        a_free_key_can_be_rested_and_woken
        a_longer_cool_down_is_not_cut_short
        a_key_dies_while_it_cools
        the_next_release_is_told
        the_totals_tell_what_happened
        who_waits_gets_the_key_that_is_released
        who_waits_is_woken_by_all_that_frees_a_key
        first_come_first_served
        who_waits_in_vain_is_told_so_in_time
        who_goes_away_takes_no_key_along
        no_more_wait_than_may
        many_are_waited_for_like_one
        a_batch_that_is_given_up_takes_no_key_along
        nobody_waits_who_could_be_served_and_no_key_is_lost
    }
}

async fn a_new_key_is_free<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    f.clock.advance_ms(5);
    let id = f.create().await;
    let info = f.store.get(&id).await.unwrap();
    assert_eq!((info.created_at, info.state), (f.clock.now(), State::Free));
    assert_eq!(info.life_ends, f.clock.now().plus_ms(LIFE_MS));
}

async fn a_leased_key_is_blocked_and_shows_since_when<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    f.clock.advance_ms(7);
    let lease = f.lease().await;
    assert_eq!((lease.id, lease.since), (id, f.clock.now()));
    assert_eq!(lease.until, f.clock.now().plus_ms(LEASE_MS));
    f.clock.advance_ms(9);
    assert_eq!(f.store.get(&id).await.unwrap().state, State::Leased(lease));
}

async fn nothing_is_leased_from_an_empty_store<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    f.assert_unknown(&KeyId::random(&mut rand::rng())).await;
}

async fn a_leased_key_is_not_served_again<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    f.create().await;
    f.lease().await;
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
}

async fn every_key_is_served_before_none_is_left<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let ids: HashSet<_> = f.store.create(500).await.unwrap().ids.into_iter().collect();
    let mut leased = HashSet::new();
    for _ in 0..500 {
        assert!(leased.insert(f.lease().await.id));
    }
    assert_eq!(leased, ids);
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
}

async fn a_released_key_is_served_again<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    f.lease().await;
    f.store.release(&id, Release::default()).await.unwrap();
    assert!(!f.is_blocked(&id).await);
    assert_eq!(f.lease().await.id, id);
}

async fn a_double_release_does_not_put_a_key_into_the_pool_twice<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    f.lease().await;
    f.store.release(&id, Release::default()).await.unwrap();
    f.store.release(&id, Release::default()).await.unwrap();
    f.lease().await;
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
}

async fn a_release_of_a_free_key_changes_nothing<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    let before = f.store.get(&id).await;
    f.clock.advance_ms(5);
    f.store.release(&id, Release::default()).await.unwrap();
    assert_eq!(f.store.get(&id).await, before);
    f.lease().await;
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
}

async fn a_lease_ends_exactly_after_its_time<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    f.lease().await;
    f.clock.advance_ms(LEASE_MS - 1);
    assert!(f.is_blocked(&id).await);
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    f.clock.advance_ms(1);
    assert!(!f.is_blocked(&id).await);
    assert_eq!(f.lease().await.id, id);
}

async fn the_timer_of_a_released_lease_does_not_end_the_next_lease<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = make(Options::default());
    let id = f.create().await;
    f.lease().await;
    f.clock.advance_ms(LEASE_MS - 1);
    f.store.release(&id, Release::default()).await.unwrap();
    let second = f.lease().await;
    // The first lease would have ended here.
    for _ in 0..LEASE_MS - 1 {
        f.clock.advance_ms(1);
        assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    }
    assert_eq!(f.store.get(&id).await.unwrap().state, State::Leased(second));
    f.clock.advance_ms(1);
    assert_eq!(f.lease().await.id, id);
}

async fn leases_do_not_run_late_under_load<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let ids = f.store.create(5000).await.unwrap().ids;
    for round in 0..10 {
        // All leases end in one moment, and in the same moment all keys are leased again.
        let mut leased = HashSet::new();
        for _ in 0..5000 {
            leased.insert(f.lease().await.id);
        }
        assert_eq!(leased.len(), 5000, "round {round}");
        assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
        f.keep_all_alive(&ids).await;
        f.clock.advance_ms(LEASE_MS);
    }
}

async fn one_free_key_among_many_leased_is_found<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options { shards: 1024, ..Options::default() });
    let ids = f.store.create(2000).await.unwrap().ids;
    for _ in &ids {
        f.lease().await;
    }
    for id in &ids {
        f.store.release(id, Release::default()).await.unwrap();
        assert_eq!(f.lease().await.id, *id);
    }
}

async fn a_full_store_creates_nothing<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options { keys_max: 10, ..Options::default() });
    f.clock.advance_ms(1000);
    let ids = f.store.create(8).await.unwrap().ids;
    f.clock.advance_ms(1000);
    let full = Error::Full { retry_after_ms: LIFE_MS - 1000 };
    assert_eq!(f.store.create(3).await, Err(full));
    assert_eq!(f.store.stats().await.keys, 8);
    f.store.create(2).await.unwrap();
    assert_eq!(f.store.create(1).await, Err(full));
    f.store.delete(&ids[0], Fence::Open).await.unwrap();
    f.store.create(1).await.unwrap();
}

async fn generations_of_a_key_never_repeat<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let id = f.create().await;
    let mut generations = HashSet::new();
    for round in 0..100 {
        assert!(generations.insert(f.lease().await.generation));
        if round % 2 == 0 {
            f.store.release(&id, Release::default()).await.unwrap();
        } else {
            f.clock.advance_ms(LEASE_MS);
        }
        f.store.keep_alive(&id).await.unwrap();
    }
}

async fn many_keys_are_created_at_once<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let ids: HashSet<_> = f.store.create(10_000).await.unwrap().ids.into_iter().collect();
    assert_eq!(ids.len(), 10_000);
    for id in &ids {
        assert!(!f.is_blocked(id).await);
    }
}

async fn many_keys_are_leased_at_once<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let ids: HashSet<_> = f.store.create(500).await.unwrap().ids.into_iter().collect();
    f.clock.advance_ms(3);
    let mut leases = f.store.lease_many(Leasing::default(), 200).await.unwrap();
    assert_eq!(leases.len(), 200);
    leases.extend(f.store.lease_many(Leasing::default(), 1000).await.unwrap());
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<HashSet<_>>(), ids);
    for lease in &leases {
        assert_eq!(f.store.get(&lease.id).await.unwrap().state, State::Leased(*lease));
        assert_eq!((lease.since, lease.until.ms_since(lease.since)), (f.clock.now(), LEASE_MS));
    }
    assert_eq!(f.store.lease_many(Leasing::default(), 1).await, Err(Error::Exhausted));
    f.clock.advance_ms(LEASE_MS - 1);
    assert_eq!(f.store.lease_many(Leasing::default(), 1).await, Err(Error::Exhausted));
    f.clock.advance_ms(1);
    assert_eq!(f.store.lease_many(Leasing::default(), 501).await.unwrap().len(), 500);
}

async fn prefetching_changes_nothing<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    let ids = f.store.create(3).await.unwrap().ids;
    f.store.delete(&ids[0], Fence::Open).await.unwrap();
    f.lease().await;
    f.clock.advance_ms(LEASE_MS + 1);
    let mut before = Vec::new();
    for id in &ids {
        before.push(f.store.get(id).await);
    }
    let stats = f.store.stats().await;
    f.store.prefetch(&ids);
    f.store.prefetch(&[]);
    assert_eq!(f.store.stats().await, stats);
    for (id, before) in ids.iter().zip(before) {
        assert_eq!(f.store.get(id).await, before);
    }
}

async fn the_counts_add_up<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = make(Options::default());
    f.store.create(10).await.unwrap();
    let leased = f.lease().await.id;
    f.lease().await;
    f.store.delete(&leased, Fence::Open).await.unwrap();
    let stats = f.store.stats().await;
    assert_eq!((stats.keys, stats.free), (9, 8));
}
