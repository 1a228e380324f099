//! Steps, and a world in which the pool and the model take them together.

use std::sync::Arc;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::engine::{OwnOptions, Pool, Settings, Size, ValueBytes};
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, Holder, KeyId, Leased, Quota, Ttl};
use token_orchestrator::time::Timestamp;

use super::journal::Recorder;
use super::model::Model;
use super::own::{OwnStep, own_step};
use super::same;

/// One step. Keys are named by a number, modulo how many were ever created, so that the dead and
/// the deleted are met as well.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create(usize),
    Own(OwnStep),
    Lease {
        ms: u32,
    },
    LeaseGroup {
        count: usize,
        ms: u32,
    },
    Release {
        key: usize,
        fence: Aim,
        cooldown_ms: u32,
    },
    Renew {
        key: usize,
        fence: Aim,
        ms: u32,
    },
    KeepAlive(usize),
    Delete {
        key: usize,
        fence: Aim,
    },
    Get(usize),
    NextRelease,
    Expire(usize),
    Advance(u64),
    /// To just before, at or just after one of the deadlines ahead.
    AdvanceToDeadline(usize, i64),
    Configure(Settings),
}

/// Which generation a step is meant for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    Any,
    /// So much more than the key's own.
    Off(i64),
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    settings: Settings,
    size: Size,
    value_bytes_max: usize,
    pub(super) labels_max: usize,
    quota_max: usize,
    seed: u64,
}

/// Pools that grow do so early.
fn sizes() -> impl Strategy<Value = Size> {
    prop_oneof![
        (1..5_u32).prop_map(|bits| Size::Fixed(1 << bits)),
        (1..5_u32, 0..20_usize)
            .prop_map(|(bits, small_max)| Size::Growing { shards: 1 << bits, small_max }),
    ]
}

/// Few keys for the most part, since the model looks at all; and some pools that die in masses.
fn settings() -> impl Strategy<Value = Settings> {
    let key_ttl_ms = prop_oneof![5 => 1..300_u64, 1 => Just(Ttl::NEVER_MS)];
    let keys_max = prop_oneof![60 => 1..20_usize, 1 => 300..1000_usize];
    let lapse_cooldown_ms = prop_oneof![1 => Just(0_u32), 1 => 1..200_u32];
    (key_ttl_ms, 1..300_u32, keys_max, lapse_cooldown_ms).prop_map(
        |(key_ttl_ms, lease_ttl_ms, keys_max, lapse_cooldown_ms)| {
            let ttl = Ttl { key_ttl_ms, lease_ttl_ms };
            Settings { ttl, keys_max, lapse_cooldown_ms }
        },
    )
}

/// Worlds, each with its own mix of steps: some have no deletes, some hardly any keep-alives, and so on.
pub(crate) fn worlds() -> impl Strategy<Value = (Options, Vec<Step>)> {
    let value_bytes_max = prop_oneof![1 => 0..40_usize, 1 => Just(usize::MAX)];
    let maxima = (value_bytes_max, 1..6_usize, 1..6_usize);
    let options = (settings(), sizes(), maxima, any::<u64>()).prop_map(
        |(settings, size, (value_bytes_max, labels_max, quota_max), seed)| Options {
            settings,
            size,
            value_bytes_max,
            labels_max,
            quota_max,
            seed,
        },
    );
    let weights = proptest::array::uniform11(0..10_u32);
    (options, weights).prop_flat_map(|(options, weights)| {
        let steps = proptest::collection::vec(step(weights, options.settings.keys_max), 50..120);
        (Just(options), steps)
    })
}

fn step(weights: [u32; 11], keys_max: usize) -> impl Strategy<Value = Step> {
    let key = 0..1000_usize;
    let ms = 1..300_u32;
    let fence = prop_oneof![3 => Just(Aim::Any), 3 => Just(Aim::Off(0)), 1 => (-3..3_i64).prop_map(Aim::Off)];
    let cooldown = prop_oneof![2 => Just(0_u32), 1 => 1..300_u32];
    let [create, own, lease, release, renew, keep_alive, delete, look, expire, advance, deadline] =
        weights;
    prop_oneof![
        1 + create + own => prop_oneof![
            1 + create => (1..6 + keys_max / 4).prop_map(Step::Create),
            own => own_step().prop_map(Step::Own),
        ],
        1 + lease => prop_oneof![
            2 => ms.clone().prop_map(|ms| Step::Lease { ms }),
            1 => (0..8_usize, ms.clone()).prop_map(|(count, ms)| Step::LeaseGroup { count, ms }),
        ],
        release => (key.clone(), fence.clone(), cooldown)
            .prop_map(|(key, fence, cooldown_ms)| Step::Release { key, fence, cooldown_ms }),
        renew => (key.clone(), fence.clone(), ms)
            .prop_map(|(key, fence, ms)| Step::Renew { key, fence, ms }),
        keep_alive => key.clone().prop_map(Step::KeepAlive),
        delete => (key.clone(), fence).prop_map(|(key, fence)| Step::Delete { key, fence }),
        look => prop_oneof![
            2 => key.clone().prop_map(Step::Get),
            1 => Just(Step::NextRelease),
            1 => settings().prop_map(Step::Configure),
        ],
        expire => (1..8_usize).prop_map(Step::Expire),
        advance => (0..400_u64).prop_map(Step::Advance),
        deadline => (key, -1..=1_i64).prop_map(|(n, offset)| Step::AdvanceToDeadline(n, offset)),
    ]
}

