//! What keys have of their own: tables beside the records, for the few or many keys that have something.
//!
//! Each shard has such tables. A flag in a key's record says whether the key is in one, so a generated key
//! costs neither memory nor time.

use std::collections::BTreeSet;

use super::hold::Hold;
use super::labels::LabelsOfKey;
use super::short_id::ShortId;
use super::side::Side;
use crate::key::Value;

/// The tables of a shard.
///
/// They are read and written only under the guard of a record of the shard, or under the shard's lock. So no
/// thread ever waits for the lock that they have besides.
#[derive(Default)]
pub(super) struct Own {
    pub(super) values: Side<Value>,
    pub(super) labels: Side<LabelsOfKey>,
    pub(super) holds: Side<Hold>,
    /// The keys in `holds`, ordered by the hashes of their holders' names.
    pub(super) by_holder: BTreeSet<(u64, ShortId)>,
}

impl Own {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.labels.is_empty() && self.holds.is_empty()
    }
}
