//! Who holds a lease, and how many one may hold.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// How many leases there may be at once of those that share this quota, in all pools.
#[derive(Debug)]
pub struct Quota {
    /// What its owner calls it.
    name: Option<Box<str>>,
    max: AtomicUsize,
    held: AtomicUsize,
}

impl Quota {
    /// A quota of `max` leases.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { name: None, max: AtomicUsize::new(max), held: AtomicUsize::new(0) }
    }

    /// The same with a name, by which it is found again after a restart.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Its name. O(1).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The most leases that there may be. O(1).
    #[must_use]
    pub fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// Changes the most leases that there may be. Leases that are beyond it go on. O(1).
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// How many leases there are, with those that are just being looked for, and those that are over until their
    /// pool has noticed it. O(1).
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// How many more leases there may be. O(1).
    #[must_use]
    pub fn room(&self) -> usize {
        self.max().saturating_sub(self.held())
    }

    /// Notes how many leases there are, where something else counts them. O(1).
    pub(crate) fn note_held(&self, held: usize) {
        self.held.store(held, Relaxed);
    }

    /// Counts one lease more. False, and nothing changes, if there are as many as may be. O(1).
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        let take = |held: usize| (held < self.max()).then(|| held + 1);
        self.held.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    /// Counts one lease more, even beyond the maximum. O(1).
    pub(crate) fn add(&self) {
        self.held.fetch_add(1, Relaxed);
    }

    /// Counts one lease less. O(1).
    pub(crate) fn give(&self) {
        self.held.fetch_sub(1, Relaxed);
    }
}

/// Who holds leases. Clones share their memory.
#[derive(Clone)]
pub struct Holder(Arc<Named>);

struct Named {
    name: Box<str>,
    quota: Option<Arc<Quota>>,
}

impl Holder {
    /// The most characters of a name.
    pub const CHARS_MAX: usize = 64;

    /// A holder whose leases count against `quota`, if there is one. `None` unless the name has 1 to
    /// [`Holder::CHARS_MAX`] visible ASCII characters: it is shown in a header field. O(1).
    #[must_use]
    pub fn new(name: &str, quota: Option<Arc<Quota>>) -> Option<Self> {
        let fits = (1..=Self::CHARS_MAX).contains(&name.len());
        let is_name = fits && name.bytes().all(|byte| byte.is_ascii_graphic());
        is_name.then(|| Self(Arc::new(Named { name: name.into(), quota })))
    }

    /// The name. O(1).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What its leases count against. O(1).
    #[must_use]
    pub fn quota(&self) -> Option<&Arc<Quota>> {
        self.0.quota.as_ref()
    }
}

/// Holders of the same name are the same.
impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Holder {}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_1_to_64_visible_characters() {
        let holder = |name: &str| Holder::new(name, None).map(|holder| holder.name().to_owned());
        assert_eq!(holder("worker-7"), Some("worker-7".to_owned()));
        assert!(holder(&"x".repeat(64)).is_some());
        for other in ["", &"x".repeat(65), "é", "a b", "a\r\nb", "\u{7f}"] {
            assert_eq!(holder(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_quota_is_never_exceeded() {
        let quota = Quota::new(2);
        assert_eq!([quota.take(), quota.take(), quota.take()], [true, true, false]);
        quota.set_max(1);
        quota.give();
        assert_eq!((quota.take(), quota.held()), (false, 1));
        quota.give();
        assert_eq!((quota.take(), quota.held(), quota.max()), (true, 1, 1));
    }
}
