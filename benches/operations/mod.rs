//! The engine's operations, as benches drive them.

use std::hint::black_box;
use std::slice::from_ref;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::engine::Pool;
use token_orchestrator::key::{Fence, KeyId, Leased, Ttl};
use token_orchestrator::store::Options;
use token_orchestrator::time::Timestamp;

/// How many requests one call of an operation makes: as many as the hot path handles together.
pub(crate) const GROUP: u16 = 64;
const LEASE_MS: u32 = 60_000;
/// Keys are created in the minute before and after.
const NOW: Timestamp = Timestamp::from_ms(60_000);

/// A pool, and the keys in it.
pub(crate) struct Filled {
    pub(crate) pool: Pool,
    ids: Vec<KeyId>,
}

impl Filled {
    pub(crate) fn new(keys: usize) -> Self {
        let pool = Pool::new(Ttl::default(), usize::MAX, Options::SHARDS);
        let ids = (0..keys).map(|_| KeyId::random(&mut rand::rng())).collect::<Vec<_>>();
        let mut room = pool.reserve(keys, NOW).expect("room");
        for (n, id) in ids.iter().enumerate() {
            assert!(room.create(*id, Timestamp::from_ms(120_000 * n as u64 / keys as u64)));
        }
        drop(room);
        Self { pool, ids }
    }

    /// A pool in use: every key has its entry in the index of blocks.
    pub(crate) fn used(keys: usize) -> Self {
        let filled = Self::new(keys);
        let lease = |n| {
            let at = Timestamp::from_ms(60_000 * n as u64 / keys as u64);
            filled.pool.lease(at, LEASE_MS, &mut rand::rng()).expect("a free key")
        };
        let leases = (0..keys).map(lease);
        release(&filled, &leases.collect::<Vec<_>>());
        filled
    }
}

/// The state of one thread.
pub(crate) struct Worker {
    rng: SmallRng,
    ids: Vec<KeyId>,
    leases: Vec<Leased>,
}

impl Worker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed), ids: Vec::new(), leases: Vec::new() }
    }

    /// Picks the keys for the requests of a group.
    fn pick(&mut self, filled: &Filled) -> &[KeyId] {
        self.ids.clear();
        let pick = |_| filled.ids[self.rng.random_range(0..filled.ids.len())];
        self.ids.extend((0..GROUP).map(pick));
        &self.ids
    }

    /// Picks the keys, and prefetches their records.
    fn pick_ahead(&mut self, filled: &Filled) -> &[KeyId] {
        let ids = self.pick(filled);
        filled.pool.prefetch(ids.iter());
        ids
    }
}

/// How many keys the pools of a bench have: what `POOL_KEYS` says, or these.
pub(crate) fn sizes(usual: &str) -> Vec<usize> {
    let sizes = std::env::var("POOL_KEYS").unwrap_or(usual.to_owned());
    sizes.split(',').map(|size| size.parse().expect("POOL_KEYS: numbers with commas")).collect()
}

pub(crate) type Operation = fn(&Filled, &mut Worker);

/// Each makes [`GROUP`] requests: one after another or, "in groups", as the hot path does.
pub(crate) const OPERATIONS: [(&str, Operation); 8] = [
    ("lease+release", |filled, worker| {
        for _ in 0..GROUP {
            let lease = filled.pool.lease(NOW, LEASE_MS, &mut worker.rng).expect("a free key");
            release(filled, from_ref(&lease));
        }
    }),
    ("lease+release, in groups", |filled, worker| {
        let Worker { rng, leases, .. } = worker;
        leases.clear();
        filled.pool.lease_group(NOW, LEASE_MS, rng, GROUP.into(), leases);
        worker.ids.clear();
        worker.ids.extend(worker.leases.iter().map(|lease| lease.id));
        filled.pool.prefetch(worker.ids.iter());
        release(filled, &worker.leases);
    }),
    ("get", |filled, worker| get(filled, worker.pick(filled))),
    ("get, in groups", |filled, worker| get(filled, worker.pick_ahead(filled))),
    ("get, all the same key", |filled, _| {
        get(filled, &[filled.ids[0]; GROUP as usize]);
    }),
    ("keep_alive", |filled, worker| keep_alive(filled, worker.pick(filled))),
    ("keep_alive, in groups", |filled, worker| keep_alive(filled, worker.pick_ahead(filled))),
    ("create+delete", |filled, worker| {
        for _ in 0..GROUP {
            let id = KeyId::from_random_bytes(worker.rng.random());
            let mut room = filled.pool.reserve(1, NOW).expect("room");
            assert!(room.create(id, NOW));
            filled.pool.delete(&id, NOW, Fence::Any).expect("a living key");
        }
    }),
];

fn release(filled: &Filled, leases: &[Leased]) {
    for lease in leases {
        filled.pool.release(&lease.id, NOW, Fence::Any, 0).expect("a living key");
    }
}

fn get(filled: &Filled, ids: &[KeyId]) {
    for id in ids {
        black_box(filled.pool.get(id, NOW)).expect("a living key");
    }
}

fn keep_alive(filled: &Filled, ids: &[KeyId]) {
    for id in ids {
        black_box(filled.pool.keep_alive(id, NOW)).expect("a living key");
    }
}
