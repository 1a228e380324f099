//! Threads that race on one pool.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use token_orchestrator::engine::Pool;
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, KeyId, Lease, Ttl};
use token_orchestrator::store::{Leasing, Memory, Options, Release, Store};
use token_orchestrator::time::{SystemClock, Timestamp};
use tokio::task::yield_now;
use tokio::time::timeout;

const THREADS: u64 = 8;
const LEASE_MS: u32 = 60_000;

fn create(pool: &Pool, count: usize, now: Timestamp) -> Vec<KeyId> {
    let mut room = pool.reserve(count, now).unwrap();
    let ids: Vec<_> = (0..count).map(|_| KeyId::random(&mut rand::rng())).collect();
    assert!(ids.iter().all(|id| room.create(*id, now)));
    ids
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
fn two_gets_racing_do_not_get_one_key() {
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
                pool.release(&lease.id, now, Fence::Open, 0).unwrap();
            }
        });
        pool.check_invariants();
        assert_eq!(pool.stats().free, keys as u64, "a key was lost");
    }
}

/// Groups that are drawn at the same time share no key, and none is left over.
#[test]
fn groups_racing_share_no_key() {
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
            pool.release(id, now, Fence::Open, 0).unwrap();
        }
    }
}

/// As many keys as threads: whoever asks finds one, for the others hold at most all but one.
#[test]
fn a_get_finds_the_free_key_that_is_always_there() {
    let now = Timestamp::from_ms(5);
    let pool = Pool::new(Ttl::default(), 100, 64);
    create(&pool, usize::try_from(THREADS).unwrap(), now);
    on_threads(|mut rng| {
        for _ in 0..30_000 {
            let lease = pool.lease(now, LEASE_MS, &mut rng).expect("one key is free at any moment");
            pool.release(&lease.id, now, Fence::Open, 0).unwrap();
        }
    });
    pool.check_invariants();
}

/// All keys are leased and nobody sweeps; the time comes, and each thread finds one at once.
#[test]
fn ended_leases_are_found_by_all_who_ask_at_once() {
    let pool = Pool::new(Ttl::default(), 100, 4);
    create(&pool, usize::try_from(THREADS).unwrap(), Timestamp::default());
    for round in 0..4 {
        let now = Timestamp::from_ms(round * 60_000);
        let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
        on_threads(|mut rng| {
            barrier.wait();
            pool.lease(now, LEASE_MS, &mut rng).expect("a key for each");
        });
        assert_eq!(pool.lease(now, LEASE_MS, &mut rand::rng()), Err(Error::Exhausted));
        pool.check_invariants();
    }
}

/// Everything at once, while time flies. It stands still during each single operation, so that
/// what was leased when can be told exactly.
#[test]
fn all_operations_racing_keep_every_promise() {
    let ttl = Ttl { key_ttl_ms: 40, lease_ttl_ms: 7 };
    let pool = Pool::new(ttl, 300, 8);
    let now = RwLock::new(1);
    let leases = Mutex::new(Vec::<Lease>::new());
    let released = Mutex::new(Vec::<Released>::new());
    let created = Mutex::new(create(&pool, 100, Timestamp::from_ms(1)));
    on_threads(|mut rng| {
        let (mut own_leases, mut own_released) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            if rng.random_ratio(1, 40) {
                *now.write().unwrap() += 1;
            }
            let now = now.read().unwrap();
            let at = Timestamp::from_ms(*now);
            let pick = |rng: &mut SmallRng| {
                let created = created.lock().unwrap();
                created[rng.random_range(created.len().saturating_sub(300)..created.len())]
            };
            match rng.random_range(0..12) {
                0 => {
                    if let Ok(mut room) = pool.reserve(2, at) {
                        let id = KeyId::random(&mut rand::rng());
                        assert!(room.create(id, at));
                        created.lock().unwrap().push(id);
                    }
                }
                1..4 => {
                    if let Ok(lease) = pool.lease(at, 7, &mut rng) {
                        assert_eq!(lease.until, at.plus_ms(7));
                        own_leases.push(lease);
                    }
                }
                4 => pool.lease_group(at, 7, &mut rng, 3, &mut own_leases),
                5..7 => {
                    // Half of the keys are never released: their leases end by time.
                    let id = pick(&mut rng);
                    if id.as_bytes()[0].is_multiple_of(2) {
                        own_released.push((id, at, None));
                        let _ = pool.release(&id, at, Fence::Open, 0);
                    }
                }
                10.. if !own_leases.is_empty() => {
                    // A holder that may come too late, and then must free nobody else's lease.
                    let lease: Lease = own_leases[rng.random_range(0..own_leases.len())];
                    let fence = Fence::OneOf(&[lease.generation]);
                    if pool.release(&lease.id, at, fence, 0) == Ok(()) {
                        own_released.push((lease.id, at, Some(lease.generation)));
                    }
                }
                7 => drop(pool.keep_alive(&pick(&mut rng), at)),
                8 => drop(pool.get(&pick(&mut rng), at)),
                _ if rng.random_ratio(1, 10) => drop(pool.delete(&pick(&mut rng), at, Fence::Open)),
                _ => drop(pool.expire(at, 3)),
            }
        }
        leases.lock().unwrap().append(&mut own_leases);
        released.lock().unwrap().append(&mut own_released);
    });
    pool.check_invariants();
    check_leases(leases.into_inner().unwrap(), &released.into_inner().unwrap());

    let end = Timestamp::MAX;
    while pool.expire(end, 64) == 64 {}
    pool.check_invariants();
    let stats = pool.stats();
    assert_eq!((stats.keys, stats.life_entries, stats.hold_entries), (0, 0, 0));
}

/// A release that was done, and of which lease, if it named one.
type Released = (KeyId, Timestamp, Option<u64>);

