//! Asking for room: for keys of a pool, and for the bytes of values.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::failure::UNAVAILABLE;
use super::pool::Pool;
use super::room::Room;
use super::state::Shared;
use crate::error::Error;
use crate::time::Clock;

/// When to try again if no key of a full pool dies.
const RETRY_AFTER_MS: u64 = 60_000;
/// How often a limit is asked again that others are about to tell of what they have used, and after how long.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// What is limited.
#[derive(Clone)]
pub(super) enum Limited {
    /// The keys of a pool.
    Keys(Arc<Pool>),
    /// The bytes of all values.
    ValueBytes,
}

impl<C: Clock> Shared<C> {
    fn room<'a>(&'a self, limited: &'a Limited) -> (&'a Room, u64) {
        match limited {
            Limited::Keys(pool) => (&pool.room, pool.settings().keys_max as u64),
            Limited::ValueBytes => (&self.value_room, self.options.value_bytes_max as u64),
        }
    }

    /// Asks a limit for so much. False if there is no room.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        limited: &Limited,
        amount: u64,
    ) -> Result<bool, Error> {
        let (room, most) = self.room(limited);
        if amount == 0 {
            return Ok(true);
        }
        if amount > most {
            return Ok(false);
        }
        let (sender, answer) = oneshot::channel();
        if room.join((amount, sender)) {
            let (shared, limited) = (Arc::clone(self), limited.clone());
            self.runtime.spawn(async move { shared.serve_asking(&limited).await });
        }
        answer.await.unwrap_or(Err(UNAVAILABLE))
    }

    /// Answers those who ask a limit: all that have gathered meanwhile at once, if there is room for all of them.
    async fn serve_asking(self: &Arc<Self>, limited: &Limited) {
        let (room, most) = self.room(limited);
        loop {
            let asking = room.next_asking();
            let all = asking.iter().map(|(amount, _)| amount).sum();
            let for_all = match asking.len() {
                0 => return,
                1 => Ok(false),
                _ => {
                    let mut own = room.own.lock().await;
                    let wanted = [own.used, own.asked, all];
                    let answer = room.ask(&self.link, &self.me, wanted, most, None).await;
                    own.asked +=
                        if answer.as_ref().is_ok_and(|answer| answer.may) { all } else { 0 };
                    answer.map(|answer| answer.may)
                }
            };
            for (amount, sender) in asking {
                let answer = match for_all {
                    Ok(false) => self.reserve_one(limited, amount).await,
                    for_all => for_all,
                };
                // If nobody wants it any more, it is not used.
                if let Err(Ok(true)) = sender.send(answer) {
                    self.settle(limited.clone(), 0, amount).await;
                }
            }
        }
    }

    /// Asks a limit for so much. False if there is no room, even when all is counted anew.
    async fn reserve_one(self: &Arc<Self>, limited: &Limited, amount: u64) -> Result<bool, Error> {
        let (room, most) = self.room(limited);
        for _ in 0..TRIES {
            let mut own = room.own.lock().await;
            let wanted = [own.used, own.asked, amount];
            let mut answer = room.ask(&self.link, &self.me, wanted, most, None).await?;
            if !answer.may {
                let counted = Some((self.count_limited(limited).await?, answer.used));
                answer = room.ask(&self.link, &self.me, wanted, most, counted).await?;
            }
            if answer.may {
                own.asked += amount;
                return Ok(true);
            }
            if own.asked + answer.asked == 0 {
                return Ok(false);
            }
            // What others have created just now may have been counted twice.
            drop(own);
            sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// Notes that of what was asked for so much was used, and so much is given back, and tells the limit of it.
    pub(super) async fn settle(self: &Arc<Self>, limited: Limited, used: u64, unused: u64) {
        let (room, _) = self.room(&limited);
        let mut own = room.own.lock().await;
        own.used += used;
        own.asked = own.asked.saturating_sub(used + unused);
        drop(own);
        if room.is_telling.swap(true, SeqCst) {
            return;
        }
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let (room, _) = shared.room(&limited);
            let own = room.own.lock().await;
            // What is settled from now on is told of again.
            room.is_telling.store(false, SeqCst);
            // If it is not told now, the next one who asks tells of it.
            let _ = room.ask(&shared.link, &shared.me, [own.used, own.asked, 0], 0, None).await;
        });
    }

    /// Counts all that there is of what is limited.
    async fn count_limited(self: &Arc<Self>, limited: &Limited) -> Result<u64, Error> {
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
        if self.reserve(&Limited::Keys(Arc::clone(pool)), keys as u64).await? {
            return Ok(());
        }
        let next = self.count(pool).await?.next_death_ms;
        // If no key dies, there is room once an operator has made some.
        let lives_for_ever = pool.settings().key_ttl_ms.is_none();
        let otherwise = if lives_for_ever { RETRY_AFTER_MS } else { 0 };
        Err(Error::Full { retry_after_ms: next.unwrap_or(otherwise) })
    }
}
