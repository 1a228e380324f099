//! The queue of waiters against an obvious model: the store in memory on a manual
//! clock, every task polled by hand and in an order of the seed's choosing.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, KeyId, Lease, Leased};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{Leasing, Memory, Options, Release, Renewal, StoreExt};
use token_orchestrator::time::{Clock, ManualClock, Timestamp};

use super::{Tries, same};

/// One step. Blocks and waiters are named by a number, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Wait {
        wait_ms: u32,
        lease_ms: u32,
    },
    Lease {
        lease_ms: u32,
    },
    HangUp(usize),
    Release {
        block: usize,
        cooldown_ms: u32,
    },
    Renew {
        block: usize,
        lease_ms: u32,
    },
    Delete(usize),
    Advance(u64),
    /// To just before, at or just after one of the deadlines ahead.
    AdvanceToDeadline(usize, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let (nth, ms) = (0..100_usize, 1..100_u32);
    let cooldown = prop_oneof![2 => Just(0_u32), 1 => 1..100_u32];
    prop_oneof![
        1 => (1..4_usize).prop_map(Step::Create),
        6 => (ms.clone(), ms.clone())
            .prop_map(|(wait_ms, lease_ms)| Step::Wait { wait_ms, lease_ms }),
        3 => ms.clone().prop_map(|lease_ms| Step::Lease { lease_ms }),
        2 => nth.clone().prop_map(Step::HangUp),
        4 => (nth.clone(), cooldown)
            .prop_map(|(block, cooldown_ms)| Step::Release { block, cooldown_ms }),
        1 => (nth.clone(), ms).prop_map(|(block, lease_ms)| Step::Renew { block, lease_ms }),
        1 => nth.clone().prop_map(Step::Delete),
        2 => (0..60_u64).prop_map(Step::Advance),
        4 => (nth, -1..=1_i64).prop_map(|(nth, off)| Step::AdvanceToDeadline(nth, off)),
    ]
}

type Task = Pin<Box<dyn Future<Output = Result<Leased, Error>>>>;

struct Waiter {
    task: Task,
    until: Timestamp,
    lease_ms: u32,
}

/// A lease or, at generation `None`, a cool-down.
struct Block {
    id: KeyId,
    generation: Option<u64>,
    until: Timestamp,
}

struct World {
    store: Memory<ManualClock>,
    clock: ManualClock,
    sweep: Pin<Box<dyn Future<Output = ()>>>,
    rng: StdRng,
    /// What the model knows: waiters in the order of their arrival.
    waiters: Vec<Waiter>,
    blocks: Vec<Block>,
    free: BTreeSet<KeyId>,
}

impl World {
    const WAITERS_MAX: usize = 5;
    /// How often each task is polled: none yields more than once for so few keys.
    const TURNS: usize = 6;

    fn new(seed: u64) -> Self {
        // Lives are for the other model: there the draw is seeded, and here it is not.
        let settings =
            Settings { key_ttl_ms: Some(1_000_000), lease_ttl_ms: 50, ..Settings::default() };
        let options =
            Options { settings, waiters_max: Self::WAITERS_MAX, shards: 4, ..Options::default() };
        let clock = ManualClock::default();
        let store = Memory::new(options, clock.clone());
        let sweep = Box::pin(store.clone().sweep());
        let rng = StdRng::seed_from_u64(seed);
        let (waiters, blocks, free) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { store, clock, sweep, rng, waiters, blocks, free }
    }

