//! A journal on disk: what was acknowledged survives the process and the loss of power.
//!
//! All keys are in memory; the disk has what is needed to put them there again:
//!
//! ```text
//!   Pool ─ entry of a key ─▶ buffers ─ a frame ─▶ segment-000000000007   append-only, preallocated, flushed
//!                            (stripes)            segment-000000000008   the next one, ready
//!                                                 snapshot-000000000003  all keys, as of a frame
//! ```
//!
//! - An entry says what is true of a key after a change ([`crate::engine::Entry`]). It is added to a buffer under the guard
//!   of the key's record.
//! - A **commit** takes all buffers at one moment and writes them as one frame with a checksum. One frame is on its way at
//!   a time, and what gathers meanwhile is the next one (`committer.rs`).
//! - An answer leaves when the frame is on disk that has what the answer tells of, and all that it rests on: also an answer
//!   that only looked, or a crash would unsay it (`handle.rs`).
//! - A **snapshot** is written while the server serves, key by key, whenever there is more to read in segments than in the
//!   last one. Then older segments are used again (`snapshot.rs`).
//! - **Recovery** reads the snapshot and the frames since then. An end that is torn is cut off, as nobody was told of it;
//!   anything else that cannot be read is damage, and is not guessed at (`segments.rs`).
//! - **Repair** keeps what is whole of a damaged directory, and says what it drops (`repair/`).
//! - **Time** goes on: a frame says until when answers may leave that rest on it. A clock that begins there revives nothing
//!   that was shown as over. While the machine stays up, its own clock goes on, whatever the wall clock does.
//!
//! The layout of files is in `head.rs`, `frame.rs`, `record.rs` and `snapshot.rs`. A frame says what is true, in an order
//! that is the same for all readers, so it is fit to be sent to another server as well.

mod buffers;
mod bytes;
mod checksums;
mod committer;
mod copy;
mod copying;
mod disk;
mod due;
mod error;
mod frame;
mod handle;
mod head;
mod lock;
mod open;
mod plan;
mod progress;
mod record;
mod recovery;
mod repair;
mod restorer;
mod seal;
mod search;
mod segments;
mod snapshot;
mod snapshots;
mod spares;
mod stats;
mod syncer;
mod threads;
mod writer;

pub use self::committer::Durability;
#[cfg(test)]
pub(crate) use self::copy::copy;
pub use self::copy::{Copied, CopyError, copy_directory};
#[cfg(test)]
pub(crate) use self::disk::DiskFile;
pub(crate) use self::disk::{Directory, Disk};
pub use self::error::OpenError;
pub(crate) use self::handle::{Journal, PoolJournal};
pub(crate) use self::lock::Lock;
pub(crate) use self::open::{Begun, Tuning, open};
pub(crate) use self::recovery::Found;
pub(crate) use self::repair::Repair;
pub use self::repair::{FramesKept, Place, RepairError, Repaired, SnapshotKept};
pub(crate) use self::restorer::Restorer;
pub use self::seal::DataKey;
pub(crate) use self::snapshots::Source;
pub use self::stats::JournalStats;
pub(crate) use self::threads::Threads;
#[cfg(test)]
pub(crate) use self::writer::WriteError;
