//! Records that wait for the next commit.
//!
//! A record goes to the stripe of its key, so those of a key stay in order. A commit takes all stripes at one moment: what
//! happened before something that it takes, it takes as well. So what is restored is always a state that the pools have
//! been in.

use std::collections::BTreeMap;
use std::mem::swap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use zeroize::Zeroize;

use super::record;
use crate::engine::fail_point::FailPoint;
use crate::engine::{After, Entry};
use crate::pool::{PoolName, Settings};
use crate::time::Timestamp;

/// Parts with a lock each, so that threads rarely meet.
const STRIPES: usize = 32;
/// A buffer of this size is kept for the next records.
const KEPT_BYTES: usize = 256 * 1024;

/// The records since the last commit.
pub(crate) struct Buffers {
    stripes: [CachePadded<Mutex<Stripe>>; STRIPES],
    pools: Mutex<PoolRecords>,
    /// The frame that records go to now.
    filling: AtomicU64,
    /// The last frame that has records, or is wanted without.
    last: CachePadded<AtomicU64>,
}

#[derive(Default)]
struct Stripe {
    bytes: Vec<u8>,
    /// The largest generation in them.
    generation: u64,
    /// Whether some have values, which are not to stay in memory.
    has_secrets: bool,
}

impl Stripe {
    /// Forgets all, and keeps the memory for the next records.
    fn clear(&mut self) {
        if self.has_secrets {
            self.bytes.as_mut_slice().zeroize();
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        (self.generation, self.has_secrets) = (0, false);
    }
}

/// Empty stripes, to be filled while what is in others is written.
#[derive(Default)]
pub(crate) struct Spare([Stripe; STRIPES]);

/// The pools that there are, and what is to be said of them.
#[derive(Default)]
struct PoolRecords {
    bytes: Vec<u8>,
    pools: Pools,
}

/// Pools by number, with their names and settings, and since when they have these.
pub(crate) type Pools = BTreeMap<u32, (PoolName, Settings, Timestamp)>;

/// What a commit takes.
pub(crate) struct Cut {
    /// The frame that it becomes.
    pub(crate) sequence: u64,
    /// The largest generation in it.
    pub(crate) generation: u64,
    /// The pools at that moment, if they were asked for.
    pub(crate) pools: Option<Pools>,
}

impl Buffers {
    /// Buffers whose first frame is the first one of all.
    pub(crate) fn new() -> Self {
        Self {
            stripes: std::array::from_fn(|_| CachePadded::default()),
            pools: Mutex::default(),
            filling: AtomicU64::new(1),
            last: CachePadded::default(),
        }
    }

    /// Goes on behind the frame `last`, with these pools. Nothing may have been added.
    pub(crate) fn go_on(&self, last: u64, pools: Pools) {
        self.filling.store(last + 1, SeqCst);
        self.last.store(last, SeqCst);
        self.pools.lock().pools = pools;
    }

    /// Adds an entry of a key. The guard of its record is held. O(length).
    pub(crate) fn add_key(&self, pool: u32, entry: &Entry) {
        let (generation, has_secrets) = match &entry.after {
            After::Whole { state, value, .. } => (state.generation, value.is_some()),
            After::State(state) => (state.generation, false),
            After::Gone => (0, false),
        };
        // Some of the random bits of the id.
        let mut stripe = usize::from(entry.id.as_bytes()[0]) % STRIPES;
        if FailPoint::RecordsOutOfOrder.is_on() {
            stripe = rand::random_range(0..STRIPES);
        }
        let mut stripe = self.stripes[stripe].lock();
        record::write_key(&mut stripe.bytes, pool, entry);
        stripe.generation = stripe.generation.max(generation);
        stripe.has_secrets |= has_secrets;
        self.note_filled();
    }

    /// Adds a pool, or a change of its settings, from `at` on. O(log p) for p pools.
    pub(crate) fn add_pool(&self, pool: u32, name: &PoolName, settings: Settings, at: Timestamp) {
        let PoolRecords { bytes, pools } = &mut *self.pools.lock();
        record::write_pool(bytes, pool, name, &settings, at);
        pools.insert(pool, (name.clone(), settings, at));
        self.note_filled();
    }

    /// Adds that a pool was deleted. O(log p) for p pools.
    pub(crate) fn add_pool_gone(&self, pool: u32) {
        let PoolRecords { bytes, pools } = &mut *self.pools.lock();
        record::write_pool_gone(bytes, pool);
        pools.remove(&pool);
        self.note_filled();
    }

    /// Notes that the frame that is being filled has records. While a lock is held that a commit takes, that frame does
    /// not change.
    fn note_filled(&self) {
        let filling = self.filling.load(SeqCst);
        if self.last.load(Relaxed) < filling {
            self.last.fetch_max(filling, SeqCst);
        }
    }

    /// The frame that must be on disk before all is that was added before this call. O(1).
    pub(crate) fn last(&self) -> u64 {
        self.last.load(SeqCst)
    }

    /// The frame that records go to now. O(1).
    #[cfg(test)]
    pub(crate) fn filling(&self) -> u64 {
        self.filling.load(SeqCst)
    }

    /// Makes sure that a frame is written that is not cut yet, or is cut during this call, even without records; and
    /// returns its number. O(1).
    pub(crate) fn want_frame(&self) -> u64 {
        let filling = self.filling.load(SeqCst);
        self.last.fetch_max(filling, SeqCst).max(filling)
    }

    /// Whether the frame that is being filled is wanted. O(1).
    pub(crate) fn is_wanted(&self) -> bool {
        self.last.load(SeqCst) >= self.filling.load(SeqCst)
    }

    /// Takes all records at one moment, and appends them to `payload`: those of pools first. O(s + bytes) for s stripes;
    /// locks are held for O(s), and O(p) if `wants_pools` of p pools.
    pub(crate) fn cut(&self, spare: &mut Spare, payload: &mut Vec<u8>, wants_pools: bool) -> Cut {
        let mut of_pools = self.pools.lock();
        let mut stripes = self.stripes.each_ref().map(|stripe| stripe.lock());
        let sequence = self.filling.fetch_add(1, SeqCst);
        for (stripe, spare) in stripes.iter_mut().zip(&mut spare.0) {
            swap(&mut **stripe, spare);
        }
        drop(stripes);
        let pools = wants_pools.then(|| of_pools.pools.clone());
        payload.append(&mut of_pools.bytes);
        drop(of_pools);
        let generation = spare.0.iter().map(|stripe| stripe.generation).max().unwrap_or(0);
        for taken in &mut spare.0 {
            payload.extend_from_slice(&taken.bytes);
            taken.clear();
        }
        Cut { sequence, generation, pools }
    }
}
