//! Leases that were asked for with a request key, so that a retry gets the same lease.
//!
//! An entry lives as long as its lease: it goes with a release or a deletion, with the next lease of the key, or
//! when the lease would have ended. So there is at most one for each key and each client that waits.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use parking_lot::Mutex;

use crate::error::Error;
use crate::key::{KeyId, Lease};
use crate::store::operation::{Outcome, Reply, RequestKey};
use crate::time::Timestamp;

/// Parts with a lock each, so that threads rarely meet.
const STRIPES: usize = 32;

type Digest = [u8; RequestKey::DIGEST_BYTES];

/// What is known of a request key.
pub(super) enum Known {
    /// Nothing. It is noted now, and must be settled.
    New,
    /// Its lease, which lasts.
    Leased(Lease),
}

#[derive(Default)]
pub(super) struct Requests {
    len: AtomicUsize,
    by_digest: [Mutex<Stripe>; STRIPES],
    /// The requests of leased keys.
    by_id: [Mutex<HashMap<KeyId, Digest>>; STRIPES],
}

#[derive(Default)]
struct Stripe {
    entries: HashMap<Digest, Entry>,
    /// When to look whether an entry has outlived its lease.
    ends: BTreeSet<(Timestamp, Digest)>,
}

struct Entry {
    parameters: [u32; 3],
    until: Timestamp,
    /// `None` until the request is answered.
    lease: Option<(KeyId, u64)>,
    /// A retry was answered as well.
    is_shared: bool,
}

impl Requests {
    /// What is known of a request. `until` is when it is answered at the latest, and `find` finds a lease that
    /// lasts, by key and generation. O(1) amortised.
    ///
    /// # Errors
    ///
    /// [`Error::RequestReused`] if it has other parameters, [`Error::RequestInProgress`] if it waits.
    pub(super) fn begin(
        &self,
        request: &RequestKey,
        until: Timestamp,
        find: impl Fn(&KeyId, u64) -> Option<Lease>,
    ) -> Result<Known, Error> {
        let mut stripe = self.stripe(&request.digest).lock();
        if let Some(entry) = stripe.entries.get_mut(&request.digest) {
            let lease = entry.lease.map(|(id, generation)| find(&id, generation));
            // `Some(None)`: its lease has ended, so the key may be used again.
            if !matches!(lease, Some(None)) && entry.parameters != request.parameters {
                return Err(Error::RequestReused);
            }
            match lease {
                None => return Err(Error::RequestInProgress),
                Some(Some(lease)) => {
                    entry.is_shared = true;
                    return Ok(Known::Leased(lease));
                }
                Some(None) => {}
            }
        }
        let (parameters, lease) = (request.parameters, None);
        let entry = Entry { parameters, until, lease, is_shared: false };
        let before = stripe.put(request.digest, entry);
        drop(stripe);
        if let Some(before) = before {
            before.lease.iter().for_each(|(id, _)| self.unlink(id, &request.digest));
        } else {
            self.len.fetch_add(1, SeqCst);
        }
        Ok(Known::New)
    }

    /// Notes the outcome of a request that has begun. O(log l) for l leases with a request.
    pub(super) fn settle(&self, request: &RequestKey, outcome: &Outcome) {
        let Ok(Reply::Leased(lease)) = outcome else {
            return self.forget(&request.digest, None);
        };
        let entry = Entry {
            parameters: request.parameters,
            until: lease.until,
            lease: Some((lease.id, lease.generation)),
            is_shared: false,
        };
        if self.stripe(&request.digest).lock().put(request.digest, entry).is_none() {
            self.len.fetch_add(1, SeqCst);
        }
        let before = self.of_key(&lease.id).lock().insert(lease.id, request.digest);
        // That of an earlier lease of this key.
        if let Some(before) = before.filter(|before| *before != request.digest) {
            self.forget(&before, Some(&lease.id));
        }
    }

