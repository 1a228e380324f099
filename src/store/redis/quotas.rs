//! Quotas: how many leases those may have that share one, on all servers together. Each is a sorted set of leases by their
//! ends, so that what is over counts no more.

use std::collections::HashMap;
use std::sync::Arc;

use super::failure::UNAVAILABLE;
use super::library::Function;
use super::line::Entry;
use super::pool::Pool;
use super::quota::name_of;
use super::state::Shared;
use super::wire::Reader;
use crate::error::Error;
use crate::key::Quota;
use crate::time::{Clock, Timestamp};

/// What a quota has answered.
struct Held {
    may: bool,
    count: usize,
    now: Timestamp,
    next_end: Timestamp,
}

impl<C: Clock> Shared<C> {
    async fn ask_quota(
        &self,
        what: &str,
        name: &str,
        most: usize,
        nonce: u64,
        ms: u64,
    ) -> Result<Held, Error> {
        let key = format!("{{{}/q/{name}}}", self.prefix);
        let arguments = [
            what.as_bytes().to_vec(),
            self.seen().as_ms().to_string().into_bytes(),
            most.to_string().into_bytes(),
            nonce.to_be_bytes().to_vec(),
            ms.to_string().into_bytes(),
        ];
        let answer = self.link.ask(Function::Quota, key.as_bytes(), &arguments).await?;
        let mut reader = Reader::new(&answer);
        let mut read = || {
            Ok::<_, super::wire::Malformed>(Held {
                may: reader.byte()? == 1,
                count: reader.size::<4>()?,
                now: reader.time()?,
                next_end: reader.time()?,
            })
        };
        read().map_err(|_| UNAVAILABLE)
    }

    /// Shows how many leases count, and does so again when the next one has ended.
    fn note_held(self: &Arc<Self>, quota: &Arc<Quota>, held: &Held) {
        quota.note_held(held.count);
        if held.next_end.is_never() {
            return;
        }
        let at = self.clock.now().plus_ms(held.next_end.ms_since(held.now));
        let (shared, quota) = (Arc::clone(self), Arc::downgrade(quota));
        self.runtime.spawn(async move {
            shared.clock.sleep_until(at).await;
            let Some(quota) = quota.upgrade() else { return };
            if let Ok(held) = shared.ask_quota("look", &name_of(&quota), 0, 0, 0).await {
                quota.note_held(held.count);
            }
        });
    }

    /// Refuses leases whose quotas are used up: it would be in vain to wait for a key.
    pub(super) async fn refuse_beyond_quotas(self: &Arc<Self>, pool: &Arc<Pool>, numbers: &[u64]) {
        let mut rooms = HashMap::<String, usize>::new();
        for number in numbers {
            let of_entry = |entry: &Entry| entry.quota().cloned();
            let Some(quota) = pool.line.with(*number, of_entry).flatten() else { continue };
            let name = name_of(&quota);
            if !rooms.contains_key(&name) {
                let Ok(held) = self.ask_quota("look", &name, 0, 0, 0).await else { continue };
                quota.note_held(held.count);
                rooms.insert(name.clone(), quota.room());
            }
            if rooms[&name] == 0
                && let Some(entry) = pool.line.take(*number)
            {
                self.end(pool, entry, Error::TooManyHeld);
            }
        }
    }

    /// Counts a lease that is about to begin against its quota, if it has one.
    pub(super) async fn take_quota(self: &Arc<Self>, entry: &mut Entry) -> Result<(), Error> {
        let Some(quota) = entry.quota() else {
            return Ok(());
        };
        let name = name_of(quota);
        if let Some(nonce) = entry.nonce {
            // The shard that was asked first had no key.
            self.move_quota(&name, nonce, entry.lease_ms).await;
            return Ok(());
        }
        let nonce = rand::random();
        self.quotas.by_name.lock().insert(name.clone(), Arc::clone(quota));
        let held = self.ask_quota("take", &name, quota.max(), nonce, entry.lease_ms.into()).await?;
        self.note_held(quota, &held);
        if !held.may {
            return Err(Error::TooManyHeld);
        }
        entry.nonce = Some(nonce);
        Ok(())
    }

    /// A lease that was counted has not begun.
    pub(super) fn give_quota_of(self: &Arc<Self>, entry: &mut Entry) {
        if let Some(nonce) = entry.nonce.take()
            && let Some(quota) = entry.quota()
        {
            let (shared, name) = (Arc::clone(self), name_of(quota));
            self.runtime.spawn(async move { shared.give_quota(&name, nonce).await });
        }
    }

    /// A lease has ended that counted against a quota. If the quota cannot be told, the lease counts until it would have
    /// ended.
    pub(super) async fn give_quota(self: &Arc<Self>, name: &str, nonce: u64) {
        if let Ok(held) = self.ask_quota("give", name, 0, nonce, 0).await {
            let quota = self.quotas.by_name.lock().get(name).cloned();
            if let Some(quota) = quota {
                self.note_held(&quota, &held);
            }
        }
    }

    /// A lease that counts against a quota ends later, or earlier.
    pub(super) async fn move_quota(self: &Arc<Self>, name: &str, nonce: u64, lease_ms: u32) {
        let _ = self.ask_quota("move", name, 0, nonce, lease_ms.into()).await;
    }
}
