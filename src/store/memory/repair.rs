//! Repairing a damaged data directory.

use std::path::Path;

use super::options::Options;
use super::pools::Common;
use crate::journal::{DataKey, Directory, Lock, Repair, RepairError, Repaired, Restorer};

/// Keeps what is whole of a data directory that no server uses, and returns what `describe` says of that, or has said
/// before a crash; `None` if the directory is whole, and nothing was changed. Damaged files go to the directory `moved_to`
/// in it. Each reading tells one of `progress` how many bytes of how many were read. O(n log n) for n keys.
///
/// # Errors
///
/// [`RepairError`]
pub fn repair_directory(
    path: &Path,
    key: Option<&DataKey>,
    moved_to: &str,
    progress: &dyn Fn() -> Box<dyn FnMut(u64, u64)>,
    describe: &dyn Fn(&Repaired) -> String,
) -> Result<Option<String>, RepairError> {
    let _lock = Lock::take(path)?;
    let options = Options::default();
    let restorer = || {
        let common = Common::new(options, None);
        let make = move |number, settings| common.keys(number, settings);
        Restorer::new(make, options.settings, progress())
    };
    let disk = Directory::at(path);
    Repair { disk: &disk, data_key: key, moved_to, describe }.run(restorer)
}
