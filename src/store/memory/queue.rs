//! The clients that wait for a key, first come, first served: a line of those that take any key, and one for each
//! label that others wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize, fence};

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::engine::Pushes;
use crate::error::Error;
use crate::key::{Holder, Label};
use crate::store::operation::RequestKey;
use crate::store::port::Complete;
use crate::time::Timestamp;

/// The queue, and its length, which can be read without the queue's lock.
///
/// **No wake-up is lost:** a client that joins first raises the length and then looks for a free key. An
/// operation that frees a key first does so and then reads the length. So at least one of them sees the
/// other.
pub(super) struct Waiters {
    /// The most in all pools together, and how many there are.
    max: usize,
    all: Arc<AtomicUsize>,
    len: CachePadded<AtomicUsize>,
    /// How many keys with a label had been made free when all that wait, all for labels, were looked for one in vain;
    /// [`NOT_QUIET`] if some have not been, or take any key.
    quiet_at: AtomicU64,
    queue: Mutex<Queue>,
    /// Leases that were given to waiters.
    granted: AtomicU64,
}

/// No pool makes so many keys free.
const NOT_QUIET: u64 = u64::MAX;

/// Waiters by ticket: the lowest came first.
type Line = BTreeMap<u64, Waiter>;

/// All lines.
#[derive(Default)]
pub(super) struct Queue {
    next_ticket: u64,
    /// The pool was deleted.
    is_closed: bool,
    /// Those that take any key.
    any: Line,
    /// Those that wait for a key with a label.
    labeled: BTreeMap<Label, LabeledLine>,
    /// The first ticket of each of these lines.
    heads: BTreeMap<u64, Label>,
    /// The label of each waiter in them.
    labels: BTreeMap<u64, Label>,
    /// When each one gives up, and its ticket.
    ends: BTreeSet<(Timestamp, u64)>,
}

/// Those that wait for a key with the same label.
#[derive(Default)]
struct LabeledLine {
    line: Line,
    /// What had been pushed into the label's vectors before a search that found no key.
    searched: Option<Pushes>,
}

/// A lease that waits for a free key.
pub(super) struct Waiter {
    pub(super) lease_ms: u32,
    pub(super) holder: Option<Holder>,
    /// The key of its request, which must be settled.
    pub(super) request: Option<RequestKey>,
    /// When it gives up.
    pub(super) until: Timestamp,
    pub(super) receiver: Arc<dyn Complete>,
    pub(super) token: u64,
}

impl Waiters {
    /// How far leases without a waiting time may fill the queue beyond its limit. They join it only while it
    /// takes long to tell whether a key is free, because very many keys have just died.
    const UNANSWERED_MAX: usize = 1000;
    /// The most different labels that clients of one pool may wait for at once: each is looked at when a key is freed.
    pub(super) const LABELS_MAX: usize = 256;

    /// Room for `max` waiters in all pools together, which `all` counts.
    pub(super) fn new(max: usize, all: Arc<AtomicUsize>) -> Self {
        let (len, queue, granted) = Default::default();
        Self { max, all, len, quiet_at: AtomicU64::new(NOT_QUIET), queue, granted }
    }

