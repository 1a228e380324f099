//! The contract of [`Store`], for any store whose time a test can move.
//!
//! Among these tests are the mistakes that are easily made with this problem.

mod batches;
mod durable;
mod leases;
mod lives;
mod own;
mod pool;
mod pools;
pub(crate) mod remote;
mod requests;
mod servers;
mod waiting;

use std::time::Duration;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, KeyId, Lease, State};
use token_orchestrator::store::{
    Leasing, Memory, Operation, Options, Outcome, Release, Reply, Store, StoreExt,
};
use token_orchestrator::time::{Clock, ManualClock, Timestamp};
use tokio::task::JoinHandle;

use crate::fakes::Delayed;

const LIFE_MS: u64 = 300_000;
const LEASE_MS: u64 = 60_000;

/// A store that the contract is tried with, and what moves its time.
pub(crate) trait Fixture: Sized + Send + Sync + 'static {
    type Store: Store;

    /// An empty store with the default TTLs, and all that must run beside it.
    async fn make(options: Options) -> Self;

    fn store(&self) -> &Self::Store;

    /// The store's time.
    fn now(&self) -> Timestamp;

    /// Moves the store's time on by `ms` milliseconds.
    async fn advance(&self, ms: u64);

    /// Lets everything happen that can happen without time.
    async fn settle(&self);

    async fn create(&self) -> KeyId {
        self.store().create(1).await.unwrap().ids[0]
    }

    async fn lease(&self) -> Lease {
        self.store().lease(Leasing::default()).await.unwrap().lease
    }

    /// How many clients wait.
    async fn waiting(&self) -> u64 {
        self.store().stats().await.unwrap().waiting
    }

    async fn is_blocked(&self, id: &KeyId) -> bool {
        self.store().get(id).await.unwrap().state != State::Free
    }

    async fn free_ids(&self, ids: &[KeyId]) -> Vec<KeyId> {
        let shows: Vec<_> = ids.iter().map(|id| Operation::Show(*id)).collect();
        let shown = self.store().call_all(&shows).await;
        let is_free = |outcome: &Outcome| matches!(outcome, Ok(Reply::Shown(info)) if info.state == State::Free);
        ids.iter().zip(&shown).filter(|(_, outcome)| is_free(outcome)).map(|(id, _)| *id).collect()
    }

    async fn keep_all_alive(&self, ids: &[KeyId]) {
        let keep_alives: Vec<_> = ids.iter().map(|id| Operation::KeepAlive(*id)).collect();
        for outcome in self.store().call_all(&keep_alives).await {
            outcome.unwrap();
        }
    }

    /// What is said with the refusal of a lease, which there must be, as no key is free.
    async fn retry_after_ms(&self) -> Option<u64> {
        match self.store().lease(Leasing::default()).await {
            Err(Error::Exhausted { retry_after_ms }) => retry_after_ms,
            outcome => panic!("{outcome:?} though no key is free"),
        }
    }

    /// No key is free.
    async fn assert_exhausted(&self) {
        self.retry_after_ms().await;
        let many = self.store().lease_many(Leasing::default(), 100).await;
        assert!(matches!(many, Err(Error::Exhausted { .. })), "{many:?}");
    }

    /// No operation knows this id, and no other key is free.
    async fn assert_unknown(&self, id: &KeyId) {
        assert_eq!(self.store().get(id).await, Err(Error::NotFound));
        assert_eq!(self.store().keep_alive(id).await, Err(Error::NotFound));
        assert_eq!(self.store().release(id, Release::default()).await, Err(Error::NotFound));
        assert_eq!(self.store().delete(id, Fence::Any).await, Err(Error::NotFound));
        self.assert_exhausted().await;
    }
}

/// What a task ends with that must end without more time. On a busy machine the thread that wakes it may need more than one
/// turn.
async fn soon<F: Fixture, T>(f: &F, task: JoinHandle<T>) -> T {
    for _ in 0..100 {
        f.settle().await;
        if task.is_finished() {
            break;
        }
    }
    assert!(task.is_finished(), "it still waits");
    task.await.expect("no panic")
}

