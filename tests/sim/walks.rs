//! Walks over all keys, while keys come and go between the pages and tables grow and shrink.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use token_orchestrator::engine::{Creation, NewKey, Pool, Settings, Size, WalkCursor};
use token_orchestrator::key::{Fence, KeyId, Label, Ttl, Value};
use token_orchestrator::time::Timestamp;

use super::{Tries, same, seed, try_cases};

/// Every key is created at a time of its own, by which it is known: no key lives for so long.
const TTL: Ttl = Ttl { key_ttl_ms: 1_000_000, lease_ttl_ms: 10 };

/// What happens before a page is read.
#[derive(Clone, Debug)]
struct Step {
    creations: usize,
    /// How many of a hundred keys are deleted.
    deleted_percent: usize,
    /// How many of a hundred keys die.
    dying_percent: u64,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Walk {
    size: Size,
    keys: usize,
    seed: u64,
    /// They repeat until the walk ends.
    steps: Vec<Step>,
}

fn walks() -> impl Strategy<Value = Walk> {
    let limit = prop_oneof![3 => 1..10_usize, 1 => 10..200_usize];
    let many = || prop_oneof![4 => Just(0), 1 => 0..30_usize, 1 => 0..600_usize];
    let percent = || prop_oneof![4 => Just(0), 1 => 0..30_usize, 1 => 0..100_usize];
    let step = (many(), percent(), percent(), limit).prop_map(
        |(creations, deleted_percent, dying_percent, limit)| Step {
            creations,
            deleted_percent,
            dying_percent: dying_percent as u64,
            limit,
        },
    );
    let steps = proptest::collection::vec(step, 1..20);
    let size = prop_oneof![
        (1..6_u32).prop_map(|bits| Size::Fixed(1 << bits)),
        (1..6_u32, 0..1000_usize)
            .prop_map(|(bits, small_max)| Size::Growing { shards: 1 << bits, small_max }),
    ];
    (size, prop_oneof![1 => 0..20_usize, 1 => 0..1500_usize], any::<u64>(), steps)
        .prop_map(|(size, keys, seed, steps)| Walk { size, keys, seed, steps })
}

struct World {
    pool: Pool,
    rng: StdRng,
    now: Timestamp,
    /// The living keys, and when they die.
    keys: BTreeMap<KeyId, Timestamp>,
}

impl World {
    fn new(size: Size, seed: u64) -> Self {
        Self {
            pool: Pool::with_journal(Settings::new(TTL, usize::MAX), size, ()),
            rng: StdRng::seed_from_u64(seed),
            now: Timestamp::from_ms(1),
            keys: BTreeMap::new(),
        }
    }

    fn create(&mut self, count: usize) {
        let mut room = self.pool.reserve(count, self.now).expect("room");
        for _ in 0..count {
            let id = room.fit(KeyId::from_random_bytes(self.rng.random()));
            // What a key has of its own is noted in its record, beside the half of the id that is there.
            if self.rng.random_ratio(1, 3) {
                let value = Value::new(&id.to_string()).expect("a short text");
                let label = Label::new("a", "1").expect("short texts");
                let own = NewKey { value: Some(&value), labels: &[label] };
                assert_eq!(room.create_with(id, self.now, own), Ok(Creation::New));
            } else {
                assert!(room.create(id, self.now));
            }
            self.keys.insert(id, TTL.life_ends(self.now));
        }
        self.now = self.now.plus_ms(1);
        self.keys.retain(|_, ends| *ends > self.now);
    }

