//! Leases, renewals, releases and cool-downs.

use std::sync::Arc;

use rand::Rng;

use super::expiry::{Arm, Cursor};
use super::fail_point::FailPoint;
use super::free::Hint;
use super::guarded::Guarded;
use super::hold::Hold;
use super::journal::Journal;
use super::labels::{Labeled, Pushes, Vectors};
use super::pool::Pool;
use super::transition::{Change, Crowded, Removal};
use crate::error::Error;
use crate::key::{Fence, Holder, KeyId, Label, Lease, Leased, State};
use crate::time::Timestamp;

/// How a key is to be leased.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// How long the lease lasts, in milliseconds, 1 at least.
    pub lease_ms: u32,
    /// A label that the key must have.
    pub label: Option<&'a Label>,
    /// Who leases it.
    pub holder: Option<&'a Holder>,
}

/// Any key, for so many milliseconds.
impl From<u32> for Terms<'_> {
    fn from(lease_ms: u32) -> Self {
        Self { lease_ms, label: None, holder: None }
    }
}

impl<J: Journal> Pool<J> {
    /// How many due entries a lease that has found no free key handles at a time.
    const LEASE_SWEEP: usize = 32;
    /// How many keys are leased together: enough that their cache misses overlap, and few enough that they
    /// stay in the cache and that other threads find keys, too.
    const LEASE_GROUP: usize = 64;

