//! Keys in this process's memory: a [`Pool`], a clock, ids, and the sweep.

mod queue;
mod waiting;

use std::convert::Infallible;
use std::future::pending;
use std::mem::take;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::error;

use self::queue::Waiters;
use self::waiting::Given;
use super::{Created, Leasing, Release, Renewal, Store, Vitals, give_way};
use crate::engine::{Bug, Pool, Stats};
use crate::error::Error;
use crate::key::{Fence, KeyId, KeyInfo, Lease, Ttl};
use crate::time::{Clock, Timestamp};

/// Pause after a panic of the sweep, so that a lasting one does not fill the log.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// What a [`Memory`] is made with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long keys live and leases last.
    pub ttl: Ttl,
    /// The most keys there may be at once.
    pub keys_max: usize,
    /// Into how many shards the keys are divided: a power of two from 2 to 4096.
    pub shards: usize,
    /// The most who may wait for a key at once.
    pub waiters_max: usize,
}

impl Options {
    /// Enough for threads not to meet, few enough for a walk over them to be short.
    pub const SHARDS: usize = 256;
    /// About 1.3 GB.
    pub const KEYS_MAX: usize = 10_000_000;
    /// A few megabytes.
    pub const WAITERS_MAX: usize = 10_000;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ttl: Ttl::default(),
            keys_max: Self::KEYS_MAX,
            shards: Self::SHARDS,
            waiters_max: Self::WAITERS_MAX,
        }
    }
}

/// A [`Store`] in memory. Clones share their keys. Run [`Memory::sweep`] beside it.
#[derive(Clone)]
pub struct Memory<C> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    pool: Pool,
    clock: C,
    /// The sweep sleeps until then, in milliseconds; 0 while it is awake.
    sweep_wakes_ms: AtomicU64,
    sweep_is_wanted: Notify,
    waiters: Waiters,
    /// Leases that nobody has heard of, to be taken back.
    given_up: Mutex<Vec<Lease>>,
}

impl<C: Clock> Memory<C> {
    /// How many keys are created, or swept, before others get a chance to run: some 100 µs.
    const BATCH: usize = 64;

