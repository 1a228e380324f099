//! Reading segments, and telling a torn end from damage.
//!
//! Each frame says up to which earlier one all was on disk when it was written. So if a frame cannot be read:
//!
//! - and a later one says that it was on disk: the disk has lost it, and to go on would be to guess.
//! - and none does: it was on its way when power was lost, and nobody was told of it but for what the mode allows. It and
//!   what follows are cut off.

use super::bytes::Reader;
use super::disk::{Disk, DiskFile};
use super::error::OpenError;
use super::frame::FrameHead;
use super::head::{self, FileHead, FileKind, NUMBER_END};
use super::seal::{DataKey, Seal, Sealed};
use super::search::{Search, sequence_at};
use crate::engine::fail_point::FailPoint;
use crate::time::Timestamp;

/// The segments of a directory.
pub(crate) struct Segments {
    /// Those with frames, in order.
    pub(crate) begun: Vec<FileHead>,
    /// Those without, in order.
    pub(crate) unused: Vec<FileHead>,
}

/// Where reading has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The last frame.
    pub(crate) frame: FrameHead,
    /// The number of its segment.
    pub(crate) number: u64,
    /// Where the frames of that one end.
    pub(crate) offset: u64,
    /// How many whole frames behind that are cut off, because one before them is not whole.
    pub(crate) cut: u64,
    /// Whether the beginning of a frame was found behind the end.
    pub(crate) is_torn: bool,
}

impl Segments {
    /// Reads the heads of the segments among `names`.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub(crate) fn find(disk: &dyn Disk, names: &[String]) -> Result<Self, OpenError> {
        let (mut begun, mut unused) = (Vec::new(), Vec::new());
        for name in names.iter().filter(|name| FileKind::Segment.number(name).is_some()) {
            let file = disk.open(name).map_err(OpenError::io(name))?;
            file.sync().map_err(OpenError::io(name))?;
            file.forget_cache();
            let head = FileHead::read(FileKind::Segment, name, &head::bytes(&*file, name)?)?;
            if head.first == 0 {
                unused.push(head);
            } else {
                begun.push(head);
            }
        }
        begun.sort_by_key(|head| head.number);
        unused.sort_by_key(|head| head.number);
        // Segments are made in the order of their numbers.
        let newest = begun.last().map_or(0, |head: &FileHead| head.number);
        let after = unused.iter().map(|head| head.number).filter(|number| *number > newest);
        if let Some((_, found)) = (newest + 1..).zip(after).find(|(wanted, found)| wanted != found)
        {
            let missing = FileKind::Segment.name(found - 1);
            let what = format!("{missing}, which was made before it, is missing");
            return Err(OpenError::damaged(&FileKind::Segment.name(found), 0, &what));
        }
        Ok(Self { begun, unused })
    }

    /// How many bytes the frames from `first` on have at most: where those of the last segment end is not known yet. O(s)
    /// for s segments.
    pub(crate) fn bytes_from(&self, first: u64) -> u64 {
        // Of what is missing, reading tells.
        let needed = needed(&self.begun, first).unwrap_or(self.begun.len());
        let ends = self.begun[needed..].windows(2).map(|pair| pair[1].previous_end);
        let ends = ends.chain(self.begun.last().map(|last| last.room));
        ends.map(|end| end.saturating_sub(FileHead::ROOM as u64)).sum()
    }

    /// Reads the frames from `first` on, and gives each with its records and its length to `each`. Returns where they end. There
    /// must be a segment with frames.
    ///
    /// # Errors
    ///
    /// [`OpenError`], and what `each` says is wrong with a frame.
    pub(crate) fn read(
        &self,
        disk: &dyn Disk,
        data_key: Option<&DataKey>,
        first: u64,
        mut each: impl FnMut(&FileHead, &FrameHead, Reader<'_>, u64) -> Result<(), String>,
    ) -> Result<End, OpenError> {
        let needed = needed(&self.begun, first)?;
        // What is known before the first one.
        let mut last = FrameHead {
            length: 0,
            sequence: self.begun[needed].first - 1,
            durable: self.begun[needed].first - 1,
            at: Timestamp::default(),
            mark: self.begun[needed].mark,
            ceiling: 0,
        };
        let mut end = None;
        let mut bytes = Vec::new();
        for (n, head) in self.begun.iter().enumerate().skip(needed) {
            let (name, seed) = (FileKind::Segment.name(head.number), head.seed());
            let seal = Seal::of_file(data_key, &name, head.salt, head.key_check)?;
            let limit = self.begun.get(n + 1).map(|next| next.previous_end);
            read_whole(disk, &name, limit, &mut bytes)?;
            if limit.is_none() && (bytes.len() as u64) < head.room {
                return Err(OpenError::damaged(&name, bytes.len() as u64, "it ends too early"));
            }
            let damaged = |offset, what: &str| OpenError::damaged(&name, offset as u64, what);
            if head.first != last.sequence + 1 {
                let (first, expected) = (head.first, last.sequence + 1);
                return Err(damaged(0, &format!("it begins with frame {first}, not {expected}")));
            }
            let mut offset = FileHead::ROOM;
            loop {
                if limit.is_some_and(|limit| offset as u64 >= limit) {
                    break;
                }
                let expected = last.sequence + 1;
                let Some((frame, payload)) = frame_at(&bytes, offset, seed, expected) else {
                    if limit.is_some() {
                        return Err(damaged(offset, "a frame does not match its checksum"));
                    }
                    break;
                };
                let room = FrameHead::room(frame.length as usize);
                let mut sealed = Vec::new();
                let mut records = payload;
                if let Some(seal) = &seal {
                    sealed.extend_from_slice(payload);
                    let opened = seal.open(Sealed::Frame(expected), &mut sealed);
                    records = opened.ok_or_else(|| damaged(offset, "a frame was changed"))?;
                }
                if frame.ceiling >= NUMBER_END || frame.ceiling % 2 == 1 {
                    let what = "a frame says what no server writes, although its checksum is right";
                    return Err(damaged(offset, what));
                }
                if expected >= first {
                    each(head, &frame, Reader(records), room as u64)
                        .map_err(|what| damaged(offset, &what))?;
                }
                (offset, last) = (offset + room, frame);
            }
            if limit.is_none() {
                let expected = last.sequence + 1;
                let (cut, is_damaged) = Search::new(&bytes, seed).look_behind(offset, expected);
                if is_damaged && !FailPoint::DamageCutOff.is_on() {
                    return Err(damaged(
                        offset,
                        "a frame that was on disk does not match its checksum",
                    ));
                }
                let is_torn = cut > 0 || sequence_at(&bytes, offset) == Some(expected);
                let (number, offset) = (head.number, offset as u64);
                end = Some(End { frame: last, number, offset, cut, is_torn });
            }
        }
        Ok(end.expect("the last segment has no limit"))
    }
}

