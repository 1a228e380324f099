//! The sweep: it ends what is over in all pools, serves waiters, and does long work in small steps.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::Builder;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;
use tracing::error;

use super::one_pool::OnePool;
use super::pools::PoolState;
use super::state::Memory;
use crate::key::Lease;
use crate::pool::PoolId;
use crate::store::give_way::give_way;
use crate::time::{Clock, Timestamp};

/// Pause after a panic of the sweep, so that a fault that lasts does not fill the log.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// How many due entries of a pool are handled at a time where many pools have some: fewer would not pay for the way from
/// pool to pool.
const STEP_MIN: usize = 4;
/// With so many keys a pool that was deleted is dropped at once, which takes some 100 µs.
const DROPPED_AT_ONCE: u64 = 1000;

/// Where the sweep has come to.
#[derive(Default)]
struct Turn {
    /// The pools that it is at.
    active: VecDeque<Arc<PoolState>>,
    /// The others, by the time at which it is to look at them.
    resting: BTreeMap<(u64, PoolId), Arc<PoolState>>,
    /// Creations that are being carried out.
    creations: VecDeque<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Turn {
    /// Goes to a pool, unless the sweep is there.
    fn wake(&mut self, pool: Arc<PoolState>) {
        // 0: it is there.
        let wakes_ms = pool.wakes_ms.swap(0, SeqCst);
        if wakes_ms != 0 {
            self.resting.remove(&(wakes_ms, pool.id));
            self.active.push_back(pool);
        }
    }

    /// Goes to the pools that something is due in. O(d log p) for d of p pools.
    fn wake_due(&mut self, now: Timestamp) {
        while self.resting.first_key_value().is_some_and(|((at, _), _)| *at <= now.as_ms()) {
            let (_, pool) = self.resting.pop_first().expect("it was there");
            self.wake(pool);
        }
    }

    /// Leaves a pool in which nothing is left to do, until its next deadline. O(log p) for p pools.
    fn rest<C: Clock>(&mut self, at: OnePool<'_, C>) -> bool {
        let next = || at.next_deadline().map_or(u64::MAX, Timestamp::as_ms);
        let wakes_ms = next();
        at.pool.wakes_ms.store(wakes_ms, SeqCst);
        // An operation that armed an earlier deadline before the store above did not ring.
        if next() < wakes_ms {
            at.pool.wakes_ms.store(0, SeqCst);
            return false;
        }
        if wakes_ms < u64::MAX {
            self.resting.insert((wakes_ms, at.pool.id), Arc::clone(at.pool));
        }
        true
    }
}

impl<C: Clock> Memory<C> {
    /// How many leases that no client has received are taken back at a time.
    const STEP: usize = OnePool::<C>::STEP;

    /// Ends leases, cool-downs and lives when they are due, serves waiters with the keys that this frees,
    /// answers waiters whose time is up, and does the long work of other operations, all in small steps, in all
    /// pools in turn. Then it sleeps until the next deadline. It never returns. A panic is logged, and the sweep goes
    /// on after a second.
    ///
    /// Deadlines are exact without it, except those of waiters. But only the sweep frees the memory of dead
    /// keys while nothing else happens, and only it creates more than 64 keys at a time.
    pub async fn sweep(self) {
        let mut turn = Turn::default();
        // What was armed before it runs has rung already, but for what was armed before there was anything to ring.
        self.shared.pools.all().into_iter().for_each(|pool| turn.wake(pool));
        loop {
            let turns = AssertUnwindSafe(self.sweep_until_panic(&mut turn));
            let Err(_) = turns.catch_unwind().await;
            error!("the sweep panicked; it goes on in {PANIC_PAUSE:?}");
            sleep(PANIC_PAUSE).await;
        }
    }

    async fn sweep_until_panic(&self, turn: &mut Turn) -> Infallible {
        let shared = &*self.shared;
        loop {
            shared.alarm.take_rung().into_iter().for_each(|pool| turn.wake(pool));
            turn.wake_due(shared.clock.now());
            self.sweep_round(turn).await;
            let new = shared.creations.lock().take_new();
            let new = new.into_iter().map(|new| self.clone().create_in_steps(new).boxed());
            turn.creations.extend(new);
            // One step of one creation, in turn.
            if let Some(mut creation) = turn.creations.pop_front()
                && creation.as_mut().now_or_never().is_none()
            {
                turn.creations.push_back(creation);
            }
            let now = shared.clock.now();
            shared.requests.sweep(now, |held| {
                shared.with(held.pool, |pool| pool.lasting(held, now)).flatten()
            });
            let is_taken_back = self.take_back_some();
            if turn.active.is_empty() && turn.creations.is_empty() && is_taken_back {
                self.sleep_until_next_deadline(turn).await;
            } else {
                give_way().await;
            }
        }
    }

    /// Does a step in each pool where there is something to do: the more pools, the smaller it is.
    async fn sweep_round(&self, turn: &mut Turn) {
        let count = turn.active.len();
        let step = (Self::STEP / count.max(1)).max(STEP_MIN);
        for n in 1..=count {
            // If it panics, the others are next.
            turn.active.rotate_left(1);
            let Some(pool) = turn.active.back().cloned() else { return };
            if pool.is_deleted() {
                // This place, `active`, and perhaps operations that began before.
                if Arc::strong_count(&pool) == 2 {
                    turn.active.pop_back();
                    // Millions of keys take some time. If there is no thread for that, it is done here.
                    if pool.keys().stats().keys > DROPPED_AT_ONCE {
                        let _ = Builder::new().name("drop".to_owned()).spawn(move || drop(pool));
                    }
                }
                continue;
            }
            let at = OnePool { shared: &self.shared, pool: &pool };
            if at.sweep_step(step) && turn.rest(at) {
                turn.active.pop_back();
            }
            if n % Self::STEP == 0 {
                give_way().await;
            }
        }
    }

    async fn sleep_until_next_deadline(&self, turn: &mut Turn) {
        let next = turn.resting.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
        let of_requests = self.shared.requests.next_end().map_or(u64::MAX, Timestamp::as_ms);
        let deadline = async {
            match next.min(of_requests) {
                u64::MAX => pending().await,
                ms => self.shared.clock.sleep_until(Timestamp::from_ms(ms)).await,
            }
        };
        tokio::select! {
            () = deadline => {}
            () = self.shared.alarm.bell.notified() => {}
        }
    }

    /// Takes back some of the leases that no client has received. False if there may be more.
    fn take_back_some(&self) -> bool {
        let mut given_up = self.shared.given_up.lock();
        let rest = given_up.len().saturating_sub(Self::STEP);
        let some = given_up.split_off(rest);
        if rest == 0 {
            *given_up = Vec::new();
        }
        drop(given_up);
        self.take_back(&some);
        rest == 0
    }

    /// Takes back leases that no client has received, and serves others with the keys.
    pub(super) fn take_back(&self, leases: &[Lease]) {
        for of_pool in leases.chunk_by(|a, b| a.pool == b.pool) {
            // With its pool, a lease has gone.
            let _ = self.shared.with(of_pool[0].pool, |pool| {
                for lease in of_pool {
                    pool.take_back(lease);
                }
                pool.serve_waiters();
            });
        }
    }
}

impl<C: Clock> OnePool<'_, C> {
    /// Does some of what is due: handles up to `step` entries, serves waiters, and ends waits. True if nothing is left.
    fn sweep_step(&self, step: usize) -> bool {
        let is_behind = self.keys().expire(self.now(), step) >= step;
        let is_served = self.serve_some_waiters() && self.end_waits();
        is_served && !is_behind
    }
}
