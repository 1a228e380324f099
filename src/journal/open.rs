//! Opening a directory: what it has, and how the journal goes on.

use std::io;
use std::sync::Arc;

use super::buffers::Pools;
use super::committer::{Committer, Durability};
use super::disk::Disk;
use super::error::OpenError;
use super::handle::Journal;
use super::head::{FileHead, FileKind};
use super::record::FindQuota;
use super::recovery::{self, Found, Replay};
use super::seal::{DataKey, Seal};
use super::snapshots::Snapshots;
use super::spares::Spares;
use super::writer::Writer;
use crate::time::{ClockAnchor, Timestamp};

/// How large a segment is.
const SEGMENT_BYTES: u64 = 64 << 20;
/// With fewer bytes of frames there is no snapshot.
const SNAPSHOT_AFTER_BYTES: u64 = 256 << 20;

/// How a journal is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) durability: Durability,
    /// How large a segment is, in bytes.
    pub(crate) segment_bytes: u64,
    /// A snapshot is written after so many bytes of frames, or as many as the last snapshot has.
    pub(crate) snapshot_after_bytes: u64,
}

impl Tuning {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            durability,
            segment_bytes: SEGMENT_BYTES,
            snapshot_after_bytes: SNAPSHOT_AFTER_BYTES,
        }
    }
}

/// A directory that was read.
pub(crate) struct Opened {
    disk: Arc<dyn Disk>,
    data_key: Option<DataKey>,
    /// What it had; nothing if it is new.
    pub(crate) found: Option<Found>,
}

/// Reads a directory, and gives all to `replay`.
///
/// # Errors
///
/// [`OpenError`]
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    data_key: Option<DataKey>,
    quota: &FindQuota<'_>,
    replay: &mut dyn Replay,
) -> Result<Opened, OpenError> {
    let found = recovery::read(&*disk, data_key.as_ref(), quota, replay)?;
    Ok(Opened { disk, data_key, found })
}

/// A journal that can be written, and is by [`super::Threads`], or step by step in tests.
pub(crate) struct Begun {
    pub(crate) committer: Committer,
    pub(crate) snapshots: Snapshots,
}

impl Opened {
    /// Begins a segment behind what was found, in which `journal`, a new one, is written. `now` is the time by the clock with this anchor, which goes on from the time
    /// that was found; and `pools` are those that there are. Afterwards all that was found is on disk for certain.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn begin(
        self,
        journal: &Journal,
        tuning: Tuning,
        pools: Pools,
        clock: ClockAnchor,
        now: Timestamp,
    ) -> io::Result<Begun> {
        let Self { disk, data_key, found } = self;
        let found = found.unwrap_or_else(Found::nothing);
        let salt = rand::random();
        let seal = data_key.map(|key| Arc::new(Seal::new(&key, salt)));
        let head = FileHead {
            kind: FileKind::Segment,
            directory: found.directory,
            number: 0,
            first: 0,
            previous: 0,
            previous_end: 0,
            floor: found.floor,
            mark: now,
            clock,
            salt,
            key_check: seal.as_ref().map_or([0; 16], |seal| seal.check),
            room: 0,
        };
        // Each start begins a segment: they must not pile up.
        let of_segments = found.begun.len() as u64 * tuning.segment_bytes;
        let (buffers, progress) = (Arc::clone(&journal.buffers), Arc::clone(&journal.progress));
        buffers.go_on(found.sequence, pools);
        progress.go_on(found.sequence, now);
        progress.counters.found(found.frame_bytes, found.snapshot.map_or(0, |(_, length)| length));
        let (next, ready) = found.next_segment;
        let spares = Spares::new(Arc::clone(&disk), head, tuning.segment_bytes, next);
        if let Some(room) = ready {
            // A disk that is full must not keep the server from starting.
            spares.use_ready(room)?;
        }
        found.unused.iter().try_for_each(|file| disk.remove(file))?;
        let spares = Arc::new(spares);
        let writer = Writer::new(Arc::clone(&spares), head, seal.clone(), found.end, found.begun);
        let snapshots = Snapshots::new(
            disk,
            head,
            seal,
            writer.begun(),
            found.snapshot,
            found.frame_bytes.max(of_segments),
            tuning.snapshot_after_bytes,
        );
        let mut committer = Committer::new(buffers, progress, spares, writer, tuning.durability);
        committer.begin(now)?;
        Ok(Begun { committer, snapshots })
    }
}
