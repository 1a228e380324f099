//! Writing frames, one after the other, to one segment after the other.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{DiskFile, may_pass, that};
use super::frame::FrameHead;
use super::head::{FileHead, FileKind};
use super::seal::{Seal, Sealed};
use super::spares::{Segment, Spares};

/// Why a frame was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// No segment is ready, perhaps as the disk is full. Nothing was written.
    NoRoom,
    /// The disk says so. What it has is not known.
    Disk(io::Error),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoRoom => io::ErrorKind::StorageFull.into(),
            WriteError::Disk(error) => error,
        }
    }
}

/// A segment that is full, or is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) number: u64,
    /// Its first frame.
    pub(crate) first: u64,
}

pub(crate) struct Writer {
    spares: Arc<Spares>,
    /// The head of the next segment, but for its number and frames.
    head: FileHead,
    seal: Option<Arc<Seal>>,
    segment: Option<Segment>,
    /// Where the next frame begins.
    offset: u64,
    /// The segment before the first one that is written here, and where its frames end.
    previous: (u64, u64),
    /// All segments with frames, in order.
    begun: Arc<Mutex<Vec<Begun>>>,
}

impl Writer {
    /// A writer that goes on behind the segment and offset `previous`.
    pub(crate) fn new(
        spares: Arc<Spares>,
        head: FileHead,
        seal: Option<Arc<Seal>>,
        previous: (u64, u64),
        begun: Vec<Begun>,
    ) -> Self {
        let begun = Arc::new(Mutex::new(begun));
        Self { spares, head, seal, segment: None, offset: 0, previous, begun }
    }

    /// Seals a payload, for which `frame` has a head at its beginning. O(length).
    pub(crate) fn seal(&self, sequence: u64, frame: &mut Vec<u8>) {
        if let Some(seal) = &self.seal {
            seal.seal(Sealed::Frame(sequence), frame, FrameHead::BYTES);
        }
    }

    /// The file that the last frame was written to.
    pub(crate) fn file(&self) -> Option<&Arc<dyn DiskFile>> {
        self.segment.as_ref().map(|segment| &segment.file)
    }

    /// How many bytes are left in the segment, and how many it had.
    pub(crate) fn room(&self) -> (u64, u64) {
        let room = self.segment.as_ref().map_or(0, |segment| segment.room);
        (room.saturating_sub(self.offset), room)
    }

    /// Whether a frame with a payload of `length` bytes needs a new segment.
    pub(crate) fn needs_segment(&self, length: usize) -> bool {
        self.room().0 < FrameHead::room(length) as u64
    }

    /// Writes a frame, whose payload was sealed. If it needs a new segment, all frames before it must be on disk. Returns how
    /// many bytes were written. O(length).
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub(crate) fn write(
        &mut self,
        head: FrameHead,
        frame: &mut Vec<u8>,
    ) -> Result<u64, WriteError> {
        let length = head.length as usize;
        if !self.needs_segment(length) {
            let segment = self.segment.as_ref().expect("it has room");
            head.finish(frame, self.seed(segment.number));
            segment.file.write_at(self.offset, frame).map_err(not_written(segment.number))?;
            self.offset += frame.len() as u64;
            return Ok(frame.len() as u64);
        }
        let segment = self.next_segment(length)?;
        head.finish(frame, self.seed(segment.number));
        let (previous, previous_end) = self.previous_end();
        let begun = FileHead {
            number: segment.number,
            first: head.sequence,
            previous,
            previous_end,
            mark: head.mark,
            room: segment.room,
            ..self.head
        };
        // One write and one flush for both.
        let mut bytes = begun.write();
        bytes.extend_from_slice(frame);
        segment.file.write_at(0, &bytes).map_err(not_written(segment.number))?;
        self.begun.lock().push(Begun { number: segment.number, first: head.sequence });
        (self.segment, self.offset) = (Some(segment), bytes.len() as u64);
        Ok(bytes.len() as u64)
    }

    fn seed(&self, number: u64) -> u32 {
        FileHead { number, ..self.head }.seed()
    }

    fn previous_end(&self) -> (u64, u64) {
        self.segment.as_ref().map_or(self.previous, |segment| (segment.number, self.offset))
    }

    fn next_segment(&self, length: usize) -> Result<Segment, WriteError> {
        let needed = (FileHead::ROOM + FrameHead::room(length)) as u64;
        if let Some(segment) = self.spares.take(needed) {
            return Ok(segment);
        }
        // Without room for whole segments there may be some for this frame, and nobody has to wait.
        self.spares.make_for(needed).map_err(|error| {
            if may_pass(&error) { WriteError::NoRoom } else { WriteError::Disk(error) }
        })
    }

    /// The segments with frames, as they come and go.
    pub(crate) fn begun(&self) -> Arc<Mutex<Vec<Begun>>> {
        Arc::clone(&self.begun)
    }
}

fn not_written(number: u64) -> impl FnOnce(io::Error) -> WriteError {
    move |error| {
        let what = format!("{} cannot be written", FileKind::Segment.name(number));
        WriteError::Disk(that(&what)(error))
    }
}

/// Takes out the names of the segments that have no frame from `first` on. O(s) for s segments.
pub(crate) fn take_before(begun: &mut Vec<Begun>, first: u64) -> Vec<String> {
    let is_needed = |pair: &[Begun]| pair[1].first > first;
    let count = begun.windows(2).position(is_needed).unwrap_or(begun.len().saturating_sub(1));
    begun.drain(..count).map(|begun| FileKind::Segment.name(begun.number)).collect()
}
