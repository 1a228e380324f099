//! Who may have a key: leases, releases, renewals and cool-downs.

use std::sync::atomic::Ordering::SeqCst;

use rand::Rng;

use super::Bug;
use super::Pool;
use super::expiry::Near;
use super::free::Hint;
use super::handle::Handle;
use super::record::Record;
use super::stats::Event;
use crate::error::Error;
use crate::key::{Fence, KeyId, Lease};
use crate::time::Timestamp;

impl Pool {
    /// How many ended leases a [`Pool::lease`] that found no free key handles at a time.
    const LEASE_SWEEP: usize = 4;
    /// How many keys are leased together: enough to wait for their memory at the same time, few
    /// enough that it stays near, and that others find what is left.
    const LEASE_GROUP: usize = 64;

    /// Leases a uniformly random free key for `lease_ms` milliseconds, 1 at least. O(log n): O(1)
    /// but for the entry in the index, which most leases find armed. Amortised over the dead keys,
    /// stale hints and ended leases it meets, each of which is met once; [`Pool::lease_within`]
    /// bounds how many that are.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if there was a moment at which no key was free, but for those that
    /// other calls were about to lease.
    pub fn lease(&self, now: Timestamp, lease_ms: u32, rng: &mut impl Rng) -> Result<Lease, Error> {
        loop {
            if let Some(result) = self.lease_within(now, lease_ms, rng, usize::MAX) {
                return result;
            }
        }
    }

    /// As [`Pool::lease`], but gives up after `steps` keys or entries that were of no use: `None`.
    pub fn lease_within(
        &self,
        now: Timestamp,
        lease_ms: u32,
        rng: &mut impl Rng,
        steps: usize,
    ) -> Option<Result<Lease, Error>> {
        let mut near = self.holds.near();
        for _ in 0..steps {
            match self.free.draw(rng) {
                Ok(hint) => {
                    if let Some(lease) = self.try_lease(hint, now, lease_ms, &mut near) {
                        return Some(Ok(lease));
                    }
                }
                Err(empty) => {
                    // A lease that has ended stays in the index until its hint is pushed. So if
                    // none is there, and no hint came meanwhile, no key was free just now.
                    if self.end_holds(now, Self::LEASE_SWEEP) == 0 && self.free.is_still(empty) {
                        return Some(Err(Error::Exhausted));
                    }
                }
            }
        }
        None
    }

    /// Leases up to `count` uniformly random free keys for `lease_ms` milliseconds and appends the
    /// leases to `leases`, as far as hints are at hand: fewer are no sign that no key is free.
    /// O(c log n) for c keys.
    ///
    /// Of some at a time all hints are drawn first, then all records are asked for, and then the
    /// leases begin: so the memory of several keys is on its way at the same time.
    pub fn lease_group(
        &self,
        now: Timestamp,
        lease_ms: u32,
        rng: &mut impl Rng,
        count: usize,
        leases: &mut Vec<Lease>,
    ) {
        let mut near = self.holds.near();
        let mut left = count;
        while left > 0 {
            let wanted = left.min(Self::LEASE_GROUP);
            let hints = self.free.draw_group(rng, wanted);
            left = if hints.len() < wanted { 0 } else { left - wanted };
            self.records.prefetch(hints.iter().map(|hint| hint.key));
            let lease = |hint| self.try_lease(hint, now, lease_ms, &mut near);
            leases.extend(hints.into_iter().filter_map(lease));
        }
    }

    /// Leases the key of a hint that was drawn, unless the hint is stale or the key is dead.
    fn try_lease(
        &self,
        hint: Hint,
        now: Timestamp,
        lease_ms: u32,
        near: &mut Near<'_>,
    ) -> Option<Lease> {
        let key = hint.key;
        let (mut lease, mut is_stale) = (None, true);
        let dead = self.records.remove_if(key, |record| {
            if record.hint(key) != Some(hint) && !Bug::HintGenerationNotCompared.is_planted() {
                return false;
            }
            is_stale = false;
            if record.is_dead(now) {
                self.keys.fetch_sub(1, SeqCst);
                return true;
            }
            // Armed before the record says so: nobody may see a lease that no entry ends.
            let until = now.plus_ms(u64::from(lease_ms.max(1)));
            self.arm_hold(key, record, until, near);
            record.start_lease(now, until);
            self.counters.add(key, Event::Leased);
            lease = Some(record.lease(key, now, until));
            false
        });
        if is_stale {
            self.free.drop_stale(key);
        }
        if let Some(record) = dead {
            self.forget(key, &record, now, Event::Expired);
        }
        lease
    }

