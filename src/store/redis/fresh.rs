//! A lease that a request with a key gets in the call that notes the request.

use std::sync::Arc;

use rand::RngExt;

use super::draw::{lease_operation, most_free, read_leased};
use super::line::Entry;
use super::pool::Pool;
use super::receiver::Receiver;
use super::state::Shared;
use super::wire::{Read, Reader, Writer, status};
use crate::key::Leased;
use crate::store::operation::{Reply, RequestKey};
use crate::time::{Clock, Timestamp};

/// A lease that is taken back unless it is delivered: its answer may come too late.
pub(super) struct Fresh<C: Clock> {
    shared: Arc<Shared<C>>,
    pool: Arc<Pool>,
    leased: Option<Leased>,
}

impl<C: Clock> Fresh<C> {
    /// What a shard has answered to the lease of [`leasing_at_once`]. `None` if the dart has missed.
    pub(super) fn read(
        shared: &Arc<Shared<C>>,
        pool: &Arc<Pool>,
        lease_ms: u32,
        reader: &mut Reader<'_>,
        now: Timestamp,
    ) -> Read<Option<Self>> {
        if reader.byte()? != status::OK {
            return Ok(None);
        }
        let leased = Some(read_leased(reader, pool.id, lease_ms, now)?);
        Ok(Some(Self { shared: Arc::clone(shared), pool: Arc::clone(pool), leased }))
    }

    /// Gives it to the client that it is for, or takes it back if that has gone.
    pub(super) fn deliver(mut self, receiver: &Receiver) {
        let reply = self.leased.take().map(Reply::Leased).expect("it is delivered once");
        if let Some(lease) = receiver.complete(Ok(reply)) {
            self.shared.take_back(&self.pool, &lease);
        }
    }
}

impl<C: Clock> Drop for Fresh<C> {
    fn drop(&mut self) {
        if let Some(leased) = self.leased.take() {
            self.shared.take_back(&self.pool, &leased);
        }
    }
}

/// The lease that a request tries at once, in the shard that knows of the request, and how long it lasts. `None` if it has to look at
/// other shards, or if others wait. The shard remembers the request for so many milliseconds after its end.
pub(super) fn leasing_at_once(
    pool: &Pool,
    number: u64,
    request: &RequestKey,
    after_ms: u64,
) -> Option<(Vec<u8>, u32)> {
    let most = most_free(pool)?;
    let leasing = |entry: &Entry| {
        entry.takes_any().then(|| (lease_operation(entry, Some(request)), entry.lease_ms))
    };
    let (operation, lease_ms) = pool.line.with_flying(number, leasing)??;
    let dart = rand::rng().random_range(0..1 << 48);
    let leasing = Writer::bare()
        .number::<5>(u64::from(lease_ms) + after_ms)
        .bytes(operation.as_bytes())
        .number::<2>(1)
        .number::<6>(dart)
        .number::<4>(most.into());
    Some((leasing.finish(), lease_ms))
}
