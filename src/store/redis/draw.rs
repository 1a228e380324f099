//! Looking for keys: which shard to ask, and serving the line.
//!
//! A shard is chosen in proportion to a bound on its free keys, and in it a key by a dart that misses if the shard has fewer than
//! that. So each free key is as likely as any other, as long as no shard has more than its bound.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::Notify;

use super::execute::Batch;
use super::lane::{Answered, Job, Kind};
use super::line::{Entry, Returned};
use super::pool::Pool;
use super::state::Shared;
use super::wire::{Code, Malformed, Read, Reader, Writer, status};
use crate::error::Error;
use crate::key::{Lease, Leased, Value};
use crate::pool::PoolId;
use crate::store::operation::{Reply, RequestKey};
use crate::time::{Clock, Timestamp};

/// After how long the shards are asked again how many free keys they have, where many are free.
const FRESH_RICH: Duration = Duration::from_secs(1);
/// The same where few are free.
const FRESH_POOR: Duration = Duration::from_millis(50);
/// So many free keys a shard are many.
const RICH: u64 = 4;

/// The leases that were sent together, for those who wait until all have been answered.
#[derive(Default)]
pub(super) struct Flight {
    pub(super) left: AtomicUsize,
    pub(super) bell: Notify,
}

/// How often a lease is thrown at before all shards are looked at.
const TRIES: u32 = 8;
/// The bytes of a record behind its generation, which a lease has no need of: see `RECORD` in `lua/head.lua`.
const UNREAD: usize = 21;

/// Where a lease is thrown at.
#[derive(Default)]
pub(super) struct Aim {
    lane: usize,
    /// The most free keys that the shard may have; 0 if none of its keys may be missed.
    bound: u32,
    /// How many darts have missed before.
    tries: u32,
    flight: Option<Arc<Flight>>,
}

impl Aim {
    /// At a shard that has said that it has a free key.
    pub(super) fn of_flight(lane: usize, flight: Arc<Flight>) -> Self {
        Self { lane, flight: Some(flight), ..Self::default() }
    }
}

/// Receives the answer of a shard that was asked for a lease.
struct Asked<C: Clock> {
    shared: Arc<Shared<C>>,
    pool: Arc<Pool>,
    lane: usize,
    number: u64,
    lease_ms: u32,
    tries: u32,
    flight: Option<Arc<Flight>>,
    has_failed: bool,
}

impl<C: Clock> Asked<C> {
    fn landed(&mut self) {
        if let Some(flight) = self.flight.take()
            && flight.left.fetch_sub(1, SeqCst) == 1
        {
            flight.bell.notify_one();
        }
    }

    /// Chooses a shard anew after a dart that has missed. False if too many have, or if that is not for it to do.
    fn throw_again(&self) -> bool {
        let tries = self.tries + 1;
        if tries == TRIES {
            return false;
        }
        let Some(aim) = Shared::<C>::guess(&self.pool).map(|aim| Aim { tries, ..aim }) else {
            return false;
        };
        let lane = aim.lane;
        let job = self.pool.line.with_flying(self.number, |entry| {
            self.shared.asking(&self.pool, entry, self.number, aim)
        });
        let Some(job) = job else { return false };
        self.shared.push(&self.pool, lane, [job]);
        true
    }

    fn put_back(&mut self) {
        match self.pool.line.put_back(self.number) {
            Some(Returned::Waits(true)) => self.shared.start_serving(&self.pool),
            Some(Returned::Ended(entry, error)) => self.shared.end(&self.pool, *entry, error),
            Some(Returned::Waits(false)) | None => {}
        }
    }
}

impl<C: Clock> Answered for Asked<C> {
    fn read(&mut self, reader: &mut Reader<'_>, now: Timestamp) -> Read<()> {
        match reader.byte()? {
            status::OK => {
                let leased = read_leased(reader, self.pool.id, self.lease_ms, now)?;
                // Nobody knows of a lease whose answer came too late.
                match self.pool.line.land(self.number).filter(|_| !self.has_failed) {
                    Some(entry) => self.shared.deliver(&self.pool, entry, leased),
                    None => self.shared.take_back(&self.pool, &leased),
                }
            }
            missed @ (status::EMPTY | status::MISSED) => {
                let is_over = self.has_failed || missed == status::MISSED && self.throw_again();
                if !is_over {
                    self.put_back();
                }
            }
            _ => return Err(Malformed),
        }
        self.landed();
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        if self.has_failed {
            return;
        }
        self.has_failed = true;
        if matches!(error, Error::Unavailable { .. }) {
            // Other shards may have a key.
            self.pool.lanes[self.lane].set_known(0);
            self.put_back();
        } else if let Some(entry) = self.pool.line.land(self.number) {
            self.shared.end(&self.pool, entry, error);
        }
        self.landed();
    }
}

impl<C: Clock> Shared<C> {
    /// Asks a shard for a lease at once, if that seems to have a key and nobody waits. Otherwise the lease joins the line.
    pub(super) fn look_for(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        number: u64,
        entry: Entry,
        batch: &mut Batch,
    ) {
        let guess = if entry.takes_any() { Self::guess(pool) } else { None };
        let entry = match guess {
            None => entry,
            Some(aim) => {
                let lane = aim.lane;
                let job = self.asking(pool, &entry, number, aim);
                match pool.line.fly(number, entry) {
                    Ok(()) => {
                        batch.add(pool, lane, job);
                        return;
                    }
                    Err(entry) => *entry,
                }
            }
        };
        match pool.line.join(number, entry) {
            Ok(true) => self.start_serving(pool),
            Ok(false) => {}
            Err((entry, error)) => self.end(pool, *entry, error),
        }
    }

