//! Threads that race on one pool. Unit tests of the library, as they look at what is private.

#[path = "../checker/mod.rs"]
mod checker;
mod own;
mod waiters;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, RwLock};
use std::thread;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use token_orchestrator::engine::{Pool, Settings, Size};
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, KeyId, Leased, State, Ttl};
use token_orchestrator::time::Timestamp;
use uuid::Uuid;

use self::checker::check;
use self::checker::record::{History, Operation, Turn, What};

const THREADS: u64 = 8;
const LEASE_MS: u32 = 60_000;

fn create(pool: &Pool, count: usize, now: Timestamp) -> Vec<KeyId> {
    let mut room = pool.reserve(count, now).unwrap();
    let ids: Vec<_> = (0..count).map(|_| KeyId::random(&mut rand::rng())).collect();
    assert!(ids.iter().all(|id| room.create(*id, now)));
    ids
}

/// A pool with so many shards, and one that has grown to them.
fn sizes(shards: usize) -> [Size; 2] {
    [Size::Fixed(shards), Size::Growing { shards, small_max: 2 }]
}

fn on_threads(work: impl Fn(SmallRng) + Sync) {
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(SmallRng::seed_from_u64(seed)));
        }
    });
}

/// Time stands still, so only a release ends a lease.
#[test]
fn racing_leases_share_no_key() {
    let now = Timestamp::from_ms(5);
    for keys in [1, 3, 50] {
        let pool = Pool::new(Ttl::default(), 100, 4);
        create(&pool, keys, now);
        let holders = Mutex::new(HashMap::new());
        on_threads(|mut rng| {
            let mut leased = 0;
            while leased < 5000 {
                let Ok(lease) = pool.lease(now, LEASE_MS, &mut rng) else {
                    thread::yield_now();
                    continue;
                };
                leased += 1;
                let before = holders.lock().unwrap().insert(lease.id, lease.generation);
                assert_eq!(before, None, "two holders");
                if rng.random() {
                    thread::yield_now();
                }
                assert_eq!(holders.lock().unwrap().remove(&lease.id), Some(lease.generation));
                pool.release(&lease.id, now, Fence::Any, 0).unwrap();
            }
        });
        pool.check_invariants();
        assert_eq!(pool.stats().free, keys as u64, "a key was lost");
    }
}

/// Groups that are drawn at the same time share no key, and none is left over.
#[test]
fn racing_groups_share_no_key() {
    let now = Timestamp::from_ms(5);
    let pool = Pool::new(Ttl::default(), 1000, 8);
    let ids = create(&pool, 1000, now);
    for round in 0..50 {
        let all = Mutex::new(Vec::new());
        on_threads(|mut rng| {
            let mut leases = Vec::new();
            for group in 0..10 {
                pool.lease_group(now, LEASE_MS, &mut rng, group * 2, &mut leases);
            }
            while let Ok(lease) = pool.lease(now, LEASE_MS, &mut rng) {
                leases.push(lease);
            }
            all.lock().unwrap().append(&mut leases);
        });
        pool.check_invariants();
        let mut leased: Vec<_> = all.into_inner().unwrap().iter().map(|lease| lease.id).collect();
        leased.sort();
        leased.dedup();
        assert_eq!(leased.len(), ids.len(), "round {round}: a key was served twice or not at all");
        for id in &ids {
            pool.release(id, now, Fence::Any, 0).unwrap();
        }
    }
}

/// There are as many keys as threads: each thread finds one, as the rest lease at most all but one.
#[test]
fn a_lease_finds_the_free_key_that_is_always_there() {
    let now = Timestamp::from_ms(5);
    for size in sizes(64) {
        let pool = Pool::with_journal(Settings::new(Ttl::default(), 100), size, ());
        create(&pool, usize::try_from(THREADS).unwrap(), now);
        on_threads(|mut rng| {
            for _ in 0..30_000 {
                let lease = pool.lease(now, LEASE_MS, &mut rng);
                let lease = lease.expect("one key is free at any moment");
                pool.release(&lease.id, now, Fence::Any, 0).unwrap();
            }
        });
        pool.check_invariants();
    }
}

/// All keys are leased, and no sweep runs. When the leases are over, each thread finds a key at once.
#[test]
fn lapsed_leases_are_found_by_all_threads_at_once() {
    let pool = Pool::new(Ttl::default(), 100, 4);
    create(&pool, usize::try_from(THREADS).unwrap(), Timestamp::default());
    for round in 0..4 {
        let now = Timestamp::from_ms(round * 60_000);
        let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
        on_threads(|mut rng| {
            barrier.wait();
            pool.lease(now, LEASE_MS, &mut rng).expect("a key for each");
        });
        assert_eq!(pool.lease(now, LEASE_MS, &mut rand::rng()), Err(Error::EXHAUSTED));
        pool.check_invariants();
    }
}

