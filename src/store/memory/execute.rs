//! Executing a batch, in groups whose cache misses overlap.

use std::sync::Arc;

use super::one_pool::OnePool;
use super::requests::Known;
use super::state::Memory;
use crate::error::Error;
use crate::key::{Holder, Leased};
use crate::pool::PoolId;
use crate::store::operation::{Answer, Leasing, Operation, Release, Renewal, Reply, RequestKey};
use crate::store::port::Later;
use crate::time::{Clock, Timestamp};

/// An operation, and the pool that it is for.
type InPool<'a> = (PoolId, Operation<'a>);

impl<C: Clock> Memory<C> {
    /// Executes what follows one another for the same pool together.
    pub(super) fn execute_all(
        &self,
        operations: &[InPool<'_>],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        let mut token = later.first_token;
        for of_pool in operations.chunk_by(|(a, _), (b, _)| a == b) {
            let executed = self.shared.with(of_pool[0].0, |pool| {
                pool.execute_all(of_pool, answers, later, token);
            });
            if executed.is_none() {
                answers.extend(of_pool.iter().map(|_| Answer::Now(Err(Error::NoSuchPool))));
            }
            token += of_pool.len() as u64;
        }
    }
}

impl<C: Clock> OnePool<'_, C> {
    /// How long after its waiting time a request is answered at the latest, in milliseconds.
    const SETTLE_MS: u64 = 60_000;

    fn execute_all(
        &self,
        operations: &[InPool<'_>],
        answers: &mut Vec<Answer>,
        later: &Later,
        mut token: u64,
    ) {
        for group in operations.chunks(Self::STEP) {
            if group.len() > 1 {
                self.keys().prefetch(group.iter().filter_map(|(_, operation)| operation.id()));
            }
            // Read now that all requests have come, so that none counts as of an earlier time than that.
            let now = self.now();
            let mut rest = group;
            let is_full = self.shared.is_full();
            while let Some(((_, operation), behind)) = rest.split_first() {
                let done = match operation {
                    Operation::Show(id) => {
                        answers.push(Answer::Now(self.keys().get(id, now).map(Reply::Shown)));
                        1
                    }
                    _ if is_full => {
                        answers.push(Answer::Now(Err(Error::StorageFull)));
                        1
                    }
                    Operation::Lease(leasing) => {
                        let run = run_of_leases(leasing, behind) + 1;
                        self.lease_run(leasing, run, now, answers, later, token);
                        run
                    }
                    Operation::LeaseOnce(leasing, request) => {
                        answers.push(self.lease_once(leasing, *request, now, later, token));
                        1
                    }
                    Operation::Create { count } => {
                        answers.push(self.create_or_defer(*count, now, later, token));
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

    /// Executes an operation that changes one key, which can always be answered at once.
    fn act(&self, operation: &Operation<'_>, now: Timestamp) -> Result<Reply, Error> {
        let (keys, requests) = (self.keys(), &self.shared.requests);
        match *operation {
            Operation::KeepAlive(ref id) => keys.keep_alive(id, now).map(Reply::KeptAlive),
            Operation::Delete(ref id, fence) => {
                keys.delete(id, now, fence)?;
                requests.ended(self.pool.id, id, |held| self.lasting(held, now));
                Ok(Reply::Deleted)
            }
            Operation::Release(ref id, Release { fence, cooldown_ms }) => {
                let released = keys.release(id, now, fence, cooldown_ms);
                if released.is_ok() {
                    requests.ended(self.pool.id, id, |held| self.lasting(held, now));
                }
                if cooldown_ms > 0 {
                    self.note_deadline(now.plus_ms(u64::from(cooldown_ms)));
                }
                // Even if it was refused: it may have ended leases and cool-downs that were over.
                self.serve_after_release();
                released.map(|()| Reply::Released)
            }
            Operation::Renew(ref id, Renewal { fence, lease_ms }) => {
                let ms = lease_ms.unwrap_or_else(|| self.pool.settings().lease_ttl_ms);
                let renewed = keys.renew(id, now, fence, ms);
                if let Ok(lease) = &renewed {
                    self.note_deadline(lease.until);
                }
                // Even if it was refused, as above.
                self.serve_waiters();
                renewed.map(|lease| Reply::Renewed(self.named(lease)))
            }
            Operation::Lease(_)
            | Operation::LeaseOnce(..)
            | Operation::Create { .. }
            | Operation::Show(_) => {
                unreachable!("`execute_all` handles them")
            }
        }
    }

    /// Executes `run` equal leases that follow one another. Together they are faster.
    fn lease_run(
        &self,
        leasing: &Leasing,
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
                // At that moment there was no key for the rest of the run, either.
                Some(refusal) => refusal.clone(),
                None => self.lease_or_wait(leasing, None, now, later, first_token + n as u64),
            };
            if let Answer::Now(Err(Error::Exhausted { .. } | Error::TooManyHeld)) = answer {
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
        leasing: &Leasing,
        request: RequestKey,
        now: Timestamp,
        later: &Later,
        token: u64,
    ) -> Answer {
        let requests = &self.shared.requests;
        let until = now.plus_ms(u64::from(leasing.wait_ms)).plus_ms(Self::SETTLE_MS);
        let answer = match requests.begin(&request, until, |held| self.lasting(held, now)) {
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

    /// Leases up to `count` keys, as far as they are found at once, unless clients wait.
    fn lease_group(
        &self,
        leasing: &Leasing,
        count: usize,
        now: Timestamp,
        leases: &mut Vec<Leased>,
    ) {
        let is_any = leasing.label.is_none();
        if self.pool.waiters.is_empty() || is_any && self.is_quiet() {
            let terms = self.terms(leasing);
            self.keys().lease_group(now, terms, &mut rand::rng(), count, leases);
            self.note_deadline(now.plus_ms(u64::from(terms.lease_ms)));
            for leased in leases {
                leased.lease = self.named(leased.lease);
            }
        }
    }
}

/// How many of the first operations are leases with the same arguments, that count against the same quota.
fn run_of_leases(leasing: &Leasing, operations: &[InPool<'_>]) -> usize {
    let is_same = |(_, operation): &&InPool<'_>| match operation {
        Operation::Lease(other) => other == leasing && has_same_quota(other, leasing),
        _ => false,
    };
    operations.iter().take_while(is_same).count()
}

/// Whether two leases count against the same quota, or both against none: holders of the same name may have several.
fn has_same_quota(one: &Leasing, other: &Leasing) -> bool {
    match [one, other].map(|leasing| leasing.holder.as_ref().and_then(Holder::quota)) {
        [Some(one), Some(other)] => Arc::ptr_eq(one, other),
        [one, other] => one.is_none() && other.is_none(),
    }
}