    /// Chooses a shard by what is known of all. `None` if that is not enough.
    fn guess(pool: &Pool) -> Option<Aim> {
        let bound = bounds(pool)?;
        let sum: u64 = pool.lanes.iter().map(|lane| u64::from(bound(lane.known()))).sum();
        let mut at = rand::rng().random_range(0..sum.max(1));
        for (lane, of_lane) in pool.lanes.iter().enumerate() {
            let bound = bound(of_lane.known());
            if at < u64::from(bound) {
                return Some(Aim { lane, bound, ..Aim::default() });
            }
            at -= u64::from(bound);
        }
        None
    }

    /// Asks a shard for a lease.
    pub(super) fn asking(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        entry: &Entry,
        number: u64,
        aim: Aim,
    ) -> Job {
        let Aim { lane, bound, tries, flight } = aim;
        let dart = rand::rng().random_range(0..1 << 48);
        let operation = lease_operation(entry, entry.request.as_ref());
        let (lease_ms, has_failed) = (entry.lease_ms, false);
        let (shared, pool) = (Arc::clone(self), Arc::clone(pool));
        let answered = Asked { shared, pool, lane, number, lease_ms, tries, flight, has_failed };
        let answered = Box::new(answered);
        Job { operation, dart: Some((dart, bound)), kind: Kind::Change, answered }
    }

    /// Ends a lease for which there is no key.
    pub(super) fn end(self: &Arc<Self>, pool: &Arc<Pool>, mut entry: Entry, error: Error) {
        self.give_quota_of(&mut entry);
        if let Some(request) = entry.request.take() {
            self.forget_request(pool, request);
        }
        entry.receiver.tell(Err(error));
    }

    /// Gives a lease to the client that it is for.
    fn deliver(self: &Arc<Self>, pool: &Arc<Pool>, entry: Entry, leased: Leased) {
        let to_reply = if entry.has_waited { Reply::LeasedLate } else { Reply::Leased };
        if entry.has_waited {
            pool.line.count_served();
        }
        match entry.request {
            None => {
                let unwanted = entry.receiver.complete(Ok(to_reply(leased)));
                if let Some(lease) = unwanted {
                    self.take_back(pool, &lease);
                }
            }
            Some(request) => self.settle_request(pool, request, entry.receiver, leased, to_reply),
        }
    }
}

/// From how many free keys a shard is known to have had, how many it has at most. `None` if that is not known of all.
fn bounds(pool: &Pool) -> Option<impl Fn(u32) -> u32> {
    let age = pool.looked_at()?.elapsed();
    let total: u64 = pool.lanes.iter().map(|lane| u64::from(lane.known())).sum();
    let is_rich = total >= RICH * pool.lanes.len() as u64;
    let is_known = total > 0 && age <= if is_rich { FRESH_RICH } else { FRESH_POOR };
    is_known.then_some(move |known| known + if is_rich { known / 8 + 1 } else { 0 })
}

/// The most free keys that any shard has. `None` if too little is known.
pub(super) fn most_free(pool: &Pool) -> Option<u32> {
    let bound = bounds(pool)?;
    pool.lanes.iter().map(|lane| bound(lane.known())).max()
}

/// Reads a lease that begins now.
pub(super) fn read_leased(
    reader: &mut Reader<'_>,
    pool: PoolId,
    lease_ms: u32,
    now: Timestamp,
) -> Read<Leased> {
    let (id, generation) = (reader.id()?, reader.number::<7>()?);
    reader.bytes(UNREAD)?;
    let value = Value::new(reader.text::<2>()?);
    let lease = Lease { pool, id, generation, since: now, until: now.plus_ms(lease_ms.into()) };
    Ok(Leased { lease, value })
}

/// The operation that leases a key, but for its dart.
pub(super) fn lease_operation(entry: &Entry, request: Option<&RequestKey>) -> Writer {
    const WITH_LABEL: u64 = 1;
    const WITH_INFO: u64 = 2;
    let Entry { leasing, lease_ms, nonce, .. } = entry;
    let has_info = leasing.holder.is_some() || request.is_some();
    let with = u64::from(leasing.label.is_some()) * WITH_LABEL + u64::from(has_info) * WITH_INFO;
    let mut operation = Writer::new(Code::Lease).number::<4>((*lease_ms).into()).number::<1>(with);
    if let Some(label) = &leasing.label {
        operation = operation.counted::<2>(label.as_str().as_bytes());
    }
    if has_info {
        let holder = leasing.holder.as_ref().map_or("", |holder| holder.name());
        let digest = request.map_or(&[][..], |request| &request.digest);
        let quota = nonce.and(entry.quota());
        let quota = quota.map(super::quota::name_of).unwrap_or_default();
        let nonce = nonce.map(u64::to_be_bytes);
        let info = Writer::bare()
            .counted::<1>(holder.as_bytes())
            .counted::<1>(digest)
            .counted::<1>(quota.as_bytes())
            .counted::<1>(nonce.as_ref().map_or(&[][..], |nonce| nonce));
        operation = operation.counted::<2>(info.as_bytes());
    }
    operation
}
