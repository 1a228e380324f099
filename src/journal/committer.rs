//! Group commit: what gathers while one frame is flushed is the next frame.
//!
//! A request that is alone is committed at once. Under load frames grow by themselves, and after a large one the next
//! is held back for a moment, as `commit_delay` and `commit_siblings` of `PostgreSQL` do.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffers::{Buffers, Pools, Spare};
use super::frame::FrameHead;
use super::progress::Progress;
use super::spares::Spares;
use super::syncer::Syncer;
use super::writer::{WriteError, Writer};
use crate::engine::fail_point::FailPoint;
use crate::time::Timestamp;

/// When an answer may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When what it rests on is on disk.
    #[default]
    Commit,
    /// When it was given to the system, which has it on disk within a second.
    EverySecond,
}

/// After a frame of so many bytes, 500, 130 and 30 changes or so, more gathers for so long: each commit takes some 50 µs of a
/// processor, to write, to flush and to wake others. Measured with 4,096 requests outstanding, and with 64, in both
/// modes: without a pause `everysec` wrote a frame for each 70 and each 4 of them.
const GATHERING: [(usize, Duration); 3] = [
    (16 * 1024, Duration::from_micros(800)),
    (4096, Duration::from_micros(400)),
    (1024, Duration::from_micros(100)),
];
/// How much memory is kept for the next frames, in bytes.
const FRAME_KEPT_BYTES: usize = 1 << 20;

/// What a snapshot begins with.
pub(crate) struct SnapshotStart {
    /// The first frame that it does not have for certain.
    pub(crate) first: u64,
    /// The pools at that moment.
    pub(crate) pools: Pools,
}

/// Writes what has gathered, and lets answers leave.
pub(crate) struct Committer {
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) writer: Writer,
    pub(crate) syncer: Arc<Syncer>,
    durability: Durability,
    spare: Spare,
    frame: Vec<u8>,
    /// What the frame says that could not be written yet.
    unwritten: Option<Unwritten>,
    /// What a snapshot begins with that is to be written once the frame before it is.
    started: Option<SnapshotStart>,
    /// Generations below it may be given before they are on disk.
    ceiling: u64,
}

#[derive(Clone, Copy)]
struct Unwritten {
    head: FrameHead,
    /// It must be on disk before answers leave.
    must_sync: bool,
}

impl Committer {
    /// How long answers may leave after a commit until the next one must tell how late it is.
    pub(crate) const MARK_MS: u64 = 2000;
    /// How many generations are reserved at a time. Each power loss leaves out as many: 2^28 of them fit.
    pub(crate) const GENERATIONS: u64 = 1 << 20;

    pub(crate) fn new(
        buffers: Arc<Buffers>,
        progress: Arc<Progress>,
        spares: Arc<Spares>,
        writer: Writer,
        durability: Durability,
    ) -> Self {
        let syncer = Arc::new(Syncer::new(Arc::clone(&progress)));
        Self {
            buffers,
            progress,
            spares,
            writer,
            syncer,
            durability,
            spare: Spare::default(),
            frame: Vec::new(),
            unwritten: None,
            started: None,
            ceiling: 0,
        }
    }

    /// Writes what has gathered, and lets the answers leave that rest on it. Calls `look_ahead` before they do. With
    /// `wants_pools`, also says what a snapshot begins with. O(bytes).
    ///
    /// # Errors
    ///
    /// [`WriteError::NoRoom`]: then the next call tries again. After [`WriteError::Disk`] there must be none.
    pub(crate) fn commit(
        &mut self,
        now: impl Fn() -> Timestamp,
        wants_pools: bool,
        look_ahead: &dyn Fn(&Self),
    ) -> Result<Option<SnapshotStart>, WriteError> {
        self.write_unwritten(look_ahead)?;
        // Not before: what was to be written may have waited for long.
        self.gather(now(), wants_pools);
        self.write_unwritten(look_ahead)?;
        Ok(self.started.take())
    }

    /// For how long more is to gather before the next frame, after one that had much.
    pub(crate) fn gathering(&self) -> Duration {
        let gathering = GATHERING.iter().find(|(bytes, _)| self.frame.len() >= *bytes);
        gathering.map_or(Duration::ZERO, |(_, time)| *time)
    }