    /// Whether no client waits; only a hint while clients come and go. O(1).
    pub(super) fn is_empty(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// How many clients wait. O(1).
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// How many leases were given to waiters. O(1).
    pub(super) fn granted(&self) -> u64 {
        self.granted.load(Relaxed)
    }

    /// Whether no client waits, for a thread that has just freed a key: a client that joins too late to be
    /// counted sees that key. O(1).
    pub(super) fn is_empty_after_freeing(&self) -> bool {
        fence(SeqCst);
        self.len.load(SeqCst) == 0
    }

    /// Whether nobody who waits can have a key, as all wait for labels and `offers` keys with labels were made free:
    /// as many as before they were looked for one in vain. Nobody then waits for any key. To be asked after
    /// [`Waiters::is_empty_after_freeing`]. O(1).
    pub(super) fn is_quiet(&self, offers: u64) -> bool {
        self.quiet_at.load(SeqCst) == offers
    }

    /// Notes that all that wait, all for labels, were looked for a key in vain after so many offers.
    pub(super) fn note_quiet(&self, queue: &Queue, offers: u64) {
        if queue.any.is_empty() {
            self.quiet_at.store(offers, SeqCst);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Adds a waiter to the queue; `waits` if it has a waiting time. Afterwards the caller must look for a
    /// free key. O(log w) for w waiters.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyWaiters`], [`Error::NoSuchPool`]
    pub(super) fn join(
        &self,
        queue: &mut Queue,
        waiter: Waiter,
        label: Option<&Label>,
        waits: bool,
    ) -> Result<u64, Error> {
        if queue.is_closed {
            return Err(Error::NoSuchPool);
        }
        let is_new = label.is_some_and(|label| !queue.labeled.contains_key(label));
        if is_new && queue.labeled.len() >= Self::LABELS_MAX {
            return Err(Error::TooManyWaiters);
        }
        let max = if waits { self.max } else { self.max.saturating_add(Self::UNANSWERED_MAX) };
        let take = |all| (all < max).then_some(all + 1);
        if self.all.fetch_update(SeqCst, SeqCst, take).is_err() {
            return Err(Error::TooManyWaiters);
        }
        let number = queue.next_ticket;
        queue.next_ticket += 1;
        queue.ends.insert((waiter.until, number));
        self.quiet_at.store(NOT_QUIET, SeqCst);
        queue.insert(number, waiter, label);
        self.note_len(queue);
        fence(SeqCst);
        Ok(number)
    }

    /// Takes a waiter out of the queue, unless it was served. O(log w) for w waiters.
    pub(super) fn remove(&self, number: u64) -> Option<Waiter> {
        let mut queue = self.queue.lock();
        let waiter = queue.remove(number)?;
        queue.ends.remove(&(waiter.until, number));
        self.note_gone(&queue, 1);
        Some(waiter)
    }

    /// Takes all waiters out, and lets no more join: the pool was deleted. O(w) for w waiters.
    pub(super) fn close(&self) -> Vec<Waiter> {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        queue.ends.clear();
        let (any, labeled) = (take(&mut queue.any), take(&mut queue.labeled));
        queue.heads.clear();
        queue.labels.clear();
        let labeled = labeled.into_values().flat_map(|labeled| labeled.line.into_values());
        let waiters: Vec<_> = any.into_values().chain(labeled).collect();
        self.note_gone(&queue, waiters.len());
        waiters
    }

    /// Takes a waiter out, to be served. O(log w) for w waiters.
    pub(super) fn pop(&self, queue: &mut Queue, number: u64) -> Option<Waiter> {
        let waiter = queue.remove(number)?;
        queue.ends.remove(&(waiter.until, number));
        self.note_gone(queue, 1);
        Some(waiter)
    }

    /// Takes out a waiter whose time is up. O(log w) for w waiters.
    pub(super) fn pop_ended(&self, queue: &mut Queue, now: Timestamp) -> Option<Waiter> {
        let (_, number) = *queue.ends.first().filter(|(until, _)| *until <= now)?;
        queue.ends.pop_first();
        let waiter = queue.remove(number);
        self.note_gone(queue, 1);
        waiter
    }

    /// Counts a lease that was given to a waiter.
    pub(super) fn count_granted(&self) {
        self.granted.fetch_add(1, Relaxed);
    }

    fn note_gone(&self, queue: &Queue, count: usize) {
        self.note_len(queue);
        self.all.fetch_sub(count, SeqCst);
    }

    fn note_len(&self, queue: &Queue) {
        self.len.store(queue.any.len() + queue.labels.len(), SeqCst);
    }
}

impl Queue {
    fn insert(&mut self, number: u64, waiter: Waiter, label: Option<&Label>) {
        let Some(label) = label else {
            self.any.insert(number, waiter);
            return;
        };
        let labeled = self.labeled.entry(label.clone()).or_default();
        if labeled.line.is_empty() {
            self.heads.insert(number, label.clone());
        }
        labeled.line.insert(number, waiter);
        self.labels.insert(number, label.clone());
    }

    fn remove(&mut self, number: u64) -> Option<Waiter> {
        let Some(label) = self.labels.remove(&number) else { return self.any.remove(&number) };
        let labeled = self.labeled.get_mut(&label)?;
        let waiter = labeled.line.remove(&number);
        let next = labeled.line.first_key_value().map(|(number, _)| *number);
        if self.heads.remove(&number).is_some()
            && let Some(next) = next
        {
            self.heads.insert(next, label.clone());
        }
        if next.is_none() {
            self.labeled.remove(&label);
        }
        waiter
    }

    /// Whether no client waits. O(1).
    pub(super) fn is_empty(&self) -> bool {
        self.any.is_empty() && self.labels.is_empty()
    }

    /// Whether clients wait for a key with a label. O(1).
    pub(super) fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Whether clients that come before a lease with this label, or of any key, wait for what it could take. Those
    /// that wait for another label do not, once no free key has that. O(log l) for l labels.
    pub(super) fn competes_with(&self, label: Option<&Label>) -> bool {
        !self.any.is_empty() || label.is_some_and(|label| self.labeled.contains_key(label))
    }

    /// The first waiter that takes any key.
    pub(super) fn first_of_any(&self) -> Option<(u64, &Waiter)> {
        self.any.first_key_value().map(|(number, waiter)| (*number, waiter))
    }

    /// The first waiter for a label, from the ticket `from` on, whose label's keys have not been searched in vain since
    /// the last of them was freed, as `pushes` tells. O(l log l) for l labels.
    pub(super) fn first_of_label(
        &self,
        from: u64,
        pushes: impl Fn(&Label) -> Pushes,
    ) -> Option<(u64, Label, Pushes)> {
        self.heads.range(from..).find_map(|(number, label)| {
            let now = pushes(label);
            let is_new = self.labeled[label].searched != Some(now);
            is_new.then(|| (*number, label.clone(), now))
        })
    }

    /// A waiter for a label.
    pub(super) fn of_label(&self, label: &Label, number: u64) -> Option<&Waiter> {
        self.labeled.get(label)?.line.get(&number)
    }

    /// Notes that no key with this label was found after these pushes.
    pub(super) fn note_search(&mut self, label: &Label, pushes: Pushes) {
        if let Some(labeled) = self.labeled.get_mut(label) {
            labeled.searched = Some(pushes);
        }
    }

    /// When the next waiter gives up. O(log w) for w waiters.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }
}
