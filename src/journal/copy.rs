//! A copy of a directory, while a server uses it or not.
//!
//! It takes no lock, changes nothing, and the server knows nothing of it. So files may change too far while they are read:
//! then all begins again. How one copy is made is in `copying.rs`.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

pub use super::copying::Copied;
use super::copying::{Problem, Target, attempt};
use super::disk::{Directory, Disk};
use super::error::OpenError;

/// How often it is tried.
const TRIES: usize = 20;
/// What is found damaged so often in the same way is not just being written.
const DAMAGED_MIN: usize = 3;
/// How long to wait before it is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Why there is no copy.
#[derive(Debug)]
pub enum CopyError {
    /// The directory cannot be read.
    From(OpenError),
    /// The copy cannot be written.
    To(OpenError),
    /// The directory has changed each time faster than it was read.
    Busy,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(error) | Self::To(error) => error.fmt(f),
            Self::Busy => write!(
                f,
                "its files have changed {TRIES} times while they were read: try again when the server has less to do, or copy \
                 to a faster disk"
            ),
        }
    }
}

impl std::error::Error for CopyError {}

/// Copies the data directory `from`, which a server may use, to `to`, which must be empty or not be there. Returns what was
/// copied; `None` if `from` has nothing. O(bytes).
///
/// # Errors
///
/// [`CopyError`]. Then nothing is left of the copy, unless that cannot be removed.
pub fn copy_directory(from: &Path, to: &Path) -> Result<Option<Copied>, CopyError> {
    let in_target = |error| CopyError::To(OpenError::io("")(error));
    let was_there = to.exists();
    if was_there && fs::read_dir(to).map_err(in_target)?.next().is_some() {
        return Err(in_target(io::Error::other(
            "it is not empty: name a directory that is empty, or is not there",
        )));
    }
    if is_within(to, from) {
        return Err(in_target(io::Error::other(
            "it is in the directory that is copied: name one elsewhere",
        )));
    }
    let target = Directory::make(to).map_err(in_target)?;
    let pause = || thread::sleep(PAUSE);
    let mut copied = copy(&Directory::to_read(from), &target, pause);
    if matches!(copied, Ok(Some(_))) && !was_there {
        copied = sync_name(to).map_err(in_target).and(copied);
    }
    if !matches!(copied, Ok(Some(_))) && !was_there {
        // If it is not empty, it was said why.
        let _ = fs::remove_dir(to);
    }
    copied
}

/// Whether a path, of which the end may not be there, is in a directory.
fn is_within(path: &Path, directory: &Path) -> bool {
    let directory = fs::canonicalize(directory);
    let whole = std::path::absolute(path).unwrap_or_default();
    let there = whole.ancestors().find_map(|ancestor| fs::canonicalize(ancestor).ok());
    directory.is_ok_and(|directory| there.is_some_and(|there| there.starts_with(directory)))
}

/// Makes sure that the name of a directory survives a loss of power.
fn sync_name(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// As [`copy_directory`], for other disks. It is tried again after each `pause`.
pub(crate) fn copy(
    from: &dyn Disk,
    to: &dyn Disk,
    mut pause: impl FnMut(),
) -> Result<Option<Copied>, CopyError> {
    // What was found damaged last, and how often.
    let (mut damaged, mut count) = (None, 0);
    for _ in 0..TRIES {
        let mut target = Target::new(to);
        let error = match attempt(from, &mut target) {
            Ok(copied) => return Ok(copied),
            Err(error) => error,
        };
        target.remove();
        match error {
            Problem::Moved => {}
            Problem::From(OpenError::Io { error, .. })
                if error.kind() == io::ErrorKind::NotFound => {}
            Problem::From(OpenError::Damaged { file, offset, what }) => {
                let found = Some((file.clone(), offset, what.clone()));
                count = if damaged == found { count + 1 } else { 1 };
                damaged = found;
                if count == DAMAGED_MIN {
                    return Err(CopyError::From(OpenError::Damaged { file, offset, what }));
                }
            }
            Problem::From(error) => return Err(CopyError::From(error)),
            Problem::To(error) => return Err(CopyError::To(error)),
        }
        pause();
    }
    Err(CopyError::Busy)
}
