//! Tests of settings that change while a pool runs, to the millisecond.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::halves::Size;
use super::journal::{After, KeyState};
use super::pool::Pool;
use super::restore::Restoring;
use super::settings::Settings;
use super::walk::WalkCursor;
use crate::error::Error;
use crate::key::{Fence, KeyId, State, Ttl};
use crate::time::Timestamp;

const NEVER: Ttl = Ttl { key_ttl_ms: Ttl::NEVER_MS, lease_ttl_ms: 10 };

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(3)
}

fn settings(key_ttl_ms: u64, lapse_cooldown_ms: u32) -> Settings {
    let ttl = Ttl { key_ttl_ms, lease_ttl_ms: 10 };
    Settings { ttl, keys_max: 100, lapse_cooldown_ms }
}

fn create(pool: &Pool, count: usize, ms: u64) -> Vec<KeyId> {
    let (mut room, mut rng) = (pool.reserve(count, at(ms)).unwrap(), StdRng::seed_from_u64(ms));
    let ids: Vec<_> = (0..count).map(|_| KeyId::from_random_bytes(rng.random())).collect();
    assert!(ids.iter().all(|id| room.create(*id, at(ms))));
    ids
}

/// A pool with one key, which is leased from 0 to 10, and then cools down for so long.
fn leased(lapse_cooldown_ms: u32) -> (Pool, KeyId) {
    let pool = Pool::with_journal(settings(1000, lapse_cooldown_ms), Size::Fixed(2), ());
    let [id] = create(&pool, 1, 0)[..] else { unreachable!() };
    assert_eq!(pool.lease(at(0), 10, &mut rng()).unwrap().until, at(10));
    (pool, id)
}

fn state(pool: &Pool, id: &KeyId, ms: u64) -> (u64, State) {
    let info = pool.get(id, at(ms)).unwrap();
    (info.generation, info.state)
}

fn cooling(since: u64, until: u64) -> State {
    State::Cooling { since: at(since), until: at(until) }
}

/// Free, leased, cooling, and leases that lapsed.
fn counts(pool: &Pool) -> [u64; 4] {
    let stats = pool.stats();
    [stats.free, stats.leased, stats.cooling, stats.totals.lease_timeouts]
}

#[test]
fn a_lapsed_lease_is_followed_by_a_cool_down_with_and_without_a_sweep() {
    for is_swept in [false, true] {
        let (pool, id) = leased(5);
        let sweep = |ms| {
            if is_swept {
                pool.expire(at(ms), 8);
            }
            pool.check_invariants();
        };
        sweep(9);
        assert!(matches!(state(&pool, &id, 9), (1, State::Leased(_))));
        assert_eq!(counts(&pool), [0, 1, 0, 0]);
        for ms in 10..15 {
            sweep(ms);
            assert_eq!(state(&pool, &id, ms), (2, cooling(10, 15)));
            assert_eq!(pool.release(&id, at(ms), Fence::One(1), 0), Err(Error::Stale));
            assert_eq!(pool.renew(&id, at(ms), Fence::One(1), 10), Err(Error::Stale));
            assert_eq!(pool.lease(at(ms), 10, &mut rng()), Err(Error::EXHAUSTED));
            assert_eq!(pool.next_release_within(at(ms), 9), Some(Some(at(15))));
            assert_eq!(counts(&pool), [0, 0, 1, 1]);
        }
        sweep(15);
        assert_eq!(state(&pool, &id, 15), (2, State::Free));
        let lease = pool.lease(at(15), 10, &mut rng()).unwrap();
        assert_eq!((lease.generation, lease.since), (3, at(15)));
        assert_eq!(counts(&pool), [0, 1, 0, 1]);
        pool.check_invariants();
    }
}

#[test]
fn a_release_ends_the_cool_down_after_a_lapse_and_a_renewal_does_not() {
    let (pool, id) = leased(5);
    assert_eq!(pool.renew(&id, at(12), Fence::Any, 10), Err(Error::NotLeased));
    assert_eq!(state(&pool, &id, 12), (2, cooling(10, 15)));
    // A longer one replaces it, a shorter one does not.
    pool.release(&id, at(12), Fence::Any, 2).unwrap();
    assert_eq!(state(&pool, &id, 12), (2, cooling(10, 15)));
    pool.release(&id, at(12), Fence::Any, 8).unwrap();
    assert_eq!(state(&pool, &id, 12), (2, cooling(12, 20)));
    pool.release(&id, at(13), Fence::Any, 0).unwrap();
    assert_eq!((state(&pool, &id, 13), counts(&pool)), ((2, State::Free), [1, 0, 0, 1]));
    // The lease that follows is released in time, so that no cool-down follows.
    pool.lease(at(13), 10, &mut rng()).unwrap();
    pool.release(&id, at(22), Fence::One(3), 0).unwrap();
    assert_eq!((state(&pool, &id, 22), counts(&pool)), ((4, State::Free), [1, 0, 0, 1]));
    pool.check_invariants();
}

