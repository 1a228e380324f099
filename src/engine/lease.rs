//! Leases, renewals, releases and cool-downs.

use rand::Rng;

use super::expiry::{Arm, Cursor};
use super::fail_point::FailPoint;
use super::free::Hint;
use super::guarded::Guarded;
use super::journal::Journal;
use super::pool::Pool;
use super::transition::{Change, HintOf, Removal};
use crate::error::Error;
use crate::key::{Fence, KeyId, Lease};
use crate::time::Timestamp;

impl<J: Journal> Pool<J> {
    /// How many due entries a lease that has found no free key handles at a time.
    const LEASE_SWEEP: usize = 32;
    /// How many keys are leased together: enough that their cache misses overlap, and few enough that they
    /// stay in the cache and that other threads find keys, too.
    const LEASE_GROUP: usize = 64;

    /// Leases a uniformly random free key for `lease_ms` milliseconds, 1 at least. O(log n), and O(1) where
    /// the key already has an entry in the index, as most have. That is amortised over the dead keys, stale
    /// hints and ended leases that it meets, each of which is met once. [`Pool::lease_within`] limits how
    /// many those are.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if there was a moment at which no key was free, but for those that other calls
    /// were about to lease.
    pub fn lease(&self, now: Timestamp, lease_ms: u32, rng: &mut impl Rng) -> Result<Lease, Error> {
        loop {
            let mut steps = usize::MAX;
            if let Some(result) = self.lease_within(now, lease_ms, rng, &mut steps) {
                return result;
            }
        }
    }

    /// As [`Pool::lease`], but returns `None` once `steps` are used up. A step is a dead key, a stale hint or
    /// an ended lease that it has met, or another try because a key was freed meanwhile. The last of them may
    /// be up to 32 ended leases.
    pub fn lease_within(
        &self,
        now: Timestamp,
        lease_ms: u32,
        rng: &mut impl Rng,
        steps: &mut usize,
    ) -> Option<Result<Lease, Error>> {
        *steps = steps.saturating_sub(self.pay_for_blocks(now, 1));
        let mut cursor = self.blocks.cursor();
        while *steps > 0 {
            let mut met = 1;
            match self.free.draw(rng) {
                Ok(hint) => {
                    if let Some(lease) = self.try_lease(hint, now, lease_ms, &mut cursor) {
                        return Some(Ok(lease));
                    }
                }
                Err(empty) => {
                    // A lease that is over stays in the index until its key's hint is pushed. So if no
                    // entry is due and no hint was pushed meanwhile, no key was free just now.
                    let ended = self.end_blocks(now, Self::LEASE_SWEEP);
                    if ended == 0 && self.free.is_still(empty) {
                        return Some(Err(Error::EXHAUSTED));
                    }
                    met = ended.max(1);
                }
            }
            *steps = steps.saturating_sub(met);
        }
        None
    }

    /// Leases up to `count` uniformly random free keys for `lease_ms` milliseconds, and appends the leases to
    /// `leases`. It tries each hint once, so fewer leases do not mean that no key is free. O(c log n) for c
    /// keys.
    ///
    /// Of up to 64 keys at a time, it first draws the hints, then prefetches the records, then leases the
    /// keys, so that their cache misses overlap.
    pub fn lease_group(
        &self,
        now: Timestamp,
        lease_ms: u32,
        rng: &mut impl Rng,
        count: usize,
        leases: &mut Vec<Lease>,
    ) {
        let mut cursor = self.blocks.cursor();
        let mut left = count;
        while left > 0 {
            let wanted = left.min(Self::LEASE_GROUP);
            self.pay_for_blocks(now, wanted);
            let hints = self.free.draw_group(rng, wanted);
            left = if hints.len() < wanted { 0 } else { left - wanted };
            self.records.prefetch(hints.iter().map(|hint| hint.key));
            let lease = |hint| self.try_lease(hint, now, lease_ms, &mut cursor);
            leases.extend(hints.into_iter().filter_map(lease));
        }
    }

    /// Leases the key of a hint that was drawn, unless the hint is stale or the key is dead. A dead key is
    /// removed.
    fn try_lease(
        &self,
        hint: Hint,
        now: Timestamp,
        lease_ms: u32,
        cursor: &mut Cursor<'_>,
    ) -> Option<Lease> {
        let key = hint.key;
        let (mut lease, mut is_stale) = (None, true);
        let is_gone = self.records.remove_if(key, now, |guarded| {
            let is_live = guarded.hint(key) == Some(hint);
            if !is_live && !FailPoint::HintGenerationNotCompared.is_on() {
                return false;
            }
            is_stale = false;
            if guarded.is_dead() {
                let change = Change::Remove { why: Removal::Expired, hint: HintOf::Drawn };
                self.apply(change, guarded, cursor);
                return true;
            }
            let until = guarded.now.plus_ms(u64::from(lease_ms.max(1)));
            self.apply(Change::Lease { until }, guarded, cursor);
            lease = Some(guarded.lease(key, guarded.now, until));
            false
        });
        if is_stale {
            self.free.drop_stale(key);
        }
        if is_gone {
            self.records.shrink_shard_of(key);
        }
        lease
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
        let (key, is_crowded) = self.with(id, now, fence, |guarded| {
            self.end_if_over(guarded, &mut &self.blocks);
            let until = guarded.now.plus_ms(u64::from(cooldown_ms));
            let change = match guarded.block() {
                None if cooldown_ms == 0 => return Ok((guarded.key, false)),
                Some(_) if cooldown_ms == 0 && guarded.is_leased() => Change::Release,
                Some(_) if cooldown_ms == 0 => Change::Unblock,
                Some((_, longer)) if !guarded.is_leased() && longer >= until => {
                    return Ok((guarded.key, false));
                }
                _ => Change::CoolDown { until },
            };
            Ok((guarded.key, self.apply(change, guarded, &mut &self.blocks)))
        })?;
        if is_crowded {
            self.drop_stale_hints(key);
        }
        Ok(())
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