pub(crate) struct World {
    pub(super) pool: Pool<Recorder>,
    pub(super) model: Model,
    /// What the pool's journal has noted.
    recorder: Recorder,
    pub(super) options: Options,
    pub(super) now: Timestamp,
    pub(super) rng: StdRng,
    pub(super) created: Vec<KeyId>,
    pub(super) value_bytes: Arc<ValueBytes>,
    /// That of some holders.
    pub(super) quota: Arc<Quota>,
    /// Whether the pool's own invariants are checked, or only what it answers.
    looks_inside: bool,
}

impl World {
    pub(crate) fn new(options: &Options, looks_inside: bool) -> Self {
        let Options { settings, size, value_bytes_max, labels_max, quota_max, seed } = *options;
        let recorder = Recorder::default();
        let shared = Arc::new(ValueBytes::new(value_bytes_max));
        let value_bytes = Arc::clone(&shared);
        let own = OwnOptions { secret: [7; 16], value_bytes, labels_max };
        Self {
            pool: Pool::with_journal(settings, size, recorder.clone()).with_own(own),
            value_bytes: shared,
            quota: Arc::new(Quota::new(quota_max)),
            model: Model::new(settings),
            recorder,
            options: options.clone(),
            now: Timestamp::default(),
            rng: StdRng::seed_from_u64(seed),
            created: Vec::new(),
            looks_inside,
        }
    }

    pub(crate) fn run(mut self, steps: &[Step]) -> Result<(), String> {
        for (number, step) in steps.iter().enumerate() {
            self.take(step).map_err(|what| format!("step {number}, {step:?}: {what}"))?;
            if self.looks_inside {
                self.pool.check_invariants();
            }
            self.bury()?;
            self.check_totals()?;
            self.check_own()?;
        }
        if self.looks_inside {
            let restored =
                self.recorder.check(&self.pool, self.options.settings, self.options.size, self.now);
            restored.map_err(|what| format!("restored: {what}"))?;
        }
        self.all_things_end()
    }

    /// All keys die in the end, but for those without end, and nothing is left of them.
    fn all_things_end(&mut self) -> Result<(), String> {
        self.now = Timestamp::MAX;
        for id in self.model.ids() {
            let deleted = self.pool.delete(&id, self.now, Fence::Any);
            same(&deleted, &self.model.delete(&id, self.now, Fence::Any))?;
        }
        // Each looks at up to 8 of some 2000 entries.
        let is_done = (0..1000).any(|_| self.pool.expire(self.now, 8) < 8);
        same(&is_done, &true)?;
        self.bury()?;
        self.check_totals()?;
        self.check_own()?;
        let stats = self.pool.stats();
        let sizes = self.pool.index_sizes();
        let left = (stats.keys, stats.leased, sizes.life_entries, sizes.block_entries);
        same(&left, &(0, 0, 0, 0))?;
        same(&self.quota.held(), &0)
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        let now = self.now;
        match step {
            Step::Create(count) => self.create(*count)?,
            Step::Own(step) => self.take_own(step)?,
            Step::Lease { ms } => self.lease(*ms)?,
            Step::LeaseGroup { count, ms } => {
                let mut leases = Vec::new();
                self.pool.lease_group(now, *ms, &mut self.rng, *count, &mut leases);
                same(&(leases.len() <= *count), &true)?;
                leases.into_iter().try_for_each(|lease| self.leased(lease, *ms, None))?;
            }
            Step::Release { key, fence, cooldown_ms: ms } => {
                let Some(id) = self.key(*key) else { return Ok(()) };
                let aim = self.aim(&id, *fence);
                let fence = fence_at(aim.as_ref());
                let pool = self.pool.release(&id, now, fence, *ms);
                same(&pool, &self.model.release(&id, now, fence, *ms))?;
            }
            Step::Renew { key, fence, ms } => {
                let Some(id) = self.key(*key) else { return Ok(()) };
                let aim = self.aim(&id, *fence);
                let fence = fence_at(aim.as_ref());
                let pool = self.pool.renew(&id, now, fence, *ms);
                same(&pool, &self.model.renew(&id, now, fence, *ms))?;
            }
            Step::KeepAlive(key) => {
                let Some(id) = self.key(*key) else { return Ok(()) };
                same(&self.pool.keep_alive(&id, now), &self.model.keep_alive(&id, now))?;
            }
            Step::Delete { key, fence } => {
                let Some(id) = self.key(*key) else { return Ok(()) };
                let aim = self.aim(&id, *fence);
                let fence = fence_at(aim.as_ref());
                let pool = self.pool.delete(&id, now, fence);
                same(&pool, &self.model.delete(&id, now, fence))?;
            }
            Step::NextRelease => self.next_release()?,
            Step::Get(key) => {
                let Some(id) = self.key(*key) else { return Ok(()) };
                same(&self.pool.get(&id, now), &self.model.get(&id, now))?;
            }
            Step::Expire(limit) => {
                let is_done = self.pool.expire(now, *limit) < *limit;
                let is_due = self.pool.next_deadline().is_some_and(|next| next <= now);
                // An entry that comes too early is armed again, after `now`.
                same(&is_due, &(is_due && !is_done))?;
            }
            Step::Configure(settings) => {
                self.pool.configure(*settings, now);
                self.recorder.configure(*settings, now);
                self.model.configure(*settings, now);
                same(&self.pool.settings(), settings)?;
            }
            Step::Advance(ms) => self.now = now.plus_ms(*ms),
            Step::AdvanceToDeadline(nth, offset) => {
                let ahead = self.model.deadlines().into_iter().filter(|at| *at > now);
                let ahead = ahead.collect::<Vec<_>>();
                if let Some(at) = ahead.get(*nth % ahead.len().max(1)) {
                    self.now = Timestamp::from_ms(at.as_ms().saturating_add_signed(*offset));
                }
            }
        }
        Ok(())
    }