/// The tests of the contract, run with a fixture.
macro_rules! contract {
    // The runtime's time moves when all tasks are idle, and the store's when it is told to.
    ($fixture:ty) => {
        contract! { @by [tokio::test(start_paused = true)] $fixture }
    };
    (@by [$($attribute:tt)*] $fixture:ty) => {
        contract! { @run [$($attribute)*] $fixture;
            pool::a_new_key_is_free
            pool::a_leased_key_is_blocked_and_shows_since_when
            pool::nothing_is_leased_from_an_empty_store
            pool::every_key_is_served_before_none_is_left
            pool::a_released_key_is_served_again
            pool::a_double_release_does_not_put_a_key_into_the_pool_twice
            pool::a_release_of_a_free_key_changes_nothing
            pool::a_lease_ends_exactly_after_its_time
            pool::the_timer_of_a_released_lease_does_not_end_the_next_lease
            pool::leases_do_not_run_late_under_load
            pool::one_free_key_among_many_leased_is_found
            pool::a_full_store_creates_nothing
            pool::generations_of_a_key_never_repeat
            pool::many_keys_are_created_at_once
            pool::many_keys_are_leased_at_once
            pool::the_counts_add_up
            leases::a_former_holder_cannot_release_the_key_of_the_next_one
            leases::a_fence_guards_a_free_key_too
            leases::a_renewal_restarts_the_lease
            leases::only_a_lease_is_renewed
            leases::a_renewal_may_cut_a_lease_short
            leases::a_lease_lasts_as_long_as_was_asked_for
            leases::a_key_cools_down_as_long_as_was_asked_for
            leases::a_free_key_can_cool_down_and_be_released
            leases::a_longer_cool_down_is_not_cut_short
            leases::a_key_dies_while_it_cools
            leases::an_exhausted_store_says_when_a_key_is_free_again
            leases::the_totals_count_what_happened
            lives::a_key_dies_exactly_after_its_life
            lives::a_key_past_its_life_is_not_served
            lives::a_blocked_key_dies_too
            lives::the_life_of_other_keys_goes_on_after_a_blocked_key_dies
            lives::keep_alive_restarts_the_life
            lives::keep_alive_moves_neither_creation_nor_lease
            lives::neither_lease_nor_release_lengthens_the_life
            lives::a_deleted_key_is_gone
            lives::a_deleted_leased_key_is_gone
            lives::dead_keys_make_room
            lives::dead_keys_are_not_leased_among_others
            waiting::a_waiter_gets_the_key_that_is_released
            waiting::a_waiter_is_woken_by_all_that_frees_a_key
            waiting::first_come_first_served
            waiting::a_waiter_is_refused_when_its_time_is_up
            waiting::a_waiter_that_goes_away_takes_no_key_along
            waiting::waiters_have_a_limit
            waiting::many_keys_are_waited_for_like_one
            waiting::leases_that_are_given_up_are_taken_back
            waiting::no_client_waits_while_a_key_is_free
            requests::a_retry_gets_the_same_lease
            requests::a_lease_that_has_ended_is_not_given_again
            requests::a_request_key_is_for_one_request
            requests::a_request_that_got_nothing_may_be_repeated
            requests::a_retry_that_goes_away_takes_nothing_away
            requests::each_of_many_keys_is_leased_once
            batches::a_batch_is_answered_in_its_order
            batches::operations_on_one_key_take_effect_in_their_order
            batches::a_long_batch_is_answered_in_its_order
            batches::leases_of_a_batch_are_distinct
            batches::a_lease_that_waits_holds_up_no_other_operation
            pools::pools_come_and_go
            pools::a_pool_with_keys_is_not_deleted_by_mistake
            pools::each_pool_has_keys_of_its_own
            pools::each_pool_has_settings_of_its_own
            pools::a_lease_that_ran_out_is_followed_by_the_cool_down_of_its_pool
            pools::waiters_get_keys_of_their_pool
            pools::deadlines_are_kept_in_all_pools
            pools::a_request_key_is_for_one_pool
            pools::a_batch_may_be_for_several_pools
            own::an_import_can_be_repeated
            own::ids_come_in_the_order_of_their_values
            own::an_import_has_room_for_all_or_none
            own::values_have_room_for_all_or_none
            own::labels_have_room_for_all_or_none
            own::each_pool_has_values_of_its_own
            own::each_lease_gives_the_value
            own::a_lease_by_a_label_finds_only_keys_with_it
            own::a_key_goes_to_the_first_who_can_take_it
            own::a_label_that_no_key_has_holds_up_nobody
            own::nobody_overtakes_those_that_wait_for_a_label
            own::a_wait_for_a_label_ends
            own::those_that_wait_for_a_label_go_with_their_pool
            own::many_labels_are_waited_for
            own::a_holder_is_shown_while_its_lease_lasts
            own::all_leases_of_a_holder_are_taken_back
            own::a_retry_after_a_take_back_leases_anew
            own::a_quota_is_for_all_pools
            own::a_refusal_counts_against_no_quota
            own::a_waiter_beyond_its_quota_takes_no_key
            own::each_lease_counts_against_its_own_quota
        }
    };
    (@run $attribute:tt $fixture:ty; $($part:ident::$test:ident)*) => {
        $(contract! { @one $attribute $fixture; $part::$test })*
    };
    (@one [$($attribute:tt)*] $fixture:ty; $part:ident::$test:ident) => {
        #[$($attribute)*]
        async fn $test() {
            super::$part::$test::<$fixture>().await;
        }
    };
}

