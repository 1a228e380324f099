//! Tests of pools that begin small.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::halves::Size;
use super::pool::Pool;
use super::settings::Settings;
use crate::error::Error;
use crate::key::{Fence, KeyId, State, Ttl};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_ms(1);
const SMALL_MAX: usize = 100;

fn pool() -> Pool {
    let size = Size::Growing { shards: 256, small_max: SMALL_MAX };
    Pool::with_journal(Settings::new(Ttl::default(), 100_000), size, ())
}

/// Creates keys one at a time, as far as the pool has chosen their ids.
fn create(pool: &Pool, count: usize, rng: &mut StdRng) -> Vec<KeyId> {
    let create = |_| {
        let mut room = pool.reserve(1, NOW).unwrap();
        let id = room.fit(KeyId::from_random_bytes(rng.random()));
        assert!(room.create(id, NOW));
        id
    };
    (0..count).map(create).collect()
}

#[test]
fn an_empty_pool_takes_less_than_three_kilobytes_and_nothing_more() {
    let pool = pool();
    assert!(size_of::<Pool>() <= 2688, "{}", size_of::<Pool>());
    // Nor does it when it is asked for keys that it does not have.
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..100 {
        let id = KeyId::from_random_bytes(rng.random());
        assert_eq!(pool.get(&id, NOW), Err(Error::NotFound));
        assert_eq!(pool.delete(&id, NOW, Fence::Any), Err(Error::NotFound));
        pool.prefetch([id].iter());
    }
    assert_eq!(pool.lease(NOW, 10, &mut rng), Err(Error::EXHAUSTED));
    assert_eq!((pool.expire(NOW, 8), pool.next_deadline()), (0, None));
    assert_eq!(pool.walk(super::WalkCursor::default(), 10, NOW).next, None);
    assert_eq!(pool.records.made(), [false; 2]);
    pool.check_invariants();
}

#[test]
fn a_pool_grows_when_it_has_many_keys() {
    let (pool, mut rng) = (pool(), StdRng::seed_from_u64(2));
    let ids = create(&pool, SMALL_MAX, &mut rng);
    assert_eq!(pool.records.made(), [true, false]);
    create(&pool, 1, &mut rng);
    assert_eq!(pool.records.made(), [true, true]);
    create(&pool, 1000, &mut rng);
    pool.check_invariants();
    // All of them are found, leased once, and released.
    for id in &ids {
        assert_eq!(pool.get(id, NOW).unwrap().state, State::Free);
    }
    let mut leases = Vec::new();
    pool.lease_group(NOW, 10, &mut rng, 600, &mut leases);
    while let Ok(lease) = pool.lease(NOW, 10, &mut rng) {
        leases.push(lease);
    }
    let mut drawn: Vec<_> = leases.iter().map(|lease| lease.id).collect();
    drawn.sort();
    drawn.dedup();
    assert_eq!((leases.len(), drawn.len()), (SMALL_MAX + 1001, SMALL_MAX + 1001));
    pool.check_invariants();
    for id in &drawn {
        pool.delete(id, NOW, Fence::Any).unwrap();
    }
    assert_eq!((pool.stats().keys, pool.index_sizes().block_entries), (0, 0));
    pool.check_invariants();
}

#[test]
fn many_keys_at_once_go_to_the_large_half() {
    let (pool, mut rng) = (pool(), StdRng::seed_from_u64(3));
    let mut room = pool.reserve(1000, NOW).unwrap();
    for _ in 0..1000 {
        let id = room.fit(KeyId::from_random_bytes(rng.random()));
        assert!(room.create(id, NOW));
    }
    assert_eq!(pool.records.made(), [false, true]);
    pool.check_invariants();
}

#[test]
fn a_pool_of_a_fixed_size_leaves_ids_as_they_are() {
    let (pool, mut rng) = (Pool::new(Ttl::default(), 100, 2), StdRng::seed_from_u64(5));
    let room = pool.reserve(1, NOW).unwrap();
    for _ in 0..100 {
        let id = KeyId::from_random_bytes(rng.random());
        assert_eq!(room.fit(id), id);
    }
}

/// Also the half that is made after the change.
#[test]
fn a_changed_cool_down_reaches_both_halves() {
    let (pool, mut rng) = (pool(), StdRng::seed_from_u64(4));
    let mut ids = create(&pool, SMALL_MAX, &mut rng);
    let settings = pool.settings();
    pool.configure(Settings { lapse_cooldown_ms: 5, ..settings }, NOW);
    ids.extend(create(&pool, SMALL_MAX, &mut rng));
    for _ in &ids {
        pool.lease(NOW, 10, &mut rng).unwrap();
    }
    let cooling = State::Cooling { since: NOW.plus_ms(10), until: NOW.plus_ms(15) };
    for (ms, state) in [(10, cooling), (14, cooling), (15, State::Free)] {
        for id in &ids {
            assert_eq!(pool.get(id, NOW.plus_ms(ms)).unwrap().state, state);
        }
    }
}
