//! Reading what is whole of the frames.

use super::files::{Files, Found};
use super::report::{FramesKept, Place};
use super::taker::Taker;
use crate::journal::bytes::Reader;
use crate::journal::disk::Disk;
use crate::journal::error::OpenError;
use crate::journal::frame::FrameHead;
use crate::journal::head::{FileHead, FileKind, NUMBER_END};
use crate::journal::seal::{DataKey, Seal, Sealed};
use crate::journal::search::Search;
use crate::time::Timestamp;

/// What was read of the frames.
pub(super) struct Frames {
    pub(super) kept: FramesKept,
    pub(super) places: Vec<Place>,
    /// The largest sequence that anything says.
    pub(super) last: u64,
    /// When the last one was written that can be read.
    pub(super) at: Timestamp,
    /// The largest mark: see [`FrameHead::mark`].
    pub(super) mark: Timestamp,
    /// The largest ceiling.
    pub(super) ceiling: u64,
    /// How many bytes there are from the first damage on, in how many segments.
    pub(super) lost: (u64, u64),
    /// How many bytes the frames have that were kept.
    pub(super) kept_bytes: u64,
    /// Segments whose frames can be read.
    taken: Vec<u64>,
    /// The frame that would be next.
    expected: u64,
    /// Whether any record was taken.
    has_state: bool,
    /// The largest sequence up to which all was on disk, as dropped frames say it.
    durable: u64,
    /// Where the frame that is next should be: the index of its segment, and its place there.
    next: (usize, u64),
}

/// With which frame to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// The first one of all: there is no snapshot.
    Empty,
    /// With the one that the snapshot says. Perhaps nothing of that can be read but its head.
    At { first: u64, has_state: bool },
    /// With the first one that can be read: there is a snapshot, which cannot say it.
    Found,
}

/// Reads the frames, and gives those that follow each other to `taker`. If no record was taken before the first frame that
/// can be read, they begin there. O(bytes).
///
/// # Errors
///
/// [`OpenError::Io`], and those of [`Seal::of_file`].
pub(super) fn read(
    disk: &dyn Disk,
    files: &Files,
    data_key: Option<&DataKey>,
    begin: Begin,
    taker: &mut Taker<'_>,
) -> Result<Frames, OpenError> {
    let expected = match begin {
        Begin::Empty => 1,
        Begin::At { first, .. } => first,
        Begin::Found => 0,
    };
    let last = expected.saturating_sub(1);
    let mut frames = Frames {
        kept: FramesKept { last, ..FramesKept::default() },
        places: Vec::new(),
        last,
        at: Timestamp::default(),
        mark: Timestamp::default(),
        ceiling: 0,
        lost: (0, 0),
        kept_bytes: 0,
        taken: Vec::new(),
        expected,
        has_state: matches!(begin, Begin::Found | Begin::At { has_state: true, .. }),
        durable: 0,
        next: (0, FileHead::ROOM as u64),
    };
    for (index, found) in files.segments.iter().enumerate() {
        let name = FileKind::Segment.name(found.number);
        let file = disk.open(&name).map_err(OpenError::io(&name))?;
        let mut bytes = vec![0; usize::try_from(found.length).expect("it fits into memory")];
        let read = file.read_at(0, &mut bytes).map_err(OpenError::io(&name))?;
        bytes.truncate(read);
        let head = files.segment_head(found, &bytes);
        if let Err(what) = &found.head {
            let place = found.place(FileKind::Segment, what);
            let to = if head.is_some() { FileHead::ROOM as u64 } else { place.to };
            frames.places.push(Place { to, ..place });
        }
        let Some(head) = head else { continue };
        let seal = Seal::of_file(data_key, &name, head.salt, head.key_check)?;
        let next = files.segments.get(index + 1).and_then(|next| next.head.as_ref().ok());
        let next = next.filter(|next| next.first > 0 && next.previous == found.number);
        // Behind that is what an earlier start has cut off.
        let limit = next.map_or(bytes.len() as u64, |next| next.previous_end);
        bytes.truncate(usize::try_from(limit).expect("it fits into memory"));
        let behind = &files.segments[index + 1..];
        let superseded = behind.iter().filter_map(Found::first).filter(|first| *first > 0).min();
        let is_last = behind.iter().all(|next| next.first() == Some(0));
        let segment = Segment {
            index,
            name: &name,
            head: &head,
            seal: seal.as_ref(),
            superseded: superseded.unwrap_or(u64::MAX),
            is_end_known: next.is_some() || is_last,
        };
        let end = frames.read_segment(segment, &bytes, taker);
        if next.is_some_and(|next| next.first > frames.expected) && end < limit {
            frames.cannot_be_read(&name, end.min(bytes.len() as u64), limit, NOT_WHOLE);
        }
        if is_last && found.length < head.room {
            frames.kept.unknown_segments += 1;
            frames.cannot_be_read(&name, found.length, head.room, "it is cut short");
        }
    }
    frames.finish(files, begin);
    Ok(frames)
}

