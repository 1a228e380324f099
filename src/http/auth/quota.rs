//! How many keys a token may have leased at once.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The largest quota.
const HELD_MAX: u32 = 1_000_000;

/// How many keys clients with one token may have leased at once, in all pools together, and how many they have.
/// The token of each reload of the file shares it, so that a reload forgets no lease.
#[derive(Debug)]
pub struct Quota {
    max: AtomicU32,
    held: AtomicU32,
}

impl Quota {
    /// A quota of which nothing is taken. O(1).
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self { max: AtomicU32::new(max), held: AtomicU32::new(0) }
    }

    /// The most leases at once. O(1).
    #[must_use]
    pub fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }

    /// Sets the most leases at once. It may be less than there are: they last, and none is added. O(1).
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Relaxed);
    }

    /// The number of leases. O(1).
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }

    /// Counts a lease more, and returns whether it may begin. O(1).
    #[must_use]
    pub fn take(&self) -> bool {
        let max = self.max();
        let more = |held| (held < max).then_some(held + 1);
        self.held.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Counts a lease less: one that [`Quota::take`] has counted has ended, or has not begun. O(1).
    pub fn give_back(&self) {
        self.held.fetch_sub(1, Relaxed);
    }
}

/// Reads the most leases at once: from 1 to a million. O(length).
///
/// # Errors
///
/// A message that describes the right form.
pub fn parse_max_held(text: &str) -> Result<u32, String> {
    let max = text.parse().ok().filter(|max| (1..=HELD_MAX).contains(max));
    // A sign would be read, too.
    max.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("must be a number of keys from 1 to {HELD_MAX}, such as 10"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_the_quota() {
        let quota = Quota::new(2);
        assert!(quota.take() && quota.take() && !quota.take());
        quota.set_max(1);
        quota.give_back();
        assert_eq!((quota.held(), quota.take()), (1, false));
        quota.give_back();
        assert_eq!((quota.take(), quota.held(), quota.max()), (true, 1, 1));
    }

    #[test]
    fn a_quota_is_a_number_of_keys() {
        assert_eq!((parse_max_held("1"), parse_max_held("1000000")), (Ok(1), Ok(HELD_MAX)));
        for bad in ["", "0", "1000001", "99999999999", "-1", "+1", "1.5", "ten", "1 0", "unlimited"]
        {
            let error = parse_max_held(bad).unwrap_err();
            assert!(error.contains("from 1 to 1000000, such as 10"), "{bad}: {error}");
        }
    }
}
