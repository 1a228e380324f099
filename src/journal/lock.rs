//! One process at a time uses a directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::OpenError;

/// The lock of a directory, which ends with the process.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    const NAME: &str = "lock";

    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`]
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(directory.join(Self::NAME)).map_err(OpenError::io(Self::NAME))?;
        Self::of(file)
    }

    /// Takes the lock, and makes nothing for that: in a copy there is no lock.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`]
    pub(crate) fn take_if_there(directory: &Path) -> Result<Option<Self>, OpenError> {
        match File::open(directory.join(Self::NAME)) {
            Ok(file) => Self::of(file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenError::io(Self::NAME)(error)),
        }
    }

    fn of(file: File) -> Result<Self, OpenError> {
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked),
            Err(TryLockError::Error(error)) => Err(OpenError::io(Self::NAME)(error)),
        }
    }
}
