//! Executing a batch, in groups whose cache misses overlap.

use super::state::{Memory, Shared};
use crate::error::Error;
use crate::key::Lease;
use crate::store::operation::{Answer, Leasing, Operation, Release, Renewal, Reply};
use crate::store::port::Later;
use crate::time::{Clock, Timestamp};

impl<C: Clock> Memory<C> {
    /// How many keys an operation handles at a time before it leaves the rest to the sweep, or the
    /// sweep lets others run.
    pub(super) const STEP: usize = 64;

    pub(super) fn execute_all(
        &self,
        operations: &[Operation<'_>],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        let mut token = later.first_token;
        for group in operations.chunks(Self::STEP) {
            if group.len() > 1 {
                self.shared.pool.prefetch(group.iter().filter_map(Operation::id));
            }
            // All requests were received before, so none counts as of a time before it came.
            let now = self.shared.clock.now();
            let mut rest = group;
            while let Some((operation, behind)) = rest.split_first() {
                let done = match *operation {
                    Operation::Lease(leasing) => {
                        let run = run_of_leases(leasing, behind) + 1;
                        self.lease_run(leasing, run, now, answers, later, token);
                        run
                    }
                    Operation::Create { count } => {
                        answers.push(self.create_or_defer(count, now, later, token));
                        1
                    }
                    other => {
                        answers.push(Answer::Now(self.act(other, now)));
                        1
                    }
                };
                token += done as u64;
                rest = &rest[done..];
            }
        }
    }

    /// Operations on one key, which are always done at once.
    fn act(&self, operation: Operation<'_>, now: Timestamp) -> Result<Reply, Error> {
        let Shared { pool, alarm, .. } = &*self.shared;
        match operation {
            Operation::Show(id) => pool.get(&id, now).map(Reply::Shown),
            Operation::KeepAlive(id) => pool.keep_alive(&id, now).map(Reply::KeptAlive),
            Operation::Delete(id, fence) => pool.delete(&id, now, fence).map(|()| Reply::Deleted),
            Operation::Release(id, Release { fence, cooldown_ms }) => {
                let released = pool.release(&id, now, fence, cooldown_ms);
                if cooldown_ms > 0 {
                    alarm.note_deadline(now.plus_ms(u64::from(cooldown_ms)));
                }
                // Also if it was refused: it may have ended leases that were over.
                self.serve_after_release();
                released.map(|()| Reply::Released)
            }
            Operation::Renew(id, Renewal { fence, lease_ms }) => {
                let ms = lease_ms.unwrap_or(pool.ttl().lease_ttl_ms);
                let renewed = pool.renew(&id, now, fence, ms);
                if let Ok(lease) = &renewed {
                    alarm.note_deadline(lease.until);
                }
                // It may have ended this lease or others that were over.
                self.serve_waiters();
                renewed.map(Reply::Renewed)
            }
            Operation::Lease(_) | Operation::Create { .. } => {
                unreachable!("they may take longer, and are executed elsewhere")
            }
        }
    }

    /// Leases that follow one another are leased together, which is faster.
    fn lease_run(
        &self,
        leasing: Leasing,
        run: usize,
        now: Timestamp,
        answers: &mut Vec<Answer>,
        later: &Later,
        first_token: u64,
    ) {
        let mut leases = Vec::new();
        if run > 1 {
            self.lease_group(leasing, run, now, &mut leases);
        }
        let found = leases.len();
        answers.extend(leases.into_iter().map(|lease| Answer::Now(Ok(Reply::Leased(lease)))));
        let mut refusal: Option<Answer> = None;
        for n in found..run {
            let answer = match &refusal {
                // There was a moment at which no key was free for any of them.
                Some(refusal) => refusal.clone(),
                None => self.lease_or_wait(leasing, now, later, first_token + n as u64),
            };
            if let Answer::Now(Err(Error::Exhausted { .. })) = answer {
                refusal = Some(answer.clone());
            }
            answers.push(answer);
        }
        // They may have ended other leases as well.
        self.serve_waiters();
    }

    /// Leases as many keys as are easily found, up to `count`, unless others wait.
    fn lease_group(&self, leasing: Leasing, count: usize, now: Timestamp, leases: &mut Vec<Lease>) {
        let Shared { pool, waiters, alarm, .. } = &*self.shared;
        if waiters.is_empty() {
            let ms = self.lease_ms(leasing);
            pool.lease_group(now, ms, &mut rand::rng(), count, leases);
            alarm.note_deadline(now.plus_ms(u64::from(ms)));
        }
    }
}

/// How many of the first operations lease as this one does.
fn run_of_leases(leasing: Leasing, operations: &[Operation<'_>]) -> usize {
    let is_same = |operation: &&Operation<'_>| match operation {
        Operation::Lease(other) => *other == leasing,
        _ => false,
    };
    operations.iter().take_while(is_same).count()
}