    fn take(&mut self, step: &Step) {
        let mut ids: Vec<_> = self.keys.keys().copied().collect();
        ids.shuffle(&mut self.rng);
        for id in &ids[..ids.len() * step.deleted_percent / 100] {
            self.pool.delete(id, self.now, Fence::Any).expect("a living key");
            self.keys.remove(id);
        }
        if step.dying_percent > 0 {
            // The oldest die, and may be found dead before the sweep has come.
            let mut ends: Vec<_> = self.keys.values().copied().collect();
            ends.sort_unstable();
            let count = ends.len() as u64 * step.dying_percent / 100;
            if let Some(end) = usize::try_from(count).ok().and_then(|n| ends.get(n)) {
                self.now = self.now.max(*end);
                self.keys.retain(|_, ends| *ends > self.now);
            }
            if self.rng.random() {
                while self.pool.expire(self.now, 64) == 64 {}
            }
        }
        self.create(step.creations);
    }

    /// Walks once through the pool. Returns how many pages it took.
    fn walk(&mut self, steps: &[Step]) -> Result<usize, String> {
        let (mut cursor, mut seen) = (WalkCursor::default(), BTreeSet::new());
        let mut all_through: BTreeSet<_> = self.keys.keys().copied().collect();
        for (number, step) in steps.iter().cycle().enumerate() {
            let page = self.pool.walk(cursor, step.limit, self.now);
            same(&(page.keys.len() <= step.limit), &true)?;
            for (id, info) in &page.keys {
                same(&self.pool.get(id, self.now), &Ok(info.clone()))?;
                same(&self.keys.get(id), &Some(&info.life_ends))?;
                if !seen.insert(*id) {
                    return Err(format!("page {number}: {id:?} came twice"));
                }
            }
            let Some(next) = page.next else {
                let missed = all_through.difference(&seen).count();
                same(&missed, &0)?;
                return Ok(number + 1);
            };
            cursor = WalkCursor::decode(&next.encode()).ok_or("no cursor")?;
            same(&cursor, &next)?;
            // Changes do not outrun the walk for ever.
            if number < 200 {
                self.take(step);
            }
            all_through.retain(|id| self.keys.contains_key(id));
            // Pages of one key, and some without any.
            if number > 10_000 + self.keys.len() {
                return Err("the walk never ends".to_owned());
            }
        }
        unreachable!("there is a step")
    }
}

pub(crate) fn attack(tries: Tries) -> Result<u64, String> {
    let run = |walk: &Walk| {
        let mut world = World::new(walk.size, walk.seed);
        world.create(walk.keys);
        world.walk(&walk.steps).map(drop)?;
        world.pool.check_invariants();
        Ok(())
    };
    try_cases(tries, &walks(), |walk| walk.steps.len(), run)
}

#[test]
fn a_walk_sees_each_key_that_stays_exactly_once() {
    attack(Tries::new(seed(), 600)).unwrap_or_else(|report| panic!("{report}"));
}

/// Without changes each page is full, until few keys are left.
#[test]
fn pages_are_full() {
    let keys = [0, 1, 99, 100, 101, 20_000];
    let pools = keys.map(|keys| [Size::Fixed(16), Size::growing(16)].map(|size| (keys, size)));
    for (keys, size) in pools.into_iter().flatten() {
        let mut world = World::new(size, 1);
        world.create(keys);
        let step = Step { creations: 0, deleted_percent: 0, dying_percent: 0, limit: 100 };
        let pages = world.walk(&[step]).unwrap();
        // After a last full page, it may not be known that no key is left.
        assert!((keys.div_ceil(100).max(1)..=keys / 100 + 1).contains(&pages), "{keys}: {pages}");
    }
}

/// A pool that was large once has many empty buckets: a page does not look at all of them.
#[test]
fn a_page_of_an_almost_empty_pool_is_short_work() {
    let mut world = World::new(Size::Fixed(4096), 1);
    world.create(100_000);
    let most = Step { creations: 0, deleted_percent: 99, dying_percent: 0, limit: 1 };
    world.take(&most);
    let none = Step { deleted_percent: 0, limit: 100, ..most };
    let pages = world.walk(&[none]).unwrap();
    // 16 pages would be enough for the keys. Many come back with fewer.
    assert!(pages > 16, "{pages}");
}