    /// Leases a uniformly random one of the free keys that meet the terms. O(log n), and O(1) where
    /// the key already has an entry in the index, as most have. That is amortised over the dead keys, stale
    /// hints and ended leases that it meets, each of which is met once. [`Pool::lease_within`] limits how
    /// many those are.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyHeld`] if the quota of the holder is used up by leases that last, or in other pools.
    /// [`Error::Exhausted`] if there was a moment at which no such key was free, but for those that other
    /// calls were about to lease.
    pub fn lease<'a>(
        &self,
        now: Timestamp,
        terms: impl Into<Terms<'a>>,
        rng: &mut impl Rng,
    ) -> Result<Leased, Error> {
        let terms = terms.into();
        loop {
            let mut steps = usize::MAX;
            if let Some(result) = self.lease_within(now, terms, rng, &mut steps) {
                return result;
            }
        }
    }

    /// As [`Pool::lease`], but returns `None` once `steps` are used up. A step is a dead key, a stale hint or
    /// an ended lease that it has met, or another try because a key was freed meanwhile. The last of them may
    /// be up to 32 ended leases.
    pub fn lease_within<'a>(
        &self,
        now: Timestamp,
        terms: impl Into<Terms<'a>>,
        rng: &mut impl Rng,
        steps: &mut usize,
    ) -> Option<Result<Leased, Error>> {
        *steps = steps.saturating_sub(self.pay_for_blocks(now, 1));
        let terms = terms.into();
        // Also where no key has the label.
        if let Some(holder) = terms.holder
            && let Err(error) = self.room_within(holder, now, steps)?
        {
            return Some(Err(error));
        }
        let drawn = match self.label_for(terms.label) {
            Ok(drawn) => drawn,
            Err(error) => return Some(Err(error)),
        };
        let free = drawn.as_ref().map_or(&self.free, |labeled| &labeled.free);
        let mut cursor = self.blocks.cursor();
        while *steps > 0 {
            let mut met = 1;
            match free.draw(rng) {
                Ok(hint) => {
                    let Some(hold) = Hold::of(terms.holder) else {
                        // Another thread was faster. The key is for others.
                        self.put_back(hint, drawn.as_deref());
                        return Some(Err(Error::TooManyHeld));
                    };
                    if let Some(lease) =
                        self.try_lease(hint, drawn.as_deref(), now, terms, hold, &mut cursor)
                    {
                        return Some(Ok(lease));
                    }
                }
                Err(empty) => {
                    // A lease that is over stays in the index until its key's hint is pushed. So if no
                    // entry is due and no hint was pushed meanwhile, no key was free just now.
                    let ended = self.end_blocks(now, Self::LEASE_SWEEP);
                    if ended == 0 && free.is_still(empty) {
                        return Some(Err(Error::EXHAUSTED));
                    }
                    met = ended.max(1);
                }
            }
            *steps = steps.saturating_sub(met);
        }
        None
    }

    /// Leases up to `count` uniformly random ones of the free keys that meet the terms, and appends the leases
    /// to `leases`. It tries each hint once, so fewer leases do not mean that no key is free. O(c log n) for c
    /// keys.
    ///
    /// Of up to 64 keys at a time, it first draws the hints, then prefetches the records, then leases the
    /// keys, so that their cache misses overlap.
    pub fn lease_group<'a>(
        &self,
        now: Timestamp,
        terms: impl Into<Terms<'a>>,
        rng: &mut impl Rng,
        count: usize,
        leases: &mut Vec<Leased>,
    ) {
        let terms = terms.into();
        let Ok(drawn) = self.label_for(terms.label) else { return };
        let free = drawn.as_ref().map_or(&self.free, |labeled| &labeled.free);
        let mut cursor = self.blocks.cursor();
        let mut left = count;
        while left > 0 {
            let room =
                terms.holder.and_then(Holder::quota).map_or(usize::MAX, |quota| quota.room());
            let wanted = left.min(Self::LEASE_GROUP).min(room);
            if wanted == 0 {
                break;
            }
            self.pay_for_blocks(now, wanted);
            let hints = free.draw_group(rng, wanted);
            left = if hints.len() < wanted { 0 } else { left - wanted };
            self.records.prefetch(hints.iter().map(|hint| hint.key));
            for hint in hints {
                let Some(hold) = Hold::of(terms.holder) else {
                    // Other threads were faster. The key is for others.
                    self.put_back(hint, drawn.as_deref());
                    left = 0;
                    continue;
                };
                let label = drawn.as_deref();
                leases.extend(self.try_lease(hint, label, now, terms, hold, &mut cursor));
            }
        }
    }

    /// Puts a hint back into the vectors that it was drawn from. O(1).
    fn put_back(&self, hint: Hint, drawn: Option<&Labeled>) {
        match drawn {
            None => self.free.push(hint),
            Some(labeled) => {
                labeled.free.push(hint);
                self.labels.note_offer();
            }
        }
    }

    /// The label to draw a key by, or `None` to draw any.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if no key has the label.
    fn label_for(&self, label: Option<&Label>) -> Result<Option<Arc<Labeled>>, Error> {
        match label {
            Some(label) if !FailPoint::LabelIgnored.is_on() => {
                self.labels.get(label).map(Some).ok_or(Error::EXHAUSTED)
            }
            _ => Ok(None),
        }
    }

    /// What was pushed into the free vectors of a label. If two looks are the same, nothing was pushed in between:
    /// no key with the label was made free, though the lease of one may be over without anybody having noticed. O(1).
    #[must_use]
    pub fn pushes(&self, label: &Label) -> Pushes {
        self.labels.pushes(label)
    }

    /// How many keys with a label were ever made free. If two looks are the same, none was in between, though the lease
    /// of one may be over without anybody having noticed: see [`Pool::has_due_block`]. O(1).
    #[must_use]
    pub fn label_offers(&self) -> u64 {
        self.labels.offers()
    }

    /// Whether a lease or a cool-down may be over without anybody having noticed. O(log n).
    #[must_use]
    pub fn has_due_block(&self, now: Timestamp) -> bool {
        self.blocks.next_deadline().is_some_and(|due| due <= now)
    }

    /// Leases the key of a hint that was drawn from the vectors of a label or the pool's, unless the hint is stale
    /// or the key is dead. A dead key is removed.
    fn try_lease(
        &self,
        hint: Hint,
        label: Option<&Labeled>,
        now: Timestamp,
        terms: Terms<'_>,
        hold: Option<Hold>,
        cursor: &mut Cursor<'_>,
    ) -> Option<Leased> {
        let key = hint.key;
        let drawn = label.map_or(Vectors::Pool, Vectors::Label);
        let (mut leased, mut is_stale, mut crowded) = (None, true, Crowded::new());
        let is_gone = self.records.remove_if(key, now, |guarded| {
            let is_live = guarded.hint(key) == Some(hint);
            if !is_live && !FailPoint::HintGenerationNotCompared.is_on() {
                return false;
            }
            is_stale = false;
            if guarded.is_dead() {
                let change = Change::Remove { why: Removal::Expired, drawn: Some(drawn) };
                crowded = self.apply(change, guarded, cursor);
                return true;
            }
            let until = guarded.now.plus_ms(u64::from(terms.lease_ms.max(1)));
            if let Some(hold) = hold {
                self.give_holder(guarded, hold);
            }
            crowded = self.apply(Change::Lease { until, drawn }, guarded, cursor);
            let lease = guarded.lease(key, guarded.now, until);
            leased = Some(Leased { lease, value: guarded.value() });
            false
        });
        if is_stale {
            label.map_or(&self.free, |labeled| &labeled.free).drop_stale(key);
        }
        self.drop_stale_hints(key, crowded);
        if is_gone {
            self.records.shrink_shard_of(key);
        }
        leased
    }

    /// The lease of a key at a generation, with the key's value, if it lasts. O(1).
    #[must_use]
    pub fn lasting(&self, id: &KeyId, generation: u64, now: Timestamp) -> Option<Leased> {
        let leased = self.with(id, now, Fence::Any, |guarded| {
            Ok(match guarded.state(guarded.key, guarded.now, || guarded.shard.lapse()) {
                State::Leased(lease) if lease.generation == generation => {
                    Some(Leased { lease, value: guarded.value() })
                }
                _ => None,
            })
        });
        leased.ok().flatten()
    }

    /// Takes a key back. It is then free, or cools down for `cooldown_ms` milliseconds if that is not 0. A
    /// longer cool-down that has already begun is not cut short, but a release without one ends it. O(1)
    /// amortised; O(log n) with a cool-down.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`]
    pub fn release(
        &self,
        id: &KeyId,
        now: Timestamp,
        fence: Fence<'_>,
        cooldown_ms: u32,
    ) -> Result<(), Error> {
        if cooldown_ms > 0 {
            self.pay_for_blocks(now, 1);
        }
        let (key, crowded) = self.with(id, now, fence, |guarded| {
            self.end_if_over(guarded, &mut &self.blocks);
            let until = guarded.now.plus_ms(u64::from(cooldown_ms));
            let change = match guarded.block() {
                None if cooldown_ms == 0 => return Ok((guarded.key, Crowded::new())),
                Some(_) if cooldown_ms == 0 && guarded.is_leased() => Change::Release,
                Some(_) if cooldown_ms == 0 => Change::Unblock,
                Some((_, longer)) if !guarded.is_leased() && longer >= until => {
                    return Ok((guarded.key, Crowded::new()));
                }
                _ => Change::CoolDown { until },
            };
            Ok((guarded.key, self.apply(change, guarded, &mut &self.blocks)))
        })?;
        self.drop_stale_hints(key, crowded);
        Ok(())
    }

    /// Takes back a lease that no client has received, if it lasts. It is not counted as stale if not. O(1) amortised.
    pub fn give_back(&self, lease: &Lease, now: Timestamp) {
        let crowded = self.with(&lease.id, now, Fence::Any, |guarded| {
            self.end_if_over(guarded, &mut &self.blocks);
            if !guarded.is_leased() || guarded.generation() != lease.generation {
                return Ok(None);
            }
            let crowded = self.apply(Change::Release, guarded, &mut &self.blocks);
            Ok(Some((guarded.key, crowded)))
        });
        if let Ok(Some((key, crowded))) = crowded {
            self.drop_stale_hints(key, crowded);
        }
    }

    /// Lets a lease last for `lease_ms` milliseconds from now, 1 at least. It keeps its generation. O(1);
    /// O(log n) if it is cut short.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`], [`Error::NotLeased`]
    pub fn renew(
        &self,
        id: &KeyId,
        now: Timestamp,
        fence: Fence<'_>,
        lease_ms: u32,
    ) -> Result<Lease, Error> {
        self.pay_for_blocks(now, 1);
        self.with(id, now, fence, |guarded| {
            self.end_if_over(guarded, &mut &self.blocks);
            if !guarded.is_leased() {
                return Err(Error::NotLeased);
            }
            let until = guarded.now.plus_ms(u64::from(lease_ms.max(1)));
            self.apply(Change::Renew { until }, guarded, &mut &self.blocks);
            Ok(guarded.lease(guarded.key, guarded.now, until))
        })
    }

    /// When the next lease or cool-down ends: `Some(None)` if there is none, and `None` if that is not known
    /// after `steps` entries that were out of date. Each of these is moved or removed, so it is met once.
    /// O(steps log n).
    #[must_use]
    pub fn next_release_within(&self, now: Timestamp, steps: usize) -> Option<Option<Timestamp>> {
        for _ in 0..steps {
            let Some((at, key)) = self.blocks.first() else { return Some(None) };
            let mut is_dead = false;
            let found = self.records.with(key, now, |guarded| {
                is_dead = guarded.is_dead();
                if is_dead || guarded.block_entry() != Some(at) {
                    return None;
                }
                if guarded.lapsed_until().is_some() {
                    self.end_if_over(guarded, &mut &self.blocks);
                }
                let end = guarded.block().map(|(_, until)| until);
                if end.is_some_and(|end| end == at || end <= guarded.now) {
                    return end;
                }
                // It was armed for an earlier block.
                self.move_block_entry(guarded, end, &mut &self.blocks);
                None
            });
            if let Some(end) = found.flatten() {
                return Some(Some(end));
            }
            if is_dead {
                self.remove_if(key, now, Removal::Expired, |guarded| guarded.is_dead());
            }
        }
        None
    }

    /// Ends a lease or a cool-down whose time is over. A cool-down may follow the lease.
    pub(super) fn end_if_over(&self, guarded: &mut Guarded<'_>, blocks: &mut impl Arm) {
        let late_ms = u64::from(FailPoint::LeaseEndsLate.is_on());
        if guarded.block().is_some_and(|(_, until)| until.plus_ms(late_ms) <= guarded.now) {
            let lapsed = guarded.lapsed_until();
            let change = lapsed.map_or(Change::Unblock, |until| Change::Lapse { until });
            self.apply(change, guarded, blocks);
        }
    }
}
