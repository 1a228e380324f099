//! The sweep: it ends what is over, serves waiters, and does long work in small steps.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;
use tracing::error;

use super::state::{Memory, Shared};
use crate::store::give_way::give_way;
use crate::time::{Clock, Timestamp};

/// Pause after a panic of the sweep, so that a fault that lasts does not fill the log.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// Creations that are being carried out.
type RunningCreations = VecDeque<Pin<Box<dyn Future<Output = ()> + Send>>>;

impl<C: Clock> Memory<C> {
    /// Ends leases, cool-downs and lives when they are due, serves waiters with the keys that this frees,
    /// answers waiters whose time is up, and does the long work of other operations, all in small steps. Then
    /// it sleeps until the next deadline. It never returns. A panic is logged, and the sweep goes on after a
    /// second.
    ///
    /// Deadlines are exact without it, except those of waiters. But only the sweep frees the memory of dead
    /// keys while nothing else happens, and only it creates more than 64 keys at a time.
    pub async fn sweep(self) {
        let mut creations = RunningCreations::new();
        loop {
            let turns = AssertUnwindSafe(self.sweep_until_panic(&mut creations));
            let Err(_) = turns.catch_unwind().await;
            error!("the sweep panicked; it goes on in {PANIC_PAUSE:?}");
            sleep(PANIC_PAUSE).await;
        }
    }

    async fn sweep_until_panic(&self, creations: &mut RunningCreations) -> Infallible {
        let Shared { pool, clock, .. } = &*self.shared;
        loop {
            let is_behind = pool.expire(clock.now(), Self::STEP) == Self::STEP;
            let new = self.shared.creations.lock().take_new();
            creations.extend(new.into_iter().map(|new| self.clone().create_in_steps(new).boxed()));
            // One step of one creation, in turn.
            if let Some(mut creation) = creations.pop_front()
                && creation.as_mut().now_or_never().is_none()
            {
                creations.push_back(creation);
            }
            let now = clock.now();
            self.shared.requests.sweep(now, |id, at| self.lasting(id, at, now));
            let is_taken_back = self.take_back_some();
            let is_done = self.serve_some_waiters() && self.end_waits();
            if is_done && is_taken_back && !is_behind && creations.is_empty() {
                self.sleep_until_next_deadline().await;
            } else {
                give_way().await;
            }
        }
    }

    async fn sleep_until_next_deadline(&self) {
        let Shared { pool, clock, alarm, waiters, .. } = &*self.shared;
        let next = || {
            let end = waiters.lock().next_end();
            [pool.next_deadline(), end, self.shared.requests.next_end()]
                .into_iter()
                .flatten()
                .min()
                .map_or(u64::MAX, Timestamp::as_ms)
        };
        let wakes_ms = next();
        alarm.wakes_ms.store(wakes_ms, SeqCst);
        // An operation that armed an earlier deadline before the store above did not ring.
        if next() >= wakes_ms {
            let deadline = async {
                match wakes_ms {
                    u64::MAX => pending().await,
                    ms => clock.sleep_until(Timestamp::from_ms(ms)).await,
                }
            };
            tokio::select! {
                () = deadline => {}
                () = alarm.bell.notified() => {}
            }
        }
        alarm.wakes_ms.store(0, SeqCst);
    }
}
