//! What a repair says of itself.

use std::fmt;
use std::io;

use crate::journal::error::OpenError;
use crate::time::Timestamp;

/// What a repair has kept, and what it has dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What cannot be read, or is missing.
    pub places: Vec<Place>,
    /// What was kept of the snapshot, if there was one.
    pub snapshot: Option<SnapshotKept>,
    /// What was kept of the frames.
    pub frames: FramesKept,
    /// Keys that frames have changed and that are not there.
    pub unknown_keys: u64,
    /// Keys that were dropped because a later one has the same value.
    pub same_values: u64,
    /// The names that were given to pools whose own names are lost.
    pub nameless: Vec<String>,
    /// Pools that were kept, with the default one.
    pub pools: u64,
    /// Keys that were kept.
    pub keys: u64,
    /// How many of them are leased.
    pub leased: u64,
    /// No lease that follows has a generation below it.
    pub floor: u64,
    /// The directory that the damaged files are in.
    pub moved_to: String,
}

/// A part of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// Its first byte.
    pub from: u64,
    /// The byte behind it, also if the file ends before; the same as the first one if the file is missing.
    pub to: u64,
    /// What is wrong there.
    pub what: String,
}

/// What was kept of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotKept {
    /// Its number.
    pub number: u64,
    /// How many keys it says to have, if its end can be read.
    pub said: Option<u64>,
    /// How many were found.
    pub found: u64,
    /// How many blocks cannot be read. There may be more behind the last one if its end cannot.
    pub blocks_lost: u64,
    /// Its head cannot be read: whether there are frames missing between it and those that were kept is not known.
    pub is_headless: bool,
    /// The frames that were kept end before the snapshot was finished: so it has keys as they were at different moments.
    pub is_mixed: bool,
}

/// What was kept of the frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FramesKept {
    /// How many were kept.
    pub count: u64,
    /// The first one, if those before it are needed and missing: then keys are there of which a whole record was found.
    pub begins_late: Option<u64>,
    /// The last one, or the one that the snapshot begins with.
    pub last: u64,
    /// When it was written.
    pub at: Timestamp,
    /// How many frames cannot be read that are known to have been there.
    pub unreadable: u64,
    /// How many segments may have had others, which nobody can count.
    pub unknown_segments: u64,
    /// How many that can be read were dropped, because one before them cannot.
    pub dropped: u64,
    /// When the last one of these was written.
    pub dropped_until: Timestamp,
}

impl Repaired {
    /// Whether frames were dropped or cannot be read, or may have been lost with a segment. O(1).
    #[must_use]
    pub fn has_lost_frames(&self) -> bool {
        let FramesKept { unreadable, unknown_segments, dropped, .. } = self.frames;
        unreadable > 0 || unknown_segments > 0 || dropped > 0
    }
}

/// Why a directory was not repaired.
#[derive(Debug)]
pub enum RepairError {
    /// It cannot be read. Nothing was changed.
    Open(OpenError),
    /// It has no file of a journal.
    Empty,
    /// Nothing of it can be read. Nothing was changed.
    NothingReadable,
    /// The disk has no room for so many bytes. Nothing was changed.
    NoRoom(u64),
    /// The repaired state cannot be written, or not be read again. Nothing was changed.
    NotWritten(String),
    /// The disk has failed meanwhile. No server uses the directory until another repair has ended.
    Interrupted(io::Error),
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Empty => f.write_str("it has no data of a server: is it the one that --data-dir names?"),
            Self::NothingReadable => f.write_str(
                "no record in it can be read, so nothing can be kept: restore the directory from a backup. Nothing was changed",
            ),
            Self::NoRoom(bytes) => write!(
                f,
                "the disk has no room for the repaired files, which take up to {} MiB: make room and run the command again. Nothing \
                 was changed",
                bytes.div_ceil(1 << 20)
            ),
            Self::NotWritten(what) => {
                write!(f, "the repaired files cannot be written: {what}. Nothing was changed")
            }
            Self::Interrupted(error) => write!(
                f,
                "the repair was interrupted while files were moved: {error}. Run the command again; until then no server uses the \
                 directory"
            ),
        }
    }
}

impl std::error::Error for RepairError {}

impl From<OpenError> for RepairError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}
