//! Executing a batch: its operations are sent to their shards, all at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::creation::ttl_of;
use super::lane::{Job, Kind};
use super::line::Entry;
use super::lists::read_shown;
use super::pool::Pool;
use super::receiver::Receiver;
use super::state::Shared;
use super::wire::{Code, Reader, Writer};
use crate::error::Error;
use crate::key::{KeyId, Lease};
use crate::pool::PoolId;
use crate::store::operation::{Answer, Leasing, Operation, Renewal, Reply, RequestKey, Ticket};
use crate::store::port::Later;
use crate::time::{Clock, Timestamp};

/// Tickets of creations have this bit, those of leases do not.
pub(super) const CREATION: u64 = 1 << 63;
/// The ticket of an operation that is not cancelled.
const NONE: u64 = CREATION - 1;

/// Jobs by the places of their shards.
#[derive(Default)]
pub(super) struct Batch {
    by_lane: HashMap<(u32, usize), (Arc<Pool>, Vec<Job>)>,
}

impl Batch {
    pub(super) fn add(&mut self, pool: &Arc<Pool>, lane: usize, job: Job) {
        let of_lane = self.by_lane.entry((pool.id.serial, lane));
        of_lane.or_insert_with(|| (Arc::clone(pool), Vec::new())).1.push(job);
    }
}

/// What was answered to a renewal.
struct Renewed {
    lease: Lease,
    digest: Option<[u8; 16]>,
    quota: Option<(String, u64)>,
}

impl<C: Clock> Shared<C> {
    pub(super) fn execute_all(
        self: &Arc<Self>,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        let mut batch = Batch::default();
        let mut known: Option<Arc<Pool>> = None;
        for ((id, operation), token) in operations.iter().zip(later.first_token..) {
            if known.as_ref().is_none_or(|pool| pool.id != *id || pool.is_deleted()) {
                known = self.registry.get(*id);
            }
            let receiver = Receiver { receiver: Arc::clone(&later.receiver), token };
            answers.push(match &known {
                None => Answer::Now(Err(Error::NoSuchPool)),
                Some(pool) => {
                    let number = self.begin(pool, operation, receiver, &mut batch);
                    Answer::Later(Ticket { pool: *id, number })
                }
            });
        }
        self.flush(batch);
    }

    /// Sends what was gathered.
    pub(super) fn flush(self: &Arc<Self>, batch: Batch) {
        for ((_, lane), (pool, jobs)) in batch.by_lane {
            self.push(&pool, lane, jobs);
        }
    }

    /// Begins an operation, and returns the number of its ticket.
    fn begin(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        operation: &Operation<'_>,
        receiver: Receiver,
        batch: &mut Batch,
    ) -> u64 {
        match operation {
            Operation::Create { count } => {
                let ticket = CREATION | self.next_ticket.fetch_add(1, Relaxed);
                self.creations.lock().insert(ticket);
                let create = Arc::clone(self).create(Arc::clone(pool), *count, ticket, receiver);
                self.runtime.spawn(create);
                ticket
            }
            Operation::Lease(leasing) => self.lease(pool, leasing, None, receiver, batch),
            Operation::LeaseOnce(leasing, request) => {
                self.lease(pool, leasing, Some(*request), receiver, batch)
            }
            other => {
                let id = other.id().expect("all others name a key");
                batch.add(pool, pool.lane_of(id), self.job_of(pool, id, other, receiver));
                NONE
            }
        }
    }

    fn lease(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        leasing: &Leasing,
        request: Option<RequestKey>,
        receiver: Receiver,
        batch: &mut Batch,
    ) -> u64 {
        let number = pool.line.number();
        let lease_ms = leasing.lease_ms.unwrap_or_else(|| pool.settings().lease_ttl_ms).max(1);
        let until = self.clock.now().plus_ms(leasing.wait_ms.into());
        let leasing = leasing.clone();
        let wait_ms = leasing.wait_ms;
        let (request_of_it, nonce, has_waited) = Default::default();
        let entry =
            Entry { leasing, lease_ms, request: request_of_it, until, receiver, nonce, has_waited };
        match request {
            None => self.look_for(pool, number, entry, batch),
            Some(request) => {
                pool.line.send(number, entry);
                let once = Arc::clone(self).lease_once(Arc::clone(pool), number, request, wait_ms);
                self.runtime.spawn(once);
            }
        }
        number
    }

