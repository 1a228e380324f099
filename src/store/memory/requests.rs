//! Leases that were asked for with a request key, so that a retry gets the same lease.
//!
//! An entry lives as long as its lease: it goes with a release or a deletion, with the next lease of the key, or
//! when the lease has ended or the key may have died. So there is at most one for each key and each client that waits.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use parking_lot::Mutex;

use crate::error::Error;
use crate::key::{KeyId, Lease, Leased};
use crate::pool::PoolId;
use crate::store::operation::{Outcome, Reply, RequestKey};
use crate::time::Timestamp;

/// Parts with a lock each, so that threads rarely meet.
const STRIPES: usize = 32;
/// How often to look whether a lease still lasts, in milliseconds: it may have ended with its key.
const LOOK_MS: u64 = 5 * 60 * 1000;
/// A map of this capacity is small enough to be kept.
const CAPACITY_MIN: usize = 64;

type Digest = [u8; RequestKey::DIGEST_BYTES];

/// What is known of a request key.
pub(super) enum Known {
    /// Nothing. It is noted now, and must be settled.
    New,
    /// Its lease, which lasts.
    Leased(Leased),
}

#[derive(Default)]
pub(super) struct Requests {
    len: AtomicUsize,
    by_digest: [Mutex<Stripe>; STRIPES],
    /// The requests of leased keys, with the generations of the leases.
    by_id: [Mutex<HashMap<KeyId, (u64, Digest)>>; STRIPES],
}

#[derive(Default)]
struct Stripe {
    entries: HashMap<Digest, Entry>,
    /// When to look whether an entry has outlived its lease.
    ends: BTreeSet<(Timestamp, Digest)>,
}

/// The lease that a request has got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) pool: PoolId,
    pub(super) id: KeyId,
    pub(super) generation: u64,
}

impl Held {
    fn of(lease: &Lease) -> Self {
        Self { pool: lease.pool, id: lease.id, generation: lease.generation }
    }
}

struct Entry {
    parameters: [u32; 5],
    until: Timestamp,
    /// `None` until the request is answered.
    lease: Option<Held>,
    /// A retry was answered as well.
    is_shared: bool,
}

impl Requests {
    /// When to look at the next entry. O(1) if no lease has a request.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        if self.len.load(SeqCst) == 0 {
            return None;
        }
        let first = |stripe: &Mutex<Stripe>| Some(stripe.lock().ends.first()?.0);
        self.by_digest.iter().filter_map(first).min()
    }

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
        find: impl Fn(Held) -> Option<Leased>,
    ) -> Result<Known, Error> {
        let mut stripe = self.stripe(&request.digest).lock();
        if let Some(entry) = stripe.entries.get_mut(&request.digest) {
            let lease = entry.lease.map(&find);
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
            before.lease.iter().for_each(|held| self.unlink(&held.id, &request.digest));
        } else {
            self.len.fetch_add(1, SeqCst);
        }
        Ok(Known::New)
    }

    /// Notes the outcome of a request that has begun. O(log l) for l leases with a request.
    pub(super) fn settle(&self, request: &RequestKey, outcome: &Outcome) {
        let Ok(Reply::Leased(lease) | Reply::LeasedLate(lease)) = outcome else {
            return self.forget(&request.digest, None);
        };
        let entry = Entry {
            parameters: request.parameters,
            until: look_at(lease, lease.since),
            lease: Some(Held::of(lease)),
            is_shared: false,
        };
        if self.stripe(&request.digest).lock().put(request.digest, entry).is_none() {
            self.len.fetch_add(1, SeqCst);
        }
        let mut keys = self.of_key(&lease.id).lock();
        let over = match keys.get(&lease.id) {
            // This lease has ended meanwhile, and another thread has leased the key again.
            Some((generation, _)) if *generation > lease.generation => Some(request.digest),
            // That of an earlier lease of this key.
            _ => {
                let before = keys.insert(lease.id, (lease.generation, request.digest));
                before.map(|(_, digest)| digest).filter(|digest| *digest != request.digest)
            }
        };
        drop(keys);
        if let Some(over) = over {
            self.forget(&over, Some(&lease.id));
        }
    }

    /// Notes that a key was released or deleted; `find` finds a lease that lasts, because another thread has leased
    /// the key again meanwhile. O(1) if no lease has a request, else O(log l) for l that have.
    pub(super) fn ended(&self, pool: PoolId, id: &KeyId, find: impl Fn(Held) -> Option<Leased>) {
        if self.len.load(Relaxed) == 0 {
            return;
        }
        let mut keys = self.of_key(id).lock();
        let known = keys.get(id).copied();
        let lasts = |generation| find(Held { pool, id: *id, generation }).is_some();
        let Some((_, digest)) = known.filter(|(generation, _)| !lasts(*generation)) else {
            return;
        };
        keys.remove(id);
        shrink(&mut keys);
        drop(keys);
        self.forget(&digest, Some(id));
    }

    /// Whether a lease that a client has not received may be taken back: a retry must not have got it, too. Then
    /// none gets it any more. O(1) if no lease has a request, else O(log l) for l that have.
    pub(super) fn give_up(&self, lease: &Lease) -> bool {
        if self.len.load(Relaxed) == 0 {
            return true;
        }
        let Some((_, digest)) = self.of_key(&lease.id).lock().get(&lease.id).copied() else {
            return true;
        };
        let mut stripe = self.stripe(&digest).lock();
        match stripe.entries.get(&digest) {
            Some(entry) if entry.lease == Some(Held::of(lease)) => {
                if entry.is_shared {
                    return false;
                }
                stripe.remove(&digest);
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
    pub(super) fn sweep(&self, now: Timestamp, find: impl Fn(Held) -> Option<Leased>) {
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
                let entry = stripe.remove(&digest).expect("each end is that of an entry");
                let lasting = entry.lease.and_then(&find);
                if let Some(lease) = lasting {
                    stripe.put(digest, Entry { until: look_at(&lease, now), ..entry });
                    continue;
                }
                drop(stripe);
                self.len.fetch_sub(1, SeqCst);
                entry.lease.iter().for_each(|held| self.unlink(&held.id, &digest));
            }
        }
    }

    /// Removes an entry, if it is that of a lease of this key.
    fn forget(&self, digest: &Digest, of: Option<&KeyId>) {
        let mut stripe = self.stripe(digest).lock();
        let id = |entry: &Entry| entry.lease.map(|held| held.id);
        if let Some(entry) = stripe.entries.get(digest)
            && id(entry).as_ref() == of
        {
            stripe.remove(digest);
            self.len.fetch_sub(1, SeqCst);
        }
    }

    /// Notes that a key has no longer the lease of this request.
    fn unlink(&self, id: &KeyId, digest: &Digest) {
        let mut keys = self.of_key(id).lock();
        if keys.get(id).is_some_and(|(_, known)| known == digest) {
            keys.remove(id);
            shrink(&mut keys);
        }
    }

    fn stripe(&self, digest: &Digest) -> &Mutex<Stripe> {
        &self.by_digest[usize::from(digest[0]) % self.by_digest.len()]
    }

    fn of_key(&self, id: &KeyId) -> &Mutex<HashMap<KeyId, (u64, Digest)>> {
        &self.by_id[usize::from(id.as_bytes()[0]) % self.by_id.len()]
    }

    /// For how many entries there is room.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.by_digest.iter().map(|stripe| stripe.lock().entries.capacity()).sum()
    }

    /// How many entries there are, and how many keys have one.
    #[cfg(test)]
    pub(super) fn len(&self) -> [usize; 2] {
        [self.len.load(SeqCst), self.by_id.iter().map(|keys| keys.lock().len()).sum()]
    }
}

