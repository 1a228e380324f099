//! Asking for room: for keys of a pool, and for the bytes of values.

use std::sync::Arc;

use super::pool::Pool;
use super::state::Shared;
use crate::error::Error;
use crate::time::Clock;

/// When to try again if no key of a full pool dies.
const RETRY_AFTER_MS: u64 = 60_000;

/// What is limited.
#[derive(Clone, Copy)]
pub(super) enum Limited<'a> {
    /// The keys of a pool.
    Keys(&'a Arc<Pool>),
    /// The bytes of all values.
    ValueBytes,
}

impl<C: Clock> Shared<C> {
    /// Asks a limit for so much. False if there is no room.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        limited: Limited<'_>,
        amount: u64,
    ) -> Result<bool, Error> {
        let (room, most) = match limited {
            Limited::Keys(pool) => (&pool.room, pool.settings().keys_max as u64),
            Limited::ValueBytes => (&self.value_room, self.options.value_bytes_max as u64),
        };
        if amount == 0 {
            return Ok(true);
        }
        if amount > most {
            return Ok(false);
        }
        let mut own = room.own.lock().await;
        let wanted = [own.used, own.asked, amount];
        let mut answer = room.ask(&self.link, &self.me, wanted, most, None).await?;
        if !answer.may {
            let all = self.count_limited(limited).await?;
            answer = room.ask(&self.link, &self.me, wanted, most, Some((all, answer.used))).await?;
        }
        if answer.may {
            own.asked += amount;
        }
        Ok(answer.may)
    }

    /// Counts all that there is of what is limited.
    async fn count_limited(self: &Arc<Self>, limited: Limited<'_>) -> Result<u64, Error> {
        match limited {
            Limited::Keys(pool) => Ok(self.count(pool).await?.keys),
            Limited::ValueBytes => {
                let mut all = 0;
                for pool in self.registry.all() {
                    all += self.count(&pool).await?.value_bytes;
                }
                Ok(all)
            }
        }
    }

    /// Asks for room for keys of a pool.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Unavailable`]
    pub(super) async fn reserve_keys(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        keys: usize,
    ) -> Result<(), Error> {
        if self.reserve(Limited::Keys(pool), keys as u64).await? {
            return Ok(());
        }
        let next = self.count(pool).await?.next_death_ms;
        // If no key dies, there is room once an operator has made some.
        let lives_for_ever = pool.settings().key_ttl_ms.is_none();
        let otherwise = if lives_for_ever { RETRY_AFTER_MS } else { 0 };
        Err(Error::Full { retry_after_ms: next.unwrap_or(otherwise) })
    }
}
