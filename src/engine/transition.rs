//! Every change of a key, and the one function that makes it.
//!
//! A key's state is in its record, and the counters, the free vectors, the indexes and the journal follow it.
//! [`Pool::apply`] changes them together, under the record's guard. Nothing else writes a record, which
//! `tests/it/source.rs` checks. What a key has of its own is given to it here, too, just before the change
//! that it comes with.

use std::hash::BuildHasher;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::expiry::Arm;
use super::fail_point::FailPoint;
use super::free::Hint;
use super::guarded::Guarded;
use super::hold::Hold;
use super::journal::{After, Entry, Journal, KeyState};
use super::labels::{Labeled, LabelsOfKey, Vectors};
use super::pool::Pool;
use super::record::Part;
use super::shard::Event;
use super::short_id::ShortId;
use super::side::remove;
use crate::key::Value;
use crate::time::Timestamp;

/// A change of one key.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    /// A key is new, and free.
    Create,
    /// A free key, of which a hint was drawn, is leased until then.
    Lease { until: Timestamp, drawn: Vectors<'a> },
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
    /// The key is about to leave the table, perhaps because a hint of it was drawn, though it is dead.
    Remove { why: Removal, drawn: Option<Vectors<'a>> },
}

impl Change<'_> {
    /// Whether the change says no more than the deadlines before it: then a journal need not tell of it.
    fn is_implied(self, guarded: &Guarded<'_>) -> bool {
        match self {
            Self::Unblock => guarded.block().is_some_and(|(_, until)| until <= guarded.now),
            Self::Lapse { .. } => true,
            Self::Remove { why, .. } => why == Removal::Expired,
            _ => false,
        }
    }

    /// Whether a lease, if there is one, is over afterwards.
    fn ends_lease(self) -> bool {
        match self {
            Self::Create | Self::Lease { .. } | Self::Renew { .. } | Self::KeepAlive { .. } => {
                false
            }
            Self::Unblock | Self::Lapse { .. } => !FailPoint::LapseKeepsHolder.is_on(),
            Self::Release | Self::CoolDown { .. } | Self::Remove { .. } => true,
        }
    }
}

/// Why a key leaves the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Its life is over.
    Expired,
    /// A request deleted it.
    Deleted,
}

/// The labels in whose vectors, for the shard of a key, stale hints prevail; `None` stands for the pool's vectors.
/// For each, the caller has to drop some once the guard is released.
pub(super) type Crowded = Vec<Option<Arc<Labeled>>>;

impl<J: Journal> Pool<J> {
    /// Makes a change: record, counters, hint, indexes and journal together. Returns
    /// where stale hints prevail now: then the caller has to drop some once the guard is released. O(1), or
    /// O(log n) where an entry of an index is added, moved or removed, and O(l) for a key with l labels.
    pub(super) fn apply(
        &self,
        change: Change<'_>,
        guarded: &mut Guarded<'_>,
        blocks: &mut impl Arm,
    ) -> Crowded {
        let (now, floor) = (guarded.now, guarded.shard.floor());
        let is_implied = change.is_implied(guarded);
        let mut crowded = Crowded::new();
        if guarded.has(Part::Holder) && change.ends_lease() {
            self.take_holder(guarded);
        }
        match change {
            Change::Create => {
                guarded.shard.count(Event::Created);
                self.offer(guarded);
            }
            Change::Lease { until, drawn } => {
                // Armed before the record says so: no lease is ever without an entry that ends it.
                self.arm_block(guarded, until, blocks);
                guarded.record_mut().start_lease(now, until, floor);
                crowded = self.outdate(guarded, Some(drawn));
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
                guarded.record_mut().cool(now, until, floor);
                if was_leased {
                    guarded.shard.count(Event::Released);
                }
                if was_leased || was_free {
                    guarded.shard.count(Event::CoolDown);
                }
                if was_free {
                    crowded = self.outdate(guarded, None);
                }
            }
            Change::Lapse { until } => {
                // Its entry is at or before the end of the lease, and moves when it comes due.
                let (_, since) = guarded.block().expect("a lease");
                guarded.record_mut().cool(since, until, floor);
                guarded.shard.count(Event::LeaseTimeout);
                guarded.shard.count(Event::CoolDown);
            }
            Change::KeepAlive { life_ends } => {
                if !guarded.record_mut().move_life(life_ends) {
                    // The life would end more than 49 days after its entry, or never.
                    self.move_life_entry(guarded, life_ends);
                }
            }
            Change::Remove { why, drawn } => {
                // Before the entry goes: a creation that finds no room relies on an entry or on the count.
                self.keys.fetch_sub(1, SeqCst);
                if guarded.block().is_none() {
                    crowded = self.outdate(guarded, drawn);
                }
                count_removal(guarded, why);
                if guarded.has_own() {
                    self.take_labels(guarded);
                    self.take_value(guarded);
                }
                self.disarm(guarded);
            }
        }
        if !is_implied {
            self.journal.append(|| match change {
                Change::Create => guarded.look().whole(),
                Change::Remove { .. } => Entry { id: guarded.look().id(), after: After::Gone },
                _ => guarded.look().change(),
            });
        }
        crowded
    }