    fn create(&mut self, count: usize) -> Result<(), String> {
        match self.pool.reserve(count, self.now) {
            Err(error) => {
                same(&matches!(error, Error::Full { .. }), &true)?;
                same(&(count > self.model.room()), &true)
            }
            Ok(mut room) => {
                same(&(count <= self.model.room()), &true)?;
                // Sometimes the creator gives up half-way.
                for _ in 0..self.rng.random_range(0..=count) {
                    let mut id = KeyId::from_random_bytes(self.rng.random());
                    // Keys whose ids do not fit work as well.
                    if self.rng.random_ratio(9, 10) {
                        id = room.fit(id);
                    }
                    same(&room.create(id, self.now), &true)?;
                    self.model.create(id, self.now);
                    self.created.push(id);
                }
                Ok(())
            }
        }
    }

    fn lease(&mut self, ms: u32) -> Result<(), String> {
        let free = self.model.free(self.now);
        match self.pool.lease(self.now, ms, &mut self.rng) {
            Err(error) => {
                same(&error, &Error::EXHAUSTED)?;
                same(&Vec::new(), &free)
            }
            Ok(lease) => self.leased(lease, ms, None),
        }
    }

    /// The pool gave this lease.
    pub(super) fn leased(
        &mut self,
        lease: Leased,
        ms: u32,
        holder: Option<&Holder>,
    ) -> Result<(), String> {
        same(&self.model.free(self.now).contains(&lease.id), &true)?;
        let leased = self.model.lease(&lease.id, self.now, ms, holder);
        same(&Ok(lease), &leased)
    }

    /// The pool names it in time, and exactly if nothing is free, dead or overdue.
    fn next_release(&self) -> Result<(), String> {
        let (pool, model) = (
            self.pool.next_release_within(self.now, 1000).ok_or("not known")?,
            self.model.next_release(self.now),
        );
        same(&(model.is_none() || pool.is_some_and(|pool| Some(pool) <= model)), &true)?;
        let living = self.model.ids().iter().all(|id| self.model.get(id, self.now).is_ok());
        if living && self.model.free(self.now).is_empty() {
            same(&pool, &model)?;
        }
        Ok(())
    }

    fn check_totals(&self) -> Result<(), String> {
        let (totals, model) = (self.pool.stats().totals, &self.model);
        let pool =
            [totals.created, totals.expired, totals.deleted, totals.leases, totals.stale_refusals];
        let model =
            [model.created, model.expired, model.deleted, model.leases, model.stale_refusals];
        same(&pool, &model)
    }

    /// The generation that a step is meant for.
    fn aim(&self, id: &KeyId, aim: Aim) -> Option<[u64; 1]> {
        let generation = self.model.get(id, self.now).map_or(0, |info| info.generation);
        match aim {
            Aim::Any => None,
            Aim::Off(by) => Some([generation.wrapping_add_signed(by)]),
        }
    }

    /// The pool may remove dead keys at any time, and nothing else.
    pub(super) fn bury(&mut self) -> Result<(), String> {
        let mut kept = self.pool.ids();
        kept.sort();
        self.model.bury(self.now, &kept);
        same(&kept, &self.model.ids())
    }

    fn key(&self, number: usize) -> Option<KeyId> {
        self.created.get(number % self.created.len().max(1)).copied()
    }
}

fn fence_at(aim: Option<&[u64; 1]>) -> Fence<'_> {
    aim.map_or(Fence::Any, |generations| Fence::OneOf(generations))
}
