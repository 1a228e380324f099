//! Writing snapshots of the pools, and freeing what is not needed after that.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::committer::SnapshotStart;
use super::disk::Disk;
use super::handle::Journal;
use super::head::{FileHead, FileKind};
use super::seal::Seal;
use super::snapshot::{SnapshotWriter, UNFINISHED};
use super::spares::Spares;
use super::writer::{Begun, take_before};
use crate::engine::fail_point::FailPoint;
use crate::engine::{Entry, WalkCursor};
use crate::time::Timestamp;

/// How long a snapshot waits for frames on a disk that has no room, in milliseconds.
const ROOM_PATIENCE_MS: u32 = 2000;

/// What is needed of the pools.
pub(crate) trait Source {
    /// Gives `each` all about some keys of a pool, from the cursor on. Returns where to go on.
    fn walk(
        &self,
        pool: u32,
        cursor: WalkCursor,
        each: &mut dyn FnMut(Entry),
    ) -> Option<WalkCursor>;

    /// The time.
    fn now(&self) -> Timestamp;

    /// The disk was full, and has room again: clients that wait can be served.
    fn has_room(&self);
}

/// Writes snapshots, and frees the segments before them.
pub(crate) struct Snapshots {
    disk: Arc<dyn Disk>,
    head: FileHead,
    seal: Option<Arc<Seal>>,
    begun: Arc<Mutex<Vec<Begun>>>,
    /// The last one.
    number: u64,
    /// The last one that was begun.
    tried: u64,
    /// How long it is, in bytes.
    pub(super) length: u64,
    /// How many bytes of frames there were since that when the server started.
    pub(super) frame_bytes: u64,
    /// A snapshot is due after so many bytes of frames at least.
    after_bytes: u64,
}

impl Snapshots {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        head: FileHead,
        seal: Option<Arc<Seal>>,
        begun: Arc<Mutex<Vec<Begun>>>,
        last: Option<(u64, u64)>,
        frame_bytes: u64,
        after_bytes: u64,
    ) -> Self {
        let (number, length) = last.unwrap_or_default();
        Self { disk, head, seal, begun, number, tried: number, length, frame_bytes, after_bytes }
    }

    /// After how many bytes of frames the next one is due.
    pub(super) fn due_after(&self) -> u64 {
        self.length.max(self.after_bytes)
    }

    /// Writes a snapshot, and frees what is not needed any more. False if `pause` says meanwhile that the server ends. O(n)
    /// for n keys.
    ///
    /// # Errors
    ///
    /// As the disk says. Then, as after false, there is no new snapshot, and nothing was freed: see [`Snapshots::give_up`].
    pub(crate) fn write(
        &mut self,
        start: &SnapshotStart,
        source: &dyn Source,
        journal: &Journal,
        spares: &Spares,
        mut pause: impl FnMut(Duration) -> bool,
    ) -> io::Result<bool> {
        let disk = Arc::clone(&self.disk);
        // No two tries have one number: with a key, each block has a nonce of its own.
        self.tried += 1;
        let number = self.tried;
        let missed = if FailPoint::SnapshotMissesChanges.is_on() { 2 } else { 0 };
        let head = FileHead {
            kind: FileKind::Snapshot,
            number,
            first: start.first + missed,
            previous: 0,
            previous_end: 0,
            ..self.head
        };
        let mut writer = SnapshotWriter::begin(&*disk, head, self.seal.as_deref())?;
        for (number, (name, settings, at)) in &start.pools {
            writer.add_pool(*number, name, settings, *at);
            writer.write_if_full()?;
        }
        let others = start.pools.keys().copied().filter(|number| *number != 0);
        for pool in std::iter::once(0).chain(others) {
            let mut cursor = Some(WalkCursor::default());
            while let Some(from) = cursor {
                let begin = Instant::now();
                cursor = source.walk(pool, from, &mut |entry| writer.add_key(pool, &entry));
                writer.write_if_full()?;
                // Half the time is for others.
                if !pause(begin.elapsed()) {
                    return Ok(false);
                }
            }
        }
        writer.finish(source.now())?;
        // It may have what is not on disk yet, and the frames before it may not be there, either.
        let last = journal.buffers.last().max(start.first - 1);
        let may_be_early = FailPoint::SnapshotPublishedEarly.is_on();
        let mut waited_ms = 0;
        while journal.progress.durable() < last && !may_be_early {
            journal.progress.call();
            waited_ms += 1;
            if waited_ms > ROOM_PATIENCE_MS && spares.is_in_trouble() {
                // What it waits for may need the room that it takes.
                return Err(io::ErrorKind::StorageFull.into());
            }
            if !pause(Duration::from_millis(1)) {
                return Ok(false);
            }
        }
        let length = writer.publish()?;
        let former = FileKind::Snapshot.name(self.number);
        if self.number > 0 {
            disk.remove(&former)?;
        }
        (self.number, self.length) = (number, length);
        let old = take_before(&mut self.begun.lock(), start.first);
        // With the one that is being written and the one that is ready, enough until the next snapshot.
        let kept = self.due_after() / spares.segment_bytes;
        spares.add_old(old, usize::try_from(kept).unwrap_or(usize::MAX))?;
        Ok(true)
    }

    /// Removes what there is of a snapshot that was not finished.
    pub(super) fn give_up(&self) {
        // If it cannot be removed, the next one takes its place.
        let _ = self.disk.remove(UNFINISHED);
    }
}
