//! Counts: what a pool contains, and what has happened in it.

use super::journal::Journal;
use super::pool::Pool;
use super::shard::{Counts, Event};

/// What a pool contains, and what has happened in it.
///
/// All sums hold at any time: `keys` = `free` + `leased` + `cooling`, and those of [`Totals`]. Each shard is
/// counted at one moment, one shard after the other. Dead keys count until they are removed, and leases and
/// cool-downs that are over until an operation has noticed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// All keys.
    pub keys: u64,
    /// Keys that are free.
    pub free: u64,
    /// Keys that are leased.
    pub leased: u64,
    /// Keys that cool down.
    pub cooling: u64,
    /// What has happened since the pool was made.
    pub totals: Totals,
}

/// How often things have happened.
///
/// `created` is the sum of `expired`, `deleted` and the keys that exist. `leases` is the sum of `releases`,
/// `lease_timeouts`, `leases_lost` and the keys that are leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Keys created.
    pub created: u64,
    /// Leases begun.
    pub leases: u64,
    /// Leases given back.
    pub releases: u64,
    /// Leases that ran out.
    pub lease_timeouts: u64,
    /// Leases that ended because their key died or was deleted.
    pub leases_lost: u64,
    /// Keys that died.
    pub expired: u64,
    /// Keys deleted.
    pub deleted: u64,
    /// Requests that were refused because the key was at another generation: see [`crate::key::Fence`].
    pub stale_refusals: u64,
}

/// How large the indexes of a pool are: they follow the number of keys, not of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexSizes {
    /// Hints in the free vectors: one for each free key, and the stale ones.
    pub hints: u64,
    /// Stale hints, which were not yet removed: their keys died or began to cool down while they were free.
    pub stale_hints: u64,
    /// Entries in the index of lives.
    pub life_entries: u64,
    /// Entries in the index of blocks: leases and cool-downs.
    pub block_entries: u64,
}

impl<J: Journal> Pool<J> {
    /// Counts without looking at any key. O(s) for s shards.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut counts = Counts::default();
        self.records.each_shard(|shard| shard.add_to(&mut counts));
        let count = |event: Event| counts[event as usize];
        let totals = Totals {
            created: count(Event::Created),
            leases: count(Event::Leased),
            releases: count(Event::Released),
            lease_timeouts: count(Event::LeaseTimeout),
            leases_lost: count(Event::LeaseLost),
            expired: count(Event::Expired),
            deleted: count(Event::Deleted),
            stale_refusals: count(Event::StaleRefusal),
        };
        let keys = totals.created - totals.expired - totals.deleted;
        let ended = totals.releases + totals.lease_timeouts + totals.leases_lost;
        let leased = totals.leases - ended;
        let cooling = count(Event::CoolDown) - count(Event::CoolDownEnd);
        Stats { keys, free: keys - leased - cooling, leased, cooling, totals }
    }

    /// How large the indexes are, at about one moment. O(s) for s shards.
    #[must_use]
    pub fn index_sizes(&self) -> IndexSizes {
        IndexSizes {
            hints: self.free.len(),
            stale_hints: self.free.stale(),
            life_entries: self.lives.len() as u64,
            block_entries: self.blocks.len() as u64,
        }
    }
}