/// Everything at once, while time flies. It stands still during each single operation, so the history
/// is exact to the millisecond.
#[test]
fn racing_operations_keep_every_promise() {
    sizes(8).into_iter().for_each(race);
}

fn race(size: Size) {
    const LEASE_MS: u32 = 7;
    let ttl = Ttl { key_ttl_ms: 40, lease_ttl_ms: LEASE_MS };
    let pool = Pool::with_journal(Settings::new(ttl, 300), size, ());
    let now = RwLock::new(1);
    let first = Timestamp::from_ms(1);
    let created = create(&pool, 100, first);
    let creations = created.iter().map(|id| noted(What::Create, Some(*id), first, &Ok(0)));
    let operations = Mutex::new(creations.collect::<Vec<_>>());
    let created = Mutex::new(created);
    on_threads(|mut rng| {
        let (mut own, mut leases) = (Vec::new(), Vec::<Leased>::new());
        for _ in 0..20_000 {
            if rng.random_ratio(1, 40) {
                *now.write().unwrap() += 1;
            }
            let now = now.read().unwrap();
            let at = Timestamp::from_ms(*now);
            let key = {
                let created = created.lock().unwrap();
                created[rng.random_range(created.len().saturating_sub(300)..created.len())]
            };
            match rng.random_range(0..12) {
                0 => {
                    if let Ok(mut room) = pool.reserve(2, at) {
                        let id = KeyId::random(&mut rand::rng());
                        assert!(room.create(id, at));
                        own.push(noted(What::Create, Some(id), at, &Ok(0)));
                        created.lock().unwrap().push(id);
                    }
                }
                1..4 => {
                    let result = pool.lease(at, LEASE_MS, &mut rng);
                    if let Ok(lease) = &result {
                        assert_eq!(lease.until, at.plus_ms(LEASE_MS.into()));
                        leases.push(lease.clone());
                    }
                    let id = result.as_ref().ok().map(|lease| lease.id);
                    let lease = noted(What::Lease, id, at, &result.map(|lease| lease.generation));
                    own.push(Operation { ms: LEASE_MS, ..lease });
                }
                4 => {
                    let before = leases.len();
                    pool.lease_group(at, LEASE_MS, &mut rng, 3, &mut leases);
                    own.extend(leases[before..].iter().map(|lease| {
                        let result = Ok(lease.generation);
                        let lease = noted(What::Lease, Some(lease.id), at, &result);
                        Operation { ms: LEASE_MS, ..lease }
                    }));
                }
                5..7 => {
                    // Half of the keys are never released: their leases end by time.
                    if key.as_bytes()[0].is_multiple_of(2) {
                        let released = pool.release(&key, at, Fence::Any, 0).map(|()| 0);
                        own.push(noted(What::Release, Some(key), at, &released));
                    }
                }
                10.. if !leases.is_empty() => {
                    // A holder that may be late, and must then end no later lease.
                    let lease = &leases[rng.random_range(0..leases.len())];
                    let fence = Fence::One(lease.generation);
                    let released = pool.release(&lease.id, at, fence, 0).map(|()| 0);
                    let release = noted(What::Release, Some(lease.id), at, &released);
                    let fence = Some(lease.generation);
                    own.push(Operation { fence, ..release });
                }
                7 => {
                    let kept = pool.keep_alive(&key, at).map(|_| 0);
                    own.push(noted(What::KeepAlive, Some(key), at, &kept));
                }
                8 => {
                    let info = pool.get(&key, at);
                    let is_blocked = info.as_ref().is_ok_and(|info| info.state != State::Free);
                    let look = noted(What::Look, Some(key), at, &info.map(|info| info.generation));
                    own.push(Operation { is_blocked, ..look });
                }
                _ if rng.random_ratio(1, 10) => {
                    let deleted = pool.delete(&key, at, Fence::Any).map(|()| 0);
                    own.push(noted(What::Delete, Some(key), at, &deleted));
                }
                _ => drop(pool.expire(at, 3)),
            }
        }
        operations.lock().unwrap().append(&mut own);
    });
    pool.check_invariants();
    let operations = operations.into_inner().unwrap();
    let history = History { key_ttl_ms: 40, slack_ns: 0, operations, has_labels: false };
    let found = check(&history).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{found:#?}");
    assert!(found.operations > 100_000, "{found:#?}");
    assert!(found.leases > 1000 && found.leases_timed_out > 100, "{found:#?}");
    assert!(found.deaths > 100 && found.deletions > 100, "{found:#?}");

    let end = Timestamp::MAX;
    while pool.expire(end, 64) == 64 {}
    pool.check_invariants();
    let (stats, sizes) = (pool.stats(), pool.index_sizes());
    assert_eq!((stats.keys, sizes.life_entries, sizes.block_entries), (0, 0, 0));
}

/// The record of an operation, with the generation that it showed. It happened at some moment of the
/// millisecond `at`.
fn noted(what: What, id: Option<KeyId>, at: Timestamp, result: &Result<u64, Error>) -> Operation {
    let status = match result {
        Ok(_) => 200,
        Err(Error::Stale) => 412,
        Err(Error::NotFound | Error::Exhausted { .. }) => 404,
        Err(error) => panic!("{what:?}: {error}"),
    };
    let shows_generation = matches!(what, What::Lease | What::Look);
    let generation = result.ok().filter(|_| shows_generation);
    let invoked_ns = at.ms_since(Timestamp::default()) * 1_000_000;
    Operation {
        what,
        key: id.map_or(Uuid::nil(), |id| Uuid::from_bytes(*id.as_bytes())),
        invoked_ns,
        ended_ns: invoked_ns + 999_999,
        fence: None,
        ms: 0,
        status,
        generation,
        is_blocked: false,
        turn: Turn::default(),
    }
}

/// Few keys, and all that moves their entries in the index of blocks: shortened leases, cool-downs,
/// and GETs that find nothing. Time moves between rounds only.
#[test]
fn blocks_that_move_leave_no_entries_behind() {
    for seed in 0..4 {
        let pool = Pool::new(Ttl { key_ttl_ms: 60, lease_ttl_ms: 20 }, 6, 2);
        let mut time = 1000;
        for round in 0..200 {
            let now = Timestamp::from_ms(time);
            on_threads(|mut rng| {
                for _ in 0..seed * 200 + round {
                    rng.next_u32();
                }
                let mut ids = pool.ids();
                for _ in 0..150 {
                    let ms = [1, 2, 5, 20, 50][rng.random_range(0..5)];
                    if let Ok(mut room) = pool.reserve(1, now) {
                        let id = KeyId::random(&mut rand::rng());
                        assert!(room.create(id, now));
                        ids.push(id);
                    }
                    let Some(id) = ids.get(rng.random_range(0..ids.len().max(1))) else { continue };
                    match rng.random_range(0..8) {
                        0..2 => drop(pool.lease(now, ms, &mut rng)),
                        2 => drop(pool.release(id, now, Fence::Any, 0)),
                        3 => drop(pool.release(id, now, Fence::Any, ms)),
                        4 => drop(pool.renew(id, now, Fence::Any, ms)),
                        5 if ms == 1 => drop(pool.delete(id, now, Fence::Any)),
                        6 => drop(pool.expire(now, 3)),
                        _ => drop(pool.next_release_within(now, 9)),
                    }
                }
            });
            pool.check_invariants();
            time += (seed + round) % 8;
        }
        let end = Timestamp::from_ms(time + 1000);
        while pool.expire(end, 100) > 0 {}
        pool.check_invariants();
        let (stats, sizes) = (pool.stats(), pool.index_sizes());
        assert_eq!((stats.keys, stats.leased, stats.cooling), (0, 0, 0), "{stats:?}");
        assert_eq!((sizes.life_entries, sizes.block_entries), (0, 0), "{sizes:?}");
    }
}

/// What was counted adds up at every moment, not only at rest.
#[test]
fn counts_add_up_while_threads_work() {
    let now = Timestamp::from_ms(5);
    let pool = Pool::new(Ttl::default(), 1000, 8);
    create(&pool, 100, now);
    let is_done = AtomicUsize::new(0);
    on_threads(|mut rng| {
        let (is_reader, mut looks) = (rng.random_ratio(1, 2), 0);
        for _ in 0..20_000 {
            if is_reader {
                let stats = pool.stats();
                let totals = stats.totals;
                assert_eq!(totals.created, stats.keys + totals.expired + totals.deleted);
                assert_eq!(stats.keys, stats.free + stats.leased + stats.cooling);
                let ended = totals.releases + totals.lease_timeouts + totals.leases_lost;
                assert_eq!(totals.leases, ended + stats.leased);
                looks += 1;
                continue;
            }
            let Ok(lease) = pool.lease(now, LEASE_MS, &mut rng) else { continue };
            match rng.random_range(0..4) {
                0 => drop(pool.release(&lease.id, now, Fence::Any, 20)),
                1 if pool.delete(&lease.id, now, Fence::Any) == Ok(()) => {
                    create(&pool, 1, now);
                }
                _ => drop(pool.release(&lease.id, now, Fence::Any, 0)),
            }
        }
        is_done.fetch_add(looks, Relaxed);
    });
    assert!(is_done.load(Relaxed) >= 20_000, "too few looks");
}