    /// Whether a frame was gathered that is not written.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.unwritten.is_some()
    }

    fn gather(&mut self, now: Timestamp, wants_pools: bool) {
        self.frame.clear();
        self.frame.shrink_to(FRAME_KEPT_BYTES);
        self.frame.resize(FrameHead::BYTES, 0);
        let cut = self.buffers.cut(&mut self.spare, &mut self.frame, wants_pools);
        self.writer.seal(cut.sequence, &mut self.frame);
        let mut must_sync = self.durability == Durability::Commit;
        if !must_sync && cut.generation >= self.ceiling {
            // Even, so that it can be a floor.
            self.ceiling = (cut.generation | 1) + 1 + Self::GENERATIONS;
            must_sync = true;
        }
        let mark = now.plus_ms(Self::MARK_MS);
        let ceiling = if FailPoint::GenerationsNotReserved.is_on() { 0 } else { self.ceiling };
        let length = u32::try_from(self.frame.len() - FrameHead::BYTES);
        let head = FrameHead {
            length: length.expect("a frame is shorter than 4 GiB"),
            sequence: cut.sequence,
            // As far as it is known when the frame is written.
            durable: 0,
            at: now,
            mark,
            ceiling,
        };
        self.unwritten = Some(Unwritten { head, must_sync });
        let first = cut.sequence + 1;
        self.started =
            cut.pools.map(|pools| SnapshotStart { first, pools }).or(self.started.take());
    }

    fn write_unwritten(&mut self, look_ahead: &dyn Fn(&Self)) -> Result<(), WriteError> {
        let Some(Unwritten { mut head, mut must_sync }) = self.unwritten else { return Ok(()) };
        let FrameHead { sequence, mark, .. } = head;
        let begin = Instant::now();
        if self.writer.needs_segment(head.length as usize) {
            // In a segment that is full, each frame is on disk: so a bad one there is damage.
            self.sync(sequence - 1)?;
            // A snapshot may rest on nothing before it: then only this one says which generations are reserved.
            must_sync = true;
        }
        if FailPoint::AnswerBeforeCommit.is_on() {
            self.progress.publish(sequence, mark);
        }
        head.durable = self.progress.durable();
        let written = self.writer.write(head, &mut self.frame)?;
        self.unwritten = None;
        if must_sync {
            self.sync(sequence)?;
        } else {
            let file = Arc::clone(self.writer.file().expect("it was written"));
            self.syncer.wrote(sequence, file).map_err(WriteError::Disk)?;
        }
        self.progress.counters.add_commit(written, begin.elapsed());
        look_ahead(self);
        self.progress.publish(sequence, mark);
        Ok(())
    }

    /// Makes sure that all frames up to `sequence`, the last one that was written, are on disk.
    fn sync(&mut self, sequence: u64) -> Result<(), WriteError> {
        if self.progress.durable() < sequence
            && let Some(file) = self.writer.file()
        {
            self.syncer.sync(sequence, file).map_err(WriteError::Disk)?;
        }
        Ok(())
    }

    /// Makes sure that all that was written is on disk.
    ///
    /// # Errors
    ///
    /// As the disk says.
    #[cfg(test)]
    pub(crate) fn sync_all(&mut self) -> Result<(), WriteError> {
        self.sync(self.progress.committed())
    }

    /// Writes the last frame: nothing is left that is not on disk.
    ///
    /// # Errors
    ///
    /// As [`Committer::commit`].
    pub(crate) fn close(&mut self, now: Timestamp) -> Result<(), WriteError> {
        self.commit(|| now, false, &|_| ())?;
        self.sync(self.progress.committed())?;
        (self.durability, self.ceiling) = (Durability::Commit, 0);
        self.commit(|| now, false, &|_| ()).map(|_| ())
    }

    /// Whether less than a quarter of the segment is left. Then it must be known whether there is a next one.
    pub(crate) fn is_low(&self) -> bool {
        let (left, room) = self.writer.room();
        left < room / 4
    }

    /// Whether the disk may soon have no room for a change: no segment can be made, and this one is low.
    pub(crate) fn is_short_of_room(&self) -> bool {
        self.is_low() && self.spares.is_in_trouble()
    }

    /// The first frame of a directory, or the first one after a restart: it begins a segment.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn begin(&mut self, now: Timestamp) -> io::Result<()> {
        self.spares.prepare_first()?;
        self.commit(|| now, false, &|_| ())?;
        Ok(self.sync(self.progress.committed())?)
    }
}
