//! Segments that are ready for use, so that a commit never waits for one to be made.
//!
//! A segment is filled with zeros before it is used: then a flush of what is written to it has to write nothing about the
//! file, which halves its time. `PostgreSQL`'s `wal_init_zero` and `wal_recycle` do the same. Segments that are not
//! needed any more are used again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::disk::{Disk, DiskFile, may_pass};
use super::head::{FileHead, FileKind};
use crate::engine::fail_point::FailPoint;

/// Zeros are written in steps of this size, and flushed after each: a commit may have to wait for one.
const ZEROS: usize = 1 << 20;
/// How large the first segment of a run is, and the last one that a disk has room for.
const SHORT_BYTES: u64 = 4 << 20;
/// The name of a segment that is being made.
pub(crate) const UNFINISHED: &str = "segment.tmp";

/// A segment to write to.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// How many bytes of it are filled with zeros, or with frames of an earlier segment.
    pub(crate) room: u64,
}

/// Segments that are ready, or can be used again.
pub(crate) struct Spares {
    pub(crate) disk: Arc<dyn Disk>,
    /// The head of those that are made.
    head: FileHead,
    /// How large they are.
    pub(crate) segment_bytes: u64,
    /// Held while one is made.
    making: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Option<Segment>,
    next: u64,
    /// Files that are not needed any more.
    old: Vec<String>,
    /// The last one could not be made.
    is_in_trouble: bool,
    is_closed: bool,
}

impl Spares {
    /// Spares with numbers from `next` on.
    pub(crate) fn new(disk: Arc<dyn Disk>, head: FileHead, segment_bytes: u64, next: u64) -> Self {
        let state = Mutex::new(State { next, ..State::default() });
        Self { disk, head, segment_bytes, making: Mutex::new(()), state, changed: Condvar::new() }
    }

