//! Executing a batch, in groups whose cache misses overlap.

use super::requests::Known;
use super::state::{Memory, Shared};
use crate::error::Error;
use crate::key::{KeyId, Lease, State};
use crate::store::operation::{Answer, Leasing, Operation, Release, Renewal, Reply, RequestKey};
use crate::store::port::Later;
use crate::time::{Clock, Timestamp};

impl<C: Clock> Memory<C> {
    /// How many keys are handled at a time: then an operation leaves the rest to the sweep, and the sweep
    /// lets others run.
    pub(super) const STEP: usize = 64;
    /// How long after its waiting time a request is answered at the latest, in milliseconds.
    const SETTLE_MS: u64 = 60_000;

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
            // Read now that all requests have come, so that none counts as of an earlier time than that.
            let now = self.shared.clock.now();
            let mut rest = group;
            while let Some((operation, behind)) = rest.split_first() {
                let done = match *operation {
                    Operation::Lease(leasing) => {
                        let run = run_of_leases(leasing, behind) + 1;
                        self.lease_run(leasing, run, now, answers, later, token);
                        run
                    }
                    Operation::LeaseOnce(leasing, request) => {
                        answers.push(self.lease_once(leasing, request, now, later, token));
                        1
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

    /// Executes an operation on one key, which can always be answered at once.
    fn act(&self, operation: Operation<'_>, now: Timestamp) -> Result<Reply, Error> {
        let Shared { pool, alarm, requests, .. } = &*self.shared;
        match operation {
            Operation::Show(id) => pool.get(&id, now).map(Reply::Shown),
            Operation::KeepAlive(id) => pool.keep_alive(&id, now).map(Reply::KeptAlive),
            Operation::Delete(id, fence) => {
                pool.delete(&id, now, fence)?;
                requests.ended(&id, |id, at| self.lasting(id, at, now));
                Ok(Reply::Deleted)
            }
            Operation::Release(id, Release { fence, cooldown_ms }) => {
                let released = pool.release(&id, now, fence, cooldown_ms);
                if released.is_ok() {
                    requests.ended(&id, |id, at| self.lasting(id, at, now));
                }
                if cooldown_ms > 0 {
                    alarm.note_deadline(now.plus_ms(u64::from(cooldown_ms)));
                }
                // Even if it was refused: it may have ended leases and cool-downs that were over.
                self.serve_after_release();
                released.map(|()| Reply::Released)
            }
            Operation::Renew(id, Renewal { fence, lease_ms }) => {
                let ms = lease_ms.unwrap_or(pool.ttl().lease_ttl_ms);
                let renewed = pool.renew(&id, now, fence, ms);
                if let Ok(lease) = &renewed {
                    alarm.note_deadline(lease.until);
                }
                // Even if it was refused, as above.
                self.serve_waiters();
                renewed.map(Reply::Renewed)
            }
            Operation::Lease(_) | Operation::LeaseOnce(..) | Operation::Create { .. } => {
                unreachable!("they may take longer, so `execute_all` handles them")
            }
        }
    }

    /// Executes `run` equal leases that follow one another. Together they are faster.
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
                // At that moment no key was free for the rest of the run, either.
                Some(refusal) => refusal.clone(),
                None => self.lease_or_wait(leasing, None, now, later, first_token + n as u64),
            };
            if let Answer::Now(Err(Error::Exhausted { .. })) = answer {
                refusal = Some(answer.clone());
            }
            answers.push(answer);
        }
        // They may have ended leases and cool-downs that were over.
        self.serve_waiters();
    }

    /// Leases a key, unless the lease of an earlier request with the same key lasts.
    fn lease_once(
        &self,
        leasing: Leasing,
        request: RequestKey,
        now: Timestamp,
        later: &Later,
        token: u64,
    ) -> Answer {
        let requests = &self.shared.requests;
        let until = now.plus_ms(u64::from(leasing.wait_ms)).plus_ms(Self::SETTLE_MS);
        let answer = match requests.begin(&request, until, |id, at| self.lasting(id, at, now)) {
            Err(error) => return Answer::Now(Err(error)),
            Ok(Known::Leased(lease)) => return Answer::Now(Ok(Reply::Leased(lease))),
            Ok(Known::New) => self.lease_or_wait(leasing, Some(request), now, later, token),
        };
        if let Answer::Now(outcome) = &answer {
            requests.settle(&request, outcome);
        }
        // It may have ended leases and cool-downs that were over.
        self.serve_waiters();
        answer
    }

    /// The lease of a key at a generation, if it lasts.
    pub(super) fn lasting(&self, id: &KeyId, generation: u64, now: Timestamp) -> Option<Lease> {
        match self.shared.pool.get(id, now).ok()?.state {
            State::Leased(lease) if lease.generation == generation => Some(lease),
            _ => None,
        }
    }

    /// Leases up to `count` keys, as far as they are found at once, unless clients wait.
    fn lease_group(&self, leasing: Leasing, count: usize, now: Timestamp, leases: &mut Vec<Lease>) {
        let Shared { pool, waiters, alarm, .. } = &*self.shared;
        if waiters.is_empty() {
            let ms = self.lease_ms(leasing);
            pool.lease_group(now, ms, &mut rand::rng(), count, leases);
            alarm.note_deadline(now.plus_ms(u64::from(ms)));
        }
    }
}

/// How many of the first operations are leases with the same arguments.
fn run_of_leases(leasing: Leasing, operations: &[Operation<'_>]) -> usize {
    let is_same = |operation: &&Operation<'_>| match operation {
        Operation::Lease(other) => *other == leasing,
        _ => false,
    };
    operations.iter().take_while(is_same).count()
}
