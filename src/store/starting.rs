//! A store that is not there yet: another one is being restored.

use super::operation::{Answer, Operation, Ticket};
use super::port::{Later, Stats, Store};
use crate::error::Error;
use crate::key::Lease;
use crate::pool::PoolId;
use crate::time::Timestamp;

/// Refuses everything with [`Error::Starting`].
#[derive(Clone, Copy, Debug)]
pub struct Starting;

impl Store for Starting {
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        _: &Later,
    ) {
        answers.extend(operations.iter().map(|_| Answer::Now(Err(Error::Starting))));
    }

    fn cancel(&self, _: Ticket) {}

    fn give_back(&self, _: Vec<Lease>) {}

    async fn stats_of(&self, _: PoolId) -> Result<Stats, Error> {
        Err(Error::Starting)
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        Timestamp::EPOCH_UNIX_MS + at.as_ms()
    }
}
