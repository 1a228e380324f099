//! The index of a pool's values: which key has a value. A pool has each value at most once.
//!
//! It is changed under the guard of the key's record, and its locks are never held while a guard is waited
//! for. So a thread that has found a key here, and then takes the guard, knows more than the index: the
//! record is the truth.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::short_id::ShortId;
use super::side::{Map, remove};
use super::sync::{Mutex, unless_loom};
use crate::error::Error;
use crate::key::Value;

/// Parts with a lock each. Only imports of values, and removals of keys that have one, take these locks.
const STRIPES: usize = unless_loom(4);

/// How many bytes the values of several pools have together, and how many they may have.
#[derive(Debug)]
pub struct ValueBytes {
    max: usize,
    held: AtomicUsize,
}

impl ValueBytes {
    /// Room for `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, held: AtomicUsize::new(0) }
    }

    /// The most bytes that there may be. O(1).
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// How many bytes there are, with those of values that are just being imported. O(1).
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }
}

/// A keyed hash of a value, SipHash-2-4 with 128 bits. Without the secret nobody can find two values that
/// have the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u64; 2]);

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Digests of values, and the keys that have them.
pub(super) struct Values {
    secret: [u8; 16],
    stripes: [Mutex<Map<Digest, ShortId>>; STRIPES],
    /// How many of the bytes in `all_bytes` are this pool's.
    bytes: AtomicUsize,
    all_bytes: Arc<ValueBytes>,
}

impl Values {
    pub(super) fn new(secret: [u8; 16], all_bytes: Arc<ValueBytes>) -> Self {
        let stripes = std::array::from_fn(|_| Mutex::default());
        Self { secret, stripes, bytes: AtomicUsize::new(0), all_bytes }
    }

    /// The digest of a value. O(n) for n bytes.
    pub(super) fn digest(&self, value: &Value) -> Digest {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(value.reveal().as_bytes());
        let hash = hasher.finish128();
        Digest([hash.h1, hash.h2])
    }

    fn stripe(&self, digest: Digest) -> &Mutex<Map<Digest, ShortId>> {
        &self.stripes[usize::from(digest.0[1].to_le_bytes()[0]) % STRIPES]
    }

    /// The key that has a value, if it was not removed meanwhile. O(1).
    pub(super) fn find(&self, digest: Digest) -> Option<ShortId> {
        self.stripe(digest).lock().get(&digest).copied()
    }

    /// Notes that `key`, whose guard is held, has a value. False, and nothing changes, if another key has it.
    /// O(1) amortised.
    pub(super) fn claim(&self, digest: Digest, key: ShortId) -> bool {
        *self.stripe(digest).lock().entry(digest).or_insert(key) == key
    }

    /// Notes that `key`, whose guard is held, is about to leave the pool with its value. O(1) amortised.
    pub(super) fn forget(&self, digest: Digest, key: ShortId) {
        let mut keys = self.stripe(digest).lock();
        if keys.get(&digest) == Some(&key) {
            remove(&mut keys, &digest);
        }
    }

    /// Takes room for so many bytes. O(1).
    ///
    /// # Errors
    ///
    /// [`Error::ValuesFull`]
    pub(super) fn take_bytes(&self, bytes: usize) -> Result<(), Error> {
        let ValueBytes { max, held } = &*self.all_bytes;
        let take = |held: usize| held.checked_add(bytes).filter(|held| held <= max);
        held.fetch_update(Relaxed, Relaxed, take).map_err(|_| Error::ValuesFull)?;
        self.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Takes room for so many bytes of a restored value, whether or not there is enough. O(1).
    pub(super) fn add_bytes(&self, bytes: usize) {
        self.all_bytes.held.fetch_add(bytes, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Gives back the room of a value. O(1).
    pub(super) fn give_bytes(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.all_bytes.held.fetch_sub(bytes, Relaxed);
    }
}

/// What is left in a pool that is dropped takes no room any more.
impl Drop for Values {
    fn drop(&mut self) {
        self.all_bytes.held.fetch_sub(*self.bytes.get_mut(), Relaxed);
    }
}

/// For [`super::check`].
#[cfg(test)]
impl Values {
    /// How many values there are, and how many bytes they have.
    pub(super) fn len(&self) -> (usize, usize) {
        let len = self.stripes.iter().map(|stripe| stripe.lock().len()).sum();
        (len, self.bytes.load(Relaxed))
    }
}