    /// Makes a key free, and offers it.
    fn unblock(&self, guarded: &mut Guarded<'_>, event: Event) {
        guarded.shard.count(event);
        let floor = guarded.shard.floor();
        guarded.record_mut().end_block(floor);
        if !FailPoint::UnblockOffersNothing.is_on() {
            self.offer(guarded);
        }
    }

    /// Pushes the hints of a key that is free.
    fn offer(&self, guarded: &Guarded<'_>) {
        let hint = hint(guarded);
        self.free.push(hint);
        if !FailPoint::LabelNotOffered.is_on() {
            guarded.each_label(|labeled| labeled.free.push(hint));
            if guarded.has(Part::Labels) {
                self.labels.note_offer();
            }
        }
    }

    /// Notes that the hints of a key that was free are stale, but for the one that was drawn.
    fn outdate(&self, guarded: &Guarded<'_>, drawn: Option<Vectors<'_>>) -> Crowded {
        let mut crowded = Crowded::new();
        if !matches!(drawn, Some(Vectors::Pool)) && self.free.add_stale(guarded.key) {
            crowded.push(None);
        }
        guarded.each_label(|labeled| {
            let is_drawn = matches!(drawn, Some(Vectors::Label(drawn)) if ptr::eq(drawn, &raw const **labeled));
            let is_counted = !is_drawn && !FailPoint::StaleHintOfLabelNotCounted.is_on();
            if is_counted && labeled.free.add_stale(guarded.key) {
                crowded.push(Some(Arc::clone(labeled)));
            }
        });
        crowded
    }

    /// Gives a new key its value, which the index of values has already. O(1) amortised.
    pub(super) fn give_value(guarded: &mut Guarded<'_>, value: Value) {
        guarded.change_own(|own| own.values.insert(guarded.key, value));
        guarded.record_mut().set(Part::Value, true);
    }

    /// Takes the value of a key that is being removed, also out of the index of values. O(1) amortised, and
    /// O(b) for a value of b bytes.
    #[cold]
    pub(super) fn take_value(&self, guarded: &mut Guarded<'_>) {
        if !guarded.has(Part::Value) {
            return;
        }
        let value = guarded.change_own(|own| remove(&mut own.values, &guarded.key));
        guarded.record_mut().set(Part::Value, false);
        if let Some(value) = value {
            self.values.forget(self.values.digest(&value), guarded.key);
            self.values.give_bytes(value.reveal().len());
        }
    }

    /// Gives a new key its labels, which are counted already. O(1) amortised.
    pub(super) fn give_labels(guarded: &mut Guarded<'_>, labels: LabelsOfKey) {
        if !labels.is_empty() {
            guarded.change_own(|own| own.labels.insert(guarded.key, labels));
            guarded.record_mut().set(Part::Labels, true);
        }
    }

    /// Takes the labels of a key that is being removed. O(l) for l labels.
    #[cold]
    pub(super) fn take_labels(&self, guarded: &mut Guarded<'_>) {
        if !guarded.has(Part::Labels) {
            return;
        }
        let labels = guarded.change_own(|own| remove(&mut own.labels, &guarded.key));
        guarded.record_mut().set(Part::Labels, false);
        self.labels.forget(&labels.unwrap_or_default());
    }

    /// Gives a key that is about to be leased, or whose lease is restored, its holder. O(log n).
    pub(super) fn give_holder(&self, guarded: &mut Guarded<'_>, hold: Hold) {
        let hash = self.secret.hash_one(hold.holder().name());
        guarded.change_own(|own| {
            own.by_holder.insert((hash, guarded.key));
            own.holds.insert(guarded.key, hold);
        });
        guarded.record_mut().set(Part::Holder, true);
    }

    /// Gives a key that is being restored the state that `state` says. Its value and labels stay. Its entries are added to
    /// the indexes in the end. O(log n).
    pub(super) fn restore(&self, guarded: &mut Guarded<'_>, state: &KeyState) {
        self.take_holder(guarded);
        guarded.record_mut().restore(state);
        if let Some(holder) = state.holder.as_ref().filter(|_| guarded.is_leased()) {
            self.give_holder(guarded, Hold::restored(holder));
        }
    }

    /// Takes the holder of a key whose lease is over; it no longer counts against a quota. O(log n).
    #[cold]
    pub(super) fn take_holder(&self, guarded: &mut Guarded<'_>) {
        if !guarded.has(Part::Holder) {
            return;
        }
        guarded.change_own(|own| {
            if let Some(hold) = remove(&mut own.holds, &guarded.key) {
                let hash = self.secret.hash_one(hold.holder().name());
                own.by_holder.remove(&(hash, guarded.key));
            }
        });
        guarded.record_mut().set(Part::Holder, false);
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