/// No lease of a key begins before the one before it has ended or was released.
fn check_leases(mut leases: Vec<Lease>, released: &[Released]) {
    let mut times = HashMap::<KeyId, Vec<_>>::new();
    for (id, at, generation) in released {
        times.entry(*id).or_default().push((*at, *generation));
    }
    assert!(leases.len() > 1000, "only {} leases", leases.len());
    leases.sort_by_key(|lease| (lease.id, lease.generation));
    let mut ended_by_time = 0;
    for pair in leases.windows(2).filter(|pair| pair[0].id == pair[1].id) {
        let [first, second] = pair else { unreachable!() };
        assert!(first.generation < second.generation, "a generation repeats");
        let ended_it = |(at, generation): &(Timestamp, Option<u64>)| {
            (first.since..=second.since).contains(at)
                && generation.is_none_or(|generation| generation == first.generation)
        };
        let was_released = times.get(&first.id).is_some_and(|times| times.iter().any(ended_it));
        ended_by_time += u32::from(!was_released);
        assert!(was_released || first.until <= second.since, "{first:?} overlaps {second:?}");
    }
    assert!(ended_by_time > 100, "only {ended_by_time} leases were ended by time");
}

/// Few keys, and all that moves their entries in the index of holds: shortened leases, cool-downs,
/// and GETs that find nothing. Time moves between rounds only.
#[test]
fn holds_that_move_leave_no_entries_behind() {
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
                        2 => drop(pool.release(id, now, Fence::Open, 0)),
                        3 => drop(pool.release(id, now, Fence::Open, ms)),
                        4 => drop(pool.renew(id, now, Fence::Open, ms)),
                        5 if ms == 1 => drop(pool.delete(id, now, Fence::Open)),
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
        let stats = pool.stats();
        let left =
            (stats.keys, stats.life_entries, stats.hold_entries, stats.leased, stats.cooling);
        assert_eq!(left, (0, 0, 0, 0, 0), "{stats:?}");
    }
}

/// Clients on several threads wait for few keys, take them, hang up, and run out of time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_wait_share_no_key_and_none_is_lost() {
    const KEYS: usize = 5;
    let store = Memory::new(Options::default(), SystemClock::new());
    let sweep = tokio::spawn(store.clone().sweep());
    let ids = store.create(KEYS).await.unwrap().ids;
    let held = Arc::new(Mutex::new(HashSet::new()));
    let served = Arc::new(AtomicUsize::new(0));
    let client = |seed| {
        let (store, held, served) = (store.clone(), Arc::clone(&held), Arc::clone(&served));
        let mut rng = SmallRng::seed_from_u64(seed);
        async move {
            for _ in 0..200 {
                let wait_ms = rng.random_range(0..20);
                let waiting = store.lease(Leasing { wait_ms, lease_ms: None });
                let patience = Duration::from_micros(rng.random_range(0..20_000));
                // Whoever is given up has hung up: it must not take a key with it.
                let Ok(Ok(lease)) = timeout(patience, waiting).await else { continue };
                assert!(held.lock().unwrap().insert(lease.id), "two holders");
                yield_now().await;
                served.fetch_add(1, Relaxed);
                assert!(held.lock().unwrap().remove(&lease.id));
                let fence = Fence::OneOf(&[lease.generation]);
                store.release(&lease.id, Release { fence, cooldown_ms: 0 }).await.unwrap();
            }
        }
    };
    let clients: Vec<_> = (0..50).map(|seed| tokio::spawn(client(seed))).collect();
    for client in clients {
        client.await.unwrap();
    }
    sweep.abort();
    assert!(served.load(Relaxed) > 2000, "{served:?}");
    let stats = store.stats().await;
    assert_eq!((stats.free, stats.leased, store.vitals().await.waiting), (KEYS as u64, 0, 0));
    assert_eq!(store.lease_many(Leasing::default(), ids.len()).await.unwrap().len(), KEYS);
}

/// One comes to wait while another thread frees the only key: one of them must see the other.
/// Should the wake-up be lost, it would wait for a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost() {
    let store = Memory::new(Options::default(), SystemClock::new());
    store.create(1).await.unwrap();
    let mut lease = store.lease(Leasing::default()).await.unwrap();
    for round in 0..20_000 {
        let start = Arc::new(Barrier::new(2));
        let waiter = tokio::spawn({
            let (store, start) = (store.clone(), Arc::clone(&start));
            async move {
                start.wait();
                store.lease(Leasing { wait_ms: 60_000, lease_ms: None }).await
            }
        });
        start.wait();
        // They meet at another point each time.
        for _ in 0..round % 256 {
            std::hint::spin_loop();
        }
        store.release(&lease.id, Release::default()).await.unwrap();
        let result = timeout(Duration::from_secs(20), waiter).await;
        lease = result.unwrap_or_else(|_| panic!("lost in round {round}")).unwrap().unwrap();
    }
}

/// What was counted adds up at every moment, not only at rest.
#[test]
fn counts_add_up_while_others_work() {
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
                let ended = totals.releases + totals.lease_timeouts + totals.leases_lost;
                assert_eq!(totals.leases, ended + stats.leased);
                looks += 1;
                continue;
            }
            let Ok(lease) = pool.lease(now, LEASE_MS, &mut rng) else { continue };
            match rng.random_range(0..4) {
                0 => drop(pool.release(&lease.id, now, Fence::Open, 20)),
                1 if pool.delete(&lease.id, now, Fence::Open) == Ok(()) => {
                    create(&pool, 1, now);
                }
                _ => drop(pool.release(&lease.id, now, Fence::Open, 0)),
            }
        }
        is_done.fetch_add(looks, Relaxed);
    });
    assert!(is_done.load(Relaxed) >= 20_000, "nobody has looked");
}
