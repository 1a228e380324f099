//! Reading a data directory to see whether it is whole.

use std::path::Path;
use std::sync::Arc;

use super::options::Options;
use super::pools::Common;
use crate::journal::{self, DataKey, Directory, Lock, OpenError, Restorer};
use crate::time::Timestamp;

/// What a data directory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Pools, with the default one.
    pub pools: usize,
    /// Keys that were alive when the last change was written.
    pub keys: u64,
    /// How many of them were leased then.
    pub leased: u64,
    /// The number of the snapshot, and how many keys and bytes it has; `None` if there is none.
    pub snapshot: Option<(u64, u64, u64)>,
    /// How many frames follow it.
    pub frames: u64,
    /// How many bytes they have.
    pub frame_bytes: u64,
    /// The number of the last one.
    pub last_frame: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The file whose end was not written wholly, where that begins, and how many whole frames are behind it. A server
    /// that starts cuts it off.
    pub torn: Option<(String, u64, u64)>,
}

impl Checked {
    /// Reads a data directory, which no server uses, and changes nothing in it. `None` if it has nothing. `progress` is
    /// told how many bytes were read, of how many at most. O(n) for n keys.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: what is wrong with it.
    pub fn read(
        path: &Path,
        key: Option<DataKey>,
        progress: Box<dyn FnMut(u64, u64)>,
    ) -> Result<Option<Self>, OpenError> {
        let _lock = Lock::take_if_there(path)?;
        let options = Options::default();
        let common = Common::new(options, None);
        let make = |number, settings| common.keys(number, settings);
        let mut restorer = Restorer::new(make, options.settings, progress);
        let disk = Arc::new(Directory::to_read(path));
        // The quotas of tokens are not needed.
        let opened = journal::open(disk, key, &|_| None, &mut restorer)?;
        let Some(found) = opened.found else { return Ok(None) };
        let (pools, ..) = restorer.into_pools();
        let snapshot = found.snapshot.map(|(number, bytes)| (number, found.snapshot_keys, bytes));
        let mut checked = Self {
            pools: pools.len(),
            keys: 0,
            leased: 0,
            snapshot,
            frames: found.frames,
            frame_bytes: found.frame_bytes,
            last_frame: found.sequence,
            at: found.at,
            torn: found.torn,
        };
        for pool in pools.into_values() {
            let keys = pool.keys.finish(found.at);
            // Also leases that were over by then.
            keys.expire(found.at, usize::MAX);
            let stats = keys.stats();
            checked.keys += stats.keys;
            checked.leased += stats.leased;
        }
        Ok(Some(checked))
    }
}