/// When to look at a lease again.
fn look_at(lease: &Lease, now: Timestamp) -> Timestamp {
    lease.until.min(now.plus_ms(LOOK_MS))
}

/// Gives back the memory of a rush of requests. O(1) amortised.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > CAPACITY_MIN && map.len() < map.capacity() / 4 {
        map.shrink_to(2 * map.len());
    }
}

impl Stripe {
    fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.entries.remove(digest)?;
        self.ends.remove(&(entry.until, *digest));
        shrink(&mut self.entries);
        Some(entry)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: u8) -> RequestKey {
        RequestKey { digest: [name; 16], parameters: [0; 5] }
    }

    /// Two leases of one key, the second of which began before all was noted of the first one.
    fn overtaken() -> (Requests, [Lease; 2]) {
        let (id, since, until) =
            (KeyId::random(&mut rand::rng()), Timestamp::from_ms(0), Timestamp::from_ms(9));
        let pool = PoolId::DEFAULT;
        let leases = [1, 2].map(|generation| Lease { pool, id, generation, since, until });
        (Requests::default(), leases)
    }

    fn settle(requests: &Requests, name: u8, lease: Lease) {
        requests.settle(&request(name), &Ok(Reply::Leased(lease.into())));
    }

    fn knows(requests: &Requests, name: u8, lease: Lease) -> bool {
        let find = |held: Held| (held == Held::of(&lease)).then(|| lease.into());
        let known = requests.begin(&request(name), lease.until, find);
        matches!(known, Ok(Known::Leased(known)) if *known == lease)
    }

    #[test]
    fn a_release_forgets_no_request_of_the_next_lease() {
        let (requests, [_, next]) = overtaken();
        settle(&requests, 2, next);
        // The release of the lease before, on another thread.
        requests.ended(next.pool, &next.id, |held| (held.generation == 2).then(|| next.into()));
        assert!(knows(&requests, 2, next));
        requests.ended(next.pool, &next.id, |_| None);
        assert_eq!(requests.len(), [0, 0]);
    }

    #[test]
    fn a_lease_that_is_over_before_it_is_noted_displaces_no_later_one() {
        let (requests, [first, next]) = overtaken();
        settle(&requests, 2, next);
        settle(&requests, 1, first);
        assert_eq!(requests.len(), [1, 1]);
        assert!(knows(&requests, 2, next));
    }
}