    /// Makes a segment, unless one is ready.
    ///
    /// # Errors
    ///
    /// As the disk says. Then nothing is ready, and the next call tries again.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.prepare_of(self.segment_bytes)
    }

    /// Makes the first segment, a short one unless there is one to be used again: a start is not to wait for it.
    ///
    /// # Errors
    ///
    /// As [`Spares::prepare`].
    pub(crate) fn prepare_first(&self) -> io::Result<()> {
        self.prepare_of(self.short_bytes())
    }

    /// Takes a segment that an earlier run has made, with the number that is next.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn use_ready(&self, room: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let number = state.next;
        let file = self.disk.open(&FileKind::Segment.name(number))?.into();
        state.ready = Some(Segment { number, file, room });
        state.next += 1;
        Ok(())
    }

    fn short_bytes(&self) -> u64 {
        self.segment_bytes.min(SHORT_BYTES)
    }

    fn prepare_of(&self, bytes: u64) -> io::Result<()> {
        let _making = self.making.lock();
        let (number, old) = {
            let mut state = self.state.lock();
            if state.ready.is_some() {
                return Ok(());
            }
            state.next += 1;
            (state.next - 1, state.old.pop())
        };
        let mut made = self.make(number, bytes, old);
        let mut bytes = bytes;
        // What room there is gets used.
        while made.as_ref().is_err_and(may_pass) && bytes / 2 >= self.short_bytes() {
            bytes /= 2;
            made = self.make(number, bytes, None);
        }
        let mut state = self.state.lock();
        if made.is_err() {
            self.give_up(&mut state, number);
        }
        state.is_in_trouble = made.is_err();
        self.changed.notify_all();
        state.ready = Some(made?);
        Ok(())
    }

    /// Forgets a segment that could not be made.
    fn give_up(&self, state: &mut State, number: u64) {
        // Others may need the room. If it cannot be removed, the next one takes its place.
        let _ = self.disk.remove(UNFINISHED);
        // No number is left out: see [`super::segments::Segments::find`].
        state.next = number;
    }

    /// Whether the last segment could not be made.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.state.lock().is_in_trouble
    }

    /// Makes a segment for a frame that needs so many bytes, if no other segment is to be waited for: the frame is longer than
    /// those, or there is no room for them.
    ///
    /// # Errors
    ///
    /// As the disk says. [`io::ErrorKind::WouldBlock`] if one is to be waited for.
    pub(crate) fn make_for(&self, bytes: u64) -> io::Result<Segment> {
        let _making = self.making.lock();
        let mut state = self.state.lock();
        let is_ready = state.ready.is_some();
        if bytes <= self.segment_bytes && !is_ready && !state.is_in_trouble {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // It takes the place of one that is ready and too short: numbers are in the order of use.
        let number = state.ready.take().map_or(state.next, |ready| ready.number);
        drop(state);
        let made = self.make(number, bytes, None);
        let mut state = self.state.lock();
        if made.is_ok() {
            state.next = number + 1;
        } else {
            self.give_up(&mut state, number);
            if is_ready {
                // Its room may be what is missing. If it cannot be removed, the next one takes its place.
                let _ = self.disk.remove(&FileKind::Segment.name(number));
            }
            state.is_in_trouble = true;
        }
        self.changed.notify_all();
        made
    }

    fn make(&self, number: u64, bytes: u64, old: Option<String>) -> io::Result<Segment> {
        let disk = &*self.disk;
        let (file, filled) = match old {
            Some(old) => {
                // Renamed first: its head is about to be another one's.
                disk.rename(&old, UNFINISHED)?;
                if !FailPoint::NamesNotSynced.is_on() {
                    disk.sync_names()?;
                }
                let file = disk.open(UNFINISHED)?;
                let length = file.length()?;
                (file, length)
            }
            None => (disk.create(UNFINISHED)?, 0),
        };
        file.reserve(bytes)?;
        let zeros = vec![0; ZEROS];
        let mut filled = filled;
        while filled < bytes {
            if self.is_closed() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let step = usize::try_from(bytes - filled).unwrap_or(ZEROS).min(ZEROS);
            file.write_at(filled, &zeros[..step])?;
            file.sync()?;
            filled += step as u64;
        }
        let head = FileHead { number, room: filled, ..self.head };
        file.write_at(0, &head.write())?;
        file.sync()?;
        disk.rename(UNFINISHED, &FileKind::Segment.name(number))?;
        if !FailPoint::NamesNotSynced.is_on() {
            disk.sync_names()?;
        }
        Ok(Segment { number, file: file.into(), room: filled })
    }

    /// The segment that is ready, if it has so many bytes. The next one is to be made then.
    pub(crate) fn take(&self, bytes: u64) -> Option<Segment> {
        let taken = self.state.lock().ready.take_if(|ready| ready.room >= bytes);
        self.changed.notify_all();
        taken
    }

    /// Whether one is ready.
    pub(crate) fn has_one(&self) -> bool {
        self.state.lock().ready.is_some()
    }

    /// Files that are not needed any more: up to `max` of all such are kept to be used again, the others are removed.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn add_old(&self, mut files: Vec<String>, max: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        let room = max.saturating_sub(state.old.len());
        let rest = files.split_off(files.len().min(room));
        state.old.append(&mut files);
        drop(state);
        rest.iter().try_for_each(|file| self.disk.remove(file))
    }

    /// Waits until one is ready, one is wanted, or `patience` is over.
    pub(crate) fn wait(&self, is_wanted: bool, patience: Duration) {
        let (mut state, until) = (self.state.lock(), Instant::now() + patience);
        let waits = |state: &mut State| state.ready.is_none() != is_wanted && !state.is_closed;
        // Also others are told of changes that it does not wait for.
        let _ = self.changed.wait_while_until(&mut state, waits, until);
    }

    /// Waits until one is ready, or it is known that none can be made.
    pub(crate) fn wait_for_outcome(&self) {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| {
            state.ready.is_none() && !state.is_in_trouble && !state.is_closed
        });
    }

    /// Ends the thread that makes segments.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }
}