    /// An operation on one key.
    fn job_of(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        id: &KeyId,
        operation: &Operation<'_>,
        receiver: Receiver,
    ) -> Job {
        let (of_pool, id) = (Arc::clone(pool), *id);
        match operation {
            Operation::Show(_) => {
                let show = Writer::new(Code::Show).id(&id);
                let read =
                    move |reader: &mut Reader<'_>, now| read_shown(reader, of_pool.id, id, now);
                Job::new(show, Kind::Look, read, move |shown| {
                    receiver.tell(shown.map(Reply::Shown));
                })
            }
            Operation::KeepAlive(_) => {
                let keep_alive = Writer::new(Code::KeepAlive).id(&id).number::<6>(ttl_of(pool));
                let read = |reader: &mut Reader<'_>, _| match reader.outcome()? {
                    Ok(()) => Ok(Ok(reader.time()?)),
                    Err(error) => Ok(Err(error)),
                };
                let done =
                    move |kept: Result<Timestamp, Error>| receiver.tell(kept.map(Reply::KeptAlive));
                Job::new(keep_alive, Kind::Change, read, done)
            }
            Operation::Delete(_, fence) => {
                let delete = Writer::new(Code::Delete).id(&id).fence(*fence);
                let done = move |deleted: Result<(), Error>| {
                    receiver.tell(deleted.map(|()| Reply::Deleted));
                };
                Job::new(delete, Kind::Change, |reader, _| reader.outcome(), done)
            }
            Operation::Release(_, release) => {
                let cooldown_ms = release.cooldown_ms;
                let operation = Writer::new(Code::Release)
                    .id(&id)
                    .number::<4>(cooldown_ms.into())
                    .fence(release.fence);
                let done = move |released: Result<(), Error>| {
                    if released.is_ok() && cooldown_ms == 0 {
                        of_pool.lanes[of_pool.lane_of(&id)].add_known(1);
                    }
                    // Even if it was refused: it may have ended what was over.
                    of_pool.line.note_news();
                    receiver.tell(released.map(|()| Reply::Released));
                };
                Job::new(operation, Kind::Change, |reader, _| reader.outcome(), done)
            }
            Operation::Renew(_, Renewal { fence, lease_ms }) => {
                let lease_ms = lease_ms.unwrap_or_else(|| pool.settings().lease_ttl_ms).max(1);
                self.renewal(
                    pool,
                    id,
                    lease_ms,
                    Writer::new(Code::Renew).id(&id).number::<4>(lease_ms.into()).fence(*fence),
                    receiver,
                )
            }
            Operation::Create { .. } | Operation::Lease(_) | Operation::LeaseOnce(..) => {
                unreachable!("`begin` handles them")
            }
        }
    }

    fn renewal(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        id: KeyId,
        lease_ms: u32,
        operation: Writer,
        receiver: Receiver,
    ) -> Job {
        let (shared, of_pool, pool_id) = (Arc::clone(self), Arc::clone(pool), pool.id);
        let read = move |reader: &mut Reader<'_>, now: Timestamp| {
            if let Err(error) = reader.outcome()? {
                return Ok(Err(error));
            }
            let (generation, until) = (reader.number::<7>()?, reader.time()?);
            let lease = Lease { pool: pool_id, id, generation, since: now, until };
            let digest = reader.counted::<1>()?.try_into().ok();
            let quota = reader.text::<1>()?.to_owned();
            let quota = if quota.is_empty() { None } else { Some((quota, reader.number::<8>()?)) };
            Ok(Ok(Renewed { lease, digest, quota }))
        };
        let done = move |renewed: Result<Renewed, Error>| {
            of_pool.line.note_news();
            match renewed {
                Ok(Renewed { lease, digest: None, quota: None }) => {
                    receiver.tell(Ok(Reply::Renewed(lease)));
                }
                Ok(Renewed { lease, digest, quota }) => {
                    let runtime = shared.runtime.clone();
                    runtime.spawn(async move {
                        if let Some(digest) = digest {
                            shared.move_request(&of_pool, digest, &lease).await;
                        }
                        if let Some((name, nonce)) = quota {
                            shared.move_quota(&name, nonce, lease_ms).await;
                        }
                        receiver.tell(Ok(Reply::Renewed(lease)));
                    });
                }
                Err(error) => receiver.tell(Err(error)),
            }
        };
        Job::new(operation, Kind::Change, read, done)
    }
}
