//! The leases that this server looks for a key for: first come, first served.

use std::collections::{BTreeMap, HashMap};
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::receiver::Receiver;
use crate::error::Error;
use crate::key::Quota;
use crate::store::operation::{Leasing, RequestKey};
use crate::time::Timestamp;

/// How many leases without a waiting time may be in the line beside those that wait.
const UNANSWERED_MAX: usize = 100_000;

/// A lease that is looked for.
pub(super) struct Entry {
    pub(super) leasing: Leasing,
    pub(super) lease_ms: u32,
    pub(super) request: Option<RequestKey>,
    /// Until when it waits, by the clock of this server.
    pub(super) until: Timestamp,
    pub(super) receiver: Receiver,
    /// A number for its quota, once it counts against that.
    pub(super) nonce: Option<u64>,
    /// Whether a look has found no key for it, so that it really waits.
    pub(super) has_waited: bool,
}

impl Entry {
    /// What its lease counts against.
    pub(super) fn quota(&self) -> Option<&Arc<Quota>> {
        self.leasing.holder.as_ref()?.quota()
    }

    /// Whether every free key will do.
    pub(super) fn takes_any(&self) -> bool {
        self.leasing.label.is_none() && self.quota().is_none()
    }

    pub(super) fn waits(&self) -> bool {
        self.leasing.wait_ms > 0
    }
}

/// The leases of a pool.
pub(super) struct Line {
    state: Mutex<State>,
    /// Wakes the task that serves the line.
    pub(super) bell: Notify,
    /// Wakes those that wait until the line is at rest.
    at_rest: Notify,
    /// How many wait in all pools.
    all: Arc<AtomicUsize>,
    max: usize,
    served_after_waiting: AtomicU64,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Those that no key is known for.
    waiting: BTreeMap<u64, Entry>,
    /// Those that a shard was asked for; whether they are cancelled.
    flying: HashMap<u64, (Entry, bool)>,
    /// Whether a task serves the line.
    is_running: bool,
    /// Whether it has nothing to do until something happens.
    is_resting: bool,
    /// Counts what may have made a key free.
    news: u64,
    /// How many looks have begun, and how many of them have ended.
    begun: u64,
    ended: u64,
    is_closed: bool,
    /// Since when nobody has been in the line.
    empty_since: Option<Instant>,
}

/// What becomes of a lease that no key was found for.
pub(super) enum Returned {
    /// It is in the line again; the task has to be started if this is true.
    Waits(bool),
    /// It is not wanted, or its pool is gone.
    Ended(Box<Entry>, Error),
}

/// What the task that serves the line works on.
pub(super) struct Snapshot {
    pub(super) numbers: Vec<u64>,
    pub(super) news: u64,
}

impl Line {
    /// How many leases are served at a time.
    const SERVED_MAX: usize = 1024;

    pub(super) fn new(all: Arc<AtomicUsize>, max: usize) -> Self {
        Self {
            state: Mutex::default(),
            bell: Notify::new(),
            at_rest: Notify::new(),
            all,
            max,
            served_after_waiting: AtomicU64::new(0),
        }
    }