/// The first of the segments with frames that is needed to read from the frame `first` on. Those before are left over from
/// a snapshot that has just been made. O(s) for s segments, of which there is one.
///
/// # Errors
///
/// [`OpenError::Damaged`]: one is missing.
pub(super) fn needed(begun: &[FileHead], first: u64) -> Result<usize, OpenError> {
    let needed = begun.iter().rposition(|head| head.first <= first);
    let Some(needed) = needed else {
        let name = FileKind::Segment.name(begun[0].number);
        let what = format!("the segments before it are missing: frame {first} is needed");
        return Err(OpenError::damaged(&name, 0, &what));
    };
    for pair in begun[needed..].windows(2) {
        if pair[1].previous != pair[0].number || pair[1].directory != pair[0].directory {
            let missing = FileKind::Segment.name(pair[1].previous);
            let name = FileKind::Segment.name(pair[1].number);
            let what = format!("it continues {missing}, which is missing");
            return Err(OpenError::damaged(&name, 0, &what));
        }
    }
    Ok(needed)
}

/// Reads a file up to `limit`, or wholly.
fn read_whole(
    disk: &dyn Disk,
    name: &str,
    limit: Option<u64>,
    bytes: &mut Vec<u8>,
) -> Result<(), OpenError> {
    let file = disk.open(name).map_err(OpenError::io(name))?;
    read_file(&*file, name, limit, bytes)
}

/// Reads an open file up to `limit`, or wholly.
///
/// # Errors
///
/// [`OpenError::Damaged`]: it is shorter.
pub(super) fn read_file(
    file: &dyn DiskFile,
    name: &str,
    limit: Option<u64>,
    bytes: &mut Vec<u8>,
) -> Result<(), OpenError> {
    let length = file.length().map_err(OpenError::io(name))?;
    let wanted = limit.unwrap_or(length);
    if wanted > length {
        return Err(OpenError::damaged(name, length, "it ends too early"));
    }
    bytes.resize(usize::try_from(wanted).expect("a segment fits into memory"), 0);
    let read = file.read_at(0, bytes).map_err(OpenError::io(name))?;
    bytes.truncate(read);
    Ok(())
}

/// The frame with the sequence `expected`, if it is whole at `offset`, and its payload. O(length).
pub(super) fn frame_at(
    bytes: &[u8],
    offset: usize,
    seed: u32,
    expected: u64,
) -> Option<(FrameHead, &[u8])> {
    let whole = FrameHead::read(bytes.get(offset..)?, seed);
    whole.filter(|(frame, _)| frame.sequence == expected)
}
