//! Opening a directory: what it has, and how the journal goes on.

use std::io;
use std::sync::Arc;

use super::buffers::{Buffers, Pools};
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
    buffers: Arc<Buffers>,
    /// What it had; nothing if it is new.
    pub(crate) found: Option<Found>,
}

/// Reads a directory, and gives all to `replay`. `journal` is a new one, which goes on behind that.
///
/// # Errors
///
/// [`OpenError`]
pub(crate) fn open(
    journal: &Journal,
    disk: Arc<dyn Disk>,
    data_key: Option<DataKey>,
    quota: &FindQuota<'_>,
    replay: &mut dyn Replay,
) -> Result<Opened, OpenError> {
    let buffers = Arc::clone(&journal.buffers);
    let found = recovery::read(&*disk, data_key.as_ref(), quota, replay)?;
    Ok(Opened { disk, data_key, buffers, found })
}

/// A journal that can be written, and is by [`super::Threads`], or step by step in tests.
pub(crate) struct Begun {
    pub(crate) committer: Committer,
    pub(crate) snapshots: Snapshots,
}

impl Opened {
    /// Begins a segment behind what was found. `now` is the time by the clock with this anchor, which goes on from the time
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
        let Self { disk, data_key, buffers, found } = self;
        let salt = rand::random();
        let seal = data_key.as_ref().map(|key| Seal::new(key, salt));
        let key_check = seal.as_ref().map_or([0; 16], |seal| seal.check);
        let floor = found.as_ref().map_or(0, |found| found.floor);
        let head = FileHead {
            kind: FileKind::Segment,
            directory: found.as_ref().map_or_else(rand::random, |found| found.directory),
            number: 0,
            first: 0,
            previous: 0,
            previous_end: 0,
            floor,
            mark: now,
            clock,
            salt,
            key_check,
            room: 0,
        };
        let (next, ready) = found.as_ref().map_or((1, None), |found| found.next_segment);
        let last = found.as_ref().map_or(0, |found| found.sequence);
        let end = found.as_ref().map_or((0, 0), |found| found.end);
        let begun = found.as_ref().map_or_else(Vec::new, |found| found.begun.clone());
        buffers.go_on(last, pools);
        journal.progress.go_on(last, now);
        let spares = Spares::new(Arc::clone(&disk), head, tuning.segment_bytes, next);
        if let Some(room) = ready {
            // A disk that is full must not keep the server from starting.
            spares.use_ready(room)?;
        }
        let spares = Arc::new(spares);
        let writer = Writer::new(Arc::clone(&spares), head, seal, end, begun);
        let snapshots = Snapshots::new(
            Arc::clone(&disk),
            head,
            data_key,
            writer.begun(),
            found.as_ref().and_then(|found| found.snapshot),
            found.as_ref().map_or(0, |found| {
                // Each start begins a segment: they must not pile up.
                found.frame_bytes.max(found.begun.len() as u64 * tuning.segment_bytes)
            }),
            tuning.snapshot_after_bytes,
        );
        let progress = Arc::clone(&journal.progress);
        for file in found.iter().flat_map(|found| &found.unused) {
            disk.remove(file)?;
        }
        let mut committer = Committer::new(buffers, progress, spares, writer, tuning.durability);
        committer.begin(now)?;
        Ok(Begun { committer, snapshots })
    }
}
