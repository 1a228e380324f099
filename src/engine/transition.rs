//! Every change of a key, and the one function that makes it.
//!
//! A key's state is in its record, and the counters, the free vectors, the indexes and the journal follow it.
//! [`Pool::apply`] changes them together, under the record's guard. Nothing else writes a record, which
//! `tests/it/source.rs` checks.

use std::sync::atomic::Ordering::SeqCst;

use super::expiry::Arm;
use super::fail_point::FailPoint;
use super::free::Hint;
use super::guarded::Guarded;
use super::journal::{Entry, Journal};
use super::pool::Pool;
use super::shard::Event;
use super::short_id::ShortId;
use crate::time::Timestamp;

/// A change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A key is new, and free.
    Create,
    /// A free key, whose hint was drawn, is leased until then.
    Lease { until: Timestamp },
    /// A leased key is leased until then instead.
    Renew { until: Timestamp },
    /// A leased key was given back, and is free.
    Release,
    /// A blocked key is free, because its lease or cool-down is over or its cool-down was ended.
    Unblock,
    /// A key, leased or not, cools down until then.
    CoolDown { until: Timestamp },
    /// A lease has lapsed, and its key cools down from the end of the lease until then.
    Lapse { until: Timestamp },
    /// The life ends then instead.
    KeepAlive { life_ends: Timestamp },
    /// The key is about to leave the table.
    Remove { why: Removal, hint: HintOf },
}

/// Why a key leaves the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Its life is over.
    Expired,
    /// A request deleted it.
    Deleted,
}

/// Where the hint of a key is when the key is removed, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HintOf {
    /// In its free vector, where it becomes stale.
    Vector,
    /// Out of the vector, as it was drawn.
    Drawn,
}

impl<J: Journal> Pool<J> {
    /// Makes a change: record, counters, hint, indexes and journal together. True if the shard now has more
    /// stale hints than live ones: then the caller has to drop some once the guard is released. O(1), or
    /// O(log n) where an entry of an index is added, moved or removed.
    pub(super) fn apply(
        &self,
        change: Change,
        guarded: &mut Guarded<'_>,
        blocks: &mut impl Arm,
    ) -> bool {
        let now = guarded.now;
        let mut is_crowded = false;
        match change {
            Change::Create => {
                guarded.shard.count(Event::Created);
                self.free.push(hint(guarded));
            }
            Change::Lease { until } => {
                // Armed before the record says so: no lease is ever without an entry that ends it.
                self.arm_block(guarded, until, blocks);
                guarded.record_mut().start_lease(now, until);
                guarded.shard.count(Event::Leased);
            }
            Change::Renew { until } => {
                self.arm_block(guarded, until, blocks);
                guarded.record_mut().renew(now, until);
            }
            Change::Release => self.unblock(guarded, Event::Released),
            Change::Unblock => {
                let is_lease = guarded.is_leased();
                let event = if is_lease { Event::LeaseTimeout } else { Event::CoolDownEnd };
                self.unblock(guarded, event);
            }
            Change::CoolDown { until } => {
                let (was_leased, was_free) = (guarded.is_leased(), guarded.block().is_none());
                self.arm_block(guarded, until, blocks);
                guarded.record_mut().cool(now, until);
                if was_leased {
                    guarded.shard.count(Event::Released);
                }
                if was_leased || was_free {
                    guarded.shard.count(Event::CoolDown);
                }
                is_crowded = was_free && self.free.add_stale(guarded.key);
            }
            Change::Lapse { until } => {
                // Its entry is at or before the end of the lease, and moves when it comes due.
                let (_, since) = guarded.block().expect("a lease");
                guarded.record_mut().cool(since, until);
                guarded.shard.count(Event::LeaseTimeout);
                guarded.shard.count(Event::CoolDown);
            }
            Change::KeepAlive { life_ends } => {
                if !guarded.record_mut().move_life(life_ends) {
                    // The life would end more than 49 days after its entry, or never.
                    self.move_life_entry(guarded, life_ends);
                }
            }
            Change::Remove { why, hint } => {
                // Before the entry goes: a creation that finds no room relies on an entry or on the count.
                self.keys.fetch_sub(1, SeqCst);
                let is_offered = guarded.block().is_none() && hint == HintOf::Vector;
                is_crowded = is_offered && self.free.add_stale(guarded.key);
                count_removal(guarded, why);
                self.disarm(guarded);
            }
        }
        self.journal.append(|| {
            let id = guarded.key.join(guarded.id());
            let is_removed = matches!(change, Change::Remove { .. });
            Entry { id, after: (!is_removed).then(|| guarded.info()) }
        });
        is_crowded
    }