/// A segment that is being read.
#[derive(Clone, Copy)]
struct Segment<'s> {
    index: usize,
    name: &'s str,
    head: &'s FileHead,
    seal: Option<&'s Seal>,
    /// From this frame on, a later segment has what counts: a start has cut off what this one has.
    superseded: u64,
    /// Whether all frames that can be read count: if not, an earlier start may have cut off those behind a gap.
    is_end_known: bool,
}

/// How much may be missing if all segments are: more than four times what there is until the next snapshot, by default.
const UNKNOWN_BYTES: u64 = 1 << 30;
/// As many as have so many bytes, if each is as short as they get.
const UNKNOWN_SEGMENTS: u64 = 256;

const NOT_WHOLE: &str = "frames that do not match their checksums";

impl Frames {
    /// Returns where the last frame ends that can be read.
    fn read_segment(&mut self, segment: Segment<'_>, bytes: &[u8], taker: &mut Taker<'_>) -> u64 {
        let Segment { index, name, head, seal, superseded, is_end_known } = segment;
        self.taken.push(head.number);
        self.last = self.last.max(head.first);
        self.mark = self.mark.max(head.mark);
        let search = Search::new(bytes, head.seed());
        let (mut offset, mut least, mut has_gap) = (FileHead::ROOM, head.first, false);
        while let Some((at, frame, payload)) = search.next_frame(offset, least) {
            if at > offset && frame.sequence > self.expected {
                self.cannot_be_read(name, offset as u64, at as u64, NOT_WHOLE);
            }
            has_gap |= at > offset;
            let end = at + FrameHead::room(frame.length as usize);
            (offset, least) = (end, frame.sequence + 1);
            self.mark = self.mark.max(frame.mark);
            if frame.ceiling < NUMBER_END {
                self.ceiling = self.ceiling.max(frame.ceiling);
            }
            let is_superseded = frame.sequence >= superseded;
            if !is_superseded {
                self.last = self.last.max(frame.sequence);
            }
            let mut payload = payload.to_vec();
            let records = match seal {
                Some(seal) => seal.open(Sealed::Frame(frame.sequence), &mut payload),
                None => Some(&mut payload[..]),
            };
            let Some(records) = records.and_then(|records| taker.decode(Reader(records))) else {
                if frame.sequence >= self.expected && !is_superseded {
                    self.cannot_be_read(name, at as u64, end as u64, "a frame was changed");
                    self.durable = self.durable.max(frame.sequence);
                }
                has_gap = true;
                continue;
            };
            if is_superseded {
                continue;
            }
            let counts = is_end_known || !has_gap;
            self.at = self.at.max(frame.at);
            if counts && frame.sequence > self.expected && !self.has_state {
                // Nothing is mixed with what they say.
                self.kept.unreadable += frame.sequence - self.expected;
                self.kept.begins_late = Some(frame.sequence);
                taker.may_miss_pools = true;
                self.expected = frame.sequence;
            }
            if counts && (self.expected == 0 || frame.sequence == self.expected) {
                // What was passed on the way here was cut off by an earlier start.
                (self.kept.dropped, self.durable) = (0, 0);
                self.expected = frame.sequence + 1;
                self.has_state |= !records.is_empty();
                (self.kept.last, self.kept.at) = (frame.sequence, frame.at);
                self.kept.count += 1;
                self.kept_bytes += (end - at) as u64;
                self.next = (index, end as u64);
                taker.time(frame.at, head.floor);
                taker.take(records);
            } else if frame.sequence >= self.expected {
                self.kept.dropped += 1;
                self.kept.dropped_until = frame.at;
                self.durable = self.durable.max(frame.durable);
            }
        }
        offset as u64
    }

