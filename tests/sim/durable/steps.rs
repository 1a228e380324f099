//! What is done, in random order.

use proptest::prelude::*;
use token_orchestrator::pool::{PoolName, Settings};

#[derive(Clone, Debug)]
pub(in crate::sim) enum Step {
    Create {
        pool: usize,
        own: bool,
    },
    Lease {
        pool: usize,
        ms: u32,
        held: bool,
    },
    Release {
        key: usize,
        cooldown_ms: u32,
    },
    Renew {
        key: usize,
        ms: u32,
    },
    KeepAlive(usize),
    Delete(usize),
    PutPool {
        name: usize,
        settings: usize,
    },
    DeletePool(usize),
    Advance(u64),
    Expire,
    Commit,
    /// What the system has in memory goes to the disk, as it does from time to time.
    Sync,
    Snapshot,
    /// The power is lost after so many more operations of the disk.
    FailAfter(usize),
    /// Writes and flushes fail from now on, until the process starts again.
    Break,
    /// The disk is full.
    Fill,
    /// It has room again.
    MakeRoom,
    LosePower,
    Kill,
    Close,
}

pub(in crate::sim) fn step() -> impl Strategy<Value = Step> {
    let (pool, key) = (0..4_usize, 0..64_usize);
    prop_oneof![
        8 => (pool.clone(), any::<bool>()).prop_map(|(pool, own)| Step::Create { pool, own }),
        8 => (pool, 1..400_u32, any::<bool>()).prop_map(|(pool, ms, held)| Step::Lease { pool, ms, held }),
        4 => (key.clone(), 0..300_u32).prop_map(|(key, cooldown_ms)| Step::Release { key, cooldown_ms }),
        3 => (key.clone(), 1..400_u32).prop_map(|(key, ms)| Step::Renew { key, ms }),
        3 => key.clone().prop_map(Step::KeepAlive),
        2 => key.prop_map(Step::Delete),
        2 => (0..3_usize, 0..4_usize).prop_map(|(name, settings)| Step::PutPool { name, settings }),
        1 => (0..3_usize).prop_map(Step::DeletePool),
        4 => (1..200_u64).prop_map(Step::Advance),
        2 => Just(Step::Expire),
        14 => Just(Step::Commit),
        2 => Just(Step::Sync),
        1 => Just(Step::Snapshot),
        2 => (0..40_usize).prop_map(Step::FailAfter),
        1 => Just(Step::Break),
        1 => Just(Step::Fill),
        2 => Just(Step::MakeRoom),
        1 => Just(Step::LosePower),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

#[derive(Clone, Debug)]
pub(in crate::sim) struct Options {
    pub(super) every_second: bool,
    pub(super) sealed: bool,
    pub(super) seed: u64,
}

pub(in crate::sim) fn worlds() -> impl Strategy<Value = (Options, Vec<Step>)> {
    let options = (any::<bool>(), any::<bool>(), any::<u64>())
        .prop_map(|(every_second, sealed, seed)| Options { every_second, sealed, seed });
    (options, prop::collection::vec(step(), 1..160))
}

pub(in crate::sim) fn settings(number: usize) -> Settings {
    let settings = Settings { lease_ttl_ms: 100, ..Settings::default() };
    match number {
        0 => Settings { key_ttl_ms: Some(500), ..settings },
        1 => Settings { key_ttl_ms: None, lapse_cooldown_ms: 150, ..settings },
        2 => Settings { key_ttl_ms: Some(2000), lapse_cooldown_ms: 70, ..settings },
        _ => Settings { key_ttl_ms: Some(900), ..settings },
    }
}

pub(in crate::sim) fn options(every_second: bool, sealed: bool, seed: u64) -> Options {
    Options { every_second, sealed, seed }
}

pub(in crate::sim) fn pool_name(number: usize) -> PoolName {
    ["default", "a", "b"][number].parse().unwrap()
}
