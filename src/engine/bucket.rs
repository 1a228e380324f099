//! A time bucket of an expiry index: what is due within a short time.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::short_id::ShortId;

/// A deadline in milliseconds from the beginning of its bucket, and the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) offset_ms: u32,
    pub(super) key: ShortId,
}

/// A bucket. It becomes empty only when it is removed from the skip list, and then stays empty.
pub(super) type Bucket = BTreeSet<Due>;

/// The order of the fields, but with a single comparison of numbers.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |due: &Self| u128::from(due.offset_ms) << 64 | u128::from(due.key.bits());
        number(self).cmp(&number(other))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