    fn cannot_be_read(&mut self, name: &str, from: u64, to: u64, what: &str) {
        self.places.push(Place { file: name.to_owned(), from, to, what: what.to_owned() });
    }

    /// Says what was lost behind the frames that were kept.
    fn finish(&mut self, files: &Files, begin: Begin) {
        let (index, offset) = self.next;
        let is_headless = begin == Begin::Found;
        if self.expected == 0 {
            let firsts = files.segments.iter().filter_map(Found::first);
            self.expected = firsts.filter(|first| *first > 0).min().unwrap_or(1);
        }
        let behind = files.segments.get(index..).unwrap_or_default();
        for pair in behind.windows(2) {
            let missing = pair[1].number - pair[0].number - 1;
            let is_needed = pair[1].first().is_none_or(|first| first == 0 || first > self.expected);
            if missing > 0 && is_needed {
                let name = FileKind::Segment.name(pair[0].number + 1);
                let what = if missing == 1 {
                    "it is missing".to_owned()
                } else {
                    format!("it is missing, and {} behind it", missing - 1)
                };
                self.cannot_be_read(&name, 0, 0, &what);
                let is_counted = behind.iter().any(|file| {
                    file.number > pair[0].number && file.first().is_some_and(|first| first > 0)
                });
                self.kept.unknown_segments += if is_counted { 0 } else { missing };
            }
        }
        let without_head = behind.iter().filter(|file| file.first().is_none());
        let has_frames = |file: &&Found| self.taken.contains(&file.number);
        self.kept.unknown_segments += without_head.filter(|file| !has_frames(file)).count() as u64;
        // A segment that was begun says that all before it was on disk.
        let is_begun_behind =
            behind.iter().any(|file| file.first().is_some_and(|first| first > self.expected));
        if self.durable >= self.expected || is_begun_behind {
            let missing = self.last + 1 - self.expected;
            self.kept.unreadable += missing.saturating_sub(self.kept.dropped);
        } else if let Some(file) = files.segments.get(index) {
            // Nobody was told of them: a start cuts them off as well.
            self.kept.dropped = 0;
            let name = FileKind::Segment.name(file.number);
            self.places.retain(|place| {
                place.file != name || place.from < offset || place.what != NOT_WHOLE
            });
        }
        let bytes: u64 = behind.iter().map(|file| file.length).sum();
        let longest = files.segments.iter().map(|file| file.length).max().unwrap_or(0);
        let numbers = (behind.first(), behind.last());
        let count = match numbers {
            (Some(first), Some(last)) => last.number - first.number + 1,
            _ => 0,
        };
        self.lost = (bytes + (count - behind.len() as u64) * longest, count);
        let may_have_frames = |file: &Found| file.first().is_none_or(|first| first > 0);
        if let Some(snapshot) = files.snapshots.last()
            && begin != Begin::Empty
            && !files.segments.iter().any(may_have_frames)
        {
            // A snapshot always rests on a frame.
            let name = FileKind::Snapshot.name(snapshot.number);
            self.cannot_be_read(&name, 0, 0, "the segments that follow it are missing");
            self.kept.unknown_segments += 1;
            self.lost = (UNKNOWN_BYTES.max(4 * snapshot.length), UNKNOWN_SEGMENTS);
        }
        if is_headless {
            // As much may be missing before the first frame.
            self.lost = (2 * self.lost.0 + longest, 2 * self.lost.1 + 1);
        }
    }
}