    fn run(mut self, steps: &[Step]) -> Result<(), String> {
        for (number, step) in steps.iter().enumerate() {
            let taken = self.take(step).and_then(|()| self.settle());
            taken.map_err(|what| format!("step {number}, {step:?}: {what}"))?;
            self.store.pool().check_invariants();
            let stats = self.store.stats().now_or_never().ok_or("it waits")?;
            let waiting = stats.map_err(|error| error.to_string())?.waiting;
            same(&waiting, &(self.waiters.len() as u64))?;
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        let (now, store) = (self.clock.now(), self.store.clone());
        match *step {
            Step::Create(count) => {
                let created = store.create(count).now_or_never().ok_or("it waits")?;
                self.free.extend(created.map_err(|error| error.to_string())?.ids);
            }
            Step::Wait { wait_ms, lease_ms } => {
                let leasing = Leasing::of_any(Some(lease_ms), wait_ms);
                let mut task: Task = Box::pin(async move { store.lease(leasing).await });
                match poll(&mut task) {
                    Poll::Ready(Err(error)) => {
                        same(&error, &Error::TooManyWaiters)?;
                        same(&(self.free.len(), self.waiters.len()), &(0, Self::WAITERS_MAX))?;
                    }
                    Poll::Ready(Ok(lease)) => self.leased(&lease, lease_ms)?,
                    Poll::Pending => {
                        same(
                            &(self.free.len(), self.waiters.len() < Self::WAITERS_MAX),
                            &(0, true),
                        )?;
                        let until = now.plus_ms(u64::from(wait_ms));
                        self.waiters.push(Waiter { task, until, lease_ms });
                    }
                }
            }
            Step::Lease { lease_ms } => {
                let leasing = Leasing::of_any(Some(lease_ms), 0);
                match store.lease(leasing).now_or_never().ok_or("it waits")? {
                    Ok(lease) => self.leased(&lease, lease_ms)?,
                    Err(error) => same(&(is_exhausted(error), self.free.len()), &(true, 0))?,
                }
            }
            Step::HangUp(nth) => {
                if let Some(nth) = nth.checked_rem(self.waiters.len()) {
                    self.waiters.remove(nth);
                }
            }
            Step::Release { block, cooldown_ms } => {
                let Some(nth) = block.checked_rem(self.blocks.len()) else { return Ok(()) };
                let block = &mut self.blocks[nth];
                let fence = block.generation.map_or(Fence::Any, Fence::One);
                let release = store.release(&block.id, Release { fence, cooldown_ms });
                same(&release.now_or_never(), &Some(Ok(())))?;
                let until = now.plus_ms(u64::from(cooldown_ms));
                // A longer cool-down is not cut short, but by a release without one.
                if cooldown_ms == 0 {
                    self.free.insert(self.blocks.remove(nth).id);
                } else if block.generation.take().is_some() || block.until < until {
                    block.until = until;
                }
            }
            Step::Renew { block, lease_ms } => {
                let Some(nth) = block.checked_rem(self.blocks.len()) else { return Ok(()) };
                let block = &mut self.blocks[nth];
                let renewal = Renewal { lease_ms: Some(lease_ms), ..Renewal::default() };
                let renewed = store.renew(&block.id, renewal).now_or_never().ok_or("it waits")?;
                let generation = renewed.map(|lease| lease.generation);
                same(&generation, &block.generation.ok_or(Error::NotLeased))?;
                if block.generation.is_some() {
                    block.until = now.plus_ms(u64::from(lease_ms));
                }
            }
            Step::Delete(nth) => {
                let Some(nth) = nth.checked_rem(self.blocks.len()) else { return Ok(()) };
                let deleted = store.delete(&self.blocks.remove(nth).id, Fence::Any).now_or_never();
                same(&deleted, &Some(Ok(())))?;
            }
            Step::Advance(ms) => self.clock.advance_ms(ms),
            Step::AdvanceToDeadline(nth, offset) => {
                let waits = self.waiters.iter().map(|waiter| waiter.until);
                let ends = waits.chain(self.blocks.iter().map(|block| block.until));
                let mut ahead: Vec<_> = ends.filter(|at| *at > now).collect();
                ahead.sort();
                if let Some(nth) = nth.checked_rem(ahead.len()) {
                    let ms = ahead[nth].ms_since(now).saturating_add_signed(offset);
                    self.clock.advance_ms(ms);
                }
            }
        }
        Ok(())
    }

    /// The store gave this lease at this very moment.
    fn leased(&mut self, lease: &Lease, lease_ms: u32) -> Result<(), String> {
        let now = self.clock.now();
        same(&self.free.remove(&lease.id), &true)?;
        same(&(lease.since, lease.until), &(now, now.plus_ms(u64::from(lease_ms))))?;
        let generation = Some(lease.generation);
        self.blocks.push(Block { id: lease.id, generation, until: lease.until });
        Ok(())
    }

    /// Lets every task run as far as it can, and compares the answers with the model.
    fn settle(&mut self) -> Result<(), String> {
        let now = self.clock.now();
        let over = self.blocks.extract_if(.., |block| block.until <= now);
        self.free.extend(over.map(|block| block.id));
        // First come, first served. A waiter that is left when its time is up gets nothing.
        let served = self.free.len().min(self.waiters.len());
        let mut answers: Vec<_> = self.waiters.iter().map(|_| None).collect();
        for _ in 0..Self::TURNS {
            let mut turns: Vec<_> = (0..=self.waiters.len()).collect();
            turns.shuffle(&mut self.rng);
            for turn in turns {
                match self.waiters.get_mut(turn) {
                    None => same(&poll(&mut self.sweep).is_pending(), &true)?,
                    Some(waiter) if answers[turn].is_none() => {
                        if let Poll::Ready(answer) = poll(&mut waiter.task) {
                            answers[turn] = Some(answer);
                        }
                    }
                    Some(_) => {}
                }
            }
        }
        let mut left = Vec::new();
        for (place, (waiter, answer)) in
            std::mem::take(&mut self.waiters).into_iter().zip(answers).enumerate()
        {
            match answer {
                Some(Ok(lease)) => {
                    same(&(place < served), &true)?;
                    self.leased(&lease, waiter.lease_ms)?;
                }
                Some(Err(error)) => {
                    same(
                        &(is_exhausted(error), place < served, waiter.until <= now),
                        &(true, false, true),
                    )?;
                }
                None => {
                    same(&(place < served, waiter.until <= now), &(false, false))?;
                    left.push(waiter);
                }
            }
        }
        self.waiters = left;
        Ok(())
    }
}

fn is_exhausted(error: Error) -> bool {
    matches!(error, Error::Exhausted { .. })
}

fn poll<T>(task: &mut Pin<Box<dyn Future<Output = T>>>) -> Poll<T> {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Tries `cases` lists of steps, and returns the number of steps.
///
/// # Errors
///
/// A report of the first list that fails.
pub(crate) fn attack(tries: Tries) -> Result<u64, String> {
    let steps = (any::<u64>(), proptest::collection::vec(step(), 50..120));
    super::try_cases(
        tries,
        &steps,
        |(_, steps)| steps.len(),
        |(seed, steps)| World::new(*seed).run(steps),
    )
}

#[test]
fn waiters_get_what_the_model_gives_them() {
    let (seed, cases) = (super::seed(), super::cases() / 10);
    let taken = attack(Tries::new(seed, cases)).unwrap_or_else(|report| panic!("{report}"));
    println!("seed {seed}: {taken} steps of the queue in {cases} cases");
    assert!(taken >= u64::from(cases) * 50, "only {taken} steps");
}