/// What several servers guarantee together.
macro_rules! servers {
    ($is_cluster:literal) => {
        servers! { @run $is_cluster;
            a_key_that_is_freed_at_one_server_wakes_those_at_another
            no_key_is_leased_at_two_servers
            each_free_key_is_as_likely_as_any_other
            a_retry_at_another_server_gets_the_same_lease
            limits_are_for_all_servers
            pools_are_those_of_all_servers
        }
    };
    (@run $is_cluster:literal; $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                super::servers::$test::<$is_cluster>().await;
            }
        )*
    };
}

mod memory {
    contract!(super::Manual<super::InMemory>);
}

mod delayed {
    contract!(super::Manual<super::Delayed<super::InMemory>>);
}

mod on_disk {
    contract!(super::durable::EachCommit);
}

mod on_disk_every_second {
    contract!(super::durable::EverySecond);
}

mod redis {
    // What comes from the engine comes in real time.
    contract!(@by [tokio::test] super::remote::OnRedis);
    servers!(false);
}

mod cluster {
    contract!(@by [tokio::test] super::remote::OnCluster);
    servers!(true);
}

type InMemory = Memory<ManualClock>;

/// A store on a manual clock, with its sweep.
struct Manual<S> {
    store: S,
    clock: ManualClock,
}

impl Manual<InMemory> {
    fn swept(options: Options) -> Self {
        let clock = ManualClock::default();
        let store = Memory::new(options, clock.clone());
        tokio::spawn(store.clone().sweep());
        Self { store, clock }
    }
}

/// What can be made of a store in memory.
trait OverMemory: Store {
    fn over(store: InMemory) -> Self;
}

impl OverMemory for InMemory {
    fn over(store: InMemory) -> Self {
        store
    }
}

impl OverMemory for Delayed<InMemory> {
    fn over(store: InMemory) -> Self {
        Self::new(store)
    }
}

impl<S: OverMemory> Fixture for Manual<S> {
    type Store = S;

    async fn make(options: Options) -> Self {
        let Manual { store, clock } = Manual::swept(options);
        Self { store: S::over(store), clock }
    }

    fn store(&self) -> &S {
        &self.store
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, ms: u64) {
        self.clock.advance_ms(ms);
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
