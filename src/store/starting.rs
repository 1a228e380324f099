//! A store that is not there yet: another one is being restored.

use super::import::{Imported, OwnKey};
use super::inventory::{Inventory, Wanted};
use super::operation::{Answer, Operation, Ticket};
use super::port::{Later, Listed, Stats, Store};
use crate::error::Error;
use crate::key::Lease;
use crate::pool::{PoolId, PoolName, Settings};
use crate::time::Timestamp;

/// Whatever a request asks for, the settings of its pool may allow it.
const LENIENT: Settings = Settings {
    key_ttl_ms: None,
    lease_ttl_ms: 1,
    lease_ms_max: u32::MAX,
    cooldown_ms_max: u32::MAX,
    wait_ms_max: u32::MAX,
    lapse_cooldown_ms: 0,
    keys_max: usize::MAX,
};

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

    async fn inventory(&self, _: PoolId, _: Wanted<'_>) -> Result<Inventory, Error> {
        Err(Error::Starting)
    }

    async fn import(&self, _: PoolId, _: &[OwnKey]) -> Result<Imported, Error> {
        Err(Error::Starting)
    }

    async fn take_back_from(&self, _: PoolId, _: &str) -> Result<u64, Error> {
        Err(Error::Starting)
    }

    /// Each may be there.
    fn find_pool(&self, name: &str) -> Option<PoolId> {
        PoolName::is_valid(name).then_some(PoolId::DEFAULT)
    }

    fn settings_of(&self, _: PoolId) -> Option<Settings> {
        Some(LENIENT)
    }

    fn default_settings(&self) -> Settings {
        LENIENT
    }

    async fn put_pool(&self, _: PoolName, _: Settings) -> Result<bool, Error> {
        Err(Error::Starting)
    }

    async fn delete_pool(&self, _: &str, _: bool) -> Result<(), Error> {
        Err(Error::Starting)
    }

    async fn list_pools(&self, _: Option<&str>, _: usize) -> Result<Vec<Listed>, Error> {
        Err(Error::Starting)
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        Timestamp::EPOCH_UNIX_MS + at.as_ms()
    }
}