    /// An empty store. It starts nothing.
    ///
    /// # Panics
    ///
    /// As [`Pool::new`] does.
    #[must_use]
    pub fn new(options: Options, clock: C) -> Self {
        let pool = Pool::new(options.ttl, options.keys_max, options.shards);
        let shared = Shared {
            pool,
            clock,
            sweep_wakes_ms: AtomicU64::new(0),
            sweep_is_wanted: Notify::new(),
            waiters: Waiters::new(options.waiters_max),
            given_up: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The pool, to look at.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Ends leases and lives when they are due, in small batches, and sleeps until the next
    /// deadline; never returns. A panic is logged, and the sweep goes on after a second.
    ///
    /// Deadlines are exact without it, but for those who wait: it wakes them when a lease or a
    /// cool-down ends. It also makes those known to the draw early, and gives the memory of dead
    /// keys back.
    pub async fn sweep(self) {
        loop {
            let Err(_) = AssertUnwindSafe(self.sweep_until_panic()).catch_unwind().await;
            error!("the sweep panicked; it goes on in {PANIC_PAUSE:?}");
            sleep(PANIC_PAUSE).await;
        }
    }

    async fn sweep_until_panic(&self) -> Infallible {
        let Shared { pool, clock, .. } = &*self.shared;
        loop {
            let is_behind = pool.expire(clock.now(), Self::BATCH) == Self::BATCH;
            let has_more = self.take_back_some();
            if !self.serve_all_waiters() || is_behind || has_more {
                give_way().await;
            } else {
                self.sleep_until_next_deadline().await;
            }
        }
    }

    async fn sleep_until_next_deadline(&self) {
        let Shared { pool, clock, sweep_wakes_ms, sweep_is_wanted, .. } = &*self.shared;
        let next = || pool.next_deadline().map_or(u64::MAX, Timestamp::as_ms);
        let wakes_ms = next();
        sweep_wakes_ms.store(wakes_ms, SeqCst);
        // Whoever armed an earlier deadline before this was stored has told nobody.
        if next() >= wakes_ms {
            let deadline = async {
                match wakes_ms {
                    u64::MAX => pending().await,
                    ms => clock.sleep_until(Timestamp::from_ms(ms)).await,
                }
            };
            tokio::select! {
                () = deadline => {}
                () = sweep_is_wanted.notified() => {}
            }
        }
        sweep_wakes_ms.store(0, SeqCst);
    }

    /// Wakes the sweep if it would sleep past `deadline`.
    fn note_deadline(&self, deadline: Timestamp) {
        if deadline.as_ms() < self.shared.sweep_wakes_ms.load(SeqCst) {
            self.shared.sweep_is_wanted.notify_one();
        }
    }
}

impl<C: Clock> Store for Memory<C> {
    /// Only a lease ever gives way, and only before it has begun.
    const MAY_ASK_AGAIN: bool = true;

    async fn create(&self, count: usize) -> Result<Created, Error> {
        let Shared { pool, clock, .. } = &*self.shared;
        let mut room = loop {
            let now = clock.now();
            if let Ok(room) = pool.reserve(count, now) {
                break room;
            }
            // Dead keys take room until they are swept.
            if pool.expire(now, Self::BATCH) == 0 {
                // Another may have swept the last of them meanwhile.
                break pool.reserve(count, now)?;
            }
            self.serve_waiters();
            give_way().await;
        };
        let mut ids = Vec::with_capacity(count);
        let mut first_end = None;
        while ids.len() < count {
            let now = clock.now();
            let life_ends = now.plus_ms(pool.ttl().key_ttl_ms);
            for _ in 0..Self::BATCH.min(count - ids.len()) {
                let id = KeyId::random(&mut rand::rng());
                // In the next batch another id is tried for one that was taken.
                if room.create(id, now) {
                    ids.push(id);
                }
            }
            first_end.get_or_insert(life_ends);
            self.note_deadline(life_ends);
            self.serve_waiters();
            if ids.len() < count {
                give_way().await;
            }
        }
        Ok(Created { ids, life_ends: first_end.unwrap_or_default() })
    }

    async fn lease(&self, leasing: Leasing) -> Result<Lease, Error> {
        let ms = leasing.lease_ms.unwrap_or(self.shared.pool.ttl().lease_ttl_ms);
        match self.lease_now(ms).await {
            Err(Error::Exhausted) if leasing.wait_ms > 0 => {
                self.lease_waiting(ms, leasing.wait_ms).await
            }
            result => result,
        }
    }

    async fn lease_many(&self, leasing: Leasing, count: usize) -> Result<Vec<Lease>, Error> {
        let ms = leasing.lease_ms.unwrap_or(self.shared.pool.ttl().lease_ttl_ms);
        let mut given = Given { store: self, leases: Vec::with_capacity(count.min(Self::BATCH)) };
        let leases = &mut given.leases;
        while leases.len() < count {
            let wanted = leases.len() + Self::BATCH.min(count - leases.len());
            self.lease_group(ms, wanted - leases.len(), leases);
            if leases.len() < wanted {
                // It knows for sure whether there is another.
                let result = if leases.is_empty() {
                    self.lease(leasing).await
                } else {
                    self.lease_now(ms).await
                };
                match result {
                    Ok(lease) => leases.push(lease),
                    Err(error) if leases.is_empty() => return Err(error),
                    Err(_) => break,
                }
            }
            if leases.len() < count {
                give_way().await;
            }
        }
        Ok(take(leases))
    }

    fn lease_at_once(&self, count: usize, leases: &mut Vec<Lease>) {
        self.lease_group(self.shared.pool.ttl().lease_ttl_ms, count, leases);
    }

    fn prefetch(&self, ids: &[KeyId]) {
        self.shared.pool.prefetch(ids);
    }

    async fn renew(&self, id: &KeyId, renewal: Renewal<'_>) -> Result<Lease, Error> {
        let Shared { pool, clock, .. } = &*self.shared;
        let ms = renewal.lease_ms.unwrap_or(pool.ttl().lease_ttl_ms);
        let renewed = pool.renew(id, clock.now(), renewal.fence, ms);
        match &renewed {
            Ok(lease) => self.note_deadline(lease.until),
            // It may have found the lease to be over.
            Err(_) => self.serve_waiters(),
        }
        renewed
    }

    async fn release(&self, id: &KeyId, release: Release<'_>) -> Result<(), Error> {
        let Shared { pool, clock, .. } = &*self.shared;
        let now = clock.now();
        pool.release(id, now, release.fence, release.cooldown_ms)?;
        if release.cooldown_ms > 0 {
            self.note_deadline(now.plus_ms(u64::from(release.cooldown_ms)));
        }
        if !Bug::ReleaseWakesNobody.is_planted() {
            self.serve_waiters();
        }
        Ok(())
    }

    async fn keep_alive(&self, id: &KeyId) -> Result<Timestamp, Error> {
        self.shared.pool.keep_alive(id, self.shared.clock.now())
    }

    async fn delete(&self, id: &KeyId, fence: Fence<'_>) -> Result<(), Error> {
        self.shared.pool.delete(id, self.shared.clock.now(), fence)
    }

    async fn get(&self, id: &KeyId) -> Result<KeyInfo, Error> {
        self.shared.pool.get(id, self.shared.clock.now())
    }

    async fn next_release_ms(&self) -> Option<u64> {
        let Shared { pool, clock, .. } = &*self.shared;
        loop {
            let now = clock.now();
            if let Some(next) = pool.next_release_within(now, Self::BATCH) {
                return next.map(|at| at.ms_since(now));
            }
            give_way().await;
        }
    }

    async fn stats(&self) -> Stats {
        self.shared.pool.stats()
    }

    async fn vitals(&self) -> Vitals {
        let Shared { pool, clock, waiters, .. } = &*self.shared;
        let now = clock.now();
        Vitals {
            keys_max: pool.keys_max() as u64,
            waiting: waiters.len() as u64,
            leases_after_waiting: waiters.granted(),
            sweep_lag_ms: pool.next_deadline().map_or(0, |due| now.ms_since(due)),
        }
    }

    fn wall(&self, at: Timestamp) -> SystemTime {
        self.shared.clock.wall(at)
    }
}
