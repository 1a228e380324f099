//! A store in this process's memory: a [`Pool`](crate::engine::Pool), a clock, the queue of waiters, and the
//! sweep.

mod alarm;
mod create;
mod creation;
mod execute;
mod queue;
mod requests;
mod state;
mod sweep;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiting;

use self::state::Shared;
pub use self::state::{Memory, Options};
use super::operation::{Answer, Operation, Ticket};
use super::port::{Diagnose, Diagnostics, Later, Stats, Store};
use crate::error::Error;
use crate::key::Lease;
use crate::time::{Clock, Timestamp};

impl<C: Clock> Store for Memory<C> {
    fn execute(&self, operations: &[Operation<'_>], answers: &mut Vec<Answer>, later: &Later) {
        self.execute_all(operations, answers, later);
    }

    fn cancel(&self, ticket: Ticket) {
        if let Some(waiter) = self.shared.waiters.remove(ticket) {
            self.complete(&waiter, Err(Error::EXHAUSTED));
        } else {
            self.shared.creations.lock().forget(ticket);
        }
    }

    fn give_back(&self, mut leases: Vec<Lease>) {
        if leases.len() <= Self::STEP {
            for lease in &leases {
                self.take_back(lease);
            }
            return self.serve_waiters();
        }
        // The sweep takes them back, a step at a time.
        self.shared.given_up.lock().append(&mut leases);
        self.shared.alarm.ring();
    }

    async fn stats(&self) -> Result<Stats, Error> {
        let Shared { pool, waiters, .. } = &*self.shared;
        let stats = pool.stats();
        Ok(Stats {
            keys: stats.keys,
            free: stats.free,
            leased: stats.leased,
            cooling: stats.cooling,
            keys_max: pool.keys_max() as u64,
            waiting: waiters.len() as u64,
            leases_after_waiting: waiters.granted(),
            totals: stats.totals,
        })
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.shared.clock.unix_ms(at)
    }
}

impl<C: Clock> Diagnose for Memory<C> {
    fn diagnose(&self) -> Diagnostics {
        let Shared { pool, clock, .. } = &*self.shared;
        let now = clock.now();
        let sweep_lag_ms = pool.next_deadline().map_or(0, |due| now.ms_since(due));
        Diagnostics { index_sizes: pool.index_sizes(), sweep_lag_ms }
    }
}