    /// Makes a key free, and offers it.
    fn unblock(&self, guarded: &mut Guarded<'_>, event: Event) {
        guarded.shard.count(event);
        guarded.record_mut().end_block();
        if !FailPoint::UnblockOffersNothing.is_on() {
            self.free.push(hint(guarded));
        }
    }

    /// Makes sure that the key has an entry of a block at or before `until`.
    pub(super) fn arm_block(
        &self,
        guarded: &mut Guarded<'_>,
        until: Timestamp,
        blocks: &mut impl Arm,
    ) {
        if guarded.block_entry().is_none_or(|armed| armed > until) {
            self.move_block_entry(guarded, Some(until), blocks);
        }
    }

    /// Moves the entry of a block to `end`, or removes it.
    pub(super) fn move_block_entry(
        &self,
        guarded: &mut Guarded<'_>,
        end: Option<Timestamp>,
        blocks: &mut impl Arm,
    ) {
        let armed = guarded.block_entry();
        debug_assert!(end.is_none() || end != armed, "the entry would be lost");
        if let Some(end) = end {
            blocks.arm(end, guarded.key);
        }
        if let Some(armed) = armed {
            self.blocks.disarm(armed, guarded.key);
        }
        guarded.record_mut().arm_block(end);
    }

    /// Moves the entry of a life to `end`, where the life ends, or removes it if that never comes.
    pub(super) fn move_life_entry(&self, guarded: &mut Guarded<'_>, end: Timestamp) {
        debug_assert!(end != guarded.life_entry(), "the entry would be lost");
        arm_life(&mut &self.lives, end, guarded.key);
        self.lives.disarm(guarded.life_entry(), guarded.key);
        guarded.record_mut().arm_life(end);
    }

    /// Removes both entries of a key that is being removed.
    pub(super) fn disarm(&self, guarded: &Guarded<'_>) {
        if !guarded.life_entry().is_never() {
            self.lives.disarm(guarded.life_entry(), guarded.key);
        }
        if let Some(at) = guarded.block_entry() {
            self.blocks.disarm(at, guarded.key);
        }
    }
}

/// Adds the entry of a life, but none for a life without end: all of them would be in one bucket, to which all
/// threads would go.
pub(super) fn arm_life(lives: &mut impl Arm, end: Timestamp, key: ShortId) {
    if !end.is_never() || FailPoint::NeverIsArmed.is_on() {
        lives.arm(end, key);
    }
}

/// The hint that offers a free key.
fn hint(guarded: &Guarded<'_>) -> Hint {
    Hint::new(guarded.key, guarded.generation())
}

/// Counts the removal of a key, and the end of its lease or cool-down.
fn count_removal(guarded: &Guarded<'_>, why: Removal) {
    guarded.shard.count(match why {
        Removal::Expired => Event::Expired,
        Removal::Deleted => Event::Deleted,
    });
    if let Some((_, until)) = guarded.block() {
        guarded.shard.count(match (guarded.is_leased(), until <= guarded.now) {
            (true, true) => Event::LeaseTimeout,
            (true, false) => Event::LeaseLost,
            (false, _) => Event::CoolDownEnd,
        });
    }
}