#[test]
fn a_lapse_that_is_noticed_after_its_cool_down_leaves_the_key_free() {
    let (pool, id) = leased(5);
    assert_eq!(state(&pool, &id, 15), (2, State::Free));
    assert_eq!(pool.next_release_within(at(15), 9), Some(Some(at(10))));
    pool.expire(at(15), 8);
    assert_eq!(counts(&pool), [1, 0, 0, 1]);
    pool.check_invariants();
}

#[test]
fn a_key_dies_and_is_deleted_while_it_cools_down_after_a_lapse() {
    let (pool, id) = leased(5);
    pool.delete(&id, at(12), Fence::One(2)).unwrap();
    assert_eq!(counts(&pool), [0, 0, 0, 1]);
    let (pool, id) = leased(2000);
    assert_eq!(state(&pool, &id, 999), (2, cooling(10, 2010)));
    while pool.expire(at(1000), 8) > 0 {}
    assert_eq!((pool.stats().keys, counts(&pool)), (0, [0, 0, 0, 1]));
    pool.check_invariants();
}

/// Nobody has looked when the setting changes, and it changes twice.
#[test]
fn a_changed_cool_down_is_for_leases_that_lapse_later() {
    let (pool, id) = leased(5);
    pool.configure(settings(1000, 0), at(10));
    pool.configure(settings(1000, 100), at(11));
    assert_eq!(state(&pool, &id, 12), (2, cooling(10, 15)));
    pool.lease(at(15), 10, &mut rng()).unwrap();
    pool.configure(settings(1000, 7), at(24));
    assert_eq!(state(&pool, &id, 25), (4, cooling(25, 32)));
    pool.configure(settings(1000, 0), at(30));
    assert_eq!(state(&pool, &id, 31), (4, cooling(25, 32)));
    pool.lease(at(32), 10, &mut rng()).unwrap();
    assert_eq!(state(&pool, &id, 42), (6, State::Free));
    assert_eq!(pool.settings(), settings(1000, 0));
}

#[test]
fn keys_without_end_have_no_entry_and_are_never_swept() {
    let pool = Pool::new(NEVER, 100, 4);
    let ids = create(&pool, 50, 0);
    assert_eq!((pool.index_sizes().life_entries, pool.next_deadline()), (0, None));
    assert_eq!(pool.keep_alive(&ids[0], at(7)), Ok(Timestamp::NEVER));
    assert_eq!(pool.expire(Timestamp::MAX, 64), 0);
    for id in &ids {
        assert_eq!(pool.get(id, Timestamp::MAX).unwrap().life_ends, Timestamp::NEVER);
    }
    pool.check_invariants();
    // No key dies, so only an operator makes room.
    let full = pool.reserve(51, at(9)).map(drop);
    assert_eq!(full, Err(Error::Full { retry_after_ms: 60_000 }));
    pool.delete(&ids[0], at(9), Fence::Any).unwrap();
    assert!(pool.reserve(51, at(9)).is_ok());
    pool.check_invariants();
}