    /// Notes that a key was released or deleted. O(1) if no lease has a request, else O(log l) for l that have.
    pub(super) fn ended(&self, id: &KeyId) {
        if self.len.load(Relaxed) == 0 {
            return;
        }
        let digest = self.of_key(id).lock().remove(id);
        if let Some(digest) = digest {
            self.forget(&digest, Some(id));
        }
    }

    /// Whether a lease that a client has not received may be taken back: a retry must not have got it, too. Then
    /// none gets it any more. O(1) if no lease has a request, else O(log l) for l that have.
    pub(super) fn give_up(&self, lease: &Lease) -> bool {
        if self.len.load(Relaxed) == 0 {
            return true;
        }
        let Some(digest) = self.of_key(&lease.id).lock().get(&lease.id).copied() else {
            return true;
        };
        let mut stripe = self.stripe(&digest).lock();
        match stripe.entries.get(&digest) {
            Some(entry) if entry.lease == Some((lease.id, lease.generation)) => {
                if entry.is_shared {
                    return false;
                }
                let end = (entry.until, digest);
                stripe.ends.remove(&end);
                stripe.entries.remove(&digest);
                drop(stripe);
                self.len.fetch_sub(1, SeqCst);
                self.unlink(&lease.id, &digest);
                true
            }
            _ => true,
        }
    }

    /// Removes entries whose leases have ended; `find` finds those that last, because they were renewed. O(1) if
    /// nothing is due.
    pub(super) fn sweep(&self, now: Timestamp, find: impl Fn(&KeyId, u64) -> Option<Lease>) {
        if self.len.load(Relaxed) == 0 {
            return;
        }
        for stripe in &self.by_digest {
            loop {
                let mut stripe = stripe.lock();
                let Some((_, digest)) = stripe.ends.first().copied().filter(|(at, _)| *at <= now)
                else {
                    break;
                };
                let entry = stripe.entries.remove(&digest).expect("each end is that of an entry");
                stripe.ends.pop_first();
                let lasting = entry.lease.and_then(|(id, generation)| find(&id, generation));
                if let Some(lease) = lasting {
                    stripe.put(digest, Entry { until: lease.until, ..entry });
                    continue;
                }
                drop(stripe);
                self.len.fetch_sub(1, SeqCst);
                entry.lease.iter().for_each(|(id, _)| self.unlink(id, &digest));
            }
        }
    }

    /// Removes an entry, if it is that of a lease of this key.
    fn forget(&self, digest: &Digest, of: Option<&KeyId>) {
        let mut stripe = self.stripe(digest).lock();
        let id = |entry: &Entry| entry.lease.map(|(id, _)| id);
        if let Some(entry) = stripe.entries.get(digest)
            && id(entry).as_ref() == of
        {
            let end = (entry.until, *digest);
            stripe.ends.remove(&end);
            stripe.entries.remove(digest);
            self.len.fetch_sub(1, SeqCst);
        }
    }

    /// Notes that a key has no longer the lease of this request.
    fn unlink(&self, id: &KeyId, digest: &Digest) {
        let mut keys = self.of_key(id).lock();
        if keys.get(id) == Some(digest) {
            keys.remove(id);
        }
    }

    fn stripe(&self, digest: &Digest) -> &Mutex<Stripe> {
        &self.by_digest[usize::from(digest[0]) % self.by_digest.len()]
    }

    fn of_key(&self, id: &KeyId) -> &Mutex<HashMap<KeyId, Digest>> {
        &self.by_id[usize::from(id.as_bytes()[0]) % self.by_id.len()]
    }

    /// How many entries there are, and how many keys have one.
    #[cfg(test)]
    pub(super) fn len(&self) -> [usize; 2] {
        [self.len.load(SeqCst), self.by_id.iter().map(|keys| keys.lock().len()).sum()]
    }
}

impl Stripe {
    /// Puts an entry, and returns the one that was there.
    fn put(&mut self, digest: Digest, entry: Entry) -> Option<Entry> {
        self.ends.insert((entry.until, digest));
        let until = entry.until;
        let before = self.entries.insert(digest, entry);
        if let Some(before) = before.as_ref().filter(|before| before.until != until) {
            self.ends.remove(&(before.until, digest));
        }
        before
    }
}