    /// Takes a key back, so that it is free for the next lease, or will be after `cooldown_ms`
    /// milliseconds. Without a cool-down a free key stays as it is, and one that is cooling is
    /// free. A cool-down that lasts longer already is not cut short. O(1) amortised, O(log n) with
    /// a cool-down.
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
        let mut crowded = None;
        let result = self.with(id, now, fence, |key, record| {
            self.end_if_over(key, record, now);
            let (hold, is_leased) = (record.hold(), record.is_leased());
            let until = now.plus_ms(u64::from(cooldown_ms));
            match hold {
                None if cooldown_ms == 0 => {}
                Some(_) if cooldown_ms == 0 => {
                    let event = if is_leased { Event::Released } else { Event::CoolDownEnd };
                    self.free_up(key, record, event);
                }
                Some((_, longer)) if !is_leased && longer >= until => {}
                _ => {
                    self.arm_hold(key, record, until, &mut self.holds.near());
                    record.cool(now, until);
                    if is_leased {
                        self.counters.add(key, Event::Released);
                    }
                    if is_leased || hold.is_none() {
                        self.counters.add(key, Event::CoolDown);
                    }
                    if hold.is_none() && self.free.add_stale(key) {
                        crowded = Some(key);
                    }
                }
            }
            Ok(())
        });
        if let Some(key) = crowded {
            self.drop_stale_near(key);
        }
        result
    }

    /// Starts a lease anew, to last for `lease_ms` milliseconds from now, 1 at least; it keeps its
    /// generation. O(1), O(log n) if it is cut shorter.
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
        self.with(id, now, fence, |key, record| {
            self.end_if_over(key, record, now);
            if !record.is_leased() {
                return Err(Error::NotLeased);
            }
            let until = now.plus_ms(u64::from(lease_ms.max(1)));
            self.arm_hold(key, record, until, &mut self.holds.near());
            record.renew(now, until);
            Ok(record.lease(key, now, until))
        })
    }

    /// When the next lease or cool-down ends, if there is one; or `None` if that is not known after
    /// `steps` entries that stood too early, each of which is met once. O(steps log n).
    #[must_use]
    pub fn next_release_within(&self, now: Timestamp, steps: usize) -> Option<Option<Timestamp>> {
        for _ in 0..steps {
            let Some((at, key)) = self.holds.first() else { return Some(None) };
            let Some(mut record) = self.records.get_mut(key) else { continue };
            if record.is_dead(now) {
                drop(record);
                self.remove_if(key, now, Event::Expired, |record| record.is_dead(now));
                continue;
            }
            if record.hold_entry() == Some(at) {
                let end = record.hold().map(|(_, until)| until);
                if end.is_some_and(|end| end == at || end <= now) {
                    return Some(end);
                }
                // It was meant for an earlier hold.
                self.move_hold_entry(key, &mut record, end, &mut self.holds.near());
            }
        }
        None
    }

    /// Ends a lease or a cool-down whose time is over.
    pub(super) fn end_if_over(&self, key: Handle, record: &mut Record, now: Timestamp) {
        let late_ms = u64::from(Bug::LeaseEndsLate.is_planted());
        if record.hold().is_some_and(|(_, until)| until.plus_ms(late_ms) <= now) {
            let event = if record.is_leased() { Event::LeaseTimeout } else { Event::CoolDownEnd };
            self.free_up(key, record, event);
        }
    }

    /// Makes a key free, and offers it.
    fn free_up(&self, key: Handle, record: &mut Record, event: Event) {
        self.counters.add(key, event);
        record.end_hold();
        if !Bug::ReleaseForgetsFreeVector.is_planted() {
            self.free.push(Hint::new(key, record.generation()));
        }
    }

    /// Lets the entry of a hold stand at `end` instead, or nowhere.
    pub(super) fn move_hold_entry(
        &self,
        key: Handle,
        record: &mut Record,
        end: Option<Timestamp>,
        near: &mut Near<'_>,
    ) {
        debug_assert!(end.is_none() || end != record.hold_entry(), "it would be lost");
        if let Some(end) = end {
            near.arm(end, key);
        }
        if let Some(armed) = record.hold_entry() {
            self.holds.disarm(armed, key);
        }
        record.arm_hold(end);
    }

    /// Makes sure that an entry stands at or before `until`.
    fn arm_hold(&self, key: Handle, record: &mut Record, until: Timestamp, near: &mut Near<'_>) {
        if record.hold_entry().is_none_or(|armed| armed > until) {
            self.move_hold_entry(key, record, Some(until), near);
        }
    }
}