    /// The number of a lease that has come. O(1).
    pub(super) fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.next += 1;
        state.next
    }

    /// Whether nobody waits, so that a lease may go to a shard at once. Then it is noted as under way. O(1).
    pub(super) fn fly(&self, number: u64, entry: Entry) -> Result<(), Box<Entry>> {
        let mut state = self.state.lock();
        if state.waiting.is_empty() && !state.is_closed {
            state.flying.insert(number, (entry, false));
            return Ok(());
        }
        Err(Box::new(entry))
    }

    /// Puts a lease into the line. True if the task has to be started.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyWaiters`], [`Error::NoSuchPool`]
    pub(super) fn join(&self, number: u64, entry: Entry) -> Result<bool, (Box<Entry>, Error)> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err((Box::new(entry), Error::NoSuchPool));
        }
        if entry.waits() {
            let take = |all| (all < self.max).then_some(all + 1);
            if self.all.fetch_update(SeqCst, SeqCst, take).is_err() {
                return Err((Box::new(entry), Error::TooManyWaiters));
            }
        } else if state.waiting.len() >= UNANSWERED_MAX + self.max {
            return Err((Box::new(entry), Error::TooManyWaiters));
        }
        state.waiting.insert(number, entry);
        Ok(self.start(&mut state))
    }

    /// True if the task has to be started; else it is woken.
    fn start(&self, state: &mut State) -> bool {
        state.is_resting = false;
        let is_first = !state.is_running;
        state.is_running = true;
        if !is_first {
            self.bell.notify_one();
        }
        is_first
    }

    /// Takes out a lease that is under way.
    pub(super) fn land(&self, number: u64) -> Option<Entry> {
        self.state.lock().flying.remove(&number).map(|(entry, _)| entry)
    }

    /// Puts a lease back that was under way, as no key was found for it.
    pub(super) fn put_back(&self, number: u64) -> Option<Returned> {
        let mut state = self.state.lock();
        let (entry, is_cancelled) = state.flying.remove(&number)?;
        if is_cancelled || state.is_closed {
            let error = if state.is_closed { Error::NoSuchPool } else { Error::EXHAUSTED };
            return Some(Returned::Ended(Box::new(entry), error));
        }
        if entry.waits() {
            self.all.fetch_add(1, SeqCst);
        }
        state.waiting.insert(number, entry);
        // A key may have been made free meanwhile.
        state.news += 1;
        Some(Returned::Waits(self.start(&mut state)))
    }

    /// Takes a lease out that waits, to ask a shard for it or to end it.
    pub(super) fn take(&self, number: u64) -> Option<Entry> {
        let mut state = self.state.lock();
        let entry = state.waiting.remove(&number)?;
        self.note_gone(&entry);
        Some(entry)
    }

    /// Notes that a shard is asked for a lease that was taken out.
    pub(super) fn send(&self, number: u64, entry: Entry) {
        self.state.lock().flying.insert(number, (entry, false));
    }

    /// Looks at a lease that is under way. `None` if it is cancelled, or if others wait, whom it must not overtake.
    pub(super) fn with_flying<T>(&self, number: u64, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let state = self.state.lock();
        if !state.waiting.is_empty() || state.is_closed {
            return None;
        }
        let (entry, is_cancelled) = state.flying.get(&number)?;
        (!is_cancelled).then(|| look(entry))
    }

    /// Looks at a lease that waits.
    pub(super) fn with<T>(&self, number: u64, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.state.lock().waiting.get(&number).map(look)
    }

    fn note_gone(&self, entry: &Entry) {
        if entry.waits() {
            self.all.fetch_sub(1, SeqCst);
        }
    }

    /// Cancels a lease. If it waits, it is taken out. If it is not known yet whether it has to, it gets a key that is free.
    pub(super) fn cancel(&self, number: u64) -> Option<Entry> {
        let mut state = self.state.lock();
        if let Some((entry, is_cancelled)) = state.flying.get_mut(&number) {
            *is_cancelled = entry.has_waited;
            entry.leasing.wait_ms = 0;
            return None;
        }
        let entry = state.waiting.get_mut(&number)?;
        if entry.waits() {
            self.all.fetch_sub(1, SeqCst);
        }
        entry.leasing.wait_ms = 0;
        if !entry.has_waited {
            return None;
        }
        state.waiting.remove(&number)
    }

    /// Notes that no key was found for a lease, which goes on waiting.
    pub(super) fn note_waits(&self, number: u64) {
        if let Some(entry) = self.state.lock().waiting.get_mut(&number) {
            entry.has_waited = true;
        }
    }

    /// Notes that a key may be free. O(1).
    pub(super) fn note_news(&self) {
        let mut state = self.state.lock();
        if !state.waiting.is_empty() {
            state.news += 1;
            state.is_resting = false;
            self.bell.notify_one();
        }
    }

    /// What there is to do. `None` if nothing is: then the task ends.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            state.is_running = false;
            state.is_resting = true;
            state.empty_since = Some(Instant::now());
            self.at_rest.notify_waiters();
            return None;
        }
        state.begun += 1;
        let numbers = state.waiting.keys().take(Self::SERVED_MAX).copied().collect();
        Some(Snapshot { numbers, news: state.news })
    }

    /// Whether nobody has waited for so long.
    pub(super) fn has_been_empty_for(&self, time: Duration) -> bool {
        let state = self.state.lock();
        !state.is_running && state.empty_since.is_some_and(|since| since.elapsed() > time)
    }

    /// Whether nothing has happened since. Then the task may rest.
    pub(super) fn rest(&self, since: &Snapshot) -> bool {
        let mut state = self.state.lock();
        let is_old = |number: &u64| since.numbers.binary_search(number).is_ok();
        let rests = state.news == since.news
            && !state.waiting.is_empty()
            && state.waiting.keys().all(is_old);
        state.is_resting = rests;
        state.ended = state.begun;
        self.at_rest.notify_waiters();
        rests
    }

    /// When the first of those ends that wait.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        let state = self.state.lock();
        state.waiting.values().map(|entry| entry.until).min()
    }

    /// Waits until all that has happened by now has been followed by a look.
    pub(super) async fn rested(&self) {
        // One that has begun may not have seen it.
        let enough = self.state.lock().begun + 1;
        loop {
            let at_rest = self.at_rest.notified();
            {
                let state = self.state.lock();
                if state.is_resting || !state.is_running || state.ended >= enough {
                    return;
                }
            }
            at_rest.await;
        }
    }

    /// How many clients wait. O(w) for w of them.
    pub(super) fn waiting(&self) -> u64 {
        self.state.lock().waiting.values().filter(|entry| entry.waits()).count() as u64
    }

    pub(super) fn count_served(&self) {
        self.served_after_waiting.fetch_add(1, Relaxed);
    }

    pub(super) fn served_after_waiting(&self) -> u64 {
        self.served_after_waiting.load(Relaxed)
    }

    /// Lets no more join, and returns all that wait.
    pub(super) fn close(&self) -> Vec<Entry> {
        let mut state = self.state.lock();
        state.is_closed = true;
        let waiting: Vec<_> = take(&mut state.waiting).into_values().collect();
        drop(state);
        for entry in &waiting {
            self.note_gone(entry);
        }
        self.bell.notify_one();
        waiting
    }
}