#[test]
fn a_key_ttl_that_changes_cuts_no_life_short() {
    let pool = Pool::new(Ttl { key_ttl_ms: 100, lease_ttl_ms: 10 }, 100, 2);
    let [id] = create(&pool, 1, 0)[..] else { unreachable!() };
    // To a shorter one: a keep-alive counts only once it reaches further.
    pool.configure(settings(20, 0), at(1));
    assert_eq!(pool.keep_alive(&id, at(79)), Ok(at(100)));
    assert_eq!(pool.keep_alive(&id, at(81)), Ok(at(101)));
    // To none: the key gets it with its next keep-alive, and its entry goes.
    pool.configure(settings(Ttl::NEVER_MS, 0), at(90));
    assert_eq!(pool.get(&id, at(90)).unwrap().life_ends, at(101));
    assert_eq!(pool.index_sizes().life_entries, 1);
    assert_eq!(pool.keep_alive(&id, at(91)), Ok(Timestamp::NEVER));
    assert_eq!((pool.index_sizes().life_entries, pool.next_deadline()), (0, None));
    pool.check_invariants();
    // Back to an end: only keys that are created later die.
    pool.configure(settings(20, 0), at(92));
    assert_eq!(pool.keep_alive(&id, at(93)), Ok(Timestamp::NEVER));
    create(&pool, 1, 94);
    while pool.expire(at(114), 8) > 0 {}
    assert_eq!((pool.stats().keys, pool.ids()), (1, vec![id]));
    pool.check_invariants();
}

#[test]
fn a_creation_keeps_the_key_ttl_that_it_began_with() {
    let pool = Pool::new(NEVER, 100, 2);
    let mut room = pool.reserve(1, at(0)).unwrap();
    pool.configure(settings(20, 0), at(1));
    assert_eq!(room.life_ends(at(2)), Timestamp::NEVER);
    let id = KeyId::from_random_bytes([1; 16]);
    assert!(room.create(id, at(2)));
    assert_eq!(pool.get(&id, at(2)).unwrap().life_ends, Timestamp::NEVER);
}

#[test]
fn a_lower_maximum_kills_no_key_and_lets_none_be_created() {
    let pool = Pool::new(NEVER, 100, 2);
    let ids = create(&pool, 5, 0);
    pool.configure(Settings { keys_max: 3, ..settings(Ttl::NEVER_MS, 0) }, at(1));
    assert_eq!((pool.keys_max(), pool.stats().keys), (3, 5));
    ids[..2].iter().for_each(|id| pool.delete(id, at(1), Fence::Any).unwrap());
    assert!(pool.reserve(1, at(1)).is_err());
    pool.delete(&ids[2], at(1), Fence::Any).unwrap();
    assert!(pool.reserve(1, at(1)).is_ok() && pool.reserve(2, at(1)).is_err());
}

#[test]
fn lives_without_end_and_lapsed_leases_are_restored() {
    let (pool, id) = leased(5);
    pool.configure(settings(Ttl::NEVER_MS, 5), at(1));
    pool.keep_alive(&id, at(1)).unwrap();
    // Nothing noted the end of the lease.
    let info = pool.get(&id, at(1)).unwrap();
    let state = KeyState {
        life_ends: info.life_ends,
        generation: info.generation,
        block: info.state.blocked(),
        holder: None,
    };
    let created_at = info.created_at;
    let after = After::Whole { created_at, state, value: None, labels: Vec::new() };
    let restoring = Restoring::new(Pool::with_journal(pool.settings(), Size::Fixed(2), ()));
    assert!(restoring.apply(&super::Entry { id, after }));
    let restored = restoring.finish(at(1));
    restored.check_invariants();
    for ms in [1, 9, 10, 14, 15] {
        assert_eq!(restored.get(&id, at(ms)), pool.get(&id, at(ms)), "at {ms}");
    }
    assert_eq!(restored.get(&id, at(15)).unwrap().life_ends, Timestamp::NEVER);
    assert_eq!(restored.index_sizes().life_entries, 0);
}

/// Where the snapshot is read, nobody may know how long keys rested when the lease ran out.
#[test]
fn a_snapshot_says_how_a_key_rests_after_a_lapse() {
    let (pool, id) = leased(50);
    let mut entries = Vec::new();
    assert_eq!(pool.walk_whole(WalkCursor::default(), 10, at(25), |e| entries.push(e)), None);
    let After::Whole { state: kept, .. } = &entries[0].after else { unreachable!() };
    assert_eq!((kept.generation, kept.block), (2, Some((at(10), at(60)))));
    // The settings may have been set once more meanwhile: what they were before that is not in the snapshot.
    let restoring = Restoring::new(Pool::with_journal(settings(1000, 0), Size::Fixed(2), ()));
    restoring.configure(settings(1000, 50), at(20));
    assert!(restoring.apply(&entries[0]));
    let restored = restoring.finish(at(25));
    restored.check_invariants();
    for ms in [25, 59, 60] {
        assert_eq!(state(&restored, &id, ms), state(&pool, &id, ms), "{ms}");
    }
}
